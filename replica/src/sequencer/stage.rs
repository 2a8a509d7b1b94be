//! The apply side: changes become rows for the store and a next view, which is published as a whole.
//!
//! A stage reads the view and writes nothing to it before [`Stage::publish`]. Between the two lies the commit.

use std::{collections::HashMap, mem, sync::Arc};

use shared::{
    block::BlockCause,
    change::{Change, CredentialName, PhaseRecord, Pooled, QueuedRevocation},
    grant::Revocation,
    kv::{Doubted, Kept},
    lease::{Assignee, LeaseHolder},
    ledger::Entry,
    name::{ClusterId, TokenDigest},
    offboarding::Offboarded,
    settings::Settings,
    time::{Now, WallTime},
};

use crate::{
    entropy::Entropy,
    key::{Keys, Sealer, epoch::Budget},
    seal::SealingError,
    table::Op,
    view::{DoubtStep, HeldCredential, Known, LiveGrant, Secrets, View},
};

mod add;
mod doubt;
mod mend;
mod policies;
mod unchanged;
mod value;

use add::Adder;

/// When a change takes effect in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum When {
    /// Once it is durable.
    Committed,
    /// It has: a state or a revocation, which bind at once.
    Already,
}

/// What a group of submissions makes of a view.
pub(super) struct Stage<'v> {
    view: &'v View,
    secrets: Option<Secrets>,
    known: Option<Known>,
    phase: Option<PhaseRecord>,
    offboarded: Option<Option<Offboarded>>,
    /// Blocks that no longer stand.
    lifted: Vec<BlockCause>,
    grants: HashMap<TokenDigest, Option<Arc<LiveGrant>>>,
    revoked: HashMap<TokenDigest, Revocation>,
    credentials: Vec<(CredentialName, Option<Arc<HeldCredential>>)>,
    queue: Vec<(u64, Option<Arc<QueuedRevocation>>)>,
    doubts: Vec<DoubtStep>,
    /// When the submission that is being added was asked for.
    asked_at: Option<WallTime>,
    ops: Vec<Op>,
    entries: Vec<Entry>,
}

impl<'v> Stage<'v> {
    /// Nothing yet.
    pub(super) fn new(view: &'v View) -> Self {
        Self {
            view,
            secrets: None,
            known: None,
            phase: None,
            offboarded: None,
            lifted: Vec::new(),
            grants: HashMap::new(),
            revoked: HashMap::new(),
            credentials: Vec::new(),
            queue: Vec::new(),
            doubts: Vec::new(),
            asked_at: None,
            ops: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// What is added from here on was asked for from that moment on.
    pub(super) fn asked_at(&mut self, at: Option<WallTime>) {
        self.asked_at = at;
    }

    /// Adds one change.
    pub(super) fn add(
        &mut self,
        change: Change,
        when: When,
        sealer: Sealer<'_>,
    ) -> Result<(), SealingError> {
        if self.is_overtaken(&change) {
            return Ok(());
        }
        Adder::new(self, sealer).add(change, when)
    }

    /// What is to be done to the store, in order.
    pub(super) fn take_ops(&mut self) -> Vec<Op> {
        mem::take(&mut self.ops)
    }

    /// What the ledger is to say.
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        mem::take(&mut self.entries)
    }

    /// The cluster that is trusted as this stage leaves it, if it changes that.
    pub(super) fn cluster(&self) -> Option<&ClusterId> {
        let known = self.known.as_ref()?;
        known.cluster.as_ref().map(|cluster| &cluster.id)
    }

    /// The grant of a token as this stage leaves it.
    pub(super) fn live(&self, digest: &TokenDigest) -> Option<Arc<LiveGrant>> {
        match self.grants.get(digest) {
            Some(staged) => staged.clone(),
            None => self.view.grant(digest),
        }
    }

    /// Whether this stage, or the view beneath it, has revoked the token.
    pub(super) fn is_revoked(&self, digest: &TokenDigest) -> bool {
        self.revoked.contains_key(digest) || self.view.revocation(digest).is_some()
    }

    /// Whether a lease is still in its pool, and whom it is for has no other of its path that lives `now`.
    pub(super) fn is_pooled(&self, pooled: &Pooled, now: Now) -> bool {
        let published = self.view.secrets();
        let secrets = self.secrets.as_ref().unwrap_or(&published);
        let Some(held) = secrets.leases.get(&pooled.lease) else {
            return false;
        };
        let has_another = |to: &Assignee| {
            secrets
                .leases_of(&held.lease.place)
                .any(|other| other.lease.is_assigned_to(to) && !other.lease.deadline.passed(now))
        };
        held.lease.holder == LeaseHolder::Pooled && !pooled.to.as_ref().is_some_and(has_another)
    }

    /// Whether a change is of a key that was read anew after this was asked for.
    fn is_overtaken(&self, change: &Change) -> bool {
        let place = match change {
            Change::Key(key) => &key.place,
            Change::KeyGone(place) | Change::RecordGone(place, _) => place,
            Change::Record(record, _) => &record.place,
            _ => return false,
        };
        let Some(asked_at) = self.asked_at else {
            return false;
        };
        let staged = self.doubts.iter().any(|step| match step {
            DoubtStep::Answer(Doubted::Key(of), at) => of == place && *at > asked_at,
            _ => false,
        });
        staged || self.view.doubts().was_read_after(place, asked_at)
    }

    /// Whether what is kept of a key is still this.
    pub(super) fn is_kept(&self, kept: &Kept) -> bool {
        let published = self.view.secrets();
        let secrets = self.secrets.as_ref().unwrap_or(&published);
        secrets.kept(&kept.place) == *kept
    }

    /// Makes it the view.
    ///
    /// Doubts end after the values that answer them, because whoever sees none must find the new value. Grants come after values and who decides, because whoever presents a new token must find what it was issued from.
    /// Revocations come last, because each is kept on the record of its grant: one that came before that would be kept
    /// beside it for good.
    pub(super) fn publish(self) {
        let view = self.view;
        if let Some(secrets) = self.secrets {
            view.set_secrets(secrets);
        }
        if let Some(known) = self.known {
            view.set_known(known);
        }
        if !self.doubts.is_empty() {
            let authority = view.authority();
            let steps = &self.doubts;
            view.change_doubts(|doubts| {
                for step in steps {
                    doubts.take_step(step, &authority);
                }
            });
        }
        if let Some(phase) = self.phase {
            view.set_phase(&phase);
        }
        if let Some(offboarded) = self.offboarded {
            view.set_offboarded(offboarded);
        }
        for cause in self.lifted {
            view.lift_block(cause);
        }
        for (name, credential) in self.credentials {
            view.set_credential(name, credential);
        }
        for (id, queued) in self.queue {
            view.set_queued(id, queued);
        }
        for (digest, live) in &self.grants {
            match live {
                Some(live) => view.put_grant(live),
                None => view.forget_grant(digest),
            }
        }
        for revocation in self.revoked.values() {
            view.put_revocation(revocation);
        }
    }

    fn secrets(&mut self) -> &mut Secrets {
        self.secrets
            .get_or_insert_with(|| Secrets::clone(&self.view.secrets()))
    }

    fn known(&mut self) -> &mut Known {
        self.known
            .get_or_insert_with(|| Known::clone(&self.view.authority().known))
    }
}

impl View {
    /// The view that `changes` make, in their order, without a store beneath it. What they say of the ledger and of
    /// the mark is not in a view.
    ///
    /// # Errors
    /// If a value cannot be sealed.
    pub fn from_changes(
        settings: Arc<Settings>,
        keys: Keys,
        changes: impl IntoIterator<Item = Change>,
        entropy: &dyn Entropy,
    ) -> Result<Self, SealingError> {
        let view = Self::new(settings, keys.clone());
        let mut budget = Budget::unbounded();
        let mut stage = Stage::new(&view);
        for change in changes {
            let sealer = Sealer {
                keys: &keys,
                budget: &mut budget,
                entropy,
            };
            stage.add(change, When::Committed, sealer)?;
        }
        stage.publish();
        Ok(view)
    }
}
