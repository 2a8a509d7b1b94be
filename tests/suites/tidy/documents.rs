//! What documents say is there.

use std::fs;

use crate::sources::{document, none, root, sources};

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
    let readers = sources().iter().filter(|source| {
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
