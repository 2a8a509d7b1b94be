//! The workspace's sources, and what of them is production code.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::LazyLock,
};

use crate::lexer::{self, Token};

/// The crates that are shipped, from the top.
pub(crate) const CRATES: [&str; 3] = ["agent", "replica", "shared"];

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

/// Production code of a crate's file.
pub(crate) struct Production {
    /// One of [`CRATES`].
    pub(crate) of: &'static str,
    /// From the workspace's root.
    pub(crate) path: String,
    /// Without the items that only tests have.
    pub(crate) tokens: Vec<Token>,
}

impl Production {
    /// Its path below `src`.
    pub(crate) fn inside(&self) -> &str {
        self.path.split_once("/src/").map_or("", |(_, path)| path)
    }

    /// How many lines of these tokens have code on them.
    pub(crate) fn lines(tokens: &[Token]) -> usize {
        let lines = tokens.iter().flat_map(|token| token.line..=token.last);
        lines.collect::<BTreeSet<_>>().len()
    }
}

/// All production code below the crates' `src`.
pub(crate) fn production() -> &'static [Production] {
    static ALL: LazyLock<Vec<Production>> = LazyLock::new(without_what_tests_have);
    &ALL
}

fn without_what_tests_have() -> Vec<Production> {
    let sources = sources().iter().filter(|source| !source.is_test());
    let mut production = Vec::new();
    for source in sources {
        let mut crates = CRATES.into_iter();
        let of = crates.find(|name| source.path.starts_with(&format!("{name}/src/")));
        production.extend(of.map(|of| Production {
            of,
            tokens: without_tests(lexer::tokens(&source.text)),
            path: source.path.clone(),
        }));
    }
    production
}

/// The tokens without every item that stands behind `#[cfg(test)]`.
pub(crate) fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while let Some(token) = tokens.get(at) {
        if let Some(end) = behind_test_attribute(&tokens, at) {
            at = end_of_item(&tokens, end);
        } else {
            kept.push(token.clone());
            at += 1;
        }
    }
    kept
}

/// Behind the `#[cfg(test)]` that stands at `at`, if it does.
pub(crate) fn behind_test_attribute(tokens: &[Token], at: usize) -> Option<usize> {
    const ATTRIBUTE: [&str; 7] = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut here = tokens[at..].iter();
    let stands = ATTRIBUTE
        .iter()
        .all(|text| here.next().is_some_and(|token| token.is(text)));
    stands.then_some(at + ATTRIBUTE.len())
}

/// Behind the item, field or statement that begins at `at`.
fn end_of_item(tokens: &[Token], mut at: usize) -> usize {
    while tokens.get(at).is_some_and(|token| token.is("#")) {
        at = end_of_group(tokens, at + 1);
    }
    // What may hold braces before its end.
    let statement = ["use", "const", "static", "let", "type"];
    let head = tokens[at..].iter().take(6);
    let mut head = head.take_while(|token| token.is_word() || token.is("(") || token.is(")"));
    let statement = head.any(|token| statement.iter().any(|word| token.is(word)));
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" | "," => return at + 1,
            "}" | ")" | "]" => return at,
            "{" if !statement => return end_of_group(tokens, at),
            "(" | "[" | "{" => at = end_of_group(tokens, at),
            _ => at += 1,
        }
    }
    at
}

/// Behind the bracket that closes the one at `at`.
pub(crate) fn end_of_group(tokens: &[Token], at: usize) -> usize {
    let mut depth = 0_usize;
    for (nr, token) in tokens.iter().enumerate().skip(at) {
        let opens = ["(", "[", "{"].iter().any(|mark| token.is(mark));
        let closes = [")", "]", "}"].iter().any(|mark| token.is(mark));
        depth = (depth + usize::from(opens)).saturating_sub(usize::from(closes));
        if closes && depth == 0 {
            return nr + 1;
        }
    }
    tokens.len()
}

#[test]
fn what_only_tests_have_is_left_out() {
    let text = "
        use a::b;
        #[cfg(test)]
        use c::{d, e};
        #[cfg(test)]
        #[allow(x)]
        pub(crate) mod tests { fn f() { '{'; } }
        fn g(#[cfg(test)] h: u8, i: u8) {}
        #[cfg(test)]
        mod samples;
        #[cfg(not(test))]
        fn k() {}";
    let kept = without_tests(lexer::tokens(text));
    let words: Vec<_> = kept.iter().filter(|token| token.is_word()).collect();
    let words: Vec<_> = words.iter().map(|token| token.text.as_str()).collect();
    let expected = [
        "use", "a", "b", "fn", "g", "i", "u8", "cfg", "not", "test", "fn", "k",
    ];
    assert_eq!(words, expected);
}
