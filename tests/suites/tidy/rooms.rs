//! Which room may import which: the order is in `ARCHITECTURE.md`, in the block that opens with ```` ```rooms ````.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    lexer::{self, Token},
    offenders::only_listed,
    sources::{CRATES, Production, document, end_of_group, production},
};

#[test]
fn no_room_imports_one_above_it() {
    let text = document("ARCHITECTURE.md");
    let order = order(&text);
    let (mut found, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for file in production() {
        let room = room(file);
        if matches!(room, "lib" | "main") {
            continue;
        }
        let rank = |name: &str| order[file.of].iter().position(|listed| listed == name);
        let Some(own) = rank(room) else {
            found.insert(format!("{} {room} is not in the order", file.of));
            continue;
        };
        seen.insert((file.of, room.to_owned()));
        for other in imports(file) {
            if rank(&other).is_some_and(|other| other < own) {
                println!("{}: {other}", file.path);
                found.insert(format!("{} {room} imports {other}", file.of));
            }
        }
    }
    for of in CRATES {
        let missing = order[of]
            .iter()
            .filter(|name| !seen.contains(&(of, (*name).clone())));
        found.extend(missing.map(|name| format!("{of} {name} is not there")));
    }
    only_listed(
        found,
        "rooms.txt",
        "a room imports only rooms behind it in the order that ARCHITECTURE.md lists",
    );
}

/// The rooms of each crate, from the top.
fn order(text: &str) -> BTreeMap<&str, Vec<String>> {
    let block = text.split("```rooms\n").nth(1);
    let block = block.and_then(|rest| rest.split("```").next());
    let block = block.expect("ARCHITECTURE.md has a block that opens with ```rooms");
    let mut order: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut of = "";
    for line in block.lines() {
        // A line without a name goes on with the crate of the one before.
        let (name, rooms) = line.split_once(':').unwrap_or((of, line));
        of = name.trim();
        let rooms = rooms
            .split('>')
            .map(str::trim)
            .filter(|room| !room.is_empty());
        order
            .entry(of)
            .or_default()
            .extend(rooms.map(str::to_owned));
    }
    assert_eq!(order.keys().copied().collect::<Vec<_>>(), CRATES);
    order
}

/// The top-level module of a file.
fn room(file: &Production) -> &str {
    let first = file.inside().split('/').next().unwrap_or_default();
    first.trim_end_matches(".rs")
}

/// Top-level modules that a file names, by `crate::` or by enough `super::`.
fn imports(file: &Production) -> BTreeSet<String> {
    let depth = file.inside().split('/').count();
    let mut found = BTreeSet::new();
    for (at, token) in file.tokens.iter().enumerate() {
        let ups = match token.text.as_str() {
            "crate" => 1,
            "super" => depth,
            _ => continue,
        };
        let path = std::iter::repeat_n([token.text.as_str(), "::"], ups);
        let path: Vec<_> = path.flatten().collect();
        if stands(&file.tokens, at, &path) {
            names(&file.tokens, at + path.len(), &mut found);
        }
    }
    found
}

fn stands(tokens: &[Token], at: usize, path: &[&str]) -> bool {
    let here = tokens.iter().skip(at).zip(path);
    here.filter(|(token, word)| token.is(word)).count() == path.len()
}

/// The name at `at`, or those that a brace opens there.
fn names(tokens: &[Token], at: usize, found: &mut BTreeSet<String>) {
    match tokens.get(at) {
        Some(token) if token.is("{") => {
            let end = end_of_group(tokens, at);
            let mut next = at + 1;
            while next < end - 1 {
                names(tokens, next, found);
                while next < end - 1 && !tokens[next].is(",") {
                    let group = tokens[next].is("{");
                    next = if group {
                        end_of_group(tokens, next)
                    } else {
                        next + 1
                    };
                }
                next += 1;
            }
        }
        Some(token) if token.is_word() => drop(found.insert(token.text.clone())),
        _ => {}
    }
}

#[test]
fn imports_are_read_from_groups_and_from_paths() {
    let text = "use crate::{a::{self, b}, c}; fn f() { crate::d::g(); super::super::e::h(); super::i::k(); }";
    let file = Production {
        of: "agent",
        path: "agent/src/x/y.rs".to_owned(),
        tokens: lexer::tokens(text),
    };
    assert_eq!(
        imports(&file),
        ["a", "c", "d", "e"].map(String::from).into()
    );
}

#[test]
fn an_order_may_go_over_several_lines() {
    let text = "x\n```rooms\nagent: a > b >\n  c\nreplica: d\nshared: e\n```\ny";
    assert_eq!(order(text)["agent"], ["a", "b", "c"]);
}
