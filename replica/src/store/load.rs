//! Reading the whole replica into a view: values stay sealed, everything else is opened, proven and parsed.
//!
//! Row by row: what does not verify is lost, and nothing counts for more because of it. Rows are counted before any is
//! believed, so that of a table which is not that of the last commit nothing is taken that could give anything.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;
use shared::{
    approle::{AppRole, SecretId},
    change::{Cluster, PhaseRecord, PolicyText, QueuedRevocation},
    coverage::CoverageHour,
    grant::{Grant, Revocation},
    kv::{Doubt, KvKey, MirrorState, Place, Record},
    name::{ClusterId, PolicyName},
    quarantine::StoredQuarantine,
    settings::Settings,
    time::{Mark, WallTime},
    workload::WorkloadAuthority,
};

use super::{RoomRow, header::Header, schema::Database, sums::Tallies};
use crate::{
    key::Keys,
    seal::{SealError, Sealed},
    table::{
        Accounted, At, CredentialRow, IdentityRow, PoliciesSeenRow, Table, Tables, WithBody, Within,
    },
    view::{Doubts, Elsewhere, HeldCredential, Known, LiveGrant, Lost, SealedBody, Secrets, View},
};

mod lost;

pub(crate) use lost::unexplained;

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
    /// Rows that open, and may be older than they should be, or of a cluster that nobody knows.
    pub(crate) disbelieved: Vec<At>,
    /// Rows of mirrors.
    pub(crate) mirrors: Vec<At>,
    /// What the rows add up to.
    pub(crate) found: Tallies,
    /// Rows of values are not those of the last commit.
    pub(crate) values_changed: bool,
}

/// What the rows are read by.
pub(crate) struct Reading<'a> {
    pub(crate) database: &'a Database,
    pub(crate) keys: &'a Keys,
    /// The last commit.
    pub(crate) header: &'a Header,
    /// What its rows add up to.
    pub(crate) found: Tallies,
    pub(crate) settings: &'a Arc<Settings>,
}

impl Reading<'_> {
    /// Reads every row.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(crate) fn load(&self) -> rusqlite::Result<Loaded> {
        let differing = self.header.rows.differing(&self.found);
        let loader = self.read(differing, Belief::Rows)?;
        // Which cluster the rest is of nobody knows: another one could be trusted next.
        let loader = match loader.trusts_any_cluster() {
            true => self.read(differing, Belief::Refusals)?,
            false => loader,
        };
        Ok(loader.finish(self.header, self.found.clone()))
    }

    fn read(&self, differing: Tables, belief: Belief) -> rusqlite::Result<Loader<'_>> {
        let mut loader = Loader::new(self, differing, belief);
        for table in Table::ROWS {
            self.database
                .rows(table, |at, sealed, body| loader.row(at, &sealed, body))?;
        }
        Ok(loader)
    }
}

/// What is believed of rows that open.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Belief {
    /// What those of a table say that is the one of the last commit.
    Rows,
    /// That something is refused.
    Refusals,
}

struct Loader<'k> {
    keys: &'k Keys,
    settings: Arc<Settings>,
    loaded: Loaded,
    known: Known,
    secrets: Secrets,
    doubts: Doubts,
    policies: Option<BTreeMap<PolicyName, PolicyText>>,
    policies_seen: Option<PoliciesSeenRow>,
    revocations: Vec<Revocation>,
    /// Rows of another namespace than the configured one.
    elsewhere: Vec<At>,
    /// The cluster as it was last seen in another namespace.
    there: Option<Cluster>,
    /// The cluster that the last commit says is trusted.
    pinned: Option<ClusterId>,
    belief: Belief,
    /// Tables of which no row is believed that gives something.
    disbelieved: Tables,
    lost: Lost,
}

impl<'k> Loader<'k> {
    fn new(reading: &Reading<'k>, differing: Tables, belief: Belief) -> Self {
        let settings = reading.settings;
        let is_value = |table| matches!(table, Table::Key | Table::Mirror | Table::Record);
        Self {
            keys: reading.keys,
            settings: Arc::clone(settings),
            loaded: Loaded {
                view: View::new(Arc::clone(settings), reading.keys.clone()),
                mark: None,
                phase: None,
                queue: Vec::new(),
                coverage: Vec::new(),
                room: None,
                lost: Vec::new(),
                disbelieved: Vec::new(),
                mirrors: Vec::new(),
                found: Tallies::default(),
                values_changed: Tables::counted(is_value).overlaps(differing)
                    || differing.contains(Table::Doubt),
            },
            known: Known::default(),
            secrets: Secrets::default(),
            doubts: Doubts::default(),
            policies: None,
            policies_seen: None,
            revocations: Vec::new(),
            elsewhere: Vec::new(),
            there: None,
            pinned: reading.header.cluster.clone(),
            belief,
            disbelieved: disbelieved(differing, belief),
            lost: lost::missing(reading.header, &reading.found, differing, belief),
        }
    }

    fn row(&mut self, at: At, sealed: &Sealed, body: Option<Sealed>) {
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

    fn policies(&mut self, at: At, sealed: &Sealed) -> Result<(), SealError> {
        let only = self.within().only(at.table);
        match at.table {
            Table::Policies => {
                let policies = self.open(&at, sealed)?;
                if self.is_ours(at, only) {
                    self.policies = Some(policies);
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

    fn finish(mut self, header: &Header, found: Tallies) -> Loaded {
        self.doubt_what_was_lost();
        self.trust_the_pinned_cluster();
        self.find_lost_quarantines();
        let policies = self.both_of_policies();
        let (mut loaded, mut known) = (self.loaded, self.known);
        loaded.found = found;
        loaded.queue.sort_by_key(|queued| queued.id);
        loaded.coverage.sort_by_key(|hour| hour.start);
        if loaded.values_changed || !loaded.lost.is_empty() {
            // No pass of a mirror can vouch for values that may have been replaced by older ones: each has its own
            // age from here on, until the mirror's next pass.
            known.mirrors.clear();
        }
        if let Some(policies) = policies {
            known.put_policies(policies);
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
        known.lost = self.lost;
        let mut known = match self.there {
            Some(there) => known.beside(there),
            None => known,
        };
        lost::most_cautious(self.keys, header, &mut known, &mut loaded);
        loaded.view.set_known(known);
        loaded.view.set_secrets(self.secrets);
        let doubts = self.doubts;
        loaded.view.change_doubts(|known| *known = doubts.clone());
        if let Some(record) = &loaded.phase {
            loaded.view.set_phase(record);
        }
        for revocation in &self.revocations {
            loaded.view.put_revocation(revocation);
        }
        loaded.view.strike_what_was_lost();
        loaded
    }
}

/// The tables of which no row is believed that gives something.
fn disbelieved(differing: Tables, belief: Belief) -> Tables {
    Tables::counted(|table| {
        let gives = !table.only_refuses() && table != Table::Mark;
        match belief {
            Belief::Refusals => gives,
            // Values have an age of their own.
            Belief::Rows => {
                gives
                    && table.accounted() == Accounted::Authority
                    && (differing.contains(table) || lost::goes_with(table, differing))
            }
        }
    })
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
