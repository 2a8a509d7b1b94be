//! A small world to ask questions in: what the primary had, who asks, and when the outage began.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use shared::{
    change::{Change, Cluster, Mount},
    failover::{Cause, Outage, Phase},
    grant::{Grant, Origin, ReplicaGrant, Settled},
    kv::{KvKey, KvVersion, MirrorState, Record, VersionState},
    name::{
        Accessor, ClusterId, MountAccessor, OutageId, PolicyName, RoleName, TokenDigest,
        WorkloadName,
    },
    secret::SecretBytes,
    settings::{Mirror, MirrorPath, Settings},
    time::{Deadline, WallTime},
    token::{TokenFacts, role::TokenRole},
    workload::{FailoverPolicy, OnFailover, OnRecovery, Peer, PeerId, Workload, WorkloadAuthority},
};

use super::{asked::Ask, likeness::sample};
use crate::{
    key::Keys,
    samples::{self, Seeded, T0, now},
    view::View,
};

/// Seconds after `T0` at which the outage began.
pub(super) const CUTOVER: u64 = 100;

/// Seconds after `T0` at which the questions are asked.
pub(super) const NOW: u64 = 160;

/// The world. Its fields are what tests change before they ask.
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) changes: Vec<Change>,
    pub(super) keys: Keys,
}

impl World {
    /// A primary with policies, mounts and mirrors, and no outage.
    pub(super) fn following() -> Self {
        let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
        let mut settings = Settings::clone(&samples::settings());
        settings.mirrors = vec![
            mirror("secret/data/app/*"),
            mirror("secret/data/sho*"),
            mirror("secret/data/one"),
            mirror("secret/data/never/*"),
            mirror("database/creds/ro"),
        ];
        settings.workloads = vec![workload("orders"), workload("billing")];
        let mut world = Self {
            settings,
            changes: vec![cluster(), policies(), phase(Phase::Following)],
            keys,
        };
        for path in ["secret/data/app/*", "secret/data/sho*", "secret/data/one"] {
            world = world.passed(path, T0);
        }
        world.changes.push(authority("orders", T0));
        world
    }

    /// The same, in an outage that began at [`CUTOVER`].
    pub(super) fn in_outage() -> Self {
        let mut world = Self::following();
        world.changes.push(phase(Phase::Holdover(outage("o-1"))));
        world
    }

    /// The world as the vault sees it.
    pub(super) fn open(self) -> Opened {
        let settings = Arc::new(self.settings);
        let view = View::from_changes(settings, self.keys, self.changes, &Seeded::new(2));
        Opened(view.unwrap())
    }

    /// Something more is so.
    pub(super) fn and(mut self, change: Change) -> Self {
        // The writer puts nothing that was verified before over what was verified later: what is said last is what is known.
        if let Change::Authority(new) = &change {
            let of_another = |known: &Change| !matches!(known, Change::Authority(known) if known.workload == new.workload);
            self.changes.retain(of_another);
        }
        self.changes.push(change);
        self
    }

    pub(super) fn digest(&self, token: &str) -> TokenDigest {
        self.keys.token_digest(token)
    }

    /// A primary token that the replica knows, good for an hour from `T0`.
    pub(super) fn token(self, token: &str, policies: &[&str]) -> Self {
        self.token_as(token, policies, |_| {})
    }

    pub(super) fn token_as(
        mut self,
        token: &str,
        policies: &[&str],
        change: impl FnOnce(&mut Grant),
    ) -> Self {
        let mut grant = Grant {
            digest: self.digest(token),
            accessor: Accessor::parse(&format!("accessor-of-{token}")).unwrap(),
            namespace: Default::default(),
            facts: TokenFacts {
                policies: names(policies),
                ..samples::facts()
            },
            parent: None,
            origin: Origin::Primary,
            peer: None,
            deadline: Deadline::after(Duration::from_secs(3600), now(0)),
            verified_at: T0,
            doubted_at: None,
        };
        change(&mut grant);
        self.changes.push(Change::Grant(Box::new(grant)));
        self
    }

    /// A mirror went through a complete pass.
    pub(super) fn passed(self, path: &str, at: WallTime) -> Self {
        self.passed_with(path, at, false)
    }

    /// The same, with no room for all of it.
    pub(super) fn partly_passed(self, path: &str, at: WallTime) -> Self {
        self.passed_with(path, at, true)
    }

    fn passed_with(mut self, path: &str, at: WallTime, partial: bool) -> Self {
        self.changes.push(Change::Mirror(Box::new(MirrorState {
            path: path.into(),
            mount: kv(),
            verified_at: at,
            fingerprint: "f".into(),
            partial,
        })));
        self
    }

    /// A key below `secret/` with versions 1 to `current`, the last one kept.
    pub(super) fn secret(self, key: &str, current: u64) -> Self {
        self.key(key, current, |_, _| (String::new(), false)).value(
            key,
            current,
            VersionState::Live,
            &body(current),
        )
    }

    pub(super) fn key(
        mut self,
        key: &str,
        current: u64,
        fate: impl Fn(u64, u64) -> (String, bool),
    ) -> Self {
        let versions: Vec<_> = (1..=current)
            .map(|version| (version, fate(version, current)))
            .collect();
        let shown: serde_json::Map<_, _> = versions
            .iter()
            .map(|(version, (deletion_time, destroyed))| {
                let shown = json!({
                    "created_time": CREATED, "deletion_time": deletion_time, "destroyed": destroyed,
                });
                (version.to_string(), shown)
            })
            .collect();
        let known = versions.into_iter().map(|(version, fate)| {
            let (deletion_time, destroyed) = fate;
            let known = KvVersion {
                deletion_time,
                destroyed,
            };
            (version, known)
        });
        self.changes.push(Change::Key(Box::new(KvKey {
            place: samples::place(&format!("secret/data/{key}")),
            current,
            versions: known.collect(),
            metadata:
                json!({"current_version": current, "custom_metadata": null, "versions": shown})
                    .to_string(),
        })));
        self
    }

    pub(super) fn value(self, key: &str, version: u64, state: VersionState, body: &str) -> Self {
        self.value_as(key, version, body, |record| record.state = state)
    }

    pub(super) fn value_as(
        mut self,
        key: &str,
        version: u64,
        body: &str,
        change: impl FnOnce(&mut Record),
    ) -> Self {
        let mut record = samples::record(&format!("secret/data/{key}"), Some(version), T0);
        change(&mut record);
        let body = SecretBytes::new(body.as_bytes().to_vec());
        self.changes
            .push(Change::Record(Box::new(record), Some(body)));
        self
    }
}

/// A view to ask.
pub(super) struct Opened(pub(super) View);

impl Opened {
    pub(super) fn ask<'a>(&'a self, method: &'a str, target: &'a str) -> Ask<'a> {
        Ask::new(&self.0, method, target)
    }

    pub(super) fn digest(&self, token: &str) -> TokenDigest {
        self.0.keys().token_digest(token)
    }
}

/// A replica token.
pub(super) const HO: &str = "ho.0000000000000000000000000000000000000000000";

/// A replica grant of `orders`, issued at [`CUTOVER`], good for 900 s.
pub(super) fn replica(world: World, settled: Settled) -> World {
    world.token_as(HO, &["app", "default"], |grant| {
        grant.peer = Some(identity_of("orders"));
        grant.deadline = Deadline::after(Duration::from_secs(900), now(100));
        grant.origin = Origin::Replica(ReplicaGrant {
            outage: outage("o-1").id,
            issued_at: now(100).steady,
            ttl_ms: 900_000,
            asked_ms: 900_000,
            max_deadline: Deadline::after(Duration::from_secs(1200), now(100)),
            workload_end: Deadline::after(Duration::from_secs(1200), now(100)),
            spared: false,
            of_nobody: false,
            settled,
            approle: None,
        });
    })
}

/// When every version was written.
pub(super) const CREATED: &str = "2026-11-22T11:12:11.883149832Z";

/// The `data` of a version as the primary sends it, with a number that floats would change and an escape.
pub(super) fn body(version: u64) -> String {
    format!(
        "{{\"data\":{{\"n\":12345678901234567000,\"t\":\"a\\u003cb\"}},\"metadata\":{{\"created_time\":\"{CREATED}\",\
         \"custom_metadata\":null,\"deletion_time\":\"\",\"destroyed\":false,\"version\":{version}}}}}"
    )
}

pub(super) fn kv() -> MountAccessor {
    MountAccessor::parse("kv_1").unwrap()
}

pub(super) fn names(names: &[&str]) -> Vec<PolicyName> {
    let parsed = names.iter().map(|name| PolicyName::parse(name).unwrap());
    parsed.collect()
}

pub(super) fn outage(id: &str) -> Outage {
    Outage {
        id: OutageId::parse(id).unwrap(),
        started_at: now(CUTOVER).wall,
        cause: Cause::Unreachable("connection refused".into()),
        bound: Deadline::after(Duration::from_secs(12 * 3600), now(0)),
        latched: false,
    }
}

pub(super) fn phase(phase: Phase) -> Change {
    samples::phase(phase, 7)
}

fn mirror(path: &str) -> Mirror {
    Mirror {
        path: MirrorPath::parse(path),
        interval: Duration::from_secs(30),
        max_staleness: Duration::from_secs(600),
        versions: 1,
        pool: 0,
    }
}

pub(super) fn workload(name: &str) -> Workload {
    Workload {
        name: WorkloadName::parse(name).unwrap(),
        role: RoleName::parse(name).unwrap(),
        entity_alias: None,
        auto_token: true,
        failover: FailoverPolicy {
            issue: true,
            ttl: Duration::from_secs(900),
            max_ttl: Duration::from_secs(7200),
            on_recovery: OnRecovery::Exchange,
            on_failover: OnFailover::Resume,
        },
    }
}

/// What the primary proved of a workload at `at`.
pub(super) fn authority(name: &str, at: WallTime) -> Change {
    authority_as(name, at, |_| {})
}

pub(super) fn authority_as(
    name: &str,
    at: WallTime,
    change: impl FnOnce(&mut WorkloadAuthority),
) -> Change {
    let role = json!({
        "allowed_policies": ["app", "default"], "orphan": true, "renewable": true, "token_type": "default-service",
    });
    let mut authority = WorkloadAuthority {
        workload: WorkloadName::parse(name).unwrap(),
        role_name: RoleName::parse(name).unwrap(),
        role: serde_json::from_value::<TokenRole>(role).unwrap(),
        standing: TokenFacts {
            policies: names(&["app", "default"]),
            ..samples::facts()
        },
        standing_accessor: Accessor::parse(&format!("standing-{name}")).unwrap(),
        standing_expires: T0.plus(Duration::from_secs(3600)),
        verified_at: at,
    };
    change(&mut authority);
    Change::Authority(Box::new(authority))
}

/// The peer that is the workload of that name.
pub(super) fn peer(workload: &str) -> Peer {
    Peer {
        uid: 1000,
        unit: Some(format!("{workload}.service")),
        workloads: vec![WorkloadName::parse(workload).unwrap()],
    }
}

pub(super) fn identity_of(workload: &str) -> PeerId {
    peer(workload)
        .identity(&WorkloadName::parse(workload).unwrap())
        .unwrap()
}

fn policies() -> Change {
    const APP: &str = r#"
        path "secret/data/*" { capabilities = ["read", "list"] }
        path "secret/metadata/*" { capabilities = ["read", "list"] }
        path "secret/data/app/hidden" { capabilities = ["deny"] }
        path "database/creds/*" { capabilities = ["read"] }
        path "auth/token/lookup" { capabilities = ["read", "update"] }
        path "auth/token/lookup-accessor" { capabilities = ["update"] }
        path "sys/capabilities*" { capabilities = ["update"] }
        path "sys/leases/*" { capabilities = ["update"] }"#;
    const PARENT: &str = r#"path "auth/token/*" { capabilities = ["create", "update"] }"#;
    const ADMIN: &str = r#"path "auth/token/*" { capabilities = ["create", "update", "sudo"] }"#;
    const DEFAULT: &str = r#"
        path "auth/token/lookup-self" { capabilities = ["read"] }
        path "auth/token/renew-self" { capabilities = ["update"] }
        path "auth/token/revoke-self" { capabilities = ["update"] }
        path "sys/capabilities-self" { capabilities = ["update"] }"#;
    const PAGED: &str =
        r#"path "secret/metadata/*" { capabilities = ["list"] pagination_limit = 2 }"#;
    const FILTERED: &str = r#"
        path "secret/metadata/*" {
            capabilities = ["list"]
            list_scan_response_keys_filter_path = "seen/{{ .path }}{{ .key }}"
        }
        path "seen/secret/metadata/app/a" { capabilities = ["read"] }
        path "seen/secret/metadata/app/b/" { capabilities = ["list"] }"#;
    const BARE: &str =
        r#"path "secret/data/*" { capabilities = ["read"] denied_parameters = { "*" = [] } }"#;
    let mounted = r#"path "secret/data/{{identity.entity.name}}/*" { capabilities = ["read"] }"#;
    samples::policies(
        &[
            ("admin", ADMIN),
            ("app", APP),
            ("parent", PARENT),
            ("default", DEFAULT),
            ("paged", PAGED),
            ("filtered", FILTERED),
            ("bare", BARE),
            ("named", mounted),
            ("broken", "path {"),
        ],
        T0,
    )
}

fn cluster() -> Change {
    let mut mounts = std::collections::BTreeMap::new();
    let shown = &sample("ui_mounts")["body"]["data"];
    for (below, kind) in [("", "secret"), ("auth/", "auth")] {
        for (at, shown) in shown[kind].as_object().unwrap() {
            mounts.insert(format!("{below}{at}"), mount(shown));
        }
    }
    let mut database = mount(&json!({"type": "database", "accessor": "database_1"}));
    database.version = None;
    mounts.insert("database/".into(), database);
    if let Some(secret) = mounts.get_mut("secret/") {
        secret.accessor = kv();
    }
    Change::Cluster(Box::new(Cluster {
        id: ClusterId::parse("e45a3159-c2fd-9c17-6863-e7233c866512").unwrap(),
        namespace: Default::default(),
        name: "vault-cluster-ee1bcb88".into(),
        version: "2.7.2".into(),
        seal_status: sample("sys_seal_status")["body"].clone(),
        performance_mode: "disabled".into(),
        mounts,
        token_ttls: None,
        verified_at: T0,
    }))
}

fn mount(shown: &Value) -> Mount {
    Mount {
        accessor: MountAccessor::parse(shown["accessor"].as_str().unwrap()).unwrap(),
        kind: shown["type"].as_str().unwrap().into(),
        version: shown["options"]["version"].as_str().map(Into::into),
        shown: shown.clone(),
    }
}
