//! Capabilities: their names, and sets of them.

use alloc::{vec, vec::Vec};

use super::Operation;

/// A set of capabilities. One that holds `deny` holds nothing else.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Capabilities(u16);

/// One capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(super) enum Capability {
    Create = 1,
    Delete = 1 << 1,
    List = 1 << 2,
    Patch = 1 << 3,
    Read = 1 << 4,
    Scan = 1 << 5,
    Sudo = 1 << 6,
    Update = 1 << 7,
}

/// Every capability with its name, in the order of names.
const NAMES: [(&str, Capability); 8] = [
    ("create", Capability::Create),
    ("delete", Capability::Delete),
    ("list", Capability::List),
    ("patch", Capability::Patch),
    ("read", Capability::Read),
    ("scan", Capability::Scan),
    ("sudo", Capability::Sudo),
    ("update", Capability::Update),
];

impl Capability {
    pub(super) fn named(name: &str) -> Option<Self> {
        let found = NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, capability)| *capability)
    }

    /// What an operation needs; nothing allows HEAD.
    pub(super) fn needed(operation: Operation) -> Option<Self> {
        match operation {
            Operation::Read => Some(Self::Read),
            Operation::List => Some(Self::List),
            Operation::Scan => Some(Self::Scan),
            Operation::Create => Some(Self::Create),
            Operation::Update => Some(Self::Update),
            Operation::Patch => Some(Self::Patch),
            Operation::Delete => Some(Self::Delete),
            Operation::Header => None,
        }
    }
}

impl Capabilities {
    const DENY: u16 = 1 << 15;

    /// Only `deny`.
    pub(super) fn deny() -> Self {
        Self(Self::DENY)
    }

    pub(super) fn denies(self) -> bool {
        self.0 & Self::DENY != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn has(self, capability: Capability) -> bool {
        self.0 & capability as u16 != 0
    }

    pub(super) fn insert(&mut self, capability: Capability) {
        self.0 |= capability as u16;
    }

    /// Those of both; `deny` on either side leaves only `deny`.
    pub(super) fn union(self, other: Self) -> Self {
        if self.denies() || other.denies() {
            Self::deny()
        } else {
            Self(self.0 | other.0)
        }
    }

    /// Names in order, or `deny` if there are none.
    pub(super) fn names(self) -> Vec<&'static str> {
        let names: Vec<_> = NAMES
            .iter()
            .filter(|(_, capability)| self.has(*capability))
            .map(|(name, _)| *name)
            .collect();
        if names.is_empty() {
            vec!["deny"]
        } else {
            names
        }
    }
}
