//! The replica: a store in a folder of its own, what the primary showed in it, and a clock that is fed from the time
//! that really passes.

use std::sync::Arc;
use std::time::Duration;

use harness::bao::Primary;
use harness::clock::{self, Stopwatch};
use harness::place::Room;
use harness::random::Seeded;
use harness::{Context, Failure, Result};
use replica::entropy::OsEntropy;
use replica::key::slot::{Source, create_file};
use replica::learn::grant_from_lookup;
use replica::sequencer::{Lane, Sequencer, SubmitError};
use replica::store::{Location, OpenError, Replica};
use replica::vault::{Presented, Query, answer};
use replica::view::View;
use serde_json::Value;
use shared::api::{Call, RequestNamespace};
use shared::change::{Change, Cluster, Expects, Mount, PhaseRecord, PolicySet, PolicyText};
use shared::failover::{Cause, Outage, Phase};
use shared::name::{
    Accessor, ClusterId, MountAccessor, Namespace, OutageId, PolicyName, RoleName, WorkloadName,
};
use shared::settings::{Bounds, Settings};
use shared::time::{BootId, BootTime, Deadline, Now, WallTime};
use shared::token::role::ShownRole;
use shared::token::{TokenFacts, TokenKind};
use shared::workload::{FailoverPolicy, OnFailover, OnRecovery, Peer, Workload, WorkloadAuthority};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;

use crate::asked;

/// Policies beside `default`. `ghost` is none, on purpose.
pub(crate) const POLICIES: [(&str, &str); 4] = [
    (
        "alpha",
        r#"path "secret/data/a" { capabilities = ["read"] }"#,
    ),
    (
        "beta",
        r#"path "secret/data/b" { capabilities = ["read"] }"#,
    ),
    (
        "maker",
        r#"path "auth/token/*" { capabilities = ["create", "read", "update"] }"#,
    ),
    (
        "chief",
        r#"path "auth/token/*" { capabilities = ["create", "read", "sudo", "update"] }"#,
    ),
];

/// Longer than any run.
const LONG: Duration = Duration::from_secs(30 * 86_400);

/// Of the sequences, every so manieth has bounds of its own that are shorter than what the primary gives.
const BOUNDED_EVERY: usize = 5;

/// The bounds of a workload's grants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    pub(crate) ttl: Duration,
    pub(crate) max_ttl: Duration,
}

/// The replica.
pub(crate) struct Mirrored {
    view: Arc<View>,
    sequencer: Sequencer,
    clock: Ticking,
    bounds: Vec<Option<Bound>>,
    _room: Room,
}

/// Real time, on all of the replica's clocks.
#[derive(Clone, Copy)]
struct Ticking {
    began: WallTime,
    watch: Stopwatch,
}

impl Ticking {
    fn now(self) -> Now {
        let elapsed = self.watch.elapsed();
        let wall = self.began.plus(elapsed);
        let boot = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        Now {
            wall,
            steady: wall,
            boot: BootTime::from_millis(boot.saturating_add(1_000_000)),
            boot_id: BootId([3; 16]),
        }
    }
}

/// The roles of a sequence, the first of which is that of its workload.
pub(crate) fn roles(nr: usize) -> [String; 2] {
    [format!("s{nr}a"), format!("s{nr}b")]
}

/// The process that plays a sequence.
pub(crate) fn peer(nr: usize) -> Result<Peer> {
    let [workload, _] = roles(nr);
    Ok(Peer {
        uid: 1000,
        unit: None,
        workloads: vec![WorkloadName::parse(&workload)?],
    })
}

impl Mirrored {
    /// A replica with random roles for `count` sequences, as `primary` shows them, in an outage.
    pub(crate) async fn of(
        primary: &Primary,
        random: &mut Seeded,
        count: usize,
    ) -> Result<Mirrored> {
        let wall = i64::try_from(clock::wall().as_millis())?;
        let clock = Ticking {
            began: WallTime::from_millis(wall),
            watch: Stopwatch::start(),
        };
        let now = clock.now();
        let mut changes = vec![cluster(primary, now).await?, policies(primary, now).await?];
        let (mut workloads, mut bounds, mut wanted) = (Vec::new(), Vec::new(), Vec::new());
        for nr in 0..count {
            let bound = (nr % BOUNDED_EVERY == 0).then(|| Bound {
                ttl: Duration::from_secs(4 + random.below(8)),
                max_ttl: Duration::from_secs(8 + random.below(10)),
            });
            bounds.push(bound);
            for name in roles(nr) {
                workloads.push(workload(&name, bound)?);
                wanted.push((name, asked::role(random)));
            }
        }
        for (name, shown) in shown(primary, wanted).await? {
            changes.push(authority(&name, shown, now)?);
        }
        changes.push(Change::Phase(PhaseRecord {
            phase: Phase::Holdover(Outage {
                id: OutageId::parse("o-1")?,
                started_at: now.wall,
                cause: Cause::Unreachable("connection refused".into()),
                bound: Deadline::after(LONG, now),
                latched: false,
            }),
            epoch: 1,
            proven_from: None,
        }));
        let room = Room::make()?;
        let (view, sequencer) = open(&room, settings(workloads), clock).await?;
        let mirrored = Mirrored {
            view,
            sequencer,
            clock,
            bounds,
            _room: room,
        };
        mirrored
            .commit(changes, Expects::default())
            .await
            .map_err(Failure::new)?;
        Ok(mirrored)
    }

    /// Seconds since the run began.
    pub(crate) fn at(&self) -> f64 {
        self.clock.watch.elapsed().as_secs_f64()
    }

    /// The bounds of a sequence's grants, if it has any that count.
    pub(crate) fn bound(&self, nr: usize) -> Option<Bound> {
        self.bounds.get(nr).copied().flatten()
    }

    /// Learns a token of the primary from its look-up.
    pub(crate) async fn learn(&self, token: &str, data: &Value) -> Result<()> {
        let digest = self.view.keys().token_digest(token);
        let data = serde_json::to_vec(data)?;
        let change = grant_from_lookup(&self.view, &digest, &data, None, self.clock.now());
        let change = change.context("a token that is not learned")?;
        let learned = self.commit(vec![change], Expects::default()).await;
        learned.map_err(Failure::new)
    }

    /// What the replica answers, once that is durable.
    pub(crate) async fn ask(
        &self,
        peer: &Peer,
        method: &str,
        path: &str,
        token: &str,
        body: &Value,
    ) -> Result<(u16, Value)> {
        let call = Call::parse(method, &format!("/v1/{path}"))?;
        let body = match body {
            Value::Null => Vec::new(),
            body => serde_json::to_vec(body)?,
        };
        loop {
            let query = Query {
                call: &call,
                presented: Presented::Token(token),
                namespace: &RequestNamespace::Configured,
                unmodelled: None,
                body: &body,
                peer: Some(peer),
                now: self.clock.now(),
            };
            let decided = answer(&self.view, &query, &OsEntropy);
            match self.commit(decided.changes, decided.expects).await {
                Ok(()) => {
                    let (status, body) = (decided.response.status, &decided.response.body);
                    let body = match body.is_empty() {
                        true => Value::Null,
                        false => serde_json::from_slice(body)?,
                    };
                    return Ok((status, body));
                }
                Err(SubmitError::Conflict) => {}
                Err(error) => return Err(Failure::new(error)),
            }
        }
    }

    async fn commit(
        &self,
        changes: Vec<Change>,
        expects: Expects,
    ) -> std::result::Result<(), SubmitError> {
        if changes.is_empty() {
            return Ok(());
        }
        let binds = |change: &Change| matches!(change, Change::Revoked(_) | Change::Phase(_));
        let lane = match changes.iter().any(binds) {
            true => Lane::Revocation,
            false => Lane::Grant,
        };
        let (done, receipt) = oneshot::channel();
        self.sequencer
            .submit(lane, changes, expects, move |result| {
                let _ = done.send(result);
            });
        receipt.await.unwrap_or(Err(SubmitError::Stopped))
    }
}

async fn open(room: &Room, settings: Settings, clock: Ticking) -> Result<(Arc<View>, Sequencer)> {
    let key = room.join("key");
    create_file(&key, &OsEntropy)?;
    let location = Location {
        path: room.join("replica/replica.db"),
        anchor: None,
        ledger_max: 1 << 30,
    };
    let (source, settings) = (Source::File(key), Arc::new(settings));
    Replica::create(&location, &source, &OsEntropy)?;
    // A process that is started at this moment holds every lock between fork and exec.
    let opened = harness::eventually(Duration::from_secs(10), "the replica's lock", async || {
        let sources = [source.clone()];
        match Replica::open(&location, &sources, settings.clone(), Arc::new(OsEntropy)) {
            Err(OpenError::Busy(path)) => Err(path.display().to_string()),
            opened => Ok(opened),
        }
    });
    let opened = opened.await??;
    let view = opened.view.clone();
    Ok((view, opened.start(move || clock.now())?))
}

fn settings(workloads: Vec<Workload>) -> Settings {
    Settings {
        namespace: Namespace::default(),
        workloads,
        mirrors: Vec::new(),
        approle_mounts: Vec::new(),
        bounds: Bounds {
            max_outage: LONG,
            authority_max_age: LONG,
            token_max_age: LONG,
            credential_max_age: LONG,
            policy_max_age: LONG,
            issue_after_reboot: false,
            max_staleness: LONG,
            grants_per_workload: 10_000,
        },
    }
}

fn workload(name: &str, bound: Option<Bound>) -> Result<Workload> {
    Ok(Workload {
        name: WorkloadName::parse(name)?,
        role: RoleName::parse(name)?,
        entity_alias: None,
        auto_token: false,
        failover: FailoverPolicy {
            issue: true,
            ttl: bound.map_or(LONG, |bound| bound.ttl),
            max_ttl: bound.map_or(LONG, |bound| bound.max_ttl),
            on_recovery: OnRecovery::Exchange,
            on_failover: OnFailover::Resume,
        },
    })
}

/// Writes roles, and reads them back.
async fn shown(
    primary: &Primary,
    wanted: Vec<(String, Value)>,
) -> Result<Vec<(String, ShownRole)>> {
    let permits = Arc::new(Semaphore::new(16));
    let mut writing = JoinSet::new();
    for (name, role) in wanted {
        let (root, permits) = (primary.root(), permits.clone());
        writing.spawn(async move {
            let _permit = permits.acquire().await?;
            let path = format!("auth/token/roles/{name}");
            root.write(&path, &role).await?;
            let shown = root.get(&path).await?.data()?;
            Ok::<_, Failure>((name, serde_json::from_value(shown)?))
        });
    }
    writing.join_all().await.into_iter().collect()
}

fn authority(name: &str, role: ShownRole, now: Now) -> Result<Change> {
    // All that is ever asked for, so that the workload stands in the way of nothing that the primary gives.
    let mut policies = Vec::new();
    for name in ["alpha", "beta", "chief", "default", "ghost", "maker"] {
        policies.push(PolicyName::parse(name)?);
    }
    let standing = TokenFacts {
        orphan: true,
        ..TokenFacts::minted(TokenKind::Service, policies, 1, WallTime::from_secs(1))
    };
    Ok(Change::Authority(Box::new(WorkloadAuthority {
        workload: WorkloadName::parse(name)?,
        role_name: RoleName::parse(name)?,
        role: role.into(),
        standing,
        standing_accessor: Accessor::parse(name)?,
        standing_expires: now.wall.plus(LONG),
        verified_at: now.wall,
    })))
}

async fn policies(primary: &Primary, now: Now) -> Result<Change> {
    let detailed = primary
        .root()
        .list("sys/policies/detailed/acl")
        .await?
        .data()?;
    let shown = detailed.get("key_info").and_then(Value::as_object);
    let mut policies = std::collections::BTreeMap::new();
    for (name, shown) in shown.context("no policies")? {
        let text = shown.get("policy").and_then(Value::as_str);
        let policy = PolicyText {
            text: text.unwrap_or_default().to_owned(),
            version: 1,
            allow_slashes: false,
            allow_wildcards: false,
            expiration: None,
        };
        policies.insert(PolicyName::parse(name)?, policy);
    }
    Ok(Change::Policies(Box::new(PolicySet {
        policies,
        unread: std::collections::BTreeMap::new(),
        verified_at: now.wall,
    })))
}

async fn cluster(primary: &Primary, now: Now) -> Result<Change> {
    let root = primary.root();
    let tune = root.get("sys/mounts/auth/token/tune").await?.data()?;
    let seconds = |name: &str| {
        tune.get(name)
            .and_then(Value::as_u64)
            .context(name.to_owned())
    };
    let shown = root.get("sys/auth").await?.data()?;
    let shown = shown.get("token/").cloned().context("no token mount")?;
    let accessor = shown
        .get("accessor")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let mount = Mount {
        accessor: MountAccessor::parse(accessor)?,
        kind: "token".into(),
        version: None,
        shown,
    };
    Ok(Change::Cluster(Box::new(Cluster {
        performance_mode: String::new(),
        id: ClusterId::parse("c")?,
        namespace: Namespace::default(),
        name: String::new(),
        version: String::new(),
        seal_status: Value::Null,
        mounts: [("auth/token/".to_owned(), mount)].into(),
        token_ttls: Some((seconds("default_lease_ttl")?, seconds("max_lease_ttl")?)),
        verified_at: now.wall,
    })))
}
