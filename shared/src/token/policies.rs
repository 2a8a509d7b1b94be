//! Which policies a new token gets: what was asked for, what the role lets it have, what its parent has.
//!
//! The rules are OpenBao's (`internal/vault/token_store.go:resolveTokenPolicies`, `policyutil.SanitizePolicies`).

use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec,
    vec::Vec,
};

use super::role::TokenRole;
use crate::name::PolicyName;

const DEFAULT: &str = "default";
const ROOT: &str = "root";
/// No token may be given this one.
const WRAPPING: &str = "response-wrapping";

/// What a request says of policies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoliciesWanted<'a> {
    /// As sent; empty where none were.
    pub policies: &'a [String],
    /// `no_default_policy`.
    pub no_default: bool,
}

/// Why a token cannot have what was asked for, in the primary's words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PolicyChoiceError {
    /// Without sudo, none that its parent does not have.
    #[error("child policies must be subset of parent")]
    BeyondParent,
    /// Beyond the role's lists.
    #[error(
        "token policies ({}) must be subset of the role's allowed policies ({}) or glob policies ({})",
        quoted(.policies), quoted(.allowed), quoted(.globs)
    )]
    BeyondRole {
        /// Asked for.
        policies: Vec<String>,
        /// The role's.
        allowed: Vec<String>,
        /// The role's globs.
        globs: Vec<String>,
    },
    /// The role forbids it.
    #[error("token policy {0:?} is disallowed by this role")]
    Disallowed(String),
    /// A policy that no token may be given.
    #[error("cannot assign policy {0:?}")]
    Unassignable(&'static str),
    /// Only a root token makes another.
    #[error("root tokens may not be created without parent token being root")]
    Root,
}

/// The policies of a token made now: sorted, each once.
///
/// # Errors
/// [`PolicyChoiceError`].
pub fn resolve(
    role: Option<&TokenRole>,
    wanted: PoliciesWanted<'_>,
    parent: &[PolicyName],
    sudo: bool,
) -> Result<Vec<String>, PolicyChoiceError> {
    let parent: Vec<String> = parent.iter().map(ToString::to_string).collect();
    let role = role.filter(|role| role.has_lists());
    let (policies, add_default) = match role {
        Some(role) => (by_role(role, wanted, &parent)?, false),
        None if wanted.policies.is_empty() => (parent.clone(), false),
        None if sudo => (wanted.policies.to_vec(), !wanted.no_default),
        None => {
            let asked = sanitized(wanted.policies, false);
            if !asked.iter().all(|policy| parent.contains(policy)) {
                return Err(PolicyChoiceError::BeyondParent);
            }
            let has_default = parent.iter().any(|policy| policy == DEFAULT);
            (asked, has_default && !wanted.no_default)
        }
    };
    let mut policies = sanitized(&policies, add_default);
    if wanted.no_default {
        policies.retain(|policy| policy != DEFAULT);
    }
    if policies.iter().any(|policy| policy == WRAPPING) {
        return Err(PolicyChoiceError::Unassignable(WRAPPING));
    }
    let holds_root = |policies: &[String]| policies.iter().any(|policy| policy == ROOT);
    if holds_root(&policies) && !holds_root(&parent) {
        return Err(PolicyChoiceError::Root);
    }
    Ok(policies)
}

/// Of the `proven` policies of a role's tokens those that the role, as it is now, lets its tokens have: sorted, each
/// once, and never `root`.
pub fn still_allowed(role: &TokenRole, proven: &[PolicyName]) -> Vec<PolicyName> {
    let add_default = role.adds_default(false);
    let listed = !role.allowed_policies.is_empty() || !role.allowed_policies_glob.is_empty();
    let root = role.allowed_policies.iter().any(PolicyName::is_root);
    let mut kept: Vec<_> = proven
        .iter()
        .filter(|policy| {
            let name = policy.as_str();
            let default = name == DEFAULT;
            let named = !listed || role.names(name) || (default && add_default && !root);
            let barred = role.bars(name) || (default && role.token_no_default_policy);
            named && !barred && !policy.is_root()
        })
        .cloned()
        .collect();
    kept.sort();
    kept.dedup();
    kept
}

/// A role with lists has rules of its own: its tokens need not be like their parents.
fn by_role(
    role: &TokenRole,
    wanted: PoliciesWanted<'_>,
    parent: &[String],
) -> Result<Vec<String>, PolicyChoiceError> {
    let add_default = role.adds_default(wanted.no_default);
    let mut policies = match wanted.policies {
        [] => Vec::new(),
        asked => sanitized(asked, add_default),
    };
    if role.allowed_policies.is_empty() && role.allowed_policies_glob.is_empty() {
        if policies.is_empty() {
            policies = sanitized(parent, add_default);
        }
    } else {
        let allowed: Vec<_> = role
            .allowed_policies
            .iter()
            .map(ToString::to_string)
            .collect();
        let allowed = sanitized(&allowed, add_default);
        if policies.is_empty() {
            policies = allowed;
        } else {
            let within = |policy: &String| {
                allowed.contains(policy) || any_glob(&role.allowed_policies_glob, policy)
            };
            if !policies.iter().all(within) {
                return Err(PolicyChoiceError::BeyondRole {
                    policies,
                    allowed,
                    globs: sanitized(&role.allowed_policies_glob, false),
                });
            }
        }
    }
    match policies.iter().find(|policy| role.bars(policy)) {
        Some(barred) => Err(PolicyChoiceError::Disallowed(barred.clone())),
        None => Ok(policies),
    }
}

impl TokenRole {
    fn has_lists(&self) -> bool {
        !self.allowed_policies.is_empty()
            || !self.allowed_policies_glob.is_empty()
            || !self.disallowed_policies.is_empty()
            || !self.disallowed_policies_glob.is_empty()
    }

    /// Whether `default` is added to what is asked for.
    fn adds_default(&self, no_default: bool) -> bool {
        !no_default && !self.token_no_default_policy && !self.bars(DEFAULT)
    }

    /// Whether its lists name the policy; `root` in them stands alone.
    fn names(&self, policy: &str) -> bool {
        let root = self.allowed_policies.iter().any(PolicyName::is_root);
        let listed = self
            .allowed_policies
            .iter()
            .any(|name| name.as_str() == policy);
        (listed && !root) || any_glob(&self.allowed_policies_glob, policy)
    }

    fn bars(&self, policy: &str) -> bool {
        self.disallowed_policies
            .iter()
            .any(|name| name.as_str() == policy)
            || any_glob(&self.disallowed_policies_glob, policy)
    }
}

/// Trimmed, in lower case, sorted, each once; `root` stands alone.
fn sanitized(policies: &[String], add_default: bool) -> Vec<String> {
    let mut clean: Vec<String> = policies
        .iter()
        .map(|policy| policy.trim().to_lowercase())
        .filter(|policy| !policy.is_empty())
        .collect();
    if clean.iter().any(|policy| policy == ROOT) {
        return vec![ROOT.to_owned()];
    }
    if add_default {
        clean.push(DEFAULT.to_owned());
    }
    clean.sort();
    clean.dedup();
    clean
}

fn any_glob(globs: &[String], policy: &str) -> bool {
    globs
        .iter()
        .any(|glob| matches(&glob.trim().to_lowercase(), policy))
}

/// Whether `text` is of the form of `glob`, in which `*` stands for anything and nothing else is special.
pub fn matches(glob: &str, text: &str) -> bool {
    let Some((first, rest)) = glob.split_once('*') else {
        return glob == text;
    };
    let Some(mut left) = text.strip_prefix(first) else {
        return false;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    for part in middle.split('*').filter(|part| !part.is_empty()) {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// A list as Go's `%q` writes it.
fn quoted(names: &[String]) -> String {
    let names: Vec<_> = names
        .iter()
        .map(|name| alloc::format!("{name:?}"))
        .collect();
    alloc::format!("[{}]", names.join(" "))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec as many, prelude::*, sample::select};

    use super::*;
    use crate::samples::names;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(ToString::to_string).collect()
    }

    fn role() -> TokenRole {
        TokenRole::default()
    }

    /// Without a role, of a parent with `a`, `b` and `default`.
    fn plain(
        asked: &[&str],
        no_default: bool,
        sudo: bool,
    ) -> Result<Vec<String>, PolicyChoiceError> {
        let wanted = PoliciesWanted {
            policies: &texts(asked),
            no_default,
        };
        resolve(None, wanted, &names(&["a", "b", "default"]), sudo)
    }

    /// Each as OpenBao 2.7.2 answered.
    #[test]
    fn without_a_role_a_child_has_at_most_what_its_parent_has() {
        for (asked, no_default, wanted) in [
            (&[][..], false, &["a", "b", "default"][..]),
            (&["a", "a ", "B"], false, &["a", "b", "default"]),
            (&["a"], true, &["a"]),
            (&[""], false, &["default"]),
            (&["default"], true, &[]),
        ] {
            assert_eq!(
                plain(asked, no_default, false),
                Ok(texts(wanted)),
                "{asked:?}"
            );
        }
        for asked in [&["c"][..], &["root"], &["a,b"], &["response-wrapping"]] {
            assert_eq!(
                plain(asked, false, false),
                Err(PolicyChoiceError::BeyondParent)
            );
        }
    }

    #[test]
    fn sudo_lets_a_caller_name_any_policy_but_root_and_the_internal_one() {
        assert_eq!(plain(&["c"], false, true), Ok(texts(&["c", "default"])));
        assert_eq!(plain(&["c"], true, true), Ok(texts(&["c"])));
        assert_eq!(
            plain(&["c", "root"], false, true),
            Err(PolicyChoiceError::Root)
        );
        let error = plain(&["response-wrapping"], false, true).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot assign policy \"response-wrapping\""
        );
    }

    #[test]
    fn a_role_with_lists_has_rules_of_its_own() {
        let listed = TokenRole {
            allowed_policies: names(&["a", "b"]),
            allowed_policies_glob: texts(&["g*"]),
            ..role()
        };
        let barring = TokenRole {
            disallowed_policies: names(&["x"]),
            disallowed_policies_glob: texts(&["y*"]),
            ..role()
        };
        let without_default = TokenRole {
            allowed_policies: names(&["a"]),
            disallowed_policies: names(&["default"]),
            ..role()
        };
        let parent = names(&["p", "default"]);
        let ask = |role: &TokenRole, asked: &[&str]| {
            let wanted = PoliciesWanted {
                policies: &texts(asked),
                no_default: false,
            };
            resolve(Some(role), wanted, &parent, false).map_err(|error| error.to_string())
        };
        assert_eq!(ask(&listed, &[]), Ok(texts(&["a", "b", "default"])));
        assert_eq!(ask(&listed, &["g1"]), Ok(texts(&["default", "g1"])));
        assert_eq!(
            ask(&listed, &["c"]),
            Err(
                "token policies ([\"c\" \"default\"]) must be subset of the role's allowed policies \
                 ([\"a\" \"b\" \"default\"]) or glob policies ([\"g*\"])"
                    .into()
            )
        );
        assert_eq!(ask(&barring, &["zzz"]), Ok(texts(&["default", "zzz"])));
        assert_eq!(ask(&barring, &[]), Ok(texts(&["default", "p"])));
        assert_eq!(
            ask(&barring, &["yz"]),
            Err("token policy \"yz\" is disallowed by this role".into())
        );
        assert_eq!(ask(&without_default, &[]), Ok(texts(&["a"])));
        assert!(ask(&without_default, &["a", "default"]).is_err());
        assert_eq!(
            ask(&role(), &["c"]),
            Err("child policies must be subset of parent".into()),
            "a role without lists is no role"
        );
    }

    #[test]
    fn a_grant_has_at_most_the_policies_that_role_and_proof_agree_on() {
        let proven = names(&["default", "app", "ci-1", "adm", "root"]);
        let listed = TokenRole {
            allowed_policies: names(&["app", "other"]),
            allowed_policies_glob: texts(&["ci-*"]),
            ..role()
        };
        assert_eq!(
            still_allowed(&listed, &proven),
            names(&["app", "ci-1", "default"])
        );
        let barred = TokenRole {
            disallowed_policies: names(&["app"]),
            disallowed_policies_glob: texts(&["*-1"]),
            token_no_default_policy: true,
            ..role()
        };
        assert_eq!(still_allowed(&barred, &proven), names(&["adm"]));
    }

    #[test]
    fn globs_match_anywhere_and_nothing_but_the_star_is_special() {
        for (glob, text, wanted) in [
            ("*", "", true),
            ("a*", "a", true),
            ("a*c", "abc", true),
            ("a*c", "ac", true),
            ("a*c", "abd", false),
            ("*b*", "abc", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxc", false),
            ("ab*b", "ab", false),
            ("a?", "ab", false),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(glob, text), wanted, "{glob} {text}");
        }
    }

    fn some(most: usize) -> impl Strategy<Value = Vec<String>> {
        let names = select(vec![
            "a",
            "b",
            "c1",
            "c2",
            "default",
            "root",
            "response-wrapping",
            " B ",
            "",
        ]);
        many(names.prop_map(str::to_owned), 0..=most)
    }

    fn parsed(texts: &[String]) -> Vec<PolicyName> {
        texts
            .iter()
            .filter_map(|text| PolicyName::parse(text).ok())
            .collect()
    }

    /// As the primary keeps them: `root` stands alone.
    fn roles() -> impl Strategy<Value = TokenRole> {
        let globs = || {
            many(
                select(vec!["a*", "c*", "*1", "*"]).prop_map(str::to_owned),
                0..2,
            )
        };
        (some(3), globs(), some(2), globs(), any::<bool>()).prop_map(
            |(allowed, allowed_globs, disallowed, disallowed_globs, no_default)| TokenRole {
                allowed_policies: parsed(&sanitized(&allowed, false)),
                allowed_policies_glob: allowed_globs,
                disallowed_policies: parsed(&disallowed),
                disallowed_policies_glob: disallowed_globs,
                token_no_default_policy: no_default,
                ..role()
            },
        )
    }

    proptest! {
        /// Without sudo and without a role that has lists, no child has a policy that its parent lacks.
        #[test]
        fn no_child_is_given_more_than_its_parent(asked in some(4), parent in some(4), no_default: bool) {
            let parent = parsed(&parent);
            let wanted = PoliciesWanted { policies: &asked, no_default };
            if let Ok(policies) = resolve(None, wanted, &parent, false) {
                prop_assert!(policies.iter().all(|policy| parent.iter().any(|has| has.as_str() == policy)
                    || parent.iter().any(PolicyName::is_root)));
            }
        }

        /// Nobody but root makes root, and nobody is given the internal policy, whatever role and rights.
        #[test]
        fn root_and_the_internal_policy_are_never_given(
            role in proptest::option::of(roles()), asked in some(4), sudo: bool, no_default: bool,
        ) {
            let wanted = PoliciesWanted { policies: &asked, no_default };
            if let Ok(policies) = resolve(role.as_ref(), wanted, &names(&["a", "default"]), sudo) {
                prop_assert!(!policies.iter().any(|policy| policy == ROOT || policy == WRAPPING));
                prop_assert!(!(no_default && policies.iter().any(|policy| policy == DEFAULT)));
            }
        }

        /// What a login keeps of a role's policies, a request through that role could have had.
        #[test]
        fn what_is_still_allowed_could_be_asked_for(role in roles(), proven in some(4)) {
            let kept = still_allowed(&role, &parsed(&proven));
            let internal = kept.iter().any(|policy| policy.as_str() == WRAPPING);
            if kept.is_empty() || internal || !role.has_lists() {
                return Ok(());
            }
            let asked: Vec<_> = kept.iter().map(ToString::to_string).collect();
            let wanted = PoliciesWanted { policies: &asked, no_default: !asked.iter().any(|policy| policy == DEFAULT) };
            let got = resolve(Some(&role), wanted, &names(&["p"]), false);
            prop_assert_eq!(got, Ok(asked));
        }
    }
}
