//! Where the two answers may differ, and why: all of it stands here.

use std::collections::BTreeMap;
use std::fmt::Write;

use harness::{Failure, Result};
use serde_json::Value;

use crate::asked::Stray;
use crate::shown;
use crate::wire::{Answer, Heard};

const SPECIFICATION: &[u8] = b"/sys/internal/specs/openapi";

/// So many differences are shown.
const SHOWN: usize = 40;

/// What of a body differs from one answer of the same server to the next.
const PASSING: &[&str] = &[
    "expire_time",
    "last_renewal",
    "last_renewal_time",
    "raft_applied_index",
    "raft_committed_index",
    "request_id",
    "server_time_utc",
    "ttl",
    "wrap_info",
];

/// Why an answer of Holdover's may differ from the primary's.
type Rule = (&'static str, fn(&Stray, &Answered<'_>) -> bool);

/// Both answers.
pub(crate) struct Answered<'a> {
    ours: &'a Heard,
    theirs: &'a Heard,
}

impl Answered<'_> {
    fn ours(&self) -> Option<&Answer> {
        status_of(self.ours)
    }

    fn theirs(&self) -> Option<&Answer> {
        status_of(self.theirs)
    }

    /// Whether Holdover answered with this status, and as whom.
    fn is_ours(&self, status: u16, by: Option<&str>) -> bool {
        let is = |answer: &Answer| answer.status == status && answer.source.as_deref() == by;
        self.ours().is_some_and(is)
    }

    /// Whether the replica answered as the primary did, but for what it says of itself.
    fn are_alike_by_replica(&self) -> bool {
        let (Some(ours), Some(theirs)) = (self.ours(), self.theirs()) else {
            return false;
        };
        ours.source.as_deref() == Some("replica")
            && ours.status == theirs.status
            && without_warnings(&ours.body) == without_warnings(&theirs.body)
    }

    /// Whether the primary's HTTP server refused it, before the primary saw it.
    fn is_no_request_to_theirs(&self) -> bool {
        let is =
            |answer: &Answer| answer.status == 400 && answer.body.starts_with(b"400 Bad Request");
        self.theirs().is_some_and(is)
    }
}

fn status_of(heard: &Heard) -> Option<&Answer> {
    match heard {
        Heard::Answer(answer) => Some(answer),
        Heard::Closed | Heard::Silence => None,
    }
}

const RULES: &[Rule] = &[
    (
        "the primary was late on a busy machine: the replica said the same within the deadline",
        |_, both| both.are_alike_by_replica(),
    ),
    (
        "HTTP itself forbids it: each server takes what it will, and says so in its own way",
        |stray, both| stray.is_broken && both.ours().is_some(),
    ),
    (
        "no target: the primary's HTTP server says so in words, ours without",
        |_, both| {
            let ours = both.is_ours(400, None) || both.is_ours(400, Some("primary"));
            // It says so and hangs up, which may be all that is heard of it.
            let ours = ours || both.is_ours(504, Some("replica"));
            ours && both.is_no_request_to_theirs()
        },
    ),
    (
        "a fragment is for browsers: the primary cuts it off, Holdover sends on what it is sent",
        |stray, both| both.is_ours(400, Some("replica")) && stray.bytes.contains(&b'#'),
    ),
    (
        "the primary's specification of itself lists things in any order",
        |stray, both| {
            let asked = stray.bytes.windows(SPECIFICATION.len());
            both.ours().map(|answer| answer.status) == Some(200)
                && both.theirs().map(|answer| answer.status) == Some(200)
                && asked.into_iter().any(|part| part == SPECIFICATION)
        },
    ),
    ("more headers than Holdover reads", |_, both| {
        both.is_ours(431, None)
    }),
    (
        "more than 16 KiB of extensions of chunks, which nobody needs",
        |stray, both| {
            both.is_ours(400, Some("replica")) && stray.odd.contains(&"chunks with extensions")
        },
    ),
    ("HTTP/1.0 has no chunks", |stray, both| {
        let mut chunks = stray.odd.iter().filter(|odd| odd.starts_with("chunks"));
        both.is_ours(400, None)
            && stray.odd.contains(&"an older version")
            && chunks.next().is_some()
    }),
    (
        "guesses at credentials are bounded for each user",
        |stray, both| both.is_ours(429, Some("replica")) && stray.plain.contains("/login"),
    ),
];

/// What came of comparing.
#[derive(Default)]
pub(crate) struct Comparison {
    alike: usize,
    left: usize,
    explained: BTreeMap<&'static str, usize>,
    differences: Vec<String>,
}

impl Comparison {
    pub(crate) fn add(&mut self, stray: &Stray, ours: &Heard, theirs: &Heard) {
        if are_alike(ours, theirs) {
            self.alike += 1;
            return;
        }
        let answered = Answered { ours, theirs };
        match RULES
            .iter()
            .find(|(_, explains)| explains(stray, &answered))
        {
            Some((why, _)) => *self.explained.entry(why).or_default() += 1,
            None => self.differences.push(format!(
                "nr {}, {}, {:?}\n  sent    {}\n  primary {}\n  ours    {}",
                stray.nr,
                stray.plain,
                stray.odd,
                stray
                    .bytes
                    .escape_ascii()
                    .to_string()
                    .chars()
                    .take(300)
                    .collect::<String>(),
                shown(theirs),
                shown(ours),
            )),
        }
    }

    /// One that is compared with nothing.
    pub(crate) fn leave(&mut self, _: &Stray) {
        self.left += 1;
    }

    pub(crate) fn join(&mut self, other: Comparison) {
        self.alike += other.alike;
        self.left += other.left;
        for (why, count) in other.explained {
            *self.explained.entry(why).or_default() += count;
        }
        self.differences.extend(other.differences);
    }

    pub(crate) fn summary(&self) -> String {
        let (alike, left) = (self.alike, self.left);
        let mut text = format!("{alike} alike, {left} without an end; explained:");
        for (why, count) in &self.explained {
            let _ = write!(text, "\n  {count:5} {why}");
        }
        text
    }

    pub(crate) fn or_fail(&self) -> Result<()> {
        if self.differences.is_empty() {
            return Ok(());
        }
        let count = self.differences.len();
        let some: Vec<_> = self.differences.iter().take(SHOWN).cloned().collect();
        let text = format!("{count} answers differ:\n{}", some.join("\n"));
        Err(Failure::new(text))
    }
}

fn are_alike(ours: &Heard, theirs: &Heard) -> bool {
    match (ours, theirs) {
        (Heard::Answer(ours), Heard::Answer(theirs)) => {
            ours.status == theirs.status && lasting(&ours.body) == lasting(&theirs.body)
        }
        (Heard::Closed, Heard::Closed) | (Heard::Silence, Heard::Silence) => true,
        _ => false,
    }
}

/// A body without what passes; one that is no JSON as it is.
fn lasting(body: &[u8]) -> (Option<Value>, Option<&[u8]>) {
    match serde_json::from_slice::<Value>(body) {
        Ok(mut value) => {
            strip(&mut value);
            (Some(value), None)
        }
        Err(_) => (None, Some(body)),
    }
}

/// What lasts of a body, but for the warning by which a replica's answer tells itself.
fn without_warnings(body: &[u8]) -> Option<Value> {
    let (mut value, _) = lasting(body);
    if let Some(fields) = value.as_mut().and_then(Value::as_object_mut) {
        fields.remove("warnings");
    }
    value
}

fn strip(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for name in PASSING {
                fields.remove(*name);
            }
            fields.values_mut().for_each(strip);
        }
        Value::Array(values) => values.iter_mut().for_each(strip),
        _ => {}
    }
}
