//! Tokens that clients use: those seen for the first time are looked up, and those known are followed.
//!
//! A token in use is proven by its own forwarded requests. One that was used in the last hour but is idle is looked up
//! every `token_check_interval`, any other six times more rarely, and each once more when its end has come: its owner
//! may have renewed it elsewhere.

mod watch;

use std::{sync::PoisonError, time::Duration};

use replica::{learn::grant_from_lookup, view::LiveGrant};
use shared::{
    change::Change,
    grant::{Origin, Revocation, RevokeCause},
    name::TokenDigest,
    secret::SecretText,
    time::Now,
    token::TokenKind,
};
use tokio::{sync::mpsc, task::JoinSet};

pub(super) use self::watch::TokenWatch;
use super::{
    Mirrors, PassError, SeenCredential,
    cycle::{Cycle, Pace},
    index::{Quiet, Still},
};
use crate::upstream::{UpstreamError, backoff::Backoff, lookup::LookedUp, pace::Urgency};

/// Look-ups at the same time.
const CONCURRENCY: usize = 4;

/// A token whose look-up failed until the pauses grew past this waits until it is used again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A token that the primary accepted and the replica does not know yet.
pub struct SeenToken {
    /// The token.
    pub token: SecretText,
    /// What stands for it.
    pub digest: TokenDigest,
}

/// Since when nothing was written anywhere.
#[derive(Default)]
struct Stillness {
    quiet: Quiet,
    still: Still,
}

/// Whether it is a token of the primary's that can be looked up by its accessor.
fn is_followed(live: &LiveGrant) -> bool {
    let grant = &live.grant;
    live.revoked.get().is_none()
        && matches!(grant.origin, Origin::Primary | Origin::Learned)
        && grant.facts.kind == TokenKind::Service
}

impl Mirrors {
    /// Looks up what was seen for the first time, until the queue's other end is gone.
    pub(super) async fn learn(self, mut seen: mpsc::Receiver<SeenCredential>) {
        let mut asked = JoinSet::new();
        while let Some(request) = seen.recv().await {
            while asked.len() >= CONCURRENCY {
                let _ = asked.join_next().await;
            }
            let mirrors = self.clone();
            asked.spawn(async move {
                let learned = match request {
                    SeenCredential::Login(candidate) => mirrors.learn_login(*candidate).await,
                    SeenCredential::Token(token) => mirrors.learn_one(&token).await,
                };
                if let Err(error @ PassError::Upstream(UpstreamError::Decision { .. })) = &learned {
                    tracing::warn!(%error, "the primary does not show what a client brought: does the policy have every rule of `config policy`?");
                } else if let Err(error) = learned {
                    tracing::debug!(%error, "what a client brought could not be looked up; its next use asks again");
                }
            });
        }
    }

    /// Looks one token up, again after a while where the primary did not say anything.
    async fn learn_one(&self, request: &SeenToken) -> Result<(), PassError> {
        let mut backoff = Backoff::default();
        loop {
            self.until_it_can_ask().await;
            let now = self.0.local.clock.now();
            let error = match self.0.upstream.lookup_token(&request.token).await {
                Ok(looked_up) => return self.take_up(request.digest, &looked_up, now).await,
                Err(error) if error.says_dead() => return self.strike(request.digest, now).await,
                Err(error) => error,
            };
            let pause = backoff.next(self.0.upstream.jitter());
            if matches!(error, UpstreamError::Decision { .. }) || pause > LONGEST_PAUSE {
                return Err(error.into());
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Follows known tokens until the daemon stops.
    pub(super) async fn follow_tokens(self) {
        let mut cycle = Cycle::new(watch::look_interval(self.0.token_check_interval));
        let mut still = Stillness::default();
        loop {
            self.rest(&mut cycle, Pace::Usual).await;
            match self.check_tokens(&mut still).await {
                Ok(()) | Err(PassError::Paused) => cycle.succeeded(),
                Err(error) => {
                    cycle.failed();
                    tracing::warn!(%error, "tokens could not be looked up");
                }
            }
        }
    }

    async fn check_tokens(&self, still: &mut Stillness) -> Result<(), PassError> {
        let now = self.0.local.clock.now();
        let grants = self.0.local.view.grants();
        let followed = grants.iter().filter(|live| is_followed(live));
        let followed: Vec<_> = followed.map(|live| &live.grant).collect();
        let due = self.with_watch(|watch| watch.due(&followed, self.0.token_check_interval, now));
        let due = self.refresh_still(due, still, now).await?;
        for batch in due.chunks(CONCURRENCY) {
            if self.is_paused() {
                return Err(PassError::Paused);
            }
            let mut checks = JoinSet::new();
            for digest in batch {
                let (mirrors, digest) = (self.clone(), *digest);
                checks.spawn(async move { mirrors.check_token(digest).await });
            }
            for checked in checks.join_all().await {
                checked?;
            }
        }
        Ok(())
    }

    /// Of `due` tokens those that must be asked about. Of the others it is known that nothing was written since.
    async fn refresh_still(
        &self,
        due: Vec<TokenDigest>,
        still: &mut Stillness,
        now: Now,
    ) -> Result<Vec<TokenDigest>, PassError> {
        if due.is_empty() {
            return Ok(due);
        }
        let observed = still
            .quiet
            .observe(&self.0.upstream, Urgency::Mirror)
            .await?;
        let since = still.still.since(observed, now.steady);
        let (mut ask, mut changes) = (Vec::new(), Vec::new());
        for digest in due {
            let Some(live) = self.0.local.view.grant(&digest) else {
                continue;
            };
            if self.with_watch(|watch| watch.prove_still(&live.grant, since, now)) {
                // Its moment alone: a renewal may be on its way to the writer.
                changes.push(Change::Proven(digest, now.steady));
            } else {
                ask.push(digest);
            }
        }
        self.commit(changes).await?;
        Ok(ask)
    }

    /// Looks a token up outside of its turn, if it is one that can be.
    pub(super) async fn recheck_token(&self, digest: TokenDigest) -> Result<(), PassError> {
        match self.0.local.view.grant(&digest) {
            Some(live) if is_followed(&live) => self.check_token(digest).await,
            _ => Ok(()),
        }
    }

    async fn check_token(&self, digest: TokenDigest) -> Result<(), PassError> {
        let Some(live) = self.0.local.view.grant(&digest) else {
            return Ok(());
        };
        let now = self.0.local.clock.now();
        let accessor = &live.grant.accessor;
        let upstream = &self.0.upstream;
        match upstream
            .lookup_accessor(accessor, Some(Urgency::Mirror))
            .await
        {
            Ok(looked_up) => {
                self.with_watch(|watch| watch.looked_up(digest, now.steady));
                self.take_up(digest, &looked_up, now).await
            }
            Err(error) if error.says_dead() => self.strike(digest, now).await,
            Err(error @ UpstreamError::Decision { .. }) => {
                // Not allowed to look tokens up: not again before the next interval, and nothing is learned of it.
                self.with_watch(|watch| watch.looked_up(digest, now.steady));
                Err(error.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn take_up(
        &self,
        digest: TokenDigest,
        looked_up: &LookedUp,
        now: Now,
    ) -> Result<(), PassError> {
        let view = &self.0.local.view;
        let change = grant_from_lookup(view, &digest, looked_up.data.expose(), now);
        self.commit(change.into_iter().collect()).await
    }

    /// The primary said that a token is dead. One that is not known here needs no revocation.
    async fn strike(&self, digest: TokenDigest, now: Now) -> Result<(), PassError> {
        let Some(live) = self.0.local.view.grant(&digest) else {
            return Ok(());
        };
        if live.revoked.get().is_some() || live.grant.is_replica() {
            return Ok(());
        }
        let revoked = Revocation::of(&live.grant, RevokeCause::Primary, now.steady);
        self.commit_revocation(Change::Revoked(revoked)).await
    }

    fn with_watch<T>(&self, act: impl FnOnce(&mut TokenWatch) -> T) -> T {
        act(&mut self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
