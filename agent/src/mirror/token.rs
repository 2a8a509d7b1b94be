//! Tokens that clients use, followed: what became of each is asked in time.
//!
//! A token in use is proven by its own forwarded requests. One that was used in the last hour but is idle is looked up
//! every `token_check_interval`, any other six times more rarely, and each once more when its end has come: its owner
//! may have renewed it elsewhere. One that the primary refused is looked up at once.

mod watch;

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use replica::{
    learn::grant_from_lookup,
    sequencer::Lane,
    view::{LiveGrant, Owner},
};
use shared::{
    change::Change,
    grant::{Origin, Revocation, RevokeCause},
    name::{Accessor, Namespace, TokenDigest},
    time::Now,
    token::TokenKind,
};
use tokio::task::JoinSet;

use self::watch::{Followed, TokenWatch};
use super::{
    PassError,
    context::MirrorContext,
    cycle::{self, Cycle, Pace},
    index::Still,
    read::is_cut_off,
    status::UnreadPaths,
};
use crate::upstream::{UpstreamError, lookup::LookedUp, pace::Urgency};

/// Look-ups at the same time.
pub(super) const CONCURRENCY: usize = 4;

/// Follows the tokens that clients use.
pub(super) struct TokenFollower {
    pub(super) context: Arc<MirrorContext>,
    /// Between two look-ups of a token that was used lately.
    interval: Duration,
    watch: Mutex<TokenWatch>,
}

/// The accessor by which the primary is asked about a token that lives here: of an exchanged one, that of the token which
/// stands behind it.
fn followed_by<'a>(live: &'a LiveGrant, namespace: &Namespace) -> Option<&'a Accessor> {
    let grant = &live.grant;
    let followed = match grant.origin {
        Origin::Primary | Origin::Learned => grant.facts.kind == TokenKind::Service,
        Origin::Replica(_) => true,
        Origin::LimitedUse => false,
    };
    let asked = followed && live.revoked.get().is_none() && grant.namespace == *namespace;
    grant.at_primary().filter(|_| asked)
}

impl TokenFollower {
    pub(super) fn new(context: Arc<MirrorContext>, interval: Duration) -> Self {
        Self {
            context,
            interval,
            watch: Mutex::default(),
        }
    }

    /// Follows known tokens until the daemon stops.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut cycle = Cycle::new(watch::look_interval(self.interval));
        let mut still = Still::default();
        loop {
            self.rest(&mut cycle).await;
            match self.check_due(&mut still).await {
                Ok(()) | Err(PassError::Paused) => cycle.succeeded(),
                Err(error) => {
                    cycle.failed();
                    tracing::warn!(%error, "tokens could not be looked up");
                }
            }
        }
    }

    /// Rests until the next look is due. After an outage it is due at once: until then another one would not decide by what
    /// was last proven before.
    async fn rest(&self, cycle: &mut Cycle) {
        let proven_from = || self.context.local.view.authority().proven_from;
        let before = proven_from();
        let ended = async {
            while self.context.is_paused() || proven_from() == before {
                tokio::time::sleep(cycle::PAUSED_LOOK).await;
            }
        };
        let pause = cycle.pause(Pace::Usual, self.context.upstream.jitter());
        let _ = tokio::time::timeout(pause, ended).await;
        while self.context.is_paused() {
            tokio::time::sleep(cycle::PAUSED_LOOK).await;
        }
    }

    async fn check_due(self: &Arc<Self>, still: &mut Still) -> Result<(), PassError> {
        let now = self.context.now();
        let due = self.due(now);
        let due = self.prove_still(due, still, now).await?;
        if due.is_empty() {
            return Ok(());
        }
        let mut unread = UnreadPaths::default();
        for batch in due.chunks(CONCURRENCY) {
            if self.context.is_paused() {
                return Err(PassError::Paused);
            }
            let mut checks = JoinSet::new();
            for digest in batch {
                let (follower, digest) = (Arc::clone(self), *digest);
                checks.spawn(async move { follower.check(digest, None).await });
            }
            for checked in checks.join_all().await {
                match checked {
                    Err(error) if !error.ends_pass() => unread.add("a token", error),
                    checked => checked?,
                }
            }
        }
        self.context.note("tokens", unread);
        Ok(())
    }

    /// What is due to be asked about, most urgent first.
    fn due(&self, now: Now) -> Vec<TokenDigest> {
        let view = &self.context.local.view;
        let namespace = &self.context.settings.namespace;
        let grants = view.grants();
        let followed = grants
            .iter()
            .filter(|live| followed_by(live, namespace).is_some());
        let followed = followed.map(|live| Followed {
            grant: &live.grant,
            used: live.last_used(),
        });
        let followed: Vec<_> = followed.collect();
        let proven_from = view.authority().proven_from;
        self.watch
            .lock()
            .due(&followed, self.interval, proven_from, now)
    }

    /// Of `due` tokens those that must be asked about. Of the others it is known that nothing was written since.
    async fn prove_still(
        &self,
        due: Vec<TokenDigest>,
        still: &mut Still,
        now: Now,
    ) -> Result<Vec<TokenDigest>, PassError> {
        if due.is_empty() {
            return Ok(due);
        }
        let context = &self.context;
        let since = still.observe(context, Urgency::Mirror, now.steady);
        let since = since.await?;
        let (mut ask, mut changes) = (Vec::new(), Vec::new());
        for digest in due {
            let Some(live) = context.local.view.grant(&digest) else {
                continue;
            };
            let doubted = live.is_doubted();
            if !doubted && self.watch.lock().prove_still(&live.grant, since, now) {
                // Its moment alone: a renewal may be on its way to the writer.
                changes.push(Change::Proven(digest, now.steady));
            } else {
                ask.push(digest);
            }
        }
        context.commit(changes).await?;
        Ok(ask)
    }

    /// Looks a token up outside of its turn, if it is one that can be.
    pub(super) async fn recheck(&self, digest: TokenDigest) -> Result<(), PassError> {
        self.check(digest, None).await
    }

    /// The same to settle after an outage.
    pub(super) async fn prove(&self, digest: TokenDigest) -> Result<(), PassError> {
        self.check(digest, Some(Urgency::Recovery)).await
    }

    /// The same for one that the primary refused; in an outage it waits for the first look after it.
    pub(super) async fn recheck_soon(&self, digest: TokenDigest) -> Result<(), PassError> {
        match self.context.is_paused() {
            true => Ok(()),
            false => self.check(digest, None).await,
        }
    }

    /// Looks a token up, as urgently as said, else as what is known of it asks for.
    async fn check(&self, digest: TokenDigest, urgency: Option<Urgency>) -> Result<(), PassError> {
        let Some(live) = self.context.local.view.grant(&digest) else {
            return Ok(());
        };
        let Some(accessor) = followed_by(&live, &self.context.settings.namespace) else {
            return Ok(());
        };
        let now = self.context.now();
        let upstream = &self.context.upstream;
        let urgency = urgency.unwrap_or_else(|| self.urgency(&live));
        let answer = upstream.lookup_accessor(accessor, Some(urgency)).await;
        // One that Holdover may not look up, or of which nothing can be read, waits for its next interval as well, and
        // nothing is learned of it.
        if answer
            .as_ref()
            .map_or_else(|error| !error.says_dead() && !is_cut_off(error), |_| true)
        {
            self.watch.lock().looked_up(digest, now.steady);
        }
        self.accept(digest, answer, None, now).await
    }

    fn urgency(&self, live: &LiveGrant) -> Urgency {
        let proven_from = self.context.local.view.authority().proven_from;
        let unproven = proven_from > Some(live.grant.verified_at);
        match unproven || live.is_doubted() {
            true => Urgency::Authority,
            false => Urgency::Mirror,
        }
    }

    /// Stores what the primary said of a token: what it is, or that it is dead. A new one is of `owner`, who brought it.
    pub(super) async fn accept(
        &self,
        digest: TokenDigest,
        answer: Result<LookedUp, UpstreamError>,
        owner: Owner,
        now: Now,
    ) -> Result<(), PassError> {
        let view = &self.context.local.view;
        match answer {
            // The primary takes it no more, but says so only when it has revoked it.
            Ok(looked_up) if looked_up.is_over => self.strike(digest, now).await,
            Ok(looked_up) => {
                let change = match view.grant(&digest) {
                    // What the replica issued stays what it is: the token behind it lives.
                    Some(live) if live.grant.is_replica() => {
                        Some(Change::Proven(digest, now.steady))
                    }
                    _ => grant_from_lookup(view, &digest, looked_up.data.expose(), owner, now),
                };
                self.context.commit(change.into_iter().collect()).await?;
                if let Some(uid) = owner {
                    view.given(&digest, uid);
                }
                Ok(())
            }
            Err(error) if error.says_dead() => self.strike(digest, now).await,
            Err(error) => Err(error.into()),
        }
    }

    /// The primary said that a token is dead. One that is not known here needs no revocation.
    async fn strike(&self, digest: TokenDigest, now: Now) -> Result<(), PassError> {
        let Some(live) = self.context.local.view.grant(&digest) else {
            return Ok(());
        };
        if live.revoked.get().is_some() {
            return Ok(());
        }
        let revocation = Revocation::of(&live.grant, RevokeCause::Primary, now.steady);
        let revoked = Change::Revoked(revocation);
        // Before everything else that waits to be stored, because until then the token is still answered for.
        let lane = Lane::Revocation;
        self.context.commit_in(lane, vec![revoked]).await
    }
}
