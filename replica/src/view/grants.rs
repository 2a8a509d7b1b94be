//! Grants as they live: found by their token or accessor, each with its owner, and refused at once where they are revoked.

use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicI64, Ordering, fence},
};

use shared::{
    grant::{Grant, Revocation},
    name::{Accessor, TokenDigest},
    time::{Now, WallTime},
};

use super::{Owner, View};

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
    pub(super) fn owner(&self) -> Owner {
        let user = u32::try_from(self.user.load(Ordering::Relaxed)).ok();
        user.or_else(|| self.grant.peer.as_ref().map(|peer| peer.uid))
    }

    /// Whether it was neither revoked nor has ended.
    pub(super) fn lives(&self, now: Now) -> bool {
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
