//! AppRole logins in an outage.

use std::time::Duration;

use serde_json::{Value, json};
use shared::{
    approle::{AppRole, Attempt, Claimant, Outcome, ProofDigest, SecretId, THRESHOLD},
    block::BlockCause,
    change::{Change, Mount},
    failover::Phase,
    grant::Grant,
    identity::{Alias, Entity, Identity},
    ledger::EntryKind,
    name::{Accessor, EntityId, MountAccessor},
    offboarding::Offboarded,
    time::Deadline,
    token::is_replica_token,
    workload::Peer,
};

use super::{
    asked::Said,
    likeness::assert_like,
    world::{CUTOVER, Opened, World, identity_of, names, outage, peer, phase, workload},
};
use crate::{
    approle::role_id_digest,
    samples::{self, T0, now},
};

pub(super) const ROLE_ID: &str = "1f9abb40-600c-74ca-6684-a075e6e373c8";
pub(super) const SECRET_ID: &str = "3cfc47f4-23cd-f7d7-0889-62d0651d3d53";

fn mount() -> MountAccessor {
    samples::approle().key.mount
}

fn role_id(world: &World) -> ProofDigest {
    role_id_digest(&world.keys, &mount(), ROLE_ID)
}

/// The outage of a world that knows the role `ci` and one secret id of it, as these leave them.
pub(super) fn known(
    mut world: World,
    role: impl FnOnce(&mut AppRole),
    proof: impl FnOnce(&mut SecretId),
) -> World {
    world.settings.approle_mounts = vec!["approle".into()];
    for change in &mut world.changes {
        if let Change::Cluster(cluster) = change {
            let mount = Mount {
                accessor: mount(),
                kind: "approle".into(),
                version: None,
                shown: json!({"type": "approle"}),
            };
            cluster.mounts.insert("auth/approle/".into(), mount);
        }
    }
    let mut known_role = AppRole {
        role_id: role_id(&world),
        ..samples::approle()
    };
    let mut known_proof = SecretId {
        digest: world
            .keys
            .proof_digest(&[mount().as_str(), ROLE_ID, SECRET_ID]),
        role_id: role_id(&world),
        ..samples::secret_id()
    };
    role(&mut known_role);
    proof(&mut known_proof);
    world
        .and(Change::AppRole(Box::new(known_role)))
        .and(Change::SecretId(Box::new(known_proof)))
}

fn proven() -> World {
    known(World::in_outage(), |_| {}, |_| {})
}

fn with_role(change: impl FnOnce(&mut AppRole)) -> Opened {
    known(World::in_outage(), change, |_| {}).open()
}

fn with_proof(change: impl FnOnce(&mut SecretId)) -> Opened {
    known(World::in_outage(), |_| {}, change).open()
}

fn log_in(world: &Opened, peer: Option<Peer>, body: Value) -> Said {
    let mut ask = world.ask("PUT", "/v1/auth/approle/login").body(body);
    if let Some(peer) = peer {
        ask = ask.peer(peer);
    }
    ask.said()
}

fn ids(role_id: &str, secret_id: &str) -> Value {
    json!({"role_id": role_id, "secret_id": secret_id})
}

/// As the workload `orders`, with the pair that was proven.
fn right(world: &Opened) -> Said {
    log_in(world, Some(peer("orders")), ids(ROLE_ID, SECRET_ID))
}

fn granted(said: &Said) -> &Grant {
    let Some(Change::Grant(grant)) = said.changes.first() else {
        panic!("no grant: {}", said.text);
    };
    grant
}

#[test]
fn a_proven_secret_id_gets_a_grant_that_looks_like_the_primarys() {
    let world = proven().open();
    let mut said = right(&world);
    let token = said.body["auth"]["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(is_replica_token(&token));
    assert_eq!(said.body["auth"]["lease_duration"], 600);
    let grant = granted(&said);
    assert_eq!(grant.digest, world.digest(&token));
    assert_eq!(grant.peer, Some(identity_of("orders")));
    assert_eq!(grant.deadline.remaining(now(160)), Duration::from_secs(600));
    let facts = &grant.facts;
    assert_eq!(
        (facts.path.as_str(), facts.display_name.as_str()),
        ("auth/approle/login", "approle")
    );
    let replica = grant.replica().unwrap();
    assert_eq!(
        replica.max_deadline.remaining(now(160)),
        Duration::from_secs(1800)
    );
    let basis = replica.approle.as_ref().unwrap();
    assert_eq!(basis.role, samples::approle().key);
    let expects = &said.expects;
    let relied = (expects.epoch, expects.settings, expects.issues);
    assert_eq!(relied, (Some(7), Some(0), true));
    assert_eq!(said.age, Some(160));
    said.body["auth"]["metadata"] = json!({"host": "h1", "role_name": "web"});
    said.body["auth"]["entity_id"] = "7fcff664-85b4-9986-d0fd-6a77e3cd3cd2".into();
    assert_like(&said, "approle_login");
}

#[test]
fn metadata_is_the_secret_ids_and_the_name_of_the_role() {
    let said = right(&proven().open());
    assert_eq!(
        said.body["auth"]["metadata"],
        json!({"host": "a", "role_name": "ci"})
    );
    assert_eq!(said.attempt.unwrap().outcome, Outcome::Accepted);
    let Some(Change::Ledger(entry)) = said.changes.get(1) else {
        panic!("no entry");
    };
    assert_eq!(
        (entry.kind, entry.policies.clone()),
        (EntryKind::Grant, names(&["app", "default"]))
    );
    assert_eq!(entry.path.as_deref(), Some("auth/approle/login"));
    assert!(!format!("{entry:?}").contains(SECRET_ID));
}

#[test]
fn the_same_pair_twice_gives_two_tokens() {
    let world = proven().open();
    let first = right(&world).body["auth"]["client_token"].clone();
    let second = world
        .ask("PUT", "/v1/auth/approle/login")
        .body(ids(ROLE_ID, SECRET_ID))
        .peer(peer("orders"))
        .at(161)
        .said();
    assert_ne!(first, second.body["auth"]["client_token"]);
}

#[test]
fn ids_are_trimmed_and_unknown_fields_ignored_as_at_the_primary() {
    let world = proven().open();
    let mut body = ids(&format!(" {ROLE_ID}\n"), &format!("\t{SECRET_ID} "));
    body["zzz"] = 1.into();
    assert_eq!(log_in(&world, Some(peer("orders")), body).status, 200);
    let upper = ids(&ROLE_ID.to_uppercase(), SECRET_ID);
    assert_eq!(log_in(&world, Some(peer("orders")), upper).status, 503);
}

#[test]
fn a_grant_is_bounded_by_workload_role_and_outage() {
    let remaining = |world: &Opened| {
        let said = right(world);
        granted(&said).deadline.remaining(now(160)).as_secs()
    };
    let long = with_role(|role| role.facts.token_ttl = 100_000);
    assert_eq!(remaining(&long), 900, "the entry's policy TTL");
    assert_eq!(
        remaining(&with_role(|role| role.facts.token_max_ttl = 40)),
        40
    );
    let mut short = proven();
    short.settings.bounds.max_outage = Duration::from_secs(200);
    assert_eq!(remaining(&short.open()), 40, "since it was proven");
    let mut ended = outage("o-1");
    ended.bound = Deadline::at(now(159).wall, now(0));
    let world = proven().and(phase(Phase::Holdover(ended))).open();
    assert_eq!(right(&world).status, 503);
}

#[test]
fn an_unlisted_peer_is_refused_before_its_ids_are_looked_at() {
    let world = proven().open();
    let stranger = Peer {
        workloads: vec![],
        ..peer("orders")
    };
    for peer in [None, Some(stranger)] {
        for body in [ids(ROLE_ID, SECRET_ID), ids("x", "y"), json!({})] {
            let said = log_in(&world, peer.clone(), body);
            assert_eq!((said.status, said.attempt), (403, None), "{}", said.text);
            assert!(said.changes.is_empty());
        }
    }
}

#[test]
fn the_entry_is_the_only_one_that_enables_issuing() {
    let both = || Peer {
        workloads: vec![workload("orders").name, workload("billing").name],
        ..peer("orders")
    };
    let mut world = proven();
    world.settings.workloads[0].failover.issue = false;
    let world = world.open();
    let said = log_in(&world, Some(both()), ids(ROLE_ID, SECRET_ID));
    let holder = granted(&said).peer.clone().unwrap();
    assert_eq!(holder.workload.as_str(), "billing");
    let said = right(&world);
    assert_eq!(said.status, 503);
    assert!(said.error().contains("not enabled"), "{}", said.text);
    let said = log_in(&proven().open(), Some(both()), ids(ROLE_ID, SECRET_ID));
    assert_eq!(said.status, 503);
    assert!(said.error().contains("several workloads"), "{}", said.text);
}

#[test]
fn a_pair_that_was_never_proven_is_the_primarys_to_judge() {
    let world = proven().open();
    for body in [
        ids(ROLE_ID, "00000000-0000-0000-0000-000000000000"),
        ids("00000000-0000-0000-0000-000000000000", SECRET_ID),
        ids(SECRET_ID, ROLE_ID),
        json!({"role_id": "00000000-0000-0000-0000-000000000000"}),
    ] {
        let said = log_in(&world, Some(peer("orders")), body.clone());
        assert_eq!(said.status, 503, "{body}");
        assert!(said.error().contains("not verified before the outage"));
        let failed = said.attempt.map(|attempt| attempt.outcome);
        let tried = body.get("secret_id").map(|_| Outcome::Unproven);
        assert_eq!(failed, tried, "{body}");
    }
}

#[test]
fn what_is_missing_is_said_as_the_primary_says_it() {
    let world = proven().open();
    let said = log_in(&world, Some(peer("orders")), json!({"role_id": ROLE_ID}));
    assert_like(&said, "approle_login_nosid");
    let said = log_in(
        &world,
        Some(peer("orders")),
        json!({"role_id": ROLE_ID, "secret_id": null}),
    );
    assert_like(&said, "approle_login_nosid");
    for body in [json!({}), json!({"role_id": " ", "secret_id": SECRET_ID})] {
        let said = log_in(&world, Some(peer("orders")), body);
        assert_like(&said, "approle_login_norole");
    }
    let said = log_in(&world, Some(peer("orders")), json!({"role_id": 7}));
    assert_eq!(said.status, 503, "the primary converts what is no text");
}

#[test]
fn what_is_known_to_be_dead_is_refused_in_the_primarys_words() {
    for world in [
        with_proof(|proof| proof.dead = Some(T0)),
        with_proof(|proof| proof.expires = Some(now(160).wall)),
        with_role(|role| role.role_id = ProofDigest([9; 32])),
    ] {
        let said = right(&world);
        assert_like(&said, "approle_login_badsid");
        assert_eq!(said.attempt.unwrap().outcome, Outcome::Failed);
    }
}

#[test]
fn a_secret_id_of_a_role_that_is_gone_is_dead_with_it() {
    let world = known(World::in_outage(), |_| {}, |proof| proof.dead = Some(T0));
    let world = world
        .and(Change::AppRoleGone(samples::approle().key, T0))
        .open();
    assert_like(&right(&world), "approle_login_badsid");
}

#[test]
fn a_proof_that_is_too_old_or_was_not_seen_to_stand_grants_nothing() {
    let (ended, short) = (now(CUTOVER).wall, Duration::from_secs(901));
    let early = ended.minus(short);
    let old = with_proof(|proof| proof.login_at = ended.minus(Duration::from_secs(86_401)));
    let unseen = with_proof(|proof| proof.verified_at = early);
    let role = with_role(|role| role.verified_at = early);
    for (world, text) in [
        (old, "not used at the primary recently enough"),
        (unseen, "role was not verified recently enough"),
        (role, "role was not verified recently enough"),
    ] {
        let said = right(&world);
        assert_eq!(said.status, 503);
        assert!(said.error().contains(text), "{}", said.text);
        assert_eq!(said.attempt, None, "not a failure of whoever asks");
    }
}

#[test]
fn a_pair_that_the_primary_refused_is_left_to_it_and_is_no_failure() {
    let refused = |proof: &mut SecretId| proof.doubted_at = Some(now(50).steady);
    let world = with_proof(refused);
    let said = right(&world);
    assert_eq!(said.status, 503);
    assert!(said.error().contains("refused at the primary"));
    assert_eq!(said.attempt.unwrap().outcome, Outcome::Unproven);
    let seen = with_proof(|proof| {
        refused(proof);
        proof.verified_at = now(50).steady;
    });
    assert_eq!(right(&seen).status, 200, "it was seen to stand since");
}

/// The refusal that is compared began the doubt.
#[test]
fn a_login_is_judged_as_before_the_refusal_that_put_it_in_doubt() {
    let judge = |change: fn(&mut SecretId)| {
        let world = known(World::following(), |_| {}, change).open();
        let body = json!({"role_id": ROLE_ID, "secret_id": SECRET_ID});
        let ask = world.ask("PUT", "/v1/auth/approle/login").body(body);
        let judged = ask.peer(peer("orders")).judged();
        (judged.response.status, judged.inputs)
    };
    let (status, first) = judge(|_| {});
    assert_eq!(status, 200);
    let (status, doubted) = judge(|proof| proof.doubted_at = Some(now(50).steady));
    assert_eq!(status, 200);
    assert!(doubted.are_as(&first));
    assert_eq!(judge(|proof| proof.dead = Some(now(50).steady)).0, 400);
    let (_, anew) = judge(|proof| proof.accessor = Accessor::parse("another").unwrap());
    assert!(!anew.are_as(&first), "made anew with the same string");
    let (_, old) = judge(|proof| proof.verified_at = T0.minus(Duration::from_secs(60)));
    assert_eq!(old.authority_at, Some(T0.minus(Duration::from_secs(60))));
}

#[test]
fn what_is_not_modelled_is_503_with_a_text_of_its_own() {
    let bound = with_proof(|proof| proof.cidrs = vec!["10.0.0.0/8".into()]);
    let batch = with_role(|role| role.facts.token_type = "batch".into());
    let factor = with_role(|role| role.mfa = true);
    for (world, text) in [
        (bound, "bound to addresses"),
        (batch, "tokens that the replica does not model"),
        (factor, "second factor"),
    ] {
        let said = right(&world);
        assert_eq!(said.status, 503);
        assert!(said.error().contains(text), "{}", said.text);
    }
}

fn entity(change: impl FnOnce(&mut Entity)) -> Change {
    let mut entity = Entity {
        id: "e-1".into(),
        aliases: vec![Alias {
            name: ROLE_ID.into(),
            mount_accessor: mount().as_str().into(),
            ..Alias::default()
        }],
        policies: vec!["paged".into()],
        ..Entity::default()
    };
    change(&mut entity);
    let identity = Identity {
        entity: Some(entity),
        groups: vec![],
    };
    Change::Identity(EntityId::parse("e-1").unwrap(), Box::new(identity), T0)
}

fn of_entity(identity: Option<Change>) -> Said {
    let world = known(
        World::in_outage(),
        |_| {},
        |proof| {
            proof.entity = EntityId::parse("e-1").ok();
            proof.identity_policies = names(&["filtered"]);
        },
    );
    right(&identity.into_iter().fold(world, World::and).open())
}

#[test]
fn the_entity_is_the_one_that_the_primary_gave_last() {
    let said = of_entity(Some(entity(|_| {})));
    assert_eq!(said.body["auth"]["entity_id"], "e-1");
    assert_eq!(said.body["auth"]["identity_policies"], json!(["paged"]));
    let said = of_entity(None);
    assert_eq!(
        said.body["auth"]["identity_policies"],
        json!(["filtered"]),
        "not mirrored: what the login showed"
    );
}

#[test]
fn an_entity_that_is_disabled_or_another_by_now_gets_nothing() {
    let disabled = of_entity(Some(entity(|entity| entity.disabled = true)));
    assert_eq!(
        (disabled.status, disabled.error()),
        (403, "permission denied")
    );
    let gone = Change::Identity(EntityId::parse("e-1").unwrap(), Box::default(), T0);
    let moved = entity(|entity| entity.aliases[0].name = "another".into());
    let elsewhere = entity(|entity| entity.aliases[0].mount_accessor = "other".into());
    for identity in [gone, moved, elsewhere] {
        let said = of_entity(Some(identity));
        assert_eq!(said.status, 503);
        assert!(said.error().contains("the identity behind it has changed"));
    }
}

/// Tries so many different secret ids that the replica does not know.
fn guess(world: &Opened, peer: &Peer, times: usize) {
    for nr in 0..times {
        let body = ids(ROLE_ID, &format!("guess-{nr}"));
        let said = log_in(world, Some(peer.clone()), body);
        assert_eq!(said.status, 503, "{}", said.text);
        if let Some(attempt) = &said.attempt {
            world.0.note_login(attempt, now(160).boot);
        }
    }
}

#[test]
fn guesses_end_guessing_for_who_makes_them_and_nothing_for_others() {
    let world = proven().open();
    let guesser = Peer {
        uid: 4711,
        ..peer("orders")
    };
    let knows = |peer: &Peer| log_in(&world, Some(peer.clone()), ids(ROLE_ID, SECRET_ID));
    guess(&world, &guesser, THRESHOLD - 1);
    assert_eq!(knows(&guesser).status, 200, "another guess may be made");
    guess(&world, &guesser, 8 * THRESHOLD);
    let said = knows(&guesser);
    assert_eq!(said.status, 503, "right and wrong are told alike");
    assert!(said.error().contains("too many different secret ids"));
    assert_eq!(said.attempt, None);
    for other in [
        peer("orders"),
        Peer {
            unit: Some("other.service".into()),
            ..guesser.clone()
        },
    ] {
        assert_eq!(knows(&other).status, 200);
    }
    let later = world
        .ask("PUT", "/v1/auth/approle/login")
        .body(ids(ROLE_ID, SECRET_ID))
        .peer(guesser);
    assert_eq!(later.at(160 + 900).said().status, 200);
}

#[test]
fn a_secret_id_that_was_accepted_from_a_process_is_served_whatever_else_it_tries() {
    let mut said = right(&proven().open());
    // All that is left of it after a restart.
    let Some(Change::SecretId(known)) = said.changes.pop() else {
        panic!("{} changes", said.changes.len());
    };
    let world = proven().and(Change::SecretId(known)).open();
    guess(&world, &peer("orders"), 8 * THRESHOLD);
    let again = right(&world);
    assert_eq!((again.status, again.changes.len()), (200, 2), "nothing new");
    let other = Peer {
        uid: 4711,
        ..peer("orders")
    };
    guess(&world, &other, THRESHOLD);
    let said = log_in(&world, Some(other), ids(ROLE_ID, SECRET_ID));
    assert_eq!(said.status, 503, "right and wrong are told alike");
}

#[test]
fn five_secret_ids_that_the_primary_refused_lock_the_role_id_for_everybody() {
    let world = proven().open();
    let accepted = right(&world).attempt.unwrap();
    for nr in 0..THRESHOLD {
        assert_eq!(right(&world).status, 200, "after {nr}");
        let refused = Attempt {
            pair: ProofDigest([u8::try_from(nr).unwrap(); 32]),
            outcome: Outcome::Failed,
            ..accepted.clone()
        };
        world.0.note_login(&refused, now(160).boot);
    }
    let said = right(&world);
    assert_like(&said, "approle_locked");
    assert_eq!(said.attempt, None, "what is locked counts no further");
    let later = world
        .ask("PUT", "/v1/auth/approle/login")
        .body(ids(ROLE_ID, SECRET_ID))
        .peer(peer("orders"));
    assert_eq!(later.at(160 + 900).said().status, 200);
}

#[test]
fn a_role_id_that_does_not_exist_cannot_be_locked() {
    let world = proven().open();
    for nr in 0..2 * THRESHOLD {
        let body = ids("nobody", &format!("guess-{nr}"));
        let said = log_in(&world, Some(peer("orders")), body);
        world.0.note_login(&said.attempt.unwrap(), now(160).boot);
    }
    assert_eq!(right(&world).status, 200);
}

#[test]
fn nothing_is_answered_at_mounts_that_are_not_approles_or_not_configured() {
    let mut world = proven();
    world.settings.approle_mounts = vec!["other".into()];
    let world = world.open();
    let said = right(&world);
    assert_eq!(said.status, 503);
    assert!(said.error().contains("logins at this mount are not served"));
    let mut nobody = proven();
    for workload in &mut nobody.settings.workloads {
        workload.failover.issue = false;
    }
    assert_eq!(right(&nobody.open()).status, 503);
    let world = proven().open();
    for target in ["/v1/auth/userpass/login/u", "/v1/auth/approle/login/x"] {
        let said = world
            .ask("PUT", target)
            .body(ids(ROLE_ID, SECRET_ID))
            .peer(peer("orders"))
            .said();
        assert_eq!(said.status, 503, "{target}");
    }
}

#[test]
fn nothing_is_issued_without_an_outage_or_after_a_reboot() {
    let world = known(World::following(), |_| {}, |_| {}).open();
    assert_eq!(right(&world).status, 503);
    let world = proven().open();
    world.0.set_offboarded(Some(Offboarded { at: T0 }));
    let said = right(&world);
    assert_eq!((said.status, said.attempt.is_some()), (503, false));
    assert!(said.error().contains("refuses Holdover's own credential"));
    world.0.set_offboarded(None);
    world.0.block_issuing(samples::block(BlockCause::Rebooted));
    let said = right(&world);
    assert_eq!(said.status, 503);
    assert!(said.error().contains("rebooted"));
    assert_eq!(said.attempt, None);
}

#[test]
fn a_start_in_an_outage_gives_nobody_fresh_guesses_and_keeps_nobody_out_who_was_accepted() {
    let mut said = right(&proven().open());
    let Some(Change::SecretId(known)) = said.changes.pop() else {
        panic!("{} changes", said.changes.len());
    };
    let world = proven().and(Change::SecretId(known)).open();
    world.0.start_guessing(now(160));
    let other = Peer {
        uid: 4711,
        ..peer("orders")
    };
    let asks = |who: &Peer, at| {
        let asked = world.ask("PUT", "/v1/auth/approle/login");
        let asked = asked.body(ids(ROLE_ID, SECRET_ID)).peer(who.clone());
        asked.at(at).said()
    };
    for secs in [160, 160 + 899] {
        assert_eq!(asks(&peer("orders"), secs).status, 200);
        let said = asks(&other, secs);
        assert_eq!(said.status, 503, "right and wrong are told alike");
        assert!(said.error().contains("too many different secret ids"));
    }
    assert_eq!(asks(&other, 160 + 900).status, 200);
    // Long after an outage nothing was guessed that counts.
    let following = World::following().open();
    following.0.start_guessing(now(160));
    assert!(following.0.may_try(
        ProofDigest([1; 32]),
        &ProofDigest([9; 32]),
        Claimant::of(&other),
        now(160).boot
    ));
}
