//! What a stage writes, and what it leaves.

use std::{sync::Arc, time::Duration};

use crate::{
    key::{Keys, Sealer, epoch::Budget},
    samples::{self, Seeded, T0},
    sequencer::stage::{Stage, When},
    view::View,
};

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
