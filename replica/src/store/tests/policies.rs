//! Policies, each in a row of its own.

use std::collections::{BTreeMap, BTreeSet};

use proptest::sample::Index;
use shared::change::{PolicySet, PolicyText};

use super::*;
use crate::table::Within;

type Texts = BTreeMap<String, u64>;

fn name(of: &str) -> PolicyName {
    PolicyName::parse(of).unwrap()
}

fn set_of(texts: &Texts, seconds: u64) -> PolicySet {
    let texts = texts.iter().map(|(of, version)| {
        let text = PolicyText {
            text: format!("# {version}"),
            version: *version,
            allow_slashes: false,
            allow_wildcards: false,
            expiration: None,
        };
        (name(of), text)
    });
    PolicySet {
        policies: texts.collect(),
        unread: BTreeMap::new(),
        verified_at: T0.plus(Duration::from_secs(seconds)),
    }
}

fn put(texts: &Texts, seconds: u64) -> Vec<Change> {
    vec![Change::Policies(Box::new(set_of(texts, seconds)))]
}

fn held(opened: &Opened) -> Option<PolicySet> {
    let authority = opened.view.authority();
    authority.policies.as_ref().map(|known| known.set.clone())
}

/// Keys of rows of policies, and the version of each.
fn rows(home: &Home) -> BTreeMap<Vec<u8>, i64> {
    let connection = rusqlite::Connection::open(&home.location.path).unwrap();
    let sql = "SELECT key, version FROM row WHERE tab = 14";
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)));
    rows.unwrap().map(Result::unwrap).collect()
}

fn at(keys: &Keys, policy: Option<&PolicyName>) -> Vec<u8> {
    let namespace = &settings().namespace;
    let within = Within { keys, namespace };
    let at = match policy {
        Some(policy) => within.policy(policy),
        None => within.only(Table::Policies),
    };
    at.key.to_vec()
}

fn damage(home: &Home, key: &[u8]) {
    let connection = rusqlite::Connection::open(&home.location.path).unwrap();
    let sql = "UPDATE row SET payload = zeroblob(40) WHERE tab = 14 AND key = ?1";
    assert_eq!(connection.execute(sql, [key]).unwrap(), 1);
}

#[test]
fn a_policy_that_changed_is_one_row_written_and_one_that_is_gone_is_one_deleted() {
    let home = Home::made(1);
    let texts = |texts: &[(&str, u64)]| -> Texts {
        let texts = texts.iter();
        texts
            .map(|(of, version)| ((*of).to_owned(), *version))
            .collect()
    };
    home.store(put(&texts(&[("a", 1), ("b", 1), ("c", 1)]), 0));
    let before = rows(&home);
    assert_eq!(before.len(), 4);
    home.store(put(&texts(&[("a", 1), ("b", 2)]), 1));
    let (after, keys) = (rows(&home), home.open().view.keys().clone());
    let row = |rows: &BTreeMap<Vec<u8>, i64>, of| rows.get(&at(&keys, Some(&name(of)))).copied();
    assert_eq!(row(&after, "a"), row(&before, "a"));
    assert_ne!(row(&after, "b"), row(&before, "b"));
    assert_eq!((row(&after, "c"), after.len()), (None, 3));
    home.store(put(&texts(&[("a", 1), ("b", 2)]), 2));
    assert_eq!(rows(&home), after, "what did not change is not written");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whichever row is damaged, all but that is there, and all of it once it was read anew.
    #[test]
    fn what_does_not_open_is_one_policy_until_it_is_read_anew(
        seed in 0..u64::MAX / 2,
        first: BTreeMap<u8, u64>,
        then in prop::collection::btree_map(any::<u8>(), any::<u64>(), 1..8),
        anew in prop::collection::btree_map(any::<u8>(), any::<u64>(), 1..8),
        same: bool,
        which: Index,
    ) {
        let texts = |of: BTreeMap<u8, u64>| -> Texts {
            let texts = of.into_iter();
            texts.map(|(name, version)| (format!("p{}", name % 16), version)).collect()
        };
        let (first, then, anew) = (texts(first), texts(then), texts(anew));
        let anew = if same { then.clone() } else { anew };
        let home = Home::made_in_memory(seed);
        home.store(put(&first, 0));
        home.store(put(&then, 1));
        let keys = home.open().view.keys().clone();
        let whole = set_of(&then, 1);
        let of: Vec<Option<PolicyName>> =
            whole.policies.keys().cloned().map(Some).chain([None]).collect();
        prop_assert_eq!(rows(&home).len(), of.len());
        let of = &of[which.index(of.len())];
        damage(&home, &at(&keys, of.as_ref()));
        for _ in 0..2 {
            let opened = home.open();
            let damage = opened.view.damage();
            prop_assert_eq!((damage.len(), damage[0].kind, damage[0].rows), (1, RowKind::Policies, 1));
            let mut expected = whole.clone();
            if let Some(lost) = of {
                expected.policies.remove(lost);
                expected.unread.insert(lost.clone(), shared::time::WallTime::EPOCH);
                prop_assert_eq!(&damage[0].names, &[lost.to_string()]);
            }
            prop_assert_eq!(held(&opened), Some(expected));
        }
        home.store(put(&anew, 2));
        let opened = home.open();
        prop_assert!(opened.view.damage().is_empty());
        prop_assert_eq!(held(&opened), Some(set_of(&anew, 2)));
        drop(opened);
        prop_assert_eq!(rows(&home).len(), anew.len() + 1);
    }

    /// None is believed without the names of all, where another does not open either: any may have been damaged.
    #[test]
    fn whatever_does_not_open_nothing_that_is_gone_is_back(
        seed in 0..u64::MAX / 2,
        then in prop::collection::btree_map("[a-h]", any::<u64>(), 1..8),
        damaged: Vec<Index>,
        and_seen: bool,
    ) {
        let home = Home::made_in_memory(seed);
        let everything: Texts = ('a'..='h').map(|of| (of.to_string(), 0)).collect();
        home.store(put(&everything, 0));
        home.store(put(&then, 1));
        let all: Vec<_> = rows(&home).into_keys().collect();
        let damaged: BTreeSet<_> = damaged.iter().map(|index| index.get(&all)).collect();
        damaged.iter().for_each(|key| damage(&home, key));
        if and_seen {
            home.sql("UPDATE row SET payload = zeroblob(40) WHERE tab = 15");
        }
        let whole = set_of(&then, 1);
        let opened = home.open();
        let keys = opened.view.keys().clone();
        let set = held(&opened);
        for (name, text) in set.iter().flat_map(|set| &set.policies) {
            prop_assert_eq!(Some(text), whole.policies.get(name));
        }
        if let Some(set) = set.as_ref().filter(|set| set.is_read()) {
            prop_assert!(!and_seen);
            let exist: BTreeSet<_> = set.names().collect();
            prop_assert!(whole.policies.keys().eq(exist));
            let lost = |name: &&PolicyName| damaged.contains(&at(&keys, Some(name)));
            let lost: Vec<_> = whole.policies.keys().filter(lost).collect();
            prop_assert!(lost.into_iter().eq(set.unread.keys()));
        }
        drop(opened);
        home.store(put(&then, 2));
        home.store(vec![Change::Mended(RowKind::Policies)]);
        let opened = home.open();
        prop_assert!(opened.view.damage().is_empty());
        prop_assert_eq!(held(&opened), Some(set_of(&then, 2)));
    }
}

/// Which one it was of cannot be told: another may be an older one.
#[test]
fn where_a_row_is_missing_no_policy_counts_until_all_were_read_anew() {
    let home = Home::made(1);
    let texts: Texts = [("a", 1), ("b", 1)]
        .map(|(of, version)| (of.to_owned(), version))
        .into();
    home.store(put(&texts, 0));
    let gone = at(home.open().view.keys(), Some(&name("b")));
    let connection = rusqlite::Connection::open(&home.location.path).unwrap();
    let sql = "DELETE FROM row WHERE tab = 14 AND key = ?1";
    assert_eq!(connection.execute(sql, [gone]).unwrap(), 1);
    drop(connection);
    for _ in 0..2 {
        let opened = home.open();
        assert!(opened.view.damage()[0].incomplete);
        let known = held(&opened);
        assert!(known.is_none_or(|known| !known.is_read() && known.policies.is_empty()));
    }
    home.store(put(&texts, 0));
    let opened = home.open();
    assert!(opened.view.damage().is_empty());
    assert_eq!(held(&opened), Some(set_of(&texts, 0)));
}
