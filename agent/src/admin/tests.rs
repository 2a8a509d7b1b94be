//! The admin API over its socket, on a real replica.

use std::{collections::BTreeMap, os::unix::fs::PermissionsExt, path::PathBuf, time::Duration};

use replica::sequencer::Lane;
use shared::{
    change::{Change, Expects, RevocationTarget},
    failover::{Outage, Probe, Recovery},
    grant::{Grant, Origin, RevokeCause, Settled},
    ledger::EntryKind,
    name::{Accessor, TokenDigest, WorkloadName},
    time::Now,
    workload::PeerId,
};
use tokio::sync::oneshot;

use super::*;
use crate::{
    admin::client::{AdminClient, AdminClientError},
    driver::{Driver, Edge},
    link::Link,
    parity::Parity,
    ready::prove,
    samples::{
        self,
        bench::{self, Bench},
    },
    serve::{learn_queue::LearnQueue, stats::Stats},
    socket::{BindError, bind_admin},
    status::{DaemonStatus, GrantList, MirrorList, MirrorStatus, Revoked},
    upstream::policy::RuleNeeded,
};

mod asking;
mod counted;

const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon as far as the admin API sees one.
struct World {
    folder: tempfile::TempDir,
    deps: Deps,
    client: AdminClient,
    stop: watch::Sender<bool>,
}

struct FakeMirrors;

struct FakeOwn;

impl OwnControl for FakeOwn {
    fn token(&self) -> OwnSnapshot {
        OwnSnapshot::default()
    }

    fn untrusted(&self) -> Option<TlsFault> {
        None
    }

    fn unidentified(&self) -> Option<TlsFault> {
        None
    }

    fn missing(&self, _settings: &Settings) -> Vec<MissingRight> {
        Vec::new()
    }

    fn missing_rules(&self) -> Pending<'_, Result<Vec<PolicyRule>, UpstreamError>> {
        let rule = PolicyRule {
            path: "sys/mounts".to_owned(),
            capabilities: vec!["read"],
            why: "why",
            needed: RuleNeeded::InOutages,
        };
        Box::pin(std::future::ready(Ok(vec![rule])))
    }
}

impl MirrorControl for FakeMirrors {
    fn statuses(&self) -> Vec<MirrorStatus> {
        vec![MirrorStatus {
            path: "secret/data/shop/*".to_owned(),
            count: 2,
            max_staleness: 60.into(),
            ..MirrorStatus::default()
        }]
    }

    fn failures(&self, _workload: &WorkloadName) -> Vec<String> {
        vec!["the role is gone".to_owned()]
    }

    fn unread(&self) -> Vec<String> {
        vec!["identities could not be read: why".to_owned()]
    }

    fn sync<'a>(
        &'a self,
        path: Option<&'a str>,
    ) -> Pin<Box<dyn Future<Output = Result<(), SyncError>> + Send + 'a>> {
        Box::pin(async move {
            match path {
                None | Some("secret/data/shop/*") => Ok(()),
                Some("kv/broken") => Err(SyncError::Failed("403".to_owned())),
                Some(other) => Err(SyncError::Unknown(other.to_owned())),
            }
        })
    }
}

struct NoEdge;

impl Edge for NoEdge {
    fn probe(&self, _audited: bool) -> Pin<Box<dyn Future<Output = Probe> + Send>> {
        Box::pin(std::future::pending())
    }
    fn recover(&self, _outage: Outage) -> Pin<Box<dyn Future<Output = Recovery> + Send>> {
        Box::pin(std::future::pending())
    }
    fn exhaust(&self) {}
}

const ENTRIES: &str = r#"
[[mirror]]
path = "secret/data/shop/*"
[[workload]]
name = "orders"
match = { uid = 7 }
role = "orders"
failover = { issue = true }
"#;

impl World {
    fn start() -> Self {
        let Bench {
            local,
            config,
            folder,
        } = Bench::with(ENTRIES);
        let (_driver, driver) = Driver::new(config.knobs(), local.clone(), NoEdge);
        let (checks, checked) = watch::channel(Checks::default());
        tokio::spawn(prove::run(
            local.clone(),
            config.replica.path.clone(),
            checks,
        ));
        let socket = config.admin.socket.clone();
        let (parity, _offers) = Parity::new(0.0, 1);
        let clock = Arc::clone(&local.clock);
        let link = Link::new(&config.primary, None, clock).unwrap();
        let deps = Deps {
            local,
            driver,
            addresses: link.addresses().clone(),
            own: Arc::new(FakeOwn),
            mirrors: Arc::new(FakeMirrors),
            config: watch::Sender::new(config).subscribe(),
            checks: checked,
            delivery: watch::Sender::default().subscribe(),
            board: Arc::default(),
            metrics: Arc::new(Metrics::new(
                &Stats::default(),
                LearnQueue::new().0,
                parity.counts(),
            )),
            parity,
            coverage: Arc::default(),
            fills: Arc::new(Vec::new),
        };
        let stop = watch::Sender::new(false);
        let listener = bind_admin(&socket, None).unwrap();
        tokio::spawn(server::serve(listener, deps.clone(), stop.subscribe()));
        Self {
            folder,
            deps,
            client: AdminClient::new(&socket).unwrap(),
            stop,
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("admin.sock")
    }

    fn now(&self) -> Now {
        self.deps.local.clock.now()
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> T {
        self.client.get(path, PATIENCE).await.unwrap()
    }

    /// The status and text of a refusal.
    async fn refused(&self, path: &str, body: &serde_json::Value) -> (u16, String) {
        match self
            .client
            .post::<serde_json::Value>(path, body, PATIENCE)
            .await
        {
            Err(AdminClientError::Refused { status, errors }) => {
                (status.as_u16(), errors.join(" "))
            }
            other => panic!("{other:?}"),
        }
    }

    async fn add(&self, number: u8, origin: Origin, peer: Option<(&str, u32)>) -> Accessor {
        let grant = Grant {
            peer: peer.map(|(workload, uid)| PeerId {
                workload: samples::workload_name(workload),
                uid,
                unit: None,
            }),
            ..samples::grant(number, origin, Duration::from_secs(600), self.now())
        };
        let accessor = grant.accessor.clone();
        let changes = vec![Change::Grant(Box::new(grant))];
        let done = self
            .deps
            .local
            .commit(Lane::Mirror, changes, Expects::default());
        done.await.unwrap();
        accessor
    }

    fn issued(&self, settled: Settled) -> Origin {
        samples::issued(settled, self.now())
    }

    async fn revoke(&self, body: serde_json::Value) -> Revoked {
        let done = self.client.post("/v1/grants/revoke", &body, PATIENCE);
        done.await.unwrap()
    }

    async fn accessors(&self) -> Vec<String> {
        let grants: GrantList = self.get("/v1/grants").await;
        grants
            .grants
            .into_iter()
            .map(|grant| grant.accessor)
            .collect()
    }
}

#[tokio::test]
async fn the_status_has_every_documented_key() {
    let world = World::start();
    let status: BTreeMap<String, serde_json::Value> = world.get("/v1/status").await;
    for key in [
        "state",
        "since",
        "ready",
        "reasons",
        "findings",
        "autonomy_seconds",
        "autonomy_bound_by",
        "outage",
        "addresses",
        "mirrors",
        "grants",
        "pools",
        "parity",
        "drill",
    ] {
        assert!(status.contains_key(key), "{key}: {status:?}");
    }
    assert_eq!(status["state"], "suspect");
    assert_eq!(status["ready"], false);
    assert_eq!(status["outage"], serde_json::Value::Null);
    assert_eq!(status["autonomy_seconds"], 0);
    assert_eq!(
        status["grants"],
        serde_json::json!({"primary": 0, "replica": 0, "unsettled": 0})
    );
    assert_eq!(
        (
            &status["parity"]["checked"],
            &status["parity"]["mismatches"]
        ),
        (&0.into(), &0.into())
    );
    assert_eq!(status["addresses"][0]["address"], "http://127.0.0.1:1");
    let mirror = &status["mirrors"][0];
    assert_eq!(mirror["path"], "secret/data/shop/*");
    assert_eq!(
        (&mirror["count"], &mirror["errors"]),
        (&2.into(), &0.into())
    );
    assert_eq!(mirror["age_seconds"], serde_json::Value::Null);
    assert_eq!(mirror["max_staleness_seconds"], 60);
    let reasons = status["reasons"].to_string();
    assert!(
        reasons.contains("workload orders") && reasons.contains("the role is gone"),
        "{reasons}"
    );
    assert!(status["since"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test]
async fn what_is_on_the_board_is_a_finding() {
    let world = World::start();
    world
        .deps
        .board
        .put("test", vec!["something odd".to_owned()]);
    let status: DaemonStatus = world.get("/v1/status").await;
    assert!(status.findings.contains(&"something odd".to_owned()));
    world.deps.board.put("test", Vec::new());
    let status: DaemonStatus = world.get("/v1/status").await;
    assert!(!status.findings.contains(&"something odd".to_owned()));
}

#[tokio::test]
async fn grants_are_listed_without_their_tokens_and_revoked_by_each_selector() {
    let world = World::start();
    let first = world
        .add(1, world.issued(Settled::Not), Some(("orders", 7)))
        .await;
    world.add(2, Origin::Primary, Some(("orders", 8))).await;
    world.add(3, Origin::Primary, None).await;
    let grants: GrantList = world.get("/v1/grants").await;
    let one = grants
        .grants
        .iter()
        .find(|grant| grant.accessor == first.as_str())
        .unwrap();
    assert_eq!(
        (one.origin.as_str(), one.workload.as_deref(), one.uid),
        ("replica", Some("orders"), Some(7))
    );
    assert_eq!(one.policies, ["orders"]);
    assert!((590..=600).contains(&one.ttl_seconds));
    assert!(
        !serde_json::to_string(&grants).unwrap().contains("0101"),
        "the digest is nobody's business"
    );
    let status: DaemonStatus = world.get("/v1/status").await;
    assert_eq!((status.grants.primary, status.grants.replica), (2, 1));

    let done = world
        .revoke(serde_json::json!({"accessor": "accessor-3"}))
        .await;
    assert_eq!(
        (done.revoked, done.accessors.as_slice()),
        (1, &["accessor-3".to_owned()][..])
    );
    let done = world.revoke(serde_json::json!({"uid": 8})).await;
    assert_eq!(done.accessors, ["accessor-2"]);
    let done = world
        .revoke(serde_json::json!({"workload": "orders"}))
        .await;
    assert_eq!(done.accessors, ["accessor-1"]);
    assert!(world.accessors().await.is_empty());
    let done = world
        .revoke(serde_json::json!({"workload": "orders"}))
        .await;
    assert_eq!(done.revoked, 0);
}

#[tokio::test]
async fn a_revocation_is_durable_has_its_entry_and_reaches_the_primary_s_queue() {
    let world = World::start();
    let behind = Accessor::parse("behind").unwrap();
    world
        .add(
            1,
            world.issued(Settled::Exchanged(behind.clone())),
            Some(("orders", 7)),
        )
        .await;
    world
        .add(2, world.issued(Settled::Not), Some(("orders", 7)))
        .await;
    let body = serde_json::json!({"workload": "orders"});
    let done: Revoked = world
        .client
        .post("/v1/grants/revoke", &body, PATIENCE)
        .await
        .unwrap();
    assert_eq!(done.revoked, 2);

    let (send, entries) = oneshot::channel();
    world
        .deps
        .local
        .sequencer
        .read_ledger(1, 1000, move |read| drop(send.send(read)));
    let (entries, _) = entries.await.unwrap().unwrap();
    let operator = entries
        .iter()
        .filter(|chained| chained.entry.kind == EntryKind::Operator);
    let uid = rustix::process::getuid().as_raw();
    assert_eq!(
        operator
            .filter(|chained| chained.entry.uid == Some(uid))
            .count(),
        2
    );

    let sequencer = world.deps.local.sequencer.clone();
    let config = Arc::clone(&world.deps.config.borrow());
    tokio::task::spawn_blocking(move || sequencer.stop())
        .await
        .unwrap();
    let folder = world.folder;
    // The writer's thread holds the file until the last handle to it is gone.
    drop((world.deps, world.client));
    world.stop.send_replace(true);
    let opened = bench::open(&config, folder.path());
    for number in [1, 2] {
        let revoked = opened.view.revocation(&TokenDigest([number; 32])).unwrap();
        assert_eq!(revoked.cause, RevokeCause::Operator);
    }
    let queued: Vec<_> = opened
        .queue
        .iter()
        .map(|queued| queued.target.clone())
        .collect();
    assert_eq!(queued, [RevocationTarget::Token(behind)]);
}

#[tokio::test]
async fn grants_on_their_way_are_revoked_with_the_others() {
    let world = World::start();
    for number in 0..200 {
        let grant = Grant {
            peer: Some(samples::peer_id()),
            ..samples::grant(
                number,
                Origin::Primary,
                Duration::from_secs(600),
                world.now(),
            )
        };
        let changes = vec![Change::Grant(Box::new(grant))];
        world.deps.local.commit_later(Lane::Grant, changes);
    }
    let done = world.revoke(serde_json::json!({"uid": 7})).await;
    assert_eq!(done.revoked, 200);
    assert!(world.accessors().await.is_empty());
}

#[tokio::test]
async fn what_cannot_be_revoked_is_said_so() {
    let world = World::start();
    world.add(1, Origin::Primary, Some(("orders", 7))).await;
    let path = "/v1/grants/revoke";
    for (body, status, text) in [
        (serde_json::json!({"accessor": "nobody"}), 404, "nobody"),
        (serde_json::json!({"workload": "order"}), 404, "order"),
        (serde_json::json!({}), 400, "exactly one"),
        (
            serde_json::json!({"uid": 7, "workload": "orders"}),
            400,
            "exactly one",
        ),
        (serde_json::json!({"user": "orders"}), 400, "unknown field"),
        (serde_json::json!({"accessor": ""}), 400, "exactly one"),
    ] {
        let (found, said) = world.refused(path, &body).await;
        assert!(
            found == status && said.contains(text),
            "{body}: {found} {said}"
        );
    }
    assert_eq!(world.accessors().await, ["accessor-1"]);
    let sequencer = world.deps.local.sequencer.clone();
    tokio::task::spawn_blocking(move || sequencer.stop())
        .await
        .unwrap();
    let (status, said) = world.refused(path, &serde_json::json!({"uid": 7})).await;
    assert_eq!(status, 503, "{said}");
}

#[tokio::test]
async fn mirrors_are_listed_and_synced() {
    let world = World::start();
    let mirrors: MirrorList = world.get("/v1/mirrors").await;
    assert_eq!(mirrors.mirrors.len(), 1);
    let path = "/v1/mirrors/sync";
    let done: MirrorList = world
        .client
        .post(path, &serde_json::json!({}), PATIENCE)
        .await
        .unwrap();
    assert_eq!(done, mirrors);
    let broken = serde_json::json!({"path": "kv/broken"});
    assert_eq!(world.refused(path, &broken).await.0, 502);
    let unknown = serde_json::json!({"path": "kv/none"});
    assert_eq!(world.refused(path, &unknown).await.0, 404);
}

#[tokio::test]
async fn other_paths_methods_and_sizes_are_refused() {
    let world = World::start();
    let nothing = serde_json::json!({});
    assert_eq!(world.refused("/v1/drill/start", &nothing).await.0, 404);
    assert_eq!(world.refused("/v1/status", &nothing).await.0, 405);
    let large = serde_json::json!({"accessor": "a".repeat(100_000)});
    assert_eq!(world.refused("/v1/grants/revoke", &large).await.0, 413);
    let missing = world
        .client
        .get::<DaemonStatus>("/v1/grants/revoke", PATIENCE)
        .await;
    assert!(matches!(missing, Err(AdminClientError::Refused { status, .. }) if status == 405));
}

#[tokio::test]
async fn metrics_are_served_on_both_doors_and_nothing_else_on_loopback() {
    let world = World::start();
    let request = |path: &str| AdminRequest {
        method: Method::GET,
        path: path.to_owned(),
        query: None,
        body: Bytes::new(),
        uid: None,
    };
    let page = world.deps.answer(&request("/metrics")).await;
    assert_eq!(page.content_type, metrics::CONTENT_TYPE);
    assert!(
        page.body.contains("holdover_state{state=\"suspect\"} 1"),
        "{}",
        page.body
    );
    assert!(page.body.contains("holdover_ready 0"));
    assert_eq!(world.deps.answer_metrics(&request("/metrics")).status, 200);
    assert_eq!(
        world.deps.answer_metrics(&request("/v1/grants")).status,
        404
    );
}

#[tokio::test]
async fn only_the_owner_may_use_the_socket() {
    let world = World::start();
    let mode = world.socket().metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o600);
    let taken = bind_admin(&world.socket(), None);
    assert!(matches!(taken, Err(BindError::InUse { .. })));
    let path = world.folder.path().join("other.sock");
    drop(bind_admin(&path, Some(0)).unwrap());
    assert_eq!(
        path.metadata().unwrap().permissions().mode() & 0o7777,
        0o660
    );
    bind_admin(&path, None).expect("a dead socket is replaced");
    let file = world.folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(
        bind_admin(&file, None),
        Err(BindError::Foreign { .. })
    ));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}
