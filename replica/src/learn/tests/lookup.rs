//! Look-ups of Holdover's own.

use super::*;

#[test]
fn a_look_up_shows_the_whole_token() {
    let view = view(vec![known("s.app", |grant| {
        grant.origin = Origin::Learned;
        grant.peer = Some(PeerId {
            workload: WorkloadName::parse("orders").unwrap(),
            uid: 1,
            unit: None,
        });
    })]);
    let lookup = |sample: &str, change: &dyn Fn(&mut Value)| {
        let mut data = sample_of(sample)["body"]["data"].clone();
        change(&mut data);
        let data = data.to_string();
        grant_from_lookup(&view, &digest("s.app"), data.as_bytes(), None, now(NOW))
    };
    let learned = lookup("approle_token_lookup", &|_| {});
    let learned = learned
        .as_ref()
        .map(std::slice::from_ref)
        .map(grant)
        .unwrap();
    assert_eq!(
        (&learned.origin, learned.verified_at),
        (&Origin::Primary, now(NOW).steady)
    );
    assert_eq!(learned.facts.bound_cidrs, ["127.0.0.1"]);
    assert_eq!(
        learned.facts.policies,
        ["app", "default"].map(|name| PolicyName::parse(name).unwrap())
    );
    assert_eq!(
        learned.deadline.remaining(now(NOW)),
        Duration::from_secs(2_764_799)
    );
    assert!(learned.peer.is_some(), "whose it is is not forgotten");
    let limited = lookup("numuses_lookup1", &|_| {});
    assert_eq!(
        limited
            .as_ref()
            .map(std::slice::from_ref)
            .map(grant)
            .unwrap()
            .origin,
        Origin::LimitedUse
    );
    assert!(lookup("batch_lookup_self", &|_| {}).is_none());
    assert!(lookup("batch_lookup_self", &|data| data["orphan"] = json!(true)).is_some());
    for (field, value) in [
        ("policies", json!(["root"])),
        ("policies", json!(["response-wrapping"])),
        ("identity_policies", json!(["root"])),
        ("ttl", json!(0)),
        ("num_uses", json!(-1)),
        ("external_namespace_policies", json!({"ns": ["x"]})),
        ("type", json!("recovery")),
    ] {
        assert!(
            lookup("token_lookup_self", &|data| data[field] = value.clone()).is_none(),
            "{field}"
        );
    }
}

#[test]
fn a_look_up_does_not_wake_the_dead() {
    let revoked = Change::Revoked(Revocation {
        digest: digest("s.app"),
        accessor: Accessor::parse("a").unwrap(),
        cause: RevokeCause::Requested,
        at: T0,
    });
    let view = view(vec![revoked]);
    let data = sample_of("token_lookup_self")["body"]["data"].to_string();
    assert!(grant_from_lookup(&view, &digest("s.app"), data.as_bytes(), None, now(NOW)).is_none());
}
