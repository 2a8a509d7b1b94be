//! A gate before a primary: it sees each request whole, before it arrives, and does with it as the test says. It can lose
//! a request or its answer, hold either for as long as the test wants, or be shut as if the primary were gone.
//!
//! The primary itself goes on meanwhile, so that its operators can change what they like behind Holdover's back.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use tokio::sync::watch;

use crate::authority::Authority;
use crate::bao::Primary;
use crate::failure::{Failure, Result};
use crate::front::{self, Backend, Body, Front, Session, pass_on};

/// What becomes of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// It arrives, and so does its answer.
    Pass,
    /// It arrives; its answer never does: the connection is closed in its place.
    LoseAnswer,
    /// It waits until it is let go, and arrives then.
    Hold,
    /// It arrives; its answer waits until it is let go.
    HoldAnswer,
}

/// A request that came to the gate.
#[derive(Clone)]
pub struct Asked {
    /// Which of the connections to the gate it came on, counted from none.
    pub connection: usize,
    /// Its method.
    pub method: Method,
    /// Its target: `/v1/…`.
    pub target: String,
    /// Its body.
    pub body: Bytes,
    /// What was answered; none while, or because, nothing was.
    pub status: Option<u16>,
}

impl Asked {
    /// Whether it asks for health, as any connection does first, and probes do.
    pub fn is_of_health(&self) -> bool {
        self.target.starts_with("/v1/sys/health")
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Act + Send>;

/// The gate. Gone when dropped, with its connections.
pub struct Gate {
    front: Front,
    shared: Arc<Shared>,
}

struct Shared {
    tape: Mutex<Vec<Asked>>,
    rule: Mutex<Option<Rule>>,
    /// Whether nothing passes.
    shut: watch::Sender<bool>,
    held: watch::Sender<Held>,
}

/// How many are held, and how often those that were have been let go.
#[derive(Clone, Copy, Default)]
struct Held {
    waiting: usize,
    let_go: Option<Passed>,
    times: u64,
}

/// How what was held is let go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Passed {
    On,
    Nowhere,
}

impl Gate {
    /// A gate before `primary`, open and without a rule.
    pub async fn before(primary: &Primary) -> Result<Gate> {
        let shared = Arc::new(Shared {
            tape: Mutex::default(),
            rule: Mutex::default(),
            shut: watch::Sender::new(false),
            held: watch::Sender::default(),
        });
        let (authority, address) = (primary.authority(), front::bare(&primary.address())?);
        let (kept, trusted): (_, Authority) = (shared.clone(), authority.clone());
        let connections = AtomicUsize::new(0);
        let front = Front::open(authority, move || Passage {
            connection: connections.fetch_add(1, Ordering::Relaxed),
            backend: Backend::new(&address, &trusted),
            shared: kept.clone(),
        })
        .await?;
        Ok(Gate { front, shared })
    }

    /// Its address: `https://127.0.0.1:PORT`, with the primary's certificate.
    pub fn address(&self) -> String {
        self.front.address()
    }

    /// Has every request from now on treated as `rule` says.
    pub fn rule(&self, rule: impl FnMut(&Asked) -> Act + Send + 'static) {
        *lock(&self.shared.rule) = Some(Box::new(rule));
    }

    /// Has everything pass.
    pub fn no_rule(&self) {
        *lock(&self.shared.rule) = None;
    }

    /// Closes every connection, and every one to come at its first request. What was held arrives nowhere.
    pub fn shut(&self) {
        self.shared.shut.send_replace(true);
        self.discard();
        self.front.hang_up();
    }

    /// Lets requests pass again.
    pub fn open(&self) {
        self.shared.shut.send_replace(false);
    }

    /// Lets go on what is held.
    pub fn release(&self) {
        self.let_go(Passed::On);
    }

    /// Has what is held arrive nowhere.
    pub fn discard(&self) {
        self.let_go(Passed::Nowhere);
    }

    fn let_go(&self, how: Passed) {
        self.shared.held.send_modify(|held| {
            held.let_go = Some(how);
            held.times += 1;
        });
    }

    /// How many are held.
    pub fn held(&self) -> usize {
        self.shared.held.borrow().waiting
    }

    /// Waits until something is held.
    pub async fn until_held(&self, bound: Duration) -> Result<()> {
        let mut held = self.shared.held.subscribe();
        let waited = tokio::time::timeout(bound, held.wait_for(|held| held.waiting > 0));
        match waited.await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Failure::new(format!("nothing was held within {bound:?}"))),
        }
    }

    /// Everything that came to the gate while it was open, in order.
    pub fn asked(&self) -> Vec<Asked> {
        lock(&self.shared.tape).clone()
    }

    /// How much that is.
    pub fn count(&self) -> usize {
        lock(&self.shared.tape).len()
    }
}

/// One client's connection.
struct Passage {
    connection: usize,
    backend: Result<Backend>,
    shared: Arc<Shared>,
}

impl Session for Passage {
    async fn answer(&mut self, request: Request<Bytes>) -> Result<Response<Body>> {
        let mut shut = self.shared.shut.subscribe();
        if *shut.borrow_and_update() {
            return Err(Failure::new("the gate is shut"));
        }
        tokio::select! {
            answered = self.pass(request) => answered,
            _ = shut.wait_for(|shut| *shut) => Err(Failure::new("the gate was shut")),
        }
    }
}

impl Passage {
    async fn pass(&mut self, request: Request<Bytes>) -> Result<Response<Body>> {
        let asked = Asked {
            connection: self.connection,
            method: request.method().clone(),
            target: request.uri().to_string(),
            body: request.body().clone(),
            status: None,
        };
        let act = match &mut *lock(&self.shared.rule) {
            Some(rule) => rule(&asked),
            None => Act::Pass,
        };
        let nr = self.shared.note(asked);
        if act == Act::Hold {
            self.shared.hold().await?;
        }
        let backend = self.backend.as_mut().map_err(|failure| failure.clone())?;
        let answer = backend.send(&request).await?;
        match act {
            Act::LoseAnswer => return Err(Failure::new("the answer is lost")),
            Act::HoldAnswer => self.shared.hold().await?,
            Act::Pass | Act::Hold => {}
        }
        self.shared.answered(nr, answer.status().as_u16());
        Ok(pass_on(answer))
    }
}

impl Shared {
    fn note(&self, asked: Asked) -> usize {
        let mut tape = lock(&self.tape);
        tape.push(asked);
        tape.len() - 1
    }

    fn answered(&self, nr: usize, status: u16) {
        if let Some(asked) = lock(&self.tape).get_mut(nr) {
            asked.status = Some(status);
        }
    }

    async fn hold(&self) -> Result<()> {
        let mut held = self.held.subscribe();
        let times = held.borrow_and_update().times;
        let _waiting = Waiting::begin(&self.held);
        let let_go = held.wait_for(|held| held.times > times).await;
        match let_go.ok().and_then(|held| held.let_go) {
            Some(Passed::On) => Ok(()),
            _ => Err(Failure::new("what was held arrives nowhere")),
        }
    }
}

/// One that is held, or was until its client went.
struct Waiting<'a>(&'a watch::Sender<Held>);

impl<'a> Waiting<'a> {
    fn begin(held: &'a watch::Sender<Held>) -> Waiting<'a> {
        held.send_modify(|held| held.waiting += 1);
        Waiting(held)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| held.waiting -= 1);
    }
}

fn lock<T>(all: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
