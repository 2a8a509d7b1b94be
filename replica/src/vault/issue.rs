//! Issuing a grant in an outage: its token, the record behind it, and the bounds that it stands within.
//!
//! What it may do is decided before: by an attested login, by a login that the primary once accepted, by a token that
//! creates another.

use std::{sync::Arc, time::Duration};

use shared::{
    approle::Basis,
    change::{Change, Expects},
    failover::Outage,
    grant::{Grant, GrantBounds, Origin, ReplicaGrant, Settled},
    ledger::{Entry, EntryKind},
    name::{Accessor, PolicyName, TokenDigest},
    quarantine::Quarantined,
    time::{Deadline, WallTime},
    token::{REPLICA_PREFIX, REPLICA_RANDOM, TokenFacts, TokenKind},
    workload::{Peer, PeerId, Workload, WorkloadAuthority},
};
use zeroize::Zeroizing;

use super::{
    Answer,
    caller::{Bearer, Rights},
    case::Case,
    entry,
    envelope::Contents,
    refusal::{Answered, Damaged, Forbidden, Issuing, Refusal, Why},
    token,
};
use crate::{
    entropy,
    view::{LiveGrant, fill::FACTS},
};

/// Random characters of an accessor, after `ho`: as long as the primary's altogether.
const ACCESSOR_RANDOM: usize = 22;

/// The outage in which grants may be issued and renewed now.
pub(crate) fn issuing<'a>(case: &Case<'a>) -> Answered<&'a Outage> {
    let outage = case.outage().ok_or(Issuing::PrimaryInCharge)?;
    unblocked(case)?;
    if !case.authority.phase.issues(case.now()) {
        return Err(Issuing::OutageBound.into());
    }
    Ok(outage)
}

/// The same, of which the workload's configuration lets it make use.
pub(crate) fn enabled<'a>(case: &Case<'a>, entry: &Workload) -> Answered<&'a Outage> {
    let outage = issuing(case)?;
    match entry.failover.issue {
        true => Ok(outage),
        false => Err(Issuing::Disabled.into()),
    }
}

/// Refuses where something stands against issuing on this host, outage or not.
pub(crate) fn unblocked(case: &Case<'_>) -> Answered<()> {
    if let Some(since) = case.authority.offboarded {
        return Err(Why::Offboarded(since.at).into());
    }
    if case.authority.rolled_back {
        return Err(Issuing::RolledBack.into());
    }
    let blocked = case.authority.issuing_blocked();
    blocked.map_or(Ok(()), |block| Err(Issuing::Blocked(block.cause).into()))
}

/// The attested peer, if it is a configured workload.
pub(crate) fn attested<'a>(case: &Case<'a>) -> Answered<&'a Peer> {
    let peer = case.query.peer.filter(|peer| !peer.workloads.is_empty());
    Ok(peer.ok_or(Forbidden::Unattested)?)
}

/// What the primary proved of the workload, if that was for this role and recent enough before the outage.
pub(crate) fn proven<'a>(
    case: &Case<'a>,
    entry: &Workload,
    outage: &Outage,
) -> Answered<&'a WorkloadAuthority> {
    let authority = case.authority.workloads.get(&entry.name);
    let authority = authority.filter(|authority| authority.role_name == entry.role);
    if authority.is_none() {
        case.intact(|| Damaged::Authority(entry.name.clone()))?;
    }
    let authority = authority.ok_or_else(|| Why::AuthorityTooOld(entry.name.clone()))?;
    recent(case, authority, outage)?;
    Ok(authority)
}

/// Whether that was recent enough before the outage, and after the one before it.
pub(crate) fn recent(
    case: &Case<'_>,
    authority: &WorkloadAuthority,
    outage: &Outage,
) -> Answered<()> {
    let age = outage.started_at.since(authority.verified_at);
    if age > case.settings().bounds.authority_max_age {
        return Err(Why::AuthorityTooOld(authority.workload.clone()).into());
    }
    // What a workload may have been allowed until it ended in an outage, nobody told us.
    if case.authority.proven_from > Some(authority.verified_at) {
        return Err(Why::AuthorityUnproven(authority.workload.clone()).into());
    }
    Ok(())
}

/// What bounds a grant, whatever it is issued for.
pub(crate) struct Issue<'a> {
    /// The workload entry whose `failover` table it falls under.
    pub(crate) entry: &'a Workload,
    /// The outage that it is issued in.
    pub(crate) outage: &'a Outage,
    /// When the primary last proved what it is issued from.
    pub(crate) proven_at: WallTime,
    /// How long the primary would let it live until its first renewal.
    pub(crate) wanted: Duration,
    /// The longest that the primary's own rules would let it live, from issue.
    pub(crate) limit: Duration,
    /// The attested peer that it is given to.
    pub(crate) peer: Option<PeerId>,
    /// The token that creates it, which must still live when it is committed.
    pub(crate) parent: Option<&'a Grant>,
    /// What the primary would warn of, in its own words.
    pub(crate) warnings: Vec<String>,
    /// The AppRole login that it is given to.
    pub(crate) approle: Option<Box<Basis>>,
}

/// The ends of a grant.
pub(crate) struct Deadlines {
    /// Unless it is renewed.
    pub(crate) first: Deadline,
    /// However often it is renewed.
    pub(crate) longest: Deadline,
    /// Of everything that it creates, too.
    pub(crate) workload: Deadline,
}

impl Issue<'_> {
    /// When the grant ends. The outage is bounded by the workload's own proof too.
    pub(crate) fn deadlines(&self, case: &Case<'_>) -> Deadlines {
        let now = case.now();
        let proven = self.proven_at.min(self.outage.started_at);
        let by_proof = Deadline::at(proven.plus(case.settings().bounds.max_outage), now);
        let bounds = GrantBounds {
            policy: &self.entry.failover,
            role_max: Some(self.limit),
            outage_bound: self.outage.bound.earliest(by_proof),
        };
        let mut workload = bounds.workload_end(now);
        // No line of children lives on where its first token could not.
        if let Some(parent) = self.parent.and_then(Grant::replica) {
            workload = workload.earliest(parent.workload_end);
        }
        let longest = bounds.max_deadline(now).earliest(workload);
        Deadlines {
            first: bounds.deadline(longest, Some(self.wanted), now),
            longest,
            workload,
        }
    }

    /// What the primary would show of a token with these policies that is minted now.
    pub(crate) fn minted(&self, case: &Case<'_>, policies: Vec<PolicyName>) -> TokenFacts {
        let now = case.now();
        let ttl = self.deadlines(case).first.remaining(now).as_secs();
        TokenFacts::minted(TokenKind::Service, policies, ttl, now.steady)
    }

    /// The token, and the record behind it.
    fn mint(&self, case: &Case<'_>, facts: TokenFacts) -> Answered<(Zeroizing<String>, Grant)> {
        let ends = self.deadlines(case);
        let deadline = ends.first;
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
            parent: match facts.orphan {
                true => None,
                false => self.parent.map(|parent| parent.digest),
            },
            origin: Origin::Replica(ReplicaGrant {
                outage: self.outage.id.clone(),
                issued_at: case.now().steady,
                ttl_ms: milliseconds(self.wanted.min(self.entry.failover.ttl)),
                asked_ms: milliseconds(self.wanted),
                max_deadline: ends.longest,
                workload_end: ends.workload,
                spared: false,
                of_nobody: facts.orphan && self.parent.is_some(),
                settled: Settled::Not,
                approle: self.approle.clone(),
            }),
            namespace: case.settings().namespace.clone(),
            facts,
            peer: self.peer.clone(),
            deadline,
            verified_at: self.proven_at,
            doubted_at: None,
        };
        Ok((token, grant))
    }

    /// Refuses what would fill the replica: more grants of one workload than may live, and tokens that carry too much.
    fn bounded(&self, case: &Case<'_>, facts: &TokenFacts) -> Answered<()> {
        if facts.size() > FACTS {
            return Err(Issuing::TooLarge.into());
        }
        let most = case.settings().bounds.grants_per_workload;
        match case.view.has_issued(most, &self.entry.name, case.now()) {
            true => Err(Refusal::TooManyGrants(self.entry.name.clone())),
            false => Ok(()),
        }
    }

    /// The answer that carries a new token with these facts: it leaves once record and ledger entry are
    /// durable.
    ///
    /// # Errors
    /// If nothing may be issued for the workload, nothing is left of the bounds, or the system gives no randomness.
    pub(crate) fn grant(&self, case: &Case<'_>, mut facts: TokenFacts) -> Answered {
        let quarantined = Quarantined::Issuing(self.entry.name.clone());
        if case.authority.is_quarantined(&quarantined) {
            return Err(Issuing::Quarantined.into());
        }
        self.bounded(case, &facts)?;
        // Where it was mounted, what limits it, and what it may do.
        let _ = case.mounts()?;
        let rights = Rights::of(case, &facts)?;
        facts
            .identity_policies
            .clone_from(&rights.identity_policies);
        let (token, grant) = self.mint(case, facts)?;
        let left = grant.deadline.remaining(case.now());
        let bearer = Bearer::Grant(Arc::new(LiveGrant::new(grant.clone())));
        let mut entry = entry::of(case, EntryKind::Grant, &bearer);
        entry.policies = rights.all_policies(bearer.facts());
        entry.ttl_seconds = Some(left.as_secs());
        entry.deadline = Some(grant.deadline.wall);
        let contents: Contents<'_> = Contents {
            auth: Some(token::auth(&bearer, &rights, token, left)),
            warnings: self.warnings.clone(),
            ..Contents::nothing(case.age(self.proven_at))
        };
        let parent = self.parent.iter().map(|parent| parent.digest).collect();
        let granted = contents.granted(case)?;
        Ok(recorded(case, granted, grant, entry, parent))
    }
}

/// An answer that leaves once this grant and entry are durable, if then the same decides, by the same settings, and these
/// tokens live.
pub(crate) fn recorded(
    case: &Case<'_>,
    answer: Answer,
    grant: Grant,
    entry: Entry,
    live: Vec<TokenDigest>,
) -> Answer {
    let expects = Expects {
        epoch: Some(case.authority.epoch),
        live,
        issues: true,
        settings: Some(case.authority.settings_version),
        ..Expects::default()
    };
    let changes = vec![
        Change::Grant(Box::new(grant)),
        Change::Ledger(Box::new(entry)),
    ];
    answer.with(changes, expects)
}

/// As a grant keeps a policy TTL.
pub(crate) fn milliseconds(ttl: Duration) -> u64 {
    u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)
}
