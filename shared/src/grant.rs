//! Grants: the record behind a token, whoever minted it, and its life from issue to settlement.

use alloc::{boxed::Box, string::String};
use core::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    approle::Basis,
    name::{Accessor, Namespace, OutageId, TokenDigest},
    time::{Deadline, Now, WallTime},
    token::TokenFacts,
    workload::{FailoverPolicy, PeerId},
};

/// The record behind a token. Immutable: what changes it makes a new one.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Grant {
    /// What stands for the token's string.
    pub digest: TokenDigest,
    /// What names it to operators.
    pub accessor: Accessor,
    /// The namespace whose policies decide what it may do.
    #[serde(default, skip_serializing_if = "Namespace::is_root")]
    pub namespace: Namespace,
    /// What a look-up shows.
    pub facts: TokenFacts,
    /// Who minted it, and what follows from that.
    pub origin: Origin,
    /// The token that it hangs on: it is dead with it. None for an orphan, and where the parent is not known.
    #[serde(default)]
    pub parent: Option<TokenDigest>,
    /// The attested peer that it was given to; none for a token that a client brought.
    pub peer: Option<PeerId>,
    /// Refused from here on.
    pub deadline: Deadline,
    /// When the primary last proved it; for a replica grant, the authority that it was issued from.
    pub verified_at: WallTime,
    /// When the primary last refused it in the form in which it refuses tokens: until a proof as of then or later, nothing
    /// is decided by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubted_at: Option<WallTime>,
}

/// Who minted a token, which decides who can end it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// The primary, and a look-up showed all of it.
    Primary,
    /// The primary, but a look-up is still outstanding: known from the answer that carried it.
    Learned,
    /// The primary, with a bounded number of uses, which a copy cannot count: refused in an outage.
    LimitedUse,
    /// The replica, in an outage.
    Replica(ReplicaGrant),
}

/// What a replica grant has beyond other grants.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct ReplicaGrant {
    /// The outage that it was issued in.
    pub outage: OutageId,
    /// When it was issued, on the steady wall clock.
    pub issued_at: WallTime,
    /// The TTL given at issue or last renewal, before outage and longest life cut it, in milliseconds: the policy TTL, or
    /// less where the primary would give less.
    pub ttl_ms: u64,
    /// What the primary's own rules gave at issue or last renewal, in milliseconds: a renewal without an increment asks
    /// for it again.
    pub asked_ms: u64,
    /// Renewal never goes past this: the workload's end, or sooner where role or request say so.
    pub max_deadline: Deadline,
    /// The end of what the workload's failover table and the outage leave to it, from the first token of its line on:
    /// neither it nor what it creates goes past this.
    pub workload_end: Deadline,
    /// What settling made of it.
    pub settled: Settled,
    /// The AppRole login that it was given to; none for what attestation alone gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approle: Option<Box<Basis>>,
    /// Whether its parent was taken from it. A look-up then shows an orphan, a renewal what it was at issue, as the
    /// primary keeps the two apart.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub spared: bool,
    /// Whether a token created it as an orphan: it has no entity then, though its workload may have one.
    #[serde(default, skip_serializing_if = "core::ops::Not::not")]
    pub of_nobody: bool,
}

/// What settling with the primary made of a replica grant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// Its outage goes on.
    Not,
    /// Good for mirrored reads until its deadline.
    Draining,
    /// A primary token stands behind it, named by this accessor.
    Exchanged(Accessor),
}

/// Why a grant ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevokeCause {
    /// The configuration lowered its workload's TTL, or took issuing away.
    Configuration,
    /// The machine booted with its clock behind the mark.
    Clock,
    /// Its deadline passed.
    Expired,
    /// The outage outlived `max_outage`.
    OutageBound,
    /// An operator said so.
    Operator,
    /// Somebody with the right to asked for it, and for its children to live on.
    Orphaning,
    /// Its parent, or the token that it hung on, was revoked.
    Parent,
    /// The primary said so.
    Primary,
    /// Settling found that fresh policy no longer allows it, or `on_recovery = "revoke"`.
    Recovery,
    /// Its holder asked for it.
    Requested,
}

/// What shows that the primary still stands behind a grant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Backing {
    /// Its own last proof, at this moment. What the primary minted dies there with what it hangs on: no other is needed.
    Proof(WallTime),
    /// The same, and what backs the token that it hangs on here: at the primary the token behind it is an orphan.
    ProofAndParent(WallTime),
    /// What backs the token that it hangs on; nothing, where it hangs on none.
    Parent,
}

/// Those of `line` that the primary has not proved since `from`, and that the first of it is backed by: each of them is a
/// reason not to decide by that one. In `line` each hangs on the one after it.
pub fn unproven(
    line: impl Iterator<Item = (TokenDigest, Backing)>,
    from: WallTime,
) -> impl Iterator<Item = TokenDigest> {
    let mut ended = false;
    let backing = line.map_while(move |(digest, backing)| {
        let counts = !ended;
        ended = matches!(backing, Backing::Proof(_));
        counts.then_some((digest, backing))
    });
    backing.filter_map(move |(digest, backing)| match backing {
        Backing::Proof(at) | Backing::ProofAndParent(at) => (at < from).then_some(digest),
        Backing::Parent => None,
    })
}

/// A revoked grant, kept so that its token is known to be dead.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Revocation {
    /// What is kept of its token.
    pub digest: TokenDigest,
    /// Look-ups by accessor find it dead, too.
    pub accessor: Accessor,
    /// Why.
    pub cause: RevokeCause,
    /// When, on the steady wall clock.
    pub at: WallTime,
}

impl Revocation {
    /// The end of `grant`.
    pub fn of(grant: &Grant, cause: RevokeCause, at: WallTime) -> Self {
        Self {
            digest: grant.digest,
            accessor: grant.accessor.clone(),
            cause,
            at,
        }
    }
}

/// The bounds that a replica grant is issued or renewed within.
#[derive(Clone, Copy, Debug)]
pub struct GrantBounds<'a> {
    /// The workload's failover table.
    pub policy: &'a FailoverPolicy,
    /// What is left of the mirrored role's own limits (explicit max TTL, from issue), if it has any.
    pub role_max: Option<Duration>,
    /// Last complete authority verification before the outage, plus `max_outage`.
    pub outage_bound: Deadline,
}

impl GrantBounds<'_> {
    /// The furthest deadline that renewals of a grant issued `now` may reach.
    pub fn max_deadline(&self, now: Now) -> Deadline {
        let end = self.workload_end(now);
        self.role_max
            .map_or(end, |role| end.earliest(Deadline::after(role, now)))
    }

    /// The same without the role: what the workload's own bounds leave to a grant issued `now`.
    pub fn workload_end(&self, now: Now) -> Deadline {
        Deadline::after(self.policy.max_ttl, now).earliest(self.outage_bound)
    }

    /// The deadline of a grant issued or renewed `now`, for at most `increment` if one was asked for.
    pub fn deadline(&self, max: Deadline, increment: Option<Duration>, now: Now) -> Deadline {
        let ttl = increment.map_or(self.policy.ttl, |wanted| wanted.min(self.policy.ttl));
        Deadline::after(ttl, now)
            .earliest(max)
            .earliest(self.outage_bound)
    }
}

impl Grant {
    /// Whether the replica minted it.
    pub fn is_replica(&self) -> bool {
        matches!(self.origin, Origin::Replica(_))
    }

    /// Whether the primary refused it since it last proved it: dead, or refused for a while.
    pub fn is_doubted(&self) -> bool {
        self.doubted_at.is_some_and(|at| self.verified_at < at)
    }

    /// This, where `known` is what was known before: neither a proof nor a doubt goes back.
    #[must_use]
    pub fn after(self, known: &Self) -> Self {
        Self {
            verified_at: self.verified_at.max(known.verified_at),
            doubted_at: self.doubted_at.max(known.doubted_at),
            ..self
        }
    }

    /// Its replica part.
    pub fn replica(&self) -> Option<&ReplicaGrant> {
        match &self.origin {
            Origin::Replica(replica) => Some(replica),
            _ => None,
        }
    }

    /// This replica grant under a changed `policy`: the same, or with deadlines moved earlier by as much as the
    /// TTLs were lowered. `None` where nothing is left of it: issuing was taken away, or it is past already.
    pub fn lowered(&self, policy: &FailoverPolicy, now: Now) -> Option<Self> {
        let replica = self.replica()?;
        if !policy.issue {
            return None;
        }
        let old = Duration::from_millis(replica.ttl_ms);
        let cut = old.saturating_sub(policy.ttl);
        let by_ttl = Deadline::at(self.deadline.wall.minus(cut), now);
        let by_max = Deadline::at(replica.issued_at.plus(policy.max_ttl), now);
        let deadline = self.deadline.earliest(by_ttl).earliest(by_max);
        let lowered = ReplicaGrant {
            ttl_ms: u64::try_from(old.min(policy.ttl).as_millis()).unwrap_or(u64::MAX),
            max_deadline: replica.max_deadline.earliest(by_max),
            workload_end: replica.workload_end.earliest(by_max),
            ..replica.clone()
        };
        let grant = Self {
            origin: Origin::Replica(lowered),
            deadline,
            ..self.clone()
        };
        // What a clock that nothing confirmed says is refused at use, and ends nothing for good.
        (!deadline.passed_for_good(now)).then_some(grant)
    }

    /// The token that the primary holds behind it, if it holds one.
    pub fn at_primary(&self) -> Option<&Accessor> {
        match &self.origin {
            Origin::Primary | Origin::Learned | Origin::LimitedUse => Some(&self.accessor),
            Origin::Replica(replica) => match &replica.settled {
                Settled::Exchanged(accessor) => Some(accessor),
                Settled::Not | Settled::Draining => None,
            },
        }
    }

    /// What shows that the primary still stands behind it.
    pub fn backing(&self) -> Backing {
        match &self.origin {
            Origin::Primary | Origin::Learned | Origin::LimitedUse => {
                Backing::Proof(self.verified_at)
            }
            Origin::Replica(replica) => match replica.settled {
                Settled::Exchanged(_) => Backing::ProofAndParent(self.verified_at),
                Settled::Not | Settled::Draining => Backing::Parent,
            },
        }
    }

    /// Whether it is a replica grant that its outage left unsettled; `current` is the outage that there is.
    pub fn is_left_over(&self, current: Option<&OutageId>) -> bool {
        self.replica().is_some_and(|replica| {
            replica.settled == Settled::Not && current != Some(&replica.outage)
        })
    }

    /// This replica grant as settling made it `settled`.
    #[must_use]
    pub fn settled(mut self, settled: Settled) -> Self {
        if let Origin::Replica(replica) = &mut self.origin {
            replica.settled = settled;
        }
        self
    }

    /// `origin` as `grants list` and the metrics name it.
    pub fn origin_name(&self) -> &'static str {
        if self.is_replica() {
            "replica"
        } else {
            "primary"
        }
    }

    /// The unit or user that holds it, for listings.
    pub fn holder(&self) -> Option<String> {
        let peer = self.peer.as_ref()?;
        Some(
            peer.unit
                .clone()
                .unwrap_or_else(|| alloc::format!("uid {}", peer.uid)),
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        samples,
        workload::{OnFailover, OnRecovery},
    };

    fn at(secs: i64) -> Now {
        samples::now(1_000_000 + secs)
    }

    fn policy(ttl: u64, max_ttl: u64) -> FailoverPolicy {
        FailoverPolicy {
            issue: true,
            ttl: Duration::from_secs(ttl),
            max_ttl: Duration::from_secs(max_ttl),
            on_recovery: OnRecovery::Exchange,
            on_failover: OnFailover::Resume,
        }
    }

    fn bounds(policy: &FailoverPolicy) -> GrantBounds<'_> {
        let outage_bound = Deadline::after(Duration::from_secs(100_000), at(0));
        GrantBounds {
            policy,
            role_max: None,
            outage_bound,
        }
    }

    fn issue(policy: &FailoverPolicy) -> Grant {
        let bounds = bounds(policy);
        let max_deadline = bounds.max_deadline(at(0));
        Grant {
            deadline: bounds.deadline(max_deadline, None, at(0)),
            ..samples::issued(policy.ttl, max_deadline, at(0))
        }
    }

    #[test]
    fn a_grant_past_the_lowered_ttl_goes_and_a_younger_one_keeps_what_is_left() {
        let grant = issue(&policy(600, 3600));
        assert!(grant.lowered(&policy(60, 3600), at(60)).is_none());
        let kept = grant.lowered(&policy(60, 3600), at(20)).unwrap();
        assert_eq!(kept.deadline.remaining(at(20)), Duration::from_secs(40));
    }

    #[test]
    fn a_wall_clock_that_went_back_gives_a_lowered_grant_nothing() {
        let back = Duration::from_secs(100);
        let now = Now {
            wall: at(30).wall.minus(back),
            steady: at(30).steady.minus(back),
            ..at(30)
        };
        let kept = issue(&policy(60, 600))
            .lowered(&policy(60, 600), now)
            .unwrap();
        assert_eq!(kept.deadline.remaining(now), Duration::from_secs(30));
    }

    #[test]
    fn taking_issuing_away_ends_every_grant() {
        let taken = FailoverPolicy {
            issue: false,
            ..policy(600, 3600)
        };
        assert!(issue(&policy(600, 3600)).lowered(&taken, at(1)).is_none());
    }

    #[test]
    fn a_doubt_ends_with_a_proof_as_of_then_or_later_in_whatever_order_they_are_told() {
        let known = issue(&policy(60, 600));
        let told = |doubted: i64, proven: i64| {
            let doubted = Grant {
                doubted_at: Some(at(doubted).steady),
                ..known.clone()
            };
            let proven = Grant {
                verified_at: at(proven).steady,
                ..known.clone()
            };
            let first = proven.clone().after(&doubted).is_doubted();
            assert_eq!(first, doubted.after(&proven).is_doubted());
            first
        };
        assert!(!known.is_doubted());
        assert!(told(5, 4) && !told(5, 5) && !told(5, 6));
    }

    fn first_unproven(line: &[Backing], from: WallTime) -> Option<u8> {
        let line = line.iter().zip(1u8..);
        let line = line.map(|(backing, nr)| (TokenDigest([nr; 32]), *backing));
        unproven(line, from).next().map(|digest| digest.0[0])
    }

    #[test]
    fn a_line_is_as_good_as_the_nearest_token_of_the_primary_in_it() {
        let (old, new) = (WallTime::from_secs(99), WallTime::from_secs(100));
        let (proof, both) = (Backing::Proof, Backing::ProofAndParent);
        let first = |line: &[Backing]| first_unproven(line, new);
        assert_eq!(first(&[Backing::Parent]), None, "an attested login");
        assert_eq!(first(&[proof(new)]), None);
        assert_eq!(first(&[proof(old)]), Some(1));
        assert_eq!(
            first(&[Backing::Parent, Backing::Parent, proof(old)]),
            Some(3)
        );
        // A parent's own parent stands with it at the primary.
        assert_eq!(first(&[proof(new), proof(old)]), None);
        assert_eq!(first(&[both(new), proof(old)]), Some(2));
        assert_eq!(first(&[both(old), proof(new)]), Some(1));
    }

    #[test]
    fn a_raised_ttl_changes_nothing() {
        let grant = issue(&policy(60, 600));
        assert_eq!(grant.lowered(&policy(600, 6000), at(20)), Some(grant));
    }

    #[test]
    fn no_renewal_passes_the_longest_life_or_the_outage_bound() {
        let policy = policy(60, 100);
        let short = GrantBounds {
            outage_bound: Deadline::after(Duration::from_secs(80), at(0)),
            ..bounds(&policy)
        };
        let max = short.max_deadline(at(0));
        assert_eq!(
            short.deadline(max, None, at(50)).remaining(at(50)),
            Duration::from_secs(30)
        );
        let role = GrantBounds {
            role_max: Some(Duration::from_secs(10)),
            ..bounds(&policy)
        };
        assert_eq!(
            role.max_deadline(at(0)).remaining(at(0)),
            Duration::from_secs(10)
        );
    }

    proptest! {
        /// Neither a later proof nor an earlier moment to prove it since takes anything away.
        #[test]
        fn proofs_only_add(
            line in proptest::collection::vec((0i64..100, 0u8..3), 1..6), from in 0i64..100, more in 0i64..50,
        ) {
            let of = |add: i64| {
                let line = line.iter().map(move |(at, kind)| match kind {
                    0 => Backing::Proof(WallTime::from_secs(at + add)),
                    1 => Backing::ProofAndParent(WallTime::from_secs(at + add)),
                    _ => Backing::Parent,
                });
                line.collect::<alloc::vec::Vec<_>>()
            };
            let good = |line: &[Backing], from| first_unproven(line, WallTime::from_secs(from)).is_none();
            if good(&of(0), from) {
                prop_assert!(good(&of(more), from) && good(&of(0), from - more));
            }
        }

        /// No change of configuration, and no order of changes, moves a deadline later.
        #[test]
        fn reconfiguring_never_lengthens(
            first in (1u64..500, 1u64..5000), second in (1u64..500, 1u64..5000), third in (1u64..500, 1u64..5000),
            age in 0i64..400,
        ) {
            let grant = issue(&policy(first.0, first.1));
            let now = at(age);
            let mut last = grant.clone();
            for (ttl, max) in [second, third] {
                let Some(next) = last.lowered(&policy(ttl, max), now) else { return Ok(()) };
                prop_assert!(next.deadline.remaining(now) <= last.deadline.remaining(now));
                let (new, old) = (next.replica().unwrap(), last.replica().unwrap());
                prop_assert!(new.max_deadline.remaining(now) <= old.max_deadline.remaining(now));
                last = next;
            }
        }
    }
}
