//! What a start finds: drawn from a seed before it begins.

use harness::random::Seeded;

/// What is wrong with a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    None,
    Absent,
    Empty,
    /// Bytes of it are others.
    Corrupt,
    /// Its second half is missing.
    Cut,
    /// It is what it was some time ago.
    Stale,
    /// Nobody may read it.
    Unreadable,
    /// A folder is in its place.
    Folder,
    /// A FIFO that nobody writes to is in its place.
    Fifo,
    /// A text with a byte order mark before it.
    Marked,
    /// A text with a second line.
    TwoLines,
}

/// Whether the primary answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Primary {
    Answers,
    /// Connections are refused.
    Refuses,
}

/// The disk that the replica is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Disk {
    Plain,
    /// There is no room on it.
    Full,
    /// It is mounted to be read only.
    ReadOnly,
}

/// The configuration file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Configuration {
    Good,
    Absent,
    Unreadable,
    /// No TOML.
    Garbage,
    /// With a key that there is not.
    UnknownKey,
    /// With a value that cannot be.
    BadValue,
}

/// A start.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) primary: Primary,
    pub(crate) disk: Disk,
    pub(crate) configuration: Configuration,
    pub(crate) replica: Fault,
    pub(crate) key: Fault,
    pub(crate) anchor: Fault,
    pub(crate) role_id: Fault,
    pub(crate) secret_id: Fault,
}

impl Case {
    pub(crate) fn of(random: &mut Seeded) -> Case {
        use Fault::{
            Absent, Corrupt, Cut, Empty, Fifo, Folder, Marked, Stale, TwoLines, Unreadable,
        };
        let file = [Absent, Empty, Corrupt, Cut, Unreadable, Folder, Fifo];
        let text = [Absent, Empty, Unreadable, Folder, Fifo, Marked, TwoLines];
        let stored = [
            Absent, Empty, Corrupt, Corrupt, Cut, Stale, Stale, Unreadable, Folder, Fifo,
        ];
        Case {
            primary: random.one(&[Primary::Answers, Primary::Refuses]),
            disk: random.one(&[Disk::Plain, Disk::Plain, Disk::Full, Disk::ReadOnly]),
            configuration: match random.chance(88) {
                true => Configuration::Good,
                false => random.one(&[
                    Configuration::Absent,
                    Configuration::Unreadable,
                    Configuration::Garbage,
                    Configuration::UnknownKey,
                    Configuration::BadValue,
                ]),
            },
            replica: some(random, 40, &stored),
            key: some(random, 20, &file),
            anchor: some(random, 25, &stored),
            role_id: some(random, 12, &text),
            secret_id: some(random, 20, &text),
        }
    }

    /// Whether everything is there that the replica is opened by.
    pub(crate) fn opens(&self) -> bool {
        self.replica == Fault::None && self.key == Fault::None
    }

    /// Whether the replica may lie: reads of it may be older, never other.
    pub(crate) fn is_stale(&self) -> bool {
        self.replica == Fault::Stale || !matches!(self.anchor, Fault::None | Fault::Stale)
    }

    /// Whether the anchor is newer than the replica.
    pub(crate) fn shows_its_age(&self) -> bool {
        self.replica == Fault::Stale && self.anchor != Fault::Stale
    }
}

/// A fault in so many of a hundred cases.
fn some(random: &mut Seeded, percent: u64, faults: &[Fault]) -> Fault {
    match random.chance(percent) {
        true => random.one(faults),
        false => Fault::None,
    }
}
