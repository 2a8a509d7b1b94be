//! Opening a replica: proving it, reading it, and the commit that every start makes.

use std::{fs::File, path::Path, sync::Arc};

use shared::settings::Settings;

use super::{
    FailStop, Location, OpenError, OpenReport, Opened, Replica, Room, RoomRow, Storage as _,
    StoreError,
    anchor::{Anchor, AnchorState},
    header::Header,
    load::{self, LoadError, Loaded},
    lock,
    schema::{Database, Recognised},
    writer::Writer,
};
use crate::{
    entropy::Entropy,
    key::{
        Keys, ReplicaId, RootKey,
        epoch::{Budget, Limits},
        slot::{Slot, Source},
    },
    ledger::Head,
    private,
    table::{At, Op},
};

impl Replica {
    /// Opens the replica, proves it, and reads it into a view. Needs no primary.
    ///
    /// Ends with a commit of its own: a replica that cannot be written does not open.
    ///
    /// # Errors
    /// If it is missing, in use, damaged, changed by somebody else, or not of any of these keys.
    pub fn open(
        location: &Location,
        sources: &[Source],
        settings: Arc<Settings>,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Opened, OpenError> {
        let path = &location.path;
        let lock = present(location)?;
        let (mut database, keys, header) = proven(path, sources)?;
        let mut loaded = load::load(&database, &keys, &header, settings)
            .map_err(|error| not_loaded(error, path))?;
        let (row, max) = (loaded.room.take(), location.ledger_max);
        let room =
            counted(&mut database, &keys, &header.ledger, row, max).map_err(unreadable(path))?;
        let end = database.ledger_end().map_err(unreadable(path))?;
        let anchor = location.anchor.as_deref().map(Anchor::at);
        let state = match &anchor {
            Some(anchor) => anchor.compare(&keys, header.generation, header.anchored)?,
            None => AnchorState::Unset,
        };
        let report = OpenReport {
            generation: header.generation,
            rolled_back: header.rolled_back || state.doubts(),
            anchor: state,
            values_lost: u64::try_from(loaded.lost.len()).unwrap_or(u64::MAX),
            values_changed: loaded.values != header.values,
            ledger_cut: !ends_there(&header.ledger, end),
        };
        database.begin_writing().map_err(unreadable(path))?;
        let writer = Writer {
            storage: FailStop::new(Box::new(database)),
            budget: Budget::resume(header.reserve),
            limits: Limits::default(),
            keys,
            entropy,
            header,
            anchor,
            anchored: 0,
            since_checkpoint: 0,
            _lock: lock,
        };
        start(writer, loaded, report, room).map_err(|source| OpenError::Store {
            path: path.clone(),
            source,
        })
    }
}

/// The file, its keys, and the header of its last commit.
fn proven(path: &Path, sources: &[Source]) -> Result<(Database, Keys, Header), OpenError> {
    let database = Database::open(path).map_err(unreadable(path))?;
    match database.recognise().map_err(unreadable(path))? {
        Recognised::Ours => {}
        Recognised::Newer(found) => {
            let path = path.into();
            return Err(OpenError::Newer { path, found });
        }
        Recognised::Other => return Err(OpenError::Other(path.into())),
    }
    let id = database.id().map_err(unreadable(path))?;
    let slots = database.slots().map_err(unreadable(path))?;
    let root = unlock(path, &slots, sources, id)?;
    let row = database.header().map_err(unreadable(path))?;
    let keys = Keys::derive(root, id, row.sealed.epoch);
    match Header::open(&keys, &row) {
        Some(header) => Ok((database, keys, header)),
        None => Err(OpenError::Header(path.into())),
    }
}

/// The commit that every start makes: it reserves encryptions, and takes away what must not be believed again.
fn start(
    mut writer: Writer,
    mut loaded: Loaded,
    report: OpenReport,
    room: Room,
) -> Result<Opened, StoreError> {
    let header = &mut writer.header;
    header.rolled_back = report.rolled_back;
    if let AnchorState::Ahead { anchor, .. } = report.anchor {
        // Never a generation twice, not even after a rollback.
        header.generation = header.generation.max(anchor);
    }
    header.values = loaded.values;
    let mut gone = std::mem::take(&mut loaded.lost);
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
    if report.anchor == AnchorState::First
        && let Some(anchor) = &writer.anchor
    {
        // Before the header says that there is one.
        anchor.write(&writer.keys, writer.header.generation)?;
        writer.anchored = writer.header.generation;
    }
    let ops: Vec<Op> = gone.into_iter().map(Op::Delete).collect();
    writer.commit(&ops, &[])?;
    writer.write_anchor()?;
    loaded.view.set_rolled_back(report.rolled_back);
    Ok(Opened {
        view: Arc::new(loaded.view),
        mark: loaded.mark,
        phase: loaded.phase,
        queue: loaded.queue,
        coverage: loaded.coverage,
        report,
        writer,
        room,
    })
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

/// The replica's lock, once the file is known to be there and fit.
fn present(location: &Location) -> Result<File, OpenError> {
    let path = &location.path;
    if let Err(error) = path.symlink_metadata()
        && error.kind() == std::io::ErrorKind::NotFound
    {
        let anchor = location.anchor.as_deref().map(Anchor::at);
        return Err(OpenError::Missing {
            path: path.clone(),
            anchored: anchor.is_some_and(|anchor| anchor.exists()),
        });
    }
    private::directory(private::parent(path))?;
    let lock = lock(path)?.ok_or_else(|| OpenError::Busy(path.clone()))?;
    drop(private::open(path)?);
    Ok(lock)
}

fn unlock(
    path: &Path,
    slots: &[Slot],
    sources: &[Source],
    id: ReplicaId,
) -> Result<RootKey, OpenError> {
    let mut reasons = Vec::new();
    for source in sources {
        let key = match source.read() {
            Ok(key) => key,
            Err(error) => {
                reasons.push(error.to_string());
                continue;
            }
        };
        let fitting = slots.iter().filter(|slot| slot.kind == source.kind());
        match fitting
            .map(|slot| slot.unwrap(&key, id))
            .find_map(Result::ok)
        {
            Some(root) => return Ok(root),
            None => reasons.push(format!("{source} belongs to another replica")),
        }
    }
    Err(OpenError::Key {
        path: path.into(),
        reasons,
    })
}

fn ends_there(head: &Head, end: Option<(u64, [u8; 32])>) -> bool {
    match end {
        Some((seq, mac)) => seq.checked_add(1) == Some(head.next) && mac == head.last,
        None => head.first == head.next,
    }
}

fn not_loaded(error: LoadError, path: &Path) -> OpenError {
    let what = match error {
        LoadError::Database(error) => return unreadable(path)(error),
        LoadError::Missing { expected, found } if expected == found => {
            "rows that decide who may do what were replaced by others".into()
        }
        LoadError::Missing { expected, found } => {
            format!("it should hold {expected} rows that decide who may do what, and holds {found}")
        }
        LoadError::Row(table) => format!("a {} in it was changed or moved", table.name()),
    };
    OpenError::Authority {
        path: path.into(),
        what,
    }
}

/// What SQLite's error says of the file.
fn unreadable(path: &Path) -> impl FnOnce(rusqlite::Error) -> OpenError {
    use rusqlite::ErrorCode::{DatabaseBusy, DatabaseLocked, NotADatabase};
    |source| {
        let path = path.into();
        match source.sqlite_error_code() {
            Some(DatabaseBusy | DatabaseLocked) => OpenError::Busy(path),
            Some(NotADatabase) => OpenError::Other(path),
            _ => OpenError::Damaged { path, source },
        }
    }
}
