//! Continuous parity: a sample of what the primary has answered is judged by the replica too, and the two decisions are
//! compared.
//!
//! Off the way of every request: the socket hands an [`Offer`] over and goes on, a task of its own judges it
//! ([`compare`]), without effect and without sending anything that the client did not. What disagrees is judged again
//! once everything that it was decided from was verified after the primary's answer, and counts only if it stands.
//! Where the replica would have granted more, what is to blame is quarantined.

pub mod compare;
pub mod counts;
pub mod lift;

mod disputes;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;
use replica::{
    parity::Disagreement,
    vault::{Presented, Query},
};
use shared::{
    acl::Operation,
    api::{Call, Kind, RequestNamespace},
    provenance::Comparable,
    secret::SecretText,
    time::{Now, WallTime},
    workload::Peer,
};
use tokio::sync::mpsc;

use counts::{Counts, Dropped};
use lift::Lifts;

/// Offers that wait to be judged.
const WAITING: usize = 1024;

/// Bytes of requests and answers that wait with them.
const WAITING_BYTES: usize = 16 << 20;

/// The share of 1, in the unit of [`Sample`].
const WHOLE: u64 = 1 << 32;

/// A request that the primary has answered, and its answer. Owns all that judging needs.
pub struct Offer {
    /// What was asked.
    pub call: Call,
    /// The token that it brought. What was asked with a standing one is not compared: the caller did not send it.
    pub token: Option<SecretText>,
    /// The namespace that it is in.
    pub namespace: RequestNamespace,
    /// The first header that asks for what is not modelled.
    pub unmodelled: Option<String>,
    /// The body of the request.
    pub body: Bytes,
    /// Who asked.
    pub peer: Peer,
    /// What the primary decided.
    pub decision: Comparable,
    /// The primary's body, where that is to agree too.
    pub answer: Option<Bytes>,
    /// When the request came.
    pub asked_at: Now,
    /// When the answer was there.
    pub answered_at: Now,
}

/// The socket's side, and what status and metrics ask. Cheap to clone.
#[derive(Clone)]
pub struct Parity(Arc<ParityState>);

struct ParityState {
    sample: Sample,
    offers: mpsc::Sender<Offer>,
    bytes: AtomicUsize,
    counts: Counts,
    pending: AtomicU64,
    /// Compared every time: what a quarantine, or a doubt, is about.
    watched: ArcSwap<HashSet<Watched>>,
    last: Mutex<Option<Mismatch>>,
    lifts: Lifts,
}

/// A kind of request: the operation's name and the path.
type Watched = (String, String);

fn watched(call: &Call) -> Watched {
    (
        verb(call.operation).to_owned(),
        call.path.as_str().to_owned(),
    )
}

/// A disagreement that stood. Without values.
#[derive(Clone, PartialEq, Debug)]
pub struct Mismatch {
    /// When it was counted.
    pub at: WallTime,
    /// How they disagree.
    pub kind: Disagreement,
    /// As `read`.
    pub operation: &'static str,
    /// The path.
    pub path: String,
    /// By what: names of fields, or the cause.
    pub fields: Vec<&'static str>,
}

/// How comparing stands.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ParityReport {
    /// Decisions compared, to an end.
    pub checked: u64,
    /// Those that disagree, by kind, in the order of [`Disagreement::ALL`].
    pub by_kind: [u64; 4],
    /// Requests that the replica by design does not serve.
    pub not_covered: u64,
    /// Disagreements that await a verification.
    pub pending: u64,
    /// Disagreements of which it never showed whether they stand.
    pub unsettled: u64,
    /// Requests that found no room to be judged.
    pub dropped: u64,
    /// The last one that stood.
    pub last: Option<Mismatch>,
}

impl ParityReport {
    /// All that disagree.
    pub fn mismatches(&self) -> u64 {
        self.by_kind.iter().sum()
    }
}

impl Parity {
    /// Compares `share` (0 to 1) of requests, and every issuance. The other end goes to [`compare::run`].
    pub fn new(share: f64, seed: u64) -> (Self, mpsc::Receiver<Offer>) {
        let (offers, receiver) = mpsc::channel(WAITING);
        let parity = Self(Arc::new(ParityState {
            sample: Sample::new(share, seed),
            offers,
            bytes: AtomicUsize::new(0),
            counts: Counts::default(),
            pending: AtomicU64::new(0),
            watched: ArcSwap::default(),
            last: Mutex::default(),
            lifts: Lifts::default(),
        }));
        (parity, receiver)
    }

    /// The share from now on.
    pub fn set_share(&self, share: f64) {
        self.0.sample.set(share);
    }

    /// Whether a decision on `call` is to be compared. Cheap: asked for every one.
    pub(crate) fn wants(&self, call: &Call) -> bool {
        is_decision(call) && (call.is_issuance() || self.picks(call))
    }

    fn picks(&self, call: &Call) -> bool {
        let kinds = self.0.watched.load();
        self.0.sample.draw() || (!kinds.is_empty() && kinds.contains(&watched(call)))
    }

    /// Hands an answer over. Never waits: what finds no room is counted.
    pub(crate) fn offer(&self, offer: Offer) {
        let size = offer.size();
        let held = self.0.bytes.fetch_add(size, Ordering::Relaxed);
        if held.saturating_add(size) > WAITING_BYTES || self.0.offers.try_send(offer).is_err() {
            self.release(size);
            self.0.counts.drop(Dropped::NoRoom, 1);
        }
    }

    /// What status shows.
    pub fn report(&self) -> ParityReport {
        let counts = &self.0.counts;
        ParityReport {
            checked: counts.checked(),
            by_kind: Disagreement::ALL.map(|kind| counts.mismatches_of(kind)),
            not_covered: counts.not_covered(),
            pending: self.0.pending.load(Ordering::Relaxed),
            unsettled: counts.dropped(Dropped::Unsettled),
            dropped: counts.dropped(Dropped::NoRoom),
            last: self.0.last.lock().clone(),
        }
    }

    /// The counters, to be registered.
    pub fn counts(&self) -> &Counts {
        &self.0.counts
    }

    fn release(&self, size: usize) {
        self.0.bytes.fetch_sub(size, Ordering::Relaxed);
    }
}

impl Offer {
    fn size(&self) -> usize {
        self.body.len() + self.answer.as_ref().map_or(0, Bytes::len)
    }

    /// The request as the local vault judges it, `now`.
    fn query(&self, now: Now) -> Query<'_> {
        Query {
            call: &self.call,
            presented: match &self.token {
                None => Presented::Nothing,
                Some(token) => Presented::Token(token.expose()),
            },
            namespace: &self.namespace,
            unmodelled: self.unmodelled.as_deref(),
            body: &self.body,
            peer: Some(&self.peer),
            now,
        }
    }
}

/// Whether the replica decides such a call for its caller, and can do so afterwards: what ends a token or a lease
/// cannot be judged once it has.
fn is_decision(call: &Call) -> bool {
    !matches!(
        call.kind,
        Kind::Health
            | Kind::InternalUi
            | Kind::Leader
            | Kind::LeaseRevoke
            | Kind::SealStatus
            | Kind::TokenRenew
            | Kind::TokenRevoke
            | Kind::TokenRevokeSelf
    )
}

/// As status, ledger and log name an operation.
fn verb(operation: Operation) -> &'static str {
    match operation {
        Operation::Create => "create",
        Operation::Delete => "delete",
        Operation::Header => "header",
        Operation::List => "list",
        Operation::Patch => "patch",
        Operation::Read => "read",
        Operation::Scan => "scan",
        Operation::Update => "update",
    }
}

/// Which requests are taken: a share of them, without a pattern that a client's own rhythm could fall into.
struct Sample {
    /// Of [`WHOLE`].
    share: AtomicU64,
    state: AtomicU64,
}

impl Sample {
    fn new(share: f64, seed: u64) -> Self {
        let sample = Self {
            share: AtomicU64::new(0),
            state: AtomicU64::new(seed),
        };
        sample.set(share);
        sample
    }

    fn set(&self, share: f64) {
        // Between 0 and 1 the product fits, and what is lost in the cast is less than one in four thousand million.
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss
        )]
        let share = (share.clamp(0.0, 1.0) * WHOLE as f64) as u64;
        self.share.store(share, Ordering::Relaxed);
    }

    /// splitmix64: every request has a number of its own.
    fn draw(&self) -> bool {
        let step = 0x9e37_79b9_7f4a_7c15_u64;
        let mut z = self
            .state
            .fetch_add(step, Ordering::Relaxed)
            .wrapping_add(step);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) >> 32 < self.share.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests;
