//! One row after the other: opened, and put in its place.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use shared::{
    approle::{AppRole, SecretId},
    change::{Cluster, QueuedRevocation},
    grant::Grant,
    kv::{Doubt, KvKey, MirrorState, Place, Record},
    quarantine::StoredQuarantine,
    time::WallTime,
    workload::WorkloadAuthority,
};

use super::Loader;
use crate::{
    seal::{SealError, Sealed},
    table::{Accounted, At, CredentialRow, IdentityRow, Table, WithBody, Within},
    view::{HeldCredential, Known, LiveGrant, SealedBody},
};

impl Loader<'_> {
    pub(super) fn row(&mut self, at: At, sealed: &Sealed, body: Option<Sealed>) {
        let accounted = at.table.accounted();
        if matches!(accounted, Accounted::Body | Accounted::Chain) {
            return; // Read with its owner.
        }
        if self.disbelieved.contains(at.table) {
            self.loaded.disbelieved.push(at);
            return;
        }
        match (self.enter(at, sealed, body), at.table.kept()) {
            (Ok(()), _) => {}
            (Err(SealError), Some(_)) => self.lost.put(at),
            (Err(SealError), None) if accounted == Accounted::Loose => {}
            (Err(SealError), None) => self.loaded.lost.push(at),
        }
    }

    /// Opens a row and puts what it is of in its place.
    fn enter(&mut self, at: At, sealed: &Sealed, body: Option<Sealed>) -> Result<(), SealError> {
        match at.table {
            Table::Block => self.loaded.view.block_issuing(self.open(&at, sealed)?),
            Table::Cluster => self.cluster(at, self.open(&at, sealed)?),
            Table::Coverage => self.loaded.coverage.push(self.open(&at, sealed)?),
            Table::Room => self.loaded.room = Some(self.open(&at, sealed)?),
            Table::Doubt => self.doubt(at, self.open(&at, sealed)?),
            Table::Grant => {
                let grant: Grant = self.open(&at, sealed)?;
                let live = Arc::new(LiveGrant::new(grant));
                self.loaded.view.put_grant(&live);
            }
            Table::Key => {
                let key: KvKey = self.open(&at, sealed)?;
                if self.is_in_ours(at, &key.place) {
                    self.secrets.put_key(key);
                }
            }
            Table::Lease => {
                let (lease, body) = self.open_owner(at, sealed, body)?;
                self.secrets.put_lease(lease, Arc::new(body));
            }
            Table::Mark => self.loaded.mark = Some(self.open(&at, sealed)?),
            Table::Offboarded => {
                let since = self.open(&at, sealed)?;
                self.loaded.view.set_offboarded(Some(since));
            }
            Table::Phase => self.loaded.phase = Some(self.open(&at, sealed)?),
            Table::Queue => {
                let queued: QueuedRevocation = self.open(&at, sealed)?;
                let held = Some(Arc::new(queued.clone()));
                self.loaded.view.set_queued(queued.id, held);
                self.loaded.queue.push(queued);
            }
            Table::Record => {
                let (record, body) = self.open_owner::<Record>(at, sealed, body)?;
                if self.is_in_ours(at, &record.place) {
                    self.secrets.put_record(record, Arc::new(body));
                }
            }
            Table::Revocation => self.revocations.push(self.open(&at, sealed)?),
            Table::AppRole
            | Table::Authority
            | Table::Credential
            | Table::Identity
            | Table::Mirror
            | Table::Policies
            | Table::PoliciesSeen
            | Table::Quarantine
            | Table::SecretId => self.enter_of_namespace(at, sealed, body)?,
            Table::CredentialBody
            | Table::Header
            | Table::LeaseBody
            | Table::Ledger
            | Table::RecordBody => {}
        }
        Ok(())
    }

    /// The same of what is of a namespace, if that is the configured one.
    fn enter_of_namespace(
        &mut self,
        at: At,
        sealed: &Sealed,
        body: Option<Sealed>,
    ) -> Result<(), SealError> {
        match at.table {
            Table::AppRole => {
                let lies = |within: Within<'_>, of: &AppRole| within.approle(&of.key);
                self.know(at, sealed, lies, Known::put_approle)
            }
            Table::Authority => {
                let lies =
                    |within: Within<'_>, of: &WorkloadAuthority| within.authority(&of.workload);
                self.know(at, sealed, lies, Known::put_workload)
            }
            Table::Credential => {
                let (of, body) = self.open_owner::<CredentialRow>(at, sealed, body)?;
                let lies = self.within().credential(&of.name);
                if self.is_ours(at, lies) {
                    let held = Arc::new(HeldCredential::new(&of, body));
                    self.loaded.view.set_credential(of.name, Some(held));
                }
                Ok(())
            }
            Table::Identity => {
                let lies = |within: Within<'_>, of: &IdentityRow| within.identity(&of.id);
                let put = |known: &mut Known, of: IdentityRow| {
                    known.put_identity(of.id, of.identity, of.verified_at)
                };
                self.know(at, sealed, lies, put)
            }
            Table::Mirror => {
                let lies = |within: Within<'_>, of: &MirrorState| within.mirror(&of.path);
                self.loaded.mirrors.push(at);
                self.know(at, sealed, lies, Known::put_mirror)
            }
            Table::Policies | Table::PoliciesSeen => self.policies(at, sealed),
            Table::Quarantine => {
                let lies = |within: Within<'_>, of: &StoredQuarantine| match of {
                    StoredQuarantine::One(one) => within.quarantine(&one.what),
                    StoredQuarantine::Set(stored) => within.quarantined_set(&stored.set),
                };
                self.know(at, sealed, lies, |known, stored: StoredQuarantine| {
                    for one in stored.all() {
                        known.put_quarantine(one);
                    }
                })
            }
            Table::SecretId => {
                let lies = |within: Within<'_>, of: &SecretId| within.secret_id(&of.digest);
                self.know(at, sealed, lies, Known::put_secret_id)
            }
            _ => Ok(()),
        }
    }

    /// Puts what a row is of among what is known, if the row lies where `lies` has it in the configured namespace.
    fn know<T: DeserializeOwned>(
        &mut self,
        at: At,
        sealed: &Sealed,
        lies: impl Fn(Within<'_>, &T) -> At,
        put: impl FnOnce(&mut Known, T),
    ) -> Result<(), SealError> {
        let of: T = self.open(&at, sealed)?;
        let lies = lies(self.within(), &of);
        if self.is_ours(at, lies) {
            put(&mut self.known, of);
        }
        Ok(())
    }

    /// One of another namespace is believed too, because an earlier version did not say of which it is. Nothing that was asked for
    /// before the start comes in after it: every read is later.
    fn doubt(&mut self, at: At, doubt: Doubt) {
        let lies = self.within().doubt(&doubt.of);
        self.is_ours(at, lies);
        let since = WallTime::EPOCH;
        self.doubts.add(&Doubt { since, ..doubt });
    }

    /// Each namespace has a row of its own. An earlier version had one for all, which says of which it is.
    fn cluster(&mut self, at: At, cluster: Cluster) {
        let lies = self.within().only(Table::Cluster);
        self.is_ours(at, lies);
        let is_ours = cluster.namespace == self.settings.namespace;
        let seen = match is_ours {
            true => self.known.cluster.as_ref().map(|known| known.verified_at),
            false => self.there.as_ref().map(|there| there.verified_at),
        };
        if seen.is_some_and(|seen| seen > cluster.verified_at) {
            return;
        }
        match is_ours {
            true => self.known.put_cluster(cluster),
            false => self.there = Some(cluster),
        }
    }

    pub(super) fn within(&self) -> Within<'_> {
        Within {
            keys: self.keys,
            namespace: &self.settings.namespace,
        }
    }

    /// Whether a row that lies at `at`, and in the configured namespace would at `expected`, is of that one.
    pub(super) fn is_ours(&mut self, at: At, expected: At) -> bool {
        if at != expected {
            self.elsewhere.push(at);
        }
        at == expected
    }

    /// Whether a value is of the configured namespace, by its place.
    fn is_in_ours(&mut self, at: At, place: &Place) -> bool {
        let is_ours = place.namespace == self.settings.namespace;
        if !is_ours {
            self.elsewhere.push(at);
        }
        is_ours
    }

    pub(super) fn open<T: DeserializeOwned>(
        &self,
        at: &At,
        sealed: &Sealed,
    ) -> Result<T, SealError> {
        let plain = self.keys.open(&at.subject(), sealed)?;
        serde_json::from_slice(plain.expose()).map_err(|_| SealError)
    }

    /// A row that has a body, and that body.
    fn open_owner<T: DeserializeOwned>(
        &self,
        at: At,
        sealed: &Sealed,
        body: Option<Sealed>,
    ) -> Result<(T, SealedBody), SealError> {
        let row: WithBody<T> = self.open(&at, sealed)?;
        let (at, sealed) = (at.body(), belonging(body, row.body));
        Ok((row.of, SealedBody { at, sealed }))
    }
}

/// The body that its owner names by version. One that is missing or another's stays in its place as something that
/// does not open: whoever asks for it is told so, and is not told that there is nothing.
fn belonging(body: Option<Sealed>, version: u64) -> Sealed {
    match body {
        Some(body) => Sealed { version, ..body },
        None => Sealed {
            epoch: 0,
            version,
            bytes: Arc::from([]),
        },
    }
}
