//! Where the replica's answer may be another one than the primary's. It is always 503, and these are all the reasons.

use crate::answer::Answer;
use crate::questions::{Bearer, Question};

/// Questions that only the primary can answer.
pub(crate) struct Mask {
    /// Why.
    pub(crate) reason: &'static str,
    /// What the 503 says.
    pub(crate) says: &'static str,
    /// Which questions.
    pub(crate) applies: fn(&Question, &Answer) -> bool,
}

/// The first that applies counts.
pub(crate) const MASKS: [Mask; 8] = [
    Mask {
        reason: "a token that the replica never saw is not thereby bad",
        says: "the token is not known to the replica",
        applies: |question, _| {
            question.bearer == Bearer::Unknown && !question.open && question.is_call()
        },
    },
    Mask {
        reason: "no mirror covers it: what was not copied cannot be told",
        says: "path is not mirrored",
        applies: |question, was| question.uncovered && question.reads() && was.is_judged(),
    },
    Mask {
        reason: "one version more is kept than was asked for",
        says: "version 1 is not mirrored",
        applies: |question, was| question.of_old_version() && was.status == 200,
    },
    Mask {
        reason: "parameters of writes are checked in reads too, in ways that are not modelled",
        says: "is spelled in a way that the replica does not read",
        applies: |question, was| {
            question.has_any(&["options=", "max_versions="]) && was.is_allowed()
        },
    },
    Mask {
        reason: "what a backend makes of parameters is known for KV alone",
        says: "operation is not served by the replica",
        applies: |question, was| question.kept && question.has_any(&["foo="]) && was.is_allowed(),
    },
    Mask {
        reason: "lists of other engines are not copied",
        says: "path is not mirrored",
        applies: |question, _| question.open && matches!(question.method, "LIST" | "SCAN"),
    },
    Mask {
        reason: "of what is absent nobody but the primary knows whether such a path exists",
        says: "operation is not served by the replica",
        applies: |question, was| question.method == "HEAD" && question.open && was.status == 404,
    },
    Mask {
        reason: "documentation of endpoints is not copied",
        says: "operation is not served by the replica",
        applies: |question, was| question.has_any(&["help="]) && was.is_judged(),
    },
];
