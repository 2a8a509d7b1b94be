//! What answers of the primary teach: new tokens and leases, dead tokens, and that a token is still good.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use replica::{
    learn::{Candidate, Exchange},
    sequencer::Lane,
};
use shared::{
    api::{Call, Kind},
    change::{Change, Expects},
    grant::Origin,
    name::TokenDigest,
    time::Now,
};

use super::{Server, ask::Ask, credential::Credential, decide::lane, replica::Replica};
use crate::driver::Event;

/// How long an answer is held back for what it teaches to be durable; the commit goes on without it.
const BRIEFLY: Duration = Duration::from_millis(100);

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
    /// The lesson of a request, if it is an API call.
    pub(crate) fn of(
        ask: &Ask,
        credential: &Credential,
        replica: Arc<dyn Replica>,
    ) -> Option<Self> {
        let token = match credential {
            Credential::Standing(_) | Credential::Withheld => None,
            Credential::AsSent | Credential::Exchanged { .. } => {
                ask.token.as_ref().map(|(_, digest)| *digest)
            }
        };
        Some(Self {
            replica,
            call: ask.call.as_ref().ok()?.clone(),
            namespace: ask.namespace().map(str::to_owned),
            token,
            request: ask.whole_body().cloned().unwrap_or_default(),
            asked_at: ask.asked_at,
        })
    }

    /// Learns, and returns once that is durable or known not to be.
    pub(crate) async fn apply(self, status: StatusCode, body: &[u8]) {
        let changes = self.changes(status, body);
        commit(&self.replica, changes).await;
    }

    /// The same, but without keeping a client for long.
    pub(crate) async fn apply_briefly(self, status: StatusCode, body: &[u8]) {
        let changes = self.changes(status, body);
        if changes.is_empty() {
            return;
        }
        let committing = tokio::spawn(async move { commit(&self.replica, changes).await });
        // Late is late: the client is given what the primary gave it, and the commit goes on.
        let _ = tokio::time::timeout(BRIEFLY, committing).await;
    }

    /// What a login tells besides: who failed or succeeded is noted, and a secret id that is worth verifying returned.
    pub(crate) fn login(&self, status: StatusCode, body: &[u8]) -> Option<Candidate> {
        if self.call.kind != Kind::Login {
            return None;
        }
        let exchange = self.exchange(status, body);
        if let Some(attempt) = self.replica.attempt(&exchange) {
            self.replica.note_login(&attempt);
        }
        self.replica.candidate(&exchange)
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

async fn commit(replica: &Arc<dyn Replica>, changes: Vec<Change>) {
    if changes.is_empty() {
        return;
    }
    let lane = lane(&changes);
    if let Err(error) = replica.commit(lane, changes, Expects::default()).await {
        tracing::warn!(%error, "what was learned could not be stored");
    }
}

impl Server {
    /// The primary answered: it is there, and a token that it accepted is worth knowing.
    pub(crate) fn primary_answered(&self, ask: &Ask, status: StatusCode) {
        let audited = status.is_success() && ask.proves_token(self.replica.as_ref());
        if status.as_u16() < 500 {
            self.driver.send(Event::ForwardSucceeded { audited });
        }
        let Some((token, digest)) = ask.token.as_ref().filter(|_| audited) else {
            return;
        };
        let known = self
            .replica
            .grant(digest)
            .is_some_and(|live| live.grant.origin != Origin::Learned);
        if !known {
            self.learning.ask(token, *digest, self.replica.now().boot);
        }
    }

    /// The primary accepted a token for an answer that is not looked into: its `verified_at` moves, once a while.
    pub(crate) fn accepted(&self, ask: &Ask, status: StatusCode) {
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
}
