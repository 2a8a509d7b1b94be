//! Facts for tests, each built in one place: the workload `orders`, and what a replica may know of it.

pub(crate) mod bench;
pub(crate) mod scripted;

use std::{path::Path, path::PathBuf, time::Duration};

use shared::{
    api::Call,
    change::{PolicySet, PolicyText},
    failover::{Cause, Outage},
    grant::{Grant, Origin, ReplicaGrant, Settled},
    kv::Place,
    lease::{Lease, LeaseHolder},
    name::{
        Accessor, LeaseId, MountAccessor, Namespace, OutageId, PolicyName, RequestPath, RoleName,
        TokenDigest, WorkloadName,
    },
    provenance::{ClusterShown, Comparable, Evidence, Provenance, Question, TokenUsed},
    settings::{Bounds, Mirror, MirrorPath, Settings},
    time::{BootId, BootTime, Deadline, Now, WallTime},
    token::{TokenFacts, TokenKind},
    workload::{FailoverPolicy, OnFailover, OnRecovery, Peer, PeerId, Workload},
};

use crate::config::{self, Address, Config};

const HOUR: Duration = Duration::from_secs(3600);

/// So many seconds into the time of the tests.
pub(crate) fn at(secs: u64) -> Now {
    at_millis(secs * 1000)
}

/// The same moment by a wall clock that stepped a day forward, and was not confirmed.
pub(crate) fn ahead(now: Now) -> Now {
    let wall = now.wall.plus(24 * HOUR);
    Now { wall, ..now }
}

pub(crate) fn at_millis(millis: u64) -> Now {
    let wall = WallTime::from_secs(1_000_000).plus(Duration::from_millis(millis));
    Now {
        wall,
        steady: wall,
        boot: BootTime::from_millis(millis),
        boot_id: BootId([7; 16]),
    }
}

/// `[limits]` with its defaults.
pub(crate) fn limits() -> config::LimitsConfig {
    config::LimitsConfig {
        connections: 1024,
        connections_per_uid: 256,
        requests_per_second_per_uid: 5000,
        request_size: 1 << 20,
        unfinished_bytes: 64 << 20,
        forwards: 512,
        grants_per_workload: 10_000,
        login_failures_per_minute_per_uid: 30,
    }
}

pub(crate) fn orders() -> WorkloadName {
    workload_name("orders")
}

pub(crate) fn workload_name(name: &str) -> WorkloadName {
    WorkloadName::parse(name).unwrap()
}

/// A process of uid 7 that these entries match.
pub(crate) fn peer(workloads: &[&str]) -> Peer {
    Peer {
        uid: 7,
        unit: None,
        workloads: workloads.iter().map(|name| workload_name(name)).collect(),
    }
}

/// A process of uid 7 that is `orders`.
pub(crate) fn peer_id() -> PeerId {
    PeerId {
        workload: orders(),
        uid: 7,
        unit: None,
    }
}

/// A service token of the policy `orders`, which lives for a minute.
pub(crate) fn token_facts() -> TokenFacts {
    TokenFacts {
        policies: vec![PolicyName::parse("orders").unwrap()],
        display_name: "token".into(),
        path: "auth/token/create/orders".into(),
        creation_ttl: 60,
        orphan: true,
        renewable: true,
        ..TokenFacts::new(TokenKind::Service)
    }
}

/// A grant of nobody in particular, verified now, `left` from its end. Its digest is made of `nr`.
pub(crate) fn grant(nr: u8, origin: Origin, left: Duration, now: Now) -> Grant {
    Grant {
        parent: None,
        digest: TokenDigest([nr; 32]),
        accessor: Accessor::parse(&format!("accessor-{nr}")).unwrap(),
        namespace: Namespace::default(),
        facts: token_facts(),
        origin,
        peer: None,
        deadline: Deadline::after(left, now),
        verified_at: now.steady,
        doubted_at: None,
    }
}

/// Issued by the replica in [`outage`].
pub(crate) fn issued(settled: Settled, now: Now) -> Origin {
    Origin::Replica(ReplicaGrant {
        outage: OutageId::parse("o1").unwrap(),
        issued_at: now.steady,
        ttl_ms: 60_000,
        asked_ms: 60_000,
        max_deadline: Deadline::after(Duration::from_secs(600), now),
        workload_end: Deadline::after(Duration::from_secs(600), now),
        spared: false,
        of_nobody: false,
        settled,
        approle: None,
    })
}

/// Begins now, and lasts an hour at most.
pub(crate) fn outage(now: Now) -> Outage {
    Outage {
        id: OutageId::parse("o1").unwrap(),
        started_at: now.steady,
        cause: Cause::Unreachable("refused".into()),
        bound: Deadline::after(HOUR, now),
        latched: false,
    }
}

/// Where a key of a KV mount lives.
pub(crate) fn kv_place(path: &str) -> Place {
    Place {
        namespace: Namespace::default(),
        mount: MountAccessor::parse("kv_1").unwrap(),
        path: RequestPath::parse(path).unwrap(),
    }
}

/// Of `database/creds/x`, verified now, `left` from its end.
pub(crate) fn lease(nr: u8, holder: LeaseHolder, left: Duration, now: Now) -> Lease {
    Lease {
        id: LeaseId::parse(&format!("database/creds/x/{nr}")).unwrap(),
        place: Place {
            namespace: Namespace::default(),
            mount: MountAccessor::parse("database_1").unwrap(),
            path: RequestPath::parse("database/creds/x").unwrap(),
        },
        holder,
        detached: Vec::new(),
        answers_reads: true,
        renewable: true,
        granted: left.as_secs(),
        issued_at: now.steady,
        renewed_at: now.steady,
        deadline: Deadline::after(left, now),
        verified_at: now.steady,
    }
}

/// One policy, verified now.
pub(crate) fn policies(name: &str, text: &str, version: u64, now: Now) -> PolicySet {
    let text = PolicyText {
        text: text.into(),
        version,
        allow_slashes: false,
        allow_wildcards: false,
        expiration: None,
    };
    PolicySet {
        policies: [(PolicyName::parse(name).unwrap(), text)].into(),
        unread: [].into(),
        verified_at: now.steady,
    }
}

/// The workloads `orders` and `billing`, and these mirrors.
pub(crate) fn settings(mirrors: &[&str]) -> Settings {
    let workload = |name: &str| Workload {
        name: workload_name(name),
        role: RoleName::parse(name).unwrap(),
        entity_alias: None,
        auto_token: true,
        failover: FailoverPolicy {
            issue: true,
            ttl: Duration::from_secs(900),
            max_ttl: 2 * HOUR,
            on_recovery: OnRecovery::Exchange,
            on_failover: OnFailover::Resume,
        },
    };
    let mirror = |path: &&str| Mirror {
        path: MirrorPath::parse(path),
        interval: Duration::from_secs(30),
        max_staleness: HOUR,
        versions: 1,
        pool: 0,
    };
    Settings {
        namespace: Namespace::default(),
        workloads: vec![workload("orders"), workload("billing")],
        mirrors: mirrors.iter().map(mirror).collect(),
        approle_mounts: Vec::new(),
        bounds: Bounds {
            max_outage: 12 * HOUR,
            authority_max_age: Duration::from_secs(900),
            token_max_age: HOUR,
            credential_max_age: HOUR,
            policy_max_age: HOUR,
            issue_after_reboot: false,
            max_staleness: 24 * HOUR,
            grants_per_workload: 10_000,
        },
    }
}

/// `[primary]` with these addresses.
pub(crate) fn primary_config(addresses: &[Address]) -> config::PrimaryConfig {
    config::PrimaryConfig {
        addresses: addresses.to_vec(),
        ca_file: None,
        namespace: Namespace::default(),
        connect_timeout: Duration::from_millis(500),
        read_deadline: Duration::from_millis(300),
        requests_per_second: 50,
        token_check_interval: Duration::from_secs(300),
        auth: config::AuthConfig {
            mount: "approle".into(),
            method: config::AuthMethod::TokenFile {
                path: PathBuf::from("/nowhere"),
            },
        },
    }
}

/// A configuration whose files all lie in `folder`, with `more` in it.
pub(crate) fn config(folder: &Path, more: &str) -> Config {
    let text = format!(
        r#"
[primary]
addresses = ["http://127.0.0.1:1"]
[primary.auth]
method = "token_file"
path = "/token"
[replica]
path = "{0}/replica.db"
[[replica.key]]
source = "file"
path = "{0}/key/key"
[listener]
socket = "{0}/holdover.sock"
[admin]
socket = "{0}/admin.sock"
{more}"#,
        folder.display()
    );
    Config::parse(&text, &folder.join("holdover.toml")).unwrap_or_else(|error| panic!("{error}"))
}

/// The entry of `orders`, which recovers like this.
pub(crate) fn orders_entry(on_recovery: OnRecovery) -> String {
    let on_recovery = match on_recovery {
        OnRecovery::Drain => "drain",
        OnRecovery::Exchange => "exchange",
        OnRecovery::Revoke => "revoke",
    };
    format!(
        r#"
[[workload]]
name = "orders"
match = {{ uid = 7 }}
role = "orders"
failover = {{ issue = true, on_recovery = "{on_recovery}" }}
"#
    )
}

/// A decision of the primary of this status that the replica's may be compared with, current up to `as_of`.
pub(crate) fn decision(status: u16, as_of: WallTime) -> Comparable {
    let call = Call::parse("GET", "/v1/secret/data/a").unwrap();
    let asked = Question {
        call: &call,
        token: TokenUsed::Callers,
        mirrored_namespace: true,
        asks_for_token: true,
        body: Some(b""),
        reads_alike: true,
    };
    let provenance = Provenance {
        cluster: ClusterShown::Pinned,
        as_of: Some(as_of),
    };
    let answer = Evidence::new(asked, provenance, status);
    let denied = br#"{"errors":["1 error occurred:\n\t* permission denied\n\n"]}"#;
    answer.whole(denied).comparable().unwrap()
}
