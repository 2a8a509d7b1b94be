//! What goes into the machine and what comes out of it.

use alloc::string::String;
use core::time::Duration;

use super::state::{Cause, Outage, Phase};
use crate::{
    name::OutageId,
    time::{BootTime, Now, WallTime},
};

/// What the machine goes by, from the configuration.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Knobs {
    /// Failed probes in a row that make an outage; at least 1.
    pub failures: u32,
    /// Good probes in a row that begin the recovery; at least 1.
    pub successes: u32,
    /// Between probes while following.
    pub probe_interval: Duration,
    /// For each half of a probe, after its connection is made; one that has not ended by then has failed.
    pub probe_timeout: Duration,
    /// For each connection that a probe makes.
    pub connect_timeout: Duration,
    /// How long an outage may last, from the last complete verification of authority.
    pub max_outage: Duration,
}

impl Knobs {
    /// Between probes in Suspect.
    pub const SUSPECT_INTERVAL: Duration = Duration::from_millis(200);
    /// Between probes after a good one in an outage, and while recovering.
    pub const GOOD_INTERVAL: Duration = Duration::from_secs(1);
    /// An audited success this old no longer stands for the authenticated half of a probe.
    pub const AUDITED_FOR: Duration = Duration::from_secs(30);
    /// While following, the authenticated half is sent at most this often.
    pub const AUDITED_INTERVAL: Duration = Duration::from_secs(60);
    /// In doubt it is sent at most this often.
    pub const DOUBT_INTERVAL: Duration = Duration::from_secs(1);
    /// The longest pause between probes in an outage while an address accepts connections: a server that is coming up is
    /// soon asked.
    pub const ACCEPTED_INTERVAL: Duration = Duration::from_secs(5);
    /// A recovery that takes longer has failed.
    pub const RECOVERY_TIMEOUT: Duration = Duration::from_secs(120);
    /// What a probe's task gets beyond the time of both halves to say how it ended.
    pub const GRACE: Duration = Duration::from_millis(250);

    /// How long a probe's task may take.
    pub(super) fn probe_deadline(&self) -> Duration {
        (self.connect_timeout + self.probe_timeout) * 2 + Self::GRACE
    }

    /// The longest that an outage can go unnoticed by a caller that waits, from its request on, but for connections that
    /// are slow to fail.
    pub fn worst_detection(&self, read_deadline: Duration) -> Duration {
        let round = (self.probe_timeout * 2).max(Self::DOUBT_INTERVAL);
        read_deadline + round * self.failures + self.probe_timeout
    }
}

/// Names one action, so that its end can be told from another's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ActionId(pub(super) u64);

/// What the edges send to the machine.
#[derive(Clone, PartialEq, Debug)]
pub enum Event {
    /// An address accepted a connection, whatever came of it. In an outage the next probe does not wait for long then.
    Accepted,
    /// A forward failed as outages fail: reason to probe at once, no more.
    ForwardFailed,
    /// A forward was answered. Postpones the next probe while following; counts for nothing else.
    ForwardSucceeded {
        /// Whether it was authenticated and succeeded, so that audited requests are known to work.
        audited: bool,
    },
    /// An operator ordered the cutover.
    OperatorStart(String),
    /// An operator lifted it.
    OperatorStop,
    /// The end of a probe, which counts only while it is awaited.
    Probed(ActionId, Probe),
    /// The end of a recovery, which counts only while it is awaited.
    Recovered(ActionId, Recovery),
    /// Time has passed.
    Wake,
}

/// What a probe showed of the primary.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Probe {
    /// Failed as outages fail.
    Failed {
        /// How.
        cause: Cause,
        /// Whether an address accepted a connection all the same: something listens there, which may be coming up.
        accepted: bool,
    },
    /// Answered; `audited` if the authenticated half was asked for and went through, or was refused as a
    /// decision: both prove that the primary serves.
    Good {
        /// Whether the authenticated half was part of it.
        audited: bool,
    },
}

/// How a recovery ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Recovery {
    /// Settled: the primary takes over.
    Done,
    /// It could not be finished; the outage goes on.
    Failed(String),
}

/// What the machine wants done.
#[derive(Clone, PartialEq, Debug)]
pub enum Action {
    /// The state changed: publish it, then store it. Before what acts on it: [`Action::Exhaust`] and
    /// [`Action::Recover`].
    Enter(Phase),
    /// Refuse and revoke every replica grant: the outage outlived its bound.
    Exhaust,
    /// Probe the primary, and send the end before `deadline`.
    Probe {
        /// Names the end.
        id: ActionId,
        /// Whether the authenticated half is needed.
        audited: bool,
        /// After this its end is ignored.
        deadline: BootTime,
    },
    /// Settle with the primary.
    Recover {
        /// Names the end.
        id: ActionId,
        /// The one whose grants are settled.
        outage: Outage,
    },
    /// A recovery under way is of no use any more: stop it.
    StopRecovery,
}

/// What a transition needs besides the event.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// One reading of the clocks for the whole transition.
    pub now: Now,
    /// When every workload's authority was last verified completely; none if never.
    pub authority: Option<WallTime>,
    /// A fresh id, used if an outage begins.
    pub fresh_id: &'a OutageId,
    /// In 0..1: spreads probes of many hosts.
    pub jitter: f64,
}
