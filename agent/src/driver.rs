//! The owner of the failover machine: events in, actions out, never awaiting one.
//!
//! Edges send it [`Event`]s through a [`Handle`]. It wakes the pure machine at its deadline, on the boot clock, and
//! starts what the machine wants done as tasks whose ends come back as events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use replica::{entropy, sequencer::Lane};
use shared::{
    change::{Change, Expects, PhaseRecord},
    failover::{Action, Context, Event as MachineEvent, Knobs, Machine, Outage, Phase},
    failover::{Probe, Recovery},
    ledger::{Entry, EntryKind},
    name::OutageId,
    settings::Settings,
    time::WallTime,
};
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use crate::{
    clock::timer::{BootTimer, ClockSteps},
    local::{Local, Pending},
};

/// What the edges send to the driver.
#[derive(Debug)]
pub enum Event {
    /// What the machine itself goes by.
    Machine(MachineEvent),
    /// The configuration changed.
    Reconfigured(Knobs),
}

impl From<MachineEvent> for Event {
    fn from(event: MachineEvent) -> Self {
        Self::Machine(event)
    }
}

/// Which side answers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// The primary.
    Primary,
    /// The replica.
    Replica,
}

/// What `status` shows of the machine.
#[derive(Clone, PartialEq, Debug)]
pub struct Snapshot {
    /// The state.
    pub phase: Phase,
    /// Since when, on the steady wall clock.
    pub since: WallTime,
    /// The outage before this one, if any was since the start.
    pub last_outage: Option<Outage>,
}

impl Snapshot {
    /// Who is in charge; none while the machine has not decided.
    pub fn side(&self) -> Option<Side> {
        match &self.phase {
            Phase::Following => Some(Side::Primary),
            Phase::Suspect => None,
            _ => Some(Side::Replica),
        }
    }
}

/// What the driver starts, and what it asks. The daemon's is [`crate::run`]'s; tests bring their own.
pub trait Edge: Send + Sync + 'static {
    /// Probes the primary.
    fn probe(&self, audited: bool) -> Pending<'static, Probe>;
    /// Settles with the primary.
    fn recover(&self, outage: Outage) -> Pending<'static, Recovery>;
    /// Refuses and revokes every replica grant: the outage outlived its bound.
    fn exhaust(&self);
}

/// The way to the driver. Cheap to clone.
#[derive(Clone)]
pub struct Handle {
    events: mpsc::UnboundedSender<Event>,
    snapshot: watch::Receiver<Snapshot>,
    unread: Arc<Unread>,
}

/// Forwards send events thousands of times a second; one unread notice of a kind is enough.
#[derive(Default)]
struct Unread {
    failed: AtomicBool,
    succeeded: AtomicBool,
    audited: AtomicBool,
}

impl Unread {
    fn flag(&self, event: &Event) -> Option<&AtomicBool> {
        match event {
            Event::Machine(MachineEvent::ForwardFailed) => Some(&self.failed),
            Event::Machine(MachineEvent::ForwardSucceeded { audited: false }) => {
                Some(&self.succeeded)
            }
            Event::Machine(MachineEvent::ForwardSucceeded { audited: true }) => Some(&self.audited),
            _ => None,
        }
    }
}

impl Handle {
    /// A handle over its two channels, for a driver of the caller's own.
    pub fn new(events: mpsc::UnboundedSender<Event>, snapshot: watch::Receiver<Snapshot>) -> Self {
        Self {
            events,
            snapshot,
            unread: Arc::default(),
        }
    }

    /// Sends `event` to the driver, which may be gone while the daemon stops.
    pub fn send(&self, event: impl Into<Event>) {
        let event = event.into();
        if self
            .unread
            .flag(&event)
            .is_some_and(|flag| flag.swap(true, Ordering::AcqRel))
        {
            return;
        }
        let _ = self.events.send(event);
    }

    /// Which side is in charge; waits at most `within` while the machine has not decided.
    pub async fn side(&self, within: Duration) -> Option<Side> {
        let mut snapshot = self.snapshot.clone();
        let decided = snapshot.wait_for(|snapshot| snapshot.side().is_some());
        let decided = tokio::time::timeout(within, decided).await.ok()?.ok()?;
        decided.side()
    }

    /// Waits, at most `within`, while the replica is in charge.
    pub async fn while_replicas(&self, within: Duration) {
        let is_replicas = |snapshot: &Snapshot| snapshot.side() == Some(Side::Replica);
        if is_replicas(&self.snapshot.borrow()) {
            let others = self.until(|side| side != Some(Side::Replica));
            let _ = tokio::time::timeout(within, others).await;
        }
    }

    /// Waits until the side in charge is as `wanted`; for good if the driver stops before that.
    pub async fn until(&self, wanted: impl Fn(Option<Side>) -> bool) {
        let mut snapshot = self.snapshot.clone();
        let reached = snapshot.wait_for(|snapshot| wanted(snapshot.side()));
        if reached.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// The machine's state.
    pub fn snapshot(&self) -> Snapshot {
        self.snapshot.borrow().clone()
    }

    /// Changes of the machine's state.
    pub fn watch(&self) -> watch::Receiver<Snapshot> {
        self.snapshot.clone()
    }
}

/// The driver before it runs.
pub struct Driver<E> {
    machine: Machine,
    local: Local,
    edge: E,
    events: mpsc::UnboundedReceiver<Event>,
    own: mpsc::UnboundedSender<Event>,
    snapshot: watch::Sender<Snapshot>,
    unread: Arc<Unread>,
    recovery: Option<AbortHandle>,
    /// When the recovery under way, or the last one, began.
    recovery_began: Option<WallTime>,
    published: PhaseRecord,
}

impl<E: Edge> Driver<E> {
    /// Sets up the machine from the stored state and publishes where it stands.
    pub fn new(knobs: Knobs, local: Local, edge: E) -> (Self, Handle) {
        let now = local.clock.now();
        let published = {
            let authority = local.view.authority();
            PhaseRecord {
                phase: authority.phase.clone(),
                epoch: authority.epoch,
                proven_from: authority.proven_from,
            }
        };
        let machine = Machine::start(knobs, Some(published.phase.clone()), now);
        let phase = machine.phase();
        let since = phase
            .outage()
            .map_or(now.steady, |outage| outage.started_at);
        let (own, events) = mpsc::unbounded_channel();
        let snapshot = watch::Sender::new(Snapshot {
            phase,
            since,
            last_outage: None,
        });
        let unread = Arc::new(Unread::default());
        let handle = Handle {
            events: own.clone(),
            snapshot: snapshot.subscribe(),
            unread: Arc::clone(&unread),
        };
        let (recovery, recovery_began) = (None, None);
        let driver = Self {
            machine,
            local,
            edge,
            events,
            own,
            snapshot,
            unread,
            recovery,
            recovery_began,
            published,
        };
        (driver, handle)
    }

    /// Runs until every handle is gone or the kernel refuses a timer.
    ///
    /// # Errors
    /// If there is no timer to be had.
    pub async fn run(mut self) -> std::io::Result<()> {
        let (timer, steps) = (BootTimer::new()?, ClockSteps::new()?);
        self.enter(self.machine.phase());
        loop {
            let deadline = self.machine.deadline(self.local.clock.now());
            let event = tokio::select! {
                event = self.events.recv() => match event {
                    Some(event) => Some(event),
                    None => return Ok(()),
                },
                end = timer.until(deadline) => { end?; None }
                end = steps.stepped() => { end?; None }
            };
            self.handle(event);
        }
    }

    fn handle(&mut self, event: Option<Event>) {
        if let Some(flag) = event.as_ref().and_then(|event| self.unread.flag(event)) {
            flag.store(false, Ordering::Release);
        }
        let event = match event {
            None => MachineEvent::Wake,
            Some(Event::Machine(event)) => event,
            Some(Event::Reconfigured(knobs)) => {
                self.machine.reconfigure(knobs, self.local.clock.now());
                let phase = self.machine.phase();
                if phase.is_outage() && self.snapshot.borrow().phase != phase {
                    self.enter(phase);
                }
                MachineEvent::Wake
            }
        };
        if let MachineEvent::Recovered(_, Recovery::Failed(why)) = &event {
            tracing::warn!(%why, "settling with the primary failed; the outage goes on");
        }
        let Ok(fresh_id) = self.fresh_outage_id() else {
            tracing::error!("no randomness: the failover machine stands still");
            return;
        };
        let context = Context {
            now: self.local.clock.now(),
            authority: verified_authority(&self.local),
            fresh_id: &fresh_id,
            jitter: self.jitter(),
        };
        for action in self.machine.handle(event, &context) {
            self.perform(action);
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Enter(phase) => self.enter(phase),
            Action::Exhaust => self.edge.exhaust(),
            Action::Probe { id, audited, .. } => {
                let (probe, own) = (self.edge.probe(audited), self.own.clone());
                tokio::spawn(async move {
                    let _ = own.send(MachineEvent::Probed(id, probe.await).into());
                });
            }
            Action::Recover { id, outage } => {
                // Before anything is asked: what it proves is proven since.
                let began = self.local.clock.now().steady;
                let (recovery, own) = (self.edge.recover(outage), self.own.clone());
                let task = tokio::spawn(async move {
                    let _ = own.send(MachineEvent::Recovered(id, recovery.await).into());
                });
                self.recovery = Some(task.abort_handle());
                self.recovery_began = Some(began);
            }
            Action::StopRecovery => {
                if let Some(task) = self.recovery.take() {
                    task.abort();
                }
                self.local.sequencer.pause_issuing(false, |_| {});
            }
        }
    }

    /// Publishes a state: in memory at once, then on disk, then to those who wait for the machine to decide. In this order,
    /// because whoever hears that the replica is in charge asks the view at once, which must know of the outage by then.
    /// The fence is lifted after the view says that the outage is over, because a grant of it must not be issued behind it.
    fn enter(&mut self, phase: Phase) {
        let now = self.local.clock.now();
        let was = self.published.phase.clone();
        self.published.epoch += u64::from(was.is_outage() != phase.is_outage());
        self.published.phase = phase.clone();
        if was.is_outage() && !phase.is_outage() {
            // Of a recovery that failed no proof counts, though another one ends the outage.
            self.published.proven_from = self.recovery_began.take().or(Some(now.steady));
        }
        let mut changes = vec![Change::Phase(self.published.clone())];
        if was.name() != phase.name() {
            tracing::info!(
                from = was.name(),
                to = phase.name(),
                cause = cause(&phase),
                "state"
            );
            changes.push(Change::Ledger(Box::new(entry(&phase, now.steady))));
        }
        self.local
            .sequencer
            .submit(Lane::Revocation, changes, Expects::default(), |result| {
                if let Err(error) = result {
                    tracing::error!(%error, "the machine's state could not be stored");
                }
            });
        if !phase.is_outage() {
            self.local.sequencer.pause_issuing(false, |_| {});
        }
        self.snapshot.send_modify(|snapshot| {
            if snapshot.phase.name() != phase.name() {
                snapshot.since = phase
                    .outage()
                    .filter(|_| matches!(phase, Phase::Holdover(_)))
                    .map_or(now.steady, |outage| outage.started_at);
            }
            if !phase.is_outage()
                && let Some(outage) = snapshot.phase.outage()
            {
                snapshot.last_outage = Some(outage.clone());
            }
            snapshot.phase = phase;
        });
    }

    fn fresh_outage_id(&self) -> Result<OutageId, entropy::NoEntropy> {
        let id = entropy::base62(self.local.entropy.as_ref(), 16)?;
        OutageId::parse(&id).map_err(|_| entropy::NoEntropy)
    }

    fn jitter(&self) -> f64 {
        entropy::jitter(self.local.entropy.as_ref())
    }
}

/// When every configured workload's authority was last verified completely: the oldest of them.
pub fn verified_authority(local: &Local) -> Option<WallTime> {
    let authority = local.view.authority();
    oldest_authority(&authority.settings, |name| {
        authority
            .workloads
            .get(name)
            .map(|workload| workload.verified_at)
    })
}

fn oldest_authority(
    settings: &Settings,
    verified: impl Fn(&shared::name::WorkloadName) -> Option<WallTime>,
) -> Option<WallTime> {
    settings
        .workloads
        .iter()
        .filter_map(|workload| verified(&workload.name))
        .min()
}

fn cause(phase: &Phase) -> Option<String> {
    phase.outage().map(|outage| outage.cause.to_string())
}

fn entry(phase: &Phase, at: WallTime) -> Entry {
    let mut entry = Entry::new(EntryKind::State, phase.name(), at);
    entry.outage = phase.outage().map(|outage| outage.id.clone());
    entry
}
