//! Somebody with write access to the file, but without its key.

use super::*;

/// A row's key in hex, as SQL takes it.
fn hex(key: &[u8]) -> String {
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn keys(home: &Home) -> Keys {
    home.open().view.keys().clone()
}

#[test]
fn a_deleted_revocation_is_noticed() {
    let home = Home::made(1);
    home.store(vec![granted(1), revoked(1)]);
    let at = At::revocation(&keys(&home), &digest(1));
    home.sql(&format!(
        "DELETE FROM row WHERE tab = 19 AND key = x'{}'",
        hex(&at.key)
    ));
    let opened = home.open();
    assert_eq!(
        damage(&opened),
        [(RowKind::Grant, 0, true), (RowKind::Revocation, 0, true)]
    );
    // Whom it was of cannot be told: it may be any of them.
    assert!(opened.view.grants().is_empty() && opened.view.is_lost(&digest(1)));
}

/// Of what, how many rows, and whether others are missing.
fn damage(opened: &Opened) -> Vec<(RowKind, usize, bool)> {
    let damage = opened.view.damage().into_iter();
    damage
        .map(
            |Damage {
                 kind,
                 rows,
                 incomplete,
                 ..
             }| (kind, rows, incomplete),
        )
        .collect()
}

#[test]
fn a_revocation_that_does_not_open_refuses_the_token_that_it_is_of_and_no_other() {
    let home = Home::made(1);
    home.store(vec![granted(1), granted(2), revoked(1), revoked(3)]);
    home.sql("UPDATE row SET payload = zeroblob(40) WHERE tab = 19");
    for _ in 0..2 {
        let opened = home.open();
        assert_eq!(damage(&opened), [(RowKind::Revocation, 2, false)]);
        let view = &opened.view;
        for dead in [1, 3] {
            assert!(view.revocation(&digest(dead)).is_some());
            assert!(view.was_ended_here(&digest(dead)));
        }
        assert!(view.grant(&digest(1)).unwrap().revoked.get().is_some());
        assert!(view.revocation(&digest(2)).is_none());
    }
    // Once it may go, what can be told is kept, and the rest with it.
    home.store(vec![Change::Mended(RowKind::Revocation)]);
    let opened = home.open();
    assert!(damage(&opened).is_empty());
    assert!(opened.view.revocation(&digest(1)).is_some());
    assert!(opened.view.revocation(&digest(3)).is_none());
}

#[test]
fn a_lost_quarantine_holds_what_it_was_of_or_else_everything_until_it_is_lifted() {
    let home = Home::made(1);
    let known = samples::quarantine("default");
    home.store(everything());
    home.store(vec![Change::Quarantine(Box::new(known.clone()))]);
    let policy = |name: &str| samples::quarantine(name).what;
    // That of `billing`, of which there is no policy, may be of anything.
    home.sql("UPDATE row SET payload = zeroblob(40) WHERE tab = 22");
    let is_held = |opened: &Opened, name| opened.view.authority().is_quarantined(&policy(name));
    let opened = home.open();
    assert_eq!(damage(&opened), [(RowKind::Quarantine, 2, true)]);
    assert!(is_held(&opened, "default") && is_held(&opened, "another"));
    drop(opened);
    home.store(vec![Change::QuarantineLifted(policy("billing"))]);
    home.store(vec![Change::Mended(RowKind::Quarantine)]);
    let opened = home.open();
    assert!(damage(&opened).is_empty() && is_held(&opened, "default"));
    drop(opened);
    home.store(vec![Change::QuarantineLifted(policy("default"))]);
    assert!(!is_held(&home.open(), "default"));
}

/// Each is whole once it is put anew, and not before, over any number of starts.
#[test]
fn what_is_read_anew_is_whole_again() {
    let home = Home::made(1);
    home.store(everything());
    home.sql("UPDATE row SET payload = zeroblob(40) WHERE tab NOT IN (4, 7, 9, 12, 17, 18, 23)");
    let all = damage(&home.open()).len();
    assert_eq!(all, 17, "{:?}", damage(&home.open()));
    assert_eq!(damage(&home.open()).len(), all);
    let is_dead =
        |change: &Change| matches!(change, Change::Grant(grant) if grant.digest == digest(2));
    let anew = everything().into_iter();
    home.store(anew.filter(|change| !is_dead(change)).collect());
    let opened = home.open();
    assert_eq!(
        damage(&opened),
        [(RowKind::Grant, 1, false), (RowKind::Quarantine, 0, true)]
    );
    drop(opened);
    home.store(
        [RowKind::Grant, RowKind::Quarantine]
            .map(Change::Mended)
            .into(),
    );
    let opened = home.open();
    assert!(damage(&opened).is_empty());
    assert!(
        opened.view.grant(&digest(1)).is_some() && opened.view.revocation(&digest(2)).is_some()
    );
}

#[test]
fn a_replayed_grant_is_noticed() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    home.sql("CREATE TABLE kept AS SELECT * FROM row WHERE tab = 5");
    let shorter = Change::Grant(Box::new(samples::grant(1, 60)));
    home.store(vec![shorter]);
    home.sql("DELETE FROM row WHERE tab = 5; INSERT INTO row SELECT * FROM kept; DROP TABLE kept");
    let opened = home.open();
    assert_eq!(damage(&opened), [(RowKind::Grant, 0, true)]);
    assert!(opened.view.grant(&digest(1)).is_none());
    drop(opened);
    // What comes after it is good, and what is missing is missed until it may go.
    home.store(vec![granted(1)]);
    let opened = home.open();
    assert!(opened.view.grant(&digest(1)).is_some() && opened.view.is_lost(&digest(2)));
    drop(opened);
    home.store(vec![Change::Mended(RowKind::Grant)]);
    assert!(damage(&home.open()).is_empty());
}

#[test]
fn a_grant_under_another_s_key_is_noticed() {
    let home = Home::made(1);
    home.store(vec![granted(1), granted(2)]);
    let (keys, one, two) = {
        let keys = keys(&home);
        let (one, two) = (At::grant(&keys, &digest(1)), At::grant(&keys, &digest(2)));
        (keys, hex(&one.key), hex(&two.key))
    };
    drop(keys);
    home.sql(&format!(
        "CREATE TABLE kept AS SELECT payload FROM row WHERE key = x'{one}';
         UPDATE row SET payload = (SELECT payload FROM row WHERE key = x'{two}') WHERE key = x'{one}';
         UPDATE row SET payload = (SELECT payload FROM kept) WHERE key = x'{two}';
         DROP TABLE kept"
    ));
    let opened = home.open();
    assert_eq!(damage(&opened), [(RowKind::Grant, 2, false)]);
    assert!(opened.view.is_lost(&digest(1)) && opened.view.is_lost(&digest(2)));
    assert!(!opened.view.is_lost(&digest(3)));
}

#[test]
fn a_policy_put_back_and_a_mark_put_back_are_noticed() {
    for table in [10 + 2, 11, 13, 14] {
        let home = Home::made(1);
        home.store(everything());
        home.sql(&format!(
            "CREATE TABLE kept AS SELECT * FROM row WHERE tab = {table}"
        ));
        let later = T0.plus(std::time::Duration::from_secs(60));
        home.store(vec![
            Change::Mark(samples::mark(60)),
            samples::mirror("secret/data/shop/*", later),
            samples::phase(shared::failover::Phase::Suspect, 4),
            samples::policies(&[("default", "")], later),
        ]);
        home.sql(&format!(
            "DELETE FROM row WHERE tab = {table}; INSERT INTO row SELECT * FROM kept; DROP TABLE kept"
        ));
        match table {
            11 | 13 | 14 => {
                let opened = home.open();
                assert_eq!(damage(&opened).len(), 1);
                assert!(damage(&opened).iter().all(|(_, _, incomplete)| *incomplete));
                assert_eq!(opened.report.rolled_back, table != 14);
                let authority = opened.view.authority();
                assert_eq!(authority.policies.is_none(), table == 14);
                // Time falls behind no commit, and no proof from before one counts.
                let stamp = T0.plus(std::time::Duration::from_secs(1));
                assert!(opened.mark.unwrap().wall >= stamp);
                assert_eq!(
                    authority.proven_from.is_some_and(|from| from > stamp),
                    table == 13
                );
            }
            _ => assert!(
                home.open().report.values_changed,
                "a mirror is not authority"
            ),
        }
    }
}

/// Which key it was of is not known any more.
#[test]
fn a_doubt_that_does_not_open_is_one_of_everything_mirrored() {
    let home = Home::made(1);
    home.store(everything());
    home.sql("UPDATE row SET payload = zeroblob(length(payload)) WHERE tab = 24");
    let path = shared::settings::MirrorPath::parse("secret/data/shop/*");
    let mut settings = shared::settings::Settings::clone(&settings());
    settings.mirrors = vec![shared::settings::Mirror {
        path: path.clone(),
        interval: std::time::Duration::from_secs(30),
        max_staleness: std::time::Duration::from_secs(600),
        versions: 1,
        pool: 0,
    }];
    let sources = [home.source.clone()];
    let opened = Replica::open(
        &home.location,
        &sources,
        Arc::new(settings),
        Arc::new(Seeded::new(9)),
    );
    let opened = opened.unwrap_or_else(|error| panic!("{error}"));
    assert!(opened.view.doubts().is_mirror_doubted(&path));
}

#[test]
fn a_replayed_value_is_not_vouched_for_by_its_mirror() {
    let home = Home::made(1);
    home.store(everything());
    home.sql("CREATE TABLE kept AS SELECT * FROM row WHERE tab IN (17, 18)");
    let later = T0.plus(std::time::Duration::from_secs(3600));
    let mut newer = samples::record("secret/data/shop/db", Some(2), later);
    newer.covered = true;
    let body = shared::secret::SecretBytes::new(b"{\"newest\":3}".to_vec());
    home.store(vec![
        Change::Record(Box::new(newer), Some(body)),
        samples::mirror("secret/data/shop/*", later),
    ]);
    home.sql("DELETE FROM row WHERE tab IN (17, 18); INSERT INTO row SELECT * FROM kept; DROP TABLE kept");
    let opened = home.open();
    assert!(opened.report.values_changed);
    assert!(opened.view.authority().mirrors.is_empty());
    let of = (place("secret/data/shop/db"), Some(2));
    let secrets = opened.view.secrets();
    let age = secrets.records[&of].record.age(None, later);
    assert_eq!(age.as_secs(), 3600, "it is as old as it looks");
    drop(opened);
    let again = home.open();
    assert!(
        !again.report.values_changed,
        "what is there now is accounted for"
    );
    assert!(
        again.view.authority().mirrors.is_empty(),
        "and the pass is not back"
    );
}

#[test]
fn an_older_body_under_a_newer_record_does_not_open() {
    let home = Home::made(1);
    home.store(everything());
    home.sql("CREATE TABLE kept AS SELECT * FROM row WHERE tab = 18");
    home.store(vec![samples::value(
        "secret/data/shop/db",
        2,
        "{\"newest\":3}",
    )]);
    home.sql("DELETE FROM row WHERE tab = 18; INSERT INTO row SELECT * FROM kept; DROP TABLE kept");
    let opened = home.open();
    let secrets = opened.view.secrets();
    let open = |version| {
        let of = (place("secret/data/shop/db"), Some(version));
        secrets.records[&of].body.open(opened.view.keys())
    };
    assert!(open(2).is_err(), "another version of the body");
    assert!(open(1).is_ok(), "the body that belongs to it");
}

#[test]
fn a_value_that_does_not_open_is_dropped_and_said_so() {
    let home = Home::made(1);
    home.store(everything());
    home.sql("UPDATE row SET payload = zeroblob(40) WHERE tab = 17 AND id = (SELECT max(id) FROM row WHERE tab = 17)");
    let opened = home.open();
    assert_eq!(opened.report.values_lost, 1);
    assert_eq!(opened.view.secrets().records.len(), 1);
    assert!(
        opened.view.authority().mirrors.is_empty(),
        "absence proves nothing now"
    );
    drop(opened);
    let again = home.open().report;
    assert_eq!((again.values_lost, again.values_changed), (0, false));
}

#[test]
fn a_cut_ledger_is_reported() {
    let home = Home::made(1);
    let entry = || Change::Ledger(Box::new(Entry::new(EntryKind::Grant, "allowed", T0)));
    home.store(vec![entry(), entry()]);
    assert!(!home.open().report.ledger_cut);
    home.sql("DELETE FROM ledger WHERE seq = 2");
    assert!(home.open().report.ledger_cut);
}

#[test]
fn a_header_of_an_earlier_commit_is_noticed() {
    let home = Home::made(1);
    home.store(vec![granted(1)]);
    home.sql("CREATE TABLE kept AS SELECT * FROM header");
    home.store(vec![granted(2)]);
    home.sql("DELETE FROM header; INSERT INTO header SELECT * FROM kept; DROP TABLE kept");
    assert_eq!(damage(&home.open()), [(RowKind::Grant, 0, true)]);
}

/// Only what lifts it ends a block: not that the loss of others was made good.
#[test]
fn what_may_have_blocked_issuing_stands_after_what_was_lost_of_it_was_let_go() {
    use shared::block::BlockCause;
    for damage in [
        "DELETE FROM row WHERE tab = 27",
        "UPDATE row SET payload = zeroblob(40) WHERE tab = 27",
    ] {
        let home = Home::made(1);
        home.store(vec![Change::Block(samples::block(BlockCause::ClockBehind))]);
        home.sql(damage);
        let standing = |opened: &Opened| opened.view.authority().blocks.all().count();
        let expected = standing(&home.open());
        assert!(expected > 0, "{damage}");
        home.store(vec![Change::Mended(RowKind::Block)]);
        let opened = home.open();
        assert!(damage_of(&opened, RowKind::Block).is_none(), "{damage}");
        assert_eq!(standing(&opened), expected, "{damage}");
    }
}

/// A clock that is off for good never agrees, and would keep an invented block for good.
#[test]
fn a_clock_ahead_is_made_up_of_what_was_lost_only_where_the_mark_does_not_deny_it() {
    use shared::{block::BlockCause, time::Mark};
    let gone = "DELETE FROM row WHERE tab = 27";
    let gone_with_the_mark = "DELETE FROM row WHERE tab IN (27, 11)";
    let unreadable = "UPDATE row SET payload = zeroblob(40) WHERE tab = 27";
    for (of, ahead, damage, expected) in [
        (BlockCause::Rebooted, false, gone, false),
        (BlockCause::Rebooted, true, gone, true),
        (BlockCause::Rebooted, false, gone_with_the_mark, true),
        (BlockCause::ClockAhead, false, unreadable, true),
    ] {
        let home = Home::made(1);
        let mark = Mark {
            ahead,
            ..samples::mark(1)
        };
        home.store(vec![Change::Mark(mark), Change::Block(samples::block(of))]);
        home.sql(damage);
        let blocks = home.open().view.authority().blocks.clone();
        let made_up = blocks.get(BlockCause::ClockAhead).is_some();
        assert_eq!(made_up, expected, "{of:?}, ahead: {ahead}, {damage}");
        assert!(expected || blocks.get(BlockCause::ClockBehind).is_some());
    }
}

fn damage_of(opened: &Opened, kind: RowKind) -> Option<Damage> {
    let mut damage = opened.view.damage().into_iter();
    damage.find(|one| one.kind == kind)
}

#[test]
fn counts_that_went_or_do_not_open_cost_the_counts_alone() {
    let home = Home::made(1);
    home.store(everything());
    home.sql("UPDATE row SET version = version + 1 WHERE tab = 23");
    let opened = home.open();
    assert!(opened.coverage.is_empty());
    assert_eq!(opened.view.authority().mirrors.len(), 1);
    assert!(!opened.report.values_changed && opened.report.values_lost == 0);
    drop(opened);
    home.sql("DELETE FROM row WHERE tab = 23");
    let opened = home.open();
    assert!(opened.coverage.is_empty() && opened.view.grant(&digest(1)).is_some());
}
