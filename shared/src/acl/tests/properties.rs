//! What holds for every policy set and every path.

use alloc::{
    collections::BTreeMap,
    format,
    string::{String, ToString},
    vec::Vec,
};

use proptest::{collection::vec, prelude::*, sample::select};

use super::{NOW, compile, decide, policy};
use crate::{
    acl::{Acl, Decision, Operation, Policy, PolicyEntry, Undecidable},
    identity::Identity,
};

const CAPABILITIES: [&str; 8] = [
    "create", "delete", "list", "patch", "read", "scan", "sudo", "update",
];

const OPERATIONS: [(Operation, &str); 7] = [
    (Operation::Create, "create"),
    (Operation::Delete, "delete"),
    (Operation::List, "list"),
    (Operation::Patch, "patch"),
    (Operation::Read, "read"),
    (Operation::Scan, "scan"),
    (Operation::Update, "update"),
];

fn segment() -> impl Strategy<Value = &'static str> {
    select(&["a", "ab", "abc", "b", "", "+", "+x", "x+", "é"][..])
}

/// The path of a rule.
fn rule_path() -> impl Strategy<Value = String> {
    let ends = select(&["", "", "*", "/*", "/"][..]);
    (vec(segment(), 1..5), ends)
        .prop_map(|(segments, end)| format!("{}{end}", segments.join("/")))
        .prop_filter("refused by the primary", |path| !path.contains("+*"))
}

/// The path of a request.
fn path() -> impl Strategy<Value = String> {
    (vec(segment(), 1..6), any::<bool>()).prop_map(|(segments, slash)| {
        let end = if slash { "/" } else { "" };
        format!("{}{end}", segments.join("/"))
    })
}

type Rules = Vec<(String, Vec<&'static str>)>;

fn rules() -> impl Strategy<Value = Rules> {
    let capabilities = proptest::sample::subsequence(&CAPABILITIES[..], 0..=8);
    vec((rule_path(), capabilities), 0..12)
}

fn text(rules: &Rules) -> String {
    let rule = |(path, names): &(String, Vec<&str>)| {
        format!("path {path:?} {{ capabilities = {names:?} }}\n")
    };
    rules.iter().map(rule).collect()
}

fn acl_of(texts: &[String]) -> Acl {
    let policies: Vec<_> = texts.iter().map(|text| policy(text)).collect();
    compile(&policies, &Identity::default()).unwrap()
}

/// The primary's rules for finding the rule that decides, written down as plainly as they can be.
mod model {
    use super::*;

    /// Merged capabilities by path as written, without one leading slash.
    pub(super) fn merged(rules: &Rules) -> BTreeMap<String, Vec<&'static str>> {
        let mut merged = BTreeMap::<String, Vec<&str>>::new();
        for (path, names) in rules {
            let path = path.strip_prefix('/').unwrap_or(path);
            let known = merged.entry(path.to_string()).or_default();
            known.extend(names);
            known.sort_unstable();
            known.dedup();
        }
        merged
    }

    pub(super) fn find<'m>(
        rules: &'m BTreeMap<String, Vec<&'static str>>,
        path: &str,
        lists: bool,
    ) -> Option<&'m Vec<&'static str>> {
        let path = path.trim_start_matches('/');
        let is_segments = |rule: &str| rule == "+" || rule.starts_with("+/") || rule.contains("/+");
        let exact = |path: &str| {
            let found = rules.get_key_value(path);
            found.filter(|(rule, _)| !is_segments(rule) && !rule.ends_with('*'))
        };
        let wild = |path: &str| {
            let prefixes = rules.iter().filter_map(|(rule, names)| {
                let prefix = rule.strip_suffix('*').filter(|_| !is_segments(rule))?;
                let rank = (prefix.len(), false, 0, prefix.len(), prefix.to_string());
                path.starts_with(prefix).then_some((rank, names))
            });
            let longest = prefixes.max();
            let segments = rules.iter().filter_map(|(rule, names)| {
                let matched = is_segments(rule) && segments_match(rule, path);
                matched.then(|| (segments_rank(rule), names))
            });
            longest
                .into_iter()
                .chain(segments)
                .max()
                .map(|(_, names)| names)
        };
        let trimmed = path.strip_suffix('/').filter(|_| lists);
        exact(path)
            .or_else(|| exact(trimmed?))
            .map(|(_, names)| names)
            .or_else(|| wild(path))
            .or_else(|| wild(trimmed?))
    }

    fn segments_rank(rule: &str) -> (usize, bool, isize, usize, String) {
        let body = rule.strip_suffix('*').unwrap_or(rule);
        let wildcards = body.split('/').filter(|s| *s == "+").count();
        (
            rule.find('+').unwrap(),
            !rule.ends_with('*'),
            -isize::try_from(wildcards).unwrap(),
            body.len(),
            body.to_string(),
        )
    }

    fn segments_match(rule: &str, path: &str) -> bool {
        let open = rule.ends_with('*');
        let wanted: Vec<_> = rule.strip_suffix('*').unwrap_or(rule).split('/').collect();
        let given: Vec<_> = path.split('/').collect();
        let last = wanted.len() - 1;
        (given.len() == wanted.len() || (open && given.len() > wanted.len()))
            && wanted
                .iter()
                .zip(&given)
                .enumerate()
                .all(|(at, (wanted, given))| {
                    wanted == given
                        || *wanted == "+"
                        || (open && at == last && given.starts_with(wanted))
                })
    }
}

proptest! {
    #[test]
    fn the_deciding_rule_is_the_plain_models(rules in rules(), paths in vec(path(), 1..20)) {
        let acl = acl_of(&[text(&rules)]);
        let merged = model::merged(&rules);
        for path in paths {
            for (operation, name) in OPERATIONS {
                let lists = matches!(operation, Operation::List | Operation::Scan);
                let names = model::find(&merged, &path, lists);
                let expected = names.is_some_and(|names| names.contains(&name));
                let decision = decide(&acl, operation, &path);
                prop_assert_eq!(matches!(decision, Decision::Allow(_)), expected, "{} {}", name, path);
            }
            let names = model::find(&merged, &path, true).filter(|names| !names.is_empty());
            let expected = names.cloned().unwrap_or_else(|| ["deny"].into());
            prop_assert_eq!(acl.capabilities(&path).unwrap(), expected, "{}", path);
        }
    }

    #[test]
    fn one_deny_among_policies_denies_its_path(
        rules in rules(), denied in rule_path(), paths in vec(path(), 1..20), at in any::<prop::sample::Index>(),
    ) {
        let deny = format!("path {denied:?} {{ capabilities = [\"deny\"] }}");
        let only = acl_of(core::slice::from_ref(&deny));
        let mut texts: Vec<_> = rules.iter().map(|rule| text(&[rule.clone()].into())).collect();
        let without = acl_of(&texts);
        texts.insert(at.index(texts.len() + 1), deny);
        let with = acl_of(&texts);
        for path in paths {
            for (operation, _) in OPERATIONS {
                let allowed = matches!(decide(&with, operation, &path), Decision::Allow(_));
                // Where the deny rule alone does not match, nothing has changed, and where it does, nothing
                // was added.
                let before = matches!(decide(&without, operation, &path), Decision::Allow(_));
                prop_assert!(!allowed || before);
            }
        }
        let exact = denied.trim_start_matches('/');
        if !exact.contains(['+', '*']) && !exact.is_empty() && !denied.starts_with("//") {
            prop_assert_eq!(with.capabilities(exact).unwrap(), ["deny"]);
            prop_assert_eq!(only.capabilities(exact).unwrap(), ["deny"]);
        }
    }

    #[test]
    fn the_order_of_policies_does_not_matter(rules in rules(), paths in vec(path(), 1..20)) {
        let mut texts: Vec<_> = rules.iter().map(|rule| text(&[rule.clone()].into())).collect();
        let forwards = acl_of(&texts);
        texts.reverse();
        let backwards = acl_of(&texts);
        for path in paths {
            prop_assert_eq!(forwards.capabilities(&path), backwards.capabilities(&path));
            prop_assert_eq!(forwards.has_mount_access(&path), backwards.has_mount_access(&path));
        }
    }

    #[test]
    fn an_unmodelled_rule_changes_nothing_outside_of_its_prefix(
        rules in rules(), odd in rule_path(), paths in vec(path(), 1..20),
    ) {
        let known = text(&rules);
        let odd_text = format!("{known}path {odd:?} {{ capabilities = [\"subscribe\"] }}");
        let stored = Policy::parse_stored("p", &odd_text, NOW).unwrap();
        prop_assert_eq!(stored.undecided().count(), 1);
        let with = compile(&[stored], &Identity::default()).unwrap();
        let without = acl_of(&[known]);
        let odd = odd.strip_prefix('/').unwrap_or(&odd);
        let prefix = &odd[..odd.find(['+', '*']).unwrap_or(odd.len())];
        for path in paths {
            let decision = decide(&with, Operation::Read, &path);
            if path.trim_start_matches('/').starts_with(prefix) {
                let unmodelled = matches!(decision, Decision::Undecidable(Undecidable::Rule { .. }));
                prop_assert!(unmodelled, "{:?}", decision);
            } else {
                prop_assert_eq!(decision, decide(&without, Operation::Read, &path));
            }
        }
    }

    #[test]
    fn an_unreadable_policy_decides_nothing_and_an_absent_one_changes_nothing(
        rules in rules(), path in path(),
    ) {
        let known = policy(&text(&rules));
        let identity = Identity::default();
        let with = |other| Acl::compile([PolicyEntry::Known(&known), other], &identity, NOW).unwrap();
        let undecided = decide(&with(PolicyEntry::Unreadable("x")), Operation::Read, &path);
        prop_assert!(matches!(undecided, Decision::Undecidable(_)));
        let alone = compile(core::slice::from_ref(&known), &identity).unwrap();
        let absent = decide(&with(PolicyEntry::Absent), Operation::Read, &path);
        prop_assert_eq!(absent, decide(&alone, Operation::Read, &path));
    }

    #[test]
    fn a_quarantined_policy_leaves_undecided_what_it_contributed_to_and_changes_nothing_else(
        rules in vec(rules(), 1..4), paths in vec(path(), 1..20), at in any::<prop::sample::Index>(),
    ) {
        let texts = rules.iter().enumerate();
        let policies: Vec<_> = texts
            .map(|(nr, rules)| Policy::parse(&format!("p{nr}"), &text(rules), NOW).unwrap())
            .collect();
        let at = at.index(policies.len());
        let entries = policies.iter().enumerate().map(|(nr, policy)| match nr == at {
            true => PolicyEntry::Quarantined(policy),
            false => PolicyEntry::Known(policy),
        });
        let held = Acl::compile(entries, &Identity::default(), NOW).unwrap();
        let free = compile(&policies, &Identity::default()).unwrap();
        let name = format!("p{at}");
        for path in paths {
            for (operation, _) in OPERATIONS {
                let behind = free.contributors(&path, operation.lists());
                prop_assert_eq!(behind, held.contributors(&path, operation.lists()));
                let decision = decide(&held, operation, &path);
                if behind.iter().any(|one| **one == *name) {
                    let quarantined = Decision::Undecidable(Undecidable::Quarantined { path: String::new() });
                    let same = core::mem::discriminant(&decision) == core::mem::discriminant(&quarantined);
                    prop_assert!(same, "{:?}", decision);
                } else {
                    prop_assert_eq!(decision, decide(&free, operation, &path));
                }
                let decides = matches!(decide(&free, operation, &path), Decision::Allow(_));
                prop_assert!(!decides || !behind.is_empty(), "nobody allowed it");
            }
            for told in [held.has_mount_access(&path)].into_iter().flatten() {
                prop_assert_eq!(Ok(told), free.has_mount_access(&path));
            }
            for told in [held.capabilities(&path)].into_iter().flatten() {
                prop_assert_eq!(Ok(told), free.capabilities(&path));
            }
        }
    }

    #[test]
    fn no_text_makes_the_parser_panic(
        words in vec(select(&[
            "path", "\"a\"", "{", "}", "[", "]", "=", ",", ":", "\"", "\\", "${", "{{", "}}", "<<E\n", "E\n", "<<-E\n",
            "\n", "\r\n", " ", "#", "/*", "*/", "//", "0", "0x", "1e", ".5", "-", "true", "null", "policy", "\"read\"",
            "capabilities", "allowed_parameters", "control_group", "factor", "expiration", "é", "\u{e123}", "\0",
        ][..]), 0..60),
    ) {
        let text = words.concat();
        for text in [text.clone(), format!("path \"a\" {{ {text} }}"), format!("{{\"path\":{{{text}}}}}")] {
            let strict = Policy::parse("p", &text, NOW);
            let stored = Policy::parse_stored("p", &text, NOW);
            // What is accepted strictly is accepted leniently, as the same.
            if let Ok(strict) = strict {
                prop_assert_eq!(strict.rule_count(), stored.unwrap().rule_count());
            }
        }
    }
}
