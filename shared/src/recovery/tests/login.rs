//! Grants that an AppRole login was given: by that login alone, and exchanged for tokens of nobody.

use super::*;

const ENTITY: &str = "e1";

fn role(policies: &[&str]) -> AppRole {
    AppRole {
        key: RoleKey {
            mount: MountAccessor::parse("auth_approle_1").unwrap(),
            name: RoleName::parse("ci").unwrap(),
        },
        role_id: ProofDigest([1; 32]),
        facts: serde_json::from_value(serde_json::json!({
            "bind_secret_id": true, "token_no_default_policy": true, "token_policies": policies,
        }))
        .unwrap(),
        mount: MountFacts {
            default_lease_ttl: 3600,
            max_lease_ttl: 3600,
            token_type: "default-service".into(),
        },
        mfa: false,
        verified_at: at(0),
    }
}

fn proof(of: Option<&str>) -> SecretId {
    SecretId {
        digest: ProofDigest([4; 32]),
        role: role(&[]).key,
        role_id: ProofDigest([1; 32]),
        accessor: Accessor::parse("secret-id").unwrap(),
        metadata: BTreeMap::new(),
        cidrs: Vec::new(),
        token_cidrs: Vec::new(),
        expires: None,
        entity: of.map(entity),
        identity_policies: Vec::new(),
        // Before the outage: the accessor is looked at since, nobody need log in.
        login_at: at(-500),
        verified_at: at(0),
        accepted_from: Vec::new(),
        dead: None,
        doubted_at: None,
    }
}

pub(super) fn identity(entity_policies: &[&str], group_policies: &[&str]) -> Identity {
    let owned = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
    Identity {
        entity: Some(Entity {
            id: ENTITY.into(),
            policies: owned(entity_policies),
            ..Entity::default()
        }),
        groups: vec![Group {
            policies: owned(group_policies),
            ..Group::default()
        }],
    }
}

/// A role with these policies and a secret id, of nobody. What the workload's own role gives is not known.
pub(super) fn known(policies: &[&str]) -> Known {
    Known {
        role: Some(role(policies)),
        proof: Some(proof(None)),
        ..Known::default()
    }
}

/// The same of an entity, which adds one policy of its own and one of a group.
pub(super) fn known_of_entity(policies: &[&str]) -> Known {
    let identity = identity(&["ci", "own"], &["group"]);
    Known {
        proof: Some(proof(Some(ENTITY))),
        identities: BTreeMap::from([(entity(ENTITY), (identity, at(0)))]),
        ..known(policies)
    }
}

pub(super) fn basis() -> Box<Basis> {
    Box::new(Basis {
        role: role(&[]).key,
        secret_id: ProofDigest([4; 32]),
    })
}

/// A grant that the login was given, of nobody.
pub(super) fn login(policies: &[&str]) -> Grant {
    let mut granted = grant(policies, 40);
    if let Origin::Replica(replica) = &mut granted.origin {
        replica.approle = Some(basis());
    }
    granted
}

/// The same of an entity.
pub(super) fn login_of_entity(policies: &[&str]) -> Grant {
    of_entity(login(policies), ENTITY)
}

fn login_needed() -> Verdict {
    Verdict::Needs(Need::Login(basis()))
}

fn for_nobody(left: Left, policies: &[&str]) -> Verdict {
    let wanted = Wanted {
        policies: names(policies),
        remaining: Duration::from_secs(40),
        stands_for: StandsFor::Nobody,
    };
    Verdict::Fate(Fate::Exchange(left, wanted))
}

/// Of a grant of an entity, where this is changed of what is known.
fn where_known(change: impl FnOnce(&mut Known)) -> Verdict {
    let mut known = known_of_entity(&["ci"]);
    change(&mut known);
    exchanged(&login_of_entity(&["ci"]), &known)
}

fn of_proof(change: impl FnOnce(&mut SecretId)) -> Verdict {
    where_known(|known| change(known.proof.as_mut().unwrap()))
}

fn of_role(change: impl FnOnce(&mut AppRole)) -> Verdict {
    where_known(|known| change(known.role.as_mut().unwrap()))
}

fn of_identity(change: impl FnOnce(&mut (Identity, WallTime))) -> Verdict {
    where_known(|known| change(known.identities.get_mut(&entity(ENTITY)).unwrap()))
}

#[test]
fn it_goes_by_that_login_alone() {
    let granted = login(&["ci", "default", "old"]);
    let narrowed = left(&["ci", "default"], &[]);
    let mut fresh = known(&["ci", "default", "new"]);
    let expected = for_nobody(narrowed, &["ci", "default"]);
    assert_eq!(exchanged(&granted, &fresh), expected);
    // What the workload's own role says does not matter to it.
    fresh.workload = Some(authority(&["other"]));
    assert_eq!(exchanged(&granted, &fresh), expected);
    assert_eq!(exchanged(&granted, &known(&["other"])), revoked());
    // Neither does what the login says to one that attestation alone was given.
    assert_eq!(exchanged(&grant(&["ci"], 40), &fresh), revoked());
}

#[test]
fn what_its_entity_adds_becomes_the_tokens_own_where_nothing_is_templated_by_it() {
    let expected = for_nobody(
        left(&["ci"], &["ci", "group", "own"]),
        &["ci", "group", "own"],
    );
    assert_eq!(where_known(|_| {}), expected);
}

#[test]
fn it_drains_where_a_policy_is_templated_by_its_entity_or_names_root() {
    let drained = |added: &[&str]| Verdict::Fate(Fate::Drain(left(&["ci"], added)));
    for templated in ["ci", "group"] {
        let verdict = where_known(|known| known.templated = Some(names(&[templated])));
        assert_eq!(verdict, drained(&["ci", "group", "own"]), "{templated}");
    }
    // Of a policy that it does not have nothing follows, nor where there is no entity.
    let other = where_known(|known| known.templated = Some(names(&["other"])));
    assert!(matches!(other, Verdict::Fate(Fate::Exchange(..))));
    let mut nobody = known(&["ci"]);
    nobody.templated = Some(names(&["ci"]));
    let expected = for_nobody(left(&["ci"], &[]), &["ci"]);
    assert_eq!(exchanged(&login(&["ci"]), &nobody), expected);
    let rooted = of_identity(|(known, _)| *known = identity(&["root"], &[]));
    assert_eq!(rooted, drained(&["root"]));
}

#[test]
fn what_its_policies_say_must_have_been_read_since_before_a_token_is_minted_for_it() {
    let lives = |name: &str| {
        let need = Need::Policy(names(&[name]).remove(0));
        Verdict::Lives(left(&["ci"], &["ci", "group", "own"]), need)
    };
    // Of its own, or of its identity's; and whatever the old text said.
    for unread in ["ci", "group"] {
        let verdict = where_known(|known| known.unread = names(&[unread]));
        assert_eq!(verdict, lives(unread));
    }
    let templated = where_known(|known| {
        known.unread = names(&["ci"]);
        known.templated = Some(names(&["ci"]));
    });
    assert_eq!(templated, lives("ci"));
    let old = where_known(|known| known.read = at(-1));
    assert_eq!(old, lives("ci"));
    let never = where_known(|known| known.templated = None);
    assert_eq!(never, lives("ci"));
    // What it does not have need not be read, nor anything where there is no entity, or no token is minted anyway.
    let other = where_known(|known| known.unread = names(&["other"]));
    assert!(matches!(other, Verdict::Fate(Fate::Exchange(..))));
    let old = |known: Known| Known {
        read: at(-1),
        ..known
    };
    let of_nobody = exchanged(&login(&["ci"]), &old(known(&["ci"])));
    assert_eq!(of_nobody, for_nobody(left(&["ci"], &[]), &["ci"]));
    let known = old(known_of_entity(&["ci"]));
    let drains = verdict(&login_of_entity(&["ci"]), OnRecovery::Drain, &known);
    assert!(matches!(drains, Verdict::Fate(Fate::Drain(_))));
}

#[test]
fn a_login_that_the_primary_no_longer_takes_ends_it() {
    assert_eq!(where_known(|known| known.role = None), revoked());
    assert_eq!(where_known(|known| known.proof = None), revoked());
    assert_eq!(of_proof(|proof| proof.dead = Some(at(1))), revoked());
    let ended = now().wall;
    assert_eq!(of_proof(|proof| proof.expires = Some(ended)), revoked());
    // It is dead, whenever that was seen.
    let dead = of_proof(|proof| {
        proof.dead = Some(at(-9));
        proof.verified_at = at(-9);
    });
    assert_eq!(dead, revoked());
    assert_eq!(of_role(|role| role.mfa = true), revoked());
    assert_eq!(
        of_role(|role| role.role_id = ProofDigest([9; 32])),
        revoked()
    );
    assert_eq!(
        of_proof(|proof| proof.cidrs = vec!["::1".into()]),
        revoked()
    );
    assert_eq!(of_proof(|proof| proof.entity = None), revoked());
}

#[test]
fn a_login_that_was_not_seen_since_is_asked_about() {
    assert_eq!(of_role(|role| role.verified_at = at(-1)), login_needed());
    assert_eq!(of_proof(|proof| proof.verified_at = at(-1)), login_needed());
    let doubted = of_proof(|proof| proof.doubted_at = Some(at(1)));
    assert_eq!(doubted, login_needed());
    let seen_again = of_proof(|proof| {
        proof.doubted_at = Some(at(1));
        proof.verified_at = at(1);
    });
    assert!(matches!(seen_again, Verdict::Fate(_)));
}

#[test]
fn an_entity_is_asked_about_too_and_ends_it_where_it_does_not_stand() {
    assert_eq!(of_identity(|(_, read)| *read = at(-1)), login_needed());
    let unknown = where_known(|known| known.identities.clear());
    assert_eq!(unknown, login_needed());
    let disabled = of_identity(|(identity, _)| {
        identity.entity.as_mut().unwrap().disabled = true;
    });
    assert_eq!(disabled, revoked());
    assert_eq!(
        of_identity(|(identity, _)| identity.entity = None),
        revoked()
    );
}

/// A grant as settling left it, with a token that was minted for it.
fn settled_as(known: &Known, granted: &Grant) -> Grant {
    let Verdict::Fate(Fate::Exchange(left, _)) = exchanged(granted, known) else {
        panic!("not exchanged");
    };
    let behind = Settled::Exchanged(Accessor::parse("behind").unwrap());
    granted.left_with(left).settled(behind)
}

#[test]
fn a_token_that_was_minted_for_nobody_ends_with_what_its_entity_was() {
    let before = known_of_entity(&["ci"]);
    let settled = settled_as(&before, &login_of_entity(&["ci"]));
    let outlived = |change: &dyn Fn(&mut Identity)| {
        let mut known = before.clone();
        change(&mut known.identities.get_mut(&entity(ENTITY)).unwrap().0);
        has_outlived_its_entity(&settled, &known)
    };
    assert!(!outlived(&|_| {}));
    assert!(!outlived(&|known| known.groups.push(Group::default())));
    assert!(outlived(&|known| known.entity = None));
    assert!(outlived(
        &|known| known.entity.as_mut().unwrap().disabled = true
    ));
    assert!(outlived(&|known| known.groups.clear()));
    assert!(outlived(
        &|known| *known = identity(&["ci", "more", "own"], &["group"])
    ));
    // A rule that names the entity binds nobody else: with it the token might do more than the grant.
    let mut templated = before.clone();
    templated.templated = Some(names(&["ci"]));
    assert!(has_come_to_need_its_entity(&settled, &templated));
    assert!(!has_come_to_need_its_entity(&settled, &before));
    templated.templated = None;
    assert!(!has_come_to_need_its_entity(&settled, &templated));
    // Not read is not changed.
    assert!(!has_outlived_its_entity(&settled, &known(&["ci"])));
}

#[test]
fn no_other_token_ends_with_its_entity() {
    let mut gone = known_of_entity(&["ci"]);
    let mut before = Known::of(&["ci"]);
    before.workload.as_mut().unwrap().standing.entity_id = Some(entity(ENTITY));
    let attested = settled_as(&before, &of_entity(grant(&["ci"], 40), ENTITY));
    let unsettled = login_of_entity(&["ci"]);
    let draining = unsettled.clone().settled(Settled::Draining);
    let of_nobody = settled_as(&gone, &login_of_entity(&["ci"]));
    gone.identities.get_mut(&entity(ENTITY)).unwrap().0.entity = None;
    assert!(has_outlived_its_entity(&of_nobody, &gone));
    gone.templated = Some(names(&["ci"]));
    assert!(has_come_to_need_its_entity(&of_nobody, &gone));
    for other in [
        attested,
        unsettled,
        draining,
        settled_as(&known(&["ci"]), &login(&["ci"])),
    ] {
        assert!(!has_outlived_its_entity(&other, &gone));
        assert!(!has_come_to_need_its_entity(&other, &gone));
    }
}
