//! Reading the whole replica into a view: values stay sealed, everything else is opened, proven and parsed.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;
use shared::{
    approle::{AppRole, SecretId},
    change::{Cluster, PhaseRecord, PolicyText, QueuedRevocation},
    coverage::CoverageHour,
    grant::{Grant, Revocation},
    kv::{Doubt, Doubted, KvKey, MirrorState, Place, Record},
    name::PolicyName,
    quarantine::StoredQuarantine,
    settings::Settings,
    time::{Mark, WallTime},
    workload::WorkloadAuthority,
};

use super::{
    RoomRow,
    header::{Header, Tally},
    schema::Database,
};
use crate::{
    key::Keys,
    seal::{SealError, Sealed},
    table::{Accounted, At, CredentialRow, IdentityRow, PoliciesSeenRow, Table, WithBody, Within},
    view::{Doubts, Elsewhere, HeldCredential, Known, LiveGrant, SealedBody, Secrets, View},
};

/// What was read.
pub(crate) struct Loaded {
    pub(crate) view: View,
    pub(crate) mark: Option<Mark>,
    pub(crate) phase: Option<PhaseRecord>,
    pub(crate) queue: Vec<QueuedRevocation>,
    pub(crate) coverage: Vec<CoverageHour>,
    /// What of the ledger was delivered, and who takes how much of its space.
    pub(crate) room: Option<RoomRow>,
    /// Rows of values that do not open.
    pub(crate) lost: Vec<At>,
    /// Rows of mirrors.
    pub(crate) mirrors: Vec<At>,
    /// What the rows of values add up to.
    pub(crate) values: Tally,
}

/// Why the rows are not a replica.
#[derive(Debug)]
pub(crate) enum LoadError {
    Database(rusqlite::Error),
    /// Authority rows are not those of the last commit.
    Missing {
        expected: u64,
        found: u64,
    },
    /// A row of this table does not open.
    Row(Table),
}

/// Reads every row. Authority must be exactly what `header` says; values that are not are reported.
pub(crate) fn load(
    database: &Database,
    keys: &Keys,
    header: &Header,
    settings: Arc<Settings>,
) -> Result<Loaded, LoadError> {
    let mut loader = Loader::new(keys, settings);
    for table in Table::ROWS {
        let mut result = Ok(());
        let read = database.rows(table, |at, sealed, body| {
            if result.is_ok() {
                result = loader.row(at, &sealed, body);
            }
        });
        read.map_err(LoadError::Database)?;
        result?;
    }
    if loader.authority_rows != header.authority {
        return Err(LoadError::Missing {
            expected: header.authority.rows,
            found: loader.authority_rows.rows,
        });
    }
    Ok(loader.finish(header))
}

struct Loader<'k> {
    keys: &'k Keys,
    settings: Arc<Settings>,
    loaded: Loaded,
    known: Known,
    secrets: Secrets,
    doubts: Doubts,
    policies: BTreeMap<PolicyName, PolicyText>,
    policies_seen: Option<PoliciesSeenRow>,
    revocations: Vec<Revocation>,
    /// Rows of another namespace than the configured one.
    elsewhere: Vec<At>,
    /// The cluster as it was last seen in another namespace.
    there: Option<Cluster>,
    authority_rows: Tally,
}

impl<'k> Loader<'k> {
    fn new(keys: &'k Keys, settings: Arc<Settings>) -> Self {
        Self {
            keys,
            settings: Arc::clone(&settings),
            loaded: Loaded {
                view: View::new(settings, keys.clone()),
                mark: None,
                phase: None,
                queue: Vec::new(),
                coverage: Vec::new(),
                room: None,
                lost: Vec::new(),
                mirrors: Vec::new(),
                values: Tally::default(),
            },
            known: Known::default(),
            secrets: Secrets::default(),
            doubts: Doubts::default(),
            policies: BTreeMap::new(),
            policies_seen: None,
            revocations: Vec::new(),
            elsewhere: Vec::new(),
            there: None,
            authority_rows: Tally::default(),
        }
    }

    fn row(&mut self, at: At, sealed: &Sealed, body: Option<Sealed>) -> Result<(), LoadError> {
        let accounted = at.table.accounted();
        match accounted {
            Accounted::Authority => self.authority_rows.add(self.keys, &at, sealed.version),
            Accounted::Value => self.loaded.values.add(self.keys, &at, sealed.version),
            // Read with its owner.
            Accounted::Body | Accounted::Chain => return Ok(()),
            Accounted::Loose => {}
        }
        match (self.enter(at, sealed, body), accounted) {
            (Ok(()), _) | (Err(SealError), Accounted::Loose) => {}
            (Err(SealError), Accounted::Authority) => return Err(LoadError::Row(at.table)),
            (Err(SealError), _) => self.loaded.lost.push(at),
        }
        Ok(())
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

    fn policies(&mut self, at: At, sealed: &Sealed) -> Result<(), SealError> {
        let only = self.within().only(at.table);
        match at.table {
            Table::Policies => {
                let policies = self.open(&at, sealed)?;
                if self.is_ours(at, only) {
                    self.policies = policies;
                }
            }
            _ => {
                let seen = self.open(&at, sealed)?;
                if self.is_ours(at, only) {
                    self.policies_seen = Some(seen);
                }
            }
        }
        Ok(())
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

    fn within(&self) -> Within<'_> {
        Within {
            keys: self.keys,
            namespace: &self.settings.namespace,
        }
    }

    /// Whether a row that lies at `at`, and in the configured namespace would at `expected`, is of that one.
    fn is_ours(&mut self, at: At, expected: At) -> bool {
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

    fn open<T: DeserializeOwned>(&self, at: &At, sealed: &Sealed) -> Result<T, SealError> {
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

    /// A doubt that does not open may be of anything.
    fn doubt_what_was_lost(&mut self) {
        let mut lost = self.loaded.lost.iter();
        if !lost.any(|at| at.table == Table::Doubt) {
            return;
        }
        let authority = self.loaded.view.authority();
        for mirror in &authority.settings.mirrors {
            self.doubts.add(&Doubt {
                of: Doubted::Mirror(mirror.path.configured()),
                since: WallTime::EPOCH,
                vanished: false,
            });
        }
    }

    fn finish(mut self, header: &Header) -> Loaded {
        self.doubt_what_was_lost();
        let (mut loaded, mut known) = (self.loaded, self.known);
        loaded.queue.sort_by_key(|queued| queued.id);
        loaded.coverage.sort_by_key(|hour| hour.start);
        if loaded.values != header.values || !loaded.lost.is_empty() {
            // No pass of a mirror can vouch for values that may have been replaced by older ones: each has its own
            // age from here on, until the mirror's next pass.
            known.mirrors.clear();
        }
        if let Some(seen) = self.policies_seen {
            known.put_policies(seen.with(self.policies));
        }
        if !self.elsewhere.is_empty() {
            tracing::warn!(
                rows = self.elsewhere.len(),
                namespace = self.settings.namespace.as_str(),
                "the replica holds what was verified in another namespace than primary.namespace, or by an earlier version that did not say in which: nothing is decided by it, and it is deleted once the other was not configured for a day"
            );
        }
        known.elsewhere = Elsewhere {
            rows: self.elsewhere.into(),
            seen: self
                .there
                .as_ref()
                .map_or(WallTime::EPOCH, |there| there.verified_at),
        };
        loaded.view.set_known(match self.there {
            Some(there) => known.beside(there),
            None => known,
        });
        loaded.view.set_secrets(self.secrets);
        let doubts = self.doubts;
        loaded.view.change_doubts(|known| *known = doubts.clone());
        if let Some(record) = &loaded.phase {
            loaded.view.set_phase(record);
        }
        for revocation in &self.revocations {
            loaded.view.put_revocation(revocation);
        }
        loaded
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
