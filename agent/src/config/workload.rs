//! `[[workload]]`: which processes are meant, what they are at the primary, what an outage gives them.

use std::{collections::BTreeSet, ops::RangeInclusive, time::Duration};

use shared::{
    name::{RequestPath, RoleName, WorkloadName},
    span::Span,
    workload::{FailoverPolicy, OnFailover, OnRecovery, Workload},
};

use crate::config::{
    PeerMatch,
    section::{Section, keys},
    value::{self, days, hours, mins, secs},
};

/// The life of a grant: finite, and long enough to be used.
const LIFE: RangeInclusive<Duration> = secs(1)..=days(30);

/// Every entry that can be read, in the file's order, with how its peers are recognised; a name given twice is an error.
pub(super) fn read(sections: &[Section<'_>]) -> Vec<(Workload, (WorkloadName, PeerMatch))> {
    let mut names = BTreeSet::new();
    let mut entries = Vec::new();
    for section in sections {
        let name = section.required("name", "orders", name);
        if let Some(name) = &name
            && !names.insert(name.clone())
        {
            let what = format!("{name:?} is the name of an earlier entry");
            let remedy = "give each workload a name of its own";
            section.at("name").conflict(what, remedy);
        }
        let peers = peers(&section.table("match"));
        entries.extend(entry(section, name).map(|entry| {
            let name = entry.name.clone();
            (entry, (name, peers))
        }));
    }
    entries
}

fn entry(section: &Section<'_>, name: Option<WorkloadName>) -> Option<Workload> {
    if !section.has("match") {
        section.missing("match", "match = { unit = \"orders.service\" }");
    }
    let role = section.required("role", "orders", role);
    let entity_alias = section.text("entity_alias", alias);
    let auto_token = section.flag("auto_token", true);
    let failover = section.finish(failover(&section.table("failover")));
    Some(Workload {
        name: name?,
        role: role?,
        entity_alias,
        auto_token,
        failover,
    })
}

fn peers(section: &Section<'_>) -> PeerMatch {
    let remedy = "give unit, user, uid, group or gid";
    let feature = "recognising peers by their executable";
    for name in ["exe", "sha256"] {
        section.unbuilt(name, feature, "match by unit, user, uid, group or gid");
    }
    if section.is_empty() {
        let what = "matches every process of this host".to_owned();
        section.here().conflict(what, remedy);
    }
    section.finish(PeerMatch {
        uid: account(section, "uid", "user", value::user),
        gid: account(section, "gid", "group", value::group),
        unit: section.text("unit", unit),
    })
}

/// An account given by number, by name, or by both where they agree.
fn account(
    section: &Section<'_>,
    number: &'static str,
    name: &'static str,
    resolve: fn(&str) -> Result<u32, &'static str>,
) -> Option<u32> {
    let id = section.id(number);
    let named = section.text(name, resolve);
    if let (Some(id), Some(named)) = (id, named)
        && id != named
    {
        let what = format!("is {named}, but {number} says {id}");
        section.at(name).conflict(what, "leave one of the two out");
    }
    id.or(named)
}

fn failover(section: &Section<'_>) -> FailoverPolicy {
    let failover = section.finish(keys! { section => FailoverPolicy {
        issue: flag(false),
        ttl: span(mins(15), LIFE),
        max_ttl: span(hours(2), LIFE),
        on_recovery: text_or(OnRecovery::Exchange, on_recovery),
        on_failover: text_or(OnFailover::Resume, on_failover),
    } });
    let (ttl, max_ttl) = (failover.ttl, failover.max_ttl);
    if ttl > max_ttl {
        let what = format!("{} is longer than max_ttl, {}", Span(ttl), Span(max_ttl));
        let remedy = "shorten it or lengthen max_ttl";
        section.at("ttl").conflict(what, remedy);
    }
    failover
}

fn on_recovery(text: &str) -> Result<OnRecovery, &'static str> {
    match text {
        "exchange" => Ok(OnRecovery::Exchange),
        "drain" => Ok(OnRecovery::Drain),
        "revoke" => Ok(OnRecovery::Revoke),
        _ => Err("is not a way to settle; give \"exchange\", \"drain\" or \"revoke\""),
    }
}

fn on_failover(text: &str) -> Result<OnFailover, &'static str> {
    match text {
        "resume" => Ok(OnFailover::Resume),
        "reauthenticate" => Ok(OnFailover::Reauthenticate),
        _ => Err("is not a way to begin; give \"resume\" or \"reauthenticate\""),
    }
}

fn name(text: &str) -> Result<WorkloadName, &'static str> {
    WorkloadName::parse(text)
        .map_err(|_| "is not a name; give 1 to 1024 bytes without control characters")
}

fn role(text: &str) -> Result<RoleName, &'static str> {
    const FORM: &str = "is not a token role; give only its name, as in \"orders\"";
    if text.contains('/') || RequestPath::parse(text).is_err() {
        return Err(FORM);
    }
    RoleName::parse(text).map_err(|_| FORM)
}

fn alias(text: &str) -> Result<String, &'static str> {
    value::line(text).ok_or("is not the name of an entity alias; leave it out or give one")
}

fn unit(text: &str) -> Result<String, &'static str> {
    if value::is_unit(text, &[".service", ".scope"]) {
        return Ok(text.to_owned());
    }
    Err("is not a systemd unit with processes; write it in full, as in \"orders.service\"")
}
