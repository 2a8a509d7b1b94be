//! Balancers before the nodes of a cluster, of the kinds that stand before real ones.
//!
//! Those that choose per connection pass bytes on and know nothing of TLS; the one that chooses per request terminates
//! TLS and speaks HTTP/1.1. What is behind one can be changed while it runs.

mod request;
mod stream;

use std::sync::{Arc, Mutex, PoisonError};

use crate::authority::Authority;
use crate::failure::Result;
use crate::front;

/// What becomes of connections that stand when other backends are put behind a balancer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// They stay with the old ones.
    Stay,
    /// They are closed.
    Close,
}

/// A balancer. Gone when dropped, with its connections.
pub struct Balancer {
    backends: Backends,
    kind: Kind,
}

enum Kind {
    Stream(stream::Streams),
    Request(front::Front),
}

impl Balancer {
    /// Each connection goes to the next backend. One that cannot be reached costs its share of the connections.
    pub async fn round_robin(backends: &[String]) -> Result<Balancer> {
        Balancer::of_streams(backends, stream::Choice::Next).await
    }

    /// Each source address stays with one backend for as long as that takes connections.
    pub async fn sticky(backends: &[String]) -> Result<Balancer> {
        Balancer::of_streams(backends, stream::Choice::Sticky).await
    }

    /// Each connection goes to the next backend of those whose `sys/health` has one of these statuses: `[200]` leads to
    /// the active node alone, `[200, 429]` to standbys too.
    pub async fn health_checked(
        backends: &[String],
        statuses: &[u16],
        authority: &Authority,
    ) -> Result<Balancer> {
        let check = stream::Check {
            statuses: statuses.to_vec(),
            http: crate::bao::client_trusting(&authority.ca)?,
        };
        Balancer::of_streams(backends, stream::Choice::Checked(check)).await
    }

    /// Each request goes to the next backend, whatever connection it came on. One that cannot be reached is a 502.
    pub async fn per_request(backends: &[String], authority: &Authority) -> Result<Balancer> {
        let backends = Backends::new(backends)?;
        let front = request::open(authority, backends.clone()).await?;
        let kind = Kind::Request(front);
        Ok(Balancer { backends, kind })
    }

    /// Its address: `https://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        match &self.kind {
            Kind::Stream(streams) => streams.address(),
            Kind::Request(front) => front.address(),
        }
    }

    /// Puts other backends behind it, for what comes from now on.
    pub fn set_backends(&self, backends: &[String], standing: Standing) -> Result<()> {
        self.backends.set(backends)?;
        match (&self.kind, standing) {
            (_, Standing::Stay) => {}
            (Kind::Stream(streams), Standing::Close) => streams.hang_up(),
            (Kind::Request(front), Standing::Close) => front.hang_up(),
        }
        Ok(())
    }

    async fn of_streams(backends: &[String], choice: stream::Choice) -> Result<Balancer> {
        let backends = Backends::new(backends)?;
        let kind = Kind::Stream(stream::Streams::open(backends.clone(), choice).await?);
        Ok(Balancer { backends, kind })
    }
}

/// What is behind a balancer, and whose turn it is.
#[derive(Clone)]
struct Backends(Arc<Mutex<Turn>>);

struct Turn {
    addresses: Vec<String>,
    next: usize,
}

impl Backends {
    /// Addresses, with or without a scheme.
    fn new(addresses: &[String]) -> Result<Backends> {
        let turn = Turn {
            addresses: bare(addresses)?,
            next: 0,
        };
        Ok(Backends(Arc::new(Mutex::new(turn))))
    }

    fn set(&self, addresses: &[String]) -> Result<()> {
        let addresses = bare(addresses)?;
        self.lock().addresses = addresses;
        Ok(())
    }

    /// All of them, the one whose turn it is first; the turn passes on.
    fn take_turn(&self) -> Vec<String> {
        let mut turn = self.lock();
        let mut addresses = turn.addresses.clone();
        if !addresses.is_empty() {
            let first = turn.next % addresses.len();
            addresses.rotate_left(first);
            turn.next = first + 1;
        }
        addresses
    }

    /// All of them, in their order.
    fn all(&self) -> Vec<String> {
        self.lock().addresses.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Turn> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bare(addresses: &[String]) -> Result<Vec<String>> {
    addresses
        .iter()
        .map(|address| front::bare(address))
        .collect()
}
