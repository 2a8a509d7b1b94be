//! Claims about doubts: they bind at once and last, and end only by what was asked for after them.

use shared::{
    kv::{Doubt, Doubted, Kept, KvKey, Place},
    settings::{Mirror, MirrorPath, Settings},
    time::WallTime,
};

use super::*;
use crate::samples::{place, record, value};

const PATH: &str = "secret/data/shop/db";
const SHOP: &str = "secret/data/shop/*";

fn at(secs: u64) -> WallTime {
    T0.plus(Duration::from_secs(secs))
}

fn doubted(of: Doubted, since: u64) -> Change {
    Change::Doubted(Doubt {
        of,
        since: at(since),
        vanished: false,
    })
}

fn key() -> Doubted {
    Doubted::Key(place(PATH))
}

fn passed(path: &str, began: u64) -> Change {
    samples::mirror(path, at(began))
}

fn kv_key(metadata: &str) -> Change {
    Change::Key(Box::new(KvKey {
        place: place(PATH),
        current: 1,
        versions: Default::default(),
        metadata: metadata.into(),
    }))
}

fn asked(at_: u64) -> Expects {
    Expects {
        asked_at: Some(at(at_)),
        ..Expects::default()
    }
}

/// A replica with one value, and the one mirror that it is of.
struct Shop {
    home: Home,
    sequencer: Sequencer,
}

impl Shop {
    fn new() -> Self {
        let home = Home::made(1);
        let sequencer = home.start();
        let shop = Self { home, sequencer };
        shop.configure(&[SHOP]);
        shop.store(
            vec![kv_key("{}"), value(PATH, 1, r#"{"old":1}"#)],
            nothing(),
        );
        shop
    }

    fn configure(&self, mirrors: &[&str]) {
        let mirrors = mirrors.iter().map(|path| Mirror {
            path: MirrorPath::parse(path),
            interval: Duration::from_secs(30),
            max_staleness: Duration::from_secs(600),
            versions: 1,
            pool: 0,
        });
        let settings = Settings {
            mirrors: mirrors.collect(),
            ..Settings::clone(&samples::settings())
        };
        self.sequencer.set_settings(&Arc::new(settings));
    }

    fn store(&self, changes: Vec<Change>, expects: Expects) {
        wait(&self.sequencer, Lane::Mirror, changes, expects).unwrap();
    }

    fn doubt(&self, of: Doubted, since: u64) {
        wait(
            &self.sequencer,
            Lane::Revocation,
            vec![doubted(of, since)],
            nothing(),
        )
        .unwrap();
    }

    fn stands(&self, of: &Doubted) -> bool {
        self.sequencer.view().doubts().since(of).is_some()
    }

    /// The same after a restart.
    fn reopened(self) -> Self {
        let Self { home, sequencer } = self;
        sequencer.stop();
        drop(sequencer);
        let sequencer = home.start();
        Self { home, sequencer }
    }

    fn metadata(&self) -> Option<String> {
        let secrets = self.sequencer.view().secrets();
        secrets
            .keys
            .get(&place(PATH))
            .map(|key| key.metadata.clone())
    }
}

#[test]
fn a_doubt_binds_before_it_is_durable() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let _first = held.enter(Lane::Grant, vec![granted(1)], nothing());
    let durable = submit(
        &held.sequencer,
        Lane::Revocation,
        vec![doubted(key(), 1)],
        nothing(),
    );
    assert!(held.sequencer.view().doubts().since(&key()).is_some());
    assert!(durable.try_recv().is_err());
    held.release(1);
    got(&durable).unwrap();
}

#[test]
fn a_doubt_outlives_a_restart_and_any_read_after_it_is_late_enough() {
    let shop = Shop::new();
    for of in [
        key(),
        Doubted::Mirror(SHOP.into()),
        Doubted::Absence(SHOP.into()),
    ] {
        shop.doubt(of, 500);
    }
    let shop = shop.reopened();
    let all = shop.sequencer.view().doubts().all().count();
    assert_eq!(all, 3);
    // A clock that booted behind is no reason to doubt for ever.
    shop.store(vec![Change::DoubtAnswered(key(), at(1))], nothing());
    assert!(!shop.stands(&key()));
    let shop = shop.reopened();
    assert!(!shop.stands(&key()) && shop.stands(&Doubted::Mirror(SHOP.into())));
}

#[test]
fn a_read_ends_a_doubt_only_if_it_was_asked_for_after_it() {
    let shop = Shop::new();
    shop.doubt(key(), 5);
    for early in [0, 4, 5] {
        shop.store(vec![Change::DoubtAnswered(key(), at(early))], nothing());
        assert!(shop.stands(&key()), "{early}");
    }
    let shop = shop.reopened();
    assert!(
        shop.stands(&key()),
        "its row went with a read that came too early"
    );
    shop.doubt(key(), 5);
    shop.store(vec![Change::DoubtAnswered(key(), at(6))], nothing());
    assert!(!shop.stands(&key()));
    assert!(!shop.reopened().stands(&key()));
}

#[test]
fn a_doubt_that_arises_while_an_older_one_is_answered_stays_and_lasts() {
    let home = Home::made(1);
    let held = Held::new(&home);
    let _ = held.enter(Lane::Revocation, vec![doubted(key(), 1)], nothing());
    held.release(0);
    let answered = held.enter(
        Lane::Mirror,
        vec![Change::DoubtAnswered(key(), at(2))],
        nothing(),
    );
    let renewed = submit(
        &held.sequencer,
        Lane::Revocation,
        vec![doubted(key(), 3)],
        nothing(),
    );
    held.release(1);
    got(&answered).unwrap();
    got(&renewed).unwrap();
    assert!(held.sequencer.view().doubts().since(&key()).is_some());
    held.sequencer.stop();
    drop(held);
    assert!(home.open().view.doubts().since(&key()).is_some());
}

#[test]
fn a_pass_ends_what_was_doubted_before_it_began() {
    let shop = Shop::new();
    let all = [
        key(),
        Doubted::Mirror(SHOP.into()),
        Doubted::Absence(SHOP.into()),
    ];
    for of in &all {
        shop.doubt(of.clone(), 5);
    }
    for path in [SHOP, "secret/data/other/*"] {
        shop.store(
            vec![passed(path, if path == SHOP { 5 } else { 9 })],
            nothing(),
        );
        assert!(all.iter().all(|of| shop.stands(of)), "{path}");
    }
    shop.store(vec![passed(SHOP, 6)], nothing());
    assert!(!all.iter().any(|of| shop.stands(of)));
    assert_eq!(shop.reopened().sequencer.view().doubts().all().count(), 0);
}

#[test]
fn what_a_pass_could_not_read_stays_in_doubt() {
    let shop = Shop::new();
    let mut uncovered = record(PATH, Some(1), T0);
    uncovered.covered = false;
    shop.doubt(key(), 5);
    shop.doubt(Doubted::Mirror(SHOP.into()), 5);
    shop.store(vec![Change::Record(Box::new(uncovered), None)], nothing());
    shop.store(vec![passed(SHOP, 6)], nothing());
    assert!(shop.stands(&key()) && shop.stands(&Doubted::Mirror(SHOP.into())));
    shop.store(vec![value(PATH, 1, "{}"), passed(SHOP, 7)], nothing());
    assert!(!shop.stands(&key()) && !shop.stands(&Doubted::Mirror(SHOP.into())));
}

/// A pass lists, then a key is written and read anew, then the pass goes on with what it listed.
#[test]
fn a_pass_that_began_before_brings_no_old_value_back() {
    let shop = Shop::new();
    shop.doubt(key(), 5);
    let anew = vec![
        kv_key("new"),
        value(PATH, 2, r#"{"new":2}"#),
        Change::RecordGone(place(PATH), Some(1)),
        Change::DoubtAnswered(key(), at(6)),
    ];
    shop.store(anew, asked(6));
    let other = place("secret/data/shop/other");
    let old = || {
        vec![
            kv_key("old"),
            value(PATH, 1, r#"{"old":1}"#),
            Change::RecordGone(place(PATH), Some(2)),
            value("secret/data/shop/other", 1, "{}"),
        ]
    };
    shop.store(old(), asked(4));
    shop.store(vec![Change::KeyGone(place(PATH))], asked(4));
    let secrets = shop.sequencer.view().secrets();
    assert_eq!(shop.metadata().as_deref(), Some("new"));
    let versions: Vec<_> = secrets
        .records
        .keys()
        .filter(|(of, _)| *of == place(PATH))
        .map(|(_, v)| *v)
        .collect();
    assert_eq!(versions, [Some(2)]);
    assert!(
        secrets.records.contains_key(&(other, Some(1))),
        "the rest of the pass is applied"
    );
    // The next pass, and after it none that is older runs.
    shop.store(vec![passed(SHOP, 4)], nothing());
    shop.store(old(), asked(4));
    assert_eq!(shop.metadata().as_deref(), Some("new"));
    shop.store(vec![passed(SHOP, 7)], nothing());
    shop.store(old(), asked(8));
    assert_eq!(shop.metadata().as_deref(), Some("old"));
}

#[test]
fn what_is_asked_for_one_key_is_not_applied_where_a_pass_read_it_meanwhile() {
    let shop = Shop::new();
    let kept = |shop: &Shop| shop.sequencer.view().secrets().kept(&place(PATH));
    let then = |kept: Kept| Expects {
        kept: Some(Box::new(kept)),
        ..Expects::default()
    };
    let before = kept(&shop);
    shop.store(vec![kv_key("by the pass")], nothing());
    let late = wait(
        &shop.sequencer,
        Lane::Mirror,
        vec![kv_key("late")],
        then(before),
    );
    assert_eq!(late, Err(SubmitError::Conflict));
    let before = kept(&shop);
    shop.store(
        vec![
            value(PATH, 1, "{}"),
            Change::Record(Box::new(record(PATH, Some(1), at(9))), None),
        ],
        nothing(),
    );
    let late = wait(
        &shop.sequencer,
        Lane::Mirror,
        vec![kv_key("late")],
        then(before),
    );
    assert_eq!(late, Err(SubmitError::Conflict));
    let gone = kept(&shop);
    shop.store(vec![Change::KeyGone(place(PATH))], nothing());
    let late = wait(
        &shop.sequencer,
        Lane::Mirror,
        vec![kv_key("late")],
        then(gone),
    );
    assert_eq!(late, Err(SubmitError::Conflict));
    shop.store(vec![kv_key("anew")], then(kept(&shop)));
    assert_eq!(shop.metadata().as_deref(), Some("anew"));
}

#[test]
fn doubts_go_with_their_mirror_and_stay_where_another_covers_the_key() {
    let shop = Shop::new();
    let elsewhere: Place = place("secret/data/else/x");
    for of in [
        key(),
        Doubted::Mirror(SHOP.into()),
        Doubted::Absence(SHOP.into()),
        Doubted::Key(elsewhere.clone()),
    ] {
        shop.doubt(of, 5);
    }
    shop.configure(&["secret/data/shop/db"]);
    shop.store(vec![Change::MirrorGone(SHOP.into())], nothing());
    assert!(shop.stands(&key()) && shop.stands(&Doubted::Key(elsewhere)));
    assert!(
        !shop.stands(&Doubted::Mirror(SHOP.into())) && !shop.stands(&Doubted::Absence(SHOP.into()))
    );
    shop.configure(&[]);
    shop.store(
        vec![Change::MirrorGone("secret/data/shop/db".into())],
        nothing(),
    );
    assert!(!shop.stands(&key()));
    assert_eq!(shop.reopened().sequencer.view().doubts().all().count(), 1);
}
