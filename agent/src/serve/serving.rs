//! The connections that are served, from the start of the socket to its end.

use std::{io, sync::Arc};

use tokio::{sync::watch, task::JoinSet};

use super::{
    Server,
    arrivals::{Arrival, Arrivals},
    lanes::Lanes,
};

/// The connections, and where more come from.
pub(super) struct LiveConnections {
    server: Arc<Server>,
    lanes: Lanes,
    arrivals: Arrivals,
    connections: JoinSet<()>,
    stops: watch::Sender<bool>,
}

impl LiveConnections {
    /// None yet.
    ///
    /// # Errors
    /// If there can be no runtime for those who are served apart.
    pub(super) fn start(server: Arc<Server>, arrivals: Arrivals) -> io::Result<Self> {
        Ok(Self {
            server,
            lanes: Lanes::start()?,
            arrivals,
            connections: JoinSet::new(),
            stops: watch::Sender::new(false),
        })
    }

    /// Serves whoever comes until `shutdown` resolves.
    ///
    /// # Errors
    /// If nobody can come any more before: a thread that lets them in has ended.
    pub(super) async fn until(&mut self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                _ = self.connections.join_next(), if !self.connections.is_empty() => {}
                arrival = self.arrivals.next() => match arrival {
                    Some(arrival) => self.serve(arrival),
                    None => return Err(io::Error::other("a thread that accepts connections has ended")),
                }
            }
        }
    }

    /// Takes no more, and has those that are served end with what they are at.
    pub(super) fn stop(&mut self) {
        self.arrivals.close();
        self.stops.send_replace(true);
    }

    /// Waits until those that were taken before that have ended.
    pub(super) async fn drained(&mut self) {
        while let Some(arrival) = self.arrivals.next().await {
            self.serve(arrival);
        }
        while self.connections.join_next().await.is_some() {}
    }

    /// Cuts those that are left, and waits until what they were at was dropped.
    pub(super) async fn cut(&mut self) {
        self.connections.shutdown().await;
    }

    fn serve(&mut self, arrival: Arrival) {
        let lane = self.lanes.of(self.server.is_apart(&arrival));
        let stopping = self.stops.subscribe();
        let serving = self.server.clone().connection(arrival, stopping);
        self.connections.spawn_on(serving, lane);
    }
}
