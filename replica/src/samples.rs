//! Sample values for this crate's tests: small, deterministic, and of every kind that is stored.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use shared::{
    approle::{AppRole, MountFacts, ProofDigest, RoleKey, SecretId},
    block::{BlockCause, IssuingBlock},
    change::{
        Change, Cluster, Credential, CredentialName, Mount, PhaseRecord, PolicySet, PolicyText,
        QueuedRevocation, RevocationTarget,
    },
    coverage::{Caller, Carried, CoverageHour, CoverageKey, CoverageRow, Foretold, Tally},
    failover::{Cause, Outage, Phase},
    grant::{Grant, Origin, Revocation, RevokeCause},
    identity::{Entity, Identity},
    kv::{Doubt, Doubted, Form, KvKey, MirrorState, Place, Record, VersionState},
    lease::{Lease, LeaseHolder},
    name::{
        Accessor, ClusterId, EntityId, LeaseId, MountAccessor, Namespace, OutageId, PolicyName,
        RequestPath, RoleName, TokenDigest, WorkloadName,
    },
    offboarding::Offboarded,
    quarantine::{Quarantine, Quarantined},
    secret::{SecretBytes, SecretText},
    settings::{Bounds, Settings},
    time::{BootId, BootTime, Deadline, Mark, Now, WallTime},
    token::{TokenFacts, TokenKind, role::TokenRole},
    workload::WorkloadAuthority,
};

use crate::entropy::{Entropy, NoEntropy};

/// Randomness that a seed repeats (splitmix64).
pub(crate) struct Seeded(Mutex<u64>);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Mutex::new(seed))
    }
}

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) -> Result<(), NoEntropy> {
        let mut state = self.0.lock().unwrap();
        for chunk in bytes.chunks_mut(8) {
            *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = *state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

pub(crate) const T0: WallTime = WallTime::from_secs(1_800_000_000);

/// The present, `secs` after [`T0`].
pub(crate) fn now(secs: u64) -> Now {
    let wall = T0.plus(Duration::from_secs(secs));
    Now {
        wall,
        steady: wall,
        boot: BootTime::from_millis(1_000_000 + secs * 1000),
        boot_id: BootId([7; 16]),
    }
}

pub(crate) fn settings() -> Arc<Settings> {
    Arc::new(Settings {
        namespace: Namespace::default(),
        workloads: Vec::new(),
        mirrors: Vec::new(),
        approle_mounts: Vec::new(),
        bounds: Bounds {
            max_outage: Duration::from_secs(12 * 3600),
            authority_max_age: Duration::from_secs(900),
            token_max_age: Duration::from_secs(3600),
            credential_max_age: Duration::from_secs(3600),
            policy_max_age: Duration::from_secs(3600),
            issue_after_reboot: false,
            max_staleness: Duration::from_secs(24 * 3600),
            grants_per_workload: 10_000,
        },
    })
}

pub(crate) fn place(path: &str) -> Place {
    Place {
        namespace: Namespace::default(),
        mount: MountAccessor::parse("kv_1").unwrap(),
        path: RequestPath::parse(path).unwrap(),
    }
}

pub(crate) fn record(path: &str, version: Option<u64>, verified_at: WallTime) -> Record {
    Record {
        place: place(path),
        version,
        state: VersionState::Live,
        verified_at,
        covered: true,
        form: Form::default(),
    }
}

/// That what is kept of a key may be superseded.
pub(crate) fn doubted(path: &str, since: WallTime) -> Change {
    Change::Doubted(Doubt {
        of: Doubted::Key(place(path)),
        since,
        vanished: false,
    })
}

/// This policy in quarantine, for a read.
pub(crate) fn quarantine(policy: &str) -> Quarantine {
    Quarantine {
        what: Quarantined::Policy(PolicyName::parse(policy).unwrap()),
        since: T0,
        operation: "read".into(),
        path: "secret/data/shop/db".into(),
        primary: 403,
        replica: 200,
        fields: vec!["status".into()],
        text: Some([3; 32]),
        of_sets: Vec::new(),
    }
}

/// A value with a body.
pub(crate) fn value(path: &str, version: u64, body: &str) -> Change {
    let record = record(path, Some(version), T0);
    Change::Record(Box::new(record), Some(SecretBytes::new(body.into())))
}

pub(crate) fn facts() -> TokenFacts {
    TokenFacts {
        policies: vec![PolicyName::parse("default").unwrap()],
        display_name: "token".into(),
        path: "auth/token/create".into(),
        creation_time: T0.as_secs(),
        creation_ttl: 3600,
        orphan: true,
        renewable: true,
        ..TokenFacts::new(TokenKind::Service)
    }
}

/// A digest that `n` names.
pub(crate) fn digest(n: u64) -> TokenDigest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_le_bytes());
    TokenDigest(bytes)
}

/// A grant that `n` names, good for `secs` after [`T0`].
pub(crate) fn grant(n: u64, secs: u64) -> Grant {
    Grant {
        parent: None,
        digest: digest(n),
        accessor: Accessor::parse(&format!("accessor-{n}")).unwrap(),
        namespace: Namespace::default(),
        facts: facts(),
        origin: Origin::Primary,
        peer: None,
        deadline: Deadline::after(Duration::from_secs(secs), now(0)),
        verified_at: T0,
        doubted_at: None,
    }
}

pub(crate) fn granted(n: u64) -> Change {
    Change::Grant(Box::new(grant(n, 3600)))
}

pub(crate) fn revocation(n: u64, cause: RevokeCause) -> Revocation {
    Revocation {
        digest: digest(n),
        accessor: Accessor::parse(&format!("accessor-{n}")).unwrap(),
        cause,
        at: T0,
    }
}

pub(crate) fn revoked(n: u64) -> Change {
    Change::Revoked(revocation(n, RevokeCause::Operator))
}

pub(crate) fn policies(texts: &[(&str, &str)], verified_at: WallTime) -> Change {
    let policies = texts.iter().map(|(name, text)| {
        let text = PolicyText {
            text: (*text).into(),
            version: 1,
            allow_slashes: false,
            allow_wildcards: false,
            expiration: None,
        };
        (PolicyName::parse(name).unwrap(), text)
    });
    Change::Policies(Box::new(PolicySet {
        policies: policies.collect(),
        unread: BTreeMap::new(),
        verified_at,
    }))
}

pub(crate) fn identity(name: &str) -> Identity {
    Identity {
        entity: Some(Entity {
            id: "entity-1".into(),
            name: name.into(),
            ..Entity::default()
        }),
        groups: Vec::new(),
    }
}

pub(crate) fn mirror(path: &str, verified_at: WallTime) -> Change {
    Change::Mirror(Box::new(MirrorState {
        path: path.into(),
        mount: MountAccessor::parse("kv_1").unwrap(),
        verified_at,
        fingerprint: "f".into(),
        partial: false,
    }))
}

pub(crate) fn phase(phase: Phase, epoch: u64) -> Change {
    Change::Phase(PhaseRecord {
        phase,
        epoch,
        proven_from: None,
    })
}

/// The replica is in charge.
pub(crate) fn outage() -> Change {
    let outage = Outage {
        id: OutageId::parse("outage-1").unwrap(),
        started_at: T0,
        cause: Cause::Operator("test".into()),
        bound: Deadline::after(Duration::from_secs(3600), now(0)),
        latched: false,
    };
    phase(Phase::Holdover(outage), 4)
}

pub(crate) fn lease(id: &str) -> Lease {
    Lease {
        id: LeaseId::parse(id).unwrap(),
        place: place("database/creds/orders"),
        holder: LeaseHolder::Shared,
        detached: Vec::new(),
        answers_reads: true,
        renewable: true,
        granted: 3600,
        issued_at: T0,
        renewed_at: T0,
        deadline: Deadline::after(Duration::from_secs(3600), now(0)),
        verified_at: T0,
    }
}

/// An hour in which two callers asked for something.
pub(crate) fn coverage(start: WallTime) -> CoverageHour {
    let peer = Caller::Peer {
        uid: 1000,
        unit: Some("billing.service".into()),
    };
    let row = |caller: &Caller, verdict, reason: &str| CoverageRow {
        asked: CoverageKey {
            caller: caller.clone(),
            operation: "read".into(),
            path: "secret/data/shop/db".into(),
            verdict,
        },
        tally: Tally {
            requests: 3,
            refused: 1,
            leased: false,
            last: start,
            reason: reason.into(),
        },
    };
    CoverageHour {
        start,
        rows: vec![
            row(&peer, Foretold::UnknownToken, "the token is not known"),
            row(
                &Caller::Workload(WorkloadName::parse("orders").unwrap()),
                Foretold::Served,
                "",
            ),
        ],
        carried: vec![Carried {
            caller: peer,
            role: Some("billing".into()),
            policies: vec!["default".into()],
        }],
    }
}

/// One of everything that is stored.
pub(crate) fn everything() -> Vec<Change> {
    let workload = WorkloadName::parse("orders").unwrap();
    let mount = Mount {
        accessor: MountAccessor::parse("kv_1").unwrap(),
        kind: "kv".into(),
        version: Some("2".into()),
        shown: serde_json::json!({"type": "kv"}),
    };
    vec![
        Change::Cluster(Box::new(Cluster {
            id: ClusterId::parse("c1").unwrap(),
            namespace: Default::default(),
            name: "vault".into(),
            version: "2.7.2".into(),
            seal_status: serde_json::json!({"sealed": false}),
            performance_mode: String::new(),
            mounts: BTreeMap::from([("secret/".into(), mount)]),
            token_ttls: None,
            verified_at: T0,
        })),
        Change::Authority(Box::new(workload_authority())),
        Change::Credential(
            CredentialName::Standing(workload),
            Credential {
                token: SecretText::new("s.standing".into()),
                accessor: Accessor::parse("standing").unwrap(),
                expires: T0.plus(Duration::from_secs(3600)),
                renewable: true,
                issued_at: T0,
            },
        ),
        granted(1),
        granted(2),
        revoked(2),
        Change::Identity(
            EntityId::parse("entity-1").unwrap(),
            Box::new(identity("orders")),
            // As in rows from before it was kept.
            WallTime::EPOCH,
        ),
        Change::Key(Box::new(KvKey {
            place: place("secret/data/shop/db"),
            current: 2,
            versions: BTreeMap::new(),
            metadata: "{}".into(),
        })),
        value("secret/data/shop/db", 1, r#"{"old":1}"#),
        value("secret/data/shop/db", 2, r#"{"new":2}"#),
        mirror("secret/data/shop/*", T0),
        Change::Lease(
            Box::new(lease("database/creds/orders/abc")),
            Some(SecretBytes::new(b"{}".to_vec())),
        ),
        Change::Mark(mark(0)),
        Change::Offboarded(Some(Offboarded { at: T0 })),
        phase(Phase::Following, 3),
        policies(
            &[("default", "path \"a\" { capabilities = [\"read\"] }")],
            T0,
        ),
        Change::Quarantine(Box::new(quarantine("billing"))),
        Change::Block(block(BlockCause::Rebooted)),
        Change::Queue(Box::new(QueuedRevocation::own(
            9,
            RevocationTarget::Lease(LeaseId::parse("database/creds/x/1").unwrap()),
            T0,
        ))),
        Change::AppRole(Box::new(approle())),
        Change::SecretId(Box::new(secret_id())),
        Change::Coverage(Box::new(coverage(T0))),
        doubted("secret/data/shop/db", T0),
    ]
}

/// What the workload `orders` may have.
pub(crate) fn workload_authority() -> WorkloadAuthority {
    WorkloadAuthority {
        workload: WorkloadName::parse("orders").unwrap(),
        role_name: RoleName::parse("orders").unwrap(),
        role: serde_json::from_str::<TokenRole>(ROLE).unwrap(),
        standing: facts(),
        standing_accessor: Accessor::parse("standing").unwrap(),
        standing_expires: T0.plus(Duration::from_secs(3600)),
        verified_at: T0,
    }
}

/// A role at `auth/approle/`.
pub(crate) fn approle() -> AppRole {
    AppRole {
        key: RoleKey {
            mount: MountAccessor::parse("auth_approle_1").unwrap(),
            name: RoleName::parse("ci").unwrap(),
        },
        role_id: ProofDigest([1; 32]),
        facts: serde_json::from_str(APPROLE).unwrap(),
        mount: MountFacts {
            default_lease_ttl: 2_764_800,
            max_lease_ttl: 2_764_800,
            token_type: "default-service".into(),
        },
        mfa: false,
        verified_at: T0,
    }
}

/// A secret id that logs in to it.
pub(crate) fn secret_id() -> SecretId {
    SecretId {
        digest: ProofDigest([2; 32]),
        role: approle().key,
        role_id: ProofDigest([1; 32]),
        accessor: Accessor::parse("secret-id-1").unwrap(),
        metadata: BTreeMap::from([("host".into(), "a".into())]),
        cidrs: Vec::new(),
        token_cidrs: Vec::new(),
        expires: None,
        entity: None,
        identity_policies: Vec::new(),
        login_at: T0,
        verified_at: T0,
        dead: None,
        accepted_from: vec![],
        doubted_at: None,
    }
}

/// As OpenBao 2.7.2 shows a role.
const APPROLE: &str = r#"{"bind_secret_id":true,"local_secret_ids":false,"secret_id_bound_cidrs":null,
    "secret_id_num_uses":0,"secret_id_ttl":0,"token_bound_cidrs":[],"token_explicit_max_ttl":0,"token_max_ttl":1800,
    "token_no_default_policy":false,"token_num_uses":0,"token_period":0,"token_policies":["app"],
    "token_strictly_bind_ip":false,"token_ttl":600,"token_type":"default"}"#;

/// Something that stands against issuing.
pub(crate) fn block(cause: BlockCause) -> IssuingBlock {
    IssuingBlock { cause, since: T0 }
}

pub(crate) fn mark(secs: u64) -> Mark {
    let now = now(secs);
    Mark {
        wall: now.steady,
        boot: now.boot,
        boot_id: now.boot_id,
        ahead: false,
    }
}

const ROLE: &str = r#"{"name":"orders"}"#;
