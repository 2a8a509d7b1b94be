//! What the workload socket asks of the replica side. [`Attached`] is the one in production.

use std::sync::Arc;

use replica::{
    entropy::unique_u64,
    learn::{
        self, Candidate, Exchange,
        key::{self, AnsweredRead, Difference, SentWrite, Written},
    },
    ledger::{Aggregate, Note},
    sequencer::{Lane, SubmitError},
    vault::{
        self, Answer, Query,
        foresee::{self, Foreseen},
        writer,
    },
    view::LiveGrant,
};
use shared::{
    api::Kind,
    change::{Change, CredentialName, Expects},
    doubt::Writer,
    grant::Grant,
    kv::Doubt,
    mount::MountKind,
    name::{Accessor, LeaseId, OutageId, TokenDigest},
    offboarding::Offboarded,
    recovery::has_outlived_its_entity,
    secret::SecretText,
    settings::Settings,
    share::{Total, amounts},
    time::{Now, WallTime},
};

use tokio::sync::oneshot;

use super::custody::{MOST_QUEUED, Unclaimed};
use crate::local::{Local, Pending};

/// The replica as the socket sees it. Nothing here waits but [`Replica::commit`].
pub trait Replica: Send + Sync {
    /// The present.
    fn now(&self) -> Now;

    /// What the configuration means for decisions.
    fn settings(&self) -> Arc<Settings>;

    /// Whether the replica answers everything, and in which outage.
    fn outage(&self) -> Option<OutageId>;

    /// Since when the primary refuses Holdover's own credential.
    fn offboarded(&self) -> Option<Offboarded>;

    /// What is mounted at `path`.
    fn mount_kind(&self, path: &str) -> Option<MountKind>;

    /// What stands for a token.
    fn digest(&self, token: &str) -> TokenDigest;

    /// The grant behind a token, revoked or not.
    fn grant(&self, digest: &TokenDigest) -> Option<Arc<LiveGrant>>;

    /// Whether the token, or one that it hangs on, was ended by an act here: the primary may not know of it yet.
    fn was_ended_here(&self, digest: &TokenDigest) -> bool;

    /// Whether an accessor is of a token that the replica issued.
    fn is_of_replica(&self, accessor: &str) -> bool;

    /// Whether it is a grant of an outage that is over, which left it unsettled.
    fn is_left_over(&self, grant: &Grant) -> bool;

    /// Whether the entity that an exchanged grant goes by is not what it was.
    fn has_outlived(&self, grant: &Grant) -> bool;

    /// Whether a token that `grant` hangs on is dead, by what is known here.
    fn hangs_on_dead(&self, grant: &Grant) -> bool;

    /// Whether a lease was revoked here, and the primary does not know of it yet.
    fn is_lease_revoked_here(&self, lease: &LeaseId) -> bool;

    /// When the recovery began that ended the last outage: proofs of tokens from before it count no more.
    fn proven_from(&self) -> Option<WallTime>;

    /// A token was given to a client of this user.
    fn given(&self, digest: &TokenDigest, uid: u32);

    /// A client of this user uses this token, which was accepted.
    fn used(&self, digest: &TokenDigest, uid: u32);

    /// A token that Holdover presents, if it holds that one.
    fn credential(&self, name: &CredentialName) -> Option<SecretText>;

    /// Decides as the local vault. Without effect.
    fn answer(&self, query: &Query<'_>) -> Answer;

    /// What [`Replica::answer`] says whatever its body is, if it does. Without effect.
    fn refuse_unread(&self, query: &Query<'_>) -> Option<Answer>;

    /// What an outage would make of it. Without effect.
    fn foresee(&self, query: &Query<'_>) -> Foreseen;

    /// What an answer of the primary tells.
    fn learn(&self, exchange: &Exchange<'_>) -> Vec<Change>;

    /// What a login at the primary tells besides: who failed or succeeded is noted, and a secret id that is worth
    /// verifying returned. Nothing for what is not a login.
    fn login(&self, exchange: &Exchange<'_>) -> Option<Candidate>;

    /// What a write that was carried out, or may have been, leaves to be done.
    fn written(&self, write: &SentWrite<'_>) -> Written;

    /// Whether who asks can have the right to write at the path of a request, by what is mirrored.
    fn writer(&self, query: &Query<'_>) -> Writer;

    /// What an answer of the mirrored namespace shows of mirrored keys that is not as it is kept.
    fn shown(&self, read: &AnsweredRead<'_>) -> Vec<Difference>;

    /// Leaves these in doubt: in memory when this returns, and durably when what it returns ends.
    fn doubt(&self, doubts: Vec<Doubt>) -> Pending<'static, ()>;

    /// Waits until `changes` are durable and published.
    fn commit(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        expects: Expects,
    ) -> Pending<'_, Result<(), SubmitError>>;

    /// Has the primary told, durably and with backoff, to revoke what nobody got. Never waits.
    fn revoke_unclaimed(&self, unclaimed: Unclaimed);

    /// Counts for the ledger what nobody may have got. Never waits.
    fn note_unclaimed(&self, note: Note);

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

    fn offboarded(&self) -> Option<Offboarded> {
        self.local.view.authority().offboarded
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

    fn was_ended_here(&self, digest: &TokenDigest) -> bool {
        self.local.view.was_ended_here(digest)
    }

    fn is_of_replica(&self, accessor: &str) -> bool {
        let accessor = Accessor::parse(accessor).ok();
        let named = accessor.and_then(|accessor| self.local.view.grant_by_accessor(&accessor));
        named.is_some_and(|live| live.grant.is_replica())
    }

    fn is_left_over(&self, grant: &Grant) -> bool {
        let authority = self.local.view.authority();
        grant.is_left_over(authority.phase.outage().map(|outage| &outage.id))
    }

    fn has_outlived(&self, grant: &Grant) -> bool {
        let is_unknown = || self.local.view.is_login_identity_lost(grant);
        has_outlived_its_entity(grant, &**self.local.view.authority()) || is_unknown()
    }

    fn hangs_on_dead(&self, grant: &Grant) -> bool {
        let now = self.now();
        let dead = self.local.view.dead_ancestor(grant, |end| end.passed(now));
        dead.is_some()
    }

    fn is_lease_revoked_here(&self, lease: &LeaseId) -> bool {
        self.local.view.is_lease_revoked_here(lease)
    }

    fn proven_from(&self) -> Option<WallTime> {
        self.local.view.authority().proven_from
    }

    fn given(&self, digest: &TokenDigest, uid: u32) {
        self.local.view.given(digest, uid);
    }

    fn used(&self, digest: &TokenDigest, uid: u32) {
        self.local.view.used(digest, uid, self.now().steady);
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

    fn refuse_unread(&self, query: &Query<'_>) -> Option<Answer> {
        let local = &self.local;
        vault::refuse_unread(&local.view, query, local.entropy.as_ref())
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

    fn written(&self, write: &SentWrite<'_>) -> Written {
        key::written(&self.local.view, write, self.now().steady)
    }

    fn writer(&self, query: &Query<'_>) -> Writer {
        writer::writer(&self.local.view, query, self.local.entropy.as_ref())
    }

    fn shown(&self, read: &AnsweredRead<'_>) -> Vec<Difference> {
        key::shown(&self.local.view, read)
    }

    fn doubt(&self, doubts: Vec<Doubt>) -> Pending<'static, ()> {
        let (done, receipt) = oneshot::channel();
        let changes = doubts.into_iter().map(Change::Doubted).collect();
        let sequencer = &self.local.sequencer;
        sequencer.submit(Lane::Revocation, changes, Expects::default(), |result| {
            if let Err(error) = result {
                tracing::warn!(%error, "what may be superseded is known until the next start alone");
            }
            // Whoever waited may have gone on.
            let _ = done.send(());
        });
        Box::pin(async move {
            let _ = receipt.await;
        })
    }

    fn commit(
        &self,
        lane: Lane,
        changes: Vec<Change>,
        expects: Expects,
    ) -> Pending<'_, Result<(), SubmitError>> {
        Box::pin(self.local.commit(lane, changes, expects))
    }

    fn revoke_unclaimed(&self, unclaimed: Unclaimed) {
        let waiting = self.local.view.unclaimed(unclaimed.uid());
        let total = Total {
            all: MOST_QUEUED as u64,
            halved: !self.settings().workloads.is_empty(),
        };
        // Whose class those are that wait is not known: so a stranger finds its half full by what a workload lost, too.
        let most = total.of_class(unclaimed.is_matched());
        let free = most.saturating_sub(waiting.all as u64);
        let room = amounts::more(waiting.of_one as u64, free);
        let room = usize::try_from(room).unwrap_or(MOST_QUEUED);
        let fresh_id = || unique_u64(self.local.entropy.as_ref()).ok();
        let (told, note) = unclaimed.settled(room, fresh_id, self.now().steady);
        self.local.commit_later(Lane::Revocation, told);
        self.note_unclaimed(note);
    }

    fn note_unclaimed(&self, note: Note) {
        self.notes.add(note, self.now().steady);
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
