//! What of the replica may be damaged, by the kind of thing that it was of. What is damaged is undecidable until it is
//! read anew.

use core::fmt;

/// A kind of thing that decisions go by, and that is kept in rows of its own.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum RowKind {
    /// A role of AppRole.
    AppRole,
    /// What the primary proved of a workload.
    Authority,
    /// What stands against issuing on this host.
    Block,
    /// The cluster and its mounts.
    Cluster,
    /// A token that Holdover presents.
    Credential,
    /// That what is mirrored may be superseded.
    Doubt,
    /// A token that clients use.
    Grant,
    /// An entity and its groups.
    Identity,
    /// A leased secret.
    Lease,
    /// What later readings of the clocks are held against.
    Mark,
    /// Since when the primary refuses Holdover's own credential.
    Offboarded,
    /// The machine's state.
    Phase,
    /// Policies, and when they were read.
    Policies,
    /// What is left to the primary.
    Quarantine,
    /// A revocation that the primary has yet to be told of.
    Queue,
    /// A revoked token.
    Revocation,
    /// A secret id that was proven.
    SecretId,
}

/// Damage to one kind.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Of what.
    pub kind: RowKind,
    /// Rows that are there and do not open.
    pub rows: usize,
    /// What they are of, as far as that can be told.
    pub names: alloc::vec::Vec<alloc::string::String>,
    /// Others are missing, or were put back in an older version: which ones cannot be told.
    pub incomplete: bool,
}

/// As people read it, of several.
impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AppRole => "AppRole roles",
            Self::Authority => "authority of workloads",
            Self::Block => "blocks of issuing",
            Self::Cluster => "cluster and mounts",
            Self::Credential => "tokens of Holdover's own",
            Self::Doubt => "doubts of mirrored values",
            Self::Grant => "tokens of clients",
            Self::Identity => "identities",
            Self::Lease => "leases",
            Self::Mark => "mark of time",
            Self::Offboarded => "offboarding",
            Self::Phase => "state of the outage",
            Self::Policies => "policies",
            Self::Quarantine => "quarantines",
            Self::Queue => "revocations that the primary is to be told of",
            Self::Revocation => "revocations",
            Self::SecretId => "secret ids",
        })
    }
}

/// Kind, how many, and which.
impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        match (self.rows, self.incomplete) {
            (0, _) => f.write_str(" (rows are missing or were replaced")?,
            (rows, false) => write!(f, " ({rows} do not open")?,
            (rows, true) => write!(
                f,
                " ({rows} do not open, others are missing or were replaced"
            )?,
        }
        if !self.names.is_empty() {
            write!(f, ": {}", self.names.join(", "))?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use alloc::{string::ToString as _, vec::Vec};

    use super::*;

    #[test]
    fn damage_says_of_what_how_much_and_which() {
        let damage = |rows, incomplete| Damage {
            kind: RowKind::Authority,
            rows,
            names: (0..rows)
                .map(|nr| alloc::format!("w{nr}"))
                .collect::<Vec<_>>(),
            incomplete,
        };
        assert_eq!(
            damage(2, false).to_string(),
            "authority of workloads (2 do not open: w0, w1)"
        );
        assert_eq!(
            damage(0, true).to_string(),
            "authority of workloads (rows are missing or were replaced)"
        );
    }
}
