//! The paragraphs of `ARCHITECTURE.md` that follow a request through the code name only what is there.

use std::collections::BTreeSet;

use crate::{
    items, lexer,
    sources::{Production, document, production, root},
};

/// The section that is held to the sources.
const SECTION: &str = "\n## Four ways through the code\n";

#[test]
fn every_name_in_the_four_ways_exists() {
    let text = document("ARCHITECTURE.md");
    let section = text.split(SECTION).nth(1);
    let section = section.expect("ARCHITECTURE.md follows four ways through the code");
    let section = section.split("\n## ").next().unwrap_or_default();
    let names = in_backticks(section);
    assert!(names.len() >= 3, "only {names:?} are named");
    let absent = absent(&names, production());
    assert!(
        absent.is_empty(),
        "these are named in ARCHITECTURE.md and not there: {absent:?}"
    );
}

/// What stands in backticks.
fn in_backticks(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

/// Those of `names` that are not there: files by their path or its end, items as `Type`, `function` or `Type::member`,
/// modules by their name.
fn absent<'n>(names: &[&'n str], code: &[Production]) -> Vec<&'n str> {
    let mut known = BTreeSet::new();
    for file in code {
        known.extend(items::types(&file.tokens));
        known.extend(items::functions(&file.tokens).into_iter().map(|f| f.name));
        known.extend(file.inside().trim_end_matches(".rs").split('/'));
    }
    let is_there = |name: &&str| {
        let name = name.trim_end_matches("()");
        if name.contains('/') || name.ends_with(".rs") {
            let name = name.trim_end_matches('/');
            let inside =
                |file: &Production| file.path == name || file.path.ends_with(&format!("/{name}"));
            return root().join(name).exists() || code.iter().any(inside);
        }
        match name.rsplit_once("::") {
            Some((of, member)) => code.iter().any(|file| has_member(file, of, member)),
            None => known.contains(name),
        }
    };
    names
        .iter()
        .filter(|name| !is_there(name))
        .copied()
        .collect()
}

/// Whether `of`, a type or a module, has this function, variant or type.
fn has_member(file: &Production, of: &str, member: &str) -> bool {
    let of = of.rsplit("::").next().unwrap_or(of);
    let module = file
        .path
        .trim_end_matches(".rs")
        .ends_with(&format!("/{of}"));
    let in_module = items::functions(&file.tokens)
        .iter()
        .any(|f| f.name == member)
        || items::types(&file.tokens).contains(&member);
    module && in_module || items::members(&file.tokens, of).contains(&member)
}

#[test]
fn a_name_that_is_not_there_is_found_out() {
    let text = "
        pub struct Pass { at: u8 } enum Step { First(u8), Last }
        impl Pass { fn begin() {} } impl Trait for Pass { fn end() {} } fn run() {}
        trait Trait { fn end(); }";
    let file = Production {
        of: "agent",
        path: "agent/src/mirror/pass.rs".to_owned(),
        tokens: lexer::tokens(text),
    };
    let text = "`Pass` `run` `run()` `mirror` `pass` `mirror/pass.rs` `agent/src/mirror/pass.rs` `Pass::begin` `Pass::end` `Trait::end`
        `Pass::at` `Step::Last` `pass::run` `agent/src/` and `Fail` `Pass::run` `mirror/kv.rs` `Step::begin` `kv::run` `Trait::run`";
    let expected = [
        "Fail",
        "Pass::run",
        "mirror/kv.rs",
        "Step::begin",
        "kv::run",
        "Trait::run",
    ];
    assert_eq!(absent(&in_backticks(text), &[file]), expected);
}
