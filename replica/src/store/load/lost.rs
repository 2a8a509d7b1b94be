//! What is concluded where rows are lost: always the most cautious that they could have said.

use std::collections::BTreeMap;

use serde_json::Value;
use shared::{
    block::{BlockCause, IssuingBlock},
    change::{Cluster, PhaseRecord},
    failover::Phase,
    kv::{Doubt, Doubted},
    name::{ClusterId, Namespace},
    offboarding::Offboarded,
    quarantine::{Quarantine, Quarantined},
    time::{BootId, BootTime, Mark, WallTime},
};

use super::{Belief, Header, Loaded, Loader};
use crate::{
    key::Keys,
    store::sums::Tallies,
    table::{At, Table, Tables},
    view::{Known, Lost},
};

/// What is lost because the rows do not add up.
pub(super) fn missing(header: &Header, found: &Tallies, differing: Tables, belief: Belief) -> Lost {
    let before = header.incomplete;
    let nothing_given = belief == Belief::Refusals;
    let is_missing = |table: Table| {
        let differs = differing.contains(table) || goes_with(table, differing);
        let differs = differs || nothing_given && !table.only_refuses();
        match table {
            // It is there or not: what was put there by somebody else only refuses.
            Table::Offboarded => differs && expected(header, table) > found.rows(table),
            Table::Mark => differing.contains(table),
            _ => table.kept().is_some() && differs,
        }
    };
    let mut lost = Lost::default();
    lost.put_tables(before.and(Tables::counted(is_missing)));
    lost
}

fn expected(header: &Header, table: Table) -> u64 {
    header.rows.rows(table).unwrap_or(0)
}

/// Whether rows of `table` say nothing without all of those of another table that differs: grants without what revoked
/// them, texts of policies without when they were read.
pub(super) fn goes_with(table: Table, differing: Tables) -> bool {
    match table {
        Table::Grant => differing.contains(Table::Revocation),
        Table::Policies => differing.contains(Table::PoliciesSeen),
        Table::PoliciesSeen => differing.contains(Table::Policies),
        _ => false,
    }
}

impl Loader<'_> {
    /// Whether the row that says which cluster is trusted is lost, and the last commit does not say it either.
    pub(super) fn trusts_any_cluster(&self) -> bool {
        self.belief == Belief::Rows && self.lost.any(Table::Cluster) && self.pinned.is_none()
    }

    /// A doubt that is lost may be of anything.
    pub(super) fn doubt_what_was_lost(&mut self) {
        if !self.lost.any(Table::Doubt) {
            return;
        }
        let settings = std::sync::Arc::clone(&self.settings);
        for mirror in &settings.mirrors {
            self.doubts.add(&Doubt {
                of: Doubted::Mirror(mirror.path.configured()),
                since: WallTime::EPOCH,
                vanished: false,
            });
        }
    }

    /// Where the row is lost, the cluster of the last commit stays the trusted one; of its mounts nothing is known.
    pub(super) fn trust_the_pinned_cluster(&mut self) {
        let Some(pinned) = self
            .pinned
            .clone()
            .filter(|_| self.lost.any(Table::Cluster))
        else {
            return;
        };
        let is_here = self
            .known
            .cluster
            .as_ref()
            .is_some_and(|here| here.id == pinned);
        if is_here {
            return;
        }
        let unseen = unseen(pinned, self.settings.namespace.clone());
        let here = self.within().only(Table::Cluster);
        match self.lost.has(&here) && self.there.is_none() {
            true => self.known.put_cluster(unseen),
            // The last that was seen is another than that of this namespace.
            false => {
                let known = std::mem::take(&mut self.known);
                self.known = Known {
                    cluster: None,
                    ..known
                }
                .beside(unseen);
                self.there = None;
            }
        }
    }

    /// A row's key tells what was in quarantine, if that is a policy or a workload of today; else it may be any of them.
    pub(super) fn find_lost_quarantines(&mut self) {
        if self.lost.of(Table::Quarantine).next().is_none() {
            return;
        }
        let policies = self.known.policies.clone();
        let policies = policies.iter().flat_map(|known| known.set.names());
        let policies = policies.map(|name| Quarantined::Policy(name.clone()));
        let workloads = self.settings.workloads.iter();
        let issuing = workloads.map(|entry| Quarantined::Issuing(entry.name.clone()));
        let all = policies.chain(issuing);
        let within = self.within();
        let found: Vec<Quarantined> = all
            .filter(|what| self.lost.has_row(&within.quarantine(what)))
            .collect();
        if found.len() < self.lost.of(Table::Quarantine).count() {
            let mut tables = Tables::default();
            tables.insert(Table::Quarantine);
            self.lost.put_tables(tables);
        }
        for what in found {
            self.known.put_quarantine(unexplained(what));
        }
    }
}

/// A quarantine of which nothing is known but that it is one: only an operator ends it.
pub(crate) fn unexplained(what: Quarantined) -> Quarantine {
    Quarantine {
        what,
        since: WallTime::EPOCH,
        operation: String::new(),
        path: String::new(),
        primary: 0,
        replica: 0,
        fields: Vec::new(),
        text: None,
        of_sets: Vec::new(),
    }
}

/// Of time, of the machine's state and of offboarding: nothing that was proven before the last commit counts, time does
/// not fall behind it, and what may have been taken away was.
pub(super) fn most_cautious(keys: &Keys, header: &Header, known: &mut Known, loaded: &mut Loaded) {
    let last = header.stamp.unwrap_or_else(|| latest(known));
    let is_lost = |table| known.lost.has(&At::only(keys, table));
    if is_lost(Table::Phase) {
        loaded.phase = Some(PhaseRecord {
            phase: Phase::Suspect,
            epoch: 0,
            proven_from: Some(last.plus(std::time::Duration::from_millis(1))),
        });
    }
    // Where no row tells it, the mark does: one that is not ahead leaves nothing of that block but what the others stand for, too.
    let may_be_ahead = is_lost(Table::Mark) || loaded.mark.is_some_and(|mark| mark.ahead);
    if is_lost(Table::Mark) {
        // One that was put back is a moment all the same that time was not before.
        let wall = loaded.mark.map_or(last, |mark| mark.wall.max(last));
        loaded.mark = Some(Mark {
            wall,
            boot: BootTime::from_millis(0),
            boot_id: BootId([0; 16]),
            ahead: loaded.mark.is_some_and(|mark| mark.ahead),
        });
    }
    for cause in [
        BlockCause::ClockAhead,
        BlockCause::ClockBehind,
        BlockCause::Rebooted,
    ] {
        let (at, may_be) = (
            At::block(keys, cause),
            cause != BlockCause::ClockAhead || may_be_ahead,
        );
        if known.lost.has_row(&at) || may_be && known.lost.has(&at) {
            let since = last;
            loaded.view.block_issuing(IssuingBlock { cause, since });
        }
    }
    if is_lost(Table::Offboarded) && loaded.view.authority().offboarded.is_none() {
        let at = WallTime::EPOCH;
        loaded.view.set_offboarded(Some(Offboarded { at }));
    }
}

/// The latest moment that is known of, where no commit says when it was.
fn latest(known: &Known) -> WallTime {
    let cluster = known.cluster.iter().map(|cluster| cluster.verified_at);
    let policies = known
        .policies
        .iter()
        .map(|policies| policies.set.verified_at);
    let workloads = known.workloads.values().map(|of| of.verified_at);
    let mirrors = known.mirrors.values().map(|of| of.verified_at);
    let all = cluster.chain(policies).chain(workloads).chain(mirrors);
    all.max().unwrap_or(WallTime::EPOCH)
}

/// A cluster of which nothing is known but that it is trusted.
fn unseen(id: ClusterId, namespace: Namespace) -> Cluster {
    Cluster {
        id,
        namespace,
        name: String::new(),
        version: String::new(),
        seal_status: Value::Null,
        performance_mode: String::new(),
        mounts: BTreeMap::new(),
        token_ttls: None,
        verified_at: WallTime::EPOCH,
    }
}
