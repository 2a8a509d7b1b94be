//! Who decides, and by which rules: what binds at once is set here by whoever says so, what is known is published by the writer.

use std::{ops::Deref, sync::Arc};

use arc_swap::Guard;
use shared::{
    block::{BlockCause, Blocks, IssuingBlock},
    change::PhaseRecord,
    damage::RowKind,
    failover::Phase,
    offboarding::Offboarded,
    settings::Settings,
    time::WallTime,
};

use super::{Known, View};

/// Who decides, by which rules: consistent in itself, replaced as a whole.
///
/// What is set at once stands here, field by field; what the writer publishes is one field, so that neither can undo the
/// other. To a decision both are one authority, and what is known reads like a field of it.
#[derive(Clone)]
pub struct Authority {
    /// The configuration's part in decisions.
    pub settings: Arc<Settings>,
    /// Raised whenever they are replaced: a change expecting another version is refused.
    pub settings_version: u64,
    /// The machine's state.
    pub phase: Phase,
    /// Raised when who decides changes.
    pub epoch: u64,
    /// When the recovery began that ended the last outage; none before the first.
    pub proven_from: Option<WallTime>,
    /// Issuing is paused for the fence.
    pub paused: bool,
    /// The replica is older than its anchor: nothing is issued until the primary was seen.
    pub rolled_back: bool,
    /// What else stands against issuing on this host.
    pub blocks: Blocks,
    /// Since when the primary refuses Holdover's own credential.
    pub offboarded: Option<Offboarded>,
    /// What the primary said last.
    pub known: Arc<Known>,
}

impl Authority {
    /// The same as if nothing were in quarantine.
    #[must_use]
    pub fn without_quarantines(&self) -> Self {
        let mut authority = self.clone();
        let known = Arc::make_mut(&mut authority.known);
        known.quarantines.clear();
        known.lost.mend_all(RowKind::Quarantine);
        authority
    }

    /// What nothing is issued for on this host, if there is such a thing.
    pub fn issuing_blocked(&self) -> Option<IssuingBlock> {
        let issue_after_reboot = self.settings.bounds.issue_after_reboot;
        self.blocks.standing(issue_after_reboot).next()
    }
}

impl Deref for Authority {
    type Target = Known;

    fn deref(&self) -> &Known {
        &self.known
    }
}

impl View {
    /// Who decides, now. Load it once per request.
    pub fn authority(&self) -> Guard<Arc<Authority>> {
        self.authority.load()
    }

    /// Changes what binds at once. Readers and the writer may do so at the same time.
    pub(super) fn bind(&self, change: impl Fn(&mut Authority)) {
        self.authority.rcu(|current| {
            let mut next = Authority::clone(current);
            change(&mut next);
            next
        });
    }

    /// Replaces the configuration's part in decisions.
    pub(crate) fn set_settings(&self, settings: &Arc<Settings>) {
        self.bind(|authority| {
            authority.settings = Arc::clone(settings);
            authority.settings_version = authority.settings_version.wrapping_add(1);
        });
    }

    /// Pauses issuing, or lets it go on.
    pub(crate) fn set_paused(&self, paused: bool) {
        self.bind(|authority| authority.paused = paused);
    }

    /// Says whether the replica is older than its anchor.
    pub(crate) fn set_rolled_back(&self, rolled_back: bool) {
        self.bind(|authority| authority.rolled_back = rolled_back);
    }

    /// Nothing is issued for this reason from here on.
    pub(crate) fn block_issuing(&self, block: IssuingBlock) {
        self.bind(|authority| authority.blocks.add(block));
    }

    /// The same, no longer. The writer's alone.
    pub(crate) fn lift_block(&self, cause: BlockCause) {
        self.bind(|authority| authority.blocks.remove(cause));
    }

    /// The machine's state is this from here on.
    pub(crate) fn set_phase(&self, record: &PhaseRecord) {
        self.bind(|authority| {
            authority.phase = record.phase.clone();
            authority.epoch = record.epoch;
            authority.proven_from = record.proven_from;
        });
    }

    /// Says since when the primary refuses Holdover's own credential.
    pub(crate) fn set_offboarded(&self, since: Option<Offboarded>) {
        self.bind(|authority| authority.offboarded = since);
    }

    /// Publishes what is known. The writer's alone.
    pub(crate) fn set_known(&self, known: Known) {
        let known = Arc::new(known);
        self.bind(|authority| authority.known = Arc::clone(&known));
    }
}
