//! Claims about what is settled before it is used again, on a real replica and a scripted primary.

use shared::{
    approle::{Basis, ProofDigest, RoleKey},
    change::{Change, CredentialName, RevocationTarget},
    failover::Outage,
    grant::{Grant, Origin, Settled},
    identity::{Entity, Identity},
    name::{EntityId, MountAccessor, OutageId, PolicyName, RoleName},
    workload::OnRecovery,
};

use super::*;
use crate::samples::{
    bench::Bench,
    policies,
    scripted::{self, Said, Scripted},
};

const MINUTE: Duration = Duration::from_secs(60);

/// Longer than any of this takes.
const LONG: Duration = Duration::from_secs(30);

/// A budget that nothing here waits for.
const AMPLE: u32 = 100_000;

/// A replica with these grants, the last used last, that is following again.
async fn left_with(used: &[u8], unused: &[u8]) -> Bench {
    let bench = Bench::new(OnRecovery::Exchange);
    bench.outage().await;
    let all = used.iter().chain(unused);
    let grants = all.map(|nr| Change::Grant(Box::new(bench.grant(*nr, MINUTE))));
    bench.store(grants.collect()).await;
    bench.following().await;
    let now = bench.now().steady;
    for (before, nr) in used.iter().rev().enumerate() {
        let before = Duration::from_secs(u64::try_from(before).unwrap());
        let view = &bench.local.view;
        view.used(&TokenDigest([*nr; 32]), 7, now.minus(before));
    }
    let authority = Change::Authority(Box::new(bench.authority()));
    bench.store(vec![authority]).await;
    bench
}

fn settler(bench: &Bench, primary: &Arc<Scripted>) -> Settler<Scripted> {
    Settler::new(bench.local.clone(), Arc::clone(primary))
}

async fn look(bench: &Bench, primary: &Arc<Scripted>, tried: &mut Retries) {
    let settler = settler(bench, primary);
    settle_some(&bench.local, primary.as_ref(), &settler, tried, &|| AMPLE).await;
}

#[tokio::test]
async fn what_was_used_last_comes_first_and_what_was_never_used_never() {
    let bench = left_with(&[3, 1, 2], &[4, 5]).await;
    let primary = Arc::new(Scripted::new(&bench.local));
    let mut tried = Retries::default();
    for _ in 0..3 {
        look(&bench, &primary, &mut tried).await;
    }
    let behind = [(2, 1), (1, 2), (3, 3)];
    for (grant, minted) in behind {
        let settled = Settled::Exchanged(scripted::minted(minted));
        assert_eq!(bench.settled(grant), Some(settled), "{grant}");
    }
    for unused in [4, 5] {
        assert_eq!(bench.settled(unused), Some(Settled::Not));
    }
    assert_eq!(primary.times("mint"), 3);
}

#[tokio::test]
async fn one_that_cannot_be_settled_holds_up_no_other_and_waits() {
    for said in [Said::Status(403), Said::Status(429), Said::Lost] {
        let bench = left_with(&[1, 2], &[]).await;
        // The one used last hangs on a token that nothing is said of.
        let above = Grant {
            origin: Origin::Primary,
            verified_at: bench.now().steady.minus(MINUTE),
            ..bench.grant(9, MINUTE)
        };
        let hangs = Grant {
            parent: Some(above.digest),
            ..bench.grant(2, MINUTE)
        };
        let both = [above, hangs].map(|grant| Change::Grant(Box::new(grant)));
        bench.store(both.into()).await;
        let primary = Arc::new(Scripted::new(&bench.local));
        primary.says("token", said);
        let mut tried = Retries::default();
        for _ in 0..3 {
            look(&bench, &primary, &mut tried).await;
        }
        let settled = Settled::Exchanged(scripted::minted(1));
        assert_eq!(bench.settled(1), Some(settled), "{said:?}");
        assert_eq!(bench.settled(2), Some(Settled::Not), "{said:?}");
        assert_eq!(primary.times("token"), 1, "{said:?}");
    }
}

#[tokio::test]
async fn one_that_hangs_holds_up_no_other() {
    let bench = left_with(&[1, 2], &[]).await;
    let hangs = Grant {
        parent: Some(TokenDigest([9; 32])),
        ..bench.grant(2, MINUTE)
    };
    let above = Grant {
        origin: Origin::Primary,
        verified_at: bench.now().steady.minus(MINUTE),
        ..bench.grant(9, MINUTE)
    };
    let both = [above, hangs].map(|grant| Change::Grant(Box::new(grant)));
    bench.store(both.into()).await;
    let primary = Arc::new(Scripted::new(&bench.local));
    primary.says("token", Said::Hangs);
    let mut tried = Retries::default();
    let looking = look(&bench, &primary, &mut tried);
    timeout(LONG, looking).await.unwrap();
    let settled = Settled::Exchanged(scripted::minted(1));
    assert_eq!(bench.settled(1), Some(settled));
}

#[tokio::test]
async fn no_more_than_some_are_taken_at_a_look() {
    let many: Vec<u8> = (1..=100).collect();
    let bench = left_with(&many, &[]).await;
    let primary = Arc::new(Scripted::new(&bench.local));
    let mut tried = Retries::default();
    look(&bench, &primary, &mut tried).await;
    assert_eq!(primary.times("mint"), AT_A_LOOK);
    // Others may have been used by then.
    let used = bench.now().steady.plus(MINUTE);
    bench.local.view.used(&TokenDigest([1; 32]), 7, used);
    let due = tried.due(&bench.local.view.grants(), bench.now());
    assert_eq!(due[0], TokenDigest([1; 32]));
}

#[tokio::test]
async fn nothing_is_settled_ahead_in_an_outage() {
    let bench = left_with(&[1], &[]).await;
    let outage = Outage {
        id: OutageId::parse("o2").unwrap(),
        ..crate::samples::outage(bench.now())
    };
    bench.enter(Phase::Holdover(outage)).await;
    let primary = Arc::new(Scripted::new(&bench.local));
    look(&bench, &primary, &mut Retries::default()).await;
    assert!(primary.questions().is_empty());
}

#[test]
fn what_is_tried_again_is_bounded_by_what_is_unsettled() {
    let mut tried = Retries::default();
    for nr in 0..100 {
        tried.failed(TokenDigest([nr; 32]), BootTime::from_millis(0));
    }
    let now = crate::samples::at(1);
    assert!(tried.due(&[], now).is_empty());
    assert!(tried.0.is_empty());
}

fn entity() -> EntityId {
    EntityId::parse("e-1").unwrap()
}

fn identity(policies: &[&str], disabled: bool) -> Identity {
    Identity {
        entity: Some(Entity {
            id: "e-1".into(),
            policies: policies.iter().map(|name| (*name).to_owned()).collect(),
            disabled,
            ..Entity::default()
        }),
        groups: Vec::new(),
    }
}

/// A grant of an AppRole login that was exchanged without its entity, which had the policy `of-entity`.
async fn exchanged_without_its_entity() -> Bench {
    let bench = Bench::new(OnRecovery::Exchange);
    bench.outage().await;
    let behind = Settled::Exchanged(scripted::minted(1));
    let mut grant = bench.grant(1, MINUTE).settled(behind);
    grant.facts.entity_id = Some(entity());
    grant.facts.identity_policies = vec![PolicyName::parse("of-entity").unwrap()];
    if let Origin::Replica(replica) = &mut grant.origin {
        replica.approle = Some(Box::new(Basis {
            role: RoleKey {
                mount: MountAccessor::parse("auth_approle_1").unwrap(),
                name: RoleName::parse("ci").unwrap(),
            },
            secret_id: ProofDigest([2; 32]),
        }));
    }
    let stands = identity(&["of-entity"], false);
    let at = bench.now().steady;
    bench
        .store(vec![
            Change::Grant(Box::new(grant)),
            Change::Identity(entity(), Box::new(stands), at),
        ])
        .await;
    bench.following().await;
    bench
}

#[tokio::test]
async fn an_entity_that_is_not_what_it_was_ends_the_grant_that_was_exchanged_without_it() {
    for (now_is, ends) in [
        (identity(&["of-entity"], false), false),
        (identity(&["of-entity"], true), true),
        (identity(&["of-entity", "more"], false), true),
        (identity(&[], false), true),
        (Identity::default(), true),
    ] {
        let bench = exchanged_without_its_entity().await;
        let at = bench.now().steady;
        let changed = Change::Identity(entity(), Box::new(now_is.clone()), at);
        bench.store(vec![changed]).await;
        end_outlived(&bench.local, false).await;
        assert_eq!(bench.settled(1).is_none(), ends, "{now_is:?}");
        let queue = bench.local.view.queue();
        let queued: Vec<_> = queue.iter().map(|one| one.target.clone()).collect();
        let token = RevocationTarget::Token(scripted::minted(1));
        let expected: &[_] = if ends { &[token] } else { &[] };
        assert_eq!(queued, expected, "{now_is:?}");
        // Once.
        end_outlived(&bench.local, false).await;
        assert_eq!(bench.local.view.queue().len(), queued.len());
        let name = CredentialName::Exchanged(TokenDigest([1; 32]));
        assert!(bench.local.view.credential(&name).is_none());
    }
}

#[tokio::test]
async fn a_policy_that_comes_to_name_the_entity_ends_the_grant_that_was_exchanged_without_it() {
    let bench = exchanged_without_its_entity().await;
    let (now, mut held) = (bench.now(), HeldAgainst::default());
    for (path, ends) in [("kv/a", false), ("kv/{{identity.entity.id}}", true)] {
        let text = format!("path {path:?} {{ capabilities = [\"deny\"] }}");
        let mut set = policies("orders", &text, 1, now);
        set.policies
            .extend(policies("of-entity", "", 1, now).policies);
        bench.store(vec![Change::Policies(Box::new(set))]).await;
        end_outlived(&bench.local, held.were_read_anew(&bench.local)).await;
        assert_eq!(bench.settled(1).is_none(), ends, "{path}");
        assert!(!held.were_read_anew(&bench.local), "{path}");
    }
    assert_eq!(bench.local.view.queue().len(), 1);
}

#[tokio::test]
async fn values_are_brought_up_to_date_once_for_each_return() {
    let bench = left_with(&[1], &[]).await;
    let primary = Arc::new(Scripted::new(&bench.local));
    let (local, settler) = (bench.local.clone(), settler(&bench, &primary));
    let running = tokio::spawn(run(local, Arc::clone(&primary), settler, || AMPLE));
    let settled = Settled::Exchanged(scripted::minted(1));
    eventually(|| bench.settled(1) == Some(settled.clone())).await;
    let outage = crate::samples::outage(bench.now());
    assert_eq!(primary.times("values"), 1);
    bench.enter(Phase::Holdover(outage)).await;
    bench.following().await;
    eventually(|| primary.times("values") == 2).await;
    running.abort();
    assert_eq!(primary.times("mint"), 1);
}

/// Until it holds.
async fn eventually(holds: impl Fn() -> bool) {
    let reached = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, reached).await.unwrap();
}
