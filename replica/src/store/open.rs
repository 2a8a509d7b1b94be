//! Opening a replica: proving it, reading it, and the commit that every start makes.

use std::{fs::File, path::Path, sync::Arc};

use shared::{damage::RowKind, settings::Settings};

use super::{
    CreateError, FailStop, Location, OpenError, OpenReport, Opened, Replica, Room, RoomRow,
    Storage as _, StoreError,
    anchor::{Anchor, AnchorState},
    header::Header,
    load::{Loaded, Reading},
    reserve::{Found, Record, ReserveFile},
    salvage::salvage,
    schema::Database,
    sums::Sums,
    writer::{Writer, apply_rows},
};
use crate::{
    entropy::{Entropy, unique_u64},
    key::{
        Keys,
        epoch::{Budget, Limits, Reserve},
        slot::Source,
    },
    ledger::Head,
    private::{self, PrivateError},
    table::{At, Op},
};

mod readable;

use readable::{Readable, present, readable, unmade};
pub(super) use readable::{unlock, unreadable};

impl Replica {
    /// Opens the replica, proves it, and reads it into a view. Needs no primary, and no disk that can be written: where the
    /// commit that every start makes fails, what was read is served, and the writer mends the store. What is left of a file that
    /// is damaged so that it cannot be read is brought into a new one first.
    ///
    /// # Errors
    /// If it is missing, in use, damaged, changed by somebody else, or not of any of these keys.
    pub fn open(
        location: &Location,
        sources: &[Source],
        settings: Arc<Settings>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Opened, OpenError> {
        let lock = present(location)?;
        // The same lock: at no moment on the way has another the replica.
        let again = lock.try_clone();
        let again = again.map_err(PrivateError::io(&location.path, "keep the lock of"))?;
        let attempt = |lock| {
            let readable = readable(&location.path, sources, entropy.as_ref())?;
            readable.opened(location, lock, Arc::clone(&settings), Arc::clone(&entropy))
        };
        match attempt(lock) {
            Err(why) if why.proves_damage() => {
                let salvage = salvage(location, sources, entropy.as_ref(), why)?;
                let mut opened = attempt(again)?;
                opened.report.salvage = Some(salvage);
                Ok(opened)
            }
            result => result,
        }
    }

    /// An empty replica for a place where none can be made now, for this reason. It takes nothing until it is there: then it is
    /// made, and goes on as any other.
    ///
    /// # Errors
    /// If there is no memory for it, or its key cannot be used.
    pub fn open_unmade(
        location: &Location,
        sources: &[Source],
        settings: Arc<Settings>,
        entropy: Arc<dyn Entropy>,
        why: CreateError,
    ) -> Result<Opened, OpenError> {
        let readable = unmade(location, sources, entropy.as_ref(), why)?;
        let lock = private::open(&readable.lies)?;
        readable.opened(location, lock, settings, entropy)
    }
}

impl Readable {
    fn opened(
        self,
        location: &Location,
        lock: File,
        settings: Arc<Settings>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Opened, OpenError> {
        let path = &location.path;
        let Self {
            mut database,
            keys,
            header,
            failing,
            made,
            ..
        } = self;
        let (mut reserve, kept) = ReserveFile::open(path, &keys);
        let kept = Unapplied::after(kept, &header, &mut reserve);
        keys.admit_epoch(kept.reserve(&header).epoch);
        let mut loaded = read(path, &mut database, &keys, &header, &kept, settings)?;
        let row = loaded.room.take();
        let room = kept.room(location, &mut database, &keys, &header.ledger, row)?;
        let end = database.ledger_end().map_err(unreadable(path))?;
        let anchor = location.anchor.as_deref().map(Anchor::at);
        let state = kept.against(anchor.as_ref(), &keys, &header);
        let budget = kept.budget(&header, &state, entropy.as_ref());
        let tried = kept.tried(&header, &state);
        let ledger_cut = !ends_there(&header.ledger, end);
        let report = kept.report(&header, state, &loaded, ledger_cut);
        let (database, failing) = to_write(path, database, failing, made)?;
        let committed = Header {
            rolled_back: report.rolled_back,
            rows: Sums::Tables(loaded.found.clone()),
            incomplete: loaded.view.authority().lost.incomplete(),
            ..header
        };
        let writer = Writer {
            storage: FailStop::new(Box::new(database)),
            budget,
            limits: Limits::default(),
            keys,
            entropy,
            tried,
            durable: kept.durable(&committed),
            header: committed.clone(),
            committed,
            reserve,
            kept: kept.records,
            anchor,
            anchored: 0,
            since_checkpoint: 0,
            folder: private::parent(path).into(),
            cleanup: Vec::new(),
            failing,
            _lock: Some(lock),
        };
        Ok(start(writer, loaded, report, room))
    }
}

/// Every row as the next commit will have it.
fn read(
    path: &Path,
    database: &mut Database,
    keys: &Keys,
    header: &Header,
    kept: &Unapplied,
    settings: Arc<Settings>,
) -> Result<Loaded, OpenError> {
    // What the file's own commit says is held against what the file has, before what was kept beside it is added.
    let found = database.count(keys).map_err(unreadable(path))?;
    apply_rows(database, &mut header.clone(), keys, &kept.records).map_err(unreadable(path))?;
    let reading = Reading {
        database,
        keys,
        header,
        found,
        settings: &settings,
    };
    let loaded = reading.load().map_err(unreadable(path))?;
    database.roll_back().map_err(unreadable(path))?;
    Ok(loaded)
}

/// The file as the writer has it, and why it cannot be written to, if that is known already.
fn to_write(
    path: &Path,
    mut database: Database,
    failing: Option<StoreError>,
    made: Option<Vec<u8>>,
) -> Result<(Database, Option<StoreError>), OpenError> {
    if failing.is_some() {
        let away = Database::away(path, made).map_err(unreadable(path))?;
        return Ok((away, failing));
    }
    let began = database.begin_writing();
    let began = began.and_then(|()| database.discard_malformed());
    let failing = began.err().map(|source| {
        let action = "begin to write";
        StoreError::Database { action, source }
    });
    Ok((database, failing))
}

/// So far beyond every generation that is known the next one is, where others may have been tried since.
pub(super) const GENERATIONS: u64 = 1 << 32;

/// What the reserve holds that the file does not.
pub(super) struct Unapplied {
    pub(super) records: Vec<Record>,
    /// It follows a commit that the file does not have: the file is older than it was.
    pub(super) is_younger: bool,
}

impl Unapplied {
    /// Of what was `found`, what comes after the commit of `header`.
    pub(super) fn after(found: Found, header: &Header, reserve: &mut ReserveFile) -> Self {
        let is_younger = found.base > header.generation;
        let mut records = found.records;
        records.retain(|record| record.generation > header.generation);
        if records.is_empty() {
            reserve.forget();
        }
        Self {
            is_younger: is_younger && !records.is_empty(),
            records,
        }
    }

    /// Who takes how much of the ledger's space, by the file and with what is not in it.
    fn room(
        &self,
        location: &Location,
        database: &mut Database,
        keys: &Keys,
        head: &Head,
        row: Option<RoomRow>,
    ) -> Result<Room, OpenError> {
        let mut room = counted(database, keys, head, row, location.ledger_max)
            .map_err(unreadable(&location.path))?;
        let entries = self.records.iter().flat_map(|record| &record.entries);
        entries.for_each(|row| room.count(keys, row));
        Ok(room)
    }

    /// The generation of what is durable.
    fn durable(&self, header: &Header) -> u64 {
        let last = self.records.last();
        last.map_or(header.generation, |last| last.generation)
    }

    /// The generation up to which nothing is missing.
    pub(super) fn proven(&self, header: &Header) -> u64 {
        match self.is_younger {
            true => header.generation,
            false => self.durable(header),
        }
    }

    fn report(
        &self,
        header: &Header,
        anchor: AnchorState,
        loaded: &Loaded,
        ledger_cut: bool,
    ) -> OpenReport {
        OpenReport {
            generation: self.durable(header),
            rolled_back: header.rolled_back || self.doubts(&anchor) || is_of_unknown_time(loaded),
            anchor,
            values_lost: u64::try_from(loaded.lost.len()).unwrap_or(u64::MAX),
            values_changed: loaded.values_changed,
            salvage: None,
            ledger_cut,
        }
    }

    /// What the anchor, if there is one, says of it.
    pub(super) fn against(
        &self,
        anchor: Option<&Anchor>,
        keys: &Keys,
        header: &Header,
    ) -> AnchorState {
        let compare = |anchor: &Anchor| anchor.compare(keys, self.proven(header), header.anchored);
        anchor.map_or(AnchorState::Unset, compare)
    }

    /// Whether the file may be older than it was.
    pub(super) fn doubts(&self, anchor: &AnchorState) -> bool {
        self.is_younger || anchor.doubts()
    }

    /// The highest generation that may have been tried: none is tried twice, not even after a rollback.
    pub(super) fn tried(&self, header: &Header, anchor: &AnchorState) -> u64 {
        let durable = self.durable(header);
        let known = match anchor {
            AnchorState::Ahead { anchor, .. } => durable.max(*anchor),
            _ => durable,
        };
        match self.doubts(anchor) {
            true => known.saturating_add(GENERATIONS),
            false => known,
        }
    }

    /// Where the encryption counter goes on: no number of it is sealed under twice, not even after a rollback.
    pub(super) fn budget(
        &self,
        header: &Header,
        anchor: &AnchorState,
        entropy: &dyn Entropy,
    ) -> Budget {
        let reserve = self.reserve(header);
        match self.doubts(anchor) {
            // Without randomness nothing can be sealed anyway.
            true => Budget::resume_beyond(reserve, unique_u64(entropy).unwrap_or(0)),
            false => Budget::resume(reserve),
        }
    }

    pub(super) fn reserve(&self, header: &Header) -> Reserve {
        match self.records.last() {
            Some(last) if last.reserve.reserved > header.reserve.reserved => last.reserve,
            _ => header.reserve,
        }
    }
}

/// The commit that every start makes: it reserves encryptions, takes in what the reserve holds, and takes away what must not
/// be believed again. Where it fails, the writer makes it once it can.
fn start(mut writer: Writer, mut loaded: Loaded, report: OpenReport, room: Room) -> Opened {
    let mut gone = std::mem::take(&mut loaded.lost);
    gone.append(&mut loaded.disbelieved);
    if report.values_changed || report.values_lost > 0 {
        gone.append(&mut loaded.mirrors);
    }
    gone.sort_by_key(|at| (at.table, at.key));
    gone.dedup();
    let bodies: Vec<At> = gone
        .iter()
        .filter(|at| at.table.body().is_some())
        .map(|at| at.body())
        .collect();
    gone.extend(bodies);
    writer.cleanup = gone.into_iter().map(Op::Delete).collect();
    if writer.failing.is_none() {
        writer.failing = first_commit(&mut writer, &report).err();
    }
    match &writer.failing {
        Some(_) => writer.take_back(),
        None => writer.renew_reserve(),
    }
    loaded.view.set_rolled_back(report.rolled_back);
    Opened {
        view: Arc::new(loaded.view),
        mark: loaded.mark,
        phase: loaded.phase,
        queue: loaded.queue,
        coverage: loaded.coverage,
        report,
        writer,
        room,
    }
}

fn first_commit(writer: &mut Writer, report: &OpenReport) -> Result<(), StoreError> {
    if report.anchor == AnchorState::First
        && let Some(anchor) = &writer.anchor
    {
        // Before the header says that there is one.
        anchor
            .write(&writer.keys, writer.durable)
            .map_err(StoreError::Anchor)?;
        writer.anchored = writer.durable;
    }
    writer.redo()?;
    writer.commit_header(0)?;
    writer.write_anchor()
}

/// Entries that are counted at once.
const COUNTED: usize = 1024;

/// Who takes how much of the ledger's space: what the row says, and what came since.
fn counted(
    database: &mut Database,
    keys: &Keys,
    head: &Head,
    row: Option<RoomRow>,
    max: u64,
) -> rusqlite::Result<Room> {
    let (mut room, mut next) = Room::resume(row, head, max);
    while next < head.next {
        let rows = database.entries(next, COUNTED)?;
        let ours = rows.iter().take_while(|row| row.seq < head.next);
        ours.for_each(|row| room.count(keys, row));
        match rows.last() {
            Some(last) => next = last.seq.saturating_add(1),
            None => break,
        }
    }
    Ok(room)
}

fn ends_there(head: &Head, end: Option<(u64, [u8; 32])>) -> bool {
    match end {
        Some((seq, mac)) => seq.checked_add(1) == Some(head.next) && mac == head.last,
        None => head.first == head.next,
    }
}

/// Whether what is lost says until when something was to be issued.
fn is_of_unknown_time(loaded: &Loaded) -> bool {
    let authority = loaded.view.authority();
    [RowKind::Mark, RowKind::Phase]
        .iter()
        .any(|kind| authority.lost.any_of(*kind))
}
