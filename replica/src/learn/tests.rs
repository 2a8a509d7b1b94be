//! What answers of the primary teach, by their samples.

mod approle;
mod lease;
mod lookup;

use serde_json::{Value, json};
use shared::{
    api::Call,
    change::{Cluster, Mount, PhaseRecord},
    failover::Phase,
    grant::{Grant, Origin, ReplicaGrant, Settled},
    name::{
        Accessor, ClusterId, EntityId, MountAccessor, Namespace, OutageId, PolicyName, WorkloadName,
    },
    provenance::{ClusterShown, Provenance, Question, TokenUsed},
    time::Deadline,
    token::TokenKind,
};

use super::*;
use crate::{
    key::Keys,
    samples::{self, Seeded, T0, now},
};

const NOW: u64 = 300;

fn view(changes: Vec<Change>) -> View {
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    let mount = Mount {
        accessor: MountAccessor::parse("database_1").unwrap(),
        kind: "database".into(),
        version: None,
        shown: Value::Null,
    };
    let cluster = Change::Cluster(Box::new(Cluster {
        id: ClusterId::parse("c").unwrap(),
        namespace: Default::default(),
        name: "c".into(),
        version: "2.7.2".into(),
        seal_status: Value::Null,
        performance_mode: String::new(),
        mounts: [("database/".to_owned(), mount)].into(),
        token_ttls: None,
        verified_at: T0,
    }));
    let changes = std::iter::once(cluster).chain(changes);
    View::from_changes(samples::settings(), keys, changes, &Seeded::new(2)).unwrap()
}

fn digest(token: &str) -> TokenDigest {
    Keys::ephemeral(&Seeded::new(1))
        .unwrap()
        .token_digest(token)
}

/// A known token of the primary.
fn known(token: &str, change: impl FnOnce(&mut Grant)) -> Change {
    let mut grant = Grant {
        digest: digest(token),
        accessor: Accessor::parse(&format!("accessor-of-{token}")).unwrap(),
        ..samples::grant(1, 3600)
    };
    change(&mut grant);
    Change::Grant(Box::new(grant))
}

/// A token of the replica's, settled like this.
fn exchanged(token: &str, settled: Settled) -> Change {
    known(token, |grant| {
        grant.origin = Origin::Replica(ReplicaGrant {
            outage: OutageId::parse("o").unwrap(),
            issued_at: T0,
            ttl_ms: 1,
            asked_ms: 1,
            max_deadline: Deadline::after(Duration::from_secs(1), now(0)),
            workload_end: Deadline::after(Duration::from_secs(1), now(0)),
            spared: false,
            of_nobody: false,
            settled,
            approle: None,
        });
    })
}

struct Told<'a> {
    method: &'a str,
    target: &'a str,
    token: Option<&'a str>,
    peer: Option<PeerId>,
    request: Value,
    status: u16,
    body: Value,
    asked: fn(&mut Question<'_>),
    provenance: Provenance,
}

const CURRENT: Provenance = Provenance {
    cluster: ClusterShown::Pinned,
    as_of: Some(WallTime::from_secs(T0.as_secs() + NOW.cast_signed())),
};

const BEHIND: Provenance = Provenance {
    cluster: ClusterShown::Pinned,
    as_of: None,
};

fn as_of(secs: u64) -> Provenance {
    Provenance {
        as_of: Some(now(secs).steady),
        ..CURRENT
    }
}

fn told<'a>(method: &'a str, target: &'a str, token: Option<&'a str>, sample: &str) -> Told<'a> {
    let sample = sample_of(sample);
    Told {
        method,
        target,
        token,
        peer: None,
        request: json!({}),
        status: u16::try_from(sample["status"].as_u64().unwrap()).unwrap(),
        body: sample["body"].clone(),
        asked: |_| {},
        provenance: CURRENT,
    }
}

fn sample_of(name: &str) -> Value {
    const SAMPLES: &str = include_str!("../../tests/samples/answers.json");
    let samples: Value = serde_json::from_str(SAMPLES).unwrap();
    samples.get(name).cloned().unwrap()
}

impl Told<'_> {
    fn exchanged<T>(&self, view: &View, ask: impl FnOnce(&Exchange<'_>) -> T) -> T {
        let call = Call::parse(self.method, self.target).unwrap();
        let token = self.token.map(|token| view.keys().token_digest(token));
        let (request, body) = (self.request.to_string(), self.body.to_string());
        let mut asked = Question {
            reads_alike: true,
            call: &call,
            token: match token {
                Some(_) => TokenUsed::Callers,
                None => TokenUsed::None,
            },
            mirrored_namespace: true,
            asks_for_token: call.asks_for_token(|| {
                let authority = view.authority();
                let mount = authority.cluster.as_ref()?.mounted(call.path.as_str())?;
                Some(mount.kind.clone())
            }),
            body: Some(request.as_bytes()),
        };
        (self.asked)(&mut asked);
        ask(&Exchange {
            evidence: Evidence::new(asked, self.provenance, self.status).whole(body.as_bytes()),
            token: token.as_ref(),
            asker: &Peer {
                uid: 7,
                unit: None,
                workloads: Vec::new(),
            },
            peer: self.peer.as_ref(),
            now: now(NOW),
            answered_at: now(NOW + 1).steady,
        })
    }

    fn teaches(&self, view: &View) -> Vec<Change> {
        self.exchanged(view, |exchange| learn(view, exchange))
    }
}

fn grant(changes: &[Change]) -> &Grant {
    let [Change::Grant(grant)] = changes else {
        panic!("{} changes", changes.len());
    };
    grant
}

fn revocation(changes: &[Change]) -> &Revocation {
    let [Change::Revoked(revocation)] = changes else {
        panic!("{} changes", changes.len());
    };
    revocation
}

#[test]
fn a_login_teaches_its_token() {
    let view = view(vec![]);
    let mut login = told("PUT", "/v1/auth/userpass/login/u", None, "role_token_alias");
    let changes = login.teaches(&view);
    let learned = grant(&changes);
    let token = login.body["auth"]["client_token"]
        .as_str()
        .unwrap()
        .to_owned();
    assert_eq!(learned.digest, view.keys().token_digest(&token));
    assert_eq!(learned.accessor.as_str(), "7lIawB9PZT8UjRuxQ1HIjrVI");
    assert_eq!(learned.origin, Origin::Learned);
    assert_eq!(
        learned.deadline.remaining(now(NOW)),
        Duration::from_secs(3600)
    );
    assert_eq!(
        (learned.verified_at, &learned.peer),
        (now(NOW).steady, &None)
    );
    assert_eq!(learned.facts.display_name, "userpass");
    assert_eq!(
        learned.facts.entity_id.as_ref().unwrap().as_str(),
        "1b54fbd9-113e-5d6a-425f-8acba74e16b1"
    );
    let peer = PeerId {
        workload: WorkloadName::parse("orders").unwrap(),
        uid: 1000,
        unit: None,
    };
    login.target = "/v1/auth/holdover/login";
    login.peer = Some(peer.clone());
    assert_eq!(grant(&login.teaches(&view)).peer, Some(peer));
}

#[test]
fn a_created_token_is_named_after_what_was_asked_for() {
    let view = view(vec![known("s.parent", |_| {})]);
    let mut create = told(
        "POST",
        "/v1/auth/token/create/r",
        Some("s.parent"),
        "token_create_child",
    );
    create.request = json!({"display_name": "ci"});
    let changes = create.teaches(&view);
    let Some(Change::Grant(child)) = changes.first() else {
        panic!("nothing learned");
    };
    assert_eq!(
        (
            child.facts.display_name.as_str(),
            child.facts.role.as_deref()
        ),
        ("token-ci", Some("r"))
    );
    let parent = matches!(changes[1..], [Change::Proven(of, _)] if of == digest("s.parent"));
    assert!(parent, "the parent is proven by it");
}

#[test]
fn tokens_of_other_kinds_are_never_usable() {
    let view = view(vec![]);
    let with = |field: &str, value: Value| {
        let mut login = told("PUT", "/v1/auth/userpass/login/u", None, "role_token_alias");
        login.body["auth"][field] = value;
        login.teaches(&view)
    };
    let limited = with("num_uses", json!(5));
    let limited = grant(&limited);
    assert_eq!(
        (&limited.origin, limited.facts.policies.len()),
        (&Origin::LimitedUse, 0)
    );
    for (field, value) in [
        ("token_policies", json!(["root"])),
        ("token_policies", json!(["response-wrapping"])),
        ("identity_policies", json!(["root"])),
        ("client_token", json!("")),
        ("mfa_requirement", json!({"mfa_request_id": "x"})),
        ("lease_duration", json!(0)),
    ] {
        assert!(with(field, value.clone()).is_empty(), "{field} {value}");
    }
    let batch = |orphan: bool| {
        let mut login = told("PUT", "/v1/auth/userpass/login/u", None, "role_token_alias");
        login.body["auth"]["token_type"] = json!("batch");
        login.body["auth"]["accessor"] = json!("");
        login.body["auth"]["orphan"] = json!(orphan);
        login.teaches(&view)
    };
    assert_eq!(grant(&batch(true)).facts.kind, TokenKind::Batch);
    assert!(
        batch(false).is_empty(),
        "it dies with a parent that nobody sees"
    );
}

#[test]
fn a_token_without_policies_is_learned_though_the_primary_leaves_its_list_out() {
    let view = view(vec![]);
    let mut login = told("PUT", "/v1/auth/userpass/login/u", None, "role_token_alias");
    let auth = login.body["auth"].as_object_mut().unwrap();
    auth.remove("token_policies");
    auth.insert("policies".into(), json!([]));
    assert!(grant(&login.teaches(&view)).facts.policies.is_empty());
}

#[test]
fn wrapped_answers_and_other_namespaces_teach_nothing() {
    let view = view(vec![]);
    let mut login = told("PUT", "/v1/auth/userpass/login/u", None, "role_token_alias");
    login.body["wrap_info"] = json!({"token": "s.wrapping"});
    assert!(login.teaches(&view).is_empty());
    let mut elsewhere = told("PUT", "/v1/auth/userpass/login/u", None, "role_token_alias");
    elsewhere.asked = |asked| asked.mirrored_namespace = false;
    assert!(elsewhere.teaches(&view).is_empty());
}

#[test]
fn a_token_of_another_namespace_is_not_learned_whatever_shows_it() {
    let root = view(vec![]);
    let mut login = told("PUT", "/v1/auth/userpass/login/u", None, "role_token_alias");
    login.body["auth"]["client_token"] = json!("s.8ORoHIjGZBMJl5xvOgar7oXN.M9aSHx");
    assert!(login.teaches(&root).is_empty());
    let mut look = told(
        "GET",
        "/v1/auth/token/lookup-self",
        Some("s.app"),
        "token_lookup_self",
    );
    look.body["data"]["namespace_path"] = json!("team/");
    assert!(look.teaches(&root).is_empty());

    let mut settings = shared::settings::Settings::clone(&samples::settings());
    settings.namespace = shared::name::Namespace::parse("team");
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    let team = View::from_changes(settings.into(), keys, vec![], &Seeded::new(2)).unwrap();
    assert_eq!(grant(&login.teaches(&team)).namespace.as_str(), "team");
    assert_eq!(grant(&look.teaches(&team)).namespace.as_str(), "team");
    login.body["auth"]["client_token"] = json!("s.8ORoHIjGZBMJl5xvOgar7oXN");
    look.body["data"]
        .as_object_mut()
        .unwrap()
        .remove("namespace_path");
    assert!(login.teaches(&team).is_empty() && look.teaches(&team).is_empty());
}

/// The view of a replica for which this namespace is configured.
fn view_in(namespace: &str, changes: Vec<Change>) -> View {
    let settings = shared::settings::Settings {
        namespace: Namespace::parse(namespace),
        ..shared::settings::Settings::clone(&samples::settings())
    };
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    View::from_changes(settings.into(), keys, changes, &Seeded::new(2)).unwrap()
}

#[test]
fn a_renewal_does_not_say_which_namespace_its_token_is_of() {
    let token = "s.8ORoHIjGZBMJl5xvOgar7oXN.M9aSHx";
    let renewal = |token: &'static str| {
        let mut renewal = told(
            "PUT",
            "/v1/auth/token/renew-self",
            Some(token),
            "token_renew_self",
        );
        renewal.body["auth"]["client_token"] = json!(token);
        renewal
    };
    assert!(renewal(token).teaches(&view_in("team", vec![])).is_empty());
    let of_the_root = "s.8ORoHIjGZBMJl5xvOgar7oXN";
    let learned = renewal(of_the_root).teaches(&view(vec![]));
    assert!(grant(&learned).namespace.is_root());
}

#[test]
fn a_known_token_that_turns_out_to_be_of_another_namespace_decides_nothing_any_more() {
    let token = "s.8ORoHIjGZBMJl5xvOgar7oXN.M9aSHx";
    let team = Namespace::parse("team");
    let taken_for_ours = known(token, |grant| grant.namespace = team.clone());
    let view = view_in("team", vec![taken_for_ours]);
    let look = "/v1/auth/token/lookup-self";
    let mut look = told("GET", look, Some(token), "token_lookup_self");
    look.body["data"]["namespace_path"] = json!("other/");
    let other = Namespace::parse("other");
    assert_eq!(grant(&look.teaches(&view)).namespace, other);
    let shown = look.body["data"].to_string();
    let looked_up = grant_from_lookup(&view, &digest(token), shown.as_bytes(), None, now(NOW));
    assert_eq!(grant(&[looked_up.unwrap()]).namespace, other);
}

#[test]
fn a_renewal_moves_the_deadline_of_a_known_token() {
    let token = "s.FV7FA8g4mAmh7kjOnSwxVYLS";
    let view = view(vec![known(token, |grant| {
        grant.facts.display_name = "kept".into()
    })]);
    let renewal = told(
        "PUT",
        "/v1/auth/token/renew-self",
        Some(token),
        "token_renew_self",
    );
    let changes = renewal.teaches(&view);
    let renewed = grant(&changes);
    assert_eq!(
        renewed.deadline.remaining(now(NOW)),
        Duration::from_secs(600)
    );
    assert_eq!(
        (renewed.facts.display_name.as_str(), &renewed.origin),
        ("kept", &Origin::Learned),
        "its times are to be looked up again"
    );
    assert_eq!(renewed.facts.expire_time, None);
    assert_eq!(
        renewed.facts.last_renewal_time,
        Some(now(NOW).steady.as_secs())
    );
}

#[test]
fn dead_tokens_and_replica_grants_are_not_learned_anew() {
    let token = "s.FV7FA8g4mAmh7kjOnSwxVYLS";
    let renewal = told(
        "PUT",
        "/v1/auth/token/renew-self",
        Some(token),
        "token_renew_self",
    );
    let revoked = Change::Revoked(Revocation {
        digest: digest(token),
        accessor: Accessor::parse("a").unwrap(),
        cause: RevokeCause::Requested,
        at: T0,
    });
    assert!(
        renewal
            .teaches(&view(vec![known(token, |_| {}), revoked]))
            .is_empty()
    );
    let exchanged = exchanged(
        "ho.x",
        Settled::Exchanged(Accessor::parse("behind").unwrap()),
    );
    let swapped = told(
        "PUT",
        "/v1/auth/token/renew-self",
        Some("ho.x"),
        "token_renew_self",
    );
    let taught = swapped.teaches(&view(vec![exchanged]));
    assert!(
        taught
            .iter()
            .all(|change| matches!(change, Change::Proven(..))),
        "nor the token behind one, which is proven"
    );
}

#[test]
fn a_token_that_the_primary_refuses_is_in_doubt_from_then_on_and_not_dead() {
    let token = "s.app";
    let living = || view(vec![known(token, |_| {})]);
    for (method, target) in [
        ("GET", "/v1/auth/token/lookup-self"),
        ("PUT", "/v1/auth/token/renew-self"),
        ("GET", "/v1/database/creds/a"),
        ("PUT", "/v1/auth/token/create"),
        ("PUT", "/v1/auth/token/revoke-self"),
        ("PUT", "/v1/sys/capabilities-self"),
    ] {
        let mut refused = told(method, target, Some(token), "expired_use");
        for provenance in [CURRENT, BEHIND] {
            refused.provenance = provenance;
            let changes = refused.teaches(&living());
            let answered_at = now(NOW + 1).steady;
            let doubted = matches!(
                changes[..],
                [Change::TokenDoubted(of, at)] if of == digest(token) && at == answered_at
            );
            assert!(doubted, "{target}");
        }
        refused.provenance = Provenance::UNSHOWN;
        assert!(refused.teaches(&living()).is_empty(), "{target}");
        let denied = told(method, target, Some(token), "token_lookup_noperm");
        assert!(
            denied.teaches(&living()).is_empty(),
            "a policy's refusal says nothing of the token: {target}"
        );
    }
    let elsewhere = told("GET", "/v1/other/data/a", Some(token), "expired_use");
    assert!(
        elsewhere.teaches(&living()).is_empty(),
        "a backend that is not known may refuse in its own words"
    );
}

#[test]
fn a_doubt_is_told_once_and_only_of_what_the_primary_may_still_accept() {
    let refused = |token, known| {
        let told = told(
            "GET",
            "/v1/auth/token/lookup-self",
            Some(token),
            "expired_use",
        );
        !told.teaches(&view(known)).is_empty()
    };
    let doubted = |grant: &mut Grant| grant.doubted_at = Some(grant.verified_at.plus(NOTHING));
    assert!(refused("s.app", vec![known("s.app", |_| {})]));
    assert!(refused("s.app", vec![known("s.app", doubted)]));
    assert!(!refused(
        "s.app",
        vec![known("s.app", |grant| grant.doubted_at = Some(now(1).steady))]
    ));
    let revoked = Change::Revoked(Revocation {
        digest: digest("s.app"),
        accessor: Accessor::parse("a").unwrap(),
        cause: RevokeCause::Requested,
        at: T0,
    });
    assert!(!refused("s.app", vec![known("s.app", |_| {}), revoked]));
    assert!(!refused("s.unknown", vec![]));
    let of_replica = |settled: Settled| vec![exchanged("ho.x", settled)];
    let behind = Accessor::parse("behind").unwrap();
    assert!(refused("ho.x", of_replica(Settled::Exchanged(behind))));
    assert!(!refused("ho.x", of_replica(Settled::Draining)));
}

const NOTHING: Duration = Duration::ZERO;

#[test]
fn revocations_that_passed_through_bind_here() {
    let view = view(vec![known("s.app", |_| {}), known("s.other", |_| {})]);
    let mut gone = told(
        "PUT",
        "/v1/auth/token/revoke-self",
        Some("s.app"),
        "expired_use",
    );
    (gone.status, gone.body) = (204, Value::Null);
    let changes = gone.teaches(&view);
    assert_eq!(
        (revocation(&changes).digest, revocation(&changes).cause),
        (digest("s.app"), RevokeCause::Requested)
    );
    for (target, request) in [
        ("/v1/auth/token/revoke", json!({"token": "s.other"})),
        (
            "/v1/auth/token/revoke-accessor",
            json!({"accessor": "accessor-of-s.other"}),
        ),
    ] {
        (gone.target, gone.request) = (target, request);
        let changes = gone.teaches(&view);
        let [revoked @ Change::Revoked(_), Change::Proven(by, _)] = &changes[..] else {
            panic!("{} changes", changes.len());
        };
        let revoked = revocation(std::slice::from_ref(revoked));
        assert_eq!(
            (revoked.digest, revoked.cause, *by),
            (digest("s.other"), RevokeCause::Primary, digest("s.app"))
        );
    }
    gone.target = "/v1/auth/token/revoke-orphan";
    gone.request = json!({"token": "s.other"});
    let orphaning = gone.teaches(&view);
    let cause = revocation(&orphaning[..1]).cause;
    assert_eq!(cause, RevokeCause::Orphaning, "its children live on");
    gone.provenance = Provenance::UNSHOWN;
    assert!(gone.teaches(&view).is_empty());
    (gone.provenance, gone.status) = (CURRENT, 503);
    assert!(gone.teaches(&view).is_empty());
}

#[test]
fn a_current_success_proves_a_token_as_of_its_moment_once_in_a_while() {
    let proof = |verified: u64, status: u16, provenance: Provenance| {
        let view = view(vec![known("s.app", |grant| {
            grant.verified_at = now(verified).wall
        })]);
        let mut read = told("GET", "/v1/database/creds/a", Some("s.app"), "kv2_read");
        (read.status, read.provenance) = (status, provenance);
        let changes = read.teaches(&view);
        match changes[..] {
            [] => None,
            [Change::Proven(of, at)] if of == digest("s.app") => Some(at),
            _ => panic!("{} changes", changes.len()),
        }
    };
    assert_eq!(proof(NOW - 60, 200, CURRENT), Some(now(NOW).steady));
    assert_eq!(proof(NOW - 59, 200, CURRENT), None);
    assert_eq!(proof(0, 404, CURRENT), None);
    // Of a standby: no newer than what it has shown to know.
    assert_eq!(proof(0, 200, as_of(NOW - 20)), Some(now(NOW - 20).steady));
    assert_eq!(proof(NOW - 60, 200, as_of(NOW - 20)), None);
    assert_eq!(proof(NOW - 10, 200, as_of(NOW - 100)), None);
    for provenance in [BEHIND, Provenance::UNSHOWN] {
        assert_eq!(proof(0, 200, provenance), None);
    }
    let view = view(vec![
        known("s.app", |_| {}),
        known("s.uses", |grant| grant.origin = Origin::LimitedUse),
    ]);
    for (target, token) in [
        ("/v1/sys/health", "s.app"),
        ("/v1/sys/internal/ui/mounts", "s.app"),
        ("/v1/other/a", "s.app"),
        ("/v1/database/creds/a", "s.uses"),
        ("/v1/database/creds/a", "s.x"),
    ] {
        let read = told("GET", target, Some(token), "kv2_read");
        assert!(read.teaches(&view).is_empty(), "{target} {token}");
    }
}

#[test]
fn a_doubt_ends_with_the_next_current_acceptance() {
    let ends = |as_of: Provenance| {
        let view = view(vec![known("s.app", |grant| {
            grant.verified_at = now(NOW - 30).steady;
            grant.doubted_at = Some(now(NOW - 10).steady);
        })]);
        let mut read = told("GET", "/v1/database/creds/a", Some("s.app"), "kv2_read");
        read.provenance = as_of;
        !read.teaches(&view).is_empty()
    };
    assert!(ends(CURRENT), "though the last proof is young");
    assert!(!ends(BEHIND));
}

#[test]
fn what_was_brought_into_being_counts_whichever_node_passed_it_on() {
    let learned = |change: fn(&mut Told<'_>)| {
        let mut login = told("PUT", "/v1/auth/userpass/login/u", None, "role_token_alias");
        change(&mut login);
        let changes = login.teaches(&view(vec![]));
        changes.len() == 1
    };
    assert!(learned(|login| login.provenance = BEHIND));
    assert!(!learned(|login| login.provenance = Provenance::UNSHOWN));
    let batch = |login: &mut Told<'_>| {
        login.body["auth"]["token_type"] = json!("batch");
        login.body["auth"]["accessor"] = json!("");
    };
    assert!(learned(batch));
    // A node that is cut off makes one all the same.
    assert!(!learned(|login| {
        login.body["auth"]["token_type"] = json!("batch");
        login.provenance = BEHIND;
    }));
}

#[test]
fn a_look_up_of_itself_shows_a_token_and_its_renewal_elsewhere() {
    let token = "s.app";
    let look = || {
        told(
            "GET",
            "/v1/auth/token/lookup-self",
            Some(token),
            "token_lookup_self",
        )
    };
    let first = look().teaches(&view(vec![]));
    let learned = grant(&first).clone();
    assert_eq!(
        (learned.digest, &learned.origin),
        (digest(token), &Origin::Primary)
    );
    let again = look().teaches(&view(vec![Change::Grant(Box::new(learned.clone()))]));
    assert!(again.is_empty());
    let mut renewed = look();
    renewed.body["data"]["ttl"] = json!(7);
    let known = view(vec![Change::Grant(Box::new(learned))]);
    let changes = renewed.teaches(&known);
    assert_eq!(
        grant(&changes).deadline.remaining(now(NOW)),
        Duration::from_secs(7)
    );
    // A node that had not seen what is known here.
    for provenance in [as_of(NOW - 1), BEHIND, Provenance::UNSHOWN] {
        renewed.provenance = provenance;
        assert!(renewed.teaches(&known).is_empty());
    }
}

#[test]
fn what_a_standby_shows_is_as_old_as_what_it_has_shown_to_know() {
    let mut look = told(
        "GET",
        "/v1/auth/token/lookup-self",
        Some("s.app"),
        "token_lookup_self",
    );
    look.provenance = as_of(NOW - 30);
    let changes = look.teaches(&view(vec![]));
    assert_eq!(grant(&changes).verified_at, now(NOW - 30).steady);
}

#[test]
fn what_was_not_proven_since_the_last_outage_is_proven_however_young_its_last_proof_is() {
    let token = "s.app";
    let since = |from| {
        let phase = Change::Phase(PhaseRecord {
            phase: Phase::Following,
            epoch: 1,
            proven_from: from,
        });
        let known = known(token, |grant| grant.verified_at = now(NOW - 1).steady);
        let create = "/v1/auth/token/create";
        let accepted = told("POST", create, Some(token), "token_create_child");
        let taught = accepted.teaches(&view(vec![known, phase]));
        taught
            .iter()
            .any(|change| matches!(change, Change::Proven(of, _) if *of == digest(token)))
    };
    assert!(!since(None));
    assert!(!since(Some(now(NOW - 1).steady)));
    assert!(since(Some(now(NOW).steady)));
}
