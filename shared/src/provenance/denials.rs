//! By which texts the primary denies somebody a token, or the sight of a mount: a closed list.
//!
//! Of a request that both sides read alike such a text is a decision about authority. What refuses a request for its form (a
//! span that is none, a type that there is not), or for a state that may have passed by the time anybody looks (a role that
//! is gone), is not in it: a client can send the one at will, and the other says nothing of what the replica would grant now.

use crate::api::Kind;

/// What the token store says word for word (OpenBao's `token_store.go`, Vault's alike).
const WITHHELD: [&str; 12] = [
    "'entity_alias' is only allowed in combination with token role",
    "batch tokens cannot create more tokens",
    "child policies must be subset of parent",
    "expiring root tokens cannot create non-expiring root tokens",
    "invalid 'entity_alias' value",
    "restricted use token cannot generate child tokens",
    "root or sudo privileges required to create orphan token",
    "root or sudo privileges required to create periodic token",
    "root or sudo privileges required to directly generate a token in a child namespace",
    "root or sudo privileges required to specify token id",
    "root tokens may not be created from a parent namespace",
    "root tokens may not be created without parent token being root",
];

/// What it says around names of policies: how that begins, and what comes behind them.
const WITHHELD_POLICIES: [(&str, &str); 3] = [
    ("cannot assign policy \"", "\""),
    (
        "token policies (",
        ") must be subset of the role's allowed policies (",
    ),
    ("token policy \"", "\" is disallowed by this role"),
];

/// What AppRole says of a pair that it does not accept.
const NO_SUCH_PAIR: &str = "invalid role or secret ID";

/// How a mount is refused to a token that has nothing to do with it.
const NO_MOUNT_ACCESS: &str = "preflight capability check returned 403";

/// Whether `text` denies the token that a call of this kind asks for to whoever asks.
pub(super) fn withholds_token(kind: &Kind, text: &str) -> bool {
    let around = |(before, behind): &(&str, &str)| {
        text.strip_prefix(before)
            .is_some_and(|rest| rest.contains(behind))
    };
    match kind {
        Kind::Login => text == NO_SUCH_PAIR,
        Kind::TokenCreate => WITHHELD.contains(&text) || WITHHELD_POLICIES.iter().any(around),
        _ => false,
    }
}

/// Whether `text` hides the mount that a call of this kind asks for.
pub(super) fn hides_mount(kind: &Kind, text: &str) -> bool {
    matches!(kind, Kind::Mounts(Some(_))) && text.starts_with(NO_MOUNT_ACCESS)
}

#[cfg(test)]
mod tests {
    use alloc::{borrow::ToOwned, string::ToString, vec};

    use super::*;
    use crate::token::policies::PolicyChoiceError;

    /// Whatever the replica refuses a token's policies by is on the list.
    #[test]
    fn every_refusal_of_policies_withholds_the_token() {
        let (policies, allowed) = (vec!["x".to_owned()], vec!["a".to_owned()]);
        for error in [
            PolicyChoiceError::BeyondParent,
            PolicyChoiceError::BeyondRole {
                policies,
                allowed,
                globs: vec![],
            },
            PolicyChoiceError::Disallowed("x".to_owned()),
            PolicyChoiceError::Unassignable("response-wrapping"),
            PolicyChoiceError::Root,
        ] {
            let text = error.to_string();
            assert!(withholds_token(&Kind::TokenCreate, &text), "{text}");
            assert!(!withholds_token(&Kind::Login, &text), "{text}");
        }
    }

    #[test]
    fn what_refuses_the_form_of_a_request_or_a_passing_state_withholds_none() {
        for text in [
            "number of uses cannot be negative",
            "ttl must be positive",
            "invalid 'token_type' value",
            "batch tokens cannot have \"period\" set",
            "unknown role token policy \"x\" is disallowed by this role",
            "parent token lookup failed: no parent found",
            "child policies must be subset of parent ",
            "token policies (x",
        ] {
            assert!(!withholds_token(&Kind::TokenCreate, text), "{text}");
        }
        for text in [
            "missing secret_id",
            "permission denied",
            "invalid username or password",
        ] {
            assert!(!withholds_token(&Kind::Login, text), "{text}");
        }
        assert!(withholds_token(&Kind::Login, "invalid role or secret ID"));
        assert!(!withholds_token(
            &Kind::TokenCreate,
            "invalid role or secret ID"
        ));
    }

    #[test]
    fn only_one_mount_that_was_asked_for_is_hidden() {
        let text = "preflight capability check returned 403, please ensure client's policies grant access to path \"kv/\"";
        assert!(hides_mount(&Kind::Mounts(Some("kv".to_owned())), text));
        assert!(!hides_mount(&Kind::Mounts(None), text));
        assert!(!hides_mount(&Kind::Data, text));
    }
}
