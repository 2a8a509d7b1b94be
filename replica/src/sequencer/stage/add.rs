//! Adding one change to a stage: who may do what, grants, and what is Holdover's own.

use std::{mem, sync::Arc};

use serde::Serialize;
use shared::{
    approle::{AppRole, ProofDigest, RoleKey, SecretId},
    block::{BlockCause, IssuingBlock},
    change::{Change, Cluster, Credential, CredentialName, PhaseRecord, QueuedRevocation},
    grant::{Grant, Revocation},
    identity::Identity,
    name::{EntityId, TokenDigest, WorkloadName},
    offboarding::Offboarded,
    quarantine::Quarantined,
    settings::Settings,
    time::{Mark, WallTime},
    workload::WorkloadAuthority,
};

use super::{Stage, When};
use crate::{
    key::{Keys, Sealer},
    seal::SealingError,
    table::{At, CredentialRow, IdentityRow, Op, Table, WithBody, Within},
    view::{HeldCredential, Known, LiveGrant, SealedBody},
};

/// A stage, and what seals for it.
pub(super) struct Adder<'a, 'v> {
    pub(super) stage: &'a mut Stage<'v>,
    pub(super) keys: &'a Keys,
    settings: Arc<Settings>,
    sealer: Sealer<'a>,
}

pub(super) type Added = Result<(), SealingError>;

impl<'a, 'v> Adder<'a, 'v> {
    pub(super) fn new(stage: &'a mut Stage<'v>, sealer: Sealer<'a>) -> Self {
        Self {
            settings: Arc::clone(&stage.view.authority().settings),
            stage,
            keys: sealer.keys,
            sealer,
        }
    }

    pub(super) fn add(&mut self, change: Change, when: When) -> Added {
        let keys = self.keys;
        match change {
            Change::AppRole(role) => self.approle(*role)?,
            Change::AppRoleForgotten(key) => self.approle_forgotten(&key),
            Change::AppRoleGone(key, at) => self.approle_gone(key, at),
            Change::Authority(of) => self.authority(*of)?,
            Change::AuthorityGone(name) => self.authority_gone(&name),
            Change::Block(block) => self.block(block)?,
            Change::BlockLifted(cause) => self.block_lifted(cause),
            Change::Cluster(cluster) => self.cluster(*cluster)?,
            Change::Coverage(hour) => self.put(At::coverage(keys, hour.start), &hour)?,
            Change::CoverageGone(start) => self.delete(At::coverage(keys, start)),
            Change::Credential(name, credential) => self.credential(name, &credential)?,
            Change::CredentialGone(name) => self.credential_gone(name),
            Change::Doubted(doubt) => self.doubted(doubt)?,
            Change::DoubtAnswered(of, asked_at) => self.doubt_answered(of, asked_at),
            Change::Grant(grant) => self.grant(*grant)?,
            Change::GrantForgotten(digest) => self.grant_forgotten(digest),
            Change::Identity(id, identity, at) => self.identity(id, *identity, at)?,
            Change::IdentityGone(id) => self.identity_gone(&id),
            Change::Key(key) => self.key(*key)?,
            Change::KeyGone(place) => self.key_gone(&place),
            Change::Lease(lease, body) => self.lease(*lease, body)?,
            Change::LeaseDetached(id, who) => self.lease_detached(&id, who)?,
            Change::LeaseGone(id) => self.lease_gone(&id),
            Change::LeaseTaken(id, to) => self.lease_taken(&id, to)?,
            Change::Ledger(entry) => self.stage.entries.push(*entry),
            Change::Mark(mark) => self.mark(mark)?,
            Change::Mended(kind) => self.mended(kind)?,
            Change::Mirror(state) => self.mirror(*state)?,
            Change::MirrorGone(path) => self.mirror_gone(&path),
            Change::Offboarded(since) => self.offboarded(since)?,
            Change::Phase(record) => self.phase(record, when)?,
            Change::Policies(set) => self.policies(*set)?,
            Change::Proven(digest, at) => self.proven(&digest, at)?,
            Change::Quarantine(of) => {
                self.know(
                    self.within().quarantine(&of.what),
                    *of,
                    Known::put_quarantine,
                )?;
            }
            Change::QuarantineLifted(what) => self.quarantine_lifted(&what)?,
            Change::Queue(queued) => self.queue(*queued)?,
            Change::QueueDone(id) => self.queue_done(id),
            Change::Record(record, body) => self.record(*record, body)?,
            Change::RecordGone(place, version) => self.record_gone(&place, version),
            Change::Revoked(revocation) => self.revoked(revocation)?,
            Change::SecretId(secret_id) => self.secret_id(*secret_id)?,
            Change::SecretIdGone(digest) => self.secret_id_gone(&digest),
            Change::TokenDoubted(digest, at) => self.token_doubted(&digest, at)?,
            Change::Unchanged(unchanged) => self.unchanged(unchanged)?,
        }
        Ok(())
    }

    /// One that was verified before what is known says nothing of it any more.
    pub(super) fn authority(&mut self, of: WorkloadAuthority) -> Added {
        let known = self.stage.known().workloads.get(&of.workload);
        if known.is_some_and(|known| known.verified_at > of.verified_at) {
            return Ok(());
        }
        let at = self.within().authority(&of.workload);
        self.know(at, of, Known::put_workload)
    }

    /// The same, and one that was found to be gone since.
    pub(super) fn approle(&mut self, role: AppRole) -> Added {
        let known = self.stage.known();
        let newer = known.approles.get(&role.key);
        if newer.is_some_and(|known| known.verified_at > role.verified_at)
            || known.roles_gone.is_overtaken(&role.key, role.verified_at)
        {
            return Ok(());
        }
        let at = self.within().approle(&role.key);
        self.know(at, role, Known::put_approle)
    }

    /// A login that was learned since it was found to be of no use makes it of use again.
    fn approle_forgotten(&mut self, key: &RoleKey) {
        let mut secret_ids = self.stage.known().secret_ids.values();
        if !secret_ids.any(|proof| proof.role == *key) {
            self.gone(self.within().approle(key)).approles.remove(key);
        }
    }

    fn approle_gone(&mut self, key: RoleKey, at: WallTime) {
        let known = self.gone(self.within().approle(&key));
        known.approles.remove(&key);
        known.roles_gone.note(key, at);
    }

    /// The primary was seen in this namespace. What is of another goes once that was not configured for long: until then its name
    /// can be mended, and everything counts again.
    pub(super) fn cluster(&mut self, cluster: Cluster) -> Added {
        let (at, seen) = (self.within().only(Table::Cluster), cluster.verified_at);
        self.know(at, cluster, Known::put_cluster)?;
        let elsewhere = &mut self.stage.known().elsewhere;
        if !elsewhere.is_of_no_use(seen) {
            return Ok(());
        }
        let elsewhere = mem::take(elsewhere);
        for at in elsewhere.rows.iter() {
            match at.table.body() {
                Some(_) => self.delete_with_body(*at),
                None => self.delete(*at),
            }
        }
        Ok(())
    }

    fn authority_gone(&mut self, name: &WorkloadName) {
        let known = self.gone(self.within().authority(name));
        known.workloads.remove(name);
    }

    /// The configured workloads.
    pub(super) fn workloads(&self) -> impl Iterator<Item = WorkloadName> + use<> {
        let settings = Arc::clone(&self.settings);
        let names: Vec<_> = settings
            .workloads
            .iter()
            .map(|of| of.name.clone())
            .collect();
        names.into_iter()
    }

    /// Keys of rows of the configured namespace.
    pub(super) fn within(&self) -> Within<'_> {
        Within {
            keys: self.keys,
            namespace: &self.settings.namespace,
        }
    }

    /// Puts a row, and what it is of in its place among what is known.
    pub(super) fn know<T: Serialize>(
        &mut self,
        at: At,
        of: T,
        put: impl FnOnce(&mut Known, T),
    ) -> Added {
        self.put(at, &of)?;
        put(self.stage.known(), of);
        Ok(())
    }

    /// Deletes a row; what is known, for what it was of to go.
    fn gone(&mut self, at: At) -> &mut Known {
        self.delete(at);
        self.stage.known()
    }

    fn credential_gone(&mut self, name: CredentialName) {
        self.delete_with_body(self.within().credential(&name));
        self.stage.credentials.push((name, None));
    }

    fn phase(&mut self, record: PhaseRecord, when: When) -> Added {
        self.put_only(Table::Phase, &record)?;
        if when == When::Committed {
            self.stage.phase = Some(record);
        }
        Ok(())
    }

    fn offboarded(&mut self, since: Option<Offboarded>) -> Added {
        match &since {
            Some(since) => self.put_only(Table::Offboarded, since)?,
            None => self.delete(At::only(self.keys, Table::Offboarded)),
        }
        self.stage.offboarded = Some(since);
        Ok(())
    }

    /// In memory it stands already, or from the moment on that it is stored: whoever is older stays.
    fn block(&mut self, block: IssuingBlock) -> Added {
        self.stage.view.block_issuing(block);
        self.stage.lifted.retain(|cause| *cause != block.cause);
        let standing = self.stage.view.authority().blocks.get(block.cause);
        let standing = standing.unwrap_or(block);
        self.put(At::block(self.keys, block.cause), &standing)
    }

    fn block_lifted(&mut self, cause: BlockCause) {
        self.delete(At::block(self.keys, cause));
        self.stage.lifted.push(cause);
    }

    /// With the mark of this boot goes what this boot stands in the way of, should that not be stored yet: the next start
    /// cannot find it.
    fn mark(&mut self, mark: Mark) -> Added {
        self.keep_blocks()?;
        self.put_only(Table::Mark, &mark)
    }

    /// What stands in memory is a row: nothing else may say any more that it may.
    pub(super) fn keep_blocks(&mut self) -> Added {
        let blocks = self.stage.view.authority().blocks.clone();
        for block in blocks.all() {
            if !self.stage.lifted.contains(&block.cause) {
                self.put(At::block(self.keys, block.cause), &block)?;
            }
        }
        Ok(())
    }

    /// What does not say which namespace it is of is of the configured one.
    fn queue(&mut self, mut queued: QueuedRevocation) -> Added {
        let namespace = &mut queued.namespace;
        namespace.get_or_insert_with(|| self.settings.namespace.clone());
        self.put(At::queue(self.keys, queued.id), &queued)?;
        self.stage.queue.push((queued.id, Some(Arc::new(queued))));
        Ok(())
    }

    fn queue_done(&mut self, id: u64) {
        self.delete(At::queue(self.keys, id));
        self.stage.queue.push((id, None));
    }

    fn credential(&mut self, name: CredentialName, credential: &Credential) -> Added {
        let at = self.within().credential(&name);
        let body = self.put_body(at, credential.token.expose().as_bytes())?;
        let row = CredentialRow {
            name,
            accessor: credential.accessor.clone(),
            expires: credential.expires,
            renewable: credential.renewable,
            issued_at: credential.issued_at,
        };
        self.put_with_body(at, &row, &body)?;
        let held = Arc::new(HeldCredential::new(&row, body));
        self.stage.credentials.push((row.name, Some(held)));
        Ok(())
    }

    fn grant(&mut self, grant: Grant) -> Added {
        let digest = grant.digest;
        let grant = match self.stage.live(&digest) {
            Some(known) => grant.after(&known.grant),
            None => grant,
        };
        self.put(At::grant(self.keys, &digest), &grant)?;
        let live = Arc::new(LiveGrant::new(grant));
        self.stage.grants.insert(digest, Some(live));
        Ok(())
    }

    fn grant_forgotten(&mut self, digest: TokenDigest) {
        self.delete(At::grant(self.keys, &digest));
        self.delete(At::revocation(self.keys, &digest));
        self.stage.grants.insert(digest, None);
        self.stage.revoked.remove(&digest);
    }

    fn proven(&mut self, digest: &TokenDigest, at: WallTime) -> Added {
        let Some(live) = self.stage.live(digest) else {
            return Ok(());
        };
        if live.grant.verified_at >= at || self.stage.is_revoked(digest) {
            return Ok(());
        }
        self.grant(Grant {
            verified_at: at,
            ..live.grant.clone()
        })
    }

    fn token_doubted(&mut self, digest: &TokenDigest, at: WallTime) -> Added {
        let Some(live) = self.stage.live(digest) else {
            return Ok(());
        };
        let doubted = Grant {
            doubted_at: Some(at),
            ..live.grant.clone()
        };
        // One that was proven since is in no doubt.
        match doubted.is_doubted() && !self.stage.is_revoked(digest) {
            true => self.grant(doubted),
            false => Ok(()),
        }
    }

    fn revoked(&mut self, revocation: Revocation) -> Added {
        // The first revocation of a token stands, on disk as in memory.
        let staged = self.stage.revoked.get(&revocation.digest).cloned();
        let first = staged
            .or_else(|| self.stage.view.revocation(&revocation.digest))
            .unwrap_or(revocation);
        self.put(At::revocation(self.keys, &first.digest), &first)?;
        self.stage.revoked.insert(first.digest, first);
        Ok(())
    }

    /// What was asked for later stands.
    pub(super) fn identity(
        &mut self,
        id: EntityId,
        identity: Identity,
        verified_at: WallTime,
    ) -> Added {
        let known = self.stage.known().identities.get(&id);
        if known.is_some_and(|known| known.verified_at > verified_at) {
            return Ok(());
        }
        let row = IdentityRow {
            id,
            identity,
            verified_at,
        };
        self.put(self.within().identity(&row.id), &row)?;
        let known = self.stage.known();
        known.put_identity(row.id, row.identity, verified_at);
        Ok(())
    }

    fn identity_gone(&mut self, id: &EntityId) {
        let known = self.gone(self.within().identity(id));
        known.identities.remove(id);
    }

    /// What was known of it before stands where it is the later word: a proof and a death may cross each other.
    pub(super) fn secret_id(&mut self, secret_id: SecretId) -> Added {
        let secret_id = match self.stage.known().secret_ids.get(&secret_id.digest) {
            Some(known) => secret_id.after(known),
            None => secret_id,
        };
        let at = self.within().secret_id(&secret_id.digest);
        self.know(at, secret_id, Known::put_secret_id)
    }

    fn secret_id_gone(&mut self, digest: &ProofDigest) {
        let known = self.gone(self.within().secret_id(digest));
        known.secret_ids.remove(digest);
    }

    /// The rows of whole sets go with the first of their policies; the others have rows of their own from then on.
    fn quarantine_lifted(&mut self, what: &Quarantined) -> Added {
        let known = self.gone(self.within().quarantine(what));
        let lifted = known.quarantines.remove(what);
        let sets = lifted.map_or_else(Vec::new, |lifted| lifted.of_sets.clone());
        let left = known.quarantines.values_mut();
        let left: Vec<_> = left
            .filter(|one| one.of_sets.iter().any(|set| sets.contains(set)))
            .map(|one| {
                Arc::make_mut(one).of_sets.retain(|set| !sets.contains(set));
                Arc::clone(one)
            })
            .collect();
        for one in left {
            self.put(self.within().quarantine(&one.what), &*one)?;
        }
        for set in &sets {
            self.delete(self.within().quarantined_set(set));
        }
        Ok(())
    }

    pub(super) fn put(&mut self, at: At, value: &impl Serialize) -> Added {
        self.mend(&at);
        let sealed = self.sealer.seal_json(&at.subject(), value)?;
        self.stage.ops.push(Op::Put(at, sealed));
        Ok(())
    }

    fn put_only(&mut self, table: Table, value: &impl Serialize) -> Added {
        self.put(At::only(self.keys, table), value)
    }

    pub(super) fn put_body(&mut self, owner: At, body: &[u8]) -> Result<SealedBody, SealingError> {
        let at = owner.body();
        let sealed = self.sealer.seal(&at.subject(), body)?;
        self.stage.ops.push(Op::Put(at, sealed.clone()));
        Ok(SealedBody { at, sealed })
    }

    pub(super) fn put_with_body(
        &mut self,
        at: At,
        of: &impl Serialize,
        body: &SealedBody,
    ) -> Added {
        let body = body.sealed.version;
        self.put(at, &WithBody { body, of })
    }

    pub(super) fn delete(&mut self, at: At) {
        self.mend(&at);
        self.stage.ops.push(Op::Delete(at));
    }

    pub(super) fn delete_with_body(&mut self, at: At) {
        self.delete(at);
        self.delete(at.body());
    }
}
