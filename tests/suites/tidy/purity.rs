//! Where time and randomness come from, and which way the crates point.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use crate::sources::{document, none, only_in, root, sources};

#[test]
fn the_clock_is_read_in_one_place() {
    let clocks = [
        "SystemTime::now",
        "Instant::now",
        "clock_gettime",
        "Timestamp::now",
        "Zoned::now",
    ];
    // A bench measures how long something took, and decides nothing.
    let allowed = ["agent/src/clock.rs", "tests/harness/clock.rs", "/benches/"];
    only_in(
        &clocks,
        &allowed,
        "time is an argument; only clock.rs reads it",
    );
}

#[test]
fn randomness_comes_from_one_place() {
    let sources = ["getrandom::", "OsRng", "thread_rng", "rand::rng"];
    let allowed = ["replica/src/entropy.rs", "tests/harness/random.rs"];
    only_in(
        &sources,
        &allowed,
        "randomness is an argument; only entropy.rs asks the system",
    );
}

#[test]
fn shared_cannot_do_input_or_output() {
    let lib = document("shared/src/lib.rs");
    assert!(lib.lines().any(|line| line == "#![no_std]"));
    let shared = sources()
        .iter()
        .filter(|source| source.path.starts_with("shared/src/"));
    let std = shared.flat_map(|source| source.uses(&["extern crate std"]).collect::<Vec<_>>());
    none(std, "shared has alloc, not std");
}

#[test]
fn dependencies_point_one_way() {
    let graph = Graph::load();
    let network = [
        "hyper",
        "hyper-util",
        "mio",
        "reqwest",
        "rustls",
        "socket2",
        "tokio",
    ];
    for (crate_, forbidden) in [
        (
            "holdover-shared",
            &["holdover", "holdover-replica", "rustix", "nix", "getrandom"][..],
        ),
        ("holdover-shared", &network[..]),
        ("holdover-replica", &["holdover"][..]),
        ("holdover-replica", &network[..]),
        ("holdover", &["holdover-tests", "holdover-examples"][..]),
        ("holdover", &["aws-lc-rs", "openssl", "native-tls"][..]),
    ] {
        let reached = graph.reached_from(crate_);
        assert!(reached.len() > 5, "{crate_} reaches {reached:?}");
        let wrong: Vec<_> = forbidden
            .iter()
            .filter(|name| reached.contains(**name))
            .collect();
        assert!(wrong.is_empty(), "{crate_} must not reach {wrong:?}");
    }
}

/// What is compiled into each crate, without what only tests and build scripts need.
struct Graph(BTreeMap<String, BTreeSet<String>>);

impl Graph {
    fn load() -> Self {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--offline", "--locked"])
            .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let packages = metadata["packages"].as_array().unwrap();
        let names: BTreeMap<_, _> = packages
            .iter()
            .map(|package| {
                (
                    package["id"].as_str().unwrap(),
                    package["name"].as_str().unwrap(),
                )
            })
            .collect();
        let mut edges: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for node in metadata["resolve"]["nodes"].as_array().unwrap() {
            let from = names[node["id"].as_str().unwrap()].to_owned();
            let normal = node["deps"].as_array().unwrap().iter().filter(|dep| {
                dep["dep_kinds"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .any(|kind| kind["kind"].is_null())
            });
            let to = normal.map(|dep| names[dep["pkg"].as_str().unwrap()].to_owned());
            edges.entry(from).or_default().extend(to);
        }
        Self(edges)
    }

    fn reached_from(&self, name: &str) -> BTreeSet<&str> {
        let mut reached = BTreeSet::new();
        let mut next: Vec<&str> = self.0[name].iter().map(String::as_str).collect();
        while let Some(name) = next.pop() {
            if reached.insert(name) {
                next.extend(self.0.get(name).into_iter().flatten().map(String::as_str));
            }
        }
        reached
    }
}
