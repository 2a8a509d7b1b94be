//! Claims about AppRole logins.

use alloc::{borrow::ToOwned, string::ToString, vec};

use proptest::prelude::*;

use super::*;
use crate::{
    samples::{self, names},
    time::BootTime,
};

const CUTOVER: i64 = 2_000_000;

fn at(secs: i64) -> WallTime {
    WallTime::from_secs(CUTOVER + secs)
}

/// A minute into the outage.
fn now() -> Now {
    samples::now(CUTOVER + 60)
}

fn bounds() -> Bounds {
    Bounds {
        max_outage: Duration::from_secs(43_200),
        authority_max_age: Duration::from_secs(900),
        token_max_age: Duration::from_secs(3600),
        credential_max_age: Duration::from_secs(86_400),
        policy_max_age: Duration::from_secs(86_400),
        issue_after_reboot: false,
        max_staleness: Duration::from_secs(3600),
        grants_per_workload: 10_000,
    }
}

fn digest(byte: u8) -> ProofDigest {
    ProofDigest([byte; 32])
}

fn key() -> RoleKey {
    RoleKey {
        mount: MountAccessor::parse("auth_approle_1").unwrap(),
        name: RoleName::parse("orders").unwrap(),
    }
}

/// As OpenBao 2.7.2 shows one.
const SHOWN: &str = r#"{"bind_secret_id":true,"local_secret_ids":false,"secret_id_bound_cidrs":null,
    "secret_id_num_uses":0,"secret_id_ttl":0,"token_bound_cidrs":[],"token_explicit_max_ttl":0,"token_max_ttl":1800,
    "token_no_default_policy":false,"token_num_uses":0,"token_period":0,"token_policies":["orders","x"],
    "token_strictly_bind_ip":false,"token_ttl":600,"token_type":"default"}"#;

fn role() -> AppRole {
    AppRole {
        key: key(),
        role_id: digest(1),
        facts: serde_json::from_str(SHOWN).unwrap(),
        mount: MountFacts {
            default_lease_ttl: 2_764_800,
            max_lease_ttl: 2_764_800,
            token_type: "default-service".to_owned(),
        },
        mfa: false,
        verified_at: at(-30),
    }
}

fn proof() -> SecretId {
    SecretId {
        digest: digest(2),
        role: key(),
        role_id: digest(1),
        accessor: Accessor::parse("a-1").unwrap(),
        metadata: BTreeMap::from([("k".to_string(), "v".to_string())]),
        cidrs: vec![],
        token_cidrs: vec![],
        expires: None,
        entity: None,
        identity_policies: vec![],
        login_at: at(-3600),
        verified_at: at(-40),
        dead: None,
        accepted_from: vec![],
        doubted_at: None,
    }
}

fn judged(role: &AppRole, proof: &SecretId) -> Result<Permitted, Denial> {
    judge(Some(role), proof, &bounds(), at(0), None, now())
}

#[test]
fn a_proven_secret_id_gets_what_the_role_gives() {
    let permitted = judged(&role(), &proof()).unwrap();
    assert_eq!(permitted.policies, names(&["default", "orders", "x"]));
    assert_eq!(permitted.metadata["role_name"], "orders");
    assert_eq!(permitted.metadata["k"], "v");
    assert_eq!(
        (permitted.wanted.ttl, permitted.limit),
        (Duration::from_secs(600), Duration::from_secs(1800))
    );
    assert_eq!(permitted.proven_at, at(-40));
}

#[test]
fn ttls_that_the_role_leaves_open_are_the_mounts() {
    let mut role = role();
    role.facts.token_ttl = 0;
    role.facts.token_max_ttl = 0;
    role.mount.default_lease_ttl = 300;
    role.mount.max_lease_ttl = 400;
    let permitted = judged(&role, &proof()).unwrap();
    assert_eq!(
        (permitted.wanted.ttl, permitted.limit),
        (Duration::from_secs(300), Duration::from_secs(400))
    );
    role.facts.token_explicit_max_ttl = 200;
    let permitted = judged(&role, &proof()).unwrap();
    assert_eq!(
        (permitted.wanted.ttl, permitted.limit),
        (Duration::from_secs(200), Duration::from_secs(200))
    );
    assert_eq!(permitted.explicit_max_ttl, 200);
    let warning = "TTL of \"5m\" exceeded the effective max_ttl of \"3m20s\"; TTL value is capped accordingly";
    assert_eq!(permitted.wanted.warning.as_deref(), Some(warning));
}

#[test]
fn a_renewal_goes_by_the_role_as_it_is() {
    let (role, issued) = (role(), at(0));
    let renewed = |increment: Option<u64>, after: i64| {
        let increment = increment.map(Duration::from_secs);
        role.ttl(increment, issued, at(after))
            .map(|ttl| ttl.ttl.as_secs())
    };
    assert_eq!(renewed(None, 100), Ok(600));
    assert_eq!(renewed(Some(900), 100), Ok(900));
    assert_eq!(renewed(Some(900), 1000), Ok(800));
    assert_eq!(renewed(None, 1800), Err(PastMaxTtl));
}

#[test]
fn default_is_left_out_where_the_role_says_so() {
    let mut role = role();
    role.facts.token_no_default_policy = true;
    assert_eq!(
        judged(&role, &proof()).unwrap().policies,
        names(&["orders", "x"])
    );
    role.facts.token_policies = vec![];
    assert_eq!(judged(&role, &proof()).unwrap().policies, names(&[]));
}

#[test]
fn what_the_primary_would_refuse_is_dead() {
    let dead = |change: fn(&mut SecretId)| {
        let mut proof = proof();
        change(&mut proof);
        judged(&role(), &proof)
    };
    assert_eq!(dead(|p| p.dead = Some(at(-5))), Err(Denial::Dead));
    assert_eq!(dead(|p| p.expires = Some(at(60))), Err(Denial::Dead));
    assert!(dead(|p| p.expires = Some(at(61))).is_ok());
    assert_eq!(dead(|p| p.role_id = digest(7)), Err(Denial::Dead));
}

#[test]
fn what_was_not_verified_in_time_only_the_primary_can_decide() {
    let judge_at = |login: i64, stood: i64, role_seen: i64| {
        let (mut role, mut proof) = (role(), proof());
        proof.login_at = at(login);
        proof.verified_at = at(stood);
        role.verified_at = at(role_seen);
        judged(&role, &proof).map(drop)
    };
    assert_eq!(judge_at(-86_400, -900, -900), Ok(()));
    assert_eq!(judge_at(-86_401, -900, -900), Err(Denial::Old));
    assert_eq!(judge_at(-86_400, -901, -900), Err(Denial::Unseen));
    assert_eq!(judge_at(-86_400, -900, -901), Err(Denial::Unseen));
    assert_eq!(
        judge(None, &proof(), &bounds(), at(0), None, now()),
        Err(Denial::Unseen)
    );
}

#[test]
fn what_was_not_shown_since_the_last_outage_may_have_ended_in_it() {
    let judge_at = |role_seen: i64, stood: i64, login: i64| {
        let (mut role, mut proof) = (role(), proof());
        role.verified_at = at(role_seen);
        proof.verified_at = at(stood);
        proof.login_at = at(login);
        let from = Some(at(-30));
        judge(Some(&role), &proof, &bounds(), at(0), from, now()).map(drop)
    };
    assert_eq!(judge_at(-30, -30, -3600), Ok(()));
    assert_eq!(judge_at(-31, -30, -3600), Err(Denial::Unseen));
    assert_eq!(judge_at(-30, -31, -3600), Err(Denial::Unseen));
    // The primary took it since: that is news of the secret id, and none of the role.
    assert_eq!(judge_at(-30, -31, -30), Ok(()));
    assert_eq!(judge_at(-31, -31, -30), Err(Denial::Unseen));
}

#[test]
fn what_is_not_modelled_only_the_primary_can_decide() {
    type Change = fn(&mut AppRole, &mut SecretId);
    let changes: [(Change, Denial); 14] = [
        (
            |r, _| r.facts.secret_id_bound_cidrs.push("10.0.0.0/8".into()),
            Denial::Addresses,
        ),
        (
            |r, _| r.facts.token_bound_cidrs.push("10.0.0.0/8".into()),
            Denial::Addresses,
        ),
        (
            |r, _| r.facts.token_strictly_bind_ip = true,
            Denial::Addresses,
        ),
        (|_, p| p.cidrs.push("10.0.0.0/8".into()), Denial::Addresses),
        (
            |_, p| p.token_cidrs.push("10.0.0.0/8".into()),
            Denial::Addresses,
        ),
        (|r, _| r.mfa = true, Denial::Mfa),
        (|r, _| r.facts.bind_secret_id = false, Denial::Role),
        (|r, _| r.facts.token_type = "batch".into(), Denial::Role),
        (
            |r, _| r.facts.token_type = "default-batch".into(),
            Denial::Role,
        ),
        (|r, _| r.mount.token_type = "batch".into(), Denial::Role),
        (|r, _| r.facts.token_period = 60, Denial::Role),
        (|r, _| r.facts.token_num_uses = 2, Denial::Role),
        (
            |r, _| r.facts.token_policies = names(&["root"]),
            Denial::Role,
        ),
        (|r, _| r.mount.max_lease_ttl = 0, Denial::Role),
    ];
    for (nr, (change, denial)) in changes.into_iter().enumerate() {
        let (mut role, mut proof) = (role(), proof());
        change(&mut role, &mut proof);
        assert_eq!(judged(&role, &proof), Err(denial), "{nr}");
    }
}

#[test]
fn a_login_stands_after_an_outage_only_if_all_of_it_was_seen_since() {
    let since = at(-60);
    assert!(stands(&role(), &proof(), since, now()));
    type Change = fn(&mut AppRole, &mut SecretId);
    let changes: [Change; 6] = [
        |r, _| r.verified_at = at(-61),
        |_, p| p.verified_at = at(-61),
        |_, p| p.dead = Some(at(0)),
        |r, _| r.role_id = digest(9),
        |r, _| r.facts.token_bound_cidrs.push("10.0.0.0/8".into()),
        |r, _| r.facts.token_num_uses = 1,
    ];
    for (nr, change) in changes.into_iter().enumerate() {
        let (mut role, mut proof) = (role(), proof());
        change(&mut role, &mut proof);
        assert!(!stands(&role, &proof, since, now()), "{nr}");
    }
}

#[test]
fn one_that_died_stays_dead_until_the_primary_accepts_it_again() {
    let dead = SecretId {
        dead: Some(at(-5)),
        ..proof()
    };
    let later = SecretId {
        login_at: at(-100),
        verified_at: at(-3),
        ..proof()
    };
    let both = later.clone().after(&dead);
    assert_eq!(both.dead, Some(at(-5)));
    assert_eq!((both.login_at, both.verified_at), (at(-100), at(-3)));
    let back = dead.clone().after(&later);
    assert_eq!((back.login_at, back.verified_at), (at(-100), at(-3)));
    let accepted = SecretId {
        login_at: at(-4),
        ..proof()
    };
    assert_eq!(accepted.clone().after(&dead).dead, None);
    assert_eq!(
        dead.clone().after(&accepted).dead,
        None,
        "it died before that"
    );
    let anew = SecretId {
        accessor: Accessor::parse("a-2").unwrap(),
        ..later
    };
    assert_eq!(anew.clone().after(&dead), anew);
}

#[test]
fn one_that_was_refused_is_left_to_the_primary_until_it_is_seen_to_stand() {
    let refused = |secs: i64| SecretId {
        doubted_at: Some(at(secs)),
        ..proof()
    };
    assert!(judged(&role(), &refused(-40)).is_ok(), "it was seen since");
    assert_eq!(judged(&role(), &refused(-39)), Err(Denial::Doubted));
    assert!(!stands(&role(), &refused(-39), at(-40), now()));
    let accepted = SecretId {
        login_at: at(-39),
        ..proof()
    };
    let both = accepted.clone().after(&refused(-39));
    assert_eq!(both.doubted_at, Some(at(-39)));
    assert!(judged(&role(), &both).is_ok());
    assert_eq!(
        refused(-38).after(&accepted).doubted_at,
        Some(at(-38)),
        "in either order"
    );
}

#[test]
fn what_no_outage_could_go_by_any_more_is_of_no_use() {
    let day = Duration::from_secs(86_400);
    let logged_in = |secs: i64| SecretId {
        login_at: at(60 - secs),
        ..proof()
    };
    assert!(!logged_in(86_400).is_of_no_use(day, now()));
    assert!(logged_in(86_401).is_of_no_use(day, now()));
    let dead = |since: i64| SecretId {
        dead: Some(at(60 - since)),
        ..logged_in(200_000)
    };
    assert!(!dead(100).is_of_no_use(day, now()) && dead(86_401).is_of_no_use(day, now()));
    let expired = |since: i64| SecretId {
        expires: Some(at(60 - since)),
        ..logged_in(200_000)
    };
    assert!(!expired(100).is_of_no_use(day, now()) && expired(86_401).is_of_no_use(day, now()));
}

fn boot(secs: u64) -> BootTime {
    BootTime::from_millis(secs * 1000)
}

fn attempt(pair: u8, outcome: Outcome) -> Attempt {
    Attempt {
        by: Claimant {
            uid: 1000,
            unit: None,
        },
        role_id: digest(0),
        pair: digest(pair),
        outcome,
    }
}

/// Whether a role id is locked after these secret ids failed, a second apart.
fn locked_after(pairs: &[u8]) -> bool {
    let mut tries = Tries::default();
    for (second, pair) in (0..).zip(pairs) {
        tries.note(&attempt(*pair, Outcome::Failed), boot(second));
    }
    tries.is_locked(boot(60))
}

#[test]
fn five_different_secret_ids_lock_a_role_id_and_one_tried_often_does_not() {
    assert!(!locked_after(&[1, 2, 3, 4]));
    assert!(locked_after(&[1, 2, 3, 4, 5]));
    assert!(!locked_after(&[1; 100]));
    assert!(!locked_after(&[1, 2, 3, 4, 4, 3, 2, 1]));
}

#[test]
fn a_lock_ends_after_a_quarter_of_an_hour_and_failures_are_forgotten() {
    let mut tries = Tries::default();
    for pair in 0..5 {
        tries.note(&attempt(pair, Outcome::Failed), boot(u64::from(pair)));
    }
    assert!(tries.is_locked(boot(4 + 899)) && !tries.is_locked(boot(4 + 900)));
    let mut slow = Tries::default();
    for pair in 0..100 {
        slow.note(&attempt(pair, Outcome::Failed), boot(u64::from(pair) * 226));
        assert!(!slow.is_locked(boot(u64::from(pair) * 226)), "{pair}");
    }
    assert!(!slow.is_idle(boot(99 * 226)) && slow.is_idle(boot(99 * 226 + 900)));
}

#[test]
fn a_login_that_succeeds_forgives_and_the_primarys_lock_counts_here() {
    let mut tries = Tries::default();
    for pair in 0..4 {
        tries.note(&attempt(pair, Outcome::Failed), boot(0));
    }
    tries.note(&attempt(9, Outcome::Accepted), boot(1));
    for pair in 0..4 {
        tries.note(&attempt(pair, Outcome::Failed), boot(2));
    }
    assert!(!tries.is_locked(boot(3)));
    tries.note(&attempt(9, Outcome::Locked), boot(4));
    assert!(tries.is_locked(boot(5)));
    tries.note(&attempt(9, Outcome::Accepted), boot(6));
    assert!(
        tries.is_locked(boot(7)),
        "a lock is not forgiven by success"
    );
}

#[test]
fn what_only_the_primary_could_judge_locks_nobody_out() {
    let mut tries = Tries::default();
    for pair in 0..100 {
        tries.note(&attempt(pair, Outcome::Unproven), boot(0));
    }
    assert!(!tries.is_locked(boot(0)) && tries.is_idle(boot(0)));
}

#[test]
fn five_guesses_end_guessing_for_a_quarter_of_an_hour_and_one_made_often_does_not() {
    let mut guesses = Guesses::default();
    for _ in 0..100 {
        guesses.note(&attempt(1, Outcome::Unproven), boot(0));
    }
    assert!(guesses.may_guess(boot(0)));
    for pair in 2..=5 {
        guesses.note(&attempt(pair, Outcome::Unproven), boot(1));
    }
    assert!(!guesses.may_guess(boot(1 + 899)));
    assert!(guesses.may_guess(boot(1 + 900)));
}

#[test]
fn who_a_secret_id_was_accepted_from_is_kept_of_it_and_of_no_more_than_there_is_room_for() {
    let claimant = |uid: usize| Claimant {
        uid: u32::try_from(uid).unwrap(),
        unit: None,
    };
    let known = (0..MOST_CLAIMANTS)
        .map(claimant)
        .fold(proof(), SecretId::accepted_by);
    assert!(known.is_known_to(&claimant(0)) && !known.is_known_to(&claimant(99)));
    let other = proof().accepted_by(claimant(99)).after(&known);
    assert!(other.is_known_to(&claimant(99)) && other.is_known_to(&claimant(1)));
    assert!(!other.is_known_to(&claimant(0)), "longest ago");
    assert_eq!(other.accepted_from.len(), MOST_CLAIMANTS);
    let another = SecretId {
        accessor: Accessor::parse("a-2").unwrap(),
        ..proof()
    };
    assert!(
        !another.after(&known).is_known_to(&claimant(1)),
        "of the same text"
    );
}

proptest! {
    /// Whatever is tried, whenever: no more than five different ones are judged within any quarter of an hour.
    #[test]
    fn guesses_are_bounded(
        tried in proptest::collection::vec((0u8..20, 0u64..200, 0u8..8), 1..200),
    ) {
        let (mut guesses, mut now) = (Guesses::default(), 0);
        let mut judged: Vec<(u64, u8)> = Vec::new();
        for (pair, later, outcome) in tried {
            now += later;
            match outcome {
                0 => guesses.note(&attempt(pair, Outcome::Failed), boot(now)),
                _ if guesses.may_guess(boot(now)) => {
                    guesses.note(&attempt(pair, Outcome::Unproven), boot(now));
                    judged.push((now, pair));
                }
                _ => {}
            }
        }
        for (start, _) in &judged {
            let within = judged.iter().filter(|(at, _)| (*start..start + 900).contains(at));
            let different: alloc::collections::BTreeSet<u8> = within.map(|(_, pair)| *pair).collect();
            // Those of a window that ended when guessing did, and of the next.
            prop_assert!(different.len() < 2 * THRESHOLD);
        }
    }

    /// However the moments lie: what is granted was accepted, seen to stand, and is not past.
    #[test]
    fn nothing_is_granted_from_an_old_or_ended_proof(
        login in -200_000i64..0, stood in -2000i64..0, seen in -2000i64..0, ends in -100i64..200, dead: bool,
    ) {
        let (mut role, mut proof) = (role(), proof());
        proof.login_at = at(login);
        proof.verified_at = at(stood);
        proof.expires = Some(at(ends));
        proof.dead = dead.then(|| at(-1));
        role.verified_at = at(seen);
        if judged(&role, &proof).is_ok() {
            prop_assert!(login >= -86_400 && stood >= -900 && seen >= -900 && ends > 60 && !dead);
        }
    }
}
