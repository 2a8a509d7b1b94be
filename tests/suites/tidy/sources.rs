//! The workspace's sources, and what of them is production code.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

/// Where the workspace is.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// A document of the workspace.
pub(crate) fn document(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

/// A source file: its path from the root, and its text.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Every Rust file of the workspace.
pub(crate) fn sources() -> &'static [Source] {
    static ALL: LazyLock<Vec<Source>> = LazyLock::new(read);
    &ALL
}

fn read() -> Vec<Source> {
    let mut sources = Vec::new();
    for folder in ["agent", "replica", "shared", "tests", "examples"] {
        collect(&root().join(folder), &mut sources);
    }
    assert!(sources.len() > 50, "only {} sources found", sources.len());
    sources.sort_by(|one, other| one.path.cmp(&other.path));
    sources
}

fn collect(folder: &Path, into: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            let path = path.strip_prefix(root()).unwrap();
            let path = path.to_str().unwrap().to_owned();
            into.push(Source { path, text });
        }
    }
}

impl Source {
    /// Lines with their numbers, without comments.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate();
        lines.map(|(at, line)| (at + 1, line.split("//").next().unwrap_or_default()))
    }

    /// Places where one of `patterns` is in the code.
    pub(crate) fn uses<'a>(&'a self, patterns: &'a [&str]) -> impl Iterator<Item = String> + 'a {
        let hit = |line: &str| patterns.iter().any(|pattern| line.contains(pattern));
        self.code()
            .filter(move |(_, line)| hit(line))
            .map(|(at, line)| format!("{}:{at}: {}", self.path, line.trim()))
    }

    /// Sources of tests alone.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.split('/');
        parts.any(|part| matches!(part, "tests" | "tests.rs" | "samples" | "samples.rs"))
    }

    /// This suite names what it forbids.
    pub(crate) fn is_tidy(&self) -> bool {
        self.path.starts_with("tests/suites/tidy")
    }
}

/// Fails with the rule, and with what breaks it.
pub(crate) fn none(found: impl IntoIterator<Item = String>, rule: &str) {
    let found: Vec<_> = found.into_iter().collect();
    assert!(found.is_empty(), "{rule}:\n{}", found.join("\n"));
}

/// Fails where one of `patterns` is used outside of the files that may.
pub(crate) fn only_in(patterns: &[&str], allowed: &[&str], rule: &str) {
    let outside = sources().iter().filter(|source| {
        !allowed.iter().any(|allowed| source.path.contains(allowed)) && !source.is_tidy()
    });
    none(
        outside.flat_map(|source| source.uses(patterns).collect::<Vec<_>>()),
        rule,
    );
}
