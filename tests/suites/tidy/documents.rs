//! What documents say is there.

use std::fs;

use crate::{
    lexer::Token,
    sources::{document, none, production, root},
};

#[test]
fn the_readme_s_two_commands_are_there() {
    let readme = document("README.md");
    for command in [
        "cargo run --release --example outage",
        "cargo test --workspace",
    ] {
        assert!(readme.contains(command), "README.md lacks {command}");
    }
    let manifest = document("examples/Cargo.toml");
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
    let reference = document("docs/configuration.md");
    let readers = production().iter();
    let readers = readers.filter(|source| source.path.starts_with("agent/src/config"));
    let (mut undocumented, mut keys) = (Vec::new(), 0);
    for source in readers {
        for key in keys_read(&source.tokens) {
            keys += 1;
            let forms = [format!("`{key}`"), format!("`{key} =")];
            if !forms.iter().any(|form| reference.contains(form)) {
                undocumented.push(format!("{}: {key}", source.path));
            }
        }
    }
    assert!(keys > 55, "only {keys} keys found");
    none(undocumented, "these keys are not in docs/configuration.md");
}

/// Keys that code asks the configuration's file for: named in a call, `.span("key", …)`, or by a field that is read by
/// its own name, `key: span(…)` or `key: type = span(…)`.
fn keys_read(tokens: &[Token]) -> Vec<&str> {
    const READERS: [&str; 12] = [
        "count", "file", "flag", "id", "required", "share", "size", "socket", "span", "text",
        "text_or", "texts",
    ];
    let reads = |at: usize| {
        let is_reader = READERS.iter().any(|reader| tokens[at].is(reader));
        let called = tokens.get(at + 1).is_some_and(|next| next.is("("));
        if at < 2 || !is_reader || !called {
            return None;
        }
        let named = |colon: usize| {
            tokens[colon - 1]
                .is_word()
                .then(|| &tokens[colon - 1].text[..])
        };
        let before = &tokens[at - 1];
        if before.is(".") {
            let key = tokens.get(at + 2)?.text.strip_prefix('"')?;
            return key.strip_suffix('"');
        }
        if before.is(":") {
            return named(at - 1);
        }
        let colon = (1..at).rev().take(8).find(|back| tokens[*back].is(":"));
        before.is("=").then_some(colon?).and_then(named)
    };
    (0..tokens.len()).filter_map(reads).collect()
}
