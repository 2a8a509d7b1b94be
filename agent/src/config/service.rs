//! The daemon's own tables: `[replica]`, `[listener]`, `[admin]`, `[failover]`, `[limits]`, and what is not built yet.

use std::{path::Path, time::Duration};

use shared::{
    settings::Bounds,
    share::amounts::LEFT,
    span::{self, Span},
};

use crate::config::{
    AdminConfig, Config, KeySource, LedgerConfig, LimitsConfig, ListenerConfig, ReplicaConfig,
    section::{Section, keys},
    value::{self, ZERO, days, hours, mins, secs},
};

pub(super) fn replica(section: &Section<'_>) -> ReplicaConfig {
    let path = section.file("path", "/var/lib/holdover/replica.db");
    let anchor = section.text("anchor", value::path);
    let slots = section.tables("key");
    if slots.is_empty() {
        section.missing("key", "[[replica.key]] with source = \"file\" and path");
    }
    let keys: Vec<_> = section.finish(slots.iter().filter_map(key).collect());
    if anchor.is_none() {
        let text =
            "replica.anchor is unset: an older copy of the replica in its place would go unnoticed";
        section.finding(text.to_owned());
    }
    for KeySource::File(key) in &keys {
        if key.parent() == path.parent() {
            section.finding(format!(
                "replica.key: {} lies in the same folder as the replica: a copy of that folder has both",
                key.display()
            ));
        }
    }
    ReplicaConfig { path, anchor, keys }
}

fn key(section: &Section<'_>) -> Option<KeySource> {
    let is_built = section.required("source", "file", |text| match text {
        "file" => Ok(true),
        "systemd-credential" | "passphrase" => Ok(false),
        _ => Err("is not a source of keys; give \"file\""),
    });
    if is_built? {
        let path = section.file("path", "/etc/holdover/key");
        return Some(section.finish(KeySource::File(path)));
    }
    let feature = "a key from a systemd credential or a passphrase";
    let source = section.at("source");
    source.unbuilt(feature, "give source = \"file\" and path");
    None
}

pub(super) fn listener(section: &Section<'_>) -> ListenerConfig {
    let feature = "the loopback TCP listener";
    section.unbuilt("tcp", feature, "let clients use the Unix socket");
    section.finish(ListenerConfig::read(section))
}

pub(super) fn admin(section: &Section<'_>) -> AdminConfig {
    section.finish(AdminConfig::read(section))
}

/// What of `[failover]` decisions go by, with what other tables say.
pub(super) fn bounds(
    section: &Section<'_>,
    token_max_age: Duration,
    max_staleness: Duration,
    limits: &LimitsConfig,
) -> Bounds {
    section.finish(keys! { section => Bounds {
        max_outage: span(hours(12), ZERO..=days(365)),
        authority_max_age: span(mins(15), ZERO..=days(30)),
        credential_max_age: span(days(1), ZERO..=days(30)),
        policy_max_age: span(hours(1), secs(1)..=days(30)),
        issue_after_reboot: flag(false);
        token_max_age,
        max_staleness,
        grants_per_workload: limits.grants_per_workload,
    } })
}

pub(super) fn limits(section: &Section<'_>) -> LimitsConfig {
    let limits = LimitsConfig::read(section);
    if limits.requests_per_second_per_uid == 0 {
        let text = "limits.requests_per_second_per_uid is 0: every request is refused";
        section.finding(text.to_owned());
    }
    // Half of it for those whom no entry matches, and of that a quarter for the first.
    let share = limits.unfinished_bytes / 2 / (LEFT + 1);
    if share < limits.request_size {
        section.finding(format!(
            "limits.unfinished_bytes: one user's share of it, {share} bytes, is less than request_size: larger requests are refused in an outage"
        ));
    }
    section.finish(limits)
}

pub(super) fn ledger(section: &Section<'_>) -> LedgerConfig {
    let shipping = "shipping the ledger to the primary";
    let remedy = "leave it out: the ledger stays in the replica";
    section.unbuilt("path", shipping, remedy);
    section.unbuilt("host", shipping, "leave it out");
    section.finish(LedgerConfig::read(section))
}

/// The share of forwarded requests that the replica decides too.
pub(super) fn parity(section: &Section<'_>) -> f64 {
    section.finish(section.share("sample", 0.01))
}

/// `[drill]` is designed but not in this version: its default changes nothing and is a finding, anything else is
/// refused.
pub(super) fn drill(section: &Section<'_>) {
    let feature = "an outage on purpose";
    let is_default = |text: &str| span::parse(text).map(|max| max == mins(15));
    match section.finish(section.text("max", is_default)) {
        Some(true) => section.finding(format!(
            "drill.max has no effect: {feature} is not built yet"
        )),
        Some(false) => section.at("max").unbuilt(feature, "leave it out"),
        None => {}
    }
}

/// An outage must be noticed before a login gives up, or no login would ever be answered from the replica.
pub(super) fn check_issue_deadline(config: &Config, section: &Section<'_>) {
    let deadline = config.failover.issue_deadline;
    let detection = config.knobs().worst_detection(config.primary.read_deadline);
    if deadline <= detection {
        let what = format!(
            "{} is not longer than it takes to notice an outage, {} (read_deadline + failures × the larger of 2 × probe_timeout and 1s + probe_timeout)",
            Span(deadline),
            Span(detection),
        );
        let remedy = "lengthen it, or shorten the others";
        section.at("issue_deadline").conflict(what, remedy);
    }
}

/// No two sockets and files may be one.
pub(super) fn check_paths(config: &Config, root: &Section<'_>) {
    let replica = &config.replica;
    let sockets = [&config.listener.socket, &config.admin.socket];
    let keys = replica.keys.iter().map(|KeySource::File(path)| path);
    let files = [&replica.path]
        .into_iter()
        .chain(&replica.anchor)
        .chain(keys);
    let mut seen: Vec<&Path> = Vec::new();
    for path in sockets.into_iter().chain(files) {
        // An empty one is missing, which is noted where it is.
        if seen.contains(&path.as_path()) && path.is_absolute() {
            let what = format!("{} stands for two things", path.display());
            let remedy = "give each socket and file a path of its own";
            root.here().conflict(what, remedy);
        }
        seen.push(path);
    }
}

/// What is good, but not what an operator will have meant.
pub(super) fn failover_findings(config: &Config, section: &Section<'_>) {
    let bounds = &config.settings.bounds;
    if bounds.max_outage.is_zero() {
        section.finding("failover.max_outage is 0: nothing is issued in any outage".to_owned());
    }
    if bounds.authority_max_age <= config.failover.authority_interval {
        section.finding(format!(
            "failover.authority_max_age, {}, is not longer than authority_interval, {}: issuing will be refused in many outages",
            Span(bounds.authority_max_age),
            Span(config.failover.authority_interval),
        ));
    }
    if bounds.policy_max_age <= config.failover.authority_interval {
        section.finding(format!(
            "failover.policy_max_age, {}, is not longer than authority_interval, {}: nothing will be decided in many outages",
            Span(bounds.policy_max_age),
            Span(config.failover.authority_interval),
        ));
    }
}
