//! What is missing in the configuration, from what was counted: mirrors, workload entries, and what no line can cure.
//! Pure.
//!
//! A path gets a mirror of its own, unless its folder is to be mirrored: that is so if the folder was listed, or if two
//! or more of its direct children were read. A folder at the top of a mount is the mount itself and is never
//! suggested, and neither is one that overlaps with a configured mirror. So a suggested prefix reaches no other
//! top-level folder than the one that was asked for.

pub mod text;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;
use shared::{
    coverage::Foretold,
    name::{RoleName, WorkloadName},
    settings::{Mirror, MirrorPath, Settings},
    workload::{FailoverPolicy, OnFailover, OnRecovery, Workload},
};

use crate::{
    config::{self, Config, PeerMatch, value},
    status::coverage::{CallerName, CoverageReport, Place, RowReport},
};

/// Children of a folder that make it worth a mirror as a whole.
const SIBLINGS: usize = 2;

/// What is missing.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Suggestion {
    /// Mirrors to be added.
    pub mirrors: Vec<MirrorLine>,
    /// Workload entries to be added.
    pub workloads: Vec<WorkloadLine>,
    /// What no line cures, most asked first.
    pub left: Vec<Left>,
}

/// A `[[mirror]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct MirrorLine {
    /// As it is configured.
    pub path: String,
    /// Requests that it would have answered.
    pub requests: u64,
    /// Whose.
    pub callers: BTreeSet<String>,
    /// Whether answers come with a lease.
    pub leased: bool,
}

/// A `[[workload]]`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct WorkloadLine {
    /// A name that no entry has.
    pub name: String,
    /// Who is meant.
    pub uid: u32,
    /// The systemd unit, where it is a service.
    pub unit: Option<String>,
    /// The token role that its tokens came from.
    pub role: Option<String>,
    /// The policies that they carry.
    pub policies: Vec<String>,
    /// Its logins and token creations.
    pub requests: u64,
}

/// What no line of the configuration cures.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Left {
    /// `read`, `login`, …
    pub operation: String,
    /// For what.
    pub path: String,
    /// Why.
    pub reason: String,
    /// How often.
    pub requests: u64,
    /// By whom.
    pub callers: BTreeSet<String>,
}

/// A path that is not mirrored and could be.
#[derive(Default)]
struct Want {
    requests: u64,
    callers: BTreeSet<String>,
    leased: bool,
    folders: bool,
}

/// Wanted keys by what the paths of their mirrors begin with.
type Wants = BTreeMap<(String, String), Want>;

/// What is missing in `config` for what `report` tells of.
pub fn suggest(report: &CoverageReport, config: &Config) -> Suggestion {
    let mut left = Leftovers::default();
    let wants = wants(report, &config.settings, &mut left);
    let mirrors = mirrors(wants, &config.settings, &mut left);
    let workloads = workloads(report, config);
    for row in &report.rows {
        let cured = row.operation == "login"
            && (is_suggested(&row.caller, &workloads) || is_matched(&row.caller, config));
        if !row.is_served() && row.verdict != Foretold::NotMirrored.name() && !cured {
            left.add(row, &row.reason);
        }
    }
    Suggestion {
        mirrors,
        workloads,
        left: left.sorted(),
    }
}

fn wants(report: &CoverageReport, settings: &Settings, left: &mut Leftovers) -> Wants {
    let mut wants = Wants::new();
    let missing = Foretold::NotMirrored.name();
    for row in report.rows.iter().filter(|row| row.verdict == missing) {
        let Some(place) = &row.place else {
            left.add(row, &row.reason);
            continue;
        };
        if is_covered(place, settings) {
            continue;
        }
        if row.refused >= row.requests {
            left.add(row, "the primary had nothing there either");
            continue;
        }
        let want = wants
            .entry((place.base.clone(), place.key.clone()))
            .or_default();
        want.requests += row.requests;
        want.callers.insert(row.caller.shown());
        want.leased |= row.leased;
        want.folders |= place.folders;
    }
    wants
}

/// Whether a mirror is configured by now.
fn is_covered(place: &Place, settings: &Settings) -> bool {
    let path = place.path();
    settings.mirrors.iter().any(|mirror| match &mirror.path {
        MirrorPath::Exact(_) if place.is_folder() => false,
        covering => covering.covers(&path),
    })
}

fn mirrors(wants: Wants, settings: &Settings, left: &mut Leftovers) -> Vec<MirrorLine> {
    let folders = folders(&wants, settings);
    let mut lines: BTreeMap<String, Want> = BTreeMap::new();
    for ((base, key), want) in wants {
        let folder = folders
            .iter()
            .find(|(of, folder)| *of == base && key.starts_with(folder.as_str()));
        let is_folder = key.is_empty() || key.ends_with('/');
        let path = match folder {
            Some((_, folder)) => format!("{base}{folder}*"),
            None if is_folder => {
                let reason = alone(&base, &key);
                left.put("list", &format!("{base}{key}"), &reason, &want);
                continue;
            }
            None => format!("{base}{key}"),
        };
        if let Err(why) = config::mirror::path(&path) {
            left.put("read", &path, why, &want);
            continue;
        }
        lines.entry(path).or_default().join(want);
    }
    let mut lines: Vec<MirrorLine> = lines
        .into_iter()
        .map(|(path, want)| MirrorLine {
            path,
            requests: want.requests,
            callers: want.callers,
            leased: want.leased,
        })
        .collect();
    lines.sort_by(|a, b| (b.requests, &a.path).cmp(&(a.requests, &b.path)));
    lines
}

/// Why a folder gets no mirror.
fn alone(base: &str, key: &str) -> String {
    if key.is_empty() {
        format!(
            "listing the top of a mount needs a mirror of all of it, {base}*: write that if you mean it"
        )
    } else {
        format!("it needs {base}{key}*, which overlaps with a configured mirror: widen that one")
    }
}

/// The folders to be mirrored as a whole, none of them within another.
fn folders(wants: &Wants, settings: &Settings) -> Vec<(String, String)> {
    let mut children: BTreeMap<(&str, &str), (usize, bool)> = BTreeMap::new();
    for ((base, key), want) in wants {
        let end = key.rfind('/').map_or(0, |slash| slash + 1);
        let folder = key.get(..end).unwrap_or_default();
        if folder.is_empty() || !want.folders {
            continue;
        }
        let (read, listed) = children.entry((base, folder)).or_default();
        if folder == key {
            *listed = true;
        } else {
            *read += 1;
        }
    }
    let mut chosen: Vec<(String, String)> = Vec::new();
    // In order: a folder comes before what is in it.
    for ((base, folder), (read, listed)) in children {
        let within = chosen
            .iter()
            .any(|(of, outer)| of == base && folder.starts_with(outer.as_str()));
        let path = format!("{base}{folder}");
        let mut configured = settings.mirrors.iter().map(|mirror| mirror.path.literal());
        let overlaps = configured.any(|literal| literal.starts_with(&path));
        if (listed || read >= SIBLINGS) && !within && !overlaps {
            chosen.push((base.to_owned(), folder.to_owned()));
        }
    }
    chosen
}

fn workloads(report: &CoverageReport, config: &Config) -> Vec<WorkloadLine> {
    let mut asked: BTreeMap<(u32, Option<String>), u64> = BTreeMap::new();
    for row in &report.rows {
        let asks = matches!(row.operation.as_str(), "login" | "issue");
        if let (Some(uid), true) = (row.caller.uid, asks) {
            let unit = row.caller.unit.clone();
            if !is_matched(&row.caller, config) {
                *asked.entry((uid, unit)).or_default() += row.requests;
            }
        }
    }
    let mut lines: BTreeMap<(u32, Option<String>), WorkloadLine> = BTreeMap::new();
    let mut names: BTreeSet<String> = config
        .settings
        .workloads
        .iter()
        .map(|workload| workload.name.as_str().to_owned())
        .collect();
    for ((uid, unit), requests) in asked {
        let service = unit.clone().filter(|unit| is_service(unit));
        let carried = report
            .carried
            .iter()
            .find(|carried| carried.caller.uid == Some(uid) && carried.caller.unit == unit);
        let line = lines
            .entry((uid, service.clone()))
            .or_insert_with(|| WorkloadLine {
                name: name(uid, service.as_deref(), &mut names),
                uid,
                unit: service,
                role: None,
                policies: Vec::new(),
                requests: 0,
            });
        line.requests += requests;
        if let Some(carried) = carried {
            line.role = carried.role.clone().or(line.role.take());
            line.policies.clone_from(&carried.policies);
        }
    }
    lines.into_values().collect()
}

/// Whether an entry of the configuration means a caller that none meant when it was counted.
fn is_matched(caller: &CallerName, config: &Config) -> bool {
    let Some(uid) = caller.uid else { return false };
    let mut entries = config.matches.iter().map(|(_, peers)| peers);
    entries.any(|peers| matches(peers, uid, caller.unit.as_deref()))
}

/// Whether an entry means such a peer. Whose group it is in was not counted.
fn matches(peers: &PeerMatch, uid: u32, unit: Option<&str>) -> bool {
    peers.gid.is_none()
        && peers.uid.is_none_or(|wanted| wanted == uid)
        && peers
            .unit
            .as_deref()
            .is_none_or(|wanted| Some(wanted) == unit)
}

/// Scopes come and go with sessions; an entry can only mean a service.
fn is_service(unit: &str) -> bool {
    value::is_unit(unit, &[".service"])
}

/// A name that is free, from the unit or the user.
fn name(uid: u32, unit: Option<&str>, taken: &mut BTreeSet<String>) -> String {
    let stem = unit.and_then(|unit| unit.strip_suffix(".service"));
    let stem = stem.map_or_else(|| format!("uid-{uid}"), str::to_owned);
    let mut name = stem.clone();
    let mut number = 2_u32;
    while !taken.insert(name.clone()) {
        name = format!("{stem}-{number}");
        number += 1;
    }
    name
}

fn is_suggested(caller: &CallerName, workloads: &[WorkloadLine]) -> bool {
    workloads.iter().any(|line| {
        let unit = caller.unit.as_ref().filter(|unit| is_service(unit));
        caller.uid == Some(line.uid) && unit == line.unit.as_ref()
    })
}

impl WorkloadLine {
    /// Whether it can be written as it is: its role is known, and it does not mean everything that root runs.
    pub fn is_whole(&self) -> bool {
        let role = self.role.as_deref();
        let named = role.is_some_and(|role| !role.contains('/') && RoleName::parse(role).is_ok());
        named && (self.unit.is_some() || self.uid != 0)
    }
}

impl Suggestion {
    /// Whether no line is missing.
    pub fn is_empty(&self) -> bool {
        self.mirrors.is_empty() && self.workloads.is_empty()
    }

    /// The settings of `config` with what is suggested in them.
    pub fn applied(&self, config: &Config) -> Settings {
        let mut settings = config.settings.clone();
        let max_staleness = settings.bounds.max_staleness;
        settings
            .mirrors
            .extend(self.mirrors.iter().map(|line| Mirror {
                path: MirrorPath::parse(&line.path),
                interval: Duration::from_secs(30),
                max_staleness,
                versions: 1,
                pool: 0,
            }));
        let whole = self.workloads.iter().filter(|line| line.is_whole());
        settings.workloads.extend(whole.filter_map(workload));
        settings
    }
}

fn workload(line: &WorkloadLine) -> Option<Workload> {
    Some(Workload {
        name: WorkloadName::parse(&line.name).ok()?,
        role: RoleName::parse(line.role.as_deref()?).ok()?,
        entity_alias: None,
        auto_token: true,
        failover: FailoverPolicy {
            issue: false,
            ttl: Duration::from_secs(900),
            max_ttl: Duration::from_secs(7200),
            on_recovery: OnRecovery::Exchange,
            on_failover: OnFailover::Resume,
        },
    })
}

impl Want {
    fn join(&mut self, other: Self) {
        self.requests += other.requests;
        self.callers.extend(other.callers);
        self.leased |= other.leased;
    }
}

/// What is left, by what it is and why.
#[derive(Default)]
struct Leftovers(BTreeMap<(String, String, String), (u64, BTreeSet<String>)>);

impl Leftovers {
    fn add(&mut self, row: &RowReport, reason: &str) {
        let want = Want {
            requests: row.requests,
            callers: BTreeSet::from([row.caller.shown()]),
            ..Want::default()
        };
        self.put(&row.operation, &row.path, reason, &want);
    }

    fn put(&mut self, operation: &str, path: &str, reason: &str, want: &Want) {
        let key = (operation.to_owned(), path.to_owned(), reason.to_owned());
        let (requests, callers) = self.0.entry(key).or_default();
        *requests += want.requests;
        callers.extend(want.callers.iter().cloned());
    }

    fn sorted(self) -> Vec<Left> {
        let left = self.0.into_iter().map(|(key, (requests, callers))| Left {
            operation: key.0,
            path: key.1,
            reason: key.2,
            requests,
            callers,
        });
        let mut left: Vec<Left> = left.collect();
        left.sort_by(|a, b| (b.requests, &a.path).cmp(&(a.requests, &b.path)));
        left
    }
}

#[cfg(test)]
mod tests;
