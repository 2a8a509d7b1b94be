//! Requests as they come in and answers as they go out: what of them is in memory is counted to whom it is for.

use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper::body::{Body as _, Incoming};

use super::{
    Server, SocketRules,
    ask::Ask,
    body::{ANSWERS, Arriving, BodyError, RelayBody, SMALL},
    connection::Connection,
    limits::Exceeded,
    respond,
};

/// Bytes of a request that are read before it is sent on: what is larger streams.
const WHOLE_REQUEST: usize = 64 * 1024;

/// For the part of a body that is read ahead.
const BODY_WITHIN: Duration = Duration::from_secs(30);

impl Server {
    /// Reads a request, with as much of its body as whoever answers may need whole.
    pub(super) async fn receive(
        &self,
        connection: &Connection,
        rules: &SocketRules,
        request: Request<Incoming>,
    ) -> Result<Ask, Response<RelayBody>> {
        if request.method() == Method::CONNECT {
            return Err(respond::error(
                StatusCode::BAD_REQUEST,
                "CONNECT is not supported",
            ));
        }
        let (parts, incoming) = request.into_parts();
        let target = parts.uri.path_and_query();
        if target.is_some_and(|target| connection.line.had_fragment(target.as_str())) {
            return Err(respond::error(
                StatusCode::BAD_REQUEST,
                "a request target has no fragment",
            ));
        }
        let peer = connection.facts.peer(&rules.matches);
        let settings = self.replica.settings();
        let mut ask = Ask::new(
            parts,
            peer,
            &connection.party,
            &settings,
            self.replica.as_ref(),
        );
        if !incoming.is_end_stream() {
            if let Some(refused) = self.refused_unread(&ask) {
                return Err(refused);
            }
            let body = self.read_body(connection, rules, incoming).await?;
            ask.brings(body, self.replica.now());
        }
        // Nothing of it may be sent on where nobody would hear what came of it.
        connection.place.is_answered().map_err(respond::exceeded)?;
        Ok(ask)
    }

    /// What a request is answered by the replica that brings a body which need not be looked at.
    fn refused_unread(&self, ask: &Ask) -> Option<Response<RelayBody>> {
        let outage = self.replica.outage()?;
        // Whether a form is refused for being one, its body says.
        let call = ask.call.as_ref().ok().filter(|_| !ask.is_form())?;
        let refused = self
            .replica
            .refuse_unread(&ask.query(call, &[], self.replica.now()));
        let mut refused = refused?;
        self.replica.note(&mut refused);
        tracing::trace!(%outage, "a request was refused by its token alone");
        Some(respond::of_replica(refused.response))
    }

    /// As much of a body as whoever answers may need whole.
    async fn read_body(
        &self,
        connection: &Connection,
        rules: &SocketRules,
        incoming: Incoming,
    ) -> Result<RelayBody, Response<RelayBody>> {
        let limit = match self.replica.outage() {
            Some(_) => usize::try_from(rules.limits.request_size).unwrap_or(usize::MAX),
            None => WHOLE_REQUEST,
        };
        let total = rules.shared(rules.limits.unfinished_bytes);
        let room = self.unfinished.room(&connection.party, total);
        let reading = RelayBody::read_within(Arriving::request(incoming), limit, room);
        match tokio::time::timeout(BODY_WITHIN, reading).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(BodyError::NoRoom(short))) => Err(respond::exceeded(short.into())),
            Ok(Err(error)) => Err(respond::error(StatusCode::BAD_REQUEST, &error.to_string())),
            Err(_) => Err(respond::error(
                StatusCode::REQUEST_TIMEOUT,
                "the body came too slowly",
            )),
        }
    }

    /// An answer for a client of HTTP/1.0, counted to it like all that are in memory.
    pub(super) async fn measured_for(
        &self,
        connection: &Connection,
        method: &Method,
        answer: Response<RelayBody>,
    ) -> Response<RelayBody> {
        let total = self.rules.load().shared(ANSWERS);
        let room = self.buffers.room(&connection.party, total);
        respond::measured(answer, method, room).await
    }

    /// An answer, counted to whom it is for until that one has read it: whoever asks and does not read must not have them
    /// pile up.
    pub(super) fn buffered_for(
        &self,
        connection: &Connection,
        answer: Response<RelayBody>,
    ) -> Response<RelayBody> {
        let of_replica = respond::source(&answer) == "replica";
        let large = answer.body().whole().filter(|body| body.len() > SMALL);
        let Some(body) = large.filter(|_| of_replica).cloned() else {
            return answer; // The primary's are counted where they are read.
        };
        let total = self.rules.load().shared(ANSWERS);
        match self.buffers.put(body, &connection.party, total) {
            Ok(kept) => answer.map(|_| RelayBody::Whole(kept)),
            Err(_) => respond::exceeded(Exceeded::Unread),
        }
    }
}
