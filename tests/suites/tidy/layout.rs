//! How the sources are laid out and named, and that nothing in them is unfinished.

use std::path::Path;

use crate::{
    lexer,
    offenders::only_listed,
    sources::{Source, behind_test_attribute, none, only_in, root, sources},
};

#[test]
fn every_file_says_first_what_it_is_for() {
    let bare = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "));
    none(
        bare.map(|source| source.path.clone()),
        "these do not open with //!",
    );
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
        .iter()
        .filter(|source| vague.contains(&stem(source).as_str()));
    none(
        named.map(|source| source.path.clone()),
        "rename these for what is in them; name.rs beside name/, not mod.rs",
    );
}

/// What only tests have is below a folder `tests`, or the crate's `samples`: nothing else is taken for production.
#[test]
fn test_only_files_are_told_by_their_names() {
    let mut found = Vec::new();
    for source in sources().iter().filter(|source| !source.is_test()) {
        let tokens = lexer::tokens(&source.text);
        for (at, _) in tokens.iter().enumerate() {
            let Some(end) = behind_test_attribute(&tokens, at) else {
                continue;
            };
            let module = tokens[end..].windows(3);
            let module = module
                .take(5)
                .find(|three| three[0].is("mod") && three[2].is(";"));
            let named = module.map(|three| three[1].text.as_str());
            let named = named.filter(|name| !matches!(*name, "tests" | "samples"));
            found.extend(named.map(|name| format!("{} {name}", source.path)));
        }
    }
    only_listed(
        found,
        "layout.txt",
        "a module of tests is called `tests` or `samples`",
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
        .iter()
        .filter(|source| !source.is_tidy())
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
fn lints_are_set_once() {
    let roots = [
        "agent/src/lib.rs",
        "agent/src/main.rs",
        "replica/src/lib.rs",
        "shared/src/lib.rs",
    ];
    let attributes = sources()
        .iter()
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
