//! What answers of the primary teach, by their samples.

mod approle;
mod lease;
mod lookup;

use serde_json::{Value, json};
use shared::{
    change::{Cluster, Mount},
    grant::{Grant, Origin, ReplicaGrant, Settled},
    name::{Accessor, ClusterId, EntityId, MountAccessor, OutageId, PolicyName, WorkloadName},
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

struct Told<'a> {
    method: &'a str,
    target: &'a str,
    token: Option<&'a str>,
    peer: Option<PeerId>,
    request: Value,
    status: u16,
    body: Value,
    namespace: Option<&'a str>,
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
        namespace: None,
    }
}

fn sample_of(name: &str) -> Value {
    const SAMPLES: &str = include_str!("../../tests/samples/answers.json");
    let samples: Value = serde_json::from_str(SAMPLES).unwrap();
    samples.get(name).cloned().unwrap()
}

impl Told<'_> {
    fn teaches(&self, view: &View) -> Vec<Change> {
        let call = Call::parse(self.method, self.target).unwrap();
        let token = self.token.map(|token| view.keys().token_digest(token));
        let (request, body) = (self.request.to_string(), self.body.to_string());
        learn(
            view,
            &Exchange {
                call: &call,
                namespace: self.namespace,
                token: token.as_ref(),
                peer: self.peer.as_ref(),
                request: request.as_bytes(),
                status: self.status,
                body: body.as_bytes(),
                now: now(NOW),
            },
        )
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
    elsewhere.namespace = Some("team");
    assert!(elsewhere.teaches(&view).is_empty());
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
    let exchanged = known("ho.x", |grant| {
        grant.origin = Origin::Replica(ReplicaGrant {
            outage: OutageId::parse("o").unwrap(),
            issued_at: T0,
            ttl_ms: 1,
            asked_ms: 1,
            max_deadline: Deadline::after(Duration::from_secs(1), now(0)),
            workload_end: Deadline::after(Duration::from_secs(1), now(0)),
            spared: false,
            settled: Settled::Exchanged(Accessor::parse("behind").unwrap()),
            approle: None,
        });
    });
    let swapped = told(
        "PUT",
        "/v1/auth/token/renew-self",
        Some("ho.x"),
        "token_renew_self",
    );
    assert!(
        swapped.teaches(&view(vec![exchanged])).is_empty(),
        "nor the token behind one"
    );
}

#[test]
fn a_token_that_the_primary_calls_dead_is_dead_here() {
    let token = "s.app";
    let living = || view(vec![known(token, |_| {})]);
    for (method, target) in [("GET", "lookup-self"), ("PUT", "renew-self")] {
        let target = format!("/v1/auth/token/{target}");
        let refused = told(method, &target, Some(token), "expired_use").teaches(&living());
        assert_eq!(revocation(&refused).cause, RevokeCause::Primary);
        let denied = told(method, &target, Some(token), "token_lookup_noperm");
        assert!(
            denied.teaches(&living()).is_empty(),
            "a policy's refusal says nothing of the token"
        );
    }
    for (method, target) in [
        ("GET", "/v1/database/creds/a"),
        ("PUT", "/v1/auth/token/create"),
        ("PUT", "/v1/auth/token/revoke-self"),
        ("PUT", "/v1/sys/capabilities-self"),
    ] {
        let refused = told(method, target, Some(token), "expired_use").teaches(&living());
        assert_eq!(revocation(&refused).cause, RevokeCause::Primary, "{target}");
        let denied = told(method, target, Some(token), "token_lookup_noperm");
        assert!(denied.teaches(&living()).is_empty(), "{target}");
    }
    let elsewhere = told("GET", "/v1/other/data/a", Some(token), "expired_use");
    assert!(
        elsewhere.teaches(&living()).is_empty(),
        "a backend that is not known may refuse in its own words"
    );
    let unknown = told(
        "GET",
        "/v1/auth/token/lookup-self",
        Some("s.unknown"),
        "expired_use",
    );
    assert!(unknown.teaches(&living()).is_empty());
}

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
        assert_eq!(
            (revocation(&changes).digest, revocation(&changes).cause),
            (digest("s.other"), RevokeCause::Primary)
        );
    }
    gone.status = 503;
    assert!(gone.teaches(&view).is_empty());
}

#[test]
fn a_forwarded_success_proves_a_token_once_in_a_while() {
    let proof = |verified: u64, status: u16| {
        let view = view(vec![known("s.app", |grant| {
            grant.verified_at = now(verified).wall
        })]);
        let mut read = told("GET", "/v1/secret/data/a", Some("s.app"), "kv2_read");
        read.status = status;
        read.teaches(&view)
    };
    let proven = proof(NOW - 60, 200);
    assert!(matches!(proven[..], [Change::Proven(_, at)] if at == now(NOW).steady));
    assert!(proof(NOW - 59, 200).is_empty());
    assert!(proof(0, 404).is_empty());
    let view = view(vec![
        known("s.app", |_| {}),
        known("s.uses", |grant| grant.origin = Origin::LimitedUse),
    ]);
    for (target, token) in [
        ("/v1/sys/health", "s.app"),
        ("/v1/secret/data/a", "s.uses"),
        ("/v1/secret/data/a", "s.x"),
    ] {
        let read = told("GET", target, Some(token), "kv2_read");
        assert!(read.teaches(&view).is_empty(), "{target} {token}");
    }
}

#[test]
fn a_token_that_may_be_refused_for_a_while_is_no_longer_proven_and_not_dead() {
    let token = "s.app";
    let of_entity = |grant: &mut Grant| {
        grant.facts.entity_id = Some(shared::name::EntityId::parse("e").unwrap());
    };
    let refused = told(
        "GET",
        "/v1/auth/token/lookup-self",
        Some(token),
        "expired_use",
    );
    let changes = refused.teaches(&view(vec![known(token, of_entity)]));
    assert_eq!(grant(&changes).verified_at, shared::time::WallTime::EPOCH);
    let bound = |grant: &mut Grant| grant.facts.bound_cidrs = vec!["10.0.0.0/8".into()];
    let changes = refused.teaches(&view(vec![known(token, bound)]));
    assert_eq!(grant(&changes).verified_at, shared::time::WallTime::EPOCH);
    let doubted = refused.teaches(&view(vec![known(token, |grant| {
        of_entity(grant);
        grant.verified_at = shared::time::WallTime::EPOCH;
    })]));
    assert!(doubted.is_empty());
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
    let changes = renewed.teaches(&view(vec![Change::Grant(Box::new(learned))]));
    assert_eq!(
        grant(&changes).deadline.remaining(now(NOW)),
        Duration::from_secs(7)
    );
}
