//! What follows from an answer of the primary besides the client's own: what it proves, doubts or teaches (tokens, leases,
//! what was revoked), which look-ups it makes due, and what it is compared with.
//!
//! Each use is a predicate of [`Evidence`]: nothing here looks at a status.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use replica::sequencer::{Lane, SubmitError};
use shared::{
    approle::SecretId,
    change::{Change, Expects},
    failover::Event,
    grant::Origin,
    name::TokenDigest,
    provenance::{ClusterShown, Evidence, Provenance, TokenUsed},
    token::TokenKind,
    workload::PeerId,
};

use super::{
    ask::Ask,
    decide::lane,
    learn_queue::{DueBy, LearnQueue},
    recently::Recently,
    replica::Replica,
};
use crate::{driver::Handle, parity::Parity, status::fill::Fill};

/// How long an answer is held back for what it teaches to be durable; the commit goes on without it.
const BRIEFLY: Duration = Duration::from_millis(100);

/// Grants whose last verification by an answer that was not looked into is remembered.
const VERIFIED: usize = 64 * 1024;

/// A grant's `verified_at` moves at most this often by such answers.
const VERIFY_EVERY: Duration = Duration::from_secs(60);

/// A token that is accepted, and that nothing proved for this long, is looked up: those who accept it are not current.
const UNPROVEN_FOR: Duration = Duration::from_secs(300);

/// Looks at every answer of the primary.
pub(crate) struct Observer {
    replica: Arc<dyn Replica>,
    driver: Handle,
    learning: LearnQueue,
    parity: Parity,
    verified_lately: Recently<TokenDigest>,
}

/// Why a token is not handed out to the peer that it was minted for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotBound {
    /// The binding would not survive a restart.
    #[error("what binds it to its process could not be stored: {0}")]
    Store(#[from] SubmitError),
    /// Nothing says whose it is: another process could present it in an outage.
    #[error("it is not of the configured namespace, or of a kind that is never learned")]
    Unlearned,
}

/// An answer of the primary, as far as something may be learned from it.
pub(crate) struct AnswerSeen<'a> {
    /// Where it comes from.
    pub(crate) provenance: Provenance,
    /// Its status.
    pub(crate) status: u16,
    /// Its body, if all of it is here.
    pub(crate) body: Option<&'a Bytes>,
}

impl<'a> AnswerSeen<'a> {
    /// It and the request; none for what is no API call.
    pub(crate) fn evidence(
        &self,
        ask: &'a Ask,
        used: TokenUsed,
        replica: &dyn Replica,
    ) -> Option<Evidence<'a>> {
        let asked = ask.question(used, replica)?;
        let evidence = Evidence::new(asked, self.provenance, self.status);
        Some(match self.body {
            Some(body) => evidence.whole(body),
            None => evidence,
        })
    }
}

impl Observer {
    pub(crate) fn new(
        replica: Arc<dyn Replica>,
        driver: Handle,
        learning: LearnQueue,
        parity: Parity,
    ) -> Self {
        Self {
            replica,
            driver,
            learning,
            parity,
            verified_lately: Recently::new(VERIFY_EVERY, VERIFIED),
        }
    }

    /// Takes in an answer to a client's request that went out with the token that `used` says.
    ///
    /// The client has the last byte of it only after this, because it may use a new token at once, and the primary may
    /// be gone by then. It does not wait for long, because the answer is the primary's, whatever becomes of our copy.
    pub(crate) async fn observe(&self, ask: &Ask, used: TokenUsed, answer: &AnswerSeen<'_>) {
        let Some(evidence) = answer.evidence(ask, used, self.replica.as_ref()) else {
            return;
        };
        if evidence.serves() {
            self.driver.send(Event::ForwardSucceeded { audited: false });
        }
        self.look_up(ask, &evidence);
        self.learn(ask, evidence, answer.body.is_some()).await;
        self.compare(ask, &evidence, || answer.body.cloned());
    }

    /// Takes in the answer to a request of Holdover's own in the caller's name, with what it brought for `peer`. What it
    /// teaches is durable before this ends.
    ///
    /// # Errors
    /// If that could not be stored, or a token that was brought would not be bound to `peer`.
    pub(crate) async fn observe_own(
        &self,
        ask: &Ask,
        (status, body): (u16, &[u8]),
        peer: &PeerId,
    ) -> Result<(), NotBound> {
        let Some(evidence) = own_evidence(ask, (status, body), self.replica.as_ref()) else {
            return Err(NotBound::Unlearned);
        };
        let exchange = ask.exchange(evidence, Some(peer), self.replica.now().steady);
        let changes = self.replica.learn(&exchange);
        let binds = |change: &Change| match change {
            Change::Grant(grant) => grant.peer.as_ref() == Some(peer),
            _ => false,
        };
        let is_bound = changes.iter().any(binds);
        if !changes.is_empty() {
            let committed = self
                .replica
                .commit(Lane::Grant, changes, Expects::default());
            committed.await?;
        }
        self.compare(ask, &evidence, || {
            let copy = zeroize::Zeroizing::new(body.to_vec());
            Some(Bytes::from_owner(copy))
        });
        match is_bound {
            true => Ok(()),
            false => Err(NotBound::Unlearned),
        }
    }

    /// How full what it remembers is.
    pub(crate) fn fills(&self) -> Vec<Fill> {
        let mut fills = self.learning.fills();
        let (has, most) = self.verified_lately.filled();
        fills.push(Fill::entries("tokens_proven_lately", has, most));
        fills
    }

    /// A token that was accepted is worth a look-up where it is not known whole, or where nothing proves it any more.
    fn look_up(&self, ask: &Ask, evidence: &Evidence<'_>) {
        let Some((token, digest)) = ask.token.as_ref().filter(|_| evidence.accepts_token()) else {
            return;
        };
        self.replica.used(digest, ask.peer.uid);
        let now = self.replica.now();
        let proves = evidence.proves_token().is_some();
        let is_worth_it = self.replica.grant(digest).is_none_or(|live| {
            let unproven = now.steady.since(live.grant.verified_at) >= UNPROVEN_FOR
                || self.is_unproven(digest);
            match live.grant.origin {
                Origin::Learned => true,
                Origin::Primary => unproven && !proves,
                Origin::LimitedUse | Origin::Replica(_) => false,
            }
        });
        if is_worth_it {
            self.learning
                .ask(token, *digest, self.due_by(ask), now.boot);
        }
    }

    async fn learn(&self, ask: &Ask, evidence: Evidence<'_>, is_whole: bool) {
        let exchange = ask.exchange(evidence, None, self.replica.now().steady);
        if let Some(candidate) = self.replica.login(&exchange) {
            let now = self.replica.now().boot;
            self.learning
                .ask_about_login(candidate, self.due_by(ask), now);
        }
        // What is not looked into comes fast, and can do no more than prove its token.
        let now = self.replica.now().boot;
        if !is_whole
            && exchange.token.is_none_or(|token| {
                self.verified_lately.is_too_soon(token, now) && !self.is_unproven(token)
            })
        {
            return;
        }
        let changes = self.replica.learn(&exchange);
        if changes.is_empty() {
            return;
        }
        self.check_doubted(ask, &changes);
        if let (false, Some(token)) = (is_whole, exchange.token) {
            self.verified_lately.used(*token, ask.peer.uid, now);
        }
        let committing = tokio::spawn(commit(self.replica.clone(), changes, ask.peer.uid));
        if is_whole {
            let _ = tokio::time::timeout(BRIEFLY, committing).await;
        }
    }

    fn due_by<'a>(&self, ask: &'a Ask) -> DueBy<'a> {
        DueBy {
            party: &ask.party,
            halved: !self.replica.settings().workloads.is_empty(),
        }
    }

    /// What is in doubt is looked up: only that tells whether it is dead.
    fn check_doubted(&self, ask: &Ask, changes: &[Change]) {
        let (now, by) = (self.replica.now().boot, self.due_by(ask));
        for change in changes {
            match change {
                Change::TokenDoubted(digest, _) => match &ask.token {
                    // It has no accessor to be asked by.
                    Some((token, of)) if of == digest && self.is_batch(digest) => {
                        self.learning.ask(token, *digest, by, now);
                    }
                    _ => self.learning.ask_about_doubted(*digest, by, now),
                },
                Change::SecretId(known) if SecretId::is_doubted(known) => {
                    self.learning.ask_about_doubted_login(known.digest, by, now);
                }
                _ => {}
            }
        }
    }

    /// Whether an outage would not decide by the token, because nothing proved it since the last one.
    fn is_unproven(&self, digest: &TokenDigest) -> bool {
        let live = self.replica.grant(digest);
        live.is_some_and(|live| self.replica.proven_from() > Some(live.grant.verified_at))
    }

    fn is_batch(&self, digest: &TokenDigest) -> bool {
        let live = self.replica.grant(digest);
        live.is_some_and(|live| live.grant.facts.kind == TokenKind::Batch)
    }

    /// Hands a sample of the primary's decisions over, to be compared with what the replica would have said. Never waits.
    fn compare(&self, ask: &Ask, evidence: &Evidence<'_>, body: impl FnOnce() -> Option<Bytes>) {
        let (Ok(call), Some(decision)) = (&ask.call, evidence.comparable()) else {
            return;
        };
        if self.parity.wants(call) {
            let now = self.replica.now();
            let offer = ask.offer(call, decision, body(), now);
            self.parity.offer(offer);
        }
    }
}

/// The answer to a request of Holdover's own in the caller's name, which is asked as current; none for what is no API call.
pub(crate) fn own_evidence<'a>(
    ask: &'a Ask,
    (status, body): (u16, &'a [u8]),
    replica: &dyn Replica,
) -> Option<Evidence<'a>> {
    let provenance = Provenance {
        cluster: ClusterShown::Pinned,
        as_of: Some(ask.asked_at.steady),
    };
    let asked = ask.question(TokenUsed::None, replica)?;
    Some(Evidence::new(asked, provenance, status).whole(body))
}

/// Stores what an answer to a client of this user taught.
async fn commit(replica: Arc<dyn Replica>, changes: Vec<Change>, uid: u32) {
    let lane = lane(&changes);
    let given = changes.iter().filter_map(|change| match change {
        Change::Grant(grant) => Some(grant.digest),
        _ => None,
    });
    let given: Vec<_> = given.collect();
    if let Err(error) = replica.commit(lane, changes, Expects::default()).await {
        tracing::warn!(%error, "what was learned could not be stored");
    }
    for digest in &given {
        replica.given(digest, uid);
    }
}
