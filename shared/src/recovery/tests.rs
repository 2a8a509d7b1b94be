//! Claims about settling.

use alloc::{boxed::Box, collections::BTreeMap, string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    approle::MountFacts,
    grant::Origin,
    identity::{Entity, Group},
    name::{Accessor, MountAccessor, Namespace, RoleName},
    samples::{self, names},
    settings::Bounds,
    time::Deadline,
    token::{TokenFacts, TokenKind, role::TokenRole},
    workload::{FailoverPolicy, OnFailover, PeerId},
};

mod login;
mod properties;

/// When the recovery began. What was proven then or later counts.
const SINCE: i64 = 1_000_000;

/// Seconds after [`SINCE`].
fn at(secs: i64) -> WallTime {
    WallTime::from_secs(SINCE + secs)
}

fn now() -> Now {
    samples::now(SINCE + 10)
}

fn name() -> WorkloadName {
    WorkloadName::parse("orders").unwrap()
}

fn entity(id: &str) -> EntityId {
    EntityId::parse(id).unwrap()
}

fn facts(policies: &[&str]) -> TokenFacts {
    TokenFacts {
        policies: names(policies),
        display_name: String::from("token"),
        path: String::from("auth/token/create/orders"),
        orphan: true,
        renewable: true,
        ..TokenFacts::new(TokenKind::Service)
    }
}

/// A grant of the workload, which has that many seconds left.
fn grant(policies: &[&str], left: u64) -> Grant {
    let max = Deadline::after(Duration::from_secs(7200), now());
    Grant {
        facts: facts(policies),
        peer: Some(PeerId {
            workload: name(),
            uid: 7,
            unit: None,
        }),
        deadline: Deadline::after(Duration::from_secs(left), now()),
        ..samples::issued(Duration::from_secs(60), max, now())
    }
}

fn of_entity(mut grant: Grant, id: &str) -> Grant {
    grant.facts.entity_id = Some(entity(id));
    grant
}

fn settings(on_recovery: OnRecovery) -> Settings {
    let workload = Workload {
        name: name(),
        role: RoleName::parse("orders").unwrap(),
        entity_alias: None,
        auto_token: false,
        failover: FailoverPolicy {
            issue: true,
            ttl: Duration::from_secs(60),
            max_ttl: Duration::from_secs(600),
            on_recovery,
            on_failover: OnFailover::Resume,
        },
    };
    Settings {
        namespace: Namespace::default(),
        workloads: vec![workload],
        mirrors: vec![],
        approle_mounts: Vec::new(),
        bounds: Bounds {
            max_outage: Duration::from_secs(3600),
            authority_max_age: Duration::from_secs(900),
            token_max_age: Duration::from_secs(3600),
            credential_max_age: Duration::from_secs(3600),
            policy_max_age: Duration::from_secs(3600),
            issue_after_reboot: false,
            max_staleness: Duration::from_secs(3600),
            grants_per_workload: 10_000,
        },
    }
}

fn authority(policies: &[&str]) -> WorkloadAuthority {
    WorkloadAuthority {
        workload: name(),
        role_name: RoleName::parse("orders").unwrap(),
        role: TokenRole {
            allowed_policies: names(policies),
            allowed_policies_glob: vec![],
            disallowed_policies: vec![],
            disallowed_policies_glob: vec![],
            orphan: true,
            path_suffix: String::new(),
            renewable: true,
            token_type: String::from("default-service"),
            token_period: 0,
            token_explicit_max_ttl: 0,
            token_no_default_policy: false,
            token_num_uses: 0,
            token_bound_cidrs: vec![],
            allowed_entity_aliases: vec![],
        },
        standing: facts(policies),
        standing_accessor: Accessor::parse("st").unwrap(),
        standing_expires: now().steady,
        verified_at: at(0),
    }
}

/// What is known, as tests change it.
#[derive(Clone)]
struct Known {
    workload: Option<WorkloadAuthority>,
    role: Option<AppRole>,
    proof: Option<SecretId>,
    identities: BTreeMap<EntityId, (Identity, WallTime)>,
    /// None where the policies are not known.
    templated: Option<Vec<PolicyName>>,
    /// When policies were last read, but for these.
    read: WallTime,
    unread: Vec<PolicyName>,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            workload: None,
            role: None,
            proof: None,
            identities: BTreeMap::new(),
            templated: Some(Vec::new()),
            read: at(0),
            unread: Vec::new(),
        }
    }
}

impl Known {
    /// The workload's role gives these policies.
    fn of(policies: &[&str]) -> Self {
        Self {
            workload: Some(authority(policies)),
            ..Self::default()
        }
    }
}

impl Proofs for Known {
    fn workload(&self, name: &WorkloadName) -> Option<&WorkloadAuthority> {
        self.workload.as_ref().filter(|of| of.workload == *name)
    }

    fn approle(&self, key: &RoleKey) -> Option<&AppRole> {
        self.role.as_ref().filter(|role| role.key == *key)
    }

    fn secret_id(&self, digest: &ProofDigest) -> Option<&SecretId> {
        self.proof.as_ref().filter(|proof| proof.digest == *digest)
    }

    fn identity(&self, entity: &EntityId) -> Option<(&Identity, WallTime)> {
        let known = self.identities.get(entity);
        known.map(|(identity, at)| (identity, *at))
    }

    fn policy_read(&self, name: &PolicyName) -> Option<WallTime> {
        let is_old = self.unread.contains(name);
        let read = if is_old { at(-1) } else { self.read };
        self.templated.as_ref().map(|_| read)
    }

    fn are_templated(&self, policies: &[PolicyName]) -> Option<bool> {
        let templated = self.templated.as_ref()?;
        Some(policies.iter().any(|name| templated.contains(name)))
    }
}

fn verdict_where(grant: &Grant, settings: &Settings, known: &Known) -> Verdict {
    let replica = grant.replica().unwrap();
    judge(grant, replica, settings, known, at(0), now())
}

fn verdict(grant: &Grant, on_recovery: OnRecovery, known: &Known) -> Verdict {
    verdict_where(grant, &settings(on_recovery), known)
}

fn exchanged(grant: &Grant, known: &Known) -> Verdict {
    verdict(grant, OnRecovery::Exchange, known)
}

fn revoked() -> Verdict {
    Verdict::Fate(Fate::Revoke(RevokeCause::Recovery))
}

fn left(policies: &[&str], identity_policies: &[&str]) -> Left {
    Left {
        policies: names(policies),
        identity_policies: names(identity_policies),
    }
}

fn workload_needed() -> Verdict {
    Verdict::Needs(Need::Workload(name()))
}

#[test]
fn a_grant_is_exchanged_for_what_fresh_policy_leaves_it() {
    let mut known = Known::of(&["default", "orders"]);
    let mut granted = grant(&["default", "old", "orders"], 40);
    let wanted = |entity| Wanted {
        policies: names(&["default", "orders"]),
        remaining: Duration::from_secs(40),
        stands_for: StandsFor::Workload(entity),
    };
    let expected = Fate::Exchange(left(&["default", "orders"], &[]), wanted(None));
    assert_eq!(exchanged(&granted, &known), Verdict::Fate(expected));
    // What its identity adds comes with the entity, and is not the token's.
    granted = of_entity(granted, "e1");
    let standing = &mut known.workload.as_mut().unwrap().standing;
    standing.entity_id = Some(entity("e1"));
    standing.identity_policies = names(&["staff"]);
    known.templated = Some(names(&["default", "orders"]));
    let of_entity = left(&["default", "orders"], &["staff"]);
    let expected = Fate::Exchange(of_entity, wanted(Some(entity("e1"))));
    assert_eq!(exchanged(&granted, &known), Verdict::Fate(expected));
}

#[test]
fn a_grant_that_is_about_to_end_drains_and_so_does_one_that_is_to() {
    let known = Known::of(&["orders"]);
    let drained = Verdict::Fate(Fate::Drain(left(&["orders"], &[])));
    assert_eq!(exchanged(&grant(&["old", "orders"], 4), &known), drained);
    assert_ne!(exchanged(&grant(&["old", "orders"], 5), &known), drained);
    let long = grant(&["old", "orders"], 400);
    assert_eq!(verdict(&long, OnRecovery::Drain, &known), drained);
}

#[test]
fn no_renewal_that_was_possible_lengthens_what_is_minted() {
    let mut granted = grant(&["orders"], 400);
    let Origin::Replica(replica) = &mut granted.origin else {
        panic!("no replica grant");
    };
    replica.max_deadline = Deadline::after(Duration::from_secs(30), now());
    let Verdict::Fate(Fate::Exchange(_, wanted)) = exchanged(&granted, &Known::of(&["orders"]))
    else {
        panic!("not exchanged");
    };
    assert_eq!(wanted.remaining, Duration::from_secs(30));
}

#[test]
fn a_role_that_is_gone_or_grants_nothing_of_it_revokes() {
    let granted = grant(&["orders"], 40);
    assert_eq!(exchanged(&granted, &Known::default()), revoked());
    let other = Known::of(&["other"]);
    assert_eq!(verdict(&granted, OnRecovery::Drain, &other), revoked());
    // One that had none loses none.
    let bare = exchanged(&grant(&[], 40), &other);
    assert!(matches!(bare, Verdict::Fate(Fate::Exchange(..))));
}

#[test]
fn a_grant_of_another_entity_than_the_fresh_one_is_revoked() {
    let mut known = Known::of(&["orders"]);
    let (without, with) = (
        grant(&["orders"], 40),
        of_entity(grant(&["orders"], 40), "e1"),
    );
    assert_eq!(exchanged(&with, &known), revoked());
    known.workload.as_mut().unwrap().standing.entity_id = Some(entity("e2"));
    assert_eq!(exchanged(&without, &known), revoked());
    assert_eq!(exchanged(&with, &known), revoked());
}

#[test]
fn an_orphan_that_a_token_created_is_of_nobody_whatever_entity_its_workload_has() {
    let mut known = Known::of(&["orders", "keeps"]);
    let standing = &mut known.workload.as_mut().unwrap().standing;
    standing.identity_policies = names(&["team"]);
    let mut orphan = grant(&["orders", "team"], 40);
    if let Origin::Replica(replica) = &mut orphan.origin {
        replica.of_nobody = true;
    }
    let wanted = Wanted {
        policies: names(&["orders"]),
        remaining: Duration::from_secs(40),
        stands_for: StandsFor::Nobody,
    };
    let fate = Fate::Exchange(left(&["orders"], &[]), wanted);
    for of in [None, Some(entity("e1"))] {
        known.workload.as_mut().unwrap().standing.entity_id = of;
        assert_eq!(exchanged(&orphan, &known), Verdict::Fate(fate.clone()));
        let drained = verdict(&orphan, OnRecovery::Drain, &known);
        assert_eq!(drained, Verdict::Fate(Fate::Drain(left(&["orders"], &[]))));
    }
    known.workload.as_mut().unwrap().standing.policies = names(&["other"]);
    assert_eq!(exchanged(&orphan, &known), revoked());
    // It cannot come to be somebody's.
    assert_eq!(exchanged(&of_entity(orphan, "e1"), &known), revoked());
}

#[test]
fn a_grant_of_no_configured_workload_is_revoked() {
    let known = Known::of(&["orders"]);
    let granted = grant(&["orders"], 600);
    let nobodys = Grant {
        peer: None,
        ..granted.clone()
    };
    assert_eq!(exchanged(&nobodys, &known), revoked());
    let mut empty = settings(OnRecovery::Exchange);
    empty.workloads.clear();
    assert_eq!(verdict_where(&granted, &empty, &known), revoked());
}

#[test]
fn nothing_is_judged_by_authority_from_before() {
    let mut known = Known::of(&["orders"]);
    let granted = grant(&["orders"], 40);
    known.workload.as_mut().unwrap().verified_at = at(-1);
    for how in [OnRecovery::Exchange, OnRecovery::Drain] {
        assert_eq!(verdict(&granted, how, &known), workload_needed());
    }
    known.workload.as_mut().unwrap().verified_at = at(0);
    assert_ne!(exchanged(&granted, &known), workload_needed());
}

#[test]
fn what_was_verified_of_another_role_than_the_configured_one_decides_nothing() {
    let mut reconfigured = settings(OnRecovery::Exchange);
    reconfigured.workloads[0].role = RoleName::parse("orders-2").unwrap();
    let granted = grant(&["orders"], 40);
    let verdict = verdict_where(&granted, &reconfigured, &Known::of(&["orders"]));
    assert_eq!(verdict, workload_needed());
}

#[test]
fn nobody_is_asked_about_what_is_refused_in_any_case() {
    let mut known = Known::of(&["orders"]);
    known.workload.as_mut().unwrap().verified_at = at(-1);
    let granted = grant(&["orders"], 40);
    assert_eq!(verdict(&granted, OnRecovery::Revoke, &known), revoked());
}

#[test]
fn those_that_carry_grants_are_asked_about_first_then_what_was_used_last() {
    let token = |nr: u8, used: i64, carries| Unasked {
        digest: TokenDigest([nr; 32]),
        used: at(used),
        carries,
    };
    let tokens = vec![
        token(1, 5, false),
        token(2, 1, true),
        token(3, 9, false),
        token(4, 2, true),
    ];
    let asked = worth_asking(tokens, 3);
    let asked: Vec<u8> = asked.iter().map(|digest| digest.0[0]).collect();
    assert_eq!(asked, [4, 2, 3]);
}
