//! The apply side: changes become rows for the store and a next view, which is published as a whole.
//!
//! A stage reads the view and writes nothing to it before [`Stage::publish`]. Between the two lies the commit.

use std::{collections::HashMap, mem, sync::Arc};

use shared::{
    change::{Change, CredentialName, PhaseRecord, Pooled, QueuedRevocation},
    grant::Revocation,
    lease::{Assignee, LeaseHolder},
    ledger::Entry,
    name::TokenDigest,
    settings::Settings,
    time::Now,
};

use crate::{
    entropy::Entropy,
    key::{Keys, Sealer, epoch::Budget},
    seal::SealingError,
    table::Op,
    view::{HeldCredential, Known, LiveGrant, Secrets, View},
};

mod add;
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
    grants: HashMap<TokenDigest, Option<Arc<LiveGrant>>>,
    revoked: HashMap<TokenDigest, Revocation>,
    credentials: Vec<(CredentialName, Option<Arc<HeldCredential>>)>,
    queue: Vec<(u64, Option<Arc<QueuedRevocation>>)>,
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
            grants: HashMap::new(),
            revoked: HashMap::new(),
            credentials: Vec::new(),
            queue: Vec::new(),
            ops: Vec::new(),
            entries: Vec::new(),
        }
    }

    /// Adds one change.
    pub(super) fn add(
        &mut self,
        change: Change,
        when: When,
        sealer: Sealer<'_>,
    ) -> Result<(), SealingError> {
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

    /// Makes it the view.
    ///
    /// Grants come after values and who decides, because whoever presents a new token must find what it was issued from.
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
        if let Some(phase) = self.phase {
            view.set_phase(&phase);
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
