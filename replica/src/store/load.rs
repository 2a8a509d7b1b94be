//! Reading the whole replica into a view: values stay sealed, everything else is opened, proven and parsed.

use std::{collections::BTreeMap, sync::Arc};

use serde::de::DeserializeOwned;
use shared::{
    approle::{AppRole, SecretId},
    change::{PhaseRecord, PolicySet, PolicyText, QueuedRevocation},
    coverage::CoverageHour,
    grant::{Grant, Revocation},
    kv::{KvKey, MirrorState, Record},
    lease::Lease,
    name::PolicyName,
    quarantine::Quarantine,
    settings::Settings,
    time::{Mark, WallTime},
    workload::WorkloadAuthority,
};

use super::{
    header::{Header, Tally},
    schema::Database,
};
use crate::{
    key::Keys,
    seal::{SealError, Sealed},
    table::{Accounted, At, CredentialRow, IdentityRow, Table, WithBody},
    view::{Authority, HeldCredential, HeldLease, HeldRecord, LiveGrant, Policies, Secrets, View},
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
    view: View,
    authority: Authority,
    secrets: Secrets,
    policies: BTreeMap<PolicyName, PolicyText>,
    policies_seen: Option<WallTime>,
    revocations: Vec<Revocation>,
    authority_rows: Tally,
    loaded: Partial,
}

#[derive(Default)]
struct Partial {
    mark: Option<Mark>,
    phase: Option<PhaseRecord>,
    queue: Vec<QueuedRevocation>,
    coverage: Vec<CoverageHour>,
    lost: Vec<At>,
    mirrors: Vec<At>,
    values: Tally,
}

impl<'k> Loader<'k> {
    fn new(keys: &'k Keys, settings: Arc<Settings>) -> Self {
        let view = View::new(settings, keys.clone());
        Self {
            keys,
            authority: Authority::clone(&view.authority()),
            view,
            secrets: Secrets::default(),
            policies: BTreeMap::new(),
            policies_seen: None,
            revocations: Vec::new(),
            authority_rows: Tally::default(),
            loaded: Partial::default(),
        }
    }

    fn row(&mut self, at: At, sealed: &Sealed, body: Option<Sealed>) -> Result<(), LoadError> {
        match at.table.accounted() {
            Accounted::Authority => self.authority_rows.add(self.keys, &at, sealed.version),
            Accounted::Value => self.loaded.values.add(self.keys, &at, sealed.version),
            // Read with its owner.
            Accounted::Body | Accounted::Chain => return Ok(()),
            Accounted::Loose => {}
        }
        if self.take(at, sealed, body).is_ok() {
            return Ok(());
        }
        match at.table.accounted() {
            Accounted::Authority => return Err(LoadError::Row(at.table)),
            Accounted::Loose => {}
            _ => self.loaded.lost.push(at),
        }
        Ok(())
    }

    fn take(&mut self, at: At, sealed: &Sealed, body: Option<Sealed>) -> Result<(), SealError> {
        let row = at.key.to_vec();
        match at.table {
            Table::AppRole => {
                let role: AppRole = self.open(&at, sealed)?;
                let approles = &mut self.authority.approles;
                approles.insert(role.key.clone(), Arc::new(role));
            }
            Table::Authority => {
                let of: WorkloadAuthority = self.open(&at, sealed)?;
                let workloads = &mut self.authority.workloads;
                workloads.insert(of.workload.clone(), Arc::new(of));
            }
            Table::Cluster => self.authority.cluster = Some(Arc::new(self.open(&at, sealed)?)),
            Table::Coverage => self.loaded.coverage.push(self.open(&at, sealed)?),
            Table::Credential => {
                let WithBody { body: version, of } =
                    self.open::<WithBody<CredentialRow>>(&at, sealed)?;
                let held = HeldCredential::new(&of, belonging(body, version), row);
                self.view.credentials.pin().insert(of.name, Arc::new(held));
            }
            Table::Grant => {
                let grant: Grant = self.open(&at, sealed)?;
                self.view.put_grant(&Arc::new(LiveGrant::new(grant)));
            }
            Table::Identity => {
                let IdentityRow { id, identity } = self.open(&at, sealed)?;
                self.authority.identities.insert(id, Arc::new(identity));
            }
            Table::Key => {
                let key: KvKey = self.open(&at, sealed)?;
                self.secrets.keys.insert(key.place.clone(), Arc::new(key));
            }
            Table::Lease => {
                let WithBody { body: version, of } = self.open::<WithBody<Lease>>(&at, sealed)?;
                let body = belonging(body, version);
                let (id, lease) = (of.id.clone(), of);
                let held = HeldLease { lease, body, row };
                self.secrets.leases.insert(id, Arc::new(held));
            }
            Table::Mark => self.loaded.mark = Some(self.open(&at, sealed)?),
            Table::Mirror => {
                let state: MirrorState = self.open(&at, sealed)?;
                self.loaded.mirrors.push(at);
                let mirrors = &mut self.authority.mirrors;
                mirrors.insert(state.path.clone(), Arc::new(state));
            }
            Table::Phase => self.loaded.phase = Some(self.open(&at, sealed)?),
            Table::Policies => self.policies = self.open(&at, sealed)?,
            Table::PoliciesSeen => self.policies_seen = Some(self.open(&at, sealed)?),
            Table::Quarantine => {
                let of: Quarantine = self.open(&at, sealed)?;
                let quarantines = &mut self.authority.quarantines;
                quarantines.insert(of.set.clone(), Arc::new(of));
            }
            Table::Queue => {
                let queued: QueuedRevocation = self.open(&at, sealed)?;
                let pinned = self.view.queue.pin();
                pinned.insert(queued.id, Arc::new(queued.clone()));
                self.loaded.queue.push(queued);
            }
            Table::Record => {
                let WithBody {
                    body: version,
                    of: record,
                } = self.open::<WithBody<Record>>(&at, sealed)?;
                let body = belonging(body, version);
                let of = (record.place.clone(), record.version);
                let held = HeldRecord { record, body, row };
                self.secrets.records.insert(of, Arc::new(held));
            }
            Table::Revocation => self.revocations.push(self.open(&at, sealed)?),
            Table::SecretId => {
                let secret_id: SecretId = self.open(&at, sealed)?;
                let secret_ids = &mut self.authority.secret_ids;
                secret_ids.insert(secret_id.digest, Arc::new(secret_id));
            }
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

    fn finish(mut self, header: &Header) -> Loaded {
        let mut loaded = self.loaded;
        loaded.queue.sort_by_key(|queued| queued.id);
        loaded.coverage.sort_by_key(|hour| hour.start);
        if loaded.values != header.values || !loaded.lost.is_empty() {
            // No pass of a mirror can vouch for values that may have been replaced by older ones: each has its own
            // age from here on, until the mirror's next pass.
            self.authority.mirrors.clear();
        }
        if let Some(verified_at) = self.policies_seen {
            let policies = self.policies;
            let set = PolicySet {
                policies,
                verified_at,
            };
            self.authority.policies = Some(Arc::new(Policies::new(set, None)));
        }
        if let Some(record) = &loaded.phase {
            self.authority.phase = record.phase.clone();
            self.authority.epoch = record.epoch;
        }
        self.view.authority.store(Arc::new(self.authority));
        self.view.secrets.store(Arc::new(self.secrets));
        for revocation in &self.revocations {
            self.view.strike(revocation);
            self.view.settle(&revocation.digest);
        }
        Loaded {
            view: self.view,
            mark: loaded.mark,
            phase: loaded.phase,
            queue: loaded.queue,
            coverage: loaded.coverage,
            lost: loaded.lost,
            mirrors: loaded.mirrors,
            values: loaded.values,
        }
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
