//! Requests while the primary is authoritative: sent on, and answered by the replica where that may stand in.

use std::time::Duration;

use http::{Method, Response, StatusCode, response::Parts};
use hyper::body::Body as _;
use shared::{failover::Event, provenance::Provenance};

use super::{
    Handled, Server,
    ask::{Ask, Class},
    counting::{self, Leased},
    custody::{Custody, Unsendable},
    decide::LoginFailed,
    forward_token::{ForwardToken, Route},
    headers,
    limits::Exceeded,
    observer::AnswerSeen,
    respond,
};
use crate::{
    clock::Stopwatch,
    driver::Side,
    link::{
        Unavailable,
        body::{Arriving, BodyError, RelayBody},
        error::is_unavailable_status,
        forward::{ForwardError, Outgoing},
        once::Undone,
        room::BodyRoom,
    },
    local::Pending,
};

/// The largest answer that is buffered whole. What is larger streams.
const WHOLE_ANSWER: usize = 1024 * 1024;

/// A refusal of a streamed request is read whole: it may tell that a token is dead.
const WHOLE_REFUSAL: usize = 8 * 1024;

/// A streamed answer of at most this many bytes is looked at for a lease: one with a lease is short.
const SHORT_ANSWER: u64 = 64 * 1024;

/// How long a call that may be made only once waits for the primary; the primary's own limit is 90 s.
const PATIENCE: Duration = Duration::from_secs(120);

/// How long a late answer is waited for when only what it teaches would matter.
const LATE: Duration = Duration::from_secs(30);

/// What comes of sending a request.
pub(super) type Came = Result<PrimaryAnswer, ForwardError>;

/// A request on its way.
pub(super) type Forwarding = Pending<'static, Came>;

/// An answer of the primary.
pub(crate) struct PrimaryAnswer {
    /// Status and headers.
    pub(super) parts: Parts,
    /// The body: whole where the request is buffered and it is not too large.
    pub(super) body: RelayBody,
}

impl PrimaryAnswer {
    fn says_unavailable(&self) -> bool {
        is_unavailable_status(self.parts.status.as_u16())
    }

    /// That it says that nothing was carried out, if it does.
    pub(super) fn undone(&self) -> Option<Undone> {
        Undone::said(self.parts.status.as_u16(), self.body.whole()?)
    }

    /// It, as it is.
    pub(super) fn into_response(self) -> Response<RelayBody> {
        respond::of_primary(self.parts, self.body)
    }

    /// It, as far as something may be learned from it.
    pub(super) fn answered(&self) -> AnswerSeen<'_> {
        let provenance = self.parts.extensions.get().copied();
        AnswerSeen {
            provenance: provenance.unwrap_or(Provenance::UNSHOWN),
            status: self.parts.status.as_u16(),
            body: self.body.whole(),
        }
    }
}

impl Server {
    /// Has the primary answer, or the replica in its place where the class of the request allows.
    pub(crate) async fn follow(&self, ask: &mut Ask) -> Handled {
        let token = match Route::of(ask, self.replica.as_ref()) {
            Route::Forward(token) => token,
            Route::Local => return self.decide(ask).await,
            Route::Refused(answer) => return Ok(answer),
            Route::Unsettled(digest) => match self.settled(ask, digest).await {
                Ok(token) => token,
                Err(handled) => return handled,
            },
        };
        for name in headers::dropped(&ask.headers, &self.rules.load().forward_headers) {
            self.stats.dropped.count(name, ask.peer.uid);
        }
        match ask.class() {
            // A body that is too large to be kept cannot be answered for, nor sent twice.
            _ if ask.whole_body().is_none() => self.stream(ask, token).await,
            Class::Read => self.read(ask, token).await,
            Class::Issue => self.issue(ask, token).await,
            Class::Once => self.once(ask, token).await,
            Class::Stream => self.stream(ask, token).await,
        }
    }

    /// A read or look-up: the replica's answer if the primary's is not here in time, whole.
    async fn read(&self, ask: &mut Ask, token: ForwardToken) -> Handled {
        let deadline = self.rules.load().read_deadline;
        let watch = Stopwatch::start();
        let mut forwarding = match self.sending(ask, &token) {
            Ok(forwarding) => forwarding,
            Err(Unsendable::Sent) => return self.decide(ask).await,
            Err(Unsendable::NoPlace) => return self.read_here(ask).await,
        };
        let Ok(came) = tokio::time::timeout(deadline, &mut forwarding).await else {
            self.forward_failed();
            return self.late(ask, token, forwarding).await;
        };
        note_undone(ask, &came);
        match came {
            Err(error) => {
                tracing::debug!(%error, "a read falls back");
                self.forward_failed();
                self.decide(ask).await
            }
            Ok(reply) => {
                let left = deadline.saturating_sub(watch.elapsed());
                if self.cannot_serve(&reply, left).await {
                    return self.decide(ask).await;
                }
                Ok(self.finish(ask, &token, reply).await)
            }
        }
    }

    /// There is no place for it among the forwards: the replica's answer, if it has one.
    async fn read_here(&self, ask: &mut Ask) -> Handled {
        let answer = self.decide(ask).await?;
        Ok(match answer.status() {
            StatusCode::SERVICE_UNAVAILABLE => respond::exceeded(Exceeded::Unanswered),
            _ => answer,
        })
    }

    /// The primary is late. The replica is asked before the primary is given up, because only an answer that it has is a
    /// reason not to wait. The forward goes on all the same, because an answer that comes later still counts.
    async fn late(
        &self,
        ask: &mut Ask,
        token: ForwardToken,
        mut forwarding: Forwarding,
    ) -> Handled {
        let answer = self.decide(ask).await?;
        if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
            self.watch_late(ask, &token, forwarding);
            return Ok(answer);
        }
        tokio::select! {
            came = &mut forwarding => {
                note_undone(ask, &came);
                match came {
                    Ok(reply) if !reply.says_unavailable() => {
                        Ok(self.finish(ask, &token, reply).await)
                    }
                    _ => Ok(answer),
                }
            },
            () = self.driver.until(|side| side == Some(Side::Replica)) => {
                self.decide(ask).await
            }
            () = tokio::time::sleep(PATIENCE) => Ok(answer),
        }
    }

    /// Waits for an answer that nobody waits for any more: what it teaches it teaches all the same, but what it brings is
    /// nobody's.
    fn watch_late(&self, ask: &Ask, token: &ForwardToken, forwarding: Forwarding) {
        let (observer, ask, used) = (self.observer.clone(), ask.again(), token.used(ask));
        let keys = self.keys.clone();
        self.unattended.spawn(async move {
            if let Ok(Ok(reply)) = tokio::time::timeout(LATE, forwarding).await
                && reply.parts.extensions.get::<Custody>().is_none()
            {
                keys.read(&ask, used, &reply.answered()).await;
                observer.observe(&ask, used, &reply.answered()).await;
            }
        });
    }

    /// A call that is made at most once: by the replica if the primary saw nothing of it.
    async fn once(&self, ask: &mut Ask, token: ForwardToken) -> Handled {
        let came = match self.sending(ask, &token) {
            Ok(sending) => self.patiently(self.doubting(sending)).await,
            Err(Unsendable::Sent) => Err(ForwardError::Unknown(Unavailable::Timeout)),
            Err(Unsendable::NoPlace) => return Ok(respond::exceeded(Exceeded::Unanswered)),
        };
        note_undone(ask, &came);
        match came {
            Ok(answer) => Ok(self.finish(ask, &token, answer).await),
            Err(error) if error.nothing_sent() => self.decide(ask).await,
            // Of a read that brought a lease in vain there is nothing to be undone but that lease: what the replica has is as good.
            Err(_) if ask.is_read() => self.decide(ask).await,
            Err(_) => Ok(respond::unknown()),
        }
    }

    /// Everything else, both ways as it comes.
    async fn stream(&self, ask: &mut Ask, token: ForwardToken) -> Handled {
        let sending = match self.streaming(ask, &token) {
            Ok(sending) => sending,
            Err(Unsendable::Sent) => return Ok(respond::unknown()),
            Err(Unsendable::NoPlace) => return Ok(respond::exceeded(Exceeded::Unanswered)),
        };
        let came = self.patiently(sending).await;
        note_undone(ask, &came);
        let failed = match came {
            Ok(answer) => return Ok(self.finish(ask, &token, answer).await),
            Err(failed) => failed,
        };
        let Some(right) = ask.once.unsent() else {
            return Ok(respond::unknown());
        };
        if self.replica.outage().is_some() && ask.whole_body().is_some() {
            return self.decide(ask).await;
        }
        let why = format!(": {}", failed.unavailable());
        Ok(respond::not_applied(right, &why))
    }

    /// Waits for the primary until the replica takes over.
    async fn patiently(&self, forwarding: impl Future<Output = Came>) -> Came {
        let timeout = Err(ForwardError::Unknown(Unavailable::Timeout));
        let came = self.while_primary(forwarding).await.unwrap_or(timeout);
        if came.as_ref().map_or(true, PrimaryAnswer::says_unavailable) {
            self.forward_failed();
        }
        came
    }

    /// What comes of `work`. If it takes longer than `read_deadline`, the machine is to look at the primary.
    pub(super) async fn doubting<T>(&self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        let deadline = self.rules.load().read_deadline;
        match tokio::time::timeout(deadline, &mut work).await {
            Ok(done) => done,
            Err(_) => {
                self.forward_failed();
                work.await
            }
        }
    }

    /// What comes of `work`, unless the replica takes over or [`PATIENCE`] ends first.
    pub(super) async fn while_primary<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.driver.until(|side| side == Some(Side::Replica)) => None,
            () = tokio::time::sleep(PATIENCE) => None,
        }
    }

    /// Whether an answer says that the primary cannot serve. 500 says so only if the machine, which is told, comes
    /// to doubt the primary too.
    pub(super) async fn cannot_serve(&self, reply: &PrimaryAnswer, within: Duration) -> bool {
        let is_unavailable = reply.says_unavailable();
        if !is_unavailable && reply.parts.status != StatusCode::INTERNAL_SERVER_ERROR {
            return false;
        }
        self.forward_failed();
        is_unavailable || self.comes_into_doubt(within).await
    }

    /// Whether the machine comes to doubt the primary.
    pub(super) async fn comes_into_doubt(&self, within: Duration) -> bool {
        let doubted = self.driver.until(|side| side != Some(Side::Primary));
        tokio::time::timeout(within, doubted).await.is_ok()
    }

    /// Learns from an answer and passes it on.
    pub(super) async fn finish(
        &self,
        ask: &Ask,
        token: &ForwardToken,
        reply: PrimaryAnswer,
    ) -> Response<RelayBody> {
        let used = token.used(ask);
        self.keys.read(ask, used, &reply.answered()).await;
        self.observer.observe(ask, used, &reply.answered()).await;
        let seen = reply.answered();
        let evidence = seen.evidence(ask, used, self.replica.as_ref());
        let failed = evidence.is_some_and(|evidence| evidence.fails_login());
        // What a balancer says in the primary's place tells nothing of what was carried out.
        let tells = !reply.says_unavailable();
        let mut answer = self.passed_on(ask, token, reply);
        if failed {
            answer.extensions_mut().insert(LoginFailed);
        }
        // Nothing is waited for any more, so that what is told here reaches the client.
        if tells {
            ask.once.told();
        }
        answer
    }

    /// The primary's answer without what the client must not see.
    fn passed_on(
        &self,
        ask: &Ask,
        token: &ForwardToken,
        reply: PrimaryAnswer,
    ) -> Response<RelayBody> {
        let PrimaryAnswer { parts, body } = reply;
        let Some(whole) = body.whole() else {
            if token.is_hidden() && ask.shows_its_token() {
                return respond::error(
                    StatusCode::BAD_GATEWAY,
                    "the primary's answer is too large to be looked through",
                );
            }
            return respond::of_primary(parts, body);
        };
        match token.hide(whole) {
            Some(shown) => respond::of_primary_rewritten(parts, shown),
            None => respond::of_primary(parts, body),
        }
    }

    /// The driver is to know that the primary failed a request.
    pub(super) fn forward_failed(&self) {
        self.driver.send(Event::ForwardFailed);
    }
}

/// An answer as far as it is kept whole.
pub(super) async fn buffered(
    answer: Response<RelayBody>,
    may_lease: bool,
    class: Class,
    is_hidden: bool,
    room: BodyRoom,
) -> Result<PrimaryAnswer, ForwardError> {
    let (mut parts, body) = answer.into_parts();
    let read = match body.into_unread() {
        Ok(incoming) => read_by_class(&parts, incoming, may_lease, class, is_hidden, room).await,
        Err(read) => Ok(read),
    };
    let broken = |error: BodyError| Unavailable::Connect(error.to_string());
    let body = read.map_err(|error| ForwardError::Unknown(broken(error)))?;
    if may_lease && counting::comes_with_a_lease(body.head()) {
        parts.extensions.insert(Leased);
    }
    Ok(PrimaryAnswer { parts, body })
}

async fn read_by_class(
    parts: &Parts,
    incoming: Arriving,
    may_lease: bool,
    class: Class,
    is_hidden: bool,
    room: BodyRoom,
) -> Result<RelayBody, BodyError> {
    let is_short = incoming
        .size_hint()
        .exact()
        .is_some_and(|size| size <= SHORT_ANSWER);
    match class {
        // Behind a namespace in the path a call may be one that shows its token.
        Class::Stream if is_hidden => RelayBody::read_ahead(incoming, WHOLE_ANSWER).await,
        Class::Stream if parts.status == StatusCode::OK && may_lease && is_short => {
            RelayBody::begun(incoming).await
        }
        Class::Stream if parts.status != StatusCode::FORBIDDEN => Ok(RelayBody::streamed(incoming)),
        Class::Stream => RelayBody::read_ahead(incoming, WHOLE_REFUSAL).await,
        Class::Read => RelayBody::read_as_room(incoming, WHOLE_ANSWER, room).await,
        Class::Issue | Class::Once => RelayBody::read_ahead(incoming, WHOLE_ANSWER).await,
    }
}

/// Whether an answer may come with a lease that coverage is to know of: reads of secrets, not what the system streams.
pub(super) fn may_lease(outgoing: &Outgoing) -> bool {
    outgoing.method == Method::GET && !outgoing.target.path().starts_with("/v1/sys/")
}

/// A request that is sent once may be sent again, where nothing came of it.
fn note_undone(ask: &mut Ask, came: &Came) {
    let undone = match came {
        Ok(reply) => reply.undone(),
        Err(error) => error.undone(),
    };
    if let Some(undone) = undone {
        ask.once.undone(undone);
    }
}
