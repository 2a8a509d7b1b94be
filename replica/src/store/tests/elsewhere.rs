//! Rows of another namespace than the configured one decide nothing, and go once the primary was seen in this one.

use std::{collections::BTreeMap, time::Duration};

use shared::change::PolicySet;

use super::*;
use crate::view::Authority;

/// The replica opened for this namespace.
fn opened_in(home: &Home, namespace: &str) -> Opened {
    let settings = Settings {
        namespace: Namespace::parse(namespace),
        ..Settings::clone(&settings())
    };
    home.try_open_with(Arc::new(settings)).unwrap()
}

/// Commits `changes` while this namespace is configured, and stops.
fn store_in(home: &Home, namespace: &str, changes: Vec<Change>) {
    let sequencer = opened_in(home, namespace).start(|| now(1)).unwrap();
    wait(&sequencer, Lane::Mirror, changes, Expects::default()).unwrap();
    sequencer.stop();
}

fn knows_nothing(opened: &Opened) {
    let authority = opened.view.authority();
    assert!(authority.policies.is_none());
    assert!(authority.workloads.is_empty() && authority.approles.is_empty());
    assert!(authority.secret_ids.is_empty() && authority.quarantines.is_empty());
    assert!(authority.identities.is_empty() && authority.mirrors.is_empty());
    let secrets = opened.view.secrets();
    assert!(secrets.keys.is_empty() && secrets.records.is_empty());
    for name in [CredentialName::Own, CredentialName::OwnPrevious] {
        assert!(opened.view.credential(&name).is_none());
    }
}

fn cluster_in(namespace: &str) -> Change {
    Change::Cluster(Box::new(Cluster {
        namespace: Namespace::parse(namespace),
        ..home_cluster()
    }))
}

#[test]
fn rows_of_another_namespace_are_not_gone_by_and_go_once_the_primary_was_seen_in_this_one() {
    let home = Home::made(1);
    home.store(everything());
    store_in(&home, "team", vec![cluster_in("team")]);
    knows_nothing(&opened_in(&home, "team"));
    // Nor when it is configured again: all of that is gone.
    store_in(&home, "", vec![cluster_in("")]);
    knows_nothing(&opened_in(&home, ""));
}

#[test]
fn rows_of_two_namespaces_are_never_taken_for_each_other() {
    let home = Home::made(1);
    home.store(everything());
    let root = view_of(everything());
    // Not what says that the primary was seen: the daemon died before.
    let verified = everything().into_iter().filter(|change| {
        matches!(
            change,
            Change::AppRole(_)
                | Change::Authority(_)
                | Change::Identity(..)
                | Change::Mirror(_)
                | Change::Quarantine(_)
                | Change::SecretId(_)
        )
    });
    let emptied = Change::Policies(Box::new(PolicySet {
        policies: BTreeMap::new(),
        unread: Default::default(),
        verified_at: T0.plus(Duration::from_secs(7)),
    }));
    store_in(&home, "team", verified.chain([emptied]).collect());
    let opened = opened_in(&home, "");
    let (kept, before) = (opened.view.authority(), root.authority());
    let policies = |of: &Authority| of.policies.as_ref().map(|held| held.set.clone());
    assert_eq!(policies(&kept), policies(&before), "the root's own");
    assert_eq!(kept.workloads, before.workloads);
    assert_eq!(kept.cluster, before.cluster);
    drop((kept, opened));
    store_in(&home, "team", vec![cluster_in("team")]);
    let team = opened_in(&home, "team");
    let authority = team.view.authority();
    let policies = &authority.policies.as_ref().unwrap().set.policies;
    assert!(policies.is_empty(), "its own");
    assert!(!authority.workloads.is_empty());
}
