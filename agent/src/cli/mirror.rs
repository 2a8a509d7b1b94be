//! `holdover mirror list|sync`.

use std::{path::Path, time::Duration};

use clap::Subcommand;
use shared::span::Rounded;

use crate::{
    cli::{ANSWER, Exit, Failure, converse, daemon, out},
    status::{MirrorList, MirrorStatus, SyncMirrors, WholeSeconds},
};

/// A pass over many secrets, paced, takes its time.
const PASS: Duration = Duration::from_secs(3600);

#[derive(Subcommand)]
pub(super) enum MirrorCommand {
    /// Lists the mirrors, what they hold, and how old it is.
    List {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Checks one mirror, or all of them, against the primary now, and waits until that is done.
    Sync {
        /// The mirror's path as configured; all mirrors by default.
        path: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn perform(command: &MirrorCommand, config: &Path) -> Result<Exit, Failure> {
    let client = daemon(config)?;
    let (mirrors, json): (MirrorList, bool) = match command {
        MirrorCommand::List { json } => (converse(client.get("/v1/mirrors", ANSWER))??, *json),
        MirrorCommand::Sync { path, json } => {
            let asked = SyncMirrors { path: path.clone() };
            let done = converse(client.post("/v1/mirrors/sync", &asked, PASS))??;
            (done, *json)
        }
    };
    out::show(&mirrors, json, |all| shown(&all.mirrors))?;
    Ok(Exit::Done)
}

/// A table of mirrors, with the error of each failing one below it.
pub(super) fn shown(mirrors: &[MirrorStatus]) -> String {
    let rows: Vec<_> = mirrors.iter().map(row).collect();
    let mut text = out::table(["MIRROR", "COUNT", "AGE", "BOUND", "FAILED"], &rows);
    for mirror in mirrors {
        if let Some(error) = &mirror.last_error {
            text.push_str(&format!("{}: {error}\n", mirror.path));
        }
    }
    text
}

fn row(mirror: &MirrorStatus) -> [String; 5] {
    let span = |span: WholeSeconds| Rounded(span.0).to_string();
    [
        mirror.path.clone(),
        mirror.count.to_string(),
        mirror.age.map_or_else(|| "never".to_owned(), span),
        span(mirror.max_staleness),
        mirror.errors.to_string(),
    ]
}
