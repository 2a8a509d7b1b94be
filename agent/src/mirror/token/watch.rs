//! When each followed token is due to be looked up. Pure.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    time::Duration,
};

use shared::{
    grant::Grant,
    name::TokenDigest,
    time::{Now, WallTime},
};

/// A token used within this is followed closely.
const IN_USE: Duration = Duration::from_secs(3600);

/// How much more rarely the others are looked up.
const RARER: u32 = 6;

/// How often due look-ups are looked for, at most and at least.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
const LOOKS: u32 = 6;

/// However still the cluster stands, a token is looked up again after this.
const LOOKED_UP_EVERY: Duration = Duration::from_secs(3600);

/// A token that is followed.
#[derive(Clone, Copy)]
pub(super) struct Followed<'a> {
    /// What is known of it.
    pub(super) grant: &'a Grant,
    /// When it was last used, as far as that was seen otherwise than by its proofs.
    pub(super) used: WallTime,
}

/// What is remembered of the tokens that are followed.
#[derive(Default)]
pub(super) struct TokenWatch {
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

impl Default for FollowedToken {
    fn default() -> Self {
        Self {
            looked_up: WallTime::EPOCH,
            proven: WallTime::EPOCH,
            used: WallTime::EPOCH,
        }
    }
}

impl TokenWatch {
    /// What is due at `now`: first what an outage would not decide by, because nothing proved it since `proven_from`, the last
    /// used first; then the others, the longest unproven first. A proof that is not from here says that the token is used.
    pub(super) fn due(
        &mut self,
        tokens: &[Followed<'_>],
        interval: Duration,
        proven_from: Option<WallTime>,
        now: Now,
    ) -> Vec<TokenDigest> {
        let live: HashSet<_> = tokens.iter().map(|token| token.grant.digest).collect();
        self.known.retain(|digest, _| live.contains(digest));
        let (mut unproven, mut due) = (Vec::new(), Vec::new());
        for Followed { grant, used } in tokens {
            let seen = self.seen(grant.digest);
            if grant.verified_at > seen.proven {
                seen.used = seen.used.max(grant.verified_at);
            }
            seen.used = seen.used.max(*used);
            if proven_from > Some(grant.verified_at.max(seen.looked_up)) {
                unproven.push((Reverse(seen.used), grant.digest));
            } else if is_due(grant, *seen, interval, now) {
                due.push((grant.verified_at, grant.digest));
            }
        }
        unproven.sort_unstable();
        due.sort_unstable();
        let unproven = unproven.into_iter().map(|(_, digest)| digest);
        unproven
            .chain(due.into_iter().map(|(_, digest)| digest))
            .collect()
    }

    /// A token was looked up, with or without an answer, at `at`.
    pub(super) fn looked_up(&mut self, digest: TokenDigest, at: WallTime) {
        let seen = self.seen(digest);
        seen.looked_up = at;
        seen.proven = at;
    }

    /// Proves a token as of `now` without a look-up, if nothing was written anywhere since it was proven. Whether it did.
    pub(super) fn prove_still(
        &mut self,
        grant: &Grant,
        still_since: Option<WallTime>,
        now: Now,
    ) -> bool {
        let seen = self.seen(grant.digest);
        let lately = now.steady.since(seen.looked_up.max(seen.used)) < LOOKED_UP_EVERY;
        let still = still_since.is_some_and(|since| grant.verified_at >= since);
        let proven = lately && still && !grant.deadline.passed_for_good(now);
        if proven {
            seen.proven = now.steady;
        }
        proven
    }

    fn seen(&mut self, digest: TokenDigest) -> &mut FollowedToken {
        self.known.entry(digest).or_default()
    }
}

fn is_due(grant: &Grant, seen: FollowedToken, interval: Duration, now: Now) -> bool {
    // Refused, and not asked about since.
    if grant.is_doubted() && grant.doubted_at > Some(seen.looked_up) {
        return true;
    }
    let proven = grant.verified_at.max(seen.looked_up);
    // Ended by our record, and not asked about since.
    if grant.deadline.passed_for_good(now) {
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

pub(super) fn look_interval(interval: Duration) -> Duration {
    LOOK_INTERVAL.min(interval / LOOKS)
}

/// A tenth earlier or not at all: tokens learned together are not looked up together.
fn spread(interval: Duration, digest: TokenDigest) -> Duration {
    let byte = digest.0.first().copied().unwrap_or(0);
    interval.mul_f64(1.0 - f64::from(byte) / 2560.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared::{grant::Origin, time::Deadline};

    use crate::samples::{self, at};

    const INTERVAL: Duration = Duration::from_secs(300);

    /// A token proven at `verified` that ends at `ends`.
    fn grant(verified: u64, ends: u64) -> Grant {
        Grant {
            verified_at: at(verified).steady,
            ..samples::grant(0, Origin::Primary, Duration::from_secs(ends), at(0))
        }
    }

    fn due(watch: &mut TokenWatch, grant: &Grant, now: Now) -> Vec<TokenDigest> {
        let used = WallTime::EPOCH;
        watch.due(&[Followed { grant, used }], INTERVAL, None, now)
    }

    /// When a token that nobody uses is looked up, over `secs`.
    fn look_ups(mut grant: Grant, secs: u64) -> Vec<u64> {
        let mut watch = TokenWatch::default();
        let mut when = Vec::new();
        for second in 0..secs {
            let now = at(second);
            if !due(&mut watch, &grant, now).is_empty() {
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
        let (mut watch, mut grant) = (TokenWatch::default(), grant(0, 100_000));
        for second in 0..7200 {
            grant.verified_at = at(second - second % 60).steady;
            assert!(due(&mut watch, &grant, at(second)).is_empty(), "{second}");
        }
    }

    #[test]
    fn a_token_is_asked_about_once_when_its_end_has_come() {
        let (mut watch, grant) = (TokenWatch::default(), grant(0, 100));
        assert!(due(&mut watch, &grant, at(99)).is_empty());
        // By a wall clock that nothing confirms it is asked about no sooner, nor over and over.
        assert!(due(&mut watch, &grant, samples::ahead(at(99))).is_empty());
        assert_eq!(due(&mut watch, &grant, at(100)).len(), 1);
        watch.looked_up(grant.digest, at(100).steady);
        for second in 100..10_000 {
            assert!(due(&mut watch, &grant, at(second)).is_empty(), "{second}");
        }
    }

    #[test]
    fn a_token_that_was_refused_is_asked_about_until_there_is_an_answer() {
        let (mut watch, proven) = (TokenWatch::default(), grant(100, 100_000));
        let doubted = Grant {
            doubted_at: Some(at(101).steady),
            ..proven
        };
        assert_eq!(due(&mut watch, &doubted, at(101)).len(), 1);
        assert_eq!(due(&mut watch, &doubted, at(102)).len(), 1);
        // One that says neither, such as that Holdover may not look it up.
        watch.looked_up(doubted.digest, at(103).steady);
        assert!(due(&mut watch, &doubted, at(104)).is_empty());
        let again = Grant {
            doubted_at: Some(at(104).steady),
            ..doubted
        };
        assert_eq!(due(&mut watch, &again, at(104)).len(), 1);
    }

    #[test]
    fn a_still_cluster_proves_what_was_proven_since_and_not_for_ever() {
        let (mut watch, mut grant) = (TokenWatch::default(), grant(100, 100_000));
        watch.looked_up(grant.digest, at(100).steady);
        let since = |secs: u64| Some(at(secs).steady);
        assert!(watch.prove_still(&grant, since(100), at(500)));
        assert!(!watch.prove_still(&grant, since(101), at(500)));
        assert!(!watch.prove_still(&grant, None, at(500)));
        grant.verified_at = at(3000).steady;
        assert!(!watch.prove_still(&grant, since(100), at(3700)));
        let ended = Grant {
            deadline: Deadline::after(Duration::from_secs(400), at(0)),
            ..grant
        };
        assert!(!watch.prove_still(&ended, since(100), at(500)));
    }

    #[test]
    fn what_nothing_proved_since_an_outage_goes_first_and_of_that_what_was_used_last() {
        let mut watch = TokenWatch::default();
        let of = |nr: u8, verified| Grant {
            digest: TokenDigest([nr; 32]),
            ..grant(verified, 100_000)
        };
        let grants = [of(1, 10), of(2, 20), of(3, 30), of(4, 200), of(5, 40)];
        let used = [90, 15, 95, 15, 15].map(|secs| at(secs).steady);
        let tokens = grants.iter().zip(used);
        let tokens: Vec<_> = tokens
            .map(|(grant, used)| Followed { grant, used })
            .collect();
        let mut due = |from, now| {
            let due = watch.due(&tokens, INTERVAL, Some(at(from).steady), at(now));
            due.iter().map(|digest| digest.0[0]).collect::<Vec<_>>()
        };
        assert_eq!(due(100, 201), [3, 1, 5, 2]);
        // Asked about since, whatever was said.
        for nr in [3, 1, 5, 2] {
            watch.looked_up(TokenDigest([nr; 32]), at(202).steady);
        }
        assert!(
            watch
                .due(&tokens, INTERVAL, Some(at(100).steady), at(203))
                .is_empty()
        );
    }

    #[test]
    fn tokens_learned_together_are_not_looked_up_together() {
        let later = |byte: u8| spread(INTERVAL, TokenDigest([byte; 32]));
        assert!(later(0) > later(128) && later(128) > later(255));
        assert!(later(255) >= INTERVAL * 9 / 10 && later(0) <= INTERVAL);
    }
}
