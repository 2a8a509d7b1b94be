//! Coverage: of what passes through the socket, how much would have been served had the primary been dead, and why
//! not the rest. Per workload and path, never values.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::Serialize;
use shared::{
    acl::Operation,
    api::{Call, Kind},
    name::WorkloadName,
    settings::Settings,
    time::WallTime,
    workload::Peer,
};

/// Rows that are kept; what comes beyond them is counted in one row of its own.
const ROWS: usize = 4096;

/// The longest path that is kept, in bytes.
const LONGEST: usize = 256;

/// Path of the row that counts what found no row.
const OVERFLOW: &str = "…";

/// What passed through the socket. Shared by every task.
#[derive(Default)]
pub struct Coverage {
    rows: Mutex<HashMap<Key, Row>>,
}

/// Who asked for what.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    caller: Caller,
    path: String,
    verdict: Verdict,
}

/// Who asked.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    /// A peer with exactly one entry.
    Workload(WorkloadName),
    /// A peer with none, or with several, of this user id.
    Uid(u32),
}

/// What an outage would have made of a request.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Served.
    Served,
    /// Refused: the workload's `failover` table does not enable issuing.
    IssueDisabled,
    /// Refused: only the primary can decide it (wrapping, MFA, an unknown login, no API path).
    NotModelled,
    /// Refused: a read of what no mirror covers.
    NotMirrored,
    /// Refused: the token is not known here.
    UnknownToken,
    /// Refused: a write.
    Write,
}

#[derive(Clone, Copy, Default)]
struct Row {
    requests: u64,
    last: Option<WallTime>,
}

/// A row of `coverage`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Line {
    /// Who asked.
    pub caller: Caller,
    /// For what, with what differs from request to request replaced by `*`.
    pub path: String,
    /// What an outage would have made of it.
    pub verdict: Verdict,
    /// How often.
    pub requests: u64,
    /// When it was last asked.
    pub last: Option<WallTime>,
}

/// A request as coverage sees it.
pub(crate) struct Seen<'a> {
    /// The peer.
    pub(crate) peer: &'a Peer,
    /// What it asked for; none where that is no API call.
    pub(crate) call: Option<&'a Call>,
    /// Whether a mirror covers it.
    pub(crate) mirrored: bool,
    /// Whether headers ask for what is not modelled.
    pub(crate) unmodelled: bool,
    /// Whether the token that came with it, if any, is known here.
    pub(crate) known: bool,
}

impl Coverage {
    /// Counts a request.
    pub(crate) fn count(&self, seen: &Seen<'_>, settings: &Settings, now: WallTime) {
        let caller = match seen.peer.only_workload() {
            Some(name) => Caller::Workload(name.clone()),
            None => Caller::Uid(seen.peer.uid),
        };
        let mut key = Key {
            caller,
            path: seen.call.map_or_else(|| "-".to_owned(), template),
            verdict: verdict(seen, settings),
        };
        let mut rows = self.lock();
        if rows.len() >= ROWS && !rows.contains_key(&key) {
            key = Key {
                caller: Caller::Uid(u32::MAX),
                path: OVERFLOW.to_owned(),
                verdict: key.verdict,
            };
        }
        let row = rows.entry(key).or_default();
        row.requests += 1;
        row.last = Some(now);
    }

    /// What was asked for since `since`, most asked first.
    pub fn snapshot(&self, since: WallTime) -> Vec<Line> {
        let mut lines: Vec<Line> = self
            .lock()
            .iter()
            .filter(|(_, row)| row.last.is_some_and(|last| last >= since))
            .map(|(key, row)| Line {
                caller: key.caller.clone(),
                path: key.path.clone(),
                verdict: key.verdict,
                requests: row.requests,
                last: row.last,
            })
            .collect();
        lines.sort_by(|a, b| {
            let by_count = b.requests.cmp(&a.requests);
            by_count.then_with(|| (&a.path, &a.caller).cmp(&(&b.path, &b.caller)))
        });
        lines
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Row>> {
        // Plain counters: a panic elsewhere cannot leave them half-made.
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an outage would make of a request, by what can be told without judging it.
fn verdict(seen: &Seen<'_>, settings: &Settings) -> Verdict {
    let Some(call) = seen.call else {
        return Verdict::NotModelled;
    };
    if seen.unmodelled {
        return Verdict::NotModelled;
    }
    match &call.kind {
        Kind::AttestedLogin => issuing(seen.peer, settings),
        Kind::Health | Kind::Init | Kind::Leader | Kind::SealStatus | Kind::Mounts(_) => {
            Verdict::Served
        }
        Kind::Login if is_approle(call) => Verdict::Served,
        Kind::Login | Kind::InternalUi | Kind::Wrapping => Verdict::NotModelled,
        Kind::Data => match call.operation {
            _ if !is_read(call.operation) => Verdict::Write,
            _ if !seen.mirrored => Verdict::NotMirrored,
            _ => token(seen),
        },
        _ => token(seen),
    }
}

fn is_read(operation: Operation) -> bool {
    matches!(
        operation,
        Operation::Read | Operation::List | Operation::Scan | Operation::Header
    )
}

fn is_approle(call: &Call) -> bool {
    call.path.as_str() == "auth/approle/login"
}

fn token(seen: &Seen<'_>) -> Verdict {
    if seen.known {
        Verdict::Served
    } else {
        Verdict::UnknownToken
    }
}

fn issuing(peer: &Peer, settings: &Settings) -> Verdict {
    let issues = peer
        .workloads
        .iter()
        .filter_map(|name| settings.workload(name))
        .any(|workload| workload.failover.issue);
    if issues {
        Verdict::Served
    } else {
        Verdict::IssueDisabled
    }
}

/// The path without what differs from request to request: ids of leases, users at a login, overlong tails.
fn template(call: &Call) -> String {
    let path = call.path.as_str();
    let kept = match &call.kind {
        Kind::LeaseRenew => "sys/leases/renew",
        Kind::LeaseRevoke => "sys/leases/revoke",
        Kind::Mounts(_) => "sys/internal/ui/mounts/*",
        Kind::Login => return login(path),
        _ => path,
    };
    let mut end = kept.len().min(LONGEST);
    while !kept.is_char_boundary(end) {
        end -= 1;
    }
    match kept.get(..end) {
        Some(short) if end < kept.len() => format!("{short}*"),
        _ => kept.to_owned(),
    }
}

/// `auth/userpass/login/alice` names a person; the mount is enough.
fn login(path: &str) -> String {
    match path.split_once("/login/") {
        Some((mount, _)) => format!("{mount}/login/*"),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;
    use shared::{
        name::{Namespace, RoleName},
        settings::Bounds,
        workload::{FailoverPolicy, OnFailover, OnRecovery, Workload},
    };

    fn settings(issue: bool) -> Settings {
        Settings {
            namespace: Namespace::default(),
            workloads: vec![Workload {
                name: WorkloadName::parse("orders").unwrap(),
                role: RoleName::parse("orders").unwrap(),
                entity_alias: None,
                auto_token: false,
                failover: FailoverPolicy {
                    issue,
                    ttl: Duration::from_secs(60),
                    max_ttl: Duration::from_secs(60),
                    on_recovery: OnRecovery::Drain,
                    on_failover: OnFailover::Resume,
                },
            }],
            mirrors: Vec::new(),
            bounds: Bounds {
                max_outage: Duration::ZERO,
                authority_max_age: Duration::ZERO,
                token_max_age: Duration::ZERO,
                issue_after_reboot: false,
                max_staleness: Duration::ZERO,
            },
        }
    }

    fn peer() -> Peer {
        Peer {
            uid: 1000,
            unit: None,
            workloads: vec![WorkloadName::parse("orders").unwrap()],
        }
    }

    fn judged(method: &str, target: &str, mirrored: bool, known: bool, issue: bool) -> Verdict {
        let call = Call::parse(method, target).unwrap();
        let seen = Seen {
            peer: &peer(),
            call: Some(&call),
            mirrored,
            unmodelled: false,
            known,
        };
        verdict(&seen, &settings(issue))
    }

    #[test]
    fn a_request_is_judged_by_what_an_outage_would_make_of_it() {
        let data = "/v1/secret/data/a";
        assert_eq!(judged("GET", data, true, true, true), Verdict::Served);
        assert_eq!(
            judged("GET", data, true, false, true),
            Verdict::UnknownToken
        );
        assert_eq!(judged("GET", data, false, true, true), Verdict::NotMirrored);
        assert_eq!(judged("PUT", data, true, true, true), Verdict::Write);
        let login = "/v1/auth/holdover/login";
        assert_eq!(judged("PUT", login, false, false, true), Verdict::Served);
        assert_eq!(
            judged("PUT", login, false, false, false),
            Verdict::IssueDisabled
        );
        let userpass = "/v1/auth/userpass/login/u";
        assert_eq!(
            judged("PUT", userpass, false, false, true),
            Verdict::NotModelled
        );
    }

    #[test]
    fn rows_are_bounded_and_nothing_goes_uncounted() {
        let coverage = Coverage::default();
        for number in 0..ROWS + 10 {
            let call = Call::parse("GET", &format!("/v1/secret/data/{number}")).unwrap();
            let seen = Seen {
                peer: &peer(),
                call: Some(&call),
                mirrored: false,
                unmodelled: false,
                known: true,
            };
            coverage.count(&seen, &settings(true), WallTime::from_secs(5));
        }
        let lines = coverage.snapshot(WallTime::from_secs(5));
        assert_eq!(lines.len(), ROWS + 1);
        assert_eq!((lines[0].path.as_str(), lines[0].requests), (OVERFLOW, 10));
        assert!(coverage.snapshot(WallTime::from_secs(6)).is_empty());
    }

    #[test]
    fn paths_name_no_person_and_no_lease() {
        let path = |target: &str| template(&Call::parse("PUT", target).unwrap());
        assert_eq!(
            path("/v1/auth/userpass/login/alice"),
            "auth/userpass/login/*"
        );
        assert_eq!(
            path("/v1/sys/leases/renew/database/creds/a/xyz"),
            "sys/leases/renew"
        );
        assert_eq!(
            path(&format!("/v1/secret/data/{}", "ä".repeat(300)))
                .chars()
                .last(),
            Some('*')
        );
    }
}
