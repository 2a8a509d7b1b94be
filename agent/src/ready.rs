//! Would it work now: whether the replica could take over, why not, and for how long it would last.
//!
//! Pure: [`assess`] goes by [`ReadyFacts`] alone. A *reason* makes `ready` false; a *finding* is something that an operator
//! should know. Autonomy is the smallest of the bounds that exist, if the primary died at this moment.

pub mod footing;
pub mod ledger;
pub mod own;
pub mod prove;
pub mod start;

use std::{fmt, time::Duration};

use shared::{
    acl::Undecidable,
    block::IssuingBlock,
    damage::Damage,
    failover::Phase,
    name::WorkloadName,
    settings::Bounds,
    span::Span,
    time::{ClockState, Deadline, Now, WallTime},
};

use self::{footing::FootingFacts, ledger::LedgerFacts, own::OffboardedFacts};
use crate::{
    link::files::TlsFault,
    status::{MirrorStatus, PoolStatus, WholeSeconds},
    upstream::{own::OwnSnapshot, rights::MissingRight},
};

/// The store must have this much room left, in bytes: enough for the grants and the ledger of a long outage.
pub const ROOM: u64 = 64 << 20;

/// How much of what cannot be decided by is listed one by one.
const UNDECIDED_SHOWN: usize = 20;
/// A pool that is short for longer is a finding: filling one takes a moment.
const POOL_PATIENCE: Duration = Duration::from_secs(60);

/// Everything that readiness goes by, at one moment.
#[derive(Clone, Debug)]
pub struct ReadyFacts {
    /// The moment.
    pub now: Now,
    /// The machine's state.
    pub phase: Phase,
    /// Those of outages and of authority.
    pub bounds: Bounds,
    /// What decisions go by, each with what came of it last.
    pub footings: Vec<FootingFacts>,
    /// Whether the cluster and its policies were ever seen: without them nothing can be decided.
    pub primary: PrimaryFacts,
    /// One for each configured mirror.
    pub mirrors: Vec<MirrorStatus>,
    /// Leases of Holdover's own that workloads share, took, or may take.
    pub leases: Vec<LeaseFacts>,
    /// One for each configured workload.
    pub workloads: Vec<WorkloadFacts>,
    /// What the store and its keys are good for.
    pub store: StoreFacts,
    /// How full the ledger is.
    pub ledger: LedgerFacts,
    /// What the wall clock does against boot time.
    pub clock: ClockState,
    /// Since when the primary refuses Holdover's own credential for good, and when reads end.
    pub offboarded: Option<OffboardedFacts>,
    /// What else stands against issuing on this host, as the configuration has it.
    pub blocks: Vec<IssuingBlock>,
    /// Policies, and workloads' issuing, that only the primary decides by, as an operator is told of them.
    pub quarantines: Vec<String>,
    /// What is known already: of the configuration, of the start, of a rejected change.
    pub findings: Vec<String>,
}

/// What is known of the primary.
#[derive(Clone, Debug, Default)]
pub struct PrimaryFacts {
    /// Whether a cluster is pinned.
    pub cluster: bool,
    /// Whether its policies were copied.
    pub policies: bool,
    /// What of its policies this version cannot decide by.
    pub undecidable: Vec<Undecided>,
    /// When Holdover's own token ends unless it is renewed; none before the first login.
    pub credential: Option<WallTime>,
    /// How it stands with that token.
    pub own: OwnSnapshot,
    /// What is wrong with the CA file that it is checked against.
    pub untrusted: Option<TlsFault>,
    /// What is wrong with the client certificate, or its key, that Holdover logs in with.
    pub unidentified: Option<TlsFault>,
    /// The rights that it lacks.
    pub missing: Vec<MissingRight>,
}

/// What makes requests undecidable in an outage: known beforehand.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Undecided {
    /// The policy.
    pub policy: String,
    /// Which rule of it, and why; none where nothing of the policy can be read.
    pub rule: Option<Undecidable>,
}

/// What is known of one lease of Holdover's own.
#[derive(Clone, Debug)]
pub struct LeaseFacts {
    /// The path that was read for it.
    pub path: String,
    /// When its backend drops it.
    pub deadline: Deadline,
}

/// What is known of one workload.
#[derive(Clone, Debug)]
pub struct WorkloadFacts {
    /// Its name.
    pub name: WorkloadName,
    /// Whether grants are to be issued for it in an outage.
    pub issue: bool,
    /// When its role, policies and identity were last verified as a whole; none if never.
    pub verified_at: Option<WallTime>,
    /// Why the last verification failed, if it did.
    pub failures: Vec<String>,
}

/// What the store and its keys are good for.
#[derive(Clone, Debug, Default)]
pub struct StoreFacts {
    /// Why the store takes no commit, if the last one that was tried was not taken.
    pub failure: Option<String>,
    /// Why a sealed value did not open, if the last one that was tried did not.
    pub sealed: Option<String>,
    /// Whether the replica is older than its anchor, and the primary was not seen since.
    pub rolled_back: bool,
    /// What is damaged, and was not read anew since.
    pub damage: Vec<Damage>,
    /// Bytes that are free where it lies; none if that cannot be told.
    pub room: Option<u64>,
}

/// What the facts come to.
#[derive(Clone, PartialEq, Debug)]
pub struct Readiness {
    /// Why the replica could not take over; empty exactly when it could.
    pub reasons: Vec<String>,
    /// What an operator should know.
    pub findings: Vec<String>,
    /// How long it would last.
    pub autonomy: Autonomy,
}

impl Readiness {
    /// Whether the replica could take over now.
    pub fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }
}

/// How long, from now, Holdover could carry on without the primary.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Autonomy {
    /// The smallest of its bounds.
    pub left: Duration,
    /// Which one that is.
    pub bound_by: AutonomyBound,
}

/// What bounds autonomy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum AutonomyBound {
    /// Nothing may be issued for this workload.
    Authority(WorkloadName),
    /// A lease of Holdover's own ends.
    Lease(String),
    /// A workload has no room left in the ledger.
    LedgerSpace,
    /// The outage may not be longer.
    MaxOutage,
    /// A mirrored value gets too old.
    Staleness(String),
}

impl fmt::Display for AutonomyBound {
    /// As `autonomy_bound_by` names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Authority(workload) => write!(f, "authority {workload}"),
            Self::Lease(path) => write!(f, "lease {path}"),
            Self::LedgerSpace => f.write_str("ledger_space"),
            Self::MaxOutage => f.write_str("max_outage"),
            Self::Staleness(path) => write!(f, "staleness {path}"),
        }
    }
}

/// Judges `facts`.
pub fn assess(facts: &ReadyFacts) -> Readiness {
    let mut reasons = Vec::new();
    let mut findings = facts.findings.clone();
    own::assess(facts, &mut reasons, &mut findings);
    assess_primary(facts, &mut reasons, &mut findings);
    footing::assess(facts, &mut reasons, &mut findings);
    assess_store(&facts.store, &mut reasons);
    ledger::assess(facts, &mut reasons, &mut findings);
    assess_clock(facts, &mut reasons, &mut findings);
    for mirror in &facts.mirrors {
        let path = &mirror.path;
        let named = |text: &String| format!("mirror {path}: {text}");
        reasons.extend(mirror.reason());
        reasons.extend(mirror.reasons.iter().map(named));
        findings.extend(mirror.finding());
        findings.extend(mirror.findings.iter().map(named));
        if let Some(pool) = &mirror.pool {
            assess_pool(pool, facts, &mut reasons, &mut findings);
        }
    }
    for workload in &facts.workloads {
        reasons.extend(workload.reason(facts));
        findings.extend(workload.findings(facts));
    }
    for quarantine in &facts.quarantines {
        reasons.push(format!("quarantined: {quarantine}"));
    }
    if let Phase::Exhausted(outage) = &facts.phase {
        let id = &outage.id;
        reasons.push(format!(
            "outage {id} outlived failover.max_outage: nothing is issued until the primary is back"
        ));
    }
    Readiness {
        reasons,
        findings,
        autonomy: autonomy(facts),
    }
}

/// In an outage a pool only shrinks; before one, an empty pool would leave every workload without credentials.
fn assess_pool(
    pool: &PoolStatus,
    facts: &ReadyFacts,
    reasons: &mut Vec<String>,
    findings: &mut Vec<String>,
) {
    let (path, size, ready) = (&pool.path, pool.size, pool.ready);
    if ready >= size {
        return;
    }
    let short_for = pool.short_since.map(|since| facts.now.steady.since(since));
    if facts.phase.is_outage() {
        if ready == 0 {
            findings.push(format!(
                "pool {path}: no lease is left: workloads that have none get 503"
            ));
        }
    } else if ready == 0 {
        reasons.push(format!("pool {path}: none of {size} leases is ready"));
    } else if let Some(short_for) = short_for.filter(|short_for| *short_for >= POOL_PATIENCE) {
        let short_for = short_for.as_secs();
        findings.push(format!(
            "pool {path}: {ready} of {size} leases are ready, for {short_for} s"
        ));
    }
}

fn assess_primary(facts: &ReadyFacts, reasons: &mut Vec<String>, findings: &mut Vec<String>) {
    let primary = &facts.primary;
    if !primary.cluster {
        reasons.push("the primary was never seen: nothing is mirrored yet".to_owned());
    } else if !primary.policies {
        reasons
            .push("the primary's policies were never copied: no request can be decided".to_owned());
    }
    match &primary.untrusted {
        None => {}
        Some(TlsFault::Never(why)) => {
            reasons.push(format!(
                "primary.ca_file: {why}: the primary is not trusted without it"
            ));
        }
        Some(TlsFault::Changed(why)) => {
            findings.push(format!(
                "primary.ca_file: {why}: what was in it before is in use"
            ));
        }
    }
    if let Some(fault) = &primary.unidentified {
        findings.push(match fault {
            TlsFault::Never(why) => {
                format!("primary.auth: {why}: Holdover cannot log in without it")
            }
            TlsFault::Changed(why) => {
                format!("primary.auth: {why}: what was in it before is in use")
            }
        });
    }
    for Undecided { policy, rule } in primary.undecidable.iter().take(UNDECIDED_SHOWN) {
        findings.push(match rule {
            None => format!("policy {policy} cannot be read: its tokens get 503 in an outage"),
            Some(rule) => format!("policy {policy}: {rule}: 503 in an outage"),
        });
    }
    let more = primary.undecidable.len().saturating_sub(UNDECIDED_SHOWN);
    if more > 0 {
        findings.push(format!(
            "{more} more policy rules cannot be evaluated: 503 in an outage"
        ));
    }
}

fn assess_store(store: &StoreFacts, reasons: &mut Vec<String>) {
    if let Some(failure) = &store.failure {
        reasons.push(format!("the store takes no changes: {failure}"));
    }
    if let Some(failure) = &store.sealed {
        reasons.push(format!("a sealed value does not open: {failure}"));
    }
    for damage in &store.damage {
        reasons.push(format!(
            "damaged in the replica: {damage}: what depends on it gets 503 in an outage until it is read anew"
        ));
    }
    if store.rolled_back {
        let text = "the replica is damaged, or older than its anchor: nothing is issued until the primary is seen";
        reasons.push(text.to_owned());
    }
    if let Some(room) = store.room.filter(|room| *room < ROOM) {
        let (room, least) = (room >> 20, ROOM >> 20);
        reasons.push(format!(
            "the store has {room} MiB of free space and needs {least}"
        ));
    }
}

fn assess_clock(facts: &ReadyFacts, reasons: &mut Vec<String>, findings: &mut Vec<String>) {
    reasons.extend(facts.blocks.iter().map(|block| {
        let (since, why) = (block.since, block.cause.text());
        format!("nothing is issued on this host since {since}: {why}")
    }));
    match facts.clock {
        ClockState::Steady => {}
        ClockState::SteppedBack(by) => findings.push(format!(
            "the wall clock stepped back by {} s: deadlines go by boot time",
            by.as_secs()
        )),
        ClockState::SteppedForward(by) => reasons.push(format!(
            "the wall clock stepped forward by {} s: what ends by it is refused until the primary confirms it",
            by.as_secs()
        )),
    }
}

impl MirrorStatus {
    fn left(&self) -> Duration {
        let left = |age: WholeSeconds| self.max_staleness.0.saturating_sub(age.0);
        self.age.map_or(Duration::ZERO, left)
    }

    fn reason(&self) -> Option<String> {
        let path = &self.path;
        let Some(age) = self.age else {
            return Some(format!("mirror {path}: no complete pass yet"));
        };
        (age >= self.max_staleness).then(|| {
            format!(
                "mirror {path}: not verified for {} s, and not served once older than {}",
                age.0.as_secs(),
                Span(self.max_staleness.0),
            )
        })
    }

    fn finding(&self) -> Option<String> {
        let error = self.last_error.as_deref().unwrap_or("no reason known");
        (self.errors > 0).then(|| {
            format!(
                "mirror {}: {} failed passes in a row: {error}",
                self.path, self.errors
            )
        })
    }
}

impl ReadyFacts {
    /// The moment that what was verified is held against: the cutover, or now where there was none.
    fn cutover(&self) -> WallTime {
        let outage = self.phase.outage();
        outage.map_or(self.now.wall, |outage| outage.started_at)
    }
}

impl WorkloadFacts {
    /// Whether an outage that began at the cutover would issue for it.
    fn is_proven(&self, facts: &ReadyFacts) -> bool {
        let max_age = facts.bounds.authority_max_age;
        self.verified_at
            .is_some_and(|at| facts.cutover().since(at) <= max_age)
    }

    fn reason(&self, facts: &ReadyFacts) -> Option<String> {
        if !self.issue || self.is_proven(facts) {
            return None;
        }
        let name = &self.name;
        let mut reason = match self.verified_at {
            None => format!(
                "workload {name}: its role and policies were never verified: nothing is issued for it"
            ),
            Some(at) => format!(
                "workload {name}: its role and policies were last verified at {at}, longer ago than {}: nothing is issued for it",
                Span(facts.bounds.authority_max_age),
            ),
        };
        for failure in &self.failures {
            reason.push_str(": ");
            reason.push_str(failure);
        }
        Some(reason)
    }

    /// Failures of one that is good still are a finding: they will be a reason once it is too old.
    fn findings(&self, facts: &ReadyFacts) -> Vec<String> {
        let name = &self.name;
        let disabled = (!self.issue).then(|| {
            format!("workload {name}: issuing in an outage is not enabled (failover.issue)")
        });
        let told_as_reason = self.reason(facts).is_some();
        let failures = self.failures.iter().filter(|_| !told_as_reason);
        let failures = failures.map(|failure| format!("workload {name}: {failure}"));
        disabled.into_iter().chain(failures).collect()
    }
}

fn autonomy(facts: &ReadyFacts) -> Autonomy {
    let outage = Autonomy {
        left: outage_left(facts),
        bound_by: AutonomyBound::MaxOutage,
    };
    let decides_nothing = footing::decide_nothing(facts);
    let mirrors = facts.mirrors.iter().map(|mirror| Autonomy {
        left: match decides_nothing {
            true => Duration::ZERO,
            false => mirror.left(),
        },
        bound_by: AutonomyBound::Staleness(mirror.path.clone()),
    });
    let leases = facts.leases.iter().map(|lease| Autonomy {
        left: lease.deadline.remaining(facts.now),
        bound_by: AutonomyBound::Lease(lease.path.clone()),
    });
    // Authority that is good now is good for the whole outage: it bounds only where it is not.
    let unproven = facts
        .workloads
        .iter()
        .filter(|workload| workload.issue && (decides_nothing || !workload.is_proven(facts)));
    let authority = unproven.map(|workload| Autonomy {
        left: Duration::ZERO,
        bound_by: AutonomyBound::Authority(workload.name.clone()),
    });
    // How fast it fills nobody knows: it bounds only where it is full.
    let space = ledger::full(facts).next().map(|_| Autonomy {
        left: Duration::ZERO,
        bound_by: AutonomyBound::LedgerSpace,
    });
    let bounds = mirrors.chain(leases).chain(authority).chain(space);
    bounds.fold(outage, Autonomy::min)
}

/// What is left of `max_outage`: of this outage, or of one that began now.
fn outage_left(facts: &ReadyFacts) -> Duration {
    match &facts.phase {
        Phase::Exhausted(_) => Duration::ZERO,
        Phase::Holdover(outage) | Phase::Recovering(outage) => outage.bound.remaining(facts.now),
        Phase::Following | Phase::Suspect => {
            let verified = facts
                .workloads
                .iter()
                .filter_map(|workload| workload.verified_at)
                .min();
            let age = verified.map_or(Duration::ZERO, |at| facts.now.steady.since(at));
            facts.bounds.max_outage.saturating_sub(age)
        }
    }
}

#[cfg(test)]
mod tests;
