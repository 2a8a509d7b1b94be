//! What the replica may leave undecided though the primary granted it, all of it; and what a run saw.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use harness::client::raw::Reply;
use serde_json::Value;

use crate::known::Question;

/// A cause: its name, what its text has in it, and when there may be such a cause.
type Cause = (&'static str, &'static str, fn(&Question<'_>) -> bool);

const CAUSES: [Cause; 11] = [
    ("token never used here", UNKNOWN, |q| !q.token.learned),
    ("token of another namespace", UNKNOWN, |q| q.token.foreign),
    (
        "token of another namespace",
        "the namespace of the request is not mirrored",
        |q| q.token.foreign,
    ),
    (
        "token refused at the primary",
        "was not asked about it since",
        |q| q.token.refused,
    ),
    (
        "token not proved since the last outage",
        "the primary has not confirmed this token",
        |q| !q.proved,
    ),
    (
        "entity not read since the last outage",
        "the primary has not confirmed this token",
        |q| q.at_once && q.has_entity,
    ),
    (
        "value written",
        "what is mirrored here may be superseded",
        |q| q.written,
    ),
    (
        "value not read since the last outage",
        "what is mirrored here may be superseded",
        |q| q.at_once && q.changed,
    ),
    (
        "mount not read since the last outage",
        "has not completed its first pass",
        |q| q.at_once && q.remounted,
    ),
    (
        "value not read since the last outage",
        "path is not mirrored",
        |q| q.at_once,
    ),
    (
        "value not read since the last outage",
        "the value could not be mirrored",
        |q| q.at_once,
    ),
];

const UNKNOWN: &str = "the token is not known to the replica";

/// The cause that a 503 names, if there may be such a one now.
pub(crate) fn cause(question: &Question<'_>, reply: &Reply) -> Option<&'static str> {
    let text = error(reply);
    let fits = |(_, part, may_be): &&Cause| text.contains(part) && may_be(question);
    let found = CAUSES.iter().find(fits);
    found
        .filter(|_| reply.status == 503)
        .map(|(name, ..)| *name)
}

/// Why a login may be left undecided that the primary grants: a return may be too short to read all that it is given by.
pub(crate) fn login_cause(at_once: bool, reply: &Reply) -> Option<&'static str> {
    const SAID: [&str; 3] = [
        "the primary has not confirmed",
        "its role was not verified",
        "was refused since it was last verified",
    ];
    let text = error(reply);
    let is_named = SAID.iter().any(|part| text.contains(part));
    (at_once && reply.status == 503 && is_named).then_some("login not read since the last outage")
}

/// The first error of an answer.
pub(crate) fn error(reply: &Reply) -> String {
    let body = reply.json().unwrap_or_default();
    let text = body.pointer("/errors/0").and_then(Value::as_str);
    text.unwrap_or_default().to_owned()
}

/// What a run saw.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<(&'static str, String), usize>>);

impl Tally {
    pub(crate) fn saw(&self, what: &'static str, more: impl Into<String>) {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *seen.entry((what, more.into())).or_default() += 1;
    }

    /// How often this was seen.
    fn count(&self, what: &str) -> usize {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = seen.iter().filter(|((kind, _), _)| *kind == what);
        of.map(|(_, count)| count).sum()
    }

    /// That the run says something: both verdicts were seen often, and little was left undecided.
    pub(crate) fn assert_telling(&self, most_undecided: usize) {
        let [granted, refused, undecided] =
            ["granted", "refused", "undecided"].map(|what| self.count(what));
        let all = granted + refused + undecided;
        assert!(
            granted * 5 >= all && refused * 5 >= all,
            "{all} answers say little"
        );
        assert!(
            undecided * 100 <= all * most_undecided,
            "{undecided} of {all} undecided"
        );
        assert!(self.count("issued") > 0 && self.count("revoked") > 0);
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for ((what, more), count) in seen.iter() {
            writeln!(f, "{count:>8} {what} {more}")?;
        }
        Ok(())
    }
}
