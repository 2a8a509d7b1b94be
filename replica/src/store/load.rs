//! Reading the whole replica into a view: values stay sealed, everything else is opened, proven and parsed.
//!
//! Row by row: what does not verify is lost, and nothing counts for more because of it. Rows are counted before any is
//! believed, so that of a table which is not that of the last commit nothing is taken that could give anything.

use std::sync::Arc;

use shared::{
    change::{Cluster, PhaseRecord, QueuedRevocation},
    coverage::CoverageHour,
    grant::Revocation,
    name::ClusterId,
    settings::Settings,
    time::{Mark, WallTime},
};

use super::{RoomRow, header::Header, schema::Database, sums::Tallies};
use crate::{
    key::Keys,
    table::{Accounted, At, Table, Tables},
    view::{Doubts, Elsewhere, Known, Lost, Secrets, View},
};

mod lost;
mod policies;
mod rows;

pub(crate) use lost::unexplained;

use policies::PolicyRows;

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
    policies: PolicyRows,
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
            policies: PolicyRows::default(),
            revocations: Vec::new(),
            elsewhere: Vec::new(),
            there: None,
            pinned: reading.header.cluster.clone(),
            belief,
            disbelieved: disbelieved(differing, belief),
            lost: lost::missing(reading.header, &reading.found, differing, belief),
        }
    }

    fn finish(mut self, header: &Header, found: Tallies) -> Loaded {
        self.doubt_what_was_lost();
        self.trust_the_pinned_cluster();
        self.put_policies();
        self.find_lost_quarantines();
        let (mut loaded, mut known) = (self.loaded, self.known);
        loaded.found = found;
        loaded.queue.sort_by_key(|queued| queued.id);
        loaded.coverage.sort_by_key(|hour| hour.start);
        if loaded.values_changed || !loaded.lost.is_empty() {
            // No pass of a mirror can vouch for values that may have been replaced by older ones: each has its own
            // age from here on, until the mirror's next pass.
            known.mirrors.clear();
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
