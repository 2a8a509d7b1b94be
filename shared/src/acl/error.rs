//! Why a policy text is not accepted: the line, and the reason in terms a policy's author knows.

use alloc::string::String;

/// Why a policy text is not accepted, and where.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct PolicyError {
    /// The line, counted from 1.
    pub line: u32,
    /// What is wrong there.
    pub reason: Reason,
}

/// What is wrong with a policy text.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Reason {
    /// A block or value that has no place there.
    #[error("expected {expected}")]
    Expected {
        /// What would be accepted.
        expected: &'static str,
    },
    /// A number that the primary does not read.
    #[error("number is malformed or out of range")]
    BadNumber,
    /// A duration that the primary does not read.
    #[error("duration is malformed or out of range")]
    BadDuration,
    /// An escape that is unknown, incomplete or out of range.
    #[error("escape sequence is malformed")]
    BadEscape,
    /// A moment that is neither RFC 3339 nor seconds since the Unix epoch.
    #[error("expiration is neither RFC 3339 nor Unix seconds")]
    BadExpiration,
    /// Two values of which the primary picks one by chance.
    #[error("parameter {name:?} is given in two spellings")]
    AmbiguousParameter {
        /// The name in lower case.
        name: String,
    },
    /// A control group without what it needs.
    #[error("control group lacks {missing}")]
    ControlGroup {
        /// What it lacks.
        missing: &'static str,
    },
    /// `list_scan_response_keys_filter_path` gives the same path for different keys.
    #[error("list filter does not use the key")]
    FilterIgnoresKey,
    /// `list_scan_response_keys_filter_path` on a rule without the list capability.
    #[error("list filter needs the list capability")]
    FilterNeedsList,
    /// A character outside of the notation.
    #[error("illegal character")]
    IllegalCharacter,
    /// `+*`, which the primary refuses.
    #[error("'+*' is not allowed in a path")]
    MixedWildcards,
    /// Text in escapes that is not UTF-8: the primary takes it, Holdover does not.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// Nested deeper than [`super::Policy::MAX_DEPTH`].
    #[error("nested too deep")]
    TooDeep,
    /// Longer than [`super::Policy::MAX_SIZE`].
    #[error("text is too long")]
    TooLong,
    /// `{{` and `}}` do not pair in a path.
    #[error("template braces are unbalanced")]
    UnbalancedTemplate,
    /// A capability that does not exist.
    #[error("unknown capability {name:?}")]
    UnknownCapability {
        /// The name as written.
        name: String,
    },
    /// A key that does not exist.
    #[error("unknown key {name:?}")]
    UnknownKey {
        /// The key as written.
        name: String,
    },
    /// A value of `policy` that does not exist.
    #[error("unknown value of policy {name:?}")]
    UnknownShorthand {
        /// The value as written.
        name: String,
    },
    /// A string, comment or heredoc that does not end.
    #[error("text, comment or heredoc does not end")]
    Unterminated,
    /// `max_wrapping_ttl` below `min_wrapping_ttl`.
    #[error("max_wrapping_ttl is less than min_wrapping_ttl")]
    WrappingBounds,
}

impl Reason {
    /// This reason, on a line.
    pub(super) fn at(self, line: u32) -> PolicyError {
        PolicyError { line, reason: self }
    }
}
