//! Rows of another namespace than the configured one decide nothing, and go a day after the primary was last seen in that one.

use std::{collections::BTreeMap, time::Duration};

use shared::{
    change::PolicySet,
    kv::{Doubt, Doubted},
    name::ClusterId,
};

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

/// So long what was not configured is kept.
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The primary was seen in this namespace, `after` it was seen in the root.
fn cluster_in(namespace: &str, after: Duration) -> Change {
    let cluster = home_cluster();
    Change::Cluster(Box::new(Cluster {
        namespace: Namespace::parse(namespace),
        verified_at: cluster.verified_at.plus(after),
        ..cluster
    }))
}

#[test]
fn rows_of_another_namespace_are_not_gone_by_and_count_again_when_the_name_is_mended() {
    let home = Home::made(1);
    home.store(everything());
    let short = DAY.saturating_sub(Duration::from_millis(1));
    for after in [Duration::ZERO, short] {
        store_in(&home, "taem", vec![cluster_in("taem", after)]);
        knows_nothing(&opened_in(&home, "taem"));
    }
    let (mended, before) = (opened_in(&home, "").view, view_of(everything()));
    let (known, knew) = (mended.authority(), before.authority());
    assert_eq!(known.cluster, knew.cluster);
    assert_eq!(known.workloads, knew.workloads);
    assert_eq!(known.secret_ids, knew.secret_ids);
    assert_eq!(known.mirrors, knew.mirrors);
    assert_eq!(
        mended.secrets().records.len(),
        before.secrets().records.len()
    );
    let standing = CredentialName::Standing(WorkloadName::parse("orders").unwrap());
    assert!(before.credential(&standing).is_some());
    assert!(mended.credential(&standing).is_some());
}

#[test]
fn rows_of_another_namespace_go_a_day_after_the_primary_was_last_seen_there() {
    let home = Home::made(1);
    home.store(everything());
    store_in(&home, "team", vec![cluster_in("team", DAY)]);
    store_in(&home, "", vec![cluster_in("", 2 * DAY)]);
    knows_nothing(&opened_in(&home, ""));
    knows_nothing(&opened_in(&home, "team"));
}

#[test]
fn what_was_verified_at_another_cluster_than_is_trusted_by_now_decides_nothing() {
    let home = Home::made(1);
    home.store(everything());
    let other = ClusterId::parse("another").unwrap();
    let Change::Cluster(mut trusted) = cluster_in("team", DAY / 2) else {
        return;
    };
    trusted.id = other.clone();
    store_in(&home, "team", vec![Change::Cluster(trusted)]);
    let opened = opened_in(&home, "");
    let authority = opened.view.authority();
    assert_eq!(authority.cluster.as_ref().unwrap().id, other);
    assert!(authority.policies.is_none() && authority.workloads.is_empty());
}

#[test]
fn a_policy_of_a_cluster_that_is_not_trusted_any_more_is_none_of_the_trusted_one_s() {
    let home = Home::made(1);
    home.store(everything());
    let other = |namespace, after| {
        let Change::Cluster(cluster) = cluster_in(namespace, after) else {
            panic!("a cluster is one");
        };
        let id = ClusterId::parse("another").unwrap();
        Change::Cluster(Box::new(Cluster { id, ..*cluster }))
    };
    store_in(&home, "team", vec![other("team", DAY / 4)]);
    let policies = samples::policies(&[("another", "")], T0.plus(DAY / 2));
    store_in(&home, "", vec![other("", DAY / 2), policies]);
    for _ in 0..2 {
        let opened = opened_in(&home, "");
        let authority = opened.view.authority();
        let held = authority.policies.as_ref().unwrap().set.names();
        assert!(held.map(ToString::to_string).eq(["another"]));
        assert!(opened.view.damage().is_empty());
    }
}

#[test]
fn what_an_earlier_version_kept_without_its_namespace_is_not_taken_for_the_configured_ones() {
    let home = Home::made(1);
    // It had one row for the cluster, wherever that was seen, and said so in it; all else it kept as the root's.
    home.store(everything());
    home.store(vec![cluster_in("team", Duration::ZERO)]);
    let opened = opened_in(&home, "team");
    let authority = opened.view.authority();
    let cluster = authority.cluster.as_ref().unwrap();
    assert_eq!(
        cluster.mounts,
        home_cluster().mounts,
        "it names its namespace"
    );
    assert!(authority.policies.is_none() && authority.workloads.is_empty());
}

#[test]
fn a_doubt_outlives_a_pass_of_another_namespace_over_the_same_path() {
    const MIRROR: &str = "secret/data/shop/*";
    let home = Home::made(1);
    let doubt = Doubt {
        of: Doubted::Mirror(MIRROR.to_owned()),
        since: T0,
        vanished: false,
    };
    home.store(vec![
        cluster_in("", Duration::ZERO),
        Change::Doubted(doubt.clone()),
    ]);
    let passed = samples::mirror(MIRROR, T0.plus(DAY / 2));
    store_in(&home, "team", vec![cluster_in("team", DAY / 2), passed]);
    let mended = opened_in(&home, "").view;
    assert!(mended.doubts().since(&doubt.of).is_some());
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
    store_in(&home, "team", vec![cluster_in("team", Duration::ZERO)]);
    let team = opened_in(&home, "team");
    let authority = team.view.authority();
    let policies = &authority.policies.as_ref().unwrap().set.policies;
    assert!(policies.is_empty(), "its own");
    assert!(!authority.workloads.is_empty());
}
