//! The tables of the replica: what each row is of, how its key is made, and how a removed or replayed one is noticed.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
};

use serde::{Deserialize, Serialize};
use shared::{
    approle::{ProofDigest, RoleKey},
    block::BlockCause,
    change::{CredentialName, PolicySet, PolicyText},
    damage::RowKind,
    identity::Identity,
    kv::{Doubted, Place},
    name::{Accessor, EntityId, LeaseId, Namespace, PolicyName, TokenDigest, WorkloadName},
    quarantine::{Quarantined, QuarantinedSet},
    time::WallTime,
};

use crate::{
    key::Keys,
    seal::{Sealed, Subject},
};

mod set;

pub(crate) use set::Tables;

/// What a row is of. The number is on disk and in every row's associated data: never reuse one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub(crate) enum Table {
    /// The header of a commit; not a row.
    Header = 0,
    /// A workload's authority.
    Authority = 1,
    /// The cluster.
    Cluster = 2,
    /// A token that Holdover presents, without the token.
    Credential = 3,
    /// That token.
    CredentialBody = 4,
    /// A grant.
    Grant = 5,
    /// An entity and its groups.
    Identity = 6,
    /// A KV v2 key.
    Key = 7,
    /// A lease, without its secret.
    Lease = 8,
    /// That secret.
    LeaseBody = 9,
    /// An entry of the ledger, which has a table of its own.
    Ledger = 10,
    /// The mark of time.
    Mark = 11,
    /// A mirror's last complete pass.
    Mirror = 12,
    /// The machine's state.
    Phase = 13,
    /// A policy, or the names of all.
    Policies = 14,
    /// When they were last verified.
    PoliciesSeen = 15,
    /// A revocation to be told to the primary.
    Queue = 16,
    /// A value, without its body.
    Record = 17,
    /// That body.
    RecordBody = 18,
    /// A revoked grant.
    Revocation = 19,
    /// An AppRole role.
    AppRole = 20,
    /// A secret id's digest, and what was proven of it.
    SecretId = 21,
    /// A policy, or a workload's issuing, in quarantine.
    Quarantine = 22,
    /// What passed through the socket within an hour.
    Coverage = 23,
    /// What may be superseded at the primary.
    Doubt = 24,
    /// Since when the primary refuses Holdover's own credential.
    Offboarded = 25,
    /// What of the ledger was delivered, and who takes how much of its space.
    Room = 26,
    /// What stands against issuing on this host.
    Block = 27,
}

/// How a row that was removed or replayed is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Accounted {
    /// In the multiset hash of its table: what it was of is undecidable without it.
    Authority,
    /// The row that it belongs to names its version.
    Body,
    /// The ledger's chain.
    Chain,
    /// It is not: no promise hangs on it, and what does not open is left out.
    Loose,
    /// In that of its table, too: without it no mirror's pass counts as verification of a value.
    Value,
}

impl Table {
    /// Every table of rows.
    pub(crate) const ROWS: [Self; 26] = [
        Self::Authority,
        Self::Block,
        Self::Cluster,
        Self::Coverage,
        Self::Credential,
        Self::CredentialBody,
        Self::Doubt,
        Self::Grant,
        Self::Identity,
        Self::Key,
        Self::Lease,
        Self::LeaseBody,
        Self::Mark,
        Self::Mirror,
        Self::Offboarded,
        Self::Phase,
        Self::Policies,
        Self::PoliciesSeen,
        Self::Quarantine,
        Self::Queue,
        Self::Record,
        Self::RecordBody,
        Self::Revocation,
        Self::AppRole,
        Self::SecretId,
        Self::Room,
    ];

    /// Its number on disk.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// How its rows are accounted for.
    pub(crate) fn accounted(self) -> Accounted {
        match self {
            Self::Header | Self::Ledger => Accounted::Chain,
            Self::AppRole
            | Self::Authority
            | Self::Block
            | Self::Cluster
            | Self::Credential
            | Self::Grant
            | Self::Identity
            | Self::Lease
            | Self::Mark
            | Self::Offboarded
            | Self::Phase
            | Self::Policies
            | Self::PoliciesSeen
            | Self::Quarantine
            | Self::Queue
            | Self::Revocation
            | Self::SecretId => Accounted::Authority,
            Self::Doubt | Self::Key | Self::Mirror | Self::Record => Accounted::Value,
            Self::CredentialBody | Self::LeaseBody | Self::RecordBody => Accounted::Body,
            Self::Coverage | Self::Room => Accounted::Loose,
        }
    }

    /// What its rows are of, where decisions go by them.
    pub(crate) fn kept(self) -> Option<RowKind> {
        Some(match self {
            Self::AppRole => RowKind::AppRole,
            Self::Authority => RowKind::Authority,
            Self::Block => RowKind::Block,
            Self::Cluster => RowKind::Cluster,
            Self::Credential => RowKind::Credential,
            Self::Doubt => RowKind::Doubt,
            Self::Grant => RowKind::Grant,
            Self::Identity => RowKind::Identity,
            Self::Lease => RowKind::Lease,
            Self::Mark => RowKind::Mark,
            Self::Offboarded => RowKind::Offboarded,
            Self::Phase => RowKind::Phase,
            Self::Policies | Self::PoliciesSeen => RowKind::Policies,
            Self::Quarantine => RowKind::Quarantine,
            Self::Queue => RowKind::Queue,
            Self::Revocation => RowKind::Revocation,
            Self::SecretId => RowKind::SecretId,
            // What is lost of values is read anew without a word.
            Self::Key | Self::Mirror | Self::Record => return None,
            Self::Coverage
            | Self::CredentialBody
            | Self::Header
            | Self::LeaseBody
            | Self::Ledger
            | Self::RecordBody
            | Self::Room => return None,
        })
    }

    /// Whether its rows are in a multiset hash.
    pub(crate) fn is_counted(self) -> bool {
        matches!(self.accounted(), Accounted::Authority | Accounted::Value)
    }

    /// Whether it has one row, in each namespace at most.
    pub(crate) fn is_single(self) -> bool {
        matches!(
            self,
            Self::Cluster | Self::Mark | Self::Offboarded | Self::Phase | Self::PoliciesSeen
        )
    }

    /// Whether its rows take something away or put it off, and give nothing: an old one, or one too many, does no harm.
    pub(crate) fn only_refuses(self) -> bool {
        matches!(
            self,
            Self::Block
                | Self::Doubt
                | Self::Offboarded
                | Self::Quarantine
                | Self::Queue
                | Self::Revocation
        )
    }

    /// The table of its rows' bodies, if they have such.
    pub(crate) fn body(self) -> Option<Self> {
        match self {
            Self::Credential => Some(Self::CredentialBody),
            Self::Lease => Some(Self::LeaseBody),
            Self::Record => Some(Self::RecordBody),
            _ => None,
        }
    }
}

/// The key of a row: an HMAC of what it is of.
pub(crate) type RowKey = [u8; 32];

/// Where a row is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct At {
    pub(crate) table: Table,
    pub(crate) key: RowKey,
}

/// Something to be done to the store, in order.
#[derive(Debug)]
pub(crate) enum Op {
    /// The row is gone.
    Delete(At),
    /// The row is this.
    Put(At, Sealed),
}

/// A row whose secret part is a row of its own: which version of it belongs to this.
#[derive(Serialize, Deserialize)]
pub(crate) struct WithBody<T> {
    /// The version of the body's row.
    pub(crate) body: u64,
    /// The rest.
    pub(crate) of: T,
}

/// What is kept of a credential beside its token.
#[derive(Serialize, Deserialize)]
pub(crate) struct CredentialRow {
    pub(crate) name: CredentialName,
    pub(crate) accessor: Accessor,
    pub(crate) expires: WallTime,
    pub(crate) renewable: bool,
    pub(crate) issued_at: WallTime,
}

/// What is kept of an identity: the entity's id goes with it.
#[derive(Serialize, Deserialize)]
pub(crate) struct IdentityRow {
    pub(crate) id: EntityId,
    pub(crate) identity: Identity,
    /// At the epoch, which is never, in rows from before this was kept.
    #[serde(default = "never", skip_serializing_if = "is_never")]
    pub(crate) verified_at: WallTime,
}

fn never() -> WallTime {
    WallTime::EPOCH
}

fn is_never(at: &WallTime) -> bool {
    *at == WallTime::EPOCH
}

/// What a row of policies holds.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum PoliciesRow<'a> {
    /// One of them.
    One {
        name: Cow<'a, PolicyName>,
        policy: Cow<'a, PolicyText>,
    },
    /// The names of all: one whose own row does not open is known by them to exist.
    Names(BTreeSet<PolicyName>),
    /// All of them, as earlier builds kept them.
    Together(BTreeMap<PolicyName, PolicyText>),
}

/// When the policies were verified: most often all at once.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum PoliciesSeenRow {
    All(WallTime),
    But {
        unread: BTreeMap<PolicyName, WallTime>,
        verified_at: WallTime,
    },
}

impl PoliciesSeenRow {
    pub(crate) fn of(set: &PolicySet) -> Self {
        match set.unread.is_empty() {
            true => Self::All(set.verified_at),
            false => Self::But {
                unread: set.unread.clone(),
                verified_at: set.verified_at,
            },
        }
    }

    /// The set that this and the texts are of.
    pub(crate) fn with(self, policies: BTreeMap<PolicyName, PolicyText>) -> PolicySet {
        let (unread, verified_at) = match self {
            Self::All(verified_at) => (BTreeMap::new(), verified_at),
            Self::But {
                unread,
                verified_at,
            } => (unread, verified_at),
        };
        PolicySet {
            policies,
            unread,
            verified_at,
        }
    }
}

/// Keys of rows that are of one namespace: what was stored in another is never found under them.
#[derive(Clone, Copy)]
pub(crate) struct Within<'a> {
    pub(crate) keys: &'a Keys,
    pub(crate) namespace: &'a Namespace,
}

impl At {
    /// What a value sealed for this row is of.
    pub(crate) fn subject(&self) -> Subject<'_> {
        Subject {
            table: self.table.number(),
            key: &self.key,
        }
    }

    /// The only row of a table that is of no namespace.
    pub(crate) fn only(keys: &Keys, table: Table) -> Self {
        Self::of(keys, table, &[])
    }

    pub(crate) fn block(keys: &Keys, cause: BlockCause) -> Self {
        let cause: &[u8] = match cause {
            BlockCause::ClockAhead => b"clock_ahead",
            BlockCause::ClockBehind => b"clock_behind",
            BlockCause::Rebooted => b"rebooted",
        };
        Self::of(keys, Table::Block, &[cause])
    }

    pub(crate) fn coverage(keys: &Keys, start: WallTime) -> Self {
        Self::of(keys, Table::Coverage, &[&start.as_millis().to_le_bytes()])
    }

    pub(crate) fn grant(keys: &Keys, digest: &TokenDigest) -> Self {
        Self::of(keys, Table::Grant, &[&digest.0])
    }

    pub(crate) fn key(keys: &Keys, place: &Place) -> Self {
        let [namespace, mount, path] = parts(place);
        Self::of(keys, Table::Key, &[namespace, mount, path])
    }

    pub(crate) fn lease(keys: &Keys, id: &LeaseId) -> Self {
        Self::of(keys, Table::Lease, &[id.as_str().as_bytes()])
    }

    pub(crate) fn queue(keys: &Keys, id: u64) -> Self {
        Self::of(keys, Table::Queue, &[&id.to_le_bytes()])
    }

    pub(crate) fn record(keys: &Keys, place: &Place, version: Option<u64>) -> Self {
        let [namespace, mount, path] = parts(place);
        let version = version.map(u64::to_le_bytes);
        let version = version.as_ref().map_or(&[][..], |bytes| &bytes[..]);
        Self::of(keys, Table::Record, &[namespace, mount, path, version])
    }

    pub(crate) fn revocation(keys: &Keys, digest: &TokenDigest) -> Self {
        Self::of(keys, Table::Revocation, &[&digest.0])
    }

    /// The row of the secret part, which shares its owner's key.
    pub(crate) fn body(self) -> Self {
        let table = self.table.body().unwrap_or(Table::RecordBody);
        Self { table, ..self }
    }

    fn of(keys: &Keys, table: Table, parts: &[&[u8]]) -> Self {
        Self {
            table,
            key: keys.row_key(table.number(), parts),
        }
    }
}

impl Within<'_> {
    pub(crate) fn approle(self, role: &RoleKey) -> At {
        let parts = [
            role.mount.as_str().as_bytes(),
            role.name.as_str().as_bytes(),
        ];
        self.of(Table::AppRole, &parts)
    }

    pub(crate) fn authority(self, workload: &WorkloadName) -> At {
        self.of(Table::Authority, &[workload.as_str().as_bytes()])
    }

    pub(crate) fn credential(self, name: &CredentialName) -> At {
        let (kind, of): (&[u8], &[u8]) = match name {
            CredentialName::Exchanged(digest) => (b"exchanged", &digest.0),
            CredentialName::Own => (b"own", &[]),
            CredentialName::OwnPrevious => (b"previous", &[]),
            CredentialName::Standing(workload) => (b"standing", workload.as_str().as_bytes()),
        };
        self.of(Table::Credential, &[kind, of])
    }

    /// That of a key is of the namespace of its place.
    pub(crate) fn doubt(self, of: &Doubted) -> At {
        let of_mirror =
            |kind: &[u8], mirror: &str| self.of(Table::Doubt, &[kind, &[], &[], mirror.as_bytes()]);
        match of {
            Doubted::Absence(mirror) => of_mirror(b"absence", mirror),
            Doubted::Key(place) => {
                let [namespace, mount, path] = parts(place);
                At::of(self.keys, Table::Doubt, &[b"key", namespace, mount, path])
            }
            Doubted::Mirror(mirror) => of_mirror(b"mirror", mirror),
        }
    }

    pub(crate) fn identity(self, entity: &EntityId) -> At {
        self.of(Table::Identity, &[entity.as_str().as_bytes()])
    }

    pub(crate) fn mirror(self, path: &str) -> At {
        self.of(Table::Mirror, &[path.as_bytes()])
    }

    /// The only row of `table`.
    pub(crate) fn only(self, table: Table) -> At {
        self.of(table, &[])
    }

    pub(crate) fn policy(self, name: &PolicyName) -> At {
        self.of(Table::Policies, &[name.as_str().as_bytes()])
    }

    pub(crate) fn quarantine(self, what: &Quarantined) -> At {
        // No entity has such a letter in its name, so no row of a set is under this key.
        let parts: [&[u8]; 2] = match what {
            Quarantined::Policy(name) => [b"\x01policy", name.as_str().as_bytes()],
            Quarantined::Issuing(name) => [b"\x01issuing", name.as_str().as_bytes()],
        };
        self.of(Table::Quarantine, &parts)
    }

    pub(crate) fn quarantined_set(self, set: &QuarantinedSet) -> At {
        let names = set.policies.iter().map(|name| name.as_str().as_bytes());
        let entity = set.entity.as_ref().map(|entity| entity.as_str().as_bytes());
        // Nothing is no name of an entity, so what names none is told from what names one.
        let parts: Vec<&[u8]> = [entity.unwrap_or_default()]
            .into_iter()
            .chain(names)
            .collect();
        self.of(Table::Quarantine, &parts)
    }

    pub(crate) fn secret_id(self, digest: &ProofDigest) -> At {
        self.of(Table::SecretId, &[&digest.0])
    }

    /// Rows of the root are under what they are of alone; nothing that a row is of begins with an empty letter.
    fn of(self, table: Table, parts: &[&[u8]]) -> At {
        if self.namespace.is_root() {
            return At::of(self.keys, table, parts);
        }
        let namespace = [&b"\0"[..], self.namespace.as_str().as_bytes()];
        At::of(self.keys, table, &[&namespace, parts].concat())
    }
}

fn parts(place: &Place) -> [&[u8]; 3] {
    [
        place.namespace.as_str().as_bytes(),
        place.mount.as_str().as_bytes(),
        place.path.as_str().as_bytes(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tables_share_a_number() {
        let mut numbers: Vec<u8> = Table::ROWS.iter().map(|table| table.number()).collect();
        numbers.extend([Table::Header.number(), Table::Ledger.number()]);
        let count = numbers.len();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), count);
    }
}
