//! The apply side: changes become rows for the store and a next view, which is published as a whole.
//!
//! A stage reads the view and writes nothing to it before [`Stage::publish`]. Between the two lies the commit.

use std::{collections::HashMap, sync::Arc};

use serde::Serialize;
use shared::{
    change::{Change, Credential, CredentialName, PhaseRecord, PolicySet, QueuedRevocation},
    grant::{Grant, Revocation},
    identity::Identity,
    ledger::Entry,
    name::{EntityId, TokenDigest},
    settings::Settings,
    time::WallTime,
    workload::WorkloadAuthority,
};

use crate::{
    entropy::Entropy,
    key::{Keys, epoch::Budget},
    seal::{Sealed, Sealer, SealingError},
    table::{At, CredentialRow, IdentityRow, Op, Table, WithBody},
    view::{Authority, HeldCredential, LiveGrant, Policies, Secrets, View},
};

mod approle;
mod value;

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
    authority: Option<Authority>,
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
            authority: None,
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
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        match change {
            Change::AppRole(role) => self.approle(*role, sealer)?,
            Change::AppRoleGone(key) => self.approle_gone(&key),
            Change::Authority(authority) => self.workload(*authority, sealer)?,
            Change::AuthorityGone(name) => {
                self.delete(At::authority(&self.view.keys, &name));
                self.next_authority().workloads.remove(&name);
            }
            Change::Cluster(cluster) => {
                self.put_only(Table::Cluster, &cluster, sealer)?;
                self.next_authority().cluster = Some(Arc::from(cluster));
            }
            Change::Coverage(hour) => {
                self.put(At::coverage(&self.view.keys, hour.start), &hour, sealer)?;
            }
            Change::CoverageGone(start) => self.delete(At::coverage(&self.view.keys, start)),
            Change::Credential(name, credential) => self.credential(name, credential, sealer)?,
            Change::CredentialGone(name) => {
                self.delete_with_body(At::credential(&self.view.keys, &name));
                self.credentials.push((name, None));
            }
            Change::Grant(grant) => self.grant(*grant, sealer)?,
            Change::GrantForgotten(digest) => self.grant_forgotten(digest),
            Change::Identity(id, identity) => self.identity(id, *identity, sealer)?,
            Change::Key(key) => self.key(*key, sealer)?,
            Change::KeyGone(place) => self.key_gone(&place),
            Change::Lease(lease, body) => self.lease(*lease, body, sealer)?,
            Change::LeaseDetached(id, who) => self.lease_detached(&id, who, sealer)?,
            Change::LeaseGone(id) => self.lease_gone(&id),
            Change::LeaseTaken(id, to) => self.lease_taken(&id, to, sealer)?,
            Change::Ledger(entry) => self.entries.push(*entry),
            Change::Mark(mark) => self.put_only(Table::Mark, &mark, sealer)?,
            Change::Mirror(mirror) => self.mirror(*mirror, sealer)?,
            Change::MirrorGone(path) => self.mirror_gone(&path),
            Change::Phase(record) => {
                self.put_only(Table::Phase, &record, sealer)?;
                if when == When::Committed {
                    self.phase = Some(record);
                }
            }
            Change::Policies(set) => self.policies(*set, sealer)?,
            Change::Proven(digest, at) => self.proven(&digest, at, sealer)?,
            Change::Quarantine(quarantine) => {
                let at = At::quarantine(&self.view.keys, &quarantine.set);
                self.put(at, &quarantine, sealer)?;
                let quarantines = &mut self.next_authority().quarantines;
                quarantines.insert(quarantine.set.clone(), Arc::from(quarantine));
            }
            Change::QuarantineLifted(set) => {
                self.delete(At::quarantine(&self.view.keys, &set));
                self.next_authority().quarantines.remove(&set);
            }
            Change::Queue(queued) => {
                self.put(At::queue(&self.view.keys, queued.id), &queued, sealer)?;
                self.queue.push((queued.id, Some(Arc::from(queued))));
            }
            Change::QueueDone(id) => {
                self.delete(At::queue(&self.view.keys, id));
                self.queue.push((id, None));
            }
            Change::Record(record, body) => self.record(*record, body, sealer)?,
            Change::RecordGone(place, version) => self.record_gone(&place, version),
            Change::Revoked(revocation) => self.revoked(revocation, sealer)?,
            Change::SecretId(secret_id) => self.secret_id(*secret_id, sealer)?,
            Change::SecretIdGone(digest) => self.secret_id_gone(&digest),
        }
        Ok(())
    }

    /// What is to be done to the store, in order.
    pub(super) fn take_ops(&mut self) -> Vec<Op> {
        std::mem::take(&mut self.ops)
    }

    /// What the ledger is to say.
    pub(super) fn take_entries(&mut self) -> Vec<Entry> {
        std::mem::take(&mut self.entries)
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

    /// Makes it the view: values first, then who decides, then grants, then revocations.
    pub(super) fn publish(self) {
        let view = self.view;
        if let Some(secrets) = self.secrets {
            view.secrets.store(Arc::new(secrets));
        }
        publish_authority(view, self.authority, self.phase);
        let credentials = view.credentials.pin();
        for (name, credential) in self.credentials {
            match credential {
                Some(credential) => credentials.insert(name, credential),
                None => credentials.remove(&name),
            };
        }
        let queue = view.queue.pin();
        for (id, queued) in self.queue {
            match queued {
                Some(queued) => queue.insert(id, queued),
                None => queue.remove(&id),
            };
        }
        for (digest, live) in &self.grants {
            match live {
                Some(live) => view.put_grant(live),
                None => view.forget_grant(digest),
            }
        }
        for revocation in self.revoked.values() {
            view.strike(revocation);
            view.settle(&revocation.digest);
        }
    }

    fn credential(
        &mut self,
        name: CredentialName,
        credential: Credential,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let at = At::credential(&self.view.keys, &name);
        let body = self.put_body(at, credential.token.expose().as_bytes(), sealer)?;
        let row = CredentialRow {
            name,
            accessor: credential.accessor,
            expires: credential.expires,
            renewable: credential.renewable,
            issued_at: credential.issued_at,
        };
        self.put_with_body(at, &row, &body, sealer)?;
        let held = HeldCredential::new(&row, body, at.key.to_vec());
        self.credentials.push((row.name, Some(Arc::new(held))));
        Ok(())
    }

    fn workload(
        &mut self,
        authority: WorkloadAuthority,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let at = At::authority(&self.view.keys, &authority.workload);
        self.put(at, &authority, sealer)?;
        let name = authority.workload.clone();
        let workloads = &mut self.next_authority().workloads;
        workloads.insert(name, Arc::new(authority));
        Ok(())
    }

    fn grant_forgotten(&mut self, digest: TokenDigest) {
        self.delete(At::grant(&self.view.keys, &digest));
        self.delete(At::revocation(&self.view.keys, &digest));
        self.grants.insert(digest, None);
        self.revoked.remove(&digest);
    }

    fn grant(&mut self, grant: Grant, sealer: &mut Sealer<'_>) -> Result<(), SealingError> {
        self.put(At::grant(&self.view.keys, &grant.digest), &grant, sealer)?;
        let digest = grant.digest;
        let live = Arc::new(LiveGrant::new(grant));
        self.grants.insert(digest, Some(live));
        Ok(())
    }

    fn proven(
        &mut self,
        digest: &TokenDigest,
        at: WallTime,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let Some(live) = self.live(digest) else {
            return Ok(());
        };
        if live.grant.verified_at >= at || self.is_revoked(digest) {
            return Ok(());
        }
        let grant = Grant {
            verified_at: at,
            ..live.grant.clone()
        };
        self.grant(grant, sealer)
    }

    fn revoked(
        &mut self,
        revocation: Revocation,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        // The first revocation of a token stands, on disk as in memory.
        let staged = self.revoked.get(&revocation.digest).cloned();
        let first = staged
            .or_else(|| self.view.revocation(&revocation.digest))
            .unwrap_or(revocation);
        let at = At::revocation(&self.view.keys, &first.digest);
        self.put(at, &first, sealer)?;
        self.revoked.insert(first.digest, first);
        Ok(())
    }

    fn identity(
        &mut self,
        id: EntityId,
        identity: Identity,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let known = self.next_authority().identities.get(&id);
        if known.is_some_and(|known| **known == identity) {
            return Ok(());
        }
        let at = At::identity(&self.view.keys, &id);
        let row = IdentityRow { id, identity };
        self.put(at, &row, sealer)?;
        let identities = &mut self.next_authority().identities;
        identities.insert(row.id, Arc::new(row.identity));
        Ok(())
    }

    fn policies(&mut self, set: PolicySet, sealer: &mut Sealer<'_>) -> Result<(), SealingError> {
        let before = self.next_authority().policies.clone();
        // A verification that changed nothing rewrites its time alone.
        if before
            .as_ref()
            .is_none_or(|before| before.set.policies != set.policies)
        {
            self.put_only(Table::Policies, &set.policies, sealer)?;
        }
        self.put_only(Table::PoliciesSeen, &set.verified_at, sealer)?;
        let policies = Policies::new(set, before.as_deref());
        self.next_authority().policies = Some(Arc::new(policies));
        Ok(())
    }

    fn put(
        &mut self,
        at: At,
        value: &impl Serialize,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let sealed = sealer.seal_json(&at.subject(), value)?;
        self.ops.push(Op::Put(at, sealed));
        Ok(())
    }

    fn put_only(
        &mut self,
        table: Table,
        value: &impl Serialize,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        self.put(At::only(&self.view.keys, table), value, sealer)
    }

    fn put_body(
        &mut self,
        owner: At,
        body: &[u8],
        sealer: &mut Sealer<'_>,
    ) -> Result<Sealed, SealingError> {
        let at = owner.body();
        let sealed = sealer.seal(&at.subject(), body)?;
        self.ops.push(Op::Put(at, sealed.clone()));
        Ok(sealed)
    }

    fn put_with_body(
        &mut self,
        at: At,
        of: &impl Serialize,
        body: &Sealed,
        sealer: &mut Sealer<'_>,
    ) -> Result<(), SealingError> {
        let body = body.version;
        self.put(at, &WithBody { body, of }, sealer)
    }

    fn delete(&mut self, at: At) {
        self.ops.push(Op::Delete(at));
    }

    fn delete_with_body(&mut self, at: At) {
        self.delete(at);
        self.delete(at.body());
    }

    fn secrets(&mut self) -> &Secrets {
        self.next_secrets()
    }

    fn next_secrets(&mut self) -> &mut Secrets {
        self.secrets
            .get_or_insert_with(|| Secrets::clone(&self.view.secrets.load()))
    }

    fn next_authority(&mut self) -> &mut Authority {
        self.authority
            .get_or_insert_with(|| Authority::clone(&self.view.authority.load()))
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
        let view = Self::new(settings, keys);
        let mut budget = Budget::unbounded();
        let mut sealer = Sealer {
            keys: &view.keys,
            budget: &mut budget,
            entropy,
        };
        let mut stage = Stage::new(&view);
        for change in changes {
            stage.add(change, When::Committed, &mut sealer)?;
        }
        stage.publish();
        Ok(view)
    }
}

/// Publishes what the writer owns of an [`Authority`]; settings, state and pauses may have changed since it was staged.
fn publish_authority(view: &View, staged: Option<Authority>, phase: Option<PhaseRecord>) {
    if let Some(staged) = staged {
        view.authority.rcu(|current| Authority {
            settings: Arc::clone(&current.settings),
            phase: current.phase.clone(),
            epoch: current.epoch,
            paused: current.paused,
            rolled_back: current.rolled_back,
            issuing_blocked: current.issuing_blocked,
            ..staged.clone()
        });
    }
    if let Some(phase) = phase {
        view.set_phase(&phase);
    }
}
