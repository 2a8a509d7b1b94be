//! What is asked, at random: roles, and bodies of creations.

use harness::random::Seeded;
use serde_json::{Map, Value, json};

/// A role, mostly one that both sides make tokens of.
pub(crate) fn role(random: &mut Seeded) -> Value {
    let mut role = Map::new();
    let mut set = |name: &str, value: Value| {
        role.insert(name.to_owned(), value);
    };
    if random.chance(55) {
        let lists: [&[&str]; 5] = [
            &["alpha"],
            &["alpha", "beta"],
            &["Ghost", "alpha"],
            &["default", "beta"],
            &["maker"],
        ];
        set("allowed_policies", json!(random.one(&lists)));
    }
    if random.chance(25) {
        set(
            "allowed_policies_glob",
            json!([random.one(&["al*", "*", "*ta", "m*r"])]),
        );
    }
    if random.chance(20) {
        set(
            "disallowed_policies",
            json!([random.one(&["beta", "default", "ghost"])]),
        );
    }
    if random.chance(15) {
        set(
            "disallowed_policies_glob",
            json!([random.one(&["g*", "d*", "*a"])]),
        );
    }
    set("orphan", json!(random.chance(40)));
    set("renewable", json!(random.chance(80)));
    if random.chance(20) {
        set("path_suffix", json!("v_1"));
    }
    if random.chance(45) {
        let name = random.one(&["token_explicit_max_ttl", "explicit_max_ttl"]);
        set(name, json!(4 + random.below(16)));
    }
    if random.chance(20) {
        set("token_no_default_policy", json!(true));
    }
    let kinds = ["service", "default-service", "default-service"];
    set("token_type", json!(random.one(&kinds)));
    match random.below(50) {
        0 => set("token_period", json!(6)),
        1 => set("token_num_uses", json!(2)),
        2 => set("token_bound_cidrs", json!(["127.0.0.0/8"])),
        3 => set("token_type", json!("default-batch")),
        _ => {}
    }
    Value::Object(role)
}

/// The body of a creation.
pub(crate) fn creation(random: &mut Seeded) -> Value {
    let mut body = Map::new();
    let mut set = |name: &str, value: Value| {
        body.insert(name.to_owned(), value);
    };
    if random.chance(60) {
        let names = [
            "alpha", "beta", "maker", "default", "ghost", " Alpha", "", "chief", "root",
        ];
        let count = random.below(4);
        let often = |random: &mut Seeded| match random.chance(75) {
            true => random.one(&names[..4]),
            false => random.one(&names),
        };
        let policies: Vec<_> = (0..count).map(|_| often(random)).collect();
        set("policies", json!(policies));
    }
    if random.chance(65) {
        set("ttl", span(random, 3, 14));
    }
    if random.chance(30) {
        set("explicit_max_ttl", span(random, 4, 18));
    }
    for (name, percent) in [("no_default_policy", 12), ("no_parent", 12)] {
        if random.chance(percent) {
            set(name, json!(true));
        }
    }
    if random.chance(12) {
        set("renewable", json!(random.one(&["false", "true", "0"])));
    }
    if random.chance(15) {
        set("meta", json!({ "n": random.below(9), "who": "somebody" }));
    }
    if random.chance(15) {
        set("display_name", json!(random.one(&["ci", "a b/c-", "Ünï"])));
    }
    match random.below(60) {
        0 => set("type", json!("batch")),
        1 => set("num_uses", json!(3)),
        2 => set("period", json!("8s")),
        3 => set("type", json!("odd")),
        4 => set("num_uses", json!(-1)),
        5 => set("ttl", json!(random.one(&["1d12h", "-5s", "soon"]))),
        6 => set("entity_alias", json!("somebody")),
        7 => set("zed", json!(1)),
        8 => set("id", json!(format!("chosen{}", random.below(1 << 40)))),
        _ => {}
    }
    Value::Object(body)
}

/// The increment of a renewal; none now and then.
pub(crate) fn increment(random: &mut Seeded) -> Option<Value> {
    match random.below(10) {
        0..3 => None,
        3 => Some(json!(0)),
        4 => Some(json!("1h")),
        5 => Some(json!(random.one(&["-3", "soon"]))),
        _ => Some(span(random, 3, 20)),
    }
}

/// Whole seconds from `least` on, in one of their spellings.
fn span(random: &mut Seeded, least: u64, most: u64) -> Value {
    let seconds = least + random.below(most - least + 1);
    match random.below(3) {
        0 => json!(seconds),
        1 => json!(format!("{seconds}s")),
        _ => json!(format!("0m{seconds}s")),
    }
}
