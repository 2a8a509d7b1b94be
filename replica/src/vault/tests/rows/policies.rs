//! Each policy is a row: what is done to it is felt by the tokens that name it, and by no other.

use shared::{
    damage::{Damage, RowKind},
    name::PolicyName,
};

use super::*;
use crate::table::{Table, Within};

/// Damages the row of each of these policies, and with `""` the one of the names of all.
fn damaged(stored: &Stored, policies: &[&str]) -> View {
    let keys = stored.open().keys().clone();
    let within = Within {
        keys: &keys,
        namespace: &stored.settings.namespace,
    };
    stored.after(|connection| {
        for name in policies {
            let at = match PolicyName::parse(name) {
                Ok(name) => within.policy(&name),
                Err(_) => within.only(Table::Policies),
            };
            let sql = "UPDATE row SET payload = zeroblob(40) WHERE tab = 14 AND key = ?1";
            assert_eq!(connection.execute(sql, params![at.key]).unwrap(), 1);
        }
    })
}

fn told(view: &View) -> Vec<Damage> {
    let damage = view.damage();
    let of_policies = |one: &Damage| one.kind == RowKind::Policies;
    assert!(damage.iter().all(of_policies), "{damage:?}");
    damage
}

/// What the holder of `app` is told.
fn refusal(view: &View) -> String {
    let read = Ask::new(view, "GET", "/v1/secret/data/app/db").token(APP);
    read.peer(peer("orders")).said().body.to_string()
}

#[test]
fn a_policy_that_does_not_open_costs_the_tokens_that_name_it_and_no_other() {
    let stored = Stored::made(1, false);
    let base = answers(&stored.after(|_| {}));
    let lost = |policy: &str| {
        let view = damaged(&stored, &[policy]);
        let damage = told(&view);
        assert_eq!((damage[0].rows, damage[0].incomplete), (1, false));
        assert_eq!(damage[0].names, [policy]);
        compare(&base, &answers(&view), policy)
    };
    for nobodys in ["admin", "filtered", "bare", "named", "broken"] {
        assert_eq!(lost(nobodys), Vec::<&str>::new(), "{nobodys}");
    }
    assert_eq!(lost("parent"), ["by a parent, itself"]);
    let by_app = lost("app");
    assert!(by_app.contains(&"a value") && by_app.contains(&"what is denied"));
    assert!(by_app.contains(&"by an identity") && !by_app.contains(&"by a parent, itself"));
    assert!(lost("default").contains(&"by a parent, itself"));
    let told = refusal(&damaged(&stored, &["app"]));
    assert!(
        told.contains("policy app in the replica: damaged"),
        "{told}"
    );
}

#[test]
fn names_that_do_not_open_cost_nothing_unless_something_does_not_that_only_they_name() {
    let stored = Stored::made(1, false);
    let base = answers(&stored.after(|_| {}));
    let view = damaged(&stored, &[""]);
    assert_eq!(told(&view)[0].rows, 1);
    assert!(compare(&base, &answers(&view), "names").is_empty());
    drop(view);
    let view = damaged(&stored, &["", "admin"]);
    assert_eq!(told(&view)[0].rows, 2);
    let lost = compare(&base, &answers(&view), "names and one");
    assert!(lost.contains(&"a value") && lost.contains(&"by a parent, itself"));
    assert!(refusal(&view).contains("the policies in the replica: damaged"));
}
