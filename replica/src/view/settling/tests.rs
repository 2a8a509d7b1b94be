//! What left-over grants come to, with what they hang on.

use std::{sync::Arc, time::Duration};

use shared::{
    approle::Basis,
    change::{Change, PhaseRecord},
    failover::{Cause, Outage, Phase},
    grant::{Origin, ReplicaGrant},
    name::{Accessor, Namespace, OutageId, RoleName, TokenDigest},
    settings::Settings,
    time::Deadline,
    token::role::TokenRole,
    workload::{FailoverPolicy, OnFailover, OnRecovery, PeerId, Workload},
};

use super::*;
use crate::{
    key::Keys,
    samples::{self, Seeded, T0, digest, grant, now},
};

/// The recovery that ended the last outage began then, in seconds after [`T0`].
const FROM: u64 = 200;

/// The outage that left grants behind, and one after it.
const LEFT: &str = "o-1";
const NEXT: &str = "o-2";

fn name(name: &str) -> WorkloadName {
    WorkloadName::parse(name).unwrap()
}

fn workload(named: &str, on_recovery: OnRecovery) -> Workload {
    Workload {
        name: name(named),
        role: RoleName::parse("orders").unwrap(),
        entity_alias: None,
        auto_token: false,
        failover: FailoverPolicy {
            issue: true,
            ttl: Duration::from_secs(900),
            max_ttl: Duration::from_secs(7200),
            on_recovery,
            on_failover: OnFailover::Resume,
        },
    }
}

fn authority(of: &str, at: u64) -> Change {
    let role =
        r#"{"allowed_policies": ["default"], "orphan": true, "token_type": "default-service"}"#;
    Change::Authority(Box::new(WorkloadAuthority {
        workload: name(of),
        role_name: RoleName::parse("orders").unwrap(),
        role: serde_json::from_str::<TokenRole>(role).unwrap(),
        standing: samples::facts(),
        standing_accessor: Accessor::parse(&format!("standing-{of}")).unwrap(),
        standing_expires: now(3600).wall,
        verified_at: now(at).steady,
    }))
}

fn phase(outage: Option<&str>, proven_from: Option<u64>) -> Change {
    let outage = outage.map(|id| Outage {
        id: OutageId::parse(id).unwrap(),
        started_at: now(300).wall,
        cause: Cause::Unreachable("refused".into()),
        bound: Deadline::after(Duration::from_secs(7200), now(0)),
        latched: false,
    });
    Change::Phase(PhaseRecord {
        phase: outage.map_or(Phase::Following, Phase::Holdover),
        epoch: 7,
        proven_from: proven_from.map(|from| now(from).steady),
    })
}

/// Grants and what is known. `keeps` is exchanged, `ends` revoked, `asks` was not verified since; and nothing was said
/// yet of the login behind [`by_login`].
struct World {
    changes: Vec<Change>,
}

impl World {
    fn following() -> Self {
        Self::of(phase(None, Some(FROM)))
    }

    fn of(phase: Change) -> Self {
        let changes = vec![
            phase,
            samples::policies(&[("default", "")], T0),
            authority("keeps", FROM),
            authority("ends", FROM),
            authority("asks", FROM - 1),
        ];
        Self { changes }
    }

    fn and(mut self, grant: Grant) -> Self {
        self.changes.push(Change::Grant(Box::new(grant)));
        self
    }

    /// What the grant of that number comes to.
    fn verdict(self, nr: u64) -> Option<Verdict> {
        let view = self.open();
        let live = view.grant(&digest(nr)).unwrap();
        view.verdict(&view.authority(), &live.grant, now(310))
    }

    fn open(self) -> View {
        let settings = Settings {
            workloads: vec![
                workload("keeps", OnRecovery::Exchange),
                workload("ends", OnRecovery::Revoke),
                workload("asks", OnRecovery::Exchange),
            ],
            ..Settings::clone(&samples::settings())
        };
        let entropy = Seeded::new(1);
        let keys = Keys::ephemeral(&entropy).unwrap();
        View::from_changes(Arc::new(settings), keys, self.changes, &entropy).unwrap()
    }
}

fn issued(nr: u64, of: &str, outage: &str) -> Grant {
    let end = Deadline::after(Duration::from_secs(3600), now(0));
    Grant {
        origin: Origin::Replica(ReplicaGrant {
            outage: OutageId::parse(outage).unwrap(),
            issued_at: now(100).steady,
            ttl_ms: 900_000,
            asked_ms: 900_000,
            max_deadline: end,
            workload_end: end,
            spared: false,
            of_nobody: false,
            settled: Settled::Not,
            approle: None,
        }),
        peer: Some(PeerId {
            workload: name(of),
            uid: 7,
            unit: None,
        }),
        ..grant(nr, 3600)
    }
}

/// Left over, of that workload.
fn left(nr: u64, of: &str) -> Grant {
    issued(nr, of, LEFT)
}

fn below(parent: u64, child: Grant) -> Grant {
    Grant {
        parent: Some(digest(parent)),
        ..child
    }
}

fn by_login(mut grant: Grant) -> Grant {
    if let Origin::Replica(replica) = &mut grant.origin {
        replica.approle = Some(basis());
    }
    grant
}

fn basis() -> Box<Basis> {
    Box::new(Basis {
        role: samples::approle().key,
        secret_id: samples::secret_id().digest,
    })
}

/// A token of the primary's that was proven then.
fn of_primary(nr: u64, proven: u64) -> Grant {
    Grant {
        verified_at: now(proven).steady,
        ..grant(nr, 3600)
    }
}

fn behind() -> Settled {
    Settled::Exchanged(Accessor::parse("behind").unwrap())
}

fn is_exchange(verdict: Option<&Verdict>) -> bool {
    matches!(verdict, Some(Verdict::Fate(Fate::Exchange(..))))
}

fn needs_token(nr: u64) -> Option<Verdict> {
    let needed: TokenDigest = digest(nr);
    Some(Verdict::Needs(Need::Token(needed)))
}

fn needs_workload() -> Option<Verdict> {
    Some(Verdict::Needs(Need::Workload(name("asks"))))
}

fn revoked(cause: RevokeCause) -> Option<Verdict> {
    Some(Verdict::Fate(Fate::Revoke(cause)))
}

#[test]
fn each_goes_by_what_was_proven_of_its_own() {
    let alone = |grant| World::following().and(grant).verdict(1);
    assert!(is_exchange(alone(left(1, "keeps")).as_ref()));
    assert_eq!(alone(left(1, "ends")), revoked(RevokeCause::Recovery));
    assert_eq!(alone(left(1, "asks")), needs_workload());
    assert_eq!(
        alone(left(1, "unconfigured")),
        revoked(RevokeCause::Recovery)
    );
}

#[test]
fn the_topmost_token_of_the_primary_that_is_not_proven_is_asked_about_first() {
    let line = |top: u64, middle: u64, of: &str| {
        World::following()
            .and(of_primary(1, top))
            .and(below(1, left(2, "keeps").settled(behind())))
            .and(Grant {
                verified_at: now(middle).steady,
                ..below(1, left(3, "keeps").settled(behind()))
            })
            .and(below(3, left(4, "keeps")))
            .and(below(4, left(5, of)))
            .verdict(5)
    };
    // Whatever it comes to by itself.
    for of in ["keeps", "ends", "asks"] {
        assert_eq!(line(FROM - 1, FROM - 1, of), needs_token(1), "{of}");
        assert_eq!(line(FROM - 1, FROM, of), needs_token(1), "{of}");
        assert_eq!(line(FROM, FROM - 1, of), needs_token(3), "{of}");
    }
    assert!(is_exchange(line(FROM, FROM, "keeps").as_ref()));
}

#[test]
fn what_its_parent_comes_to_is_its_own() {
    let line = |top: Grant, middle: Grant, own: Grant| {
        let world = World::following().and(top).and(below(1, middle));
        world.and(below(2, own)).verdict(3)
    };
    let keeps = |nr| left(nr, "keeps");
    assert!(is_exchange(line(keeps(1), keeps(2), keeps(3)).as_ref()));
    let parent = revoked(RevokeCause::Parent);
    assert_eq!(line(left(1, "ends"), keeps(2), keeps(3)), parent);
    assert_eq!(line(keeps(1), left(2, "ends"), keeps(3)), parent);
    assert_eq!(line(left(1, "asks"), keeps(2), keeps(3)), needs_workload());
    let login = Some(Verdict::Fate(Fate::Revoke(RevokeCause::Parent)));
    assert_eq!(line(by_login(keeps(1)), keeps(2), keeps(3)), login);
    // The first of them decides.
    assert_eq!(
        line(left(1, "asks"), left(2, "ends"), keeps(3)),
        needs_workload()
    );
    assert_eq!(line(left(1, "ends"), left(2, "asks"), keeps(3)), parent);
    assert_eq!(
        line(left(1, "asks"), keeps(2), left(3, "ends")),
        needs_workload()
    );
    // One that was settled is judged no more.
    let draining = left(1, "ends").settled(Settled::Draining);
    assert!(is_exchange(line(draining, keeps(2), keeps(3)).as_ref()));
}

#[test]
fn a_login_above_it_that_was_not_seen_since_is_its_own_need() {
    let mut proof = samples::secret_id();
    proof.verified_at = now(FROM).steady;
    let mut world = World::following()
        .and(by_login(left(1, "keeps")))
        .and(below(1, left(2, "keeps")));
    world
        .changes
        .push(Change::AppRole(Box::new(samples::approle())));
    world.changes.push(Change::SecretId(Box::new(proof)));
    let needs = Some(Verdict::Needs(Need::Login(basis())));
    assert_eq!(world.verdict(2), needs);
}

#[test]
fn nothing_comes_of_what_is_settled_or_of_the_outage_that_goes_on() {
    let of = |phase: Change, grant: Grant| World::of(phase).and(grant).verdict(1);
    let following = || phase(None, Some(FROM));
    for settled in [Settled::Draining, behind()] {
        assert_eq!(of(following(), left(1, "ends").settled(settled)), None);
    }
    assert_eq!(of(following(), of_primary(1, FROM - 1)), None);
    let next = || phase(Some(NEXT), Some(FROM));
    assert_eq!(of(next(), issued(1, "ends", NEXT)), None);
    assert_eq!(of(next(), left(1, "ends")), revoked(RevokeCause::Recovery));
    assert_eq!(of(next(), left(1, "asks")), needs_workload());
    assert!(is_exchange(of(next(), left(1, "keeps")).as_ref()));
}

#[test]
fn a_grant_of_another_namespace_waits_for_it() {
    let elsewhere = Grant {
        namespace: Namespace::parse("team"),
        ..left(1, "ends")
    };
    assert_eq!(World::following().and(elsewhere).verdict(1), None);
}

#[test]
fn what_hangs_on_one_that_no_longer_stands_falls_with_it_in_a_later_outage_too() {
    let child = |parent: &str| {
        let world = World::of(phase(Some(NEXT), Some(FROM)));
        let world = world.and(left(1, parent));
        world.and(below(1, issued(2, "keeps", NEXT))).verdict(2)
    };
    assert_eq!(child("keeps"), None);
    assert_eq!(child("ends"), revoked(RevokeCause::Parent));
    assert_eq!(child("asks"), needs_workload());
}

#[test]
fn where_no_recovery_is_remembered_nothing_from_before_a_grant_counts() {
    let verified = |at: u64| {
        let mut world = World::of(phase(None, None));
        world
            .changes
            .retain(|known| !matches!(known, Change::Authority(_)));
        world.changes.push(authority("keeps", at));
        world.and(left(1, "keeps")).verdict(1)
    };
    let needs = Some(Verdict::Needs(Need::Workload(name("keeps"))));
    assert_eq!(verified(99), needs);
    assert!(is_exchange(verified(100).as_ref()));
}

#[test]
fn templates_are_those_of_policies_that_are_known() {
    let names = |names: &[&str]| {
        let parsed = names.iter().map(|name| PolicyName::parse(name).unwrap());
        parsed.collect::<Vec<_>>()
    };
    let templated = r#"path "kv/{{identity.entity.id}}" { capabilities = ["read"] }"#;
    let texts = [("plain", ""), ("named", templated), ("broken", "path {")];
    let mut world = World::following();
    let mut policies = samples::policies(&texts, T0);
    if let Change::Policies(set) = &mut policies {
        let unread = [("named", now(7).steady), ("unread", WallTime::EPOCH)];
        let unread = unread.map(|(name, at)| (PolicyName::parse(name).unwrap(), at));
        set.unread.extend(unread);
    }
    world.changes.push(policies);
    let view = world.open();
    let of = |policies: &[&str]| view.authority().are_templated(&names(policies));
    assert_eq!((of(&[]), of(&["plain"])), (Some(false), Some(false)));
    assert_eq!(of(&["plain", "named"]), Some(true));
    // What does not exist says nothing, and what is not known may say anything.
    assert_eq!(of(&["plain", "gone"]), Some(false));
    for unknown in ["broken", "unread"] {
        assert_eq!(of(&["plain", unknown]), Some(true), "{unknown}");
    }
    let read = |name: &str| view.authority().policy_read(&names(&[name])[0]);
    for (name, at) in [("plain", T0), ("gone", T0), ("unread", WallTime::EPOCH)] {
        assert_eq!(read(name), Some(at), "{name}");
    }
    let entropy = Seeded::new(1);
    let nothing = View::new(samples::settings(), Keys::ephemeral(&entropy).unwrap());
    let plain = names(&["plain"]);
    assert_eq!(nothing.authority().are_templated(&plain), None);
    assert_eq!(nothing.authority().policy_read(&plain[0]), None);
}
