//! `X-Vault-Index`: which cluster an answer is of, and how much of its history the node that gave it had applied.
//!
//! From OpenBao 2.7.2: base64 of `{"cluster": ID, "value": POSITION}` on every success of a storage-backed path. On raft
//! the position is the applied index in decimal, on PostgreSQL a log sequence number (`0/14B7D58`).

use alloc::{
    format,
    string::{String, ToString},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::name::ClusterId;

/// Longer texts are not read: the primary's have about a hundred characters.
const LONGEST: usize = 512;

/// How far a node had applied the history of its cluster.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Index {
    cluster: ClusterId,
    position: Position,
}

/// A place in a cluster's history, in the form of its storage. Two forms are never compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Position {
    Raft(u64),
    /// Both halves of a PostgreSQL LSN.
    Lsn(u64),
}

/// How a cluster's storage counts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum IndexForm {
    /// Raft: a number.
    Raft,
    /// PostgreSQL: two numbers in hexadecimal.
    Lsn,
}

#[derive(Serialize, Deserialize)]
struct IndexText {
    cluster: ClusterId,
    value: String,
}

impl IndexForm {
    /// Both, the more frequent first.
    pub const ALL: [Self; 2] = [Self::Raft, Self::Lsn];

    /// An index of `cluster` that no node of it reaches: to ask for what only the active node may answer.
    pub fn beyond(self, cluster: &ClusterId) -> String {
        let value = match self {
            Self::Raft => i64::MAX.to_string(),
            Self::Lsn => "FFFFFFFF/FFFFFFFF".to_string(),
        };
        encoded(cluster, value)
    }
}

impl Index {
    /// Reads the header's value; `None` for what is not of one of the known forms, which is never compared.
    pub fn parse(header: &str) -> Option<Self> {
        if header.len() > LONGEST {
            return None;
        }
        let text: IndexText = serde_json::from_slice(&STANDARD.decode(header).ok()?).ok()?;
        let position = Position::parse(&text.value)?;
        Some(Self {
            cluster: text.cluster,
            position,
        })
    }

    /// Raft's index as `sys/leader` gives it.
    pub fn raft(cluster: ClusterId, applied: u64) -> Self {
        let position = Position::Raft(applied);
        Self { cluster, position }
    }

    /// The cluster that it is of.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// How its storage counts.
    pub fn form(&self) -> IndexForm {
        match self.position {
            Position::Raft(_) => IndexForm::Raft,
            Position::Lsn(_) => IndexForm::Lsn,
        }
    }

    /// Whether who had applied this had applied `mark` too. False where they cannot be compared.
    pub fn reaches(&self, mark: &Self) -> bool {
        self.cluster == mark.cluster
            && match (self.position, mark.position) {
                (Position::Raft(own), Position::Raft(mark))
                | (Position::Lsn(own), Position::Lsn(mark)) => own >= mark,
                (Position::Raft(_), Position::Lsn(_)) | (Position::Lsn(_), Position::Raft(_)) => {
                    false
                }
            }
    }

    /// The header's value.
    pub fn header(&self) -> String {
        encoded(&self.cluster, self.position.to_text())
    }
}

impl Position {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once('/') {
            None => Some(Self::Raft(decimal(text)?)),
            Some((high, low)) => Some(Self::Lsn(hexadecimal(high)? << 32 | hexadecimal(low)?)),
        }
    }

    fn to_text(self) -> String {
        match self {
            Self::Raft(applied) => applied.to_string(),
            Self::Lsn(lsn) => format!("{:X}/{:X}", lsn >> 32, lsn & 0xFFFF_FFFF),
        }
    }
}

/// Digits alone: no sign, which Rust's own reading allows.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| text.parse().ok()).flatten()
}

fn hexadecimal(text: &str) -> Option<u64> {
    let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let value = plain.then(|| u32::from_str_radix(text, 16).ok()).flatten();
    value.map(u64::from)
}

fn encoded(cluster: &ClusterId, value: String) -> String {
    let cluster = cluster.clone();
    // A text and a name always serialise.
    STANDARD.encode(serde_json::to_vec(&IndexText { cluster, value }).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cluster(id: &str) -> ClusterId {
        ClusterId::parse(id).unwrap()
    }

    fn index(value: &str) -> Option<Index> {
        Index::parse(&encoded(&cluster("c"), value.to_string()))
    }

    #[test]
    fn both_forms_are_read_and_nothing_else_is() {
        assert_eq!(index("71"), Some(Index::raft(cluster("c"), 71)));
        let lsn = index("0/14B7D58").unwrap();
        assert_eq!(lsn.form(), IndexForm::Lsn);
        assert_eq!(lsn.position, Position::Lsn(0x14B_7D58));
        for other in [
            "",
            "+1",
            "-1",
            "1.0",
            "0x1",
            "/",
            "1/",
            "/1",
            "1/2/3",
            "1/+2",
            "18446744073709551616",
            "100000000/0",
        ] {
            assert_eq!(index(other), None, "{other}");
        }
        for header in ["", "e30=", "%%", "bnVsbA=="] {
            assert_eq!(Index::parse(header), None, "{header}");
        }
        assert_eq!(Index::parse(&"A".repeat(LONGEST + 4)), None);
    }

    #[test]
    fn indices_of_other_clusters_and_forms_are_never_reached() {
        let raft = |id, at| Index::raft(cluster(id), at);
        assert!(raft("c", 7).reaches(&raft("c", 7)) && !raft("c", 6).reaches(&raft("c", 7)));
        assert!(!raft("d", 9).reaches(&raft("c", 7)));
        let lsn = index("0/1").unwrap();
        assert!(!raft("c", 9).reaches(&lsn) && !lsn.reaches(&raft("c", 0)));
        assert!(index("1/0").unwrap().reaches(&index("0/FFFFFFFF").unwrap()));
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back_and_nothing_reaches_beyond(
            at in 0..i64::MAX as u64,
            lsn in 0..u64::MAX,
        ) {
            for position in [Position::Raft(at), Position::Lsn(lsn)] {
                let index = Index { cluster: cluster("c"), position };
                prop_assert_eq!(Index::parse(&index.header()), Some(index.clone()));
                let beyond = Index::parse(&index.form().beyond(&cluster("c"))).unwrap();
                prop_assert!(!index.reaches(&beyond) && beyond.reaches(&index));
            }
        }

        #[test]
        fn no_header_makes_it_panic(header in "\\PC{0,40}", value in "[-+/0-9A-Fa-fx ]{0,20}") {
            let _ = Index::parse(&header);
            let _ = index(&value);
        }
    }
}
