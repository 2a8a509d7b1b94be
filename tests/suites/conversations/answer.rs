//! An answer as a client could see it: status, headers, and the body leaf by leaf, in order, each as it was spelled.

use std::fmt;
use std::time::Duration;

use harness::client::raw::Reply;
use harness::{Result, clock};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use shared::time::WallTime;

use crate::names::Names;

/// A leaf of a JSON body.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    /// Where it is, as a JSON pointer.
    pub(crate) at: String,
    /// As it was spelled.
    pub(crate) text: String,
}

impl Leaf {
    /// Whether it is something of the cast.
    pub(crate) fn is_named(&self) -> bool {
        self.text.contains("{{")
    }
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// HTTP status.
    pub(crate) status: u16,
    /// Names and values, sorted.
    pub(crate) headers: Vec<(String, String)>,
    /// The leaves of a JSON body, in order; a body that is no JSON is one leaf.
    pub(crate) body: Vec<Leaf>,
    /// How long after its cast was made it came.
    pub(crate) age: Duration,
    /// When it came, in Unix seconds.
    pub(crate) at: i64,
    /// The body as it was sent.
    pub(crate) text: String,
}

impl Answer {
    /// What `reply` shows, with `names` in the place of what is another in each replay.
    pub(crate) fn of(reply: &Reply, names: &Names, age: Duration) -> Result<Answer> {
        let mut headers: Vec<(String, String)> = reply
            .headers
            .iter()
            .map(|(name, value)| {
                let value = String::from_utf8_lossy(value.as_bytes());
                (name.to_string(), names.rename(&value))
            })
            .collect();
        headers.sort();
        let text = names.rename(&reply.text());
        let mut body = Vec::new();
        let json = text.trim_end();
        match serde_json::from_str::<&RawValue>(json) {
            Ok(whole) => {
                leaves(whole, String::new(), &mut body)?;
                let end = format!("{:?}", &text[json.len()..]);
                body.push(Leaf {
                    at: "(end)".into(),
                    text: end,
                });
            }
            Err(_) => body.push(Leaf {
                at: "(text)".into(),
                text: text.clone(),
            }),
        }
        seconds(&reply.text(), &mut body);
        let at = i64::try_from(clock::wall().as_secs()).unwrap_or(i64::MAX);
        Ok(Answer {
            status: reply.status,
            headers,
            body,
            age,
            at,
            text,
        })
    }

    /// The leaf at this place.
    pub(crate) fn leaf(&self, at: &str) -> Option<&str> {
        let found = self.body.iter().find(|leaf| leaf.at == at);
        found.map(|leaf| leaf.text.as_str())
    }
}

/// Look-ups tell some moments twice. The one in seconds is told by the other, which may have a name.
fn seconds(text: &str, body: &mut [Leaf]) {
    let whole: Value = serde_json::from_str(text).unwrap_or_default();
    for (counted, moment) in [
        ("creation_time", "issue_time"),
        ("last_renewal_time", "last_renewal"),
    ] {
        let said = whole["data"][moment]
            .as_str()
            .and_then(WallTime::parse_rfc3339);
        let Some(said) = said else { continue };
        let at = format!("/data/{counted}");
        // The primary reads its clock twice.
        let near = |text: &str| {
            text.parse()
                .is_ok_and(|at: i64| at.abs_diff(said.as_secs()) <= 1)
        };
        let same = |leaf: &&mut Leaf| leaf.at == at && near(&leaf.text);
        if let Some(leaf) = body.iter_mut().find(same) {
            leaf.text = format!("({moment} in seconds)");
        }
    }
}

/// Every leaf below `node`, whose place is `at`.
fn leaves(node: &RawValue, at: String, into: &mut Vec<Leaf>) -> Result<()> {
    match serde_json::from_str(node.get())? {
        Node::Leaf => into.push(Leaf {
            at,
            text: node.get().to_owned(),
        }),
        Node::Branch(children) => {
            for (name, child) in &children {
                leaves(child, format!("{at}/{name}"), into)?;
            }
        }
    }
    Ok(())
}

/// A JSON value whose members keep their order and their spelling.
enum Node {
    /// Scalars, and what is empty.
    Leaf,
    Branch(Vec<(String, Box<RawValue>)>),
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Node, D::Error> {
        deserializer.deserialize_any(Shape)
    }
}

struct Shape;

impl<'de> Visitor<'de> for Shape {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Node, A::Error> {
        let mut children = Vec::new();
        while let Some(child) = map.next_entry()? {
            children.push(child);
        }
        Ok(branch(children))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Node, A::Error> {
        let mut children = Vec::new();
        while let Some(child) = list.next_element()? {
            children.push((children.len().to_string(), child));
        }
        Ok(branch(children))
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Node, E> {
        Ok(Node::Leaf)
    }

    fn visit_unit<E>(self) -> std::result::Result<Node, E> {
        Ok(Node::Leaf)
    }
}

fn branch(children: Vec<(String, Box<RawValue>)>) -> Node {
    match children.is_empty() {
        true => Node::Leaf,
        false => Node::Branch(children),
    }
}
