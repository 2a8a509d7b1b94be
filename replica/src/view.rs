//! The read side: everything that a decision needs, in memory, without a lock that a writer holds.
//!
//! Authority sits behind one [`ArcSwap`], loaded once per request and never held across an await. Values stay
//! sealed. Grants are shared records with an atomic revoked flag. Only the sequencer changes any of it. The one lock is over how
//! many grants each user has, taken when one changes hands.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use shared::{
    acl::{Acl, CompileError, Policy},
    block::Blocks,
    change::{CredentialName, PolicySet, QueuedRevocation},
    failover::Phase,
    grant::Revocation,
    identity::Identity,
    kv::Record,
    lease::Lease,
    name::{Accessor, PolicyName, TokenDigest},
    secret::SecretBytes,
    settings::Settings,
    time::WallTime,
};

use crate::{
    key::Keys,
    seal::{SealError, Sealed},
    table::{At, CredentialRow},
    view::{lockout::Lockouts, owners::Owners},
};

pub(crate) mod acl;
mod authority;
mod doubts;
pub mod fill;
mod grants;
mod known;
mod line;
mod lockout;
mod lost;
mod owners;
mod secrets;
mod settling;
mod used;
mod waiting;

pub use authority::Authority;
pub(crate) use doubts::DoubtStep;
pub use doubts::{Doubts, KeyDoubt};
pub use grants::LiveGrant;
pub(crate) use known::Elsewhere;
pub use known::{Known, KnownIdentity};
pub use line::DeadAncestor;
pub use lost::Lost;
pub use owners::Owner;
pub use secrets::Secrets;
pub use waiting::RevocationsWaiting;

/// The whole view. Shared by every serving thread.
pub struct View {
    authority: ArcSwap<Authority>,
    secrets: ArcSwap<Secrets>,
    doubts: ArcSwap<Doubts>,
    grants: papaya::HashMap<TokenDigest, Arc<LiveGrant>>,
    accessors: papaya::HashMap<Accessor, TokenDigest>,
    /// Whose the grants are.
    owners: Owners,
    credentials: papaya::HashMap<CredentialName, Arc<HeldCredential>>,
    /// Revocations whose grant is not here: not published yet, or never known. What arrives for them is dead.
    struck: papaya::HashMap<TokenDigest, Revocation>,
    queue: papaya::HashMap<u64, Arc<QueuedRevocation>>,
    /// Failed logins, and who is locked out for them.
    lockouts: Lockouts,
    keys: Keys,
}

/// The policies, parsed once, and the ACLs compiled from them, each set once.
pub struct Policies {
    /// As the primary has them.
    pub set: PolicySet,
    /// Parsed; what does not parse is `None`, and undecidable for its tokens. Shared by verifications that
    /// changed nothing.
    pub parsed: Arc<BTreeMap<PolicyName, Option<Policy>>>,
    pub(crate) compiled: Arc<papaya::HashMap<acl::AclKey, Arc<CompiledAcl>>>,
}

/// A compiled ACL and the identity that it was compiled with, so that a changed one is noticed.
pub struct CompiledAcl {
    /// The ACL, or why its tokens can do nothing.
    pub acl: Result<Acl, CompileError>,
    /// The identity; none for a token without an entity, or with one that is not known here.
    pub identity: Option<Arc<Identity>>,
    /// The time that it was compiled for.
    pub(crate) at: WallTime,
}

/// What is opened per request, and sealed again by forgetting it.
pub struct SealedBody {
    pub(crate) at: At,
    pub(crate) sealed: Sealed,
}

/// A mirrored value.
pub struct HeldRecord {
    /// What is known of it.
    pub record: Record,
    /// The bytes of `data` as the primary sent them.
    pub body: Arc<SealedBody>,
}

/// A lease.
pub struct HeldLease {
    /// What is known of it.
    pub lease: Lease,
    /// The bytes of `data`.
    pub body: Arc<SealedBody>,
}

/// A token that Holdover presents.
pub struct HeldCredential {
    /// Its accessor.
    pub accessor: Accessor,
    /// When it ends unless renewed.
    pub expires: WallTime,
    /// Whether it may be renewed.
    pub renewable: bool,
    /// When it was issued.
    pub issued_at: WallTime,
    /// The token.
    pub body: SealedBody,
}

impl View {
    /// An empty view: nothing is known, and the machine has just started.
    pub fn new(settings: Arc<Settings>, keys: Keys) -> Self {
        Self {
            authority: ArcSwap::from_pointee(Authority {
                settings,
                settings_version: 0,
                phase: Phase::Suspect,
                epoch: 0,
                proven_from: None,
                paused: false,
                rolled_back: false,
                blocks: Blocks::default(),
                offboarded: None,
                known: Arc::default(),
            }),
            secrets: ArcSwap::default(),
            doubts: ArcSwap::default(),
            grants: papaya::HashMap::new(),
            accessors: papaya::HashMap::new(),
            owners: Owners::default(),
            credentials: papaya::HashMap::new(),
            struck: papaya::HashMap::new(),
            queue: papaya::HashMap::new(),
            lockouts: Lockouts::default(),
            keys,
        }
    }

    /// The values, now.
    pub fn secrets(&self) -> Arc<Secrets> {
        self.secrets.load_full()
    }

    /// What may be superseded, now. Load it before the values that it is about: a doubt ends after what answers it is
    /// published.
    pub fn doubts(&self) -> Arc<Doubts> {
        self.doubts.load_full()
    }

    /// A token that Holdover presents.
    pub fn credential(&self, name: &CredentialName) -> Option<Arc<HeldCredential>> {
        self.credentials.pin().get(name).cloned()
    }

    /// The keys: for digests and for opening values.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Publishes values and leases. The writer's alone.
    pub(crate) fn set_secrets(&self, secrets: Secrets) {
        self.secrets.store(Arc::new(secrets));
    }

    /// Changes what is in doubt. Readers and the writer may do so at the same time.
    pub(crate) fn change_doubts(&self, change: impl Fn(&mut Doubts)) {
        self.doubts.rcu(|current| {
            let mut next = Doubts::clone(current);
            change(&mut next);
            next
        });
    }

    /// Publishes a credential, or that there is none. The writer's alone.
    pub(crate) fn set_credential(&self, name: CredentialName, held: Option<Arc<HeldCredential>>) {
        let credentials = self.credentials.pin();
        match held {
            Some(held) => credentials.insert(name, held),
            None => credentials.remove(&name),
        };
    }
}

impl HeldCredential {
    pub(crate) fn new(row: &CredentialRow, body: SealedBody) -> Self {
        Self {
            accessor: row.accessor.clone(),
            expires: row.expires,
            renewable: row.renewable,
            issued_at: row.issued_at,
            body,
        }
    }
}

impl SealedBody {
    /// How many bytes it takes, sealed.
    pub fn size(&self) -> usize {
        self.sealed.bytes.len()
    }

    /// Its bytes. Open it per request, and keep them no longer.
    ///
    /// # Errors
    /// If it was changed or moved on disk, or belongs to another version of its row.
    pub fn open(&self, keys: &Keys) -> Result<SecretBytes, SealError> {
        keys.open(&self.at.subject(), &self.sealed)
    }
}

#[cfg(test)]
mod tests;
