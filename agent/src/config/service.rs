//! The daemon's own tables: `[replica]`, `[listener]`, `[admin]`, `[failover]`, `[limits]`, and what is not built yet.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use shared::{failover::Knobs, settings::Bounds};

use crate::config::{
    AdminConfig, FailoverConfig, KeySource, LedgerConfig, LimitsConfig, ListenerConfig,
    ReplicaConfig,
    error::Problem,
    file::{Bounded, Placed, Section, SourceFile},
    mirror::staleness,
    primary,
    value::{self, Span},
};

/// Of forwarded requests, unless the file says otherwise.
const SAMPLE: f64 = 0.01;

/// `[replica]`, as far as it could be read.
pub(super) struct ReplicaDraft {
    pub(super) replica: Option<ReplicaConfig>,
    pub(super) max_staleness: Duration,
}

/// `[failover]`, and where its deadline stands.
pub(super) struct FailoverDraft {
    pub(super) machine: FailoverConfig,
    /// Without what other tables say.
    pub(super) bounds: Bounds,
    issue_deadline: Placed<Duration>,
}

pub(super) fn replica(section: &Section<'_>) -> ReplicaDraft {
    let path = section.required(
        "path",
        "path = \"/var/lib/holdover/replica.db\"",
        value::path,
    );
    let anchor = section.text("anchor", value::path).map(|found| found.value);
    let day = Duration::from_secs(86_400);
    let max_staleness = section.span("max_staleness", staleness(day)).value;
    let slots = section.tables("key");
    if slots.is_empty() {
        section.missing("key", "[[replica.key]] with source = \"file\" and path");
    }
    let keys: Vec<_> = slots.iter().filter_map(key).collect();
    section.finish();
    let replica = path.map(|path| ReplicaConfig {
        path: path.value,
        anchor,
        keys,
    });
    if let Some(replica) = &replica {
        replica_findings(section.source(), replica);
    }
    ReplicaDraft {
        replica,
        max_staleness,
    }
}

fn key(section: &Section<'_>) -> Option<KeySource> {
    let source = section.required("source", "source = \"file\"", |text| Ok(text.to_owned()))?;
    let problem = match source.value.as_str() {
        "file" => {
            let path = section.required("path", "path = \"/etc/holdover/key\"", value::path);
            section.finish();
            return Some(KeySource::File(path?.value));
        }
        "systemd-credential" | "passphrase" => Problem::Unbuilt {
            feature: "a key from a systemd credential or a passphrase",
            remedy: "give source = \"file\" and path",
        },
        other => Problem::Value {
            found: other.to_owned(),
            why: "is no source of keys; give \"file\"".to_owned(),
        },
    };
    section.source().error(source.line, source.key, problem);
    None
}

fn replica_findings(source: &SourceFile<'_>, replica: &ReplicaConfig) {
    if replica.anchor.is_none() {
        source.finding(
            "replica.anchor is unset: an older copy of the replica put in its place goes unseen"
                .to_owned(),
        );
    }
    for KeySource::File(key) in &replica.keys {
        if key.parent() == replica.path.parent() {
            source.finding(format!(
                "replica.key: {} lies beside the replica: whoever copies the folder has both",
                key.display()
            ));
        }
    }
}

pub(super) fn listener(section: &Section<'_>) -> Option<ListenerConfig> {
    let socket = section.required(
        "socket",
        "socket = \"/run/holdover/holdover.sock\"",
        value::socket,
    );
    let mode = section.text("mode", value::mode);
    section.unbuilt(
        "tcp",
        "the loopback TCP listener",
        "let clients use the Unix socket",
    );
    section.finish();
    Some(ListenerConfig {
        socket: socket?.value,
        mode: mode.map_or(0o666, |found| found.value),
    })
}

pub(super) fn admin(section: &Section<'_>) -> Option<AdminConfig> {
    let socket = section.required(
        "socket",
        "socket = \"/run/holdover/admin.sock\"",
        value::socket,
    );
    let group = section.text("group", value::group);
    let metrics = section.text("metrics", |text| match text.parse::<SocketAddr>() {
        Ok(address) if address.ip().is_loopback() => Ok(address),
        Ok(_) => {
            Err("is reachable from outside; give a loopback address, as in \"127.0.0.1:9847\"")
        }
        Err(_) => Err("is no address; give a loopback one and a port, as in \"127.0.0.1:9847\""),
    });
    section.finish();
    Some(AdminConfig {
        socket: socket?.value,
        group: group.map(|found| found.value),
        metrics: metrics.map(|found| found.value),
    })
}

pub(super) fn failover(section: &Section<'_>) -> FailoverDraft {
    let secs = Duration::from_secs;
    let count = || Bounded {
        default: 3,
        least: 1,
        most: 100,
    };
    let span = |default, least, most| Bounded {
        default,
        least,
        most,
    };
    let (tick, hundredth) = (Duration::from_millis(100), Duration::from_millis(10));
    let issue_deadline = section.span("issue_deadline", span(secs(5), tick, secs(600)));
    let probe_timeout = Duration::from_millis(500);
    let machine = FailoverConfig {
        failures: section.count("failures", count()).value,
        successes: section.count("successes", count()).value,
        probe_interval: section
            .span("probe_interval", span(secs(5), tick, secs(3600)))
            .value,
        probe_timeout: section
            .span("probe_timeout", span(probe_timeout, hundredth, secs(60)))
            .value,
        issue_deadline: issue_deadline.value,
        authority_interval: section
            .span("authority_interval", span(secs(60), tick, secs(86_400)))
            .value,
    };
    let bounds = Bounds {
        max_outage: section
            .span(
                "max_outage",
                span(secs(43_200), secs(0), secs(365 * 86_400)),
            )
            .value,
        authority_max_age: section
            .span(
                "authority_max_age",
                span(secs(900), secs(0), secs(30 * 86_400)),
            )
            .value,
        token_max_age: Duration::ZERO,
        credential_max_age: section
            .span(
                "credential_max_age",
                span(secs(86_400), secs(0), secs(30 * 86_400)),
            )
            .value,
        issue_after_reboot: section.flag("issue_after_reboot", false).value,
        max_staleness: Duration::ZERO,
    };
    section.finish();
    FailoverDraft {
        machine,
        bounds,
        issue_deadline,
    }
}

pub(super) fn limits(section: &Section<'_>) -> LimitsConfig {
    let count = |name, default, least| {
        let most = 1_000_000;
        section
            .count(
                name,
                Bounded {
                    default,
                    least,
                    most,
                },
            )
            .value
    };
    let limits = LimitsConfig {
        connections: count("connections", 1024, 1),
        connections_per_uid: count("connections_per_uid", 256, 1),
        requests_per_second_per_uid: count("requests_per_second_per_uid", 5000, 0),
        request_size: section
            .size(
                "request_size",
                Bounded {
                    default: 1 << 20,
                    least: 1 << 10,
                    most: 32 << 20,
                },
            )
            .value,
        login_failures_per_minute_per_uid: count("login_failures_per_minute_per_uid", 30, 0),
    };
    if limits.requests_per_second_per_uid == 0 {
        let text = "limits.requests_per_second_per_uid is 0: every request is refused";
        section.source().finding(text.to_owned());
    }
    section.finish();
    limits
}

pub(super) fn ledger(section: &Section<'_>) -> LedgerConfig {
    let shipping = "shipping the ledger to the primary";
    section.unbuilt(
        "path",
        shipping,
        "leave it out: the ledger stays in the replica",
    );
    section.unbuilt("host", shipping, "leave it out");
    let max_size = section.size(
        "max_size",
        Bounded {
            default: 256 << 20,
            least: 1 << 20,
            most: 64 << 30,
        },
    );
    section.finish();
    LedgerConfig {
        max_size: max_size.value,
    }
}

/// `[parity]`: the share of forwarded requests that the replica judges too.
pub(super) fn parity(section: &Section<'_>) -> f64 {
    let found = section.number("sample");
    section.finish();
    let Some(found) = found else { return SAMPLE };
    if (0.0..=1.0).contains(&found.value) {
        return found.value;
    }
    let problem = Problem::Value {
        found: found.value.to_string(),
        why: "is no share; give a number from 0 to 1".to_owned(),
    };
    section.source().error(found.line, found.key, problem);
    SAMPLE
}

/// Tables of features that are designed but not in this version: only what restates a default is taken.
pub(super) fn unbuilt(root: &Section<'_>) {
    let source = root.source();
    let drill = root.table("drill");
    let default_max = |text: &str| value::duration(text).map(|max| max == Duration::from_secs(900));
    if let Some(found) = drill.text("max", default_max) {
        restated(source, &found, "an outage on purpose");
    }
    drill.finish();
}

/// A key of a feature to come: its default changes nothing and is a finding, anything else is refused.
fn restated(source: &SourceFile<'_>, found: &Placed<bool>, feature: &'static str) {
    if found.value {
        let key = &found.key;
        source.finding(format!("{key} has no effect: {feature} is not built yet"));
    } else {
        let problem = Problem::Unbuilt {
            feature,
            remedy: "leave it out",
        };
        source.error(found.line, found.key.clone(), problem);
    }
}

/// What one table says against another.
pub(super) fn cross_check(
    source: &SourceFile<'_>,
    primary: &primary::PrimaryDraft,
    replica: &ReplicaDraft,
    sockets: (Option<&ListenerConfig>, Option<&AdminConfig>, Placed<()>),
    failover: &FailoverDraft,
) {
    let machine = &failover.machine;
    let knobs = Knobs {
        failures: machine.failures,
        successes: machine.successes,
        probe_interval: machine.probe_interval,
        probe_timeout: machine.probe_timeout,
        max_outage: failover.bounds.max_outage,
    };
    let detection = knobs.worst_detection(primary.read_deadline);
    if failover.issue_deadline.value <= detection {
        let what = format!(
            "{} is not longer than it takes to notice an outage, {} (read_deadline + (failures + 1) × probe_timeout)",
            Span(failover.issue_deadline.value),
            Span(detection),
        );
        failover
            .issue_deadline
            .conflict(source, what, "lengthen it, or shorten the others");
    }
    let (listener, admin, at) = sockets;
    let paths = [
        listener.map(|listener| &listener.socket),
        admin.map(|admin| &admin.socket),
        replica.replica.as_ref().map(|replica| &replica.path),
        replica
            .replica
            .as_ref()
            .and_then(|replica| replica.anchor.as_ref()),
    ];
    let keys = replica.replica.iter().flat_map(|replica| &replica.keys);
    let keys = keys.map(|KeySource::File(path)| path);
    let mut seen: Vec<&PathBuf> = Vec::new();
    for path in paths.into_iter().flatten().chain(keys) {
        if seen.contains(&path) {
            let what = format!("{} stands for two things", path.display());
            at.conflict(source, what, "give each socket and file a path of its own");
        }
        seen.push(path);
    }
    findings(source, failover);
}

fn findings(source: &SourceFile<'_>, failover: &FailoverDraft) {
    let bounds = &failover.bounds;
    if bounds.max_outage.is_zero() {
        source.finding("failover.max_outage is 0: nothing is issued in any outage".to_owned());
    }
    if bounds.authority_max_age <= failover.machine.authority_interval {
        source.finding(format!(
            "failover.authority_max_age, {}, is not longer than authority_interval, {}: issuing will be refused in many outages",
            Span(bounds.authority_max_age),
            Span(failover.machine.authority_interval),
        ));
    }
}
