//! What follows from an answer of the primary besides the client's own: what it proves, what it teaches (new tokens and
//! leases, dead tokens), and what it is compared with.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use replica::{learn::Exchange, sequencer::Lane};
use shared::{
    api::Call,
    change::{Change, Expects},
    failover::Event,
    grant::Origin,
    name::TokenDigest,
    time::Now,
};

use super::{
    ask::Ask, decide::lane, forward_token::ForwardToken, learn_queue::LearnQueue,
    recently::Recently, replica::Replica,
};
use crate::{driver::Handle, parity::Parity};

/// How long an answer is held back for what it teaches to be durable; the commit goes on without it.
const BRIEFLY: Duration = Duration::from_millis(100);

/// Grants whose last verification by a forward is remembered.
const VERIFIED: usize = 64 * 1024;

/// A grant's `verified_at` moves at most this often by forwards.
const VERIFY_EVERY: Duration = Duration::from_secs(60);

/// Looks at every answer of the primary.
pub(crate) struct Observer {
    replica: Arc<dyn Replica>,
    driver: Handle,
    learning: LearnQueue,
    parity: Parity,
    verified_lately: Recently<TokenDigest>,
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

    /// The primary answered: it is there, and a token that it accepted is worth knowing.
    pub(crate) fn answered(&self, ask: &Ask, status: StatusCode) {
        let audited = status.is_success() && ask.proves_token(self.replica.as_ref());
        if status.as_u16() < 500 {
            self.driver.send(Event::ForwardSucceeded { audited });
        }
        let Some((token, digest)) = ask.token.as_ref().filter(|_| audited) else {
            return;
        };
        let live = self.replica.grant(digest);
        if live.is_none_or(|live| live.grant.origin == Origin::Learned) {
            self.learning.ask(token, *digest, self.replica.now().boot);
        }
    }

    /// An answer that is not looked into. Where the primary accepted a token for it, the token's `verified_at` moves,
    /// once in a while.
    pub(crate) fn passed_on(&self, ask: &Ask, status: StatusCode) {
        self.verify(ask, status);
        self.compare(ask, status.as_u16(), || None);
    }

    fn verify(&self, ask: &Ask, status: StatusCode) {
        let (Ok(call), Some((_, digest))) = (&ask.call, &ask.token) else {
            return;
        };
        let now = self.replica.now();
        let proves = status.is_success() && ask.proves_token(self.replica.as_ref());
        if !proves || self.verified_lately.is_too_soon(digest, now.boot) {
            return;
        }
        let Some(change) = self.replica.proven(digest, call, now) else {
            return;
        };
        self.verified_lately.used(*digest, now.boot);
        let expects = Expects {
            live: vec![*digest],
            ..Expects::default()
        };
        let replica = self.replica.clone();
        tokio::spawn(async move {
            // A conflict says that it was revoked meanwhile: then there is nothing to verify.
            let _ = replica.commit(Lane::Mirror, vec![change], expects).await;
        });
    }

    /// Learns from a whole answer.
    ///
    /// The client has the last byte of it only after this, because it may use a new token at once, and the primary may
    /// be gone by then. It does not wait for long, because the answer is the primary's, whatever becomes of our copy.
    pub(crate) async fn learn(
        &self,
        ask: &Ask,
        token: &ForwardToken,
        status: StatusCode,
        body: &Bytes,
    ) {
        if let Some(lesson) = self.lesson(ask, token) {
            if let Some(candidate) = self.replica.login(&lesson.exchange(status, body)) {
                self.learning
                    .ask_about_login(candidate, self.replica.now().boot);
            }
            let changes = lesson.changes(status, body);
            if !changes.is_empty() {
                let committing = tokio::spawn(commit(lesson.replica, changes));
                let _ = tokio::time::timeout(BRIEFLY, committing).await;
            }
        }
        self.compare(ask, status.as_u16(), || Some(body.clone()));
    }

    /// Hands a sample of the primary's answers over, to be compared with what the replica would have said. Never waits.
    pub(crate) fn compare(&self, ask: &Ask, status: u16, answer: impl FnOnce() -> Option<Bytes>) {
        let Ok(call) = &ask.call else { return };
        if self.parity.wants(call, status) {
            let now = self.replica.now();
            self.parity.offer(ask.offer(call, status, answer(), now));
        }
    }

    /// What an answer to this request may teach, if it is an API call.
    pub(crate) fn lesson(&self, ask: &Ask, token: &ForwardToken) -> Option<Lesson> {
        let token = match token {
            ForwardToken::Standing(_) | ForwardToken::Withheld => None,
            ForwardToken::AsSent | ForwardToken::Exchanged { .. } => {
                ask.token.as_ref().map(|(_, digest)| *digest)
            }
        };
        Some(Lesson {
            replica: self.replica.clone(),
            call: ask.call.as_ref().ok()?.clone(),
            namespace: ask.namespace().map(str::to_owned),
            token,
            request: ask.whole_body().cloned().unwrap_or_default(),
            asked_at: ask.asked_at,
        })
    }
}

/// A request whose answer may teach something, kept as long as that may take.
pub(crate) struct Lesson {
    replica: Arc<dyn Replica>,
    call: Call,
    namespace: Option<String>,
    token: Option<TokenDigest>,
    request: Bytes,
    asked_at: Now,
}

impl Lesson {
    /// Learns, and returns once that is durable or known not to be.
    pub(crate) async fn apply(self, status: StatusCode, body: &[u8]) {
        let changes = self.changes(status, body);
        if !changes.is_empty() {
            commit(self.replica, changes).await;
        }
    }

    fn changes(&self, status: StatusCode, body: &[u8]) -> Vec<Change> {
        self.replica.learn(&self.exchange(status, body))
    }

    fn exchange<'a>(&'a self, status: StatusCode, body: &'a [u8]) -> Exchange<'a> {
        Exchange {
            call: &self.call,
            namespace: self.namespace.as_deref(),
            token: self.token.as_ref(),
            peer: None,
            request: &self.request,
            status: status.as_u16(),
            body,
            now: self.asked_at,
        }
    }
}

async fn commit(replica: Arc<dyn Replica>, changes: Vec<Change>) {
    let lane = lane(&changes);
    if let Err(error) = replica.commit(lane, changes, Expects::default()).await {
        tracing::warn!(%error, "what was learned could not be stored");
    }
}
