//! All that may differ between two answers to the same request, each with the reason why it must.
//!
//! What a replay hands out (tokens, accessors, leases, database logins) is compared by the name that its place in the
//! conversation gives it ([`crate::names`]); everything that is not listed here is equal to the letter: status, headers,
//! the order of keys, the spelling of numbers and texts.

use shared::time::WallTime;

use crate::answer::{Answer, Leaf};
use crate::conversation::{Conversation, Recorded};
use crate::names::{Names, kind_of_text};
use crate::replay::{Replayed, Side};

/// Headers that are not compared.
const HEADERS: [(&str, &str); 5] = [
    ("date", "the time of the answer"),
    (
        "x-vault-index",
        "how far the primary's raft log was, which only it has",
    ),
    (
        "x-holdover-",
        "how a client tells the replica from the primary",
    ),
    (
        "content-length",
        "how a body is framed is the connection's: the primary sends long ones in chunks",
    ),
    ("transfer-encoding", "likewise"),
];

/// What opens the one warning that every answer of the replica with a body carries.
const WARNING: &str = "\"answered by holdover's replica: ";

/// Of these answers the primary shuffles the outermost keys.
const UNORDERED: &str = "/v1/sys/capabilities";

/// In an outage nobody leads: there is no address to send anybody to.
const LEADER: &str = "/v1/sys/leader";

/// The object that says so where there is no envelope: `sys/health` and its like.
const OBJECT: &str = "/holdover/";

/// A leaf of a body that may differ.
struct Mask {
    /// Where: JSON pointers.
    at: &'static [&'static str],
    /// In the answers to which requests: a part of their target; empty is any.
    of: &'static str,
    /// Why it must.
    why: &'static str,
    /// What must hold all the same of the leaf on each side.
    plausible: fn(&Answer, &Leaf) -> bool,
    /// And of both together.
    alike: fn(&Pair<'_>, &Leaf, &Leaf) -> bool,
}

const MASKS: [Mask; 7] = [
    Mask {
        at: &[
            "/raft_applied_index",
            "/raft_committed_index",
            "/active_time",
        ],
        of: "/v1/sys/leader",
        why: "how far the primary's raft log is",
        plausible: |_, _| true,
        alike: |pair, _, _| pair.right_side == Side::Following,
    },
    Mask {
        at: &["/request_id"],
        of: "",
        why: "every answer has its own",
        plausible: |_, leaf| is_uuid(&leaf.text),
        alike: |_, _, _| true,
    },
    Mask {
        at: &["/data/ttl", "/lease_duration", "/auth/lease_duration"],
        of: "",
        why: "what is left is less each second, and the replica renews nothing of the primary's",
        plausible: |_, leaf| leaf.text.parse::<u64>().is_ok(),
        alike: remaining,
    },
    Mask {
        at: &[
            "/data/expire_time",
            "/data/issue_time",
            "/data/last_renewal",
        ],
        of: "",
        why: "of what the replay itself made or renewed; the replica renews nothing of the primary's",
        plausible: moment,
        alike: |_, one, _| !one.is_named(),
    },
    Mask {
        at: &[
            "/data/created_time",
            "/data/deletion_time",
            "/data/metadata/created_time",
            "/data/metadata/deletion_time",
        ],
        of: "/elsewhere/written",
        why: "each replay writes this secret itself",
        plausible: moment,
        alike: |_, _, _| true,
    },
    Mask {
        at: &["/wrap_info/creation_time", "/wrap_info/accessor"],
        of: "",
        why: "each wrapping is another",
        plausible: |_, _| true,
        alike: |pair, _, _| pair.right_side == Side::Following,
    },
    Mask {
        at: &["/server_time_utc"],
        of: "/v1/sys/health",
        why: "the time of the answer",
        plausible: |answer, leaf| leaf.text.parse().is_ok_and(|at| of_this_replay(answer, at)),
        alike: |_, _, _| true,
    },
];

/// Two answers to one request.
struct Pair<'a> {
    left: &'a Answer,
    right: &'a Answer,
    left_side: Side,
    right_side: Side,
}

/// Compares, and counts what each mask was good for.
#[derive(Default)]
pub(crate) struct Masks {
    used: [usize; MASKS.len()],
}

impl Masks {
    /// What a client could tell `right` from `left` by: a text for each request.
    pub(crate) fn compare(
        &mut self,
        said: &Conversation,
        left: &Replayed,
        right: &Replayed,
    ) -> Vec<String> {
        let mut different = shapes(said, left, right);
        let answers = left.answers.iter().zip(&right.answers);
        for (number, (request, answers)) in said.requests.iter().zip(answers).enumerate() {
            let (Some(one), Some(other)) = answers else {
                continue;
            };
            let pair = Pair {
                left: one,
                right: other,
                left_side: left.side,
                right_side: right.side,
            };
            let lines = self.differences(request, &pair);
            if !lines.is_empty() {
                different.push(format!(
                    "{} {number}: {} {} {}\n  {:?} / {:?}\n    {}",
                    said.version,
                    request.method,
                    request.target,
                    request.body,
                    left.side,
                    right.side,
                    lines.join("\n    ")
                ));
            }
        }
        different
    }

    /// Masks that nothing needed.
    pub(crate) fn unused(&self) -> impl Iterator<Item = String> {
        let masks = MASKS.iter().zip(&self.used);
        masks
            .filter(|(_, used)| **used == 0)
            .map(|(mask, _)| format!("the mask of {:?} masks nothing", mask.at))
    }

    fn differences(&mut self, request: &Recorded, pair: &Pair<'_>) -> Vec<String> {
        let mut lines = Vec::new();
        let (left, right) = (pair.left, pair.right);
        if left.status != right.status {
            lines.push(format!("status {} / {}", left.status, right.status));
        }
        let (here, there) = (headers(left), headers(right));
        for (name, value) in here.iter().filter(|header| !there.contains(header)) {
            lines.push(format!("only {:?} has {name}: {value}", pair.left_side));
        }
        for (name, value) in there.iter().filter(|header| !here.contains(header)) {
            lines.push(format!("only {:?} has {name}: {value}", pair.right_side));
        }
        if request.target == LEADER && pair.right_side == Side::Replica {
            let own = without_own(right);
            let nobody = own
                .iter()
                .map(|leaf| (leaf.at.as_str(), leaf.text.as_str()));
            if !nobody.eq([("/ha_enabled", "false"), ("(end)", r#""\n""#)]) {
                lines.push(format!("somebody leads: {}", right.text));
            }
            return lines;
        }
        let body = match pair.right_side {
            Side::Replica => without_own(right),
            Side::Primary | Side::Following => right.body.clone(),
        };
        let (mut one, mut body) = (left.body.clone(), body);
        if request.target.contains(UNORDERED) {
            one.sort_by(|a, b| a.at.cmp(&b.at));
            body.sort_by(|a, b| a.at.cmp(&b.at));
        }
        let places = |body: &[Leaf]| body.iter().map(|leaf| leaf.at.clone()).collect::<Vec<_>>();
        if places(&one) != places(&body) {
            lines.push(format!(
                "body {}\n       / {}",
                left.text.trim_end(),
                right.text.trim_end()
            ));
            return lines;
        }
        for (one, other) in one.iter().zip(&body) {
            if one.text != other.text && !self.covers(request, pair, one, other) {
                lines.push(format!("{} {} / {}", one.at, one.text, other.text));
            }
        }
        lines
    }

    /// Whether a mask covers the difference between two leaves at the same place.
    fn covers(&mut self, request: &Recorded, pair: &Pair<'_>, one: &Leaf, other: &Leaf) -> bool {
        let found = MASKS.iter().position(|mask| {
            mask.at.contains(&one.at.as_str()) && request.target.contains(mask.of)
        });
        let Some(number) = found else { return false };
        let mask = &MASKS[number];
        self.used[number] += 1;
        assert!(!mask.why.is_empty());
        (mask.plausible)(pair.left, one)
            && (mask.plausible)(pair.right, other)
            && (mask.alike)(pair, one, other)
    }
}

fn headers(answer: &Answer) -> Vec<&(String, String)> {
    let masked = |name: &str| HEADERS.iter().any(|(mask, _)| name.starts_with(mask));
    answer
        .headers
        .iter()
        .filter(|(name, _)| !masked(name))
        .collect()
}

/// The body of an answer of the replica without what says that it is one. That must be there once.
fn without_own(answer: &Answer) -> Vec<Leaf> {
    let mut body: Vec<Leaf> = answer.body.clone();
    body.retain(|leaf| !leaf.at.starts_with(OBJECT));
    let warned = |leaf: &Leaf| leaf.at.starts_with("/warnings/") && leaf.text.starts_with(WARNING);
    if body.iter().filter(|leaf| warned(leaf)).count() == 1 {
        let before = body
            .iter()
            .filter(|leaf| leaf.at.starts_with("/warnings/"))
            .count();
        for leaf in &mut body {
            if warned(leaf) && before == 1 {
                *leaf = Leaf {
                    at: "/warnings".into(),
                    text: "null".into(),
                };
            }
        }
        body.retain(|leaf| !warned(leaf));
        let rest = body
            .iter_mut()
            .filter(|leaf| leaf.at.starts_with("/warnings/"));
        for (number, leaf) in rest.enumerate() {
            leaf.at = format!("/warnings/{number}");
        }
    }
    body
}

/// Both casts live by the same TTLs, and were made some time before. The replica never says more than the primary.
/// Seconds are cut off three times: at the look-up that taught the replica, in its answer, and in the age here.
fn remaining(pair: &Pair<'_>, one: &Leaf, other: &Leaf) -> bool {
    let number = |leaf: &Leaf| leaf.text.parse::<u64>().unwrap_or(u64::MAX);
    let (one, other) = (number(one), number(other));
    let at_first = one
        .saturating_add(pair.left.age.as_secs())
        .saturating_add(1);
    other <= at_first && other.saturating_add(pair.right.age.as_secs() + 3) >= one
}

/// A moment of the cast's own making, or one of this replay; an end as far away as the answer says that it is.
fn moment(answer: &Answer, leaf: &Leaf) -> bool {
    let text = leaf.text.trim_matches('"');
    if text.starts_with("{{expire_time.") || text.starts_with("{{last_renewal.") {
        return true;
    }
    let Some(at) = WallTime::parse_rfc3339(text) else {
        return false;
    };
    if leaf.at != "/data/expire_time" {
        return of_this_replay(answer, at.as_secs());
    }
    let ttl = answer
        .leaf("/data/ttl")
        .and_then(|ttl| ttl.parse::<i64>().ok());
    let left = at.as_secs() - answer.at;
    ttl.is_some_and(|ttl| (left - ttl).abs() <= 2)
}

fn of_this_replay(answer: &Answer, at: i64) -> bool {
    let age = i64::try_from(answer.age.as_secs()).unwrap_or(i64::MAX);
    (answer.at - age - 2..=answer.at + 2).contains(&at)
}

fn is_uuid(text: &str) -> bool {
    let parts: Vec<usize> = text.trim_matches('"').split('-').map(str::len).collect();
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-' || c == '"';
    parts == [8, 4, 4, 4, 12] && text.chars().all(hex)
}

/// What is handed out is of the same kind on both sides: as long, of the same letters. A replica token is longer.
fn shapes(said: &Conversation, left: &Replayed, right: &Replayed) -> Vec<String> {
    let handed_out = |names: &Names, name: &str| names.value(name).map(kind_of_text);
    let mut different = Vec::new();
    for name in left.names.handed_out() {
        let (one, other) = (
            handed_out(&left.names, name),
            handed_out(&right.names, name),
        );
        let minted_here = other.as_deref() == Some("ho.+43") && one.as_deref() == Some("s.+24");
        if one != other && other.is_some() && !(minted_here && right.side == Side::Replica) {
            different.push(format!("{}: {name} is {one:?} / {other:?}", said.version));
        }
    }
    different
}
