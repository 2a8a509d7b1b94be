//! What the replica leaves to the primary, and may: every cause, in one place. A 503 for any other reason is a
//! disagreement.

use shared::{acl::Undecidable, api::CallError, name::PathError};

/// Why a decision is left to the primary.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Cause {
    /// Policies of another token, asked about, that cannot be put together: the primary tells what is wrong with them.
    Contradiction,
    /// A control group must approve.
    ControlGroup,
    /// `%2f`: what it means depends on who decodes it. Refused with 400.
    EncodedSlash,
    /// `..` inside of a segment. Refused with 400; the primary refuses it too, after its policies: with 403 or 400.
    Dots,
    /// A list filter in a part of Go's template language that is not modelled.
    ListFilter,
    /// Only the configured namespace is mirrored.
    Namespace,
    /// Bytes that are not UTF-8. Refused with 400.
    NotUtf8,
    /// A token role that is not mirrored: what creating by it means, and whether it exists, only the primary knows.
    RoleNotMirrored,
    /// A policy has a rule that is not modelled: two spellings of one parameter with different values, of which the
    /// primary keeps one by chance; a capability of a newer server.
    Rule,
    /// The replica never saw the token.
    TokenUnknown,
    /// A number in a spelling that only the primary reads (`0x1`, `1_000`).
    Spelling,
}

/// What a 503 of the vault says of a request.
pub(crate) enum Unserved {
    /// The decision itself is left to the primary.
    Undecided(Cause),
    /// The replica does not do this at all, whoever asks.
    Operation,
    /// No reason that is listed here.
    Unlisted,
}

/// By the text behind `primary unavailable since …; `.
pub(crate) fn of_text(error: &str) -> Unserved {
    const OPERATIONS: [&str; 8] = [
        "path is not mirrored",
        "operation is not served by the replica",
        "writes are not possible",
        "logins at this mount are not served",
        "the lease is not known",
        "no lease of this path is held",
        "header x-vault-wrap-ttl asks",
        "the request's body is not a JSON object",
    ];
    let reason = error.split_once("; ").map_or(error, |(_, reason)| reason);
    let begins = |text: &&&str| reason.starts_with(**text);
    let cause = if reason.contains("asks for approval by a control group") {
        Cause::ControlGroup
    } else if reason.contains("filters lists by a template that is not modelled") {
        Cause::ListFilter
    } else if reason.contains("is not modelled") {
        Cause::Rule
    } else if reason.contains("the namespace of the request is not mirrored") {
        Cause::Namespace
    } else if reason.contains("the token is not known to the replica") {
        Cause::TokenUnknown
    } else if reason.contains("is spelled in a way that the replica does not read") {
        Cause::Spelling
    } else if reason.contains("the token's policies contradict each other") {
        Cause::Contradiction
    } else if reason.contains("the token role is not mirrored") {
        Cause::RoleNotMirrored
    } else if OPERATIONS.iter().find(begins).is_some() {
        return Unserved::Operation;
    } else {
        return Unserved::Unlisted;
    };
    Unserved::Undecided(cause)
}

/// Of the access control.
pub(crate) fn of_acl(why: &Undecidable) -> Option<Cause> {
    match why {
        Undecidable::ControlGroup { .. } => Some(Cause::ControlGroup),
        Undecidable::ListFilter { .. } => Some(Cause::ListFilter),
        Undecidable::Rule { .. } => Some(Cause::Rule),
        // Every policy of these tokens is one that both sides have read.
        Undecidable::Policy { .. } => None,
        // And nothing is in quarantine.
        Undecidable::Quarantined { .. } => None,
    }
}

/// Of a target that is refused with 400 and that the primary can serve.
pub(crate) fn of_target(target: &str, error: CallError) -> Option<Cause> {
    match error {
        CallError::Path(PathError::Slashes) if target.to_lowercase().contains("%2f") => {
            Some(Cause::EncodedSlash)
        }
        CallError::Path(PathError::Relative) if has_dots_inside(target) => Some(Cause::Dots),
        CallError::Path(PathError::Characters) if target.contains("%ff") => Some(Cause::NotUtf8),
        _ => None,
    }
}

fn has_dots_inside(target: &str) -> bool {
    let path = target
        .split('?')
        .next()
        .unwrap_or_default()
        .replace("%2e", ".");
    path.contains("..") && !path.split('/').any(|segment| matches!(segment, "." | ".."))
}
