//! Reading the whole replica into a view: values stay sealed, everything else is opened, proven and parsed.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;
use shared::{
    change::{PhaseRecord, PolicySet, PolicyText, QueuedRevocation},
    coverage::CoverageHour,
    grant::{Grant, Revocation},
    kv::{Doubt, Doubted},
    name::PolicyName,
    settings::Settings,
    time::{Mark, WallTime},
};

use super::{
    header::{Header, Tally},
    schema::Database,
};
use crate::{
    key::Keys,
    seal::{SealError, Sealed},
    table::{Accounted, At, CredentialRow, IdentityRow, Table, WithBody},
    view::{Doubts, HeldCredential, Known, LiveGrant, SealedBody, Secrets, View},
};

/// What was read.
pub(crate) struct Loaded {
    pub(crate) view: View,
    pub(crate) mark: Option<Mark>,
    pub(crate) phase: Option<PhaseRecord>,
    pub(crate) queue: Vec<QueuedRevocation>,
    pub(crate) coverage: Vec<CoverageHour>,
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
    loaded: Loaded,
    known: Known,
    secrets: Secrets,
    doubts: Doubts,
    policies: BTreeMap<PolicyName, PolicyText>,
    policies_seen: Option<WallTime>,
    revocations: Vec<Revocation>,
    authority_rows: Tally,
}

impl<'k> Loader<'k> {
    fn new(keys: &'k Keys, settings: Arc<Settings>) -> Self {
        Self {
            keys,
            loaded: Loaded {
                view: View::new(settings, keys.clone()),
                mark: None,
                phase: None,
                queue: Vec::new(),
                coverage: Vec::new(),
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
            Table::AppRole => self.known.put_approle(self.open(&at, sealed)?),
            Table::Authority => self.known.put_workload(self.open(&at, sealed)?),
            Table::Cluster => self.known.put_cluster(self.open(&at, sealed)?),
            Table::Coverage => self.loaded.coverage.push(self.open(&at, sealed)?),
            Table::Credential => {
                let (of, body) = self.open_owner::<CredentialRow>(at, sealed, body)?;
                let held = Arc::new(HeldCredential::new(&of, body));
                self.loaded.view.set_credential(of.name, Some(held));
            }
            // Nothing that was asked for before the start comes in after it: every read is later.
            Table::Doubt => self.doubts.add(&Doubt {
                since: WallTime::EPOCH,
                ..self.open(&at, sealed)?
            }),
            Table::Grant => {
                let grant: Grant = self.open(&at, sealed)?;
                let live = Arc::new(LiveGrant::new(grant));
                self.loaded.view.put_grant(&live);
            }
            Table::Identity => {
                let IdentityRow { id, identity } = self.open(&at, sealed)?;
                self.known.put_identity(id, identity);
            }
            Table::Key => self.secrets.put_key(self.open(&at, sealed)?),
            Table::Lease => {
                let (lease, body) = self.open_owner(at, sealed, body)?;
                self.secrets.put_lease(lease, Arc::new(body));
            }
            Table::Mark => self.loaded.mark = Some(self.open(&at, sealed)?),
            Table::Mirror => {
                self.known.put_mirror(self.open(&at, sealed)?);
                self.loaded.mirrors.push(at);
            }
            Table::Phase => self.loaded.phase = Some(self.open(&at, sealed)?),
            Table::Policies => self.policies = self.open(&at, sealed)?,
            Table::PoliciesSeen => self.policies_seen = Some(self.open(&at, sealed)?),
            Table::Quarantine => self.known.put_quarantine(self.open(&at, sealed)?),
            Table::Queue => {
                let queued: QueuedRevocation = self.open(&at, sealed)?;
                let held = Some(Arc::new(queued.clone()));
                self.loaded.view.set_queued(queued.id, held);
                self.loaded.queue.push(queued);
            }
            Table::Record => {
                let (record, body) = self.open_owner(at, sealed, body)?;
                self.secrets.put_record(record, Arc::new(body));
            }
            Table::Revocation => self.revocations.push(self.open(&at, sealed)?),
            Table::SecretId => self.known.put_secret_id(self.open(&at, sealed)?),
            Table::CredentialBody
            | Table::Header
            | Table::LeaseBody
            | Table::Ledger
            | Table::RecordBody => {}
        }
        Ok(())
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
        if let Some(verified_at) = self.policies_seen {
            let policies = self.policies;
            known.put_policies(PolicySet {
                policies,
                verified_at,
            });
        }
        let settings = Arc::clone(&loaded.view.authority().settings);
        loaded.view.set_known(known.of(&settings.namespace));
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
