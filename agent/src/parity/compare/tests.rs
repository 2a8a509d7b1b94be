//! Claims about the task, over a real replica and a primary that answers look-ups.

use std::time::Duration;

use bytes::Bytes;
use shared::{
    api::{Call, RequestNamespace},
    grant::{Grant, Origin},
    name::PolicyName,
    secret::SecretText,
    time::WallTime,
    workload::OnRecovery,
};
use tokio::sync::oneshot;

use super::*;
use crate::{
    parity::lift::{LiftChoice, LiftError},
    samples::{self, bench::Bench},
};

const TOKEN: &str = "s.canary-token";

const ALLOWS: &str = r#"path "sys/capabilities-self" { capabilities = ["update"] }"#;

struct World {
    bench: Bench,
    parity: Parity,
}

/// A primary that answers look-ups, and whose policies have this version.
struct Asked {
    local: Local,
    version: u64,
}

impl Refresh for Asked {
    fn refresh(&self, wanted: Wanted) -> Future<'_, bool> {
        Box::pin(async move {
            let now = self.local.clock.now().steady;
            let tokens = wanted.tokens.into_iter();
            let mut changes: Vec<_> = tokens.map(|token| Change::Proven(token, now)).collect();
            if wanted.authority {
                changes.push(policies(&self.local, self.version));
            }
            let committed = self.local.commit(Lane::Mirror, changes, Expects::default());
            committed.await.is_ok()
        })
    }
}

impl World {
    /// A token of policy `orders`, which allows what is asked: here in its first version, there in this one.
    async fn new(version: u64) -> Self {
        let bench = Bench::new(OnRecovery::Drain);
        let local = bench.local.clone();
        let life = Duration::from_secs(600);
        let grant = Grant {
            digest: local.view.keys().token_digest(TOKEN),
            ..samples::grant(1, Origin::Primary, life, bench.now())
        };
        bench
            .store(vec![Change::Grant(Box::new(grant)), policies(&local, 1)])
            .await;
        let (parity, offers) = Parity::new(0.0, 1);
        let refresh = Arc::new(Asked {
            local: local.clone(),
            version,
        });
        tokio::spawn(run(parity.clone(), offers, local, refresh));
        Self { bench, parity }
    }

    /// The primary answered with `status`.
    fn answered(&self, status: u16) {
        self.answered_as_of(status, self.bench.now().steady);
    }

    /// The same, as a node that had seen what was so then.
    fn answered_as_of(&self, status: u16, as_of: WallTime) {
        self.parity.offer(Offer {
            decision: samples::decision(status, as_of),
            ..self.offer(status)
        });
    }

    /// The request, and that answer to it now.
    fn offer(&self, status: u16) -> Offer {
        Offer {
            call: Call::parse("PUT", "/v1/sys/capabilities-self").unwrap(),
            token: Some(SecretText::new(TOKEN.into())),
            namespace: RequestNamespace::Configured,
            unmodelled: None,
            body: Bytes::from_static(br#"{"path": "sys/mounts"}"#),
            peer: samples::peer(&[]),
            decision: samples::decision(status, self.bench.now().steady),
            answer: None,
            asked_at: self.bench.now(),
            answered_at: self.bench.now(),
        }
    }

    fn quarantined(&self) -> usize {
        self.bench.local.view.authority().quarantines.len()
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        for _ in 0..400 {
            if holds(self) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{what}: {:?}", self.parity.report());
    }

    /// What the ledger says of parity: outcome and policies.
    async fn entries(&self) -> Vec<(String, Vec<PolicyName>)> {
        let (done, read) = oneshot::channel();
        self.bench
            .local
            .sequencer
            .read_ledger(0, 100, move |result| {
                let _ = done.send(result);
            });
        let (entries, _) = read.await.unwrap().unwrap();
        let of_parity = entries.into_iter().map(|chained| chained.entry);
        of_parity
            .filter(|entry| matches!(entry.kind, EntryKind::Parity | EntryKind::Operator))
            .inspect(|entry| assert_eq!(entry.path.as_deref(), Some("sys/capabilities-self")))
            .map(|entry| (entry.outcome, entry.policies))
            .collect()
    }
}

fn policies(local: &Local, version: u64) -> Change {
    let policies = samples::policies("orders", ALLOWS, version, local.clock.now());
    Change::Policies(Box::new(policies))
}

#[tokio::test]
async fn a_policy_that_grants_more_is_quarantined_until_it_is_written_anew_and_agrees() {
    let world = World::new(1).await;
    world.answered(403);
    world
        .until("a quarantine", |world| world.quarantined() == 1)
        .await;
    assert_eq!(world.parity.report().by_kind, [0, 0, 1, 0]);
    assert_eq!(
        world.parity.report().last.unwrap().path,
        "sys/capabilities-self"
    );
    // It is compared from here on, whatever the share.
    let call = Call::parse("PUT", "/v1/sys/capabilities-self").unwrap();
    world
        .until("the watch", |world| world.parity.wants(&call))
        .await;

    // An agreement under the same policies ends nothing.
    world.answered(200);
    world
        .until("a second check", |world| world.parity.report().checked == 2)
        .await;
    assert_eq!(world.quarantined(), 1);

    let written_anew = policies(&world.bench.local, 2);
    world.bench.store(vec![written_anew]).await;
    world.answered(200);
    world
        .until("its end", |world| world.quarantined() == 0)
        .await;
    world
        .until("the watch to end", |world| !world.parity.wants(&call))
        .await;
    let orders = vec![PolicyName::parse("orders").unwrap()];
    assert_eq!(
        world.entries().await,
        [
            ("quarantined".to_owned(), orders.clone()),
            ("lifted".to_owned(), orders)
        ]
    );
}

#[tokio::test]
async fn what_changed_meanwhile_is_settled_by_the_next_request_of_its_kind() {
    let world = World::new(2).await;
    let call = Call::parse("PUT", "/v1/sys/capabilities-self").unwrap();
    assert!(!world.parity.wants(&call));
    world.answered(403);
    world
        .until("it to be left", |world| {
            world.parity.report().unsettled == 1
        })
        .await;
    assert_eq!((world.parity.report().checked, world.quarantined()), (0, 0));
    world
        .until("the watch", |world| world.parity.wants(&call))
        .await;
    world.answered(403);
    world
        .until("a quarantine", |world| world.quarantined() == 1)
        .await;
}

#[tokio::test]
async fn an_answer_that_is_older_than_what_is_known_of_its_token_settles_nothing() {
    let world = World::new(1).await;
    let before = world.bench.now().steady.minus(Duration::from_secs(10));
    world.answered_as_of(403, before);
    world
        .until("it to be left", |world| {
            world.parity.report().unsettled == 1
        })
        .await;
    assert_eq!((world.parity.report().checked, world.quarantined()), (0, 0));
    world.answered_as_of(200, before);
    world
        .until("an agreement", |world| world.parity.report().checked == 1)
        .await;
}

#[tokio::test]
async fn in_an_outage_nothing_is_compared() {
    let world = World::new(1).await;
    world.bench.outage().await;
    world.answered(403);
    world
        .until("it to be dropped", |world| {
            world.parity.report().unsettled == 1
        })
        .await;
    assert_eq!((world.parity.report().checked, world.quarantined()), (0, 0));
}

#[tokio::test]
async fn what_an_operator_lifted_is_quarantined_again_by_new_evidence_alone() {
    let world = World::new(1).await;
    world.answered(403);
    world
        .until("a quarantine", |world| world.quarantined() == 1)
        .await;
    let orders = PolicyName::parse("orders").unwrap();
    let other = lift_of(&world, PolicyName::parse("other").unwrap()).await;
    assert!(matches!(other, Err(LiftError::NotQuarantined(_))));
    // What was answered before the lift is old, though it is judged again after it.
    world.answered(403);
    world
        .until("one that waits", |world| world.parity.report().pending == 1)
        .await;
    let lifted = lift_of(&world, orders).await.unwrap();
    assert_eq!((lifted.len(), world.quarantined()), (1, 0));
    world
        .until("a second check", |world| world.parity.report().checked == 2)
        .await;
    assert_eq!(world.quarantined(), 0);
    world.answered(403);
    world
        .until("a second quarantine", |world| world.quarantined() == 1)
        .await;
    let outcomes: Vec<_> = world
        .entries()
        .await
        .into_iter()
        .map(|(outcome, _)| outcome)
        .collect();
    assert_eq!(outcomes, ["quarantined", "lifted", "quarantined"]);
}

async fn lift_of(world: &World, policy: PolicyName) -> Result<Vec<Arc<Quarantine>>, LiftError> {
    let which = LiftChoice::policy(policy);
    world.parity.lift(&world.bench.local, &which, Some(7)).await
}

/// Each is the primary's word on the same request, and none denies the caller anything that the replica would give.
#[tokio::test]
async fn no_other_refusal_quarantines() {
    for status in [400, 404, 405] {
        let world = World::new(1).await;
        world.answered(status);
        world
            .until("it to wait", |world| world.parity.report().pending == 1)
            .await;
        world
            .bench
            .store(vec![policies(&world.bench.local, 1)])
            .await;
        world
            .until("it to be told", |world| world.parity.report().checked == 1)
            .await;
        assert_eq!(world.quarantined(), 0, "{status}");
    }
}
