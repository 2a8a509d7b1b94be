//! The one way to the primary, for clients' requests and for Holdover's own.
//!
//! A connection comes into use only after it has shown the trusted cluster: `connect` opens it and asks `sys/health` over
//! it ([`show`]) before anything with a credential goes there. What it showed comes with every answer, as a
//! [`Provenance`]. [`forward`] sends clients' requests on, byte for byte; [`own`] sends Holdover's, which are asked as
//! current; [`once`] keeps what has an effect from being sent twice; [`address`] is the book of addresses, each of which `monitor` looks after by itself.

pub mod address;
pub mod body;
mod driven;
pub mod error;
pub mod files;
pub mod forward;
pub mod names;
pub(crate) mod once;
pub mod own;
pub mod tls;

mod connect;
mod lent;
pub(crate) mod monitor;
mod nesting;
pub(crate) mod passed;
pub(crate) mod room;
mod show;
#[cfg(test)]
mod tests;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use http::{HeaderName, Response};
use parking_lot::Mutex;
use shared::{
    name::ClusterId,
    provenance::{Arrival, Asked, Index, Line, Provenance, Trust},
    time::WallTime,
};

pub use address::{Addresses, Monitored};
pub use error::Unavailable;

use self::{
    driven::Driven,
    files::{TlsFault, TlsFiles},
    names::Names,
};
use crate::{clock::Clock, config, file, local::Pending};

/// Says how far the node that answered had applied its cluster's history; in requests, how far it must have.
pub(crate) const INDEX: HeaderName = HeaderName::from_static("x-vault-index");

/// Says what a node does that has not come so far.
pub(crate) const INCONSISTENT: HeaderName = HeaderName::from_static("x-vault-inconsistent");

/// Has the active node answer.
pub(crate) const FORWARD_ACTIVE: &str = "forward-active-node";

/// What is done before a connection is used for requests of clients.
pub(crate) type BeforeForwards = Box<dyn Fn() -> Pending<'static, ()> + Send + Sync>;

/// The way to the primary. Cheap to clone.
#[derive(Clone)]
pub struct Link(Arc<LinkParts>);

struct LinkParts {
    addresses: Addresses,
    base: Arc<LinkBase>,
}

/// What every connection stands on.
pub(crate) struct LinkBase {
    trust: Mutex<Trust>,
    clock: Arc<Clock>,
    files: Arc<TlsFiles>,
    reader: file::FileReader,
    names: Names,
    connect_timeout: Duration,
    before_forwards: OnceLock<BeforeForwards>,
    driven: Driven,
}

/// A connection's memory, kept with every answer that comes over it.
#[derive(Clone)]
pub(crate) struct LineShown(Arc<LineParts>);

struct LineParts {
    line: Mutex<Line>,
    opened_at: WallTime,
}

impl LineShown {
    pub(crate) fn new(line: Line, opened_at: WallTime) -> Self {
        let line = Mutex::new(line);
        Self(Arc::new(LineParts { line, opened_at }))
    }

    pub(crate) fn line(&self) -> Line {
        self.0.line.lock().clone()
    }

    fn is_older_than(&self, age: Duration, now: WallTime) -> bool {
        now.since(self.0.opened_at) >= age
    }
}

impl LinkBase {
    fn now(&self) -> WallTime {
        self.clock.now().steady
    }

    /// The index that an answer carries, where it can be read.
    fn index_of<B>(answer: &Response<B>) -> Option<Index> {
        Index::parse(answer.headers().get(INDEX)?.to_str().ok()?)
    }

    /// The cluster that an answer names by its index.
    fn cluster_of<B>(answer: &Response<B>) -> Option<ClusterId> {
        Self::index_of(answer).map(|index| index.cluster().clone())
    }

    /// Where an answer comes from.
    fn weigh<B>(&self, answer: &Response<B>, asked: Option<Asked>) -> Provenance {
        let Some(shown) = answer.extensions().get::<LineShown>() else {
            return Provenance::UNSHOWN;
        };
        let index = Self::index_of(answer);
        let arrival = Arrival {
            index: index.as_ref(),
            asked,
        };
        self.trust.lock().weigh(&mut shown.0.line.lock(), arrival)
    }
}

/// How often the files of connections are looked at.
const FILE_INTERVAL: Duration = Duration::from_secs(1);

impl Link {
    /// The way to the addresses of `primary`, trusting `pinned` if a cluster was ever seen. Nothing is sent yet. Its connections are
    /// driven by the runtime that this is called on, whoever sends over them.
    ///
    /// # Errors
    /// If there is no TLS.
    pub fn new(
        primary: &config::PrimaryConfig,
        pinned: Option<ClusterId>,
        clock: Arc<Clock>,
    ) -> Result<Self, tls::TlsError> {
        let names = Names::default();
        let base = Arc::new(LinkBase {
            trust: Mutex::new(Trust::new(pinned)),
            clock,
            files: TlsFiles::open(primary, &names)?,
            reader: file::FileReader::default(),
            names,
            connect_timeout: primary.connect_timeout,
            before_forwards: OnceLock::new(),
            driven: Driven::here(),
        });
        let addresses = Addresses::new(&primary.addresses, &base);
        Ok(Self(Arc::new(LinkParts { addresses, base })))
    }

    /// From now on this is done before a new connection is used for requests of clients; what was said first stands.
    pub(crate) fn before_forwards(&self, before: BeforeForwards) {
        let _ = self.0.base.before_forwards.set(before);
    }

    /// The book of addresses.
    pub fn addresses(&self) -> &Addresses {
        &self.0.addresses
    }

    /// The cluster that is trusted, once one was seen.
    pub fn pinned(&self) -> Option<ClusterId> {
        self.0.base.trust.lock().pinned().cloned()
    }

    /// An operator trusts `cluster` from now on (`holdover primary trust`). Connections are made anew.
    pub fn trust(&self, cluster: ClusterId) {
        self.0.base.trust.lock().change(cluster);
        for one in self.addresses().all() {
            one.close();
        }
    }

    /// Takes the files of connections up again if they changed: the CA, and the certificate with its key. Bad ones are
    /// reported and the old ones stay in use; so does a pair of which one half is new and the other not yet.
    pub async fn reload_files(&self) {
        let LinkBase {
            files,
            reader,
            names,
            ..
        } = &*self.0.base;
        if files.reload(reader, names).await {
            self.addresses().all().iter().for_each(|one| one.close());
        }
    }

    /// The same again and again, until the daemon stops.
    pub async fn keep_files(self) {
        loop {
            tokio::time::sleep(FILE_INTERVAL).await;
            self.reload_files().await;
        }
    }

    /// What is wrong with the CA file as it is now.
    pub fn untrusted(&self) -> Option<TlsFault> {
        self.0.base.files.untrusted()
    }

    /// What is wrong with the client certificate or its key as they are now.
    pub fn unidentified(&self) -> Option<TlsFault> {
        self.0.base.files.unidentified()
    }
}
