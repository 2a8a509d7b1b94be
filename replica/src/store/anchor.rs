//! The anchor: a state file in another directory that holds the generation, so that a replaced replica is noticed.
//!
//! One line: `holdover-anchor 1 <replica id> <generation> <mac>`, the MAC under a key of the replica. It is written
//! after the commit it speaks of, so it is never ahead of a replica that was not rolled back. It says nothing where
//! the whole disk was restored, state file included.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
};

use super::fault::Fault;
use crate::{
    key::{self, Keys},
    private::{self, PrivateError},
};

/// What the anchor says of the replica that was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AnchorState {
    /// The replica is as young as its anchor, or younger.
    Agrees,
    /// The replica is older: it was replaced by a copy of an earlier time.
    Ahead {
        /// The generation that the anchor holds.
        anchor: u64,
        /// The replica's.
        replica: u64,
    },
    /// There is none yet, and the replica knows of none.
    First,
    /// There was one, and it is gone.
    Missing,
    /// It is another replica's, was changed, or is not one.
    Foreign,
    /// It cannot be read.
    Unreadable,
    /// None is configured.
    Unset,
}

impl AnchorState {
    /// Whether the replica may be older than it was.
    pub fn doubts(&self) -> bool {
        matches!(
            self,
            Self::Ahead { .. } | Self::Foreign | Self::Missing | Self::Unreadable
        )
    }
}

/// Where the generation is anchored.
pub(crate) struct Anchor(PathBuf);

const WORD: &str = "holdover-anchor";

impl Anchor {
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.into())
    }

    /// Whether a state file is there, whatever it says.
    pub(crate) fn exists(&self) -> bool {
        self.0.symlink_metadata().is_ok()
    }

    /// Compares it with a replica of this generation. `anchored`: it knows of a state file.
    pub(crate) fn compare(&self, keys: &Keys, generation: u64, anchored: bool) -> AnchorState {
        let mut text = String::new();
        match private::open(&self.0) {
            Err(error) if error.is_missing() && anchored => return AnchorState::Missing,
            Err(error) if error.is_missing() => return AnchorState::First,
            Err(error) => {
                tracing::warn!(%error, "the replica's anchor cannot be read");
                return AnchorState::Unreadable;
            }
            Ok(file) => {
                if file.take(512).read_to_string(&mut text).is_err() {
                    return AnchorState::Foreign;
                }
            }
        }
        let Some(anchor) = parse(keys, &text) else {
            return AnchorState::Foreign;
        };
        let replica = generation;
        match anchor <= replica {
            true => AnchorState::Agrees,
            false => AnchorState::Ahead { anchor, replica },
        }
    }

    /// Puts `generation` there, durably. On a full disk in place: what a crash in the middle of that leaves is doubted,
    /// and never believed.
    pub(crate) fn write(&self, keys: &Keys, generation: u64) -> Result<(), PrivateError> {
        private::directory(private::parent(&self.0))?;
        let line = line(keys, generation);
        match private::replace(&self.0, line.as_bytes()) {
            Err(error) if Fault::of_private(&error) == Fault::Full => {
                private::overwrite(&self.0, line.as_bytes())
            }
            replaced => replaced,
        }
    }
}

fn line(keys: &Keys, generation: u64) -> String {
    let mac = keys.anchor_mac(&[WORD.as_bytes(), &generation.to_le_bytes()]);
    let mac = shared::name::TokenDigest(mac);
    format!("{WORD} 1 {} {generation} {mac}\n", keys.id())
}

fn parse(keys: &Keys, text: &str) -> Option<u64> {
    let generation = text.split(' ').nth(3)?.parse().ok()?;
    let expected = line(keys, generation);
    key::same(expected.as_bytes(), text.as_bytes()).then_some(generation)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::Seeded;

    #[test]
    fn an_anchor_is_believed_from_its_own_replica_only() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("anchor").join("generation");
        let anchor = Anchor::at(&path);
        let keys = Keys::ephemeral(&Seeded::new(1)).unwrap();
        let compared = |generation, anchored| anchor.compare(&keys, generation, anchored);
        assert_eq!(compared(1, false), AnchorState::First);
        assert_eq!(compared(1, true), AnchorState::Missing);
        anchor.write(&keys, 7).unwrap();
        assert_eq!(compared(7, true), AnchorState::Agrees);
        assert_eq!(compared(9, false), AnchorState::Agrees);
        let ahead = AnchorState::Ahead {
            anchor: 7,
            replica: 6,
        };
        assert_eq!(compared(6, true), ahead);
        let other = Keys::ephemeral(&Seeded::new(2)).unwrap();
        assert_eq!(anchor.compare(&other, 9, true), AnchorState::Foreign);
        let lowered = std::fs::read_to_string(&path)
            .unwrap()
            .replace(" 7 ", " 5 ");
        std::fs::write(&path, lowered).unwrap();
        assert_eq!(compared(6, true), AnchorState::Foreign);
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(compared(7, true), AnchorState::Unreadable);
        assert!(compared(7, true).doubts());
    }
}
