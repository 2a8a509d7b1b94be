//! Claims about what may be superseded: it is 503, and nothing else is.

use shared::{
    change::Change,
    coverage::Foretold,
    kv::{Doubt, Doubted},
};

use super::{
    asked::Said,
    world::{Opened, World},
};
use crate::{
    samples::{self, T0},
    vault::{judge::Standing, refusal::Why},
};

const APP: &str = "secret/data/app/*";

fn world() -> World {
    World::in_outage()
        .token("s.app", &["app"])
        .token("s.none", &[])
        .secret("app/a", 2)
        .secret("app/dir/b", 1)
        .secret("one", 1)
}

fn doubt(of: Doubted, vanished: bool) -> Change {
    let since = T0;
    Change::Doubted(Doubt {
        of,
        since,
        vanished,
    })
}

fn key(name: &str) -> Doubted {
    Doubted::Key(samples::place(&format!("secret/data/{name}")))
}

fn said(world: &Opened, method: &str, path: &str) -> Said {
    let target = format!("/v1/secret/{path}");
    world.ask(method, &target).token("s.app").said()
}

/// The statuses of these requests: `LIST` and `SCAN` before a path, or a read.
fn statuses(world: &Opened, requests: &[&str]) -> Vec<u16> {
    let each = requests.iter().map(|request| {
        let (method, path) = request.split_once(' ').unwrap_or(("GET", request));
        said(world, method, path).status
    });
    each.collect()
}

const LISTS: [&str; 3] = [
    "LIST metadata/app",
    "LIST metadata/app/dir",
    "LIST metadata/sho",
];

#[test]
fn a_key_that_was_written_is_503_in_every_view_of_it() {
    let world = world().and(doubt(key("app/a"), false)).open();
    let of_key = [
        "data/app/a",
        "data/app/a?version=1",
        "data/app/a?version=2",
        "data/app/a/",
        "metadata/app/a",
    ];
    assert_eq!(statuses(&world, &of_key), [503; 5]);
    let text = said(&world, "GET", "data/app/a");
    assert!(
        text.error().contains(&Why::Doubted.to_string()),
        "{}",
        text.text
    );
    assert_eq!(
        statuses(&world, &["data/app/dir/b", "data/one"]),
        [200, 200]
    );
    // It was there, and a write does not take it away.
    assert_eq!(statuses(&world, &LISTS[..2]), [200, 200]);
}

#[test]
fn a_key_that_may_be_new_is_neither_absent_nor_left_out_of_a_list() {
    let before = world().open();
    assert_eq!(
        statuses(&before, &["data/app/dir/new", "LIST metadata/app/dir"]),
        [404, 200]
    );
    let world = world().and(doubt(key("app/dir/new"), false)).open();
    assert_eq!(
        statuses(&world, &["data/app/dir/new", "metadata/app/dir/new"]),
        [503, 503]
    );
    assert_eq!(statuses(&world, &LISTS), [503, 503, 404]);
    assert_eq!(
        statuses(&world, &["data/app/dir/other", "data/app/a"]),
        [404, 200]
    );
}

#[test]
fn what_there_was_no_room_for_is_neither_absent_nor_left_out_of_a_list() {
    let world = world().partly_passed(APP, T0).open();
    assert_eq!(
        statuses(&world, &["data/app/other", "metadata/app/other"]),
        [503, 503]
    );
    let text = said(&world, "GET", "data/app/other");
    assert!(text.error().contains(APP), "{}", text.text);
    assert_eq!(statuses(&world, &LISTS), [503, 503, 404]);
    assert_eq!(
        statuses(&world, &["data/app/a", "metadata/app/a", "data/one"]),
        [200, 200, 200]
    );
}

#[test]
fn a_key_that_may_be_gone_is_in_no_list() {
    let world = world().and(doubt(key("app/dir/b"), true)).open();
    assert_eq!(
        statuses(&world, &["data/app/dir/b", "data/app/a"]),
        [503, 200]
    );
    assert_eq!(statuses(&world, &LISTS[..2]), [503, 503]);
}

#[test]
fn where_too_many_may_be_new_nothing_is_absent_and_what_is_kept_is_given() {
    let world = world()
        .and(doubt(Doubted::Absence(APP.into()), false))
        .open();
    assert_eq!(
        statuses(
            &world,
            &["data/app/x", "LIST metadata/app", "metadata/app/x"]
        ),
        [503; 3]
    );
    assert_eq!(
        statuses(&world, &["data/app/a", "metadata/app/a", "data/one"]),
        [200; 3]
    );
}

#[test]
fn a_mirror_whose_mount_was_touched_gives_nothing() {
    let world = world()
        .and(doubt(Doubted::Mirror(APP.into()), false))
        .open();
    let of_mirror = [
        "data/app/a",
        "metadata/app/a",
        "data/app/x",
        "LIST metadata/app",
        "LIST metadata/app/dir",
    ];
    assert_eq!(statuses(&world, &of_mirror), [503; 5]);
    assert_eq!(statuses(&world, &["data/one"]), [200]);
}

#[test]
fn values_without_versions_are_in_doubt_too() {
    let ask = |doubts: Option<Change>| {
        let body = shared::secret::SecretBytes::new(b"{}".to_vec());
        let record = samples::record("secret/config", None, T0);
        let policy = "path \"secret/config\" { capabilities = [\"read\"] }";
        let mut world = world()
            .token("s.config", &["config"])
            .passed("secret/config", T0)
            .and(Change::Record(Box::new(record), Some(body)))
            .and(samples::policies(&[("config", policy)], T0));
        world.settings.mirrors.push(shared::settings::Mirror {
            path: shared::settings::MirrorPath::parse("secret/config"),
            ..world.settings.mirrors[0].clone()
        });
        world.changes.extend(doubts);
        let world = world.open();
        let asked = world.ask("GET", "/v1/secret/config").token("s.config");
        asked.said().status
    };
    assert_eq!(ask(None), 200);
    let of = Doubted::Key(samples::place("secret/config"));
    assert_eq!(ask(Some(doubt(of, false))), 503);
}

/// Who may not read a key is not told that it was written.
#[test]
fn the_access_control_goes_first() {
    let world = world().and(doubt(key("app/a"), false)).open();
    let denied = world
        .ask("GET", "/v1/secret/data/app/a")
        .token("s.none")
        .said();
    assert_eq!(denied.status, 403);
    let denied = world
        .ask("LIST", "/v1/secret/metadata/app")
        .token("s.none")
        .said();
    assert_eq!(denied.status, 403);
}

#[test]
fn parity_coverage_and_the_ledger_know_it() {
    let world = world().and(doubt(key("app/a"), false)).open();
    let ask = || world.ask("GET", "/v1/secret/data/app/a").token("s.app");
    assert_eq!(ask().judged().standing, Standing::Undecidable("value"));
    assert_eq!(ask().foreseen().verdict, Foretold::Stale);
    assert_eq!(Why::Doubted.class().reason, "doubted");
}
