//! Requests while the primary is authoritative: sent on, and answered by the replica where that may stand in.

use std::time::Duration;

use http::{Method, Response, StatusCode, response::Parts};
use hyper::body::Body as _;
use shared::{api::Kind, failover::Event, provenance::Provenance};

use super::{
    Handled, Server,
    ask::{Ask, Class},
    counting::{self, Leased},
    decide::{LoginFailed, Outcome},
    forward_token::{ForwardToken, Route},
    headers,
    observer::AnswerSeen,
    respond,
};
use crate::{
    clock::Stopwatch,
    driver::Side,
    link::{
        Link, Unavailable,
        body::{Arriving, BodyError, Buffers, RelayBody},
        error::is_unavailable_status,
        forward::{ForwardError, Outgoing},
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

/// Between attempts at issuing while the machine has not decided.
const RETRY: Duration = Duration::from_millis(100);

type Forwarding = Pending<'static, Result<PrimaryAnswer, ForwardError>>;

/// An answer of the primary.
pub(crate) struct PrimaryAnswer {
    /// Status and headers.
    parts: Parts,
    /// The body: whole where the request is buffered and it is not too large.
    body: RelayBody,
}

impl PrimaryAnswer {
    fn says_unavailable(&self) -> bool {
        is_unavailable_status(self.parts.status.as_u16())
    }

    fn answered(&self) -> AnswerSeen<'_> {
        let provenance = self.parts.extensions.get().copied();
        AnswerSeen {
            provenance: provenance.unwrap_or(Provenance::UNSHOWN),
            status: self.parts.status.as_u16(),
            body: self.body.whole(),
        }
    }
}

/// What came of an attempt to have a token issued by the primary.
pub(crate) enum Tried {
    /// It said something.
    Answered(Response<RelayBody>),
    /// It could not.
    Failed {
        /// Whether it may have issued all the same.
        outcome: Outcome,
        /// What it answered nevertheless: that it cannot serve.
        said: Option<Response<RelayBody>>,
    },
}

impl Tried {
    /// It said nothing at all.
    pub(crate) fn failed(outcome: Outcome) -> Self {
        Self::Failed {
            outcome,
            said: None,
        }
    }
}

impl Server {
    /// Has the primary answer, or the replica in its place where the class of the request allows.
    pub(crate) async fn follow(&self, ask: &mut Ask) -> Handled {
        let token = match Route::of(ask, self.replica.as_ref()) {
            Route::Forward(token) => token,
            Route::Local => return self.decide(ask, Outcome::None).await,
            Route::Refused(answer) => return Ok(answer),
            Route::Unsettled(digest) => match self.settled(ask, digest).await {
                Ok(token) => token,
                Err(handled) => return handled,
            },
        };
        for name in headers::dropped(&ask.headers, &self.rules.load().forward_headers) {
            self.stats.dropped.count(name, ask.peer.uid);
        }
        let sending = self.keys.sending(ask);
        let handled = match ask.class() {
            // A body that is too large to be kept cannot be answered for, nor sent twice.
            _ if ask.whole_body().is_none() => self.stream(ask, token).await,
            Class::Read => self.read(ask, token).await,
            Class::Issue => self.issue(ask, token).await,
            Class::Once => self.once(ask, token).await,
            Class::Stream => self.stream(ask, token).await,
        };
        if let Some(sending) = sending {
            sending.came_to(&handled).await;
        }
        handled
    }

    /// A read or look-up: the replica's answer if the primary's is not here in time, whole.
    async fn read(&self, ask: &Ask, token: ForwardToken) -> Handled {
        let deadline = self.rules.load().read_deadline;
        let watch = Stopwatch::start();
        let mut forwarding = self.forwarding(ask, &token, ask.body_again());
        match tokio::time::timeout(deadline, &mut forwarding).await {
            Err(_) => {
                self.forward_failed();
                self.late(ask, token, forwarding).await
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a read falls back");
                self.forward_failed();
                self.decide(ask, Outcome::None).await
            }
            Ok(Ok(reply)) => {
                let left = deadline.saturating_sub(watch.elapsed());
                if self.cannot_serve(&reply, left).await {
                    return self.decide(ask, Outcome::None).await;
                }
                Ok(self.finish(ask, &token, reply).await)
            }
        }
    }

    /// The primary is late. The replica is asked before the primary is given up, because only an answer that it has is a
    /// reason not to wait. The forward goes on all the same, because an answer that comes later still counts.
    async fn late(&self, ask: &Ask, token: ForwardToken, mut forwarding: Forwarding) -> Handled {
        let answer = self.decide(ask, Outcome::None).await?;
        if answer.status() != StatusCode::SERVICE_UNAVAILABLE {
            self.watch_late(ask, &token, forwarding);
            return Ok(answer);
        }
        tokio::select! {
            reply = &mut forwarding => match reply {
                Ok(reply) if !reply.says_unavailable() => {
                    Ok(self.finish(ask, &token, reply).await)
                }
                _ => Ok(answer),
            },
            () = self.driver.until(|side| side == Some(Side::Replica)) => {
                self.decide(ask, Outcome::None).await
            }
            () = tokio::time::sleep(PATIENCE) => Ok(answer),
        }
    }

    /// Waits for an answer that nobody waits for any more: what it teaches it teaches all the same.
    fn watch_late(&self, ask: &Ask, token: &ForwardToken, forwarding: Forwarding) {
        let Ok(permit) = self.late.clone().try_acquire_owned() else {
            return; // Enough of them: the token is looked up in its turn.
        };
        let (observer, ask, used) = (self.observer.clone(), ask.again(), token.used(ask));
        let keys = self.keys.clone();
        tokio::spawn(async move {
            let _permit = permit;
            if let Ok(Ok(reply)) = tokio::time::timeout(LATE, forwarding).await {
                keys.read(&ask, used, &reply.answered()).await;
                observer.observe(&ask, used, &reply.answered()).await;
            }
        });
    }

    /// A login or token creation: by whichever side is in charge, once that is decided.
    async fn issue(&self, ask: &Ask, token: ForwardToken) -> Handled {
        let issue_deadline = self.rules.load().issue_deadline;
        let mut known = Outcome::None;
        let mut waiting: Option<Stopwatch> = None;
        loop {
            let trying = self.ask_to_issue(ask, &token);
            let tried = self.while_primary(trying).await;
            let said = match tried.unwrap_or_else(|| Tried::failed(Outcome::Unknown)) {
                Tried::Answered(answer) => return Ok(answer),
                Tried::Failed { outcome, said } => {
                    known = known.max(outcome);
                    said
                }
            };
            self.forward_failed();
            let waited = waiting.get_or_insert_with(Stopwatch::start).elapsed();
            let left = issue_deadline.saturating_sub(waited);
            match self.driver.side(left).await {
                Some(Side::Replica) => {
                    let answer = self.decide(ask, known).await?;
                    return self.unless_taken_over(ask, answer);
                }
                Some(Side::Primary) if left > RETRY => tokio::time::sleep(RETRY).await,
                _ => return Ok(said.unwrap_or_else(|| undecided(known))),
            }
        }
    }

    async fn ask_to_issue(&self, ask: &Ask, token: &ForwardToken) -> Tried {
        if let Ok(call) = &ask.call
            && call.kind == Kind::AttestedLogin
        {
            return self.attested_login(ask, call).await;
        }
        let patience = self.rules.load().read_deadline;
        match self.forwarding(ask, token, ask.body_again()).await {
            Err(error) if error.nothing_sent() => Tried::failed(Outcome::None),
            Err(_) => Tried::failed(Outcome::Unknown),
            Ok(reply) if self.cannot_serve(&reply, patience).await => Tried::Failed {
                outcome: Outcome::Unknown,
                said: Some(respond::of_primary(reply.parts, reply.body)),
            },
            Ok(reply) => Tried::Answered(self.finish(ask, token, reply).await),
        }
    }

    /// A call that is made at most once: by the replica if the primary saw nothing of it.
    async fn once(&self, ask: &Ask, token: ForwardToken) -> Handled {
        match self.patiently(ask, &token, ask.body_again()).await {
            Ok(answer) => Ok(self.finish(ask, &token, answer).await),
            // Of a read that brought a lease in vain there is nothing to be undone but that lease, which ends.
            Err(error) if error.nothing_sent() || ask.is_read() => {
                self.decide(ask, Outcome::None).await
            }
            Err(_) => Ok(unknown()),
        }
    }

    /// Everything else, both ways as it comes.
    async fn stream(&self, ask: &mut Ask, token: ForwardToken) -> Handled {
        let body = ask.body_to_send();
        let failed = match self.patiently(ask, &token, body).await {
            Ok(answer) => return Ok(self.finish(ask, &token, answer).await),
            Err(failed) => failed,
        };
        if !failed.nothing_sent() && !ask.is_idempotent() {
            return Ok(unknown());
        }
        if self.replica.outage().is_some() && ask.whole_body().is_some() {
            return self.decide(ask, Outcome::None).await;
        }
        Ok(respond::error(
            StatusCode::SERVICE_UNAVAILABLE,
            &format!("primary unavailable: {failed}; nothing was applied"),
        ))
    }

    /// Waits for the primary until the replica takes over.
    async fn patiently(
        &self,
        ask: &Ask,
        token: &ForwardToken,
        body: RelayBody,
    ) -> Result<PrimaryAnswer, ForwardError> {
        let forwarded = self.while_primary(self.forwarding(ask, token, body));
        let timeout = Err(ForwardError::Unknown(Unavailable::Timeout));
        let answer = forwarded.await.unwrap_or(timeout);
        if answer
            .as_ref()
            .map_or(true, PrimaryAnswer::says_unavailable)
        {
            self.forward_failed();
        }
        answer
    }

    /// What comes of `work`, unless the replica takes over or [`PATIENCE`] ends first.
    async fn while_primary<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = work => Some(done),
            () = self.driver.until(|side| side == Some(Side::Replica)) => None,
            () = tokio::time::sleep(PATIENCE) => None,
        }
    }

    /// The request as it is sent, and the answer as far as it is buffered. Owns all that it needs.
    fn forwarding(&self, ask: &Ask, token: &ForwardToken, body: RelayBody) -> Forwarding {
        let link: Link = self.link.clone();
        let class = ask.class();
        let mut headers = headers::outgoing(&ask.headers, &self.rules.load().forward_headers);
        token.apply(&mut headers);
        if let Some(namespace) = &ask.named_for_it {
            headers.insert(headers::VAULT_NAMESPACE, namespace.clone());
        }
        if class != Class::Stream || token.is_hidden() {
            headers::ask_for_identity(&mut headers);
        }
        let outgoing = Outgoing {
            method: ask.method.clone(),
            target: ask.target.clone(),
            headers,
            idempotent: ask.is_idempotent(),
        };
        let (is_hidden, buffers) = (token.is_hidden(), self.buffers.clone());
        Box::pin(async move {
            let answer = link.forward(&outgoing, body).await?;
            buffered(answer, may_lease(&outgoing), class, is_hidden, &buffers).await
        })
    }

    /// Whether an answer says that the primary cannot serve. 500 says so only if the machine, which is told, comes
    /// to doubt the primary too.
    async fn cannot_serve(&self, reply: &PrimaryAnswer, within: Duration) -> bool {
        let is_unavailable = reply.says_unavailable();
        if !is_unavailable && reply.parts.status != StatusCode::INTERNAL_SERVER_ERROR {
            return false;
        }
        self.forward_failed();
        if is_unavailable {
            return true;
        }
        let doubted = self.driver.until(|side| side != Some(Side::Primary));
        tokio::time::timeout(within, doubted).await.is_ok()
    }

    /// Learns from an answer and passes it on.
    async fn finish(
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
        let mut answer = self.passed_on(ask, token, reply);
        if failed {
            answer.extensions_mut().insert(LoginFailed);
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
async fn buffered(
    answer: Response<RelayBody>,
    may_lease: bool,
    class: Class,
    is_hidden: bool,
    buffers: &Buffers,
) -> Result<PrimaryAnswer, ForwardError> {
    let (mut parts, body) = answer.into_parts();
    let read = match body.into_unread() {
        Ok(incoming) => read_by_class(&parts, incoming, may_lease, class, is_hidden, buffers).await,
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
    buffers: &Buffers,
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
        Class::Read => buffers.read(incoming, WHOLE_ANSWER).await,
        Class::Issue | Class::Once => RelayBody::read_ahead(incoming, WHOLE_ANSWER).await,
    }
}

/// Whether an answer may come with a lease that coverage is to know of: reads of secrets, not what the system streams.
fn may_lease(outgoing: &Outgoing) -> bool {
    outgoing.method == Method::GET && !outgoing.target.path().starts_with("/v1/sys/")
}

fn unknown() -> Response<RelayBody> {
    respond::error(
        StatusCode::GATEWAY_TIMEOUT,
        "the primary did not answer: whether this request was carried out is unknown",
    )
}

fn undecided(known: Outcome) -> Response<RelayBody> {
    match known {
        Outcome::None => respond::error(
            StatusCode::SERVICE_UNAVAILABLE,
            "primary unavailable, and the replica has not taken over; nothing was applied",
        ),
        Outcome::Unknown => unknown(),
    }
}
