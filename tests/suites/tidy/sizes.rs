//! How much code there is: of a function, of a file, of a crate. Blank lines, comments and tests do not count.

use std::collections::BTreeMap;

use crate::{
    items,
    offenders::only_listed,
    sources::{Production, production},
};

/// Lines of one file.
const FILE: usize = 400;

/// Lines of the crate `agent`.
const AGENT: usize = 30_350;

/// Lines of the three crates together.
const ALL: usize = 58_950;

/// Lines of one function.
const FUNCTION: usize = 60;

#[test]
fn files_are_within_400_lines_of_code() {
    let long = production().iter().filter(|file| {
        let lines = Production::lines(&file.tokens);
        if lines > FILE {
            println!("{lines} {}", file.path);
        }
        lines > FILE
    });
    only_listed(
        long.map(|file| file.path.clone()),
        "files.txt",
        "a file has at most 400 lines of code: split it by subject",
    );
}

#[test]
fn functions_are_within_60_lines_of_code() {
    let (mut long, mut all) = (Vec::new(), 0);
    for file in production() {
        for function in items::functions(&file.tokens) {
            all += 1;
            let lines = Production::lines(function.tokens);
            if lines > FUNCTION {
                println!("{lines} {} {}", file.path, function.name);
                long.push(format!("{} {}", file.path, function.name));
            }
        }
    }
    assert!(all > 2000, "only {all} functions found");
    only_listed(
        long,
        "functions.txt",
        "a function has at most 60 lines of code: take steps out of it",
    );
}

#[test]
fn the_code_does_not_grow() {
    let mut lines: BTreeMap<_, usize> = BTreeMap::new();
    for file in production() {
        *lines.entry(file.of).or_default() += Production::lines(&file.tokens);
    }
    let all: usize = lines.values().sum();
    let shown = format!("{lines:?}, in all {all}");
    println!("lines of code: {shown}");
    assert!(
        lines.values().all(|lines| *lines > 5000),
        "too few found: {shown}"
    );
    let bounds = [("agent", AGENT, lines["agent"]), ("all", ALL, all)];
    let over = bounds.iter().filter(|(_, most, lines)| lines > most);
    only_listed(
        over.map(|(of, most, _)| format!("{of} has more than {most}")),
        "crates.txt",
        &format!("the code stays within its bounds ({shown})"),
    );
}
