//! Wall time and boot time as types that cannot be mixed, and deadlines that hold by both.
//!
//! A deadline has passed as soon as either clock says so. [`Timekeeper`] turns the two raw readings into
//! a [`Now`] that never runs backwards and never adopts a forward jump that nothing has confirmed.

use core::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// A moment on the wall clock: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct WallTime(i64);

/// A moment on the boot clock: milliseconds since this machine booted, suspend included.
///
/// It means nothing on another boot; [`BootId`] says which boot it belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootTime(u64);

/// Which boot of the machine a [`BootTime`] belongs to (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub [u8; 16]);

impl WallTime {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From milliseconds since the Unix epoch.
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the Unix epoch.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(1000))
    }

    /// Milliseconds since the Unix epoch.
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    pub const fn as_secs(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// `self` plus `span`, saturating.
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// `self` less `span`, saturating.
    pub fn minus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)),
        )
    }

    /// Parses RFC 3339, with any offset; precision below a millisecond is dropped.
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let stamp: jiff::Timestamp = text.parse().ok()?;
        Some(Self(stamp.as_millisecond()))
    }
}

impl fmt::Display for WallTime {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(stamp) => write!(f, "{stamp}"),
            Err(_) => write!(f, "{} ms", self.0),
        }
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl BootTime {
    /// From milliseconds since boot.
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// Milliseconds since boot.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// The time from `earlier` to `self`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// `self` plus `span`, saturating.
    pub fn plus(self, span: Duration) -> Self {
        Self(
            self.0
                .saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        )
    }
}

impl fmt::Debug for BootTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot+{}ms", self.0)
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&crate::hex::Hex(&self.0), f)
    }
}

/// The present, as every decision sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    /// What refusals at use go by: the larger of the wall clock and [`Now::steady`].
    pub wall: WallTime,
    /// The last confirmed wall time plus boot time since: what destruction and new deadlines go by.
    pub steady: WallTime,
    /// Time since the boot, which no one can set.
    pub boot: BootTime,
    /// Which boot [`Now::boot`] belongs to.
    pub boot_id: BootId,
}

/// A moment after which something is refused, on both clocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Deadline {
    /// The moment on the steady wall clock.
    pub wall: WallTime,
    boot: BootTime,
    boot_id: BootId,
}

impl Deadline {
    /// The moment `span` from `now`.
    pub fn after(span: Duration, now: Now) -> Self {
        Self {
            wall: now.steady.plus(span),
            boot: now.boot.plus(span),
            boot_id: now.boot_id,
        }
    }

    /// The wall moment `at`, seen from `now`; a moment already past is now.
    pub fn at(at: WallTime, now: Now) -> Self {
        Self {
            wall: at,
            boot: now.boot.plus(at.since(now.steady)),
            boot_id: now.boot_id,
        }
    }

    /// The stricter of two, clock by clock.
    #[must_use]
    pub fn earliest(self, other: Self) -> Self {
        let wall = self.wall.min(other.wall);
        if self.boot_id == other.boot_id {
            return Self {
                wall,
                boot: self.boot.min(other.boot),
                boot_id: self.boot_id,
            };
        }
        // Of different boots only the wall moments compare: keep the boot reading of the earlier.
        if self.wall <= other.wall {
            Self { wall, ..self }
        } else {
            Self { wall, ..other }
        }
    }

    /// Whether either clock says that the moment has come. A deadline is passed *at* its moment.
    pub fn passed(self, now: Now) -> bool {
        now.wall >= self.wall || self.boot_passed(now)
    }

    /// Whether the clocks that nothing can step say so: what a durable revocation goes by.
    pub fn passed_for_good(self, now: Now) -> bool {
        now.steady >= self.wall || self.boot_passed(now)
    }

    /// What is left by the stricter clock; zero once passed.
    pub fn remaining(self, now: Now) -> Duration {
        self.wall.since(now.wall).min(self.remaining_for_good(now))
    }

    /// What is left by the clocks that nothing can step: zero exactly once [`Self::passed_for_good`]. Whoever waits to make an end
    /// durable waits for this. By [`Self::remaining`] nothing is left while an unconfirmed wall clock is ahead, and
    /// nothing is to be done either.
    pub fn remaining_for_good(self, now: Now) -> Duration {
        let wall = self.wall.since(now.steady);
        if self.boot_id == now.boot_id {
            wall.min(self.boot.since(now.boot))
        } else {
            wall
        }
    }

    fn boot_passed(self, now: Now) -> bool {
        self.boot_id == now.boot_id && now.boot >= self.boot
    }
}

/// The persisted pair of readings that later readings are held against.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Mark {
    /// The steady wall time at the mark.
    pub wall: WallTime,
    /// The boot time at the mark.
    pub boot: BootTime,
    /// The boot of [`Mark::boot`].
    pub boot_id: BootId,
    /// Whether the wall clock was ahead of it by then, and nothing had confirmed that.
    #[serde(default, skip_serializing_if = "is_not")]
    pub ahead: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_not(flag: &bool) -> bool {
    !*flag
}

/// What the clocks have been seen to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ClockState {
    /// Wall and boot time agree within [`Timekeeper::TOLERANCE`].
    Steady,
    /// The wall clock is behind by this much: Holdover's time stands on boot time.
    SteppedBack(Duration),
    /// The wall clock is ahead by this much and nothing has confirmed it: refusing at use, destroying nothing.
    SteppedForward(Duration),
}

/// How a start finds the machine booted, against the persisted mark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BootFound {
    /// It is the boot of the mark, or there is no mark yet.
    Same,
    /// It is another boot.
    Another,
    /// It is another boot, and before it the wall clock had stepped forward without anything confirming it.
    AnotherAhead,
    /// It is another boot, and its wall clock is behind the mark.
    AnotherBehind,
}

/// Turns raw readings into [`Now`], held against the mark. Holds no clock: readings are arguments.
#[derive(Clone, Copy, Debug)]
pub struct Timekeeper {
    mark: Mark,
    found: BootFound,
}

impl Timekeeper {
    /// A difference up to this much is taken for slewing and drift, and followed.
    pub const TOLERANCE: Duration = Duration::from_secs(2);

    /// Starts from the persisted `mark`, if there is one, at the raw readings given.
    pub fn start(mark: Option<Mark>, wall: WallTime, boot: BootTime, boot_id: BootId) -> Self {
        let fresh = Mark {
            wall,
            boot,
            boot_id,
            ahead: false,
        };
        match mark {
            None => Self {
                mark: fresh,
                found: BootFound::Same,
            },
            Some(mark) if mark.boot_id == boot_id => Self {
                mark,
                found: BootFound::Same,
            },
            // Another boot: its boot clock says nothing of ours. Time may not run back behind the mark;
            // how far it went ahead meanwhile nobody can tell, so the wall clock is taken at its word, unless that was doubted
            // before: a reboot confirms nothing.
            Some(mark) => {
                let found = match (wall < mark.wall, mark.ahead) {
                    (true, _) => BootFound::AnotherBehind,
                    (false, true) => BootFound::AnotherAhead,
                    (false, false) => BootFound::Another,
                };
                let wall = match found {
                    BootFound::Another => wall,
                    _ => mark.wall,
                };
                let mark = Mark { wall, ..fresh };
                Self { mark, found }
            }
        }
    }

    /// The present, from raw readings. Follows small differences; never runs backwards.
    pub fn observe(&mut self, wall: WallTime, boot: BootTime) -> Now {
        let steady = self.steady(boot);
        let ahead = wall.since(steady);
        if ahead > Duration::ZERO && ahead <= Self::TOLERANCE {
            self.mark = Mark {
                wall,
                boot,
                ..self.mark
            };
        }
        let steady = self.steady(boot);
        Now {
            wall: wall.max(steady),
            steady,
            boot,
            boot_id: self.mark.boot_id,
        }
    }

    /// The primary was seen, and its clock agrees: the wall clock is right.
    ///
    /// One that is ahead is adopted. One that is behind never is, right as it may be: steady time goes on from where it stands.
    /// All that is known was verified by it, in the store, in memory and in passes that are under way. Were it set back, what was
    /// verified before would be newer than every later word of the primary, as long as the step was, and younger than it is;
    /// and what is verified from then on would count as older than the end of the last outage. Only differences on the one
    /// scale are ever asked for, which it keeps as true as boot time is. Moments that the primary names by its own clock are
    /// taken for past so much too early, which only refuses.
    pub fn confirm(&mut self, wall: WallTime, boot: BootTime) {
        if wall >= self.steady(boot) {
            self.mark = Mark {
                wall,
                boot,
                ..self.mark
            };
        }
    }

    /// What to persist now.
    pub fn mark(&self, wall: WallTime, boot: BootTime) -> Mark {
        Mark {
            wall: self.steady(boot),
            boot,
            boot_id: self.mark.boot_id,
            ahead: matches!(self.state(wall, boot), ClockState::SteppedForward(_)),
        }
    }

    /// What the wall clock is doing, against boot time.
    pub fn state(&self, wall: WallTime, boot: BootTime) -> ClockState {
        let steady = self.steady(boot);
        let (ahead, behind) = (wall.since(steady), steady.since(wall));
        if ahead > Self::TOLERANCE {
            ClockState::SteppedForward(ahead)
        } else if behind > Self::TOLERANCE {
            ClockState::SteppedBack(behind)
        } else {
            ClockState::Steady
        }
    }

    /// How the start found the machine booted. What follows from it outlives this start, and is stored.
    pub fn boot_found(&self) -> BootFound {
        self.found
    }

    fn steady(&self, boot: BootTime) -> WallTime {
        self.mark.wall.plus(boot.since(self.mark.boot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOOT: BootId = BootId([1; 16]);
    const OTHER: BootId = BootId([2; 16]);

    fn keeper(wall: i64, boot: u64) -> Timekeeper {
        Timekeeper::start(
            None,
            WallTime::from_secs(wall),
            BootTime::from_millis(boot * 1000),
            BOOT,
        )
    }

    fn read(keeper: &mut Timekeeper, wall: i64, boot: u64) -> Now {
        keeper.observe(
            WallTime::from_secs(wall),
            BootTime::from_millis(boot * 1000),
        )
    }

    #[test]
    fn deadline_passes_at_its_moment_and_not_before() {
        let mut keeper = keeper(1000, 10);
        let deadline = Deadline::after(Duration::from_secs(5), read(&mut keeper, 1000, 10));
        assert!(!deadline.passed(read(&mut keeper, 1004, 14)));
        assert!(deadline.passed(read(&mut keeper, 1005, 15)));
    }

    #[test]
    fn wall_clock_set_back_does_not_lengthen_a_deadline() {
        let mut keeper = keeper(100_000, 10);
        let deadline = Deadline::after(Duration::from_secs(5), read(&mut keeper, 100_000, 10));
        assert!(!deadline.passed(read(&mut keeper, 13_600, 14)));
        let now = read(&mut keeper, 13_601, 15);
        assert!(deadline.passed(now) && deadline.passed_for_good(now));
        let state = keeper.state(WallTime::from_secs(13_601), BootTime::from_millis(15_000));
        assert_eq!(state, ClockState::SteppedBack(Duration::from_secs(86_404)));
    }

    #[test]
    fn forward_step_refuses_at_use_and_destroys_nothing_until_confirmed() {
        let mut keeper = keeper(1000, 10);
        let deadline = Deadline::after(Duration::from_secs(60), read(&mut keeper, 1000, 10));
        let jumped = read(&mut keeper, 90_000, 11);
        assert!(deadline.passed(jumped) && !deadline.passed_for_good(jumped));
        let mark = keeper.mark(WallTime::from_secs(90_000), BootTime::from_millis(11_000));
        assert_eq!((mark.wall, mark.ahead), (WallTime::from_secs(1001), true));
        keeper.confirm(WallTime::from_secs(90_000), BootTime::from_millis(11_000));
        assert!(deadline.passed_for_good(read(&mut keeper, 90_001, 12)));
    }

    #[test]
    fn a_clock_that_went_back_is_not_adopted_though_it_is_confirmed() {
        let (wall, boot) = (WallTime::from_secs(50_000), BootTime::from_millis(20_000));
        let mut keeper = keeper(100_000, 20);
        let verified_at = read(&mut keeper, 100_000, 20).steady;
        keeper.confirm(wall, boot);
        let later = read(&mut keeper, 50_010, 30).steady;
        assert_eq!(later.since(verified_at), Duration::from_secs(10));
        assert_eq!(
            keeper.state(WallTime::from_secs(50_010), BootTime::from_millis(30_000)),
            ClockState::SteppedBack(Duration::from_secs(50_000))
        );
    }

    #[test]
    fn a_reboot_is_told_from_a_restart_and_a_clock_behind_the_mark_stands_still() {
        let mark =
            keeper(100_000, 10).mark(WallTime::from_secs(100_000), BootTime::from_millis(10_000));
        let wall = WallTime::from_secs(5000);
        let boot = BootTime::from_millis(1000);
        let found = |mark, wall, id| Timekeeper::start(mark, wall, boot, id).boot_found();
        assert_eq!(found(None, wall, BOOT), BootFound::Same);
        assert_eq!(found(Some(mark), wall, BOOT), BootFound::Same);
        assert_eq!(found(Some(mark), mark.wall, OTHER), BootFound::Another);
        let mut keeper = Timekeeper::start(Some(mark), wall, boot, OTHER);
        assert_eq!(keeper.boot_found(), BootFound::AnotherBehind);
        assert_eq!(
            read(&mut keeper, 5000, 1).wall,
            WallTime::from_secs(100_000)
        );
        keeper.confirm(wall, BootTime::from_millis(1000));
        assert_eq!(
            read(&mut keeper, 5000, 1).wall,
            WallTime::from_secs(100_000)
        );
    }

    #[test]
    fn a_clock_that_was_ahead_is_so_after_a_reboot_and_ends_nothing_until_it_is_confirmed() {
        let mut before = keeper(100_000, 10);
        let deadline = Deadline::after(Duration::from_secs(60), read(&mut before, 100_000, 10));
        let (ahead, boot) = (WallTime::from_secs(190_000), BootTime::from_millis(12_000));
        let mut mark = before.mark(ahead, boot);
        for id in [2, 3] {
            // Over every further reboot.
            let booted = BootTime::from_millis(1000);
            let mut keeper = Timekeeper::start(Some(mark), ahead, booted, BootId([id; 16]));
            assert_eq!(keeper.boot_found(), BootFound::AnotherAhead);
            let now = read(&mut keeper, 190_000, 1);
            assert!(deadline.passed(now) && !deadline.passed_for_good(now));
            mark = keeper.mark(ahead, booted);
        }
        let booted = BootTime::from_millis(1000);
        let mut keeper = Timekeeper::start(Some(mark), ahead, booted, OTHER);
        keeper.confirm(ahead, booted);
        assert!(deadline.passed_for_good(read(&mut keeper, 190_000, 1)));
        assert!(!keeper.mark(ahead, booted).ahead);
    }

    #[test]
    fn the_stricter_of_two_deadlines_wins_clock_by_clock() {
        let mut keeper = keeper(1000, 10);
        let now = read(&mut keeper, 1000, 10);
        let (short, long) = (
            Deadline::after(Duration::from_secs(1), now),
            Deadline::after(Duration::from_secs(9), now),
        );
        assert_eq!(short.earliest(long), short);
        assert_eq!(long.earliest(short), short);
    }

    #[test]
    fn rfc3339_is_read_and_written_in_utc() {
        let at = WallTime::parse_rfc3339("2026-11-23T12:00:00.123456789+02:00").unwrap();
        assert_eq!(alloc::format!("{at}"), "2026-11-23T10:00:00.123Z");
        assert!(WallTime::parse_rfc3339("yesterday").is_none());
    }

    proptest! {
        /// Whatever the wall clock does, confirmed or not, what a deadline has left never grows, and it has passed for good
        /// once boot time has.
        #[test]
        fn no_sequence_of_wall_readings_moves_a_deadline_later(
            ttl in 1u64..5000,
            steps in proptest::collection::vec(
                (-1_000_000i64..1_000_000, 0u64..1000, any::<bool>()),
                1..40,
            ),
        ) {
            let mut keeper = keeper(2_000_000, 5);
            let start = read(&mut keeper, 2_000_000, 5);
            let deadline = Deadline::after(Duration::from_secs(ttl), start);
            let (mut boot, mut last) = (5u64, start);
            for (wall, elapsed, confirmed) in steps {
                boot += elapsed;
                let wall = 2_000_000 + wall;
                if confirmed {
                    keeper.confirm(WallTime::from_secs(wall), BootTime::from_millis(boot * 1000));
                }
                let now = read(&mut keeper, wall, boot);
                prop_assert!(now.steady >= last.steady, "steady time ran backwards");
                prop_assert!(deadline.remaining(now) <= Duration::from_secs(ttl.saturating_sub(boot - 5)));
                prop_assert_eq!(deadline.remaining_for_good(now).is_zero(), deadline.passed_for_good(now));
                if boot - 5 >= ttl {
                    prop_assert!(deadline.passed(now) && deadline.passed_for_good(now));
                }
                last = now;
            }
        }

        /// A restart on the same boot, from a persisted mark, changes nothing of that.
        #[test]
        fn a_restart_keeps_time_from_running_back(back in 0i64..1_000_000, gap in 0u64..100) {
            let mark = keeper(2_000_000, 100)
                .mark(WallTime::from_secs(2_000_000), BootTime::from_millis(100_000));
            let wall = WallTime::from_secs(2_000_000 - back);
            let boot = BootTime::from_millis((100 + gap) * 1000);
            let mut keeper = Timekeeper::start(Some(mark), wall, boot, BOOT);
            prop_assert!(keeper.observe(wall, boot).wall >= mark.wall.plus(Duration::from_secs(gap)));
        }
    }
}
