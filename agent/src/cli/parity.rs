//! `holdover parity list|lift`.

use std::{path::Path, time::Duration};

use clap::{ArgGroup, Subcommand};

use crate::{
    cli::{ANSWER, Exit, Failure, converse, daemon, out},
    status::{LiftQuarantines, LiftedQuarantines, QuarantineList, QuarantineStatus},
};

/// Lifting waits until it is durable.
const DURABLE: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
pub(super) enum ParityCommand {
    /// Lists what is quarantined: what the replica would have granted more by than the primary, so that an outage leaves it
    /// to the primary.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Ends a quarantine. Only what disagrees anew begins another.
    #[command(group = ArgGroup::new("which").required(true))]
    Lift {
        /// That of this policy.
        #[arg(group = "which", value_name = "POLICY")]
        policy: Option<String>,
        /// That of this workload's issuing.
        #[arg(long, group = "which", value_name = "NAME")]
        workload: Option<String>,
        /// Every one.
        #[arg(long, group = "which")]
        all: bool,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn perform(command: ParityCommand, config: &Path) -> Result<Exit, Failure> {
    let client = daemon(config)?;
    match command {
        ParityCommand::List { json } => {
            let list: QuarantineList = converse(client.get("/v1/parity", ANSWER))??;
            out::show(&list, json, |all| shown(&all.quarantined))?;
        }
        ParityCommand::Lift {
            policy,
            workload,
            all,
            json,
        } => {
            let asked = LiftQuarantines {
                policy,
                workload,
                all,
            };
            let lifted: LiftedQuarantines =
                converse(client.post("/v1/parity/lift", &asked, DURABLE))??;
            out::show(&lifted, json, |all| {
                format!("{} lifted\n", all.lifted.len())
            })?;
        }
    }
    Ok(Exit::Done)
}

fn shown(all: &[QuarantineStatus]) -> String {
    let rows: Vec<_> = all.iter().map(row).collect();
    out::table(
        [
            "QUARANTINED",
            "SINCE",
            "OPERATION",
            "PATH",
            "PRIMARY",
            "REPLICA",
            "BY",
        ],
        &rows,
    )
}

fn row(one: &QuarantineStatus) -> [String; 7] {
    let policy = one.policy.as_ref().map(|name| format!("policy {name}"));
    let issuing = || {
        one.workload
            .as_ref()
            .map(|name| format!("issuing for {name}"))
    };
    [
        policy.or_else(issuing).unwrap_or_default(),
        one.since.clone(),
        one.operation.clone(),
        one.path.clone(),
        one.primary.to_string(),
        one.replica.to_string(),
        one.fields.join(","),
    ]
}
