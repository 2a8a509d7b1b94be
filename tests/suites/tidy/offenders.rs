//! Lists of what breaks a rule still. They only shrink: what is new fails, and so does a line that is no longer true.

use std::collections::BTreeSet;

use crate::sources::document;

/// Compares what was found with `tests/suites/tidy/LIST`: one offender a line, lines with `#` are comments.
pub(crate) fn only_listed(found: impl IntoIterator<Item = String>, list: &str, rule: &str) {
    let path = format!("tests/suites/tidy/{list}");
    let text = document(&path);
    let listed = text.lines().filter(|line| !line.starts_with('#'));
    let listed: BTreeSet<_> = listed
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect();
    let found: BTreeSet<_> = found.into_iter().collect();
    let lines = |one: &BTreeSet<String>, other: &BTreeSet<String>| {
        let lines = one.difference(other).map(|line| format!("{line}\n"));
        lines.collect::<String>()
    };
    let (new, gone) = (lines(&found, &listed), lines(&listed, &found));
    assert!(new.is_empty(), "{rule}:\n{new}");
    assert!(
        gone.is_empty(),
        "these keep the rule by now; remove them from {path}:\n{gone}"
    );
}
