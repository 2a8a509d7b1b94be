//! Where secrets leave their wrapper.

use std::fs;

use crate::sources::{root, sources};

/// Every place where a secret leaves its wrapper is listed in `tidy/exits.txt`, so that a new one is seen in review.
#[test]
fn every_exit_of_secrets_is_listed() {
    let listed = root().join("tests/suites/tidy/exits.txt");
    let exits = sources()
        .iter()
        .filter(|source| !source.is_test())
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
