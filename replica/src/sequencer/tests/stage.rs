//! What a stage writes, and what it leaves.

use std::{sync::Arc, time::Duration};

use shared::{
    change::Change,
    name::PolicyName,
    quarantine::{Quarantine, Quarantined, QuarantinedSet},
};

use crate::{
    key::{Keys, Sealer, epoch::Budget},
    samples::{self, Seeded, T0},
    sequencer::stage::{Stage, When},
    table::{Op, Within},
    view::View,
};

/// Rows of earlier builds: two sets that have a policy in common.
#[test]
fn the_end_of_a_quarantine_is_the_end_of_every_row_of_a_set_that_it_came_from() {
    let entropy = Seeded::new(2);
    let keys = Keys::ephemeral(&entropy).unwrap();
    let name = |text: &&str| PolicyName::parse(text).unwrap();
    let set = |policies: &[&str]| QuarantinedSet {
        policies: policies.iter().map(name).collect(),
        entity: None,
    };
    let sets = [
        set(&["app", "default"]),
        set(&["app", "other"]),
        set(&["third"]),
    ];
    let of_set = |set: &QuarantinedSet| {
        let set = set.clone();
        let policies = set.policies.clone().into_iter();
        let all = policies.map(move |policy| Quarantine {
            what: Quarantined::Policy(policy),
            text: None,
            of_sets: vec![set.clone()],
            ..samples::quarantine("app")
        });
        all.map(|one| Change::Quarantine(Box::new(one)))
            .collect::<Vec<_>>()
    };
    let rows: Vec<_> = sets.iter().flat_map(of_set).collect();
    let view = View::from_changes(samples::settings(), keys, rows, &entropy).unwrap();
    let mut stage = Stage::new(&view);
    let mut budget = Budget::unbounded();
    let sealer = Sealer {
        keys: view.keys(),
        budget: &mut budget,
        entropy: &entropy,
    };
    let policy = |text| Quarantined::Policy(name(&text));
    let lifted = Change::QuarantineLifted(policy("app"));
    stage.add(lifted, When::Committed, sealer).unwrap();
    let (mut gone, mut put) = (Vec::new(), Vec::new());
    for op in stage.take_ops() {
        match op {
            Op::Delete(at) => gone.push(at),
            Op::Put(at, _) => put.push(at),
        }
    }
    stage.publish();
    let settings = samples::settings();
    let within = Within {
        keys: view.keys(),
        namespace: &settings.namespace,
    };
    let [one, two, _] = &sets;
    for at in [
        within.quarantine(&policy("app")),
        within.quarantined_set(one),
        within.quarantined_set(two),
    ] {
        assert!(gone.contains(&at), "{at:?}");
    }
    let others = ["default", "other"].map(|other| within.quarantine(&policy(other)));
    assert_eq!((gone.len(), put), (3, others.to_vec()));
    let authority = view.authority();
    let left: Vec<_> = authority.quarantines.keys().cloned().collect();
    assert_eq!(left, ["default", "other", "third"].map(policy));
}

#[test]
fn policies_that_did_not_change_are_not_parsed_again() {
    let text = [("a", "path \"x\" { capabilities = [\"read\"] }")];
    let later = T0.plus(Duration::from_secs(60));
    let entropy = Seeded::new(2);
    let keys = Keys::ephemeral(&entropy).unwrap();
    let seen = vec![samples::policies(&text, T0)];
    let before = View::from_changes(samples::settings(), keys, seen, &entropy).unwrap();
    let parsed = |view: &View| Arc::clone(&view.authority().policies.as_ref().unwrap().parsed);
    let mut stage = Stage::new(&before);
    let mut budget = Budget::unbounded();
    let sealer = Sealer {
        keys: before.keys(),
        budget: &mut budget,
        entropy: &entropy,
    };
    let first = parsed(&before);
    stage
        .add(samples::policies(&text, later), When::Committed, sealer)
        .unwrap();
    assert_eq!(stage.take_ops().len(), 1, "only the time is written");
    stage.publish();
    assert!(Arc::ptr_eq(&first, &parsed(&before)));
    let set = before
        .authority()
        .policies
        .as_ref()
        .unwrap()
        .set
        .verified_at;
    assert_eq!(set, later);
}

/// Two who verify the same may end in another order than they began in.
#[test]
fn authority_that_was_verified_before_is_not_put_over_what_was_verified_later() {
    let entropy = Seeded::new(3);
    let keys = Keys::ephemeral(&entropy).unwrap();
    let later = T0.plus(Duration::from_secs(1));
    let at = |verified_at| {
        let mut known = samples::everything();
        known.retain_mut(|change| match change {
            Change::Authority(of) => {
                of.verified_at = verified_at;
                true
            }
            Change::AppRole(role) => {
                role.verified_at = verified_at;
                true
            }
            _ => false,
        });
        known
    };
    assert_eq!(at(T0).len(), 2);
    let rows: Vec<_> = at(later).into_iter().chain(at(T0)).collect();
    let view = View::from_changes(samples::settings(), keys, rows, &entropy).unwrap();
    let authority = view.authority();
    let workloads = authority.workloads.values().map(|known| known.verified_at);
    let roles = authority.approles.values().map(|known| known.verified_at);
    assert_eq!(workloads.chain(roles).collect::<Vec<_>>(), [later, later]);
}
