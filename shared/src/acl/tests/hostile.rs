//! Texts made to hurt: they are refused, or cost what their size costs.

use alloc::{format, string::String};

use super::{NOW, acl, allows, policy};
use crate::acl::{Operation, Policy, Reason};

fn refused(text: &str) -> Reason {
    Policy::parse("p", text, NOW).unwrap_err().reason
}

#[test]
fn texts_beyond_the_bounds_are_refused() {
    assert_eq!(refused(&"#".repeat(Policy::MAX_SIZE + 1)), Reason::TooLong);
    let deep = Policy::MAX_DEPTH + 1;
    assert_eq!(
        refused(&format!("a = {}", "[".repeat(deep))),
        Reason::TooDeep
    );
    assert_eq!(refused(&"a {".repeat(deep)), Reason::TooDeep);
    assert_eq!(refused(&r#"{"a":"#.repeat(deep)), Reason::TooDeep);
    assert_eq!(
        refused(&format!("path {} {{}}", "a ".repeat(20))),
        Reason::TooDeep
    );
    let labels = r#""a" "#.repeat(20);
    assert_eq!(refused(&format!("{{{labels}:1}}")), Reason::TooDeep);
    let levels = r#""a":{"#.repeat(20);
    assert_eq!(refused(&format!("{{{levels}")), Reason::TooDeep);
}

#[test]
fn texts_as_large_as_allowed_are_read_whatever_they_are_made_of() {
    for unit in [
        "a = [",
        "\"",
        "\\x41",
        "#\n",
        "/*",
        "<<A\n",
        "path \"a\" {}\n",
        "${",
        "{{",
        "\r\n",
        "0",
        "[[",
    ] {
        let text = unit.repeat(Policy::MAX_SIZE / unit.len());
        let _ = Policy::parse("p", &text, NOW);
        let quoted = unit.repeat(Policy::MAX_SIZE / unit.len() - 100);
        let _ = Policy::parse("p", &format!("path \"{quoted}\" {{}}"), NOW);
        let _ = Policy::parse("p", &format!("{{\"path\":[{quoted}]}}"), NOW);
    }
}

#[test]
fn paths_of_many_segments_are_matched() {
    let path = "a/".repeat(20_000);
    let acl = acl(&[&format!(
        "path \"{}*\" {{ policy = \"read\" }}",
        path.replacen("a/", "+/", 10_000)
    )]);
    assert!(allows(&acl, Operation::Read, &format!("{path}b")));
    assert!(!allows(&acl, Operation::Read, "a/a"));
}

#[test]
fn rules_that_are_prefixes_of_one_another_find_the_longest() {
    let mut text = String::new();
    for length in 0..500 {
        text.push_str(&format!(
            "path \"{}*\" {{ policy = \"read\" }}\n",
            "a".repeat(length)
        ));
    }
    text.push_str(&format!(
        "path \"{}*\" {{ policy = \"deny\" }}\n",
        "a".repeat(500)
    ));
    let acl = acl(&[&text]);
    assert!(allows(&acl, Operation::Read, &"a".repeat(499)));
    assert!(!allows(&acl, Operation::Read, &"a".repeat(900)));
}

#[test]
fn errors_name_the_line() {
    for (text, line) in [
        ("path \"a\" {\n  capabilities = [\"bogus\"]\n}", 2),
        ("\n\npath \"a\" {\n  nonsense = 1\n}", 4),
        ("path \"a\" {}\n'", 2),
        ("{\n\"path\":\n{\"a\":\n{\"x\":1}}}", 4),
        ("path \"a\" {\n policy = 1 +\n}", 2),
    ] {
        assert_eq!(
            Policy::parse("p", text, NOW).unwrap_err().line,
            line,
            "{text}"
        );
    }
    assert!(policy("").rule_count() == 0);
}
