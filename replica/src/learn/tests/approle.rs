//! AppRole logins.

use shared::{
    approle::{Claimant, Outcome, SecretId},
    name::RoleName,
    workload::{FailoverPolicy, OnFailover, OnRecovery, Workload},
};

use super::*;
use crate::{approle::role_id_digest, learn};

const ROLE_ID: &str = "1f9abb40";
const SECRET_ID: &str = "3cfc47f4";

fn proof_digest() -> shared::approle::ProofDigest {
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    keys.proof_digest(&[samples::approle().key.mount.as_str(), ROLE_ID, SECRET_ID])
}

/// A view where logins at `auth/approle/` are learned from.
fn learning(changes: Vec<Change>, issue: bool) -> View {
    let mount = Mount {
        accessor: samples::approle().key.mount,
        kind: "approle".into(),
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
        mounts: [("auth/approle/".to_owned(), mount)].into(),
        token_ttls: None,
        verified_at: T0,
    }));
    let mut settings = shared::settings::Settings::clone(&samples::settings());
    settings.approle_mounts = vec!["approle".into()];
    settings.workloads = vec![workload(issue)];
    let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
    let changes = std::iter::once(cluster).chain(changes);
    View::from_changes(settings.into(), keys, changes, &Seeded::new(2)).unwrap()
}

fn workload(issue: bool) -> Workload {
    Workload {
        name: WorkloadName::parse("orders").unwrap(),
        role: RoleName::parse("orders").unwrap(),
        entity_alias: None,
        auto_token: false,
        failover: FailoverPolicy {
            issue,
            ttl: Duration::from_secs(900),
            max_ttl: Duration::from_secs(7200),
            on_recovery: OnRecovery::Exchange,
            on_failover: OnFailover::Resume,
        },
    }
}

fn login() -> Told<'static> {
    let mut told = told("PUT", "/v1/auth/approle/login", None, "approle_login");
    told.request = json!({"role_id": ROLE_ID, "secret_id": SECRET_ID});
    told
}

impl Told<'_> {
    fn is_candidate(&self, view: &View) -> bool {
        self.exchanged(view, |exchange| learn::candidate(view, exchange))
            .is_some()
    }

    fn attempted(&self, view: &View) -> Option<Outcome> {
        let attempt = self.exchanged(view, |exchange| learn::attempt(view, exchange));
        attempt.map(|attempt| attempt.outcome)
    }
}

fn known(change: impl FnOnce(&mut SecretId)) -> Change {
    let mut proof = SecretId {
        digest: proof_digest(),
        entity: EntityId::parse("7fcff664-85b4-9986-d0fd-6a77e3cd3cd2").ok(),
        ..samples::secret_id()
    };
    change(&mut proof);
    Change::SecretId(Box::new(proof))
}

#[test]
fn a_login_that_succeeded_is_worth_verifying_once() {
    let view = learning(vec![], true);
    let candidate = login().exchanged(&view, |exchange| learn::candidate(&view, exchange));
    let candidate = candidate.unwrap();
    assert_eq!(candidate.role.name.as_str(), "web");
    assert_eq!(candidate.pair, proof_digest());
    let mount = samples::approle().key.mount;
    assert_eq!(
        candidate.role_id,
        role_id_digest(view.keys(), &mount, ROLE_ID)
    );
    assert_eq!(candidate.secret_id.expose(), SECRET_ID);
    assert!(!login().is_candidate(&learning(vec![known(|_| {})], true)));
    let died = learning(vec![known(|proof| proof.dead = Some(T0))], true);
    assert!(
        login().is_candidate(&died),
        "it may be another of the same text"
    );
}

#[test]
fn what_is_no_whole_login_at_a_mount_that_is_learned_from_is_not() {
    let view = learning(vec![], true);
    assert!(
        !login().is_candidate(&learning(vec![], false)),
        "nothing may be issued"
    );
    let with = |change: fn(&mut Told<'_>)| {
        let mut told = login();
        change(&mut told);
        told.is_candidate(&view)
    };
    assert!(with(|_| {}));
    assert!(!with(|told| told.status = 400));
    assert!(!with(|told| {
        told.asked = |asked| asked.mirrored_namespace = false;
    }));
    assert!(!with(|told| told.provenance = Provenance::UNSHOWN));
    assert!(!with(|told| told.target = "/v1/auth/userpass/login/u"));
    assert!(!with(|told| told.request = json!({"role_id": ROLE_ID})));
    assert!(!with(
        |told| told.body["auth"]["token_type"] = "batch".into()
    ));
    assert!(!with(
        |told| told.body["auth"]["mfa_requirement"] = json!({"id": "x"})
    ));
    assert!(!with(|told| told.body["auth"]["client_token"] = "".into()));
    assert!(!with(|told| told.body["auth"]["metadata"] = json!({})));
}

#[test]
fn a_known_secret_id_is_proven_anew_by_its_login() {
    let proven = |change: fn(&mut SecretId)| {
        let changes = login().teaches(&learning(vec![known(change)], true));
        changes.into_iter().find_map(|change| match change {
            Change::SecretId(proof) => Some(*proof),
            _ => None,
        })
    };
    let again = proven(|_| {}).unwrap();
    assert_eq!(again.login_at, now(NOW).steady);
    assert_eq!(again.accessor, samples::secret_id().accessor);
    let young = |proof: &mut SecretId| {
        proof.login_at = now(NOW - 59).steady;
        proof.accepted_from = vec![Claimant { uid: 7, unit: None }];
    };
    assert!(proven(young).is_none());
    let by_another = proven(|proof| proof.login_at = now(NOW - 59).steady);
    let claimant = Claimant { uid: 7, unit: None };
    assert!(by_another.unwrap().is_known_to(&claimant));
    let moved = proven(|proof| {
        proof.login_at = now(NOW - 59).steady;
        proof.entity = None;
    });
    assert!(moved.unwrap().entity.is_some());
    assert!(proven(|proof| proof.dead = Some(T0)).is_none());
}

#[test]
fn failures_at_the_primary_count_and_its_lock_does() {
    let view = learning(vec![], true);
    let answered = |sample: &str| {
        let sample = sample_of(sample);
        let mut told = login();
        told.status = u16::try_from(sample["status"].as_u64().unwrap()).unwrap();
        told.body = sample["body"].clone();
        told.attempted(&view)
    };
    assert_eq!(answered("approle_login"), Some(Outcome::Accepted));
    assert_eq!(answered("approle_login_badsid"), Some(Outcome::Failed));
    assert_eq!(answered("approle_locked"), Some(Outcome::Locked));
    assert_eq!(answered("approle_login_norole"), None);
    // The primary did not look at the secret id, and counts nothing.
    let mut unread = login();
    unread.status = 400;
    unread.body = serde_json::json!({ "errors": ["missing secret_id"] });
    assert_eq!(unread.attempted(&view), None);
}

#[test]
fn a_known_secret_id_that_the_primary_refuses_is_to_be_looked_at() {
    let refused = |sample: &str, provenance: Provenance, change: fn(&mut SecretId)| {
        let sample = sample_of(sample);
        let mut told = login();
        told.status = u16::try_from(sample["status"].as_u64().unwrap()).unwrap();
        (told.body, told.provenance) = (sample["body"].clone(), provenance);
        let changes = told.teaches(&learning(vec![known(change)], true));
        changes.into_iter().find_map(|change| match change {
            Change::SecretId(proof) => Some((proof.dead, proof.doubted_at)),
            _ => None,
        })
    };
    let doubted = Some((None, Some(now(NOW + 1).steady)));
    for provenance in [CURRENT, BEHIND] {
        let refused = refused("approle_login_badsid", provenance, |_| {});
        assert_eq!(refused, doubted);
    }
    for sample in ["approle_login_nosid", "approle_locked"] {
        let refused = refused(sample, CURRENT, |_| {});
        assert_eq!(refused, None, "others may have done that");
    }
    let elsewhere = refused("approle_login_badsid", Provenance::UNSHOWN, |_| {});
    assert_eq!(elsewhere, None);
    for known in [
        (|proof| proof.dead = Some(T0)) as fn(&mut SecretId),
        |proof| proof.doubted_at = Some(now(NOW).steady),
    ] {
        assert_eq!(refused("approle_login_badsid", CURRENT, known), None);
    }
    let mut other = login();
    other.status = 400;
    other.request["secret_id"] = "wrong".into();
    other.body = sample_of("approle_login_badsid")["body"].clone();
    assert!(
        other
            .teaches(&learning(vec![known(|_| {})], true))
            .is_empty()
    );
}
