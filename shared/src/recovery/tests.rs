//! Claims about settling.

use alloc::{string::String, vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::{
    grant::Origin,
    name::{LeaseId, RoleName, WorkloadName},
    samples::{self, names},
    time::Deadline,
    token::{TokenFacts, TokenKind, role::TokenRole},
    workload::{FailoverPolicy, OnFailover, PeerId, Workload},
};

fn now() -> Now {
    samples::now(1_000_000)
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

fn name() -> WorkloadName {
    WorkloadName::parse("orders").unwrap()
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
        namespace: crate::name::Namespace::default(),
        workloads: vec![workload],
        mirrors: vec![],
        approle_mounts: Vec::new(),
        bounds: crate::settings::Bounds {
            max_outage: Duration::from_secs(3600),
            authority_max_age: Duration::from_secs(900),
            token_max_age: Duration::from_secs(3600),
            credential_max_age: Duration::from_secs(3600),
            policy_max_age: Duration::from_secs(3600),
            issue_after_reboot: false,
            max_staleness: Duration::from_secs(3600),
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
        verified_at: now().steady,
    }
}

fn settle(grant: &Grant, on_recovery: OnRecovery, fresh: Fresh<'_>) -> Result<Fate, Unverified> {
    let judged = judge(
        [grant],
        &settings(on_recovery),
        |_| fresh,
        |_| None,
        now().steady,
        now(),
    )?;
    Ok(judged.into_iter().next().unwrap().fate)
}

#[test]
fn a_grant_is_exchanged_for_what_fresh_policy_leaves_it() {
    let fresh = authority(&["default", "orders"]);
    let fate = settle(
        &grant(&["default", "old", "orders"], 40),
        OnRecovery::Exchange,
        Fresh::Proven(&fresh),
    );
    let expected = Fate::Exchange {
        policies: names(&["default", "orders"]),
        remaining: Duration::from_secs(40),
    };
    assert_eq!(fate, Ok(expected));
}

#[test]
fn a_grant_that_is_about_to_end_drains() {
    let fresh = authority(&["orders"]);
    let fate = settle(
        &grant(&["orders"], 2),
        OnRecovery::Exchange,
        Fresh::Proven(&fresh),
    );
    let expected = Fate::Drain {
        policies: names(&["orders"]),
        identity_policies: vec![],
    };
    assert_eq!(fate, Ok(expected));
}

#[test]
fn a_role_that_is_gone_or_grants_nothing_of_it_revokes() {
    let revoke = Ok(Fate::Revoke(RevokeCause::Recovery));
    assert_eq!(
        settle(&grant(&["orders"], 40), OnRecovery::Exchange, Fresh::Gone),
        revoke
    );
    let fresh = authority(&["other"]);
    assert_eq!(
        settle(
            &grant(&["orders"], 40),
            OnRecovery::Drain,
            Fresh::Proven(&fresh)
        ),
        revoke
    );
}

#[test]
fn a_grant_of_another_entity_than_the_fresh_one_is_revoked() {
    let mut fresh = authority(&["orders"]);
    fresh.standing.entity_id = Some(crate::name::EntityId::parse("e2").unwrap());
    let fate = settle(
        &grant(&["orders"], 40),
        OnRecovery::Exchange,
        Fresh::Proven(&fresh),
    );
    assert_eq!(fate, Ok(Fate::Revoke(RevokeCause::Recovery)));
}

#[test]
fn a_grant_of_another_namespace_is_not_judged() {
    let elsewhere = Grant {
        namespace: crate::name::Namespace::parse("team"),
        ..grant(&["orders"], 600)
    };
    let fresh = authority(&["orders"]);
    let settings = settings(OnRecovery::Exchange);
    let fresh = |_: &WorkloadName| Fresh::Proven(&fresh);
    let judged = judge(
        [&elsewhere],
        &settings,
        fresh,
        |_| None,
        now().steady,
        now(),
    );
    assert_eq!(judged, Ok(vec![]));
}

#[test]
fn nothing_is_judged_by_authority_from_before() {
    let mut fresh = authority(&["orders"]);
    fresh.verified_at = now().steady.minus(Duration::from_secs(1));
    let fate = settle(
        &grant(&["orders"], 40),
        OnRecovery::Exchange,
        Fresh::Proven(&fresh),
    );
    assert!(fate.is_err());
    assert!(
        settle(
            &grant(&["orders"], 40),
            OnRecovery::Exchange,
            Fresh::Unknown
        )
        .is_err()
    );
}

#[test]
fn settled_and_expired_grants_are_left_alone() {
    let mut settled = grant(&["orders"], 40);
    if let Origin::Replica(replica) = &mut settled.origin {
        replica.settled = Settled::Draining;
    }
    let expired = grant(&["orders"], 0);
    let judged = judge(
        [&settled, &expired],
        &settings(OnRecovery::Revoke),
        |_| Fresh::Gone,
        |_| None,
        now().steady,
        now(),
    );
    assert_eq!(judged, Ok(vec![]));
}

/// What becomes of a grant that an AppRole login was given, where the login would get this today.
fn settle_login(granted: &Grant, fresh: Option<Proven>) -> Fate {
    let mut grant = granted.clone();
    if let Origin::Replica(replica) = &mut grant.origin {
        replica.approle = Some(alloc::boxed::Box::new(Basis {
            role: crate::approle::RoleKey {
                mount: crate::name::MountAccessor::parse("auth_approle_1").unwrap(),
                name: RoleName::parse("ci").unwrap(),
            },
            secret_id: crate::approle::ProofDigest([4; 32]),
        }));
    }
    // What the workload's own role says does not matter to it.
    let judged = judge(
        [&grant],
        &settings(OnRecovery::Exchange),
        |_| Fresh::Unknown,
        |_| fresh.clone(),
        now().steady,
        now(),
    );
    judged.unwrap().into_iter().next().unwrap().fate
}

fn proven(policies: &[&str], entity: Option<&str>) -> Option<Proven> {
    Some(Proven {
        policies: names(policies),
        identity_policies: vec![],
        entity: entity.map(|id| EntityId::parse(id).unwrap()),
    })
}

#[test]
fn a_grant_of_an_approle_login_goes_by_that_login_alone() {
    let revoke = Fate::Revoke(RevokeCause::Recovery);
    let granted = grant(&["default", "ci", "old"], 40);
    let narrowed = Fate::Exchange {
        policies: names(&["default", "ci"]),
        remaining: Duration::from_secs(40),
    };
    assert_eq!(
        settle_login(&granted, proven(&["ci", "default", "new"], None)),
        narrowed
    );
    assert_eq!(settle_login(&granted, None), revoke);
    assert_eq!(settle_login(&granted, proven(&["other"], None)), revoke);
    assert_eq!(settle_login(&granted, proven(&["ci"], Some("e2"))), revoke);
}

#[test]
fn the_known_end_of_a_revoked_lease_or_token_is_an_end_only_where_nobody_could_renew_it() {
    let at = now().steady;
    let later = |secs| Now {
        steady: at.plus(Duration::from_secs(secs)),
        ..now()
    };
    let lease = RevocationTarget::Lease(LeaseId::parse("database/creds/x/y").unwrap());
    let token = RevocationTarget::Token(Accessor::parse("a").unwrap());
    for target in [lease, token] {
        let own = QueuedRevocation::own(1, target, at);
        let ending = |renewable| {
            own.clone()
                .ending(at.plus(Duration::from_secs(60)), renewable)
        };
        let over = |queued: &QueuedRevocation, secs| queued.is_over(later(secs));
        assert!(!over(&own, 1_000_000), "its end is not known");
        assert!(!over(&ending(true), 1_000_000));
        assert!(ending(true).may_be_over(later(61)));
        assert!(!over(&ending(false), 60) && over(&ending(false), 61));
        // What was queued before this was noted.
        let mut stored = serde_json::to_value(ending(false)).unwrap();
        stored.as_object_mut().unwrap().remove("renewable");
        let stored: QueuedRevocation = serde_json::from_value(stored).unwrap();
        assert!(!over(&stored, 1_000_000));
    }
}

proptest! {
    /// No settlement gives a grant a policy or a life that it did not have.
    #[test]
    fn settling_never_adds(
        granted in proptest::collection::btree_set("[a-d]", 0..4),
        proven in proptest::collection::btree_set("[a-d]", 0..4),
        left in 0u64..100,
        how in 0usize..3,
    ) {
        let how = [OnRecovery::Exchange, OnRecovery::Drain, OnRecovery::Revoke][how];
        let granted: Vec<&str> = granted.iter().map(String::as_str).collect();
        let proven: Vec<&str> = proven.iter().map(String::as_str).collect();
        let (grant, fresh) = (grant(&granted, left), authority(&proven));
        let judged = judge([&grant], &settings(how), |_| Fresh::Proven(&fresh), |_| None, now().steady, now()).unwrap();
        for judgement in judged {
            let policies = match judgement.fate {
                Fate::Drain { policies, .. } => policies,
                Fate::Exchange { policies, remaining } => {
                    prop_assert!(remaining <= Duration::from_secs(left));
                    policies
                }
                Fate::Revoke(_) => vec![],
            };
            for policy in policies {
                prop_assert!(grant.facts.policies.contains(&policy) && fresh.policies().contains(&policy));
            }
        }
    }
}
