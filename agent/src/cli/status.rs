//! `holdover status [--json] [--watch]`: one screen that says what would happen if the primary died now.

use std::{fmt::Write, path::Path, time::Duration};

use shared::span::Rounded;

use crate::{
    admin::client::AdminClient,
    cli::{ANSWER, Exit, Failure, converse, daemon, mirror, out},
    status::{
        DaemonStatus, OutageStatus, ParityStatus, PoolStatus, RevocationStatus,
        ledger::LedgerStatus,
    },
};

/// Between two looks of `--watch`.
const INTERVAL: Duration = Duration::from_secs(1);

#[derive(clap::Args)]
pub(super) struct StatusArgs {
    /// As JSON, on one line.
    #[arg(long)]
    json: bool,
    /// Refresh every second, until interrupted.
    #[arg(long)]
    watch: bool,
}

pub(super) fn perform(args: &StatusArgs, config: &Path) -> Result<Exit, Failure> {
    let client = daemon(config)?;
    converse(async {
        if args.watch {
            watch(&client, args).await
        } else {
            look(&client, args).await
        }
    })?
}

async fn look(client: &AdminClient, args: &StatusArgs) -> Result<Exit, Failure> {
    let status: DaemonStatus = client.get("/v1/status", ANSWER).await?;
    out::show(&status, args.json, screen)?;
    Ok(if status.ready {
        Exit::Done
    } else {
        Exit::NotReady
    })
}

/// A daemon that is away is reported and waited for; interrupting ends it as the last look did.
async fn watch(client: &AdminClient, args: &StatusArgs) -> Result<Exit, Failure> {
    loop {
        if out::is_terminal() && !args.json {
            out::page("\x1b[H\x1b[2J")?;
        }
        let last = match look(client, args).await {
            Ok(exit) => exit,
            Err(failure @ Failure::Daemon(_)) => {
                out::error(&failure);
                Exit::Failed
            }
            Err(other) => return Err(other),
        };
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(last),
        }
    }
}

fn screen(status: &DaemonStatus) -> String {
    let mut text = String::new();
    // A String takes everything.
    let _ = write_screen(&mut text, status);
    text
}

fn write_screen(text: &mut String, status: &DaemonStatus) -> std::fmt::Result {
    writeln!(text, "state     {} since {}", status.state, status.since)?;
    if let Some(outage) = &status.outage {
        writeln!(text, "outage    {}", shown(outage))?;
    }
    if let Some(offboarded) = &status.offboarded {
        let (since, reads_end) = (&offboarded.since, &offboarded.reads_end);
        writeln!(text, "OFFBOARDED since {since}; reads end at {reads_end}")?;
    }
    writeln!(
        text,
        "ready     {}",
        if status.ready { "yes" } else { "NO" }
    )?;
    for reason in &status.reasons {
        writeln!(text, "          - {reason}")?;
    }
    let left = Rounded(Duration::from_secs(status.autonomy_seconds));
    let bound = &status.autonomy_bound_by;
    writeln!(text, "autonomy  {left}, bound by {bound}")?;
    let grants = &status.grants;
    writeln!(
        text,
        "grants    {} primary, {} replica ({} unsettled)",
        grants.primary, grants.replica, grants.unsettled
    )?;
    for role in &status.approle {
        let stands = match &role.problem {
            Some(problem) => format!("no login is answered in an outage: {problem}"),
            None => format!("{} secret ids can be used", role.secret_ids),
        };
        writeln!(text, "approle   {}: {stands}", role.role)?;
    }
    write_pools(text, &status.pools)?;
    write_ledger(text, &status.ledger)?;
    write_revocations(text, &status.revocations)?;
    let parity = &status.parity;
    write_parity(text, parity)?;
    let last = status
        .last_outage
        .as_ref()
        .map_or_else(|| "none since the start".to_owned(), shown);
    writeln!(text, "last      {last}")?;
    let drill = status.drill.as_ref().map_or("none", |drill| &drill.ends_at);
    writeln!(text, "drill     {drill}")?;
    write_addresses(text, status)?;
    if !status.mirrors.is_empty() {
        write!(text, "\n{}", mirror::shown(&status.mirrors))?;
    }
    for (at, finding) in status.findings.iter().enumerate() {
        let gap = if at == 0 { "\n" } else { "" };
        writeln!(text, "{gap}finding: {finding}")?;
    }
    Ok(())
}

fn write_pools(text: &mut String, pools: &[PoolStatus]) -> std::fmt::Result {
    for pool in pools {
        writeln!(
            text,
            "pool      {} {}/{} ready, {} handed out",
            pool.path, pool.ready, pool.size, pool.handed_out
        )?;
    }
    Ok(())
}

/// Whose share is fullest is named: that is where issuing ends first.
fn write_ledger(text: &mut String, ledger: &LedgerStatus) -> std::fmt::Result {
    let kib = |bytes: u64| bytes >> 10;
    let (bytes, most) = (kib(ledger.bytes), kib(ledger.max_bytes));
    write!(text, "ledger    {bytes} of {most} KiB")?;
    match &ledger.delivered_to {
        Some(to) => write!(
            text,
            ", {} KiB not in {to} yet",
            kib(ledger.undelivered_bytes)
        )?,
        None => write!(text, ", delivered nowhere")?,
    }
    let workloads = ledger
        .shares
        .iter()
        .filter(|share| share.workload.is_some());
    if let Some(share) = workloads.min_by_key(|share| share.left_bytes) {
        let (owner, left) = (&share.owner, kib(share.left_bytes));
        write!(text, "; {owner} has room for {left} KiB more")?;
    }
    writeln!(text)
}

fn write_revocations(text: &mut String, untold: &[RevocationStatus]) -> std::fmt::Result {
    let Some(first) = untold.first() else {
        return Ok(());
    };
    let (count, since) = (untold.len(), &first.since);
    writeln!(
        text,
        "revoking  {count} not done at the primary yet, the first since {since}"
    )
}

fn write_parity(text: &mut String, parity: &ParityStatus) -> std::fmt::Result {
    write!(
        text,
        "parity    {} checked, {} mismatches",
        parity.checked, parity.mismatches
    )?;
    if let Some(last) = &parity.last {
        let (kind, at) = (&last.kind, &last.at);
        write!(
            text,
            "; last {kind}: {} {} at {at}",
            last.operation, last.path
        )?;
    }
    match parity.quarantined.len() {
        0 => writeln!(text),
        some => writeln!(text, "; {some} QUARANTINED: see holdover parity list"),
    }
}

fn write_addresses(text: &mut String, status: &DaemonStatus) -> std::fmt::Result {
    let rows = status.addresses.iter().map(|one| {
        let health = if one.healthy { "yes" } else { "NO" };
        let latency = one
            .latency_ms
            .map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
        let role = one.role.as_deref().unwrap_or("-");
        let state = match (one.behind, one.in_use) {
            (true, _) => "behind",
            (false, true) => "in use",
            (false, false) => "",
        };
        [
            one.address.clone(),
            health.to_owned(),
            latency,
            role.to_owned(),
            state.to_owned(),
        ]
    });
    let rows: Vec<_> = rows.collect();
    write!(
        text,
        "\n{}",
        out::table(["ADDRESS", "HEALTHY", "LATENCY", "ROLE", "STATE"], &rows)
    )
}

fn shown(outage: &OutageStatus) -> String {
    format!(
        "{} since {}: {}",
        outage.id, outage.started_at, outage.cause
    )
}
