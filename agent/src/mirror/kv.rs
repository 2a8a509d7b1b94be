//! One pass over a KV mirror: what is there is listed, what changed is read, what vanished is asked about. Where the
//! applied index stands still nothing is asked at all.
//!
//! A value whose change could not be read keeps its old body and stops counting as covered by the pass; only own reads
//! purge anything.

mod anew;
mod compare;
mod metadata;
mod read;
mod shelf;
mod v1;
mod v2;

use shared::{share::commons::Amount, time::WallTime};

use self::shelf::Shelf;
use super::{
    PassError,
    cycle::Pace,
    ground::Ground,
    index::{Index, Quiet},
    target::{KvEngine, KvTarget},
};

/// What the task remembers from pass to pass.
#[derive(Default)]
pub(super) struct KvMemory {
    quiet: Quiet,
    /// Passes until SCAN is tried again.
    scan_refused: u32,
    /// The last pass left nothing undone, under this fingerprint.
    clean: Option<String>,
    /// When a version that is served now passes its deletion time, or a key that was put aside is due again.
    due: Option<WallTime>,
    shelf: Shelf,
    /// What all mirrors took when there was last no room for something of this one.
    full_at: Option<Amount>,
}

/// One pass.
pub(super) struct KvPass<'a> {
    pub(super) ground: Ground<'a>,
    pub(super) target: KvTarget,
}

impl KvPass<'_> {
    pub(super) async fn run(&self, memory: &mut KvMemory) -> Result<Pace, PassError> {
        let ground = &self.ground;
        ground.go_on()?;
        let at = ground.at;
        // A primary that cannot be asked for its index cannot be listed either.
        let urgency = ground.occasion.urgency();
        let index = memory.quiet.observe(ground.context, urgency);
        let index = index.await?;
        if !self.is_unchanged(memory, index.as_ref(), at) {
            // Forgotten before anything is asked, because a pass that is cut off must not leave an index behind that
            // vouches for what it did not see.
            memory.quiet.forget();
            if ground.leave_old_mount().await? {
                *memory = KvMemory::default();
            }
            ground.count_room();
            memory.clean = match self.target.version {
                KvEngine::One => self.read_values(memory).await?,
                KvEngine::Two => self.read_changes(memory, at).await?,
            };
            // What was purged makes room from the next pass on.
            ground.count_room();
            if memory.clean.is_some() {
                memory.quiet.complete(index, at);
            }
        }
        let fingerprint = memory.clean.clone().unwrap_or_default();
        ground
            .complete(fingerprint, memory.full_at.is_some())
            .await?;
        let slow = self.target.version == KvEngine::Two && memory.scan_refused > 0;
        Ok(if slow { Pace::Slow } else { Pace::Usual })
    }

    /// There was no room for so many keys.
    fn note_left_out(&self, memory: &mut KvMemory) {
        let (left_out, room) = (self.ground.left_out(), &self.ground.context.room);
        memory.full_at = (left_out > 0).then(|| room.taken());
        self.ground.with_health(|health| health.left_out = left_out);
    }

    /// Whether something has gone since there was no room for something of this mirror.
    fn is_roomier(&self, memory: &KvMemory) -> bool {
        let taken = self.ground.context.room.taken();
        memory.full_at.is_some_and(|then| taken.is_below(then))
    }

    fn is_unchanged(&self, memory: &KvMemory, index: Option<&Index>, at: WallTime) -> bool {
        let due = memory.due.is_some_and(|due| due <= at);
        let clean = memory.clean.is_some() && self.ground.is_mounted();
        clean && !due && !self.is_roomier(memory) && memory.quiet.holds(index, at)
    }
}
