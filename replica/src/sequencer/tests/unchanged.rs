//! What was taken away, or read anew, is not put back by what was read before, nor by hearing that nothing was written.

use std::sync::Arc;

use shared::{
    approle::{AppRole, SecretId},
    change::{Change, Unchanged},
    identity::Identity,
    name::{EntityId, WorkloadName},
    time::WallTime,
};

use super::*;
use crate::view::Authority;

/// Long after everything here was verified.
const UNTIL: u64 = 60;

fn at(secs: u64) -> WallTime {
    now(secs).steady
}

fn unchanged() -> Change {
    Change::Unchanged(Unchanged {
        since: T0,
        until: at(UNTIL),
    })
}

/// The role, as a reading showed it that began then.
fn role(asked: u64) -> Change {
    Change::AppRole(Box::new(AppRole {
        verified_at: at(asked),
        ..samples::approle()
    }))
}

fn gone(secs: u64) -> Change {
    Change::AppRoleGone(samples::approle().key, at(secs))
}

fn secret_id(change: impl FnOnce(&mut SecretId)) -> Change {
    let mut secret_id = samples::secret_id();
    change(&mut secret_id);
    Change::SecretId(Box::new(secret_id))
}

fn authority() -> Change {
    Change::Authority(Box::new(samples::workload_authority()))
}

fn entity() -> EntityId {
    EntityId::parse("entity-1").unwrap()
}

fn identity(named: &str, asked: u64) -> Change {
    let identity: Identity = samples::identity(named);
    Change::Identity(entity(), Box::new(identity), at(asked))
}

/// What stands after these were stored, one after the other.
fn after(changes: impl IntoIterator<Item = Change>) -> Arc<Authority> {
    let home = Home::made(1);
    let sequencer = asking(&home, |_| true);
    for change in changes {
        let stored = submit(&sequencer, Lane::Mirror, vec![change], nothing());
        assert_eq!(got(&stored), Ok(()));
    }
    let authority = Arc::clone(&sequencer.view().authority());
    sequencer.stop();
    authority
}

#[test]
fn a_role_that_was_found_to_be_gone_comes_back_by_what_was_asked_for_later_alone() {
    let key = samples::approle().key;
    for (asked, is_there) in [(0, false), (5, false), (6, true)] {
        let known = after([role(1), gone(5), role(asked)]);
        assert_eq!(known.approles.contains_key(&key), is_there, "{asked}");
    }
}

#[test]
fn what_is_of_no_use_goes_unless_it_is_of_use_by_now() {
    let key = samples::approle().key;
    let forgotten = || Change::AppRoleForgotten(samples::approle().key);
    let unused = after([role(1), forgotten()]);
    assert!(!unused.approles.contains_key(&key));
    let learned = after([role(1), secret_id(|_| {}), forgotten()]);
    assert!(learned.approles.contains_key(&key));
    let again = after([role(1), forgotten(), role(1)]);
    assert!(again.approles.contains_key(&key), "it was not denied");
}

#[test]
fn that_nothing_was_written_puts_nothing_back_and_takes_nothing_out_of_doubt() {
    let (key, digest) = (samples::approle().key, samples::secret_id().digest);
    let known = after([role(1), secret_id(|_| {}), gone(5), unchanged()]);
    assert!(!known.approles.contains_key(&key));
    for taken in [
        secret_id(|one| one.dead = Some(at(5))),
        secret_id(|one| one.doubted_at = Some(at(5))),
        secret_id(|one| one.expires = Some(at(UNTIL))),
    ] {
        let known = after([secret_id(|_| {}), taken, unchanged()]);
        assert_eq!(known.secret_ids[&digest].verified_at, T0);
    }
    let workload = WorkloadName::parse("orders").unwrap();
    let gone = Change::AuthorityGone(workload.clone());
    let known = after([authority(), gone, unchanged()]);
    assert!(!known.workloads.contains_key(&workload));
}

#[test]
fn that_nothing_was_written_moves_the_moment_of_all_that_stands_and_nothing_else() {
    let (key, digest) = (samples::approle().key, samples::secret_id().digest);
    let known = after([
        identity("before", 0),
        identity("as of now", 5),
        samples::policies(&[("app", "")], T0),
        role(0),
        secret_id(|_| {}),
        authority(),
        unchanged(),
    ]);
    let until = at(UNTIL);
    let identity = &known.identities[&entity()];
    let named = identity.identity.entity.as_ref().map(|one| &*one.name);
    assert_eq!((named, identity.verified_at), (Some("as of now"), until));
    let policies = known.policies.as_ref().map(|known| known.set.verified_at);
    assert_eq!(policies, Some(until));
    assert_eq!(known.approles[&key].verified_at, until);
    assert_eq!(known.secret_ids[&digest].verified_at, until);
    let workload = &known.workloads[&WorkloadName::parse("orders").unwrap()];
    assert_eq!(workload.verified_at, until);
    // What was verified before it, or after it, is as it was.
    for (asked, stays) in [(UNTIL + 9, at(UNTIL + 9)), (0, until)] {
        let known = after([role(asked), unchanged()]);
        assert_eq!(known.approles[&key].verified_at, stays);
    }
    let early = AppRole {
        verified_at: T0.minus(Duration::from_secs(1)),
        ..samples::approle()
    };
    let known = after([Change::AppRole(Box::new(early)), unchanged()]);
    assert!(known.approles[&key].verified_at < T0);
}
