//! `holdover grants list|revoke`.

use std::{path::Path, time::Duration};

use clap::{ArgGroup, Subcommand};
use shared::span::Rounded;

use crate::{
    cli::{ANSWER, Exit, Failure, converse, daemon, out},
    status::{GrantList, GrantStatus, RevokeGrants, Revoked},
};

/// Revoking waits until it is durable.
const DURABLE: Duration = Duration::from_secs(60);

#[derive(Subcommand)]
pub(super) enum GrantsCommand {
    /// Lists living grants.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Revokes grants here at once and durably, and at the primary once it can be reached.
    #[command(group = ArgGroup::new("which").required(true))]
    Revoke {
        /// The grant of this accessor.
        #[arg(group = "which", value_name = "ACCESSOR")]
        accessor: Option<String>,
        /// Every grant of this workload.
        #[arg(long, group = "which", value_name = "NAME")]
        workload: Option<String>,
        /// Every grant of this user.
        #[arg(long, group = "which", value_name = "N")]
        uid: Option<u32>,
    },
}

pub(super) fn perform(command: GrantsCommand, config: &Path) -> Result<Exit, Failure> {
    let client = daemon(config)?;
    match command {
        GrantsCommand::List { json } => {
            let grants: GrantList = converse(client.get("/v1/grants", ANSWER))??;
            out::show(&grants, json, |all| shown(&all.grants))?;
        }
        GrantsCommand::Revoke {
            accessor,
            workload,
            uid,
        } => {
            let asked = RevokeGrants {
                accessor,
                workload,
                uid,
            };
            let revoked: Revoked = converse(client.post("/v1/grants/revoke", &asked, DURABLE))??;
            out::page(&format!("{} revoked\n", revoked.revoked))?;
        }
    }
    Ok(Exit::Done)
}

fn shown(grants: &[GrantStatus]) -> String {
    let rows: Vec<_> = grants.iter().map(row).collect();
    out::table(
        [
            "ACCESSOR", "ORIGIN", "WORKLOAD", "HOLDER", "LEFT", "POLICIES",
        ],
        &rows,
    )
}

fn row(grant: &GrantStatus) -> [String; 6] {
    let dash = || "-".to_owned();
    let uid = grant.uid.map(|uid| format!("uid {uid}"));
    let origin = match &grant.settled {
        Some(settled) => format!("{} ({settled})", grant.origin),
        None => grant.origin.clone(),
    };
    [
        grant.accessor.clone(),
        origin,
        grant.workload.clone().unwrap_or_else(dash),
        grant.unit.clone().or(uid).unwrap_or_else(dash),
        Rounded(Duration::from_secs(grant.ttl_seconds)).to_string(),
        grant.policies.join(","),
    ]
}
