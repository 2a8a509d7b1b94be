//! Tokens that clients use: those seen for the first time are looked up, and those known are followed.
//!
//! A token in use is proven by its own forwarded requests. One that was used in the last hour but is idle is looked up
//! every `token_check_interval`, any other six times more rarely, and each once more when its end has come: its owner
//! may have renewed it elsewhere.

use std::{
    collections::{HashMap, HashSet},
    sync::PoisonError,
    time::Duration,
};

use replica::{learn::grant_from_lookup, view::LiveGrant};
use shared::{
    change::Change,
    grant::{Grant, Origin, Revocation, RevokeCause},
    name::TokenDigest,
    secret::SecretText,
    time::{Now, WallTime},
    token::TokenKind,
};
use tokio::{sync::mpsc, task::JoinSet};

use super::{
    Mirrors, PassError, SeenCredential,
    cycle::{Cycle, Pace},
    index::{Quiet, Still},
};
use crate::upstream::{UpstreamError, backoff::Backoff, lookup::LookedUp, pace::Urgency};

/// A token used within this is followed closely.
const IN_USE: Duration = Duration::from_secs(3600);

/// How much more rarely the others are looked up.
const RARER: u32 = 6;

/// Look-ups at the same time.
const CONCURRENCY: usize = 4;

/// A token whose look-up failed until the pauses grew past this waits until it is used again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// How often due look-ups are looked for, at most and at least.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const LOOKS: u32 = 6;

/// A token that the primary accepted and the replica does not know yet.
pub struct SeenToken {
    /// The token.
    pub token: SecretText,
    /// What stands for it.
    pub digest: TokenDigest,
}

/// However still the cluster stands, a token is looked up again after this.
const LOOKED_UP_EVERY: Duration = Duration::from_secs(3600);

/// What is remembered of the tokens that are followed.
#[derive(Default)]
pub(super) struct Watch {
    known: HashMap<TokenDigest, FollowedToken>,
}

/// What is known of one token besides its grant.
#[derive(Clone, Copy)]
struct FollowedToken {
    /// When it was last looked up here.
    looked_up: WallTime,
    /// When it was last proven here, by a look-up or because nothing was written anywhere.
    proven: WallTime,
    /// When it was last seen used.
    used: WallTime,
}

/// Since when nothing was written anywhere.
#[derive(Default)]
struct Stillness {
    quiet: Quiet,
    still: Still,
}

impl Watch {
    /// What is due at `now`, the longest unproven first. A proof that is not from here says that the token is used.
    fn due(&mut self, grants: &[&Grant], interval: Duration, now: Now) -> Vec<TokenDigest> {
        let live: HashSet<_> = grants.iter().map(|grant| grant.digest).collect();
        self.known.retain(|digest, _| live.contains(digest));
        let mut due: Vec<_> = grants
            .iter()
            .filter(|grant| {
                let seen = self.known.entry(grant.digest).or_insert(FollowedToken {
                    looked_up: WallTime::EPOCH,
                    proven: WallTime::EPOCH,
                    used: grant.verified_at,
                });
                if grant.verified_at > seen.proven {
                    seen.used = seen.used.max(grant.verified_at);
                }
                is_due(grant, *seen, interval, now)
            })
            .map(|grant| (grant.verified_at, grant.digest))
            .collect();
        due.sort_unstable();
        due.into_iter().map(|(_, digest)| digest).collect()
    }

    /// A token was looked up, with or without an answer, at `at`.
    fn looked_up(&mut self, digest: TokenDigest, at: WallTime) {
        let seen = self.seen(digest);
        seen.looked_up = at;
        seen.proven = at;
    }

    /// Whether a token need not be looked up at `at`, because nothing was written anywhere since it was proven; then
    /// it is proven as of now.
    fn stands(&mut self, grant: &Grant, still_since: Option<WallTime>, now: Now) -> bool {
        let seen = self.seen(grant.digest);
        let lately = now.steady.since(seen.looked_up.max(seen.used)) < LOOKED_UP_EVERY;
        let still = still_since.is_some_and(|since| grant.verified_at >= since);
        let stands = lately && still && !grant.deadline.passed(now);
        if stands {
            seen.proven = now.steady;
        }
        stands
    }

    fn seen(&mut self, digest: TokenDigest) -> &mut FollowedToken {
        self.known.entry(digest).or_insert(FollowedToken {
            looked_up: WallTime::EPOCH,
            proven: WallTime::EPOCH,
            used: WallTime::EPOCH,
        })
    }
}

fn is_due(grant: &Grant, seen: FollowedToken, interval: Duration, now: Now) -> bool {
    let proven = grant.verified_at.max(seen.looked_up);
    // Ended by our record, and not asked about since.
    if grant.deadline.passed(now) {
        return grant.deadline.wall > seen.looked_up;
    }
    let rarity = if now.steady.since(seen.used) <= IN_USE {
        1
    } else {
        RARER
    };
    // Looked for and asked about within the interval, so that what became of it is known by then.
    let due = (interval * rarity).saturating_sub(look_interval(interval) * 2);
    now.steady.since(proven) >= spread(due, grant.digest)
}

fn look_interval(interval: Duration) -> Duration {
    LOOK_INTERVAL.min(interval / LOOKS)
}

/// A tenth earlier or not at all: tokens learned together are not looked up together.
fn spread(interval: Duration, digest: TokenDigest) -> Duration {
    let byte = digest.0.first().copied().unwrap_or(0);
    interval.mul_f64(1.0 - f64::from(byte) / 2560.0)
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
        let mut cycle = Cycle::new(look_interval(self.0.token_check_interval));
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
            if self.with_watch(|watch| watch.stands(&live.grant, since, now)) {
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

    fn with_watch<T>(&self, act: impl FnOnce(&mut Watch) -> T) -> T {
        act(&mut self.0.tokens.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::time::Deadline;

    use crate::samples::{self, at};

    const INTERVAL: Duration = Duration::from_secs(300);

    /// A token proven at `verified` that ends at `ends`.
    fn grant(verified: u64, ends: u64) -> Grant {
        Grant {
            verified_at: at(verified).steady,
            ..samples::grant(0, Origin::Primary, Duration::from_secs(ends), at(0))
        }
    }

    /// When a token that nobody uses is looked up, over `secs`.
    fn look_ups(mut grant: Grant, secs: u64) -> Vec<u64> {
        let mut watch = Watch::default();
        let mut when = Vec::new();
        for second in 0..secs {
            let now = at(second);
            if !watch.due(&[&grant], INTERVAL, now).is_empty() {
                when.push(second);
                watch.looked_up(grant.digest, now.steady);
                grant.verified_at = now.steady;
            }
        }
        when
    }

    #[test]
    fn an_idle_token_is_looked_up_every_interval_for_an_hour_and_then_six_times_more_rarely() {
        let when = look_ups(grant(0, 100_000), 3 * 3600);
        let (close, rare): (Vec<u64>, Vec<u64>) = when.iter().partition(|at| **at <= 3600);
        assert_eq!(close.len(), 12, "{when:?}");
        assert!(rare.len() <= 4, "{when:?}");
    }

    #[test]
    fn a_token_in_use_is_never_looked_up() {
        let (mut watch, mut grant) = (Watch::default(), grant(0, 100_000));
        for second in 0..7200 {
            grant.verified_at = at(second - second % 60).steady;
            assert!(
                watch.due(&[&grant], INTERVAL, at(second)).is_empty(),
                "{second}"
            );
        }
    }

    #[test]
    fn a_token_is_asked_about_once_when_its_end_has_come() {
        let (mut watch, grant) = (Watch::default(), grant(0, 100));
        assert!(watch.due(&[&grant], INTERVAL, at(99)).is_empty());
        assert_eq!(watch.due(&[&grant], INTERVAL, at(100)).len(), 1);
        watch.looked_up(grant.digest, at(100).steady);
        for second in 100..10_000 {
            assert!(
                watch.due(&[&grant], INTERVAL, at(second)).is_empty(),
                "{second}"
            );
        }
    }

    #[test]
    fn a_still_cluster_proves_what_was_proven_since_and_not_for_ever() {
        let (mut watch, mut grant) = (Watch::default(), grant(100, 100_000));
        watch.looked_up(grant.digest, at(100).steady);
        let since = |secs: u64| Some(at(secs).steady);
        assert!(watch.stands(&grant, since(100), at(500)));
        assert!(!watch.stands(&grant, since(101), at(500)));
        assert!(!watch.stands(&grant, None, at(500)));
        grant.verified_at = at(3000).steady;
        assert!(!watch.stands(&grant, since(100), at(3700)));
        let ended = Grant {
            deadline: Deadline::after(Duration::from_secs(400), at(0)),
            ..grant
        };
        assert!(!watch.stands(&ended, since(100), at(500)));
    }

    #[test]
    fn tokens_learned_together_are_not_looked_up_together() {
        let later = |byte: u8| spread(INTERVAL, TokenDigest([byte; 32]));
        assert!(later(0) > later(128) && later(128) > later(255));
        assert!(later(255) >= INTERVAL * 9 / 10 && later(0) <= INTERVAL);
    }
}
