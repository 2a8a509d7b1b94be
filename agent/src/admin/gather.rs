//! The status: facts gathered from every part of the daemon at one moment, assessed, and written out.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use replica::store::RoomFigures;
use shared::{
    acl::Policy,
    change::{CredentialName, HeldBy, QueuedRevocation, RevocationTarget},
    failover::Outage,
    lease::LeaseHolder,
    name::{EntityId, Namespace, PolicyName},
    settings::{Footing, Settings},
    time::{Now, WallTime},
};

use crate::{
    admin::{Deps, approle, grants, ledger, quarantines},
    link::address::AddressSnapshot,
    parity,
    ready::{
        self, LeaseFacts, PrimaryFacts, ReadyFacts, StoreFacts, Undecided, WorkloadFacts,
        footing::FootingFacts, own::OffboardedFacts,
    },
    status::{
        AddressFailureStatus, AddressStatus, DaemonStatus, GrantCounts, MismatchCounts,
        MismatchStatus, OffboardedStatus, OutageStatus, ParityStatus, RevocationStatus,
        StoreStatus,
    },
};

/// The status at this moment.
pub fn status(deps: &Deps) -> DaemonStatus {
    let room = deps.local.sequencer.ledger_room();
    let facts = facts(deps, &room);
    let readiness = ready::assess(&facts);
    let snapshot = deps.driver.snapshot();
    DaemonStatus {
        state: facts.phase.name().to_owned(),
        since: snapshot.since.to_string(),
        ready: readiness.is_ready(),
        reasons: readiness.reasons,
        findings: readiness.findings,
        autonomy_seconds: readiness.autonomy.left.as_secs(),
        autonomy_bound_by: readiness.autonomy.bound_by.to_string(),
        outage: facts.phase.outage().map(outage),
        offboarded: facts.offboarded.map(|facts| OffboardedStatus {
            since: facts.since.to_string(),
            reads_end: facts.reads_end.to_string(),
        }),
        last_outage: snapshot.last_outage.as_ref().map(outage),
        addresses: addresses(deps),
        approle: approle::statuses(&deps.local.view.authority(), facts.now),
        grants: counts(deps, facts.now),
        pools: facts
            .mirrors
            .iter()
            .filter_map(|one| one.pool.clone())
            .collect(),
        mirrors: facts.mirrors,
        parity: parity(deps),
        drill: None,
        store: store_status(deps),
        ledger: ledger::status(deps, room),
        revocations: revocations(deps),
        tokens_unlearned: deps.metrics.tokens_unlearned(),
        tokens_unproven: unproven(deps, facts.now),
        theft_protection: "none".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// Everything that readiness goes by.
pub fn facts(deps: &Deps, room: &RoomFigures) -> ReadyFacts {
    let local = &deps.local;
    let authority = local.view.authority();
    let settings = &authority.settings;
    let workloads = settings.workloads.iter().map(|workload| WorkloadFacts {
        name: workload.name.clone(),
        issue: workload.failover.issue,
        verified_at: authority
            .workloads
            .get(&workload.name)
            .filter(|proven| proven.role_name == workload.role)
            .map(|proven| proven.verified_at),
        failures: deps.mirrors.failures(&workload.name),
    });
    let mut findings = deps.config.borrow().findings.clone();
    findings.extend(deps.board.all());
    let addresses = deps.addresses.snapshots();
    findings.extend(addresses.iter().filter_map(AddressSnapshot::finding));
    findings.extend(deps.mirrors.unread());
    findings.extend(disagreements(&deps.parity.report()));
    findings.extend(held_revocations(
        &local.view.queue(),
        &local.view.authority().settings.namespace,
    ));
    findings.extend(unproven_tokens(unproven(deps, local.clock.now())));
    ReadyFacts {
        now: local.clock.now(),
        phase: deps.driver.snapshot().phase,
        bounds: settings.bounds,
        footings: footings(deps),
        primary: primary(deps),
        mirrors: deps.mirrors.statuses(),
        leases: leases(deps, settings),
        workloads: workloads.collect(),
        store: store(deps),
        ledger: ledger::facts(deps, room),
        clock: local.clock.state(),
        offboarded: authority.offboarded.map(|offboarded| OffboardedFacts {
            since: offboarded.at,
            reads_end: offboarded.reads_end(settings.bounds.authority_max_age),
        }),
        blocks: authority
            .blocks
            .standing(settings.bounds.issue_after_reboot)
            .collect(),
        quarantines: authority
            .quarantines
            .values()
            .map(|one| quarantines::shown(one))
            .collect(),
        findings,
    }
}

/// That decisions disagreed. Where the replica would have granted more, `ready` tells of it beside.
fn disagreements(report: &parity::ParityReport) -> Option<String> {
    let last = report.last.as_ref()?;
    Some(format!(
        "parity: {} of {} decisions disagree with the primary's; last, {}: {} {} ({})",
        report.mismatches(),
        report.checked,
        last.kind.name(),
        last.operation,
        last.path,
        last.fields.join(", "),
    ))
}

fn unproven_tokens(count: u64) -> Option<String> {
    (count > 0).then(|| {
        format!("{count} tokens were not confirmed by the primary since the last outage: another one would answer 503 for them")
    })
}

fn parity(deps: &Deps) -> ParityStatus {
    let report = deps.parity.report();
    let mismatches = report.mismatches();
    let [undecidable, refuses_more, grants_more, differs] = report.by_kind;
    ParityStatus {
        checked: report.checked,
        mismatches,
        by_kind: MismatchCounts {
            undecidable,
            refuses_more,
            grants_more,
            differs,
        },
        not_covered: report.not_covered,
        pending: report.pending,
        unsettled: report.unsettled,
        dropped: report.dropped,
        last: report.last.map(|last| MismatchStatus {
            at: last.at.to_string(),
            kind: last.kind.name().to_owned(),
            operation: last.operation.to_owned(),
            path: last.path,
            fields: last.fields.into_iter().map(str::to_owned).collect(),
        }),
        quarantined: quarantines::listed(deps),
    }
}

fn primary(deps: &Deps) -> PrimaryFacts {
    let view = &deps.local.view;
    let authority = view.authority();
    let parsed = authority
        .policies
        .iter()
        .flat_map(|policies| policies.parsed.iter());
    let undecidable = parsed.flat_map(|(name, policy)| undecided(name, policy.as_ref()));
    let own = deps.own.token();
    let unstored = own.unstored.as_ref().map(|unstored| unstored.ends);
    let stored = || view.credential(&CredentialName::Own).map(|own| own.expires);
    PrimaryFacts {
        cluster: authority.cluster.is_some(),
        policies: authority.policies.is_some(),
        undecidable: undecidable.collect(),
        credential: unstored.or_else(stored),
        own,
        untrusted: deps.own.untrusted(),
        unidentified: deps.own.unidentified(),
        missing: deps.own.missing(&authority.settings),
    }
}

/// What decisions go by, with its ages. What was never seen at all is told of by itself.
fn footings(deps: &Deps) -> Vec<FootingFacts> {
    let (view, now) = (&deps.local.view, deps.local.clock.now());
    let authority = view.authority();
    let fact = |what, verified_at| FootingFacts {
        what,
        verified_at,
        used: true,
    };
    let cluster = authority.cluster.iter();
    let mut footings: Vec<_> = cluster
        .map(|cluster| fact(Footing::Mounts, cluster.verified_at))
        .collect();
    if let Some(policies) = &authority.policies {
        let set = &policies.set;
        footings.push(fact(Footing::Policies, set.verified_at));
        let unread = set.unread.keys();
        footings.extend(unread.map(|name| FootingFacts {
            used: view.uses_policy(name, now),
            ..fact(Footing::Policy(name.clone()), set.verified(name))
        }));
    }
    let used = view.entities_in_use(now).into_iter();
    footings.extend(used.filter_map(|entity| {
        let seen = match authority.identities.get(&entity) {
            Some(known) => known.verified_at,
            None => first_token_of(deps, &entity, now)?,
        };
        Some(fact(Footing::Identity(entity), seen))
    }));
    footings
}

/// When the oldest living token of an entity was made: so old is what its tokens are decided by until its identity is
/// mirrored.
fn first_token_of(deps: &Deps, entity: &EntityId, now: Now) -> Option<WallTime> {
    let living = grants::living(&deps.local, now);
    let of_entity = living.filter(|live| live.grant.facts.entity_id.as_ref() == Some(entity));
    let made = of_entity.map(|live| live.grant.facts.creation_time).min();
    made.map(WallTime::from_secs)
}

fn undecided(name: &PolicyName, policy: Option<&Policy>) -> Vec<Undecided> {
    let of = |rule| Undecided {
        policy: name.to_string(),
        rule,
    };
    match policy {
        None => vec![of(None)],
        Some(policy) => policy.undecided().map(|rule| of(Some(rule))).collect(),
    }
}

/// What the last self-check showed, with what the writer says of itself now.
fn store(deps: &Deps) -> StoreFacts {
    let checked = deps.checks.borrow().store.clone();
    let stats = deps.local.sequencer.stats();
    StoreFacts {
        failure: stats.failed.or(checked.failure),
        rolled_back: deps.local.view.authority().rolled_back,
        damage: deps.local.view.damage(),
        ..checked
    }
}

fn store_status(deps: &Deps) -> StoreStatus {
    let stats = deps.local.sequencer.stats();
    StoreStatus {
        generation: stats.generation,
        free_bytes: deps.checks.borrow().store.room,
        ledger_bytes: stats.ledger.bytes,
        ledger_max_bytes: stats.ledger_max,
    }
}

/// Leases of Holdover's own of mirrored paths. What a client leased is that client's own matter.
fn leases(deps: &Deps, settings: &Settings) -> Vec<LeaseFacts> {
    let secrets = deps.local.view.secrets();
    let in_outage = deps.local.view.authority().phase.is_outage();
    let counts = |holder: &LeaseHolder| match holder {
        // Its holder asks the primary for another while that is there.
        LeaseHolder::Assigned(_) => in_outage,
        LeaseHolder::Pooled | LeaseHolder::Shared => true,
        LeaseHolder::Token(_) => false,
    };
    let own = secrets
        .leases
        .values()
        .filter(|held| counts(&held.lease.holder) && settings.mirror(&held.lease.path()).is_some());
    let facts = own.map(|held| LeaseFacts {
        path: held.lease.path(),
        deadline: held.lease.deadline,
    });
    facts.collect()
}

fn addresses(deps: &Deps) -> Vec<AddressStatus> {
    let first = deps.addresses.to_try().next();
    let first = first.map(|one| one.address.url.clone());
    let all = deps.addresses.snapshots().into_iter();
    all.map(|one| address(one, first.as_deref())).collect()
}

fn address(one: AddressSnapshot, first: Option<&str>) -> AddressStatus {
    let millis = |latency: Duration| u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
    AddressStatus {
        in_use: first == Some(one.url.as_str()),
        address: one.url,
        healthy: one.healthy,
        latency_ms: one.latency.map(millis),
        cluster: one.cluster.map(|cluster| cluster.to_string()),
        role: one.role.map(|role| role.as_str().to_owned()),
        behind: one.behind,
        per_request: one.per_request,
        last_failure: one.last_failure.map(|failure| AddressFailureStatus {
            at: failure.at.to_string(),
            error: failure.why,
        }),
    }
}

/// As many of them are shown one by one.
const REVOCATIONS_SHOWN: usize = 100;

fn revocations(deps: &Deps) -> Vec<RevocationStatus> {
    let queue = deps.local.view.queue();
    let shown = queue.iter().take(REVOCATIONS_SHOWN);
    let authority = deps.local.view.authority();
    let here = &authority.settings.namespace;
    shown.map(|queued| revocation(queued, here)).collect()
}

fn revocation(queued: &QueuedRevocation, here: &Namespace) -> RevocationStatus {
    let (accessor, lease) = match &queued.target {
        RevocationTarget::Token(accessor) => (Some(accessor.to_string()), None),
        RevocationTarget::Lease(lease) => (None, Some(lease.as_str().to_owned())),
    };
    let held_by = match queued.held_by {
        _ if !queued.is_of(here) => Some("namespace"),
        Some(HeldBy::Failure) => Some("failure"),
        Some(HeldBy::Policy) => Some("policy"),
        Some(HeldBy::Rights) => Some("rights"),
        None => None,
    };
    RevocationStatus {
        accessor,
        lease,
        since: queued.at.to_string(),
        path: queued.path().to_owned(),
        held_by: held_by.map(str::to_owned),
        missing_rule: (queued.held_by == Some(HeldBy::Rights)).then(|| queued.rule()),
    }
}

/// That some revocations were tried and are not done, by what keeps them.
fn held_revocations(queue: &[Arc<QueuedRevocation>], here: &Namespace) -> Vec<String> {
    let mut held: BTreeMap<String, usize> = BTreeMap::new();
    for queued in queue {
        let why = match queued.held_by {
            _ if !queued.is_of(here) => {
                "they are of another namespace than primary.namespace, and wait until that is configured again".to_owned()
            }
            None => continue,
            Some(HeldBy::Failure) => format!("the primary could not do it at {}", queued.path()),
            Some(HeldBy::Policy) => "no policy of whoever asked allows it any more".to_owned(),
            Some(HeldBy::Rights) => format!("Holdover's own policy lacks {}", queued.rule()),
        };
        *held.entry(why).or_default() += 1;
    }
    let shown = held.into_iter().map(|(why, count)| {
        format!("{count} revocations were acknowledged here and are not done at the primary: {why}. What they are about is refused here")
    });
    shown.collect()
}

/// Tokens that live and that another outage would not decide by, because nothing proved them, or what they hang on, since the
/// last one.
fn unproven(deps: &Deps, now: Now) -> u64 {
    let view = &deps.local.view;
    let Some(from) = view.authority().proven_from else {
        return 0;
    };
    let living = grants::living(&deps.local, now);
    let unproven = living.filter(|live| view.unproven(&live.grant, from).next().is_some());
    u64::try_from(unproven.count()).unwrap_or(u64::MAX)
}

fn counts(deps: &Deps, now: Now) -> GrantCounts {
    let mut counts = GrantCounts::default();
    let authority = deps.local.view.authority();
    let outage = authority.phase.outage().map(|outage| &outage.id);
    for live in grants::living(&deps.local, now) {
        if live.grant.is_replica() {
            counts.replica += 1;
        } else {
            counts.primary += 1;
        }
        counts.unsettled += u64::from(live.grant.is_left_over(outage));
    }
    counts
}

fn outage(outage: &Outage) -> OutageStatus {
    OutageStatus {
        id: outage.id.to_string(),
        started_at: outage.started_at.to_string(),
        cause: outage.cause.to_string(),
    }
}
