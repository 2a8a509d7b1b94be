//! A recorder at the wire: what went over each connection, in order, before it reached a node or a balancer.
//!
//! It terminates TLS with the cluster's own certificate, and opens one connection of its own for each of a client's,
//! so that what a client's connection has shown was shown by one connection.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Limited};
use serde_json::Value;

use crate::authority::Authority;
use crate::balancer::Standing;
use crate::failure::{Failure, Result};
use crate::front::{self, Backend, Body, Front, Session, pass_on, whole};

/// How much of an answer of `sys/health` is looked at.
const HEALTH: usize = 64 * 1024;

/// A request and its answer.
#[derive(Clone)]
pub struct Exchange {
    /// Its method.
    pub method: Method,
    /// Its target, as it was on the wire: `/v1/…`.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
    /// The answer's status; none while there is none.
    pub status: Option<u16>,
    /// The answer's headers.
    pub answered: HeaderMap,
    /// The cluster that the answer named, if this asked for health.
    pub shown: Option<String>,
}

/// The recorder. Gone when dropped, with its connections.
pub struct Recorder {
    front: Front,
    tape: Arc<Tape>,
}

#[derive(Default)]
struct Tape {
    backend: Mutex<String>,
    connections: Mutex<Vec<Vec<Exchange>>>,
}

impl Recorder {
    /// Records what goes to `backend`, an address with or without a scheme, whose certificate is of `authority`.
    pub async fn before(backend: &str, authority: &Authority) -> Result<Recorder> {
        let tape = Arc::new(Tape::default());
        tape.lead_to(backend)?;
        let (kept, trusted) = (tape.clone(), authority.clone());
        let front = Front::open(authority, move || kept.open(&trusted)).await?;
        Ok(Recorder { front, tape })
    }

    /// Its address: `https://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        self.front.address()
    }

    /// Leads connections elsewhere from now on.
    pub fn set_backend(&self, backend: &str, standing: Standing) -> Result<()> {
        self.tape.lead_to(backend)?;
        if standing == Standing::Close {
            self.front.hang_up();
        }
        Ok(())
    }

    /// What has gone over each connection that said something, in order.
    pub fn connections(&self) -> Vec<Vec<Exchange>> {
        let mut connections = lock(&self.tape.connections).clone();
        connections.retain(|exchanges| !exchanges.is_empty());
        connections
    }

    /// Everything that has gone over, by connection.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.connections().into_iter().flatten().collect()
    }

    /// Every credential that went over a connection before that connection's last answer of `sys/health` had shown the
    /// cluster of this id; none is what is wanted.
    pub fn unproved(&self, cluster: &str) -> Vec<String> {
        let mut found = Vec::new();
        for (nr, exchanges) in self.connections().iter().enumerate() {
            let mut shown = None;
            for exchange in exchanges {
                if exchange.has_credential() && shown != Some(cluster) {
                    found.push(format!("connection {nr}, shown {shown:?}: {exchange:?}"));
                }
                if exchange.shown.is_some() {
                    shown = exchange.shown.as_deref();
                }
            }
        }
        found
    }

    /// Forgets what was recorded, but not which connection has shown what.
    pub fn forget(&self) {
        for exchanges in lock(&self.tape.connections).iter_mut() {
            let last = exchanges.iter().rposition(|one| one.shown.is_some());
            let shown = last.map(|at| exchanges.remove(at));
            *exchanges = shown.into_iter().collect();
        }
    }
}

impl Exchange {
    /// Whether the request carried what only the pinned cluster may see: a token, an authorization, or any body.
    pub fn has_credential(&self) -> bool {
        self.has_token() || self.headers.contains_key(AUTHORIZATION) || !self.body.is_empty()
    }

    /// Whether the request carried a token.
    pub fn has_token(&self) -> bool {
        self.headers.contains_key("x-vault-token")
    }

    /// A header of the request.
    pub fn asked(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// A header of the answer.
    pub fn answer(&self, name: &str) -> Option<&str> {
        self.answered
            .get(name)
            .and_then(|value| value.to_str().ok())
    }
}

// Without what headers and body hold: a failed test prints it.
impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = |set: bool, text: &'static str| if set { text } else { "" };
        write!(
            f,
            "{} {}{}{}{} -> {:?}",
            self.method,
            self.target,
            mark(self.has_token(), " with a token"),
            mark(
                self.headers.contains_key(AUTHORIZATION),
                " with Authorization"
            ),
            mark(!self.body.is_empty(), " with a body"),
            self.status
        )
    }
}

impl Tape {
    fn lead_to(&self, backend: &str) -> Result<()> {
        *lock(&self.backend) = front::bare(backend)?;
        Ok(())
    }

    fn open(self: &Arc<Tape>, authority: &Authority) -> Conversation {
        let mut connections = lock(&self.connections);
        connections.push(Vec::new());
        Conversation {
            number: connections.len() - 1,
            backend: Backend::new(&lock(&self.backend), authority),
            tape: self.clone(),
        }
    }

    /// Changes what is recorded of a connection.
    fn write<T>(
        &self,
        connection: usize,
        write: impl FnOnce(&mut Vec<Exchange>) -> T,
    ) -> Option<T> {
        lock(&self.connections).get_mut(connection).map(write)
    }
}

/// One client's connection.
struct Conversation {
    number: usize,
    backend: Result<Backend>,
    tape: Arc<Tape>,
}

impl Session for Conversation {
    async fn answer(&mut self, request: Request<Bytes>) -> Result<Response<Body>> {
        let asked = Exchange::of(&request);
        let is_health = asked.target.starts_with("/v1/sys/health");
        self.tape.write(self.number, |tape| tape.push(asked));
        let backend = self.backend.as_mut().map_err(|failure| failure.clone())?;
        let answer = backend.send(&request).await?;
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        let (answer, shown) = match is_health {
            true => look(answer).await?,
            false => (pass_on(answer), None),
        };
        self.tape.write(self.number, |tape| {
            if let Some(exchange) = tape.iter_mut().rev().find(|one| one.status.is_none()) {
                exchange.status = Some(status);
                exchange.answered = headers;
                exchange.shown = shown;
            }
        });
        Ok(answer)
    }
}

impl Exchange {
    fn of(request: &Request<Bytes>) -> Exchange {
        Exchange {
            method: request.method().clone(),
            target: request.uri().to_string(),
            headers: request.headers().clone(),
            body: request.body().clone(),
            status: None,
            answered: HeaderMap::new(),
            shown: None,
        }
    }
}

/// The answer of `sys/health`, and the cluster that it names. A sealed node names none.
async fn look(answer: Response<hyper::body::Incoming>) -> Result<(Response<Body>, Option<String>)> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, HEALTH).collect().await;
    let body = body
        .map_err(|error| Failure::new(format!("health: {error}")))?
        .to_bytes();
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let cluster = said["cluster_id"].as_str().map(str::to_owned);
    Ok((whole(Response::from_parts(head, body)), cluster))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
