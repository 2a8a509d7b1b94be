//! Leases in answers.

use serde_json::json;
use shared::{lease::LeaseHolder, secret::SecretBytes};

use super::*;

#[test]
fn a_leased_secret_belongs_to_the_token_that_read_it() {
    let view = view(vec![]);
    let mut read = told("GET", "/v1/database/creds/ro", Some("s.app"), "db_creds");
    let changes = read.teaches(&view);
    let [Change::Lease(lease, Some(body))] = &changes[..] else {
        panic!("{} changes", changes.len());
    };
    assert_eq!(lease.holder, LeaseHolder::Token(digest("s.app")));
    assert_eq!(
        (lease.place.path.as_str(), lease.place.mount.as_str()),
        ("database/creds/ro", "database_1")
    );
    assert_eq!(lease.deadline.remaining(now(NOW)), Duration::from_secs(600));
    let data: Value = serde_json::from_slice(body.expose()).unwrap();
    assert_eq!(data["password"], "I39sUe3Ta32tB0JAg-zG");
    (read.method, read.target) = ("GET", "/v1/nowhere/x");
    assert!(read.teaches(&view).is_empty());
    (read.method, read.target, read.token) = ("GET", "/v1/database/creds/ro", None);
    assert!(read.teaches(&view).is_empty());
}

#[test]
fn what_a_write_brought_is_known_by_its_id_and_without_its_secret() {
    let view = view(vec![]);
    for (method, target) in [
        ("PUT", "/v1/database/creds/ro"),
        ("GET", "/v1/database/creds/ro?x=1"),
    ] {
        let brought = told(method, target, Some("s.app"), "db_creds");
        let changes = brought.teaches(&view);
        let [Change::Lease(lease, Some(body))] = &changes[..] else {
            panic!("{} changes", changes.len());
        };
        assert_eq!(lease.holder, LeaseHolder::Token(digest("s.app")));
        assert!(!lease.answers_reads, "{method} {target}");
        assert_eq!(body.expose(), b"null");
    }
}

#[test]
fn renewals_and_revocations_of_known_leases_bind_here() {
    const ID: &str = "database/creds/ro/pYeJqgvtSV6IUyWXGtn5ORDs";
    let lease = Change::Lease(
        Box::new(samples::lease(ID)),
        Some(SecretBytes::new(b"{}".to_vec())),
    );
    let held = view(vec![lease]);
    let renewal = told("PUT", "/v1/sys/leases/renew", Some("s.app"), "lease_renew");
    let changes = renewal.teaches(&held);
    let [Change::Lease(lease, None)] = &changes[..] else {
        panic!("{} changes", changes.len());
    };
    assert_eq!(
        (lease.id.as_str(), lease.granted, lease.holder.clone()),
        (ID, 120, LeaseHolder::Shared)
    );
    assert_eq!(lease.deadline.remaining(now(NOW)), Duration::from_secs(120));
    assert!(renewal.teaches(&view(vec![])).is_empty());
    let target = format!("/v1/sys/leases/revoke/{ID}");
    let mut gone = told("PUT", &target, Some("s.app"), "expired_use");
    (gone.status, gone.body) = (202, Value::Null);
    assert!(matches!(&gone.teaches(&held)[..], [Change::LeaseGone(id)] if id.as_str() == ID));
    gone.target = "/v1/sys/leases/revoke";
    gone.request = json!({"lease_id": ID});
    assert!(matches!(&gone.teaches(&held)[..], [Change::LeaseGone(id)] if id.as_str() == ID));
}
