//! What the workload socket asks of the replica side. [`Attached`] is the one in production.

use std::sync::Arc;

use replica::{
    learn::{self, Candidate, Exchange},
    ledger::Aggregate,
    sequencer::{Lane, SubmitError},
    vault::{
        Answer, Query,
        foresee::{self, Foreseen},
    },
    view::LiveGrant,
};
use shared::{
    api::Kind,
    change::{Change, CredentialName, Expects},
    mount::MountKind,
    name::{OutageId, TokenDigest},
    secret::SecretText,
    settings::Settings,
    time::Now,
};

use crate::local::{Local, Pending};

/// The replica as the socket sees it. Nothing here waits but [`Replica::commit`].
pub trait Replica: Send + Sync {
    /// The present.
    fn now(&self) -> Now;

    /// What the configuration means for decisions.
    fn settings(&self) -> Arc<Settings>;

    /// Whether the replica answers everything, and in which outage.
    fn outage(&self) -> Option<OutageId>;

    /// What is mounted at `path`.
    fn mount_kind(&self, path: &str) -> Option<MountKind>;

    /// What stands for a token.
    fn digest(&self, token: &str) -> TokenDigest;

    /// The grant behind a token, revoked or not.
    fn grant(&self, digest: &TokenDigest) -> Option<Arc<LiveGrant>>;

    /// A token that Holdover presents, if it holds that one.
    fn credential(&self, name: &CredentialName) -> Option<SecretText>;

    /// Decides as the local vault. Without effect.
    fn answer(&self, query: &Query<'_>) -> Answer;

    /// What an outage would make of it. Without effect.
    fn foresee(&self, query: &Query<'_>) -> Foreseen;

    /// What an answer of the primary tells.
    fn learn(&self, exchange: &Exchange<'_>) -> Vec<Change>;

    /// What a login at the primary tells besides: who failed or succeeded is noted, and a secret id that is worth
    /// verifying returned. Nothing for what is not a login.
    fn login(&self, exchange: &Exchange<'_>) -> Option<Candidate>;

    /// Waits until `changes` are durable and published.
    fn commit(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        expects: Expects,
    ) -> Pending<'_, Result<(), SubmitError>>;

    /// Counts an answer for the ledger, and notes what came of a login.
    fn note(&self, answer: &mut Answer);
}

/// The replica in production: its view, its writer, the clock, and what the ledger counts.
pub struct Attached {
    local: Local,
    notes: Arc<Aggregate>,
}

impl Attached {
    /// The socket's side of `local`.
    pub fn new(local: Local, notes: Arc<Aggregate>) -> Self {
        Self { local, notes }
    }
}

impl Replica for Attached {
    fn now(&self) -> Now {
        self.local.clock.now()
    }

    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.local.view.authority().settings)
    }

    fn outage(&self) -> Option<OutageId> {
        let authority = self.local.view.authority();
        authority.phase.outage().map(|outage| outage.id.clone())
    }

    fn mount_kind(&self, path: &str) -> Option<MountKind> {
        let authority = self.local.view.authority();
        let mount = authority.cluster.as_ref()?.mounted(path)?;
        Some(mount.kind.clone())
    }

    fn digest(&self, token: &str) -> TokenDigest {
        self.local.view.keys().token_digest(token)
    }

    fn grant(&self, digest: &TokenDigest) -> Option<Arc<LiveGrant>> {
        self.local.view.grant(digest)
    }

    fn credential(&self, name: &CredentialName) -> Option<SecretText> {
        let held = self.local.view.credential(name)?;
        let opened = held.body.open(self.local.view.keys());
        let bytes = opened
            .inspect_err(
                |error| tracing::error!(%error, ?name, "a stored credential does not open"),
            )
            .ok()?;
        // Tokens are stored as the text that they are.
        let text = std::str::from_utf8(bytes.expose()).ok()?;
        Some(SecretText::filled(|token| token.push_str(text)))
    }

    fn answer(&self, query: &Query<'_>) -> Answer {
        self.local.answer(query)
    }

    fn foresee(&self, query: &Query<'_>) -> Foreseen {
        foresee::foresee(&self.local.view, query, self.local.entropy.as_ref())
    }

    fn learn(&self, exchange: &Exchange<'_>) -> Vec<Change> {
        learn::learn(&self.local.view, exchange)
    }

    fn login(&self, exchange: &Exchange<'_>) -> Option<Candidate> {
        let view = &self.local.view;
        if exchange.evidence.asked.call.kind != Kind::Login {
            return None;
        }
        if let Some(attempt) = learn::attempt(view, exchange) {
            view.note_login(&attempt, self.now().boot);
        }
        learn::candidate(view, exchange)
    }

    fn commit(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        expects: Expects,
    ) -> Pending<'_, Result<(), SubmitError>> {
        Box::pin(self.local.commit(lane, changes, expects))
    }

    fn note(&self, answer: &mut Answer) {
        let now = self.now();
        if let Some(note) = answer.note.take() {
            self.notes.add(note, now.steady);
        }
        if let Some(attempt) = &answer.attempt {
            self.local.view.note_login(attempt, now.boot);
        }
    }
}
