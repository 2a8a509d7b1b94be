//! The view as changes make it.

use std::{sync::Arc, time::Duration};

use shared::{
    acl::{AclRequest, CompileError, Decision, Operation},
    change::Change,
    failover::Phase,
    grant::{Grant, RevokeCause},
    kv::KvKey,
    name::{EntityId, PolicyName, WorkloadName},
};

use super::*;
use crate::samples::{self, Seeded, T0, digest, everything, grant, place, settings};

fn known(identity: Identity) -> KnownIdentity {
    KnownIdentity {
        identity: Arc::new(identity),
        verified_at: T0,
    }
}

fn view(changes: Vec<Change>) -> View {
    let entropy = Seeded::new(1);
    let keys = Keys::ephemeral(&entropy).unwrap();
    View::from_changes(settings(), keys, changes, &entropy).unwrap()
}

fn body(view: &View, path: &str, version: u64) -> Option<Vec<u8>> {
    let secrets = view.secrets();
    let held = secrets.records.get(&(place(path), Some(version)))?;
    Some(held.body.open(view.keys()).unwrap().expose().clone())
}

#[test]
fn one_of_everything_is_there_afterwards() {
    let view = view(everything());
    let authority = view.authority();
    assert_eq!((authority.epoch, &authority.phase), (3, &Phase::Following));
    assert!(authority.cluster.is_some() && authority.policies.is_some());
    assert_eq!(authority.workloads.len(), 1);
    assert_eq!(authority.identities.len(), 1);
    assert_eq!(authority.mirrors.len(), 1);
    assert_eq!(authority.quarantines.len(), 1);
    assert_eq!(
        body(&view, "secret/data/shop/db", 2).unwrap(),
        br#"{"new":2}"#
    );
    assert!(view.grant(&digest(1)).unwrap().revoked.get().is_none());
    assert!(view.grant(&digest(2)).unwrap().revoked.get().is_some());
    let standing = CredentialName::Standing(WorkloadName::parse("orders").unwrap());
    let token = view.credential(&standing).unwrap().body.open(view.keys());
    assert_eq!(token.unwrap().expose(), b"s.standing");
    assert_eq!(view.queue().len(), 1);
    assert_eq!(view.secrets().leases.len(), 1);
}

#[test]
fn a_doubt_outlasts_what_was_said_of_a_token_before_it() {
    let at = |secs| T0.plus(Duration::from_secs(secs));
    let looked_up = |secs| Grant {
        verified_at: at(secs),
        ..grant(1, 7200)
    };
    let doubted = |told: Change| {
        let view = view(vec![
            samples::granted(1),
            Change::TokenDoubted(digest(1), at(60)),
            told,
        ]);
        view.grant(&digest(1)).unwrap().grant.is_doubted()
    };
    // In flight when it was refused.
    assert!(doubted(Change::Grant(Box::new(looked_up(59)))));
    assert!(doubted(Change::Proven(digest(1), at(59))));
    assert!(doubted(Change::TokenDoubted(digest(1), at(30))));
    // Asked about since.
    assert!(!doubted(Change::Grant(Box::new(looked_up(60)))));
    assert!(!doubted(Change::Proven(digest(1), at(60))));
    let dead = view(vec![
        samples::granted(1),
        samples::revoked(1),
        Change::TokenDoubted(digest(1), at(60)),
        Change::TokenDoubted(digest(2), at(60)),
    ]);
    assert!(!dead.grant(&digest(1)).unwrap().grant.is_doubted());
    assert!(dead.grant(&digest(2)).is_none());
}

#[test]
fn a_proof_changes_nothing_of_a_grant_but_its_moment() {
    let later = T0.plus(Duration::from_secs(60));
    let renewed = grant(2, 7200);
    let changes = vec![
        samples::granted(1),
        samples::revoked(1),
        samples::granted(2),
        Change::Grant(Box::new(renewed.clone())),
        Change::Proven(digest(1), later),
        Change::Proven(digest(2), later),
        Change::Proven(digest(2), T0),
        Change::Proven(digest(3), later),
    ];
    let view = view(changes);
    let proven = view.grant(&digest(2)).unwrap();
    assert_eq!(proven.grant.verified_at, later);
    assert_eq!(proven.grant.deadline, renewed.deadline);
    assert_eq!(view.grant(&digest(1)).unwrap().grant.verified_at, T0);
    assert!(view.grant(&digest(3)).is_none());
}

#[test]
fn a_value_verified_again_keeps_its_body() {
    let mut changes = everything();
    let later = T0.plus(Duration::from_secs(60));
    let again = samples::record("secret/data/shop/db", Some(2), later);
    changes.push(Change::Record(Box::new(again), None));
    let unknown = samples::record("secret/data/shop/gone", Some(1), later);
    changes.push(Change::Record(Box::new(unknown), None));
    let view = view(changes);
    assert_eq!(
        body(&view, "secret/data/shop/db", 2).unwrap(),
        br#"{"new":2}"#
    );
    let secrets = view.secrets();
    let of = (place("secret/data/shop/db"), Some(2));
    assert_eq!(secrets.records[&of].record.verified_at, later);
    assert_eq!(
        secrets.records.len(),
        2,
        "nothing is known of an unknown value"
    );
}

#[test]
fn a_key_that_goes_takes_its_versions_and_no_other_key_s() {
    let mut changes = everything();
    changes.push(samples::value("secret/data/shop/dbx", 1, "{}"));
    changes.push(Change::KeyGone(place("secret/data/shop/db")));
    let view = view(changes);
    let secrets = view.secrets();
    assert!(secrets.keys.is_empty());
    let left: Vec<_> = secrets
        .records
        .keys()
        .map(|(place, _)| place.path.as_str())
        .collect();
    assert_eq!(left, ["secret/data/shop/dbx"]);
}

#[test]
fn a_mirror_that_goes_takes_what_no_other_mirror_covers() {
    let mut changes = everything();
    changes.push(samples::value("secret/data/other", 1, "{}"));
    changes.push(Change::Key(Box::new(KvKey {
        place: place("secret/data/shop/keyonly"),
        current: 1,
        versions: Default::default(),
        metadata: "{}".into(),
    })));
    changes.push(Change::MirrorGone("secret/data/shop/*".into()));
    let view = view(changes);
    let secrets = view.secrets();
    assert!(secrets.keys.is_empty() && view.authority().mirrors.is_empty());
    let left: Vec<_> = secrets
        .records
        .keys()
        .map(|(place, _)| place.path.as_str())
        .collect();
    assert_eq!(left, ["secret/data/other"]);
}

#[test]
fn a_renewed_grant_stays_revoked_and_the_first_cause_stands() {
    let mut changes = everything();
    changes.push(Change::Grant(Box::new(grant(2, 7200))));
    let expired = samples::revocation(2, RevokeCause::Expired);
    changes.push(Change::Revoked(expired));
    let view = view(changes);
    let live = view.grant(&digest(2)).unwrap();
    assert_eq!(live.revoked.get().unwrap().cause, RevokeCause::Operator);
    assert!(view.struck.pin().is_empty());
}

#[test]
fn a_revocation_waits_for_a_grant_that_is_not_there_yet() {
    let view = view(vec![samples::revoked(5), samples::granted(5)]);
    assert!(view.grant(&digest(5)).unwrap().revoked.get().is_some());
    let view = self::view(vec![samples::revoked(6)]);
    assert!(view.revocation(&digest(6)).is_some());
    let view = self::view(vec![samples::revoked(6), Change::GrantForgotten(digest(6))]);
    assert!(view.revocation(&digest(6)).is_none());
}

#[test]
fn a_grant_published_after_its_revocation_is_born_dead() {
    let view = view(Vec::new());
    view.strike(&samples::revocation(5, RevokeCause::Operator));
    view.put_grant(&Arc::new(LiveGrant::new(grant(5, 3600))));
    assert!(view.grant(&digest(5)).unwrap().revoked.get().is_some());
    view.put_revocation(&samples::revocation(5, RevokeCause::Operator));
    assert!(view.struck.pin().is_empty() && view.revocation(&digest(5)).is_some());
}

#[test]
fn what_was_ended_by_an_act_here_is_told_from_what_the_primary_ended() {
    // The second hangs on the first, the third on the second.
    let ended = |causes: [Option<RevokeCause>; 3]| {
        let mut family = [grant(1, 7200), grant(2, 7200), grant(3, 7200)];
        family[1].parent = Some(digest(1));
        family[2].parent = Some(digest(2));
        let revoked = family
            .iter()
            .zip(causes)
            .filter_map(|(grant, cause)| Some(Change::Revoked(Revocation::of(grant, cause?, T0))));
        let revoked: Vec<_> = revoked.collect();
        let grants = family
            .into_iter()
            .map(|grant| Change::Grant(Box::new(grant)));
        let view = view(grants.chain(revoked).collect());
        [1, 2, 3].map(|nr| view.was_ended_here(&digest(nr)))
    };
    use RevokeCause::{Operator, Orphaning, Parent, Primary, Requested};
    assert_eq!(ended([None; 3]), [false; 3]);
    assert_eq!(ended([None, Some(Requested), None]), [false, true, true]);
    assert_eq!(
        ended([Some(Operator), Some(Parent), Some(Parent)]),
        [true; 3]
    );
    // The primary knows of these.
    assert_eq!(ended([Some(Primary), Some(Parent), None]), [false; 3]);
    // Those below were spared.
    assert_eq!(ended([None, Some(Orphaning), None]), [false, true, false]);
}

#[test]
fn policies_of_token_and_identity_are_merged_by_name() {
    const GROUPED: &str = r#"
        path "kv/*" {
            capabilities = ["read"]
            control_group = {
                factor "f" {
                    controlled_capabilities = ["read"]
                    identity { group_names = ["g"] approvals = 1 }
                }
            }
        }"#;
    const PLAIN: &str = r#"path "kv/*" { capabilities = ["read"] }"#;
    let texts = [
        ("a-grouped", GROUPED),
        ("b-plain", PLAIN),
        ("c-grouped", GROUPED),
    ];
    let view = view(vec![samples::policies(&texts, T0)]);
    let approval = |token: &str, identity: &str| {
        let [token, identity] = [token, identity].map(|name| PolicyName::parse(name).unwrap());
        let compiled = view.acl_for(&view.authority(), &[token], &[identity], None, T0);
        let decision = compiled.acl.as_ref().unwrap().decide(&AclRequest {
            namespace: "",
            path: "kv/a",
            operation: Operation::Read,
            data: &serde_json::Map::new(),
            wrap_ttl: None,
            help: false,
        });
        matches!(decision, Decision::Undecidable(_))
    };
    // The first rule's control group counts, and the first is the first by name, whoever brings it.
    assert!(approval("a-grouped", "b-plain") && approval("b-plain", "a-grouped"));
    assert!(!approval("c-grouped", "b-plain") && !approval("b-plain", "c-grouped"));
}

#[test]
fn what_a_policy_forbids_ends_with_the_policy() {
    const ODD: &str = r#"path "kv/{{identity.entity.name}}" { capabilities = ["read"] }"#;
    let Change::Policies(mut set) = samples::policies(&[("odd", ODD)], T0) else {
        panic!("policies are policies");
    };
    let end = T0.plus(Duration::from_secs(2));
    for policy in set.policies.values_mut() {
        policy.expiration = Some(end);
    }
    let view = view(vec![Change::Policies(set)]);
    let entity = EntityId::parse("entity-1").unwrap();
    let mut authority = Authority::clone(&view.authority());
    Arc::make_mut(&mut authority.known)
        .identities
        .insert(entity.clone(), known(samples::identity("a/b")));
    let names = [PolicyName::parse("odd").unwrap()];
    let compiled = |at| view.acl_for(&authority, &names, &[], Some(&entity), at);
    assert_eq!(
        compiled(T0).acl.as_ref().err(),
        Some(&CompileError::Forbidden)
    );
    assert!(compiled(end.plus(Duration::from_millis(1))).acl.is_ok());
}

#[test]
fn an_identity_that_was_verified_again_is_compiled_with_once() {
    let entity = EntityId::parse("entity-1").unwrap();
    let mut known = Known::default();
    let compiled_with = |known: &Known| Arc::clone(known.identity(&entity).unwrap());
    known.put_identity(entity.clone(), samples::identity("orders"), T0);
    let first = compiled_with(&known);
    let later = T0.plus(Duration::from_secs(1));
    known.put_identity(entity.clone(), samples::identity("orders"), later);
    assert!(Arc::ptr_eq(&first, &compiled_with(&known)));
    assert_eq!(known.identities[&entity].verified_at, later);
    known.put_identity(entity.clone(), samples::identity("renamed"), later);
    assert_ne!(first, compiled_with(&known));
}

#[test]
fn entities_and_policies_are_in_use_while_a_token_of_them_lives() {
    let of = |nr, name: &str| {
        let mut of = grant(nr, 3600);
        of.facts.entity_id = EntityId::parse(name).ok();
        of.facts.policies = vec![PolicyName::parse(name).unwrap()];
        Change::Grant(Box::new(of))
    };
    let view = view(vec![of(1, "lives"), of(2, "revoked"), samples::revoked(2)]);
    let now = samples::now(0);
    let used: Vec<_> = view.entities_in_use(now).into_iter().collect();
    assert_eq!(used, [EntityId::parse("lives").unwrap()]);
    let uses = |name: &str, at| view.uses_policy(&PolicyName::parse(name).unwrap(), at);
    assert!(uses("lives", now) && !uses("revoked", now));
    let after = samples::now(1 << 30);
    assert!(view.entities_in_use(after).is_empty() && !uses("lives", after));
}

#[test]
fn an_acl_is_compiled_once_and_again_when_its_identity_changes() {
    let entity = EntityId::parse("entity-1").unwrap();
    let names = [PolicyName::parse("default").unwrap()];
    let view = view(everything());
    let acl =
        |view: &View, at: WallTime| view.acl_for(&view.authority(), &names, &[], Some(&entity), at);
    let first = acl(&view, T0);
    assert!(Arc::ptr_eq(
        &first,
        &acl(&view, T0.plus(Duration::from_secs(1)))
    ));
    let back = acl(&view, T0.minus(Duration::from_secs(1)));
    assert!(!Arc::ptr_eq(&first, &back), "time went back");
    let mut changed = Authority::clone(&view.authority());
    Arc::make_mut(&mut changed.known)
        .identities
        .insert(entity.clone(), known(samples::identity("renamed")));
    let again = view.acl_for(&changed, &names, &[], Some(&entity), T0);
    assert!(!Arc::ptr_eq(&back, &again));
    assert_eq!(
        again.identity.as_deref(),
        Some(&samples::identity("renamed"))
    );
}
