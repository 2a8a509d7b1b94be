//! Issuing a grant in an outage: its token, the record behind it, and the bounds that it stands within.
//!
//! What it may do is decided before: by an attested login, by a login that the primary once accepted, by a token that
//! creates another.

use std::{sync::Arc, sync::OnceLock, time::Duration};

use shared::{
    change::{Change, Expects},
    failover::Outage,
    grant::{Grant, GrantBounds, Origin, ReplicaGrant, Settled},
    ledger::EntryKind,
    name::{Accessor, TokenDigest},
    time::{Deadline, WallTime},
    token::{REPLICA_PREFIX, REPLICA_RANDOM, TokenFacts},
    workload::{PeerId, Workload},
};
use zeroize::Zeroizing;

use super::{
    caller::{Bearer, Rights},
    case::Case,
    entry,
    envelope::{Contents, Granted},
    refusal::{Issuing, Refusal, Why},
    token,
};
use crate::{entropy, view::LiveGrant};

/// Random characters of an accessor, after `ho`: as long as the primary's altogether.
const ACCESSOR_RANDOM: usize = 22;

/// The outage in which grants may be issued and renewed now.
pub(crate) fn issuing<'a>(case: &Case<'a>) -> Result<&'a Outage, Refusal> {
    let outage = case.outage().ok_or(Issuing::PrimaryInCharge)?;
    if case.authority.rolled_back {
        return Err(Issuing::RolledBack.into());
    }
    if let Some(reason) = case.authority.issuing_blocked {
        return Err(Issuing::Blocked(reason).into());
    }
    if !case.authority.phase.issues(case.now()) {
        return Err(Issuing::OutageBound.into());
    }
    Ok(outage)
}

/// What bounds a grant, whatever it is issued for.
pub(crate) struct Issue<'a> {
    /// The workload entry whose `failover` table it falls under.
    pub(crate) entry: &'a Workload,
    /// The outage that it is issued in.
    pub(crate) outage: &'a Outage,
    /// When the primary last proved what it is issued from.
    pub(crate) proven_at: WallTime,
    /// How long the primary would let it live until its first renewal; none leaves that to the policy TTL.
    pub(crate) wanted: Option<Duration>,
    /// The longest that the primary's own rules would let it live, from issue; none if they do not say.
    pub(crate) limit: Option<Duration>,
    /// The attested peer that it is given to.
    pub(crate) peer: Option<PeerId>,
    /// The token that must still live when it is committed.
    pub(crate) parent: Option<TokenDigest>,
}

impl Issue<'_> {
    /// When the grant ends, and how far renewals may carry it. The outage is bounded by the workload's own proof too.
    pub(crate) fn deadlines(&self, case: &Case<'_>) -> (Deadline, Deadline) {
        let now = case.now();
        let proven = self.proven_at.min(self.outage.started_at);
        let by_proof = Deadline::at(proven.plus(case.settings().bounds.max_outage), now);
        let bounds = GrantBounds {
            policy: &self.entry.failover,
            role_max: self.limit,
            outage_bound: self.outage.bound.earliest(by_proof),
        };
        let max = bounds.max_deadline(now);
        (bounds.deadline(max, self.wanted, now), max)
    }

    /// The token, and the record behind it.
    fn mint(
        &self,
        case: &Case<'_>,
        facts: TokenFacts,
    ) -> Result<(Zeroizing<String>, Grant), Refusal> {
        let (deadline, max_deadline) = self.deadlines(case);
        if deadline.passed(case.now()) {
            return Err(Issuing::OutageBound.into());
        }
        let random = entropy::base62(case.entropy, REPLICA_RANDOM)?;
        let token = Zeroizing::new([REPLICA_PREFIX, &random].concat());
        let accessor = entropy::base62(case.entropy, ACCESSOR_RANDOM)?;
        let accessor = Accessor::parse(&["ho", &accessor].concat());
        let grant = Grant {
            digest: case.view.keys().token_digest(&token),
            accessor: accessor.map_err(|_| Why::NoEntropy)?,
            facts,
            origin: Origin::Replica(ReplicaGrant {
                outage: self.outage.id.clone(),
                issued_at: case.now().steady,
                ttl_ms: milliseconds(self.entry.failover.ttl),
                max_deadline,
                settled: Settled::Not,
            }),
            peer: self.peer.clone(),
            deadline,
            verified_at: self.proven_at,
        };
        Ok((token, grant))
    }

    /// The answer that carries a new token with these facts and rights: it leaves once record and ledger entry are
    /// durable.
    ///
    /// # Errors
    /// If nothing is left of the bounds, or the system gives no randomness.
    pub(crate) fn grant(
        &self,
        case: &Case<'_>,
        facts: TokenFacts,
        rights: &Rights,
    ) -> Result<Granted, Refusal> {
        let (token, grant) = self.mint(case, facts)?;
        let left = grant.deadline.remaining(case.now());
        let bearer = Bearer::Grant(Arc::new(LiveGrant {
            grant: grant.clone(),
            revoked: OnceLock::new(),
        }));
        let mut entry = entry::of(case, EntryKind::Grant, &bearer);
        entry.policies = rights.all_policies(bearer.facts());
        entry.ttl_seconds = Some(left.as_secs());
        entry.deadline = Some(grant.deadline.wall);
        let contents = Contents::<()> {
            lease: None,
            data: None,
            auth: Some(token::auth(&bearer, rights, token, left)),
            remark: None,
            age: case.age(self.proven_at),
        };
        let expects = Expects {
            epoch: Some(case.authority.epoch),
            live: self.parent.into_iter().collect(),
            issues: true,
            ..Expects::default()
        };
        let changes = vec![
            Change::Grant(Box::new(grant)),
            Change::Ledger(Box::new(entry)),
        ];
        Ok(contents.granted(case)?.with(changes, expects))
    }
}

/// As a grant keeps a policy TTL.
pub(crate) fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
