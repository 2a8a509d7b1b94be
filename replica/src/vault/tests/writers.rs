//! Who can have had the right to write, by what is mirrored.

use shared::doubt::Writer;

use super::world::World;

fn world() -> World {
    World::following()
        .token("s.app", &["app"])
        .token("s.admin", &["admin", "default"])
        .token("s.root", &["root"])
        .token("s.broken", &["broken"])
        .token("s.new", &["app", "written-since"])
}

#[test]
fn who_may_write_is_told_by_the_policies_at_that_very_path() {
    let world = world().open();
    let writer =
        |token: &str, method: &str, target: &str| world.ask(method, target).token(token).writer();
    let key = "/v1/secret/data/app/a";
    for method in ["PUT", "PATCH", "DELETE"] {
        assert_eq!(writer("s.app", method, key), Writer::MayNot, "{method}");
    }
    assert_eq!(writer("s.admin", "PUT", key), Writer::MayNot);
    let create = "/v1/auth/token/create";
    assert_eq!(writer("s.admin", "PUT", create), Writer::May);
    assert_ne!(writer("s.root", "PUT", key), Writer::MayNot);
}

#[test]
fn what_only_the_primary_knows_is_not_taken_for_a_denial() {
    let world = world().open();
    let put = || world.ask("PUT", "/v1/secret/data/app/a");
    for token in ["s.unknown", "hvb.batch", "s.broken", "s.new"] {
        assert_eq!(put().token(token).writer(), Writer::Unknown, "{token}");
    }
    let elsewhere = put().token("s.app").namespace("team");
    assert_eq!(elsewhere.writer(), Writer::Unknown);
    assert_eq!(put().writer(), Writer::MayNot, "no token at all");
    // What restricts a request gives nobody a right.
    let form = put().token("s.app").unmodelled("content-type");
    assert_eq!(form.writer(), Writer::MayNot);
}
