//! What the compiler and clippy cannot hold: how the sources are laid out, which way the crates point, and where
//! secrets, time and randomness may come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// Where the workspace is.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// A source file: its path from the root, and its text.
struct Source {
    path: String,
    text: String,
}

/// Every Rust file of the workspace.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["agent", "replica", "shared", "tests", "examples"] {
        collect(&root().join(folder), &mut sources);
    }
    assert!(sources.len() > 50, "only {} sources found", sources.len());
    sources
}

fn collect(folder: &Path, into: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path
                .strip_prefix(root())
                .unwrap()
                .to_str()
                .unwrap()
                .to_owned();
            into.push(Source { path, text });
        }
    }
}

impl Source {
    /// Lines with their numbers, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
    }

    /// Places where one of `patterns` is in the code.
    fn uses<'a>(&'a self, patterns: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        let hit = |line: &str| patterns.iter().any(|pattern| line.contains(pattern));
        self.code()
            .filter(move |(_, line)| hit(line))
            .map(|(at, line)| format!("{}:{at}: {}", self.path, line.trim()))
    }
}

fn none(found: impl IntoIterator<Item = String>, rule: &str) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// Uses of `patterns` outside of the files that may.
fn only_in(patterns: &[&str], allowed: &[&str], rule: &str) {
    let outside = sources();
    let outside = outside.iter().filter(|source| {
        !allowed.iter().any(|allowed| source.path.contains(allowed)) && !is_tidy(source)
    });
    none(
        outside.flat_map(|source| source.uses(patterns).collect::<Vec<_>>()),
        rule,
    );
}

/// Sources of tests alone.
fn is_test(source: &Source) -> bool {
    let mut parts = source.path.split('/');
    parts.any(|part| matches!(part, "tests" | "tests.rs" | "rig.rs"))
}

/// This suite names what it forbids.
fn is_tidy(source: &Source) -> bool {
    source.path.starts_with("tests/suites/tidy")
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let bare = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "));
    none(bare.map(|source| source.path), "these do not open with //!");
}

#[test]
fn modules_are_named_for_what_is_in_them() {
    let vague = [
        "mod", "utils", "util", "common", "helpers", "helper", "misc",
    ];
    let stem = |source: &Source| {
        Path::new(&source.path)
            .file_stem()
            .unwrap()
            .to_str()
            .unwrap()
            .to_owned()
    };
    let named = sources()
        .into_iter()
        .filter(|source| vague.contains(&stem(source).as_str()));
    none(
        named.map(|source| source.path),
        "rename these for what is in them; name.rs beside name/, not mod.rs",
    );
}

#[test]
fn test_names_are_claims() {
    only_in(&["fn test_"], &[], "say what is claimed, without test_");
}

#[test]
fn no_test_is_skipped_and_no_panic_is_a_success() {
    only_in(
        &["#[ignore", "#[should_panic"],
        &[],
        "a test runs and claims",
    );
}

#[test]
fn nothing_is_left_to_be_done() {
    let marks = ["todo!(", "unimplemented!("];
    only_in(&marks, &[], "finish it");
    let comments = sources()
        .into_iter()
        .filter(|source| !is_tidy(source))
        .flat_map(|source| {
            let marked = |line: &&str| ["TODO", "FIXME"].iter().any(|mark| line.contains(mark));
            let found: Vec<_> = source
                .text
                .lines()
                .filter(marked)
                .map(|line| format!("{}: {line}", source.path))
                .collect();
            found
        });
    none(comments, "finish it");
}

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
    let lib = fs::read_to_string(root().join("shared/src/lib.rs")).unwrap();
    assert!(lib.lines().any(|line| line == "#![no_std]"));
    let shared = sources()
        .into_iter()
        .filter(|source| source.path.starts_with("shared/src/"));
    let std = shared.flat_map(|source| source.uses(&["extern crate std"]).collect::<Vec<_>>());
    none(std, "shared has alloc, not std");
}

#[test]
fn lints_are_set_once() {
    let roots = [
        "agent/src/lib.rs",
        "agent/src/main.rs",
        "replica/src/lib.rs",
        "shared/src/lib.rs",
    ];
    let attributes = sources()
        .into_iter()
        .filter(|source| roots.contains(&source.path.as_str()))
        .flat_map(|source| {
            source
                .uses(&["#![allow", "#![warn", "#![deny", "#![forbid", "#![expect"])
                .collect::<Vec<_>>()
        });
    none(attributes, "lints belong into the workspace's Cargo.toml");
    for member in ["agent", "replica", "shared", "tests", "examples"] {
        assert!(
            !root().join(member).join("clippy.toml").exists(),
            "{member}/clippy.toml would replace the root's"
        );
    }
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

/// Every place where a secret leaves its wrapper is listed in `tidy/exits.txt`, so that a new one is seen in review.
#[test]
fn every_exit_of_secrets_is_listed() {
    let listed = root().join("tests/suites/tidy/exits.txt");
    let exits = sources()
        .into_iter()
        .filter(|source| !is_test(source))
        .filter_map(|source| {
            let count = source
                .code()
                .map(|(_, line)| line.matches(".expose()").count())
                .sum::<usize>();
            (count > 0).then(|| format!("{count} {}\n", source.path))
        });
    let mut exits: Vec<_> = exits.collect();
    exits.sort_by(|one, other| one.split(' ').nth(1).cmp(&other.split(' ').nth(1)));
    let exits = exits.concat();
    let expected = fs::read_to_string(&listed).unwrap();
    let expected: String = expected
        .lines()
        .filter(|line| !line.starts_with('#'))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(
        exits,
        expected,
        "review what is new, then bring {} up to date",
        listed.display()
    );
}

#[test]
fn the_readme_s_two_commands_are_there() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    for command in [
        "cargo run --release --example outage",
        "cargo test --workspace",
    ] {
        assert!(readme.contains(command), "README.md lacks {command}");
    }
    let manifest = fs::read_to_string(root().join("examples/Cargo.toml")).unwrap();
    assert!(manifest.contains("name = \"outage\""));
}

/// Links from one document to another lead somewhere.
#[test]
fn documents_link_to_what_is_there() {
    let mut pages: Vec<_> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    pages.extend(
        [
            "README.md",
            "ARCHITECTURE.md",
            "CONTRIBUTING.md",
            "SECURITY.md",
        ]
        .map(|name| root().join(name)),
    );
    let mut broken = Vec::new();
    for page in pages
        .iter()
        .filter(|page| page.extension().is_some_and(|extension| extension == "md"))
    {
        let text = fs::read_to_string(page).unwrap();
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = link.split('#').next().unwrap_or_default();
            let there = file.is_empty()
                || file.contains("://")
                || page.parent().unwrap().join(file).exists();
            if !there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    none(broken, "these links lead nowhere");
}

/// Every key of the configuration's reader is in the reference.
#[test]
fn every_configuration_key_is_documented() {
    let reference = fs::read_to_string(root().join("docs/configuration.md")).unwrap();
    let readers = sources().into_iter().filter(|source| {
        source.path.starts_with("agent/src/config/") && !source.path.ends_with("tests.rs")
    });
    let (mut undocumented, mut keys) = (Vec::new(), 0);
    for source in readers {
        for asked in [
            "section.text(",
            "section.span(",
            "section.size(",
            "section.count(",
            "section.flag(",
            "section.required(",
            "section.texts(",
        ] {
            let flat: String = source
                .text
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .replace("( ", "(");
            for key in flat
                .split(asked)
                .skip(1)
                .filter_map(|rest| rest.strip_prefix('"')?.split('"').next())
            {
                keys += 1;
                if !reference.contains(&format!("`{key}`")) {
                    undocumented.push(format!("{}: {key}", source.path));
                }
            }
        }
    }
    assert!(keys > 40, "only {keys} keys found");
    none(undocumented, "these keys are not in docs/configuration.md");
}
