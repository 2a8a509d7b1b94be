//! The read side: everything that a decision needs, in memory, without a lock that a writer holds.
//!
//! Authority sits behind one [`ArcSwap`], loaded once per request and never held across an await. Values stay
//! sealed. Grants are shared records with an atomic revoked flag. Only the sequencer changes any of it. The one lock is over how
//! many grants each user has, taken when one changes hands.

use std::{
    collections::BTreeMap,
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicI64, Ordering, fence},
    },
};

use arc_swap::{ArcSwap, Guard};
use shared::{
    acl::{Acl, CompileError, Policy},
    block::{BlockCause, Blocks, IssuingBlock},
    change::{CredentialName, PhaseRecord, PolicySet, QueuedRevocation, RevocationTarget},
    damage::Kind,
    failover::Phase,
    grant::{Grant, Revocation},
    identity::Identity,
    kv::Record,
    lease::Lease,
    name::{Accessor, LeaseId, PolicyName, TokenDigest},
    offboarding::Offboarded,
    secret::SecretBytes,
    settings::Settings,
    time::{Now, WallTime},
    workload::PeerId,
};

use crate::{
    key::Keys,
    seal::{SealError, Sealed},
    table::{At, CredentialRow},
    view::{lockout::Lockouts, owners::Owners},
};

pub(crate) mod acl;
mod doubts;
pub mod fill;
mod known;
mod line;
mod lockout;
mod lost;
mod owners;
mod secrets;
mod settling;
mod used;

pub(crate) use doubts::DoubtStep;
pub use doubts::{Doubts, KeyDoubt};
pub(crate) use known::Elsewhere;
pub use known::{Known, KnownIdentity};
pub use line::DeadAncestor;
pub use lost::Lost;
pub use owners::Owner;
pub use secrets::Secrets;

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

/// How many revocations wait for the primary.
pub struct RevocationsWaiting {
    /// Of everybody.
    pub all: usize,
    /// Of those that one asked for.
    pub of_one: usize,
}

/// Who decides, by which rules: consistent in itself, replaced as a whole.
///
/// What is set at once stands here, field by field; what the writer publishes is one field, so that neither can undo the
/// other. To a decision both are one authority, and what is known reads like a field of it.
#[derive(Clone)]
pub struct Authority {
    /// The configuration's part in decisions.
    pub settings: Arc<Settings>,
    /// Raised whenever they are replaced: a change expecting another version is refused.
    pub settings_version: u64,
    /// The machine's state.
    pub phase: Phase,
    /// Raised when who decides changes.
    pub epoch: u64,
    /// When the recovery began that ended the last outage; none before the first.
    pub proven_from: Option<WallTime>,
    /// Issuing is paused for the fence.
    pub paused: bool,
    /// The replica is older than its anchor: nothing is issued until the primary was seen.
    pub rolled_back: bool,
    /// What else stands against issuing on this host.
    pub blocks: Blocks,
    /// Since when the primary refuses Holdover's own credential.
    pub offboarded: Option<Offboarded>,
    /// What the primary said last.
    pub known: Arc<Known>,
}

impl Authority {
    /// The same as if nothing were in quarantine.
    #[must_use]
    pub fn without_quarantines(&self) -> Self {
        let mut authority = self.clone();
        let known = Arc::make_mut(&mut authority.known);
        known.quarantines.clear();
        known.lost.mend_all(Kind::Quarantine);
        authority
    }

    /// What nothing is issued for on this host, if there is such a thing.
    pub fn issuing_blocked(&self) -> Option<IssuingBlock> {
        let issue_after_reboot = self.settings.bounds.issue_after_reboot;
        self.blocks.standing(issue_after_reboot).next()
    }
}

impl Deref for Authority {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
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

/// A grant as it lives: the record, and whether it was revoked or refused, which is seen at once.
pub struct LiveGrant {
    /// The record.
    pub grant: Grant,
    /// Set once.
    pub revoked: OnceLock<Revocation>,
    /// When the primary last refused it, in milliseconds since the Unix epoch, as far as that is not in the record yet.
    doubted: AtomicI64,
    /// When a client last used it, likewise; a start forgets it.
    used: AtomicI64,
    /// Whose it is: the user who brought it or used it last; -1 if that is not known.
    user: AtomicI64,
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

    /// Who decides, now. Load it once per request.
    pub fn authority(&self) -> Guard<Arc<Authority>> {
        self.authority.load()
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

    /// The grant behind a token, revoked or not.
    pub fn grant(&self, digest: &TokenDigest) -> Option<Arc<LiveGrant>> {
        self.grants.pin().get(digest).cloned()
    }

    /// The grant that an accessor names.
    pub fn grant_by_accessor(&self, accessor: &Accessor) -> Option<Arc<LiveGrant>> {
        let digest = *self.accessors.pin().get(accessor)?;
        self.grant(&digest)
    }

    /// Every grant, revoked ones included, in no order.
    pub fn grants(&self) -> Vec<Arc<LiveGrant>> {
        self.grants.pin().values().cloned().collect()
    }

    /// Whether there is such a grant, revoked ones included.
    pub(crate) fn any_grant(&self, is_such: impl Fn(&Grant) -> bool) -> bool {
        let grants = self.grants.pin();
        grants.values().any(|live| is_such(&live.grant))
    }

    /// The revocation of a token, whether or not its grant is known.
    pub fn revocation(&self, digest: &TokenDigest) -> Option<Revocation> {
        let known = self
            .grant(digest)
            .and_then(|live| live.revoked.get().cloned());
        known
            .or_else(|| self.struck.pin().get(digest).cloned())
            .or_else(|| self.lost_revocation(digest))
    }

    /// A token was given to a client of this user.
    pub fn given(&self, digest: &TokenDigest, uid: u32) {
        if let Some(live) = self.grant(digest) {
            self.is_of(&live, uid);
        }
    }

    /// A client of this user used a token at `at`.
    pub fn used(&self, digest: &TokenDigest, uid: u32, at: WallTime) {
        if let Some(live) = self.grant(digest) {
            live.used.fetch_max(at.as_millis(), Ordering::Relaxed);
            self.is_of(&live, uid);
        }
    }

    /// A token is this user's from here on.
    fn is_of(&self, live: &LiveGrant, uid: u32) {
        let user = i64::from(uid);
        if live.user.load(Ordering::Relaxed) == user {
            return;
        }
        let mut counts = self.owners.lock();
        // It may have been replaced or forgotten since; that one counts.
        let grants = self.grants.pin();
        let Some(live) = grants.get(&live.grant.digest) else {
            return;
        };
        counts.remove(live.owner());
        live.user.store(user, Ordering::Relaxed);
        counts.add(live.owner());
    }

    /// Whether a lease was revoked here, and the primary does not know of it yet.
    pub fn is_lease_revoked_here(&self, lease: &LeaseId) -> bool {
        let queue = self.queue.pin();
        queue.values().any(|queued| match &queued.target {
            RevocationTarget::Lease(target) => target == lease,
            RevocationTarget::Token(_) => false,
        })
    }

    /// How many revocations wait for the primary: of everybody, and of those that `peer` asked for.
    pub(crate) fn waiting_revocations(&self, peer: Option<&PeerId>) -> RevocationsWaiting {
        let queue = self.queue.pin();
        let of_one = |queued: &&Arc<QueuedRevocation>| {
            queued.requested_by.is_some() && queued.peer.as_ref() == peer
        };
        RevocationsWaiting {
            all: queue.len(),
            of_one: queue.values().filter(of_one).count(),
        }
    }

    /// How many revocations of what nobody got wait for the primary: of everything, and of what this user asked for.
    pub fn unclaimed(&self, uid: u32) -> RevocationsWaiting {
        let queue = self.queue.pin();
        let of = |wanted: fn(u32, u32) -> bool| {
            let askers = queue.values().filter_map(|queued| queued.unclaimed_by);
            askers.filter(|by| wanted(*by, uid)).count()
        };
        RevocationsWaiting {
            all: of(|_, _| true),
            of_one: of(|by, uid| by == uid),
        }
    }

    /// A token that Holdover presents.
    pub fn credential(&self, name: &CredentialName) -> Option<Arc<HeldCredential>> {
        self.credentials.pin().get(name).cloned()
    }

    /// The revocations that the primary has yet to be told of, oldest id first.
    pub fn queue(&self) -> Vec<Arc<QueuedRevocation>> {
        let mut queue: Vec<_> = self.queue.pin().values().cloned().collect();
        queue.sort_by_key(|queued| queued.id);
        queue
    }

    /// The keys: for digests and for opening values.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Changes what binds at once. Readers and the writer may do so at the same time.
    fn bind(&self, change: impl Fn(&mut Authority)) {
        self.authority.rcu(|current| {
            let mut next = Authority::clone(current);
            change(&mut next);
            next
        });
    }

    /// Replaces the configuration's part in decisions.
    pub(crate) fn set_settings(&self, settings: &Arc<Settings>) {
        self.bind(|authority| {
            authority.settings = Arc::clone(settings);
            authority.settings_version = authority.settings_version.wrapping_add(1);
        });
    }

    /// Pauses issuing, or lets it go on.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.bind(|authority| authority.paused = paused);
    }

    /// Says whether the replica is older than its anchor.
    pub(crate) fn set_rolled_back(&self, rolled_back: bool) {
        self.bind(|authority| authority.rolled_back = rolled_back);
    }

    /// Nothing is issued for this reason from here on.
    pub(crate) fn block_issuing(&self, block: IssuingBlock) {
        self.bind(|authority| authority.blocks.add(block));
    }

    /// The same, no longer. The writer's alone.
    pub(crate) fn lift_block(&self, cause: BlockCause) {
        self.bind(|authority| authority.blocks.remove(cause));
    }

    /// The machine's state is this from here on.
    pub(crate) fn set_phase(&self, record: &PhaseRecord) {
        self.bind(|authority| {
            authority.phase = record.phase.clone();
            authority.epoch = record.epoch;
            authority.proven_from = record.proven_from;
        });
    }

    /// Says since when the primary refuses Holdover's own credential.
    pub(crate) fn set_offboarded(&self, since: Option<Offboarded>) {
        self.bind(|authority| authority.offboarded = since);
    }

    /// Publishes what is known. The writer's alone.
    pub(crate) fn set_known(&self, known: Known) {
        let known = Arc::new(known);
        self.bind(|authority| authority.known = Arc::clone(&known));
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

    /// Publishes a queued revocation, or that it is done. The writer's alone.
    pub(crate) fn set_queued(&self, id: u64, queued: Option<Arc<QueuedRevocation>>) {
        let queue = self.queue.pin();
        match queued {
            Some(queued) => queue.insert(id, queued),
            None => queue.remove(&id),
        };
    }

    /// Refuses the token from here on, whether its grant is here, on its way, or unknown.
    pub(crate) fn strike(&self, revocation: &Revocation) {
        let digest = revocation.digest;
        self.struck.pin().get_or_insert(digest, revocation.clone());
        // Against `put_grant` on the writer: each side writes its own, then reads the other's. With the fences one
        // of them sees the other.
        fence(Ordering::SeqCst);
        if let Some(live) = self.grants.pin().get(&digest) {
            let _ = live.revoked.set(revocation.clone());
        }
    }

    /// Publishes a revocation that is durable: what marks it from here on is its grant, if there is one. The writer's
    /// alone.
    pub(crate) fn put_revocation(&self, revocation: &Revocation) {
        self.strike(revocation);
        let digest = &revocation.digest;
        let grants = self.grants.pin();
        let live = grants.get(digest);
        if live.is_some_and(|live| live.revoked.get().is_some()) {
            self.struck.pin().remove(digest);
        }
    }

    /// The primary refused a token, which binds before it is durable.
    pub(crate) fn doubt_token(&self, digest: &TokenDigest, at: WallTime) {
        if let Some(live) = self.grant(digest) {
            live.doubt(at);
        }
    }

    /// Publishes a grant. The writer's alone.
    pub(crate) fn put_grant(&self, live: &Arc<LiveGrant>) {
        let digest = live.grant.digest;
        let mut counts = self.owners.lock();
        let grants = self.grants.pin();
        let before = grants.insert(digest, Arc::clone(live));
        let accessors = self.accessors.pin();
        if let Some(before) = before {
            counts.remove(before.owner());
            live.doubt(WallTime::from_millis(
                before.doubted.load(Ordering::Relaxed),
            ));
            let used = before.used.load(Ordering::Relaxed);
            live.used.fetch_max(used, Ordering::Relaxed);
            let user = before.user.load(Ordering::Relaxed);
            live.user.fetch_max(user, Ordering::Relaxed);
            if let Some(revocation) = before.revoked.get() {
                let _ = live.revoked.set(revocation.clone());
            }
            if before.grant.accessor != live.grant.accessor {
                accessors.remove(&before.grant.accessor);
            }
        }
        counts.add(live.owner());
        drop(counts);
        accessors.insert(live.grant.accessor.clone(), digest);
        fence(Ordering::SeqCst);
        if let Some(revocation) = self.struck.pin().get(&digest) {
            let _ = live.revoked.set(revocation.clone());
        }
    }

    /// Forgets a grant and its revocation. The writer's alone.
    pub(crate) fn forget_grant(&self, digest: &TokenDigest) {
        let mut counts = self.owners.lock();
        let grants = self.grants.pin();
        if let Some(live) = grants.remove(digest) {
            counts.remove(live.owner());
            self.accessors.pin().remove(&live.grant.accessor);
        }
        self.struck.pin().remove(digest);
    }
}

impl LiveGrant {
    /// A grant that nobody has revoked.
    pub fn new(grant: Grant) -> Self {
        Self {
            grant,
            revoked: OnceLock::new(),
            doubted: AtomicI64::new(0),
            used: AtomicI64::new(0),
            user: AtomicI64::new(-1),
        }
    }

    /// When a client was last seen to use it.
    pub fn last_used(&self) -> WallTime {
        WallTime::from_millis(self.used.load(Ordering::Relaxed))
    }

    /// Whose it is, as far as that is known.
    fn owner(&self) -> Owner {
        let user = u32::try_from(self.user.load(Ordering::Relaxed)).ok();
        user.or_else(|| self.grant.peer.as_ref().map(|peer| peer.uid))
    }

    /// Whether it was neither revoked nor has ended.
    fn lives(&self, now: Now) -> bool {
        self.revoked.get().is_none() && !self.grant.deadline.passed(now)
    }

    /// Whether the primary refused it since it last proved it.
    pub fn is_doubted(&self) -> bool {
        let at = WallTime::from_millis(self.doubted.load(Ordering::Relaxed));
        self.grant.is_doubted() || self.grant.verified_at < at
    }

    fn doubt(&self, at: WallTime) {
        self.doubted.fetch_max(at.as_millis(), Ordering::Relaxed);
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
