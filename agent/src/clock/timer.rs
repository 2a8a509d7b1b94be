//! Timers that go on in suspend, and the notice that somebody stepped the wall clock.
//!
//! tokio's timers stand still while the machine sleeps: a grant would outlive its deadline by the length of a
//! nap. These are kernel timers on `CLOCK_BOOTTIME`.

use std::{io, os::fd::OwnedFd};

use rustix::{
    io::{Errno, read},
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
        timerfd_settime,
    },
};
use shared::time::BootTime;
use tokio::io::unix::AsyncFd;

/// One timer on the boot clock.
pub struct BootTimer(AsyncFd<OwnedFd>);

impl BootTimer {
    /// A timer that is not set.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        create(TimerfdClockId::Boottime).map(Self)
    }

    /// Waits until the boot clock reads `at`; returns at once if it has. Whoever waits for the past over and over is made to
    /// let others run: the descriptor alone is ready each time, and its worker may be the one that all I/O waits for.
    ///
    /// # Errors
    /// If the kernel refuses the timer, which it does not do for a moment that can be written down.
    pub async fn until(&self, at: BootTime) -> io::Result<()> {
        let millis = at.as_millis().max(1);
        let at = Timespec {
            tv_sec: i64::try_from(millis / 1000).unwrap_or(i64::MAX),
            tv_nsec: i64::try_from(millis % 1000).unwrap_or(0) * 1_000_000,
        };
        tokio::task::consume_budget().await;
        set(&self.0, at, TimerfdTimerFlags::ABSTIME)?;
        wait(&self.0).await.map(|_stepped| ())
    }
}

/// Notices steps of the wall clock, by the operator or by NTP.
pub struct ClockSteps(AsyncFd<OwnedFd>);

impl ClockSteps {
    /// Begins to listen.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        create(TimerfdClockId::Realtime).map(Self)
    }

    /// Waits until the wall clock is stepped.
    ///
    /// # Errors
    /// If the kernel refuses the timer.
    pub async fn stepped(&self) -> io::Result<()> {
        let never = Timespec {
            tv_sec: i64::MAX / 1_000_000_000,
            tv_nsec: 0,
        };
        let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
        loop {
            set(&self.0, never, flags)?;
            if wait(&self.0).await? {
                return Ok(());
            }
        }
    }
}

fn create(clock: TimerfdClockId) -> io::Result<AsyncFd<OwnedFd>> {
    let fd = timerfd_create(clock, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    // Unsound for descriptors that something else may close; an OwnedFd's nobody may. The successor is unsafe.
    #[expect(deprecated)]
    AsyncFd::new(fd)
}

fn set(fd: &AsyncFd<OwnedFd>, at: Timespec, flags: TimerfdTimerFlags) -> io::Result<()> {
    let once = Itimerspec {
        it_interval: Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        },
        it_value: at,
    };
    timerfd_settime(fd.get_ref(), flags, &once)?;
    Ok(())
}

/// Waits for the timer's end: whether it was the clock that was stepped.
async fn wait(fd: &AsyncFd<OwnedFd>) -> io::Result<bool> {
    loop {
        let mut ready = fd.readable().await?;
        let ended = ready.try_io(|fd| {
            let mut count = [0u8; 8];
            match read(fd.get_ref(), &mut count) {
                Ok(_) => Ok(false),
                Err(Errno::CANCELED) => Ok(true),
                Err(error) => Err(error.into()),
            }
        });
        if let Ok(ended) = ended {
            return ended;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use std::time::Duration;

    #[tokio::test]
    async fn a_timer_ends_at_its_moment_and_one_in_the_past_at_once() {
        let clock = Clock::start(None).unwrap();
        let timer = BootTimer::new().unwrap();
        let start = clock.now().boot;
        timer.until(start).await.unwrap();
        let at = clock.now().boot.plus(Duration::from_millis(30));
        timer.until(at).await.unwrap();
        assert!(clock.now().boot >= at);
    }

    #[tokio::test]
    async fn waiting_for_the_past_over_and_over_lets_others_run() {
        let timer = BootTimer::new().unwrap();
        let past = Clock::start(None).unwrap().now().boot;
        timer.until(past).await.unwrap();
        let other = tokio::spawn(async {});
        for _ in 0..10_000 {
            timer.until(past).await.unwrap();
        }
        assert!(other.is_finished());
    }
}
