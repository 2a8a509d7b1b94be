//! `[[workload]]`: which processes are meant, what they are at the primary, what an outage gives them.

use std::{collections::BTreeSet, time::Duration};

use shared::{
    name::{RequestPath, RoleName, WorkloadName},
    workload::{FailoverPolicy, OnFailover, OnRecovery, Workload},
};

use crate::config::{
    PeerMatch,
    file::{Bounded, Placed, Section},
    value::{self, Span},
};

/// An entry: what decisions go by, and how its peers are recognised.
pub(super) type Entry = (Workload, (WorkloadName, PeerMatch));

/// Every entry that can be read, in the file's order; a name given twice is an error.
pub(super) fn read(sections: &[Section<'_>]) -> Vec<Entry> {
    let mut names = BTreeSet::new();
    let mut entries = Vec::new();
    for section in sections {
        let name = section.required("name", "name = \"orders\"", name);
        if let Some(found) = &name
            && !names.insert(found.value.clone())
        {
            let what = format!("{:?} is the name of an earlier entry", found.value);
            found.conflict(
                section.source(),
                what,
                "give each workload a name of its own",
            );
        }
        entries.extend(entry(section, name));
    }
    entries
}

fn entry(section: &Section<'_>, name: Option<Placed<WorkloadName>>) -> Option<Entry> {
    let peers = peers(&section.table("match"));
    if !section.has("match") {
        section.missing("match", "match = { unit = \"orders.service\" }");
    }
    let role = section.required("role", "role = \"orders\"", role);
    let entity_alias = section.text("entity_alias", alias);
    let auto_token = section.flag("auto_token", true).value;
    let failover = failover(&section.table("failover"));
    section.finish();
    let name = name?.value;
    let workload = Workload {
        name: name.clone(),
        role: role?.value,
        entity_alias: entity_alias.map(|found| found.value),
        auto_token,
        failover,
    };
    Some((workload, (name, peers)))
}

fn peers(section: &Section<'_>) -> PeerMatch {
    let peers = PeerMatch {
        uid: account(section, "uid", "user", value::user),
        gid: account(section, "gid", "group", value::group),
        unit: section.text("unit", unit).map(|found| found.value),
    };
    let feature = "recognising peers by their executable";
    for name in ["exe", "sha256"] {
        section.unbuilt(name, feature, "match by unit, user, uid, group or gid");
    }
    if section.is_empty() {
        let what = "matches every process of this host";
        section
            .here()
            .conflict(section.source(), what, "give unit, user, uid, group or gid");
    }
    section.finish();
    peers
}

/// An account given by number, by name, or by both where they agree.
fn account(
    section: &Section<'_>,
    number: &'static str,
    name: &'static str,
    resolve: fn(&str) -> Result<u32, &'static str>,
) -> Option<u32> {
    let id = section.id(number).map(|found| found.value);
    let named = section.text(name, resolve);
    if let (Some(id), Some(named)) = (id, &named)
        && id != named.value
    {
        let what = format!("is {}, but {number} says {id}", named.value);
        named.conflict(section.source(), what, "leave one of the two out");
    }
    id.or(named.map(|found| found.value))
}

fn failover(section: &Section<'_>) -> FailoverPolicy {
    let issue = section.flag("issue", false).value;
    let ttl = section.span("ttl", life(900));
    let max_ttl = section.span("max_ttl", life(7200));
    if ttl.value > max_ttl.value {
        let what = format!(
            "{} is longer than max_ttl, {}",
            Span(ttl.value),
            Span(max_ttl.value)
        );
        ttl.conflict(section.source(), what, "shorten it or lengthen max_ttl");
    }
    let on_recovery = section.text("on_recovery", |text| match text {
        "exchange" => Ok(OnRecovery::Exchange),
        "drain" => Ok(OnRecovery::Drain),
        "revoke" => Ok(OnRecovery::Revoke),
        _ => Err("is no way to settle; give \"exchange\", \"drain\" or \"revoke\""),
    });
    let on_failover = section.text("on_failover", |text| match text {
        "resume" => Ok(OnFailover::Resume),
        "reauthenticate" => Ok(OnFailover::Reauthenticate),
        _ => Err("is no way to begin; give \"resume\" or \"reauthenticate\""),
    });
    section.finish();
    FailoverPolicy {
        issue,
        ttl: ttl.value,
        max_ttl: max_ttl.value,
        on_recovery: on_recovery.map_or(OnRecovery::Exchange, |found| found.value),
        on_failover: on_failover.map_or(OnFailover::Resume, |found| found.value),
    }
}

/// The life of a grant: finite, and long enough to be used.
fn life(default_secs: u64) -> Bounded<Duration> {
    Bounded {
        default: Duration::from_secs(default_secs),
        least: Duration::from_secs(1),
        most: Duration::from_secs(30 * 86_400),
    }
}

fn name(text: &str) -> Result<WorkloadName, &'static str> {
    WorkloadName::parse(text)
        .map_err(|_| "is no name; give 1 to 1024 bytes without control characters")
}

fn role(text: &str) -> Result<RoleName, &'static str> {
    const FORM: &str = "is no token role; give its name alone, as in \"orders\"";
    if text.contains('/') || RequestPath::parse(text).is_err() {
        return Err(FORM);
    }
    RoleName::parse(text).map_err(|_| FORM)
}

fn alias(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err("is no name of an entity alias; leave it out or give one");
    }
    Ok(text.to_owned())
}

fn unit(text: &str) -> Result<String, &'static str> {
    let stem = text
        .strip_suffix(".service")
        .or_else(|| text.strip_suffix(".scope"));
    match stem {
        Some(stem) if !stem.is_empty() && !stem.contains(['/', '*', ' ']) => Ok(text.to_owned()),
        _ => Err("is no systemd unit with processes; write it in full, as in \"orders.service\""),
    }
}
