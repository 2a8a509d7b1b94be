//! What requests bring into being at the primary, until somebody has it: what nobody gets is revoked there, and what may be
//! there unknown to anybody is in the ledger.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use http::Extensions;
use replica::{
    learn::{IssuedThere, issued},
    ledger::Note,
};
use shared::{
    change::{Change, QueuedRevocation},
    provenance::Evidence,
    time::WallTime,
};
use tokio::sync::oneshot;

use super::{
    ask::{Ask, Outcome},
    replica::Replica,
    unattended::Unattended,
};
use crate::{
    link::once::{Right, Undone},
    local::Pending,
};

/// How long a request goes on that nobody waits for any more: the primary itself gives up after 90 s.
const LATE: Duration = Duration::from_secs(100);

/// Revocations of what nobody got that may wait for the primary, shared by the users who asked for it. What comes beyond ends by
/// its TTL.
pub(crate) const MOST_QUEUED: usize = 1024;

/// What an answer brought, on its way to the client. Dropped before it was handed over, it is revoked.
#[derive(Clone)]
pub(crate) struct Custody(Arc<Held>);

struct Held {
    replica: Arc<dyn Replica>,
    asker: Asker,
    issued: Vec<IssuedThere>,
    handed_over: AtomicBool,
}

/// Who asked for something, and where.
#[derive(Clone)]
pub(crate) struct Asker {
    matched: bool,
    uid: u32,
    unit: Option<String>,
    path: String,
}

/// What nobody got.
pub struct Unclaimed {
    issued: Vec<IssuedThere>,
    asker: Asker,
}

impl Custody {
    /// Takes what came with an answer into custody; none if nothing did.
    pub(crate) fn of(
        evidence: &Evidence<'_>,
        ask: &Ask,
        replica: Arc<dyn Replica>,
    ) -> Option<Self> {
        let issued = issued(evidence, ask.leasing);
        (!issued.is_empty()).then(|| {
            Self(Arc::new(Held {
                replica,
                asker: Asker::of(ask),
                issued,
                handed_over: AtomicBool::new(false),
            }))
        })
    }

    /// The client has what is in custody with this answer, or may have it.
    pub(crate) fn hand_over(answer: &mut Extensions) {
        if let Some(custody) = answer.remove::<Self>() {
            custody.0.handed_over.store(true, Ordering::Relaxed);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !*self.handed_over.get_mut() {
            self.replica.revoke_unclaimed(Unclaimed {
                issued: std::mem::take(&mut self.issued),
                asker: self.asker.clone(),
            });
        }
    }
}

impl Asker {
    pub(crate) fn of(ask: &Ask) -> Self {
        Self {
            matched: ask.party.matched,
            uid: ask.peer.uid,
            unit: ask.peer.unit.clone(),
            path: ask.path().to_owned(),
        }
    }

    /// What the ledger says of what nobody got.
    pub(crate) fn note(self, outcome: &'static str) -> Note {
        Note::Unclaimed {
            uid: Some(self.uid),
            unit: self.unit,
            path: self.path,
            outcome,
        }
    }
}

impl Unclaimed {
    /// Who asked for it.
    pub(crate) fn uid(&self) -> u32 {
        self.asker.uid
    }

    /// Whether an entry matches who did.
    pub(crate) fn is_matched(&self) -> bool {
        self.asker.matched
    }

    /// What is to be told to the primary, with an id for each from `fresh_id`, while there is `room`; and what the ledger says.
    pub(crate) fn settled(
        self,
        room: usize,
        mut fresh_id: impl FnMut() -> Option<u64>,
        now: WallTime,
    ) -> (Vec<Change>, Note) {
        let mut all_told = self.issued.len() <= room;
        let mut told = Vec::new();
        for IssuedThere { target, life } in self.issued.into_iter().take(room) {
            match target.zip(fresh_id()) {
                Some((target, id)) => told.push(Change::Queue(Box::new(QueuedRevocation {
                    ends: Some(now.plus(life)),
                    unclaimed_by: Some(self.asker.uid),
                    ..QueuedRevocation::own(id, target, now)
                }))),
                None => all_told = false,
            }
        }
        let outcome = if all_told { "revoked" } else { "unknown" };
        (told, self.asker.note(outcome))
    }
}

/// How it stands with what is sent once.
pub(crate) enum Once {
    /// Nothing was sent, or nothing came of it.
    Unsent(Right),
    /// It was sent.
    Sent(OpenEnd),
}

impl Once {
    pub(crate) fn new() -> Self {
        Self::Unsent(Right::of_new())
    }

    /// That of a copy, which is not sent.
    pub(crate) fn spent() -> Self {
        Self::Sent(OpenEnd::closed())
    }

    /// The right to send it, which leaves `end`; none if it was sent before.
    pub(crate) fn take(&mut self, end: OpenEnd) -> Option<Right> {
        match std::mem::replace(self, Self::Sent(end)) {
            Self::Unsent(right) => Some(right),
            sent @ Self::Sent(_) => {
                self.told();
                *self = sent;
                None
            }
        }
    }

    /// Nothing came of it: it may be sent again.
    pub(crate) fn undone(&mut self, undone: Undone) {
        self.told();
        *self = Self::Unsent(undone.into());
    }

    /// What came of it is known, or the ledger has what is not.
    pub(crate) fn told(&self) {
        if let Self::Sent(end) = self {
            end.is_told.store(true, Ordering::Relaxed);
        }
    }

    /// Whether it was sent, and may have been carried out.
    pub(crate) fn is_sent(&self) -> bool {
        self.unsent().is_none()
    }

    /// The right to send it, if nothing can have come of it.
    pub(crate) fn unsent(&self) -> Option<&Right> {
        match self {
            Self::Unsent(right) => Some(right),
            Self::Sent(_) => None,
        }
    }

    /// What is known of it.
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Unsent(_) => Outcome::None,
            Self::Sent(end) if end.is_told.load(Ordering::Relaxed) => Outcome::Known,
            Self::Sent(_) => Outcome::Unknown,
        }
    }
}

/// A request that was sent, and of which nobody knows what came. Dropped so, the ledger says that the primary may hold
/// something that nobody has, if the request can have brought anything.
pub(crate) struct OpenEnd {
    issues: Option<(Arc<dyn Replica>, Asker)>,
    is_told: AtomicBool,
}

impl OpenEnd {
    pub(crate) fn of(ask: &Ask, replica: &Arc<dyn Replica>) -> Self {
        let issues = ask.may_issue();
        Self {
            issues: issues.then(|| (Arc::clone(replica), Asker::of(ask))),
            is_told: AtomicBool::new(false),
        }
    }

    fn closed() -> Self {
        Self {
            issues: None,
            is_told: AtomicBool::new(true),
        }
    }
}

impl Drop for OpenEnd {
    fn drop(&mut self) {
        if let (false, Some((replica, asker))) = (*self.is_told.get_mut(), self.issues.take()) {
            replica.note_unclaimed(asker.note("unknown"));
        }
    }
}

/// Why a request may not be sent now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Unsendable {
    /// The primary has not answered as many of its share. Nothing of it was sent.
    NoPlace,
    /// It was sent before, and may have been carried out.
    Sent,
}

/// Carries out what is sent once, by the right to send it: to its end, though whoever waits for it goes. What comes of it after
/// the receiver has gone is dropped with all that is in its custody.
pub(super) fn carry_out<T: Send + 'static>(
    unattended: &Unattended,
    right: Right,
    mut work: Pending<'static, T>,
) -> oneshot::Receiver<T> {
    let (mut done, receipt) = oneshot::channel();
    unattended.spawn(async move {
        let _right = right;
        let ended = tokio::select! {
            biased;
            ended = &mut work => Some(ended),
            () = done.closed() => tokio::time::timeout(LATE, work).await.ok(),
        };
        if let Some(ended) = ended {
            drop(done.send(ended));
        }
    });
    receipt
}

#[cfg(test)]
mod tests {
    use shared::{change::RevocationTarget, name::Accessor, workload::OnRecovery};

    use super::*;
    use crate::{samples::bench::Bench, serve::replica::Attached};

    fn unclaimed(targets: [Option<&str>; 3]) -> Unclaimed {
        let token = |name: &str| RevocationTarget::Token(Accessor::parse(name).unwrap());
        Unclaimed {
            issued: targets
                .map(|target| IssuedThere {
                    target: target.map(token),
                    life: Duration::from_secs(60),
                })
                .into(),
            asker: Asker {
                matched: true,
                uid: 7,
                unit: None,
                path: "auth/a/login".to_owned(),
            },
        }
    }

    /// How many revocations are queued, and what the ledger says.
    fn settled(targets: [Option<&str>; 3], room: usize) -> (usize, &'static str) {
        let mut ids = 1..;
        let now = WallTime::from_secs(1000);
        let (told, note) = unclaimed(targets).settled(room, || ids.next(), now);
        for change in &told {
            let Change::Queue(queued) = change else {
                panic!("not queued");
            };
            assert_eq!(queued.ends, Some(WallTime::from_secs(1060)));
            assert_eq!((queued.requested_by, queued.unclaimed_by), (None, Some(7)));
        }
        match note {
            Note::Unclaimed { outcome, .. } => (told.len(), outcome),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_nobody_got_is_revoked_and_what_cannot_be_is_told() {
        assert_eq!(
            settled([Some("a"), Some("b"), Some("c")], 9),
            (3, "revoked")
        );
        assert_eq!(settled([Some("a"), None, Some("c")], 9), (2, "unknown"));
    }

    #[tokio::test]
    async fn what_one_loses_takes_no_others_room_in_the_queue() {
        let bench = Bench::new(OnRecovery::Exchange);
        let attached = Attached::new(bench.local.clone(), Arc::default());
        let half = u64::try_from(MOST_QUEUED / 2).unwrap();
        let waiting = |ids: std::ops::Range<u64>, unclaimed_by| {
            let target = RevocationTarget::Token(Accessor::parse("a").unwrap());
            let queued = QueuedRevocation::own(0, target, WallTime::from_secs(1000));
            let all = ids.map(move |id| QueuedRevocation {
                id,
                unclaimed_by,
                ..queued.clone()
            });
            all.map(|queued| Change::Queue(Box::new(queued))).collect()
        };
        bench.store(waiting(0..half, Some(7))).await;
        // What others wait for has nothing to do with it.
        bench.store(waiting(half..4 * half, None)).await;
        let of = |uid| bench.local.view.unclaimed(uid).of_one;
        attached.revoke_unclaimed(unclaimed([Some("b"); 3]));
        let mut others = unclaimed([Some("b"); 3]);
        others.asker.uid = 8;
        attached.revoke_unclaimed(others);
        // In the order in which they were given up.
        bench.store(waiting(4 * half..4 * half + 1, None)).await;
        assert_eq!((of(7), of(8)), (MOST_QUEUED / 2, 3));
    }

    #[test]
    fn the_queue_has_a_bound_and_the_ledger_says_what_is_beyond_it() {
        assert_eq!(
            settled([Some("a"), Some("b"), Some("c")], 2),
            (2, "unknown")
        );
        assert_eq!(
            settled([Some("a"), Some("b"), Some("c")], 0),
            (0, "unknown")
        );
    }
}
