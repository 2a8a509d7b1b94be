//! The only `now()` in the workspace: wall time through std, boot time from the kernel, judged together.

pub mod timer;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use shared::{
    hex,
    time::{BootFound, BootId, BootTime, ClockState, Mark, Now, Timekeeper, WallTime},
};

/// The daemon's clock. Shared by every task.
pub struct Clock {
    keeper: Mutex<Timekeeper>,
}

/// The kernel's boot id cannot be read, so no deadline could be kept across a reboot.
#[derive(Debug, thiserror::Error)]
pub enum ClockError {
    /// The file cannot be read.
    #[error("cannot read /proc/sys/kernel/random/boot_id: {0}")]
    Read(#[from] std::io::Error),
    /// What is in it is no UUID.
    #[error("/proc/sys/kernel/random/boot_id holds no UUID")]
    Form,
}

impl Clock {
    /// Starts from the persisted mark, if there is one.
    ///
    /// # Errors
    /// If the kernel's boot id cannot be read.
    pub fn start(mark: Option<Mark>) -> Result<Self, ClockError> {
        let keeper = Timekeeper::start(mark, wall(), boot(), boot_id()?);
        Ok(Self {
            keeper: Mutex::new(keeper),
        })
    }

    /// The present.
    pub fn now(&self) -> Now {
        self.keeper.lock().observe(wall(), boot())
    }

    /// The primary was seen, and its clock agrees with ours; see [`Timekeeper::confirm`].
    pub fn confirm(&self) {
        self.keeper.lock().confirm(wall(), boot());
    }

    /// The wall clock as it is, for comparison with another's.
    pub fn wall(&self) -> WallTime {
        wall()
    }

    /// What to persist.
    pub fn mark(&self) -> Mark {
        self.keeper.lock().mark(wall(), boot())
    }

    /// What the wall clock does against boot time.
    pub fn state(&self) -> ClockState {
        self.keeper.lock().state(wall(), boot())
    }

    /// How the start found the machine booted, against the mark.
    pub fn boot_found(&self) -> BootFound {
        self.keeper.lock().boot_found()
    }
}

/// A stopwatch for durations that are reported, never for deadlines: the boot clock.
#[derive(Clone, Copy, Debug)]
pub struct Stopwatch(Duration);

impl Stopwatch {
    /// Starts now.
    pub fn start() -> Self {
        Self(boot_precise())
    }

    /// Since the start.
    pub fn elapsed(self) -> Duration {
        boot_precise().saturating_sub(self.0)
    }
}

#[allow(clippy::disallowed_methods)] // This is the place that the ban speaks of.
fn wall() -> WallTime {
    let now = SystemTime::now();
    let millis = match now.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
        Err(before) => {
            i64::try_from(before.duration().as_millis()).map_or(i64::MIN, std::ops::Neg::neg)
        }
    };
    WallTime::from_millis(millis)
}

fn boot() -> BootTime {
    BootTime::from_millis(u64::try_from(boot_precise().as_millis()).unwrap_or(u64::MAX))
}

fn boot_precise() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn boot_id() -> Result<BootId, ClockError> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    let digits: String = text.trim().chars().filter(|c| *c != '-').collect();
    let mut id = [0; 16];
    hex::read(digits.as_bytes(), &mut id).ok_or(ClockError::Form)?;
    Ok(BootId(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn now_runs_forward_on_every_clock() {
        let clock = Clock::start(None).unwrap();
        let (first, second) = (clock.now(), clock.now());
        assert!(second.wall >= first.wall && second.boot >= first.boot);
        assert_eq!(clock.state(), ClockState::Steady);
    }

    #[test]
    fn a_mark_of_this_boot_is_taken_up_where_it_stood() {
        let mark = Clock::start(None).unwrap().mark();
        let ahead = Mark {
            wall: mark.wall.plus(Duration::from_secs(3600)),
            ..mark
        };
        let clock = Clock::start(Some(ahead)).unwrap();
        assert!(clock.now().wall >= ahead.wall);
        assert!(matches!(clock.state(), ClockState::SteppedBack(_)));
        assert_eq!(clock.boot_found(), BootFound::Same);
    }
}
