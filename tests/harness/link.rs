//! A link of a network, as a relay on loopback: it can fall silent or refuse, for connections that stand too.
//!
//! Cutting a node off would otherwise need root and a firewall. A link lies before one listener; what passes over it
//! depends on the switch of that listener's owner, and on the switch of whoever connected, where that is known.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::{Context, Result};
use crate::port::Port;

/// How long a link may take to open or close its listener.
const PATIENCE: Duration = Duration::from_secs(5);

/// What becomes of what is sent. Of the switches of one connection the last in this order decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Flow {
    /// It arrives.
    Open,
    /// Nothing arrives and nothing is closed, as if the cable were out: new connections are taken by the kernel and
    /// lead nowhere. What was held back arrives when the link is open again.
    Silent,
    /// Connections, those that stand included, are reset.
    Refused,
}

/// Sets the flow of one side of links. Cheap to clone; clones are the same switch.
#[derive(Clone)]
pub struct Switch(Arc<watch::Sender<Flow>>);

impl Default for Switch {
    fn default() -> Switch {
        Switch(Arc::new(watch::Sender::new(Flow::Open)))
    }
}

impl Switch {
    /// Sets it, for connections that stand too.
    pub fn set(&self, flow: Flow) {
        self.0.send_replace(flow);
    }

    /// How it is set.
    pub fn flow(&self) -> Flow {
        *self.0.borrow()
    }
}

/// Tells whose connection from `client` to `listener` is: the switch of its owner, or none if nobody knows.
pub type Origin = Arc<dyn Fn(SocketAddr, SocketAddr) -> Option<Switch> + Send + Sync>;

/// A relay from a port of its own to one listener. Gone when dropped, with all its connections.
pub struct Link {
    port: Port,
    own: Switch,
    listens: watch::Receiver<bool>,
    task: JoinHandle<()>,
    /// Connections end when this goes.
    _life: watch::Sender<()>,
}

impl Link {
    /// A link to `target` on loopback, governed by `own` and, for each connection, by the switch of its origin.
    pub async fn to(target: u16, own: &Switch, origin: Origin) -> Result<Link> {
        let port = Port::reserve()?;
        let (listening, listens) = watch::channel(false);
        let (life, end) = watch::channel(());
        let (own, target) = (own.clone(), address(target));
        let relay = Relay {
            own: own.clone(),
            origin,
            target,
            end,
        };
        let task = tokio::spawn(serve(address(port.number()), relay, listening));
        let link = Link {
            port,
            own,
            listens,
            task,
            _life: life,
        };
        link.settled().await?;
        Ok(link)
    }

    /// Where clients connect to.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// Waits until its listener is there, or gone, as its switch says.
    pub async fn settled(&self) -> Result<()> {
        let mut listens = self.listens.clone();
        let wanted = self.own.flow() != Flow::Refused;
        let waited = listens.wait_for(|listens| *listens == wanted);
        tokio::time::timeout(PATIENCE, waited)
            .await
            .context(format!("the link's listener on {}", self.port()))?
            .context("the link's task")
            .map(drop)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What every connection of a link needs.
#[derive(Clone)]
struct Relay {
    own: Switch,
    origin: Origin,
    target: SocketAddr,
    end: watch::Receiver<()>,
}

async fn serve(address: SocketAddr, relay: Relay, listening: watch::Sender<bool>) {
    let mut own = relay.own.0.subscribe();
    while own.wait_for(|flow| *flow != Flow::Refused).await.is_ok() {
        let Ok(listener) = TcpListener::bind(address).await else {
            // An earlier connection's remains are in the way for a moment.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        listening.send_replace(true);
        tokio::select! {
            () = accept(&listener, &relay) => {}
            _ = own.wait_for(|flow| *flow == Flow::Refused) => {}
        }
        drop(listener);
        listening.send_replace(false);
    }
}

async fn accept(listener: &TcpListener, relay: &Relay) {
    while let Ok((client, from)) = listener.accept().await {
        let Ok(to) = client.local_addr() else {
            continue;
        };
        // At once: who it was is no longer to be seen when it has gone.
        let origin = (relay.origin)(from, to);
        let gate = Gate::of(&relay.own, origin.as_ref());
        let (target, mut end) = (relay.target, relay.end.clone());
        tokio::spawn(async move {
            tokio::select! {
                // Either side may go at any time.
                _ = pass(client, target, gate) => {}
                _ = end.changed() => {}
            }
        });
    }
}

async fn pass(client: TcpStream, target: SocketAddr, gate: Gate) -> std::io::Result<()> {
    let (mut here, mut there, mut cut) = (gate.clone(), gate.clone(), gate);
    let server = tokio::select! {
        server = connect(&mut here, target) => server,
        () = cut.refused() => return client.set_zero_linger(),
    };
    let server = match server {
        Ok(server) => server,
        // Nobody listens there: so it is to look from here.
        Err(_) => return client.set_zero_linger(),
    };
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let both = async {
        tokio::try_join!(
            carry(&mut from_client, &mut to_server, &mut here),
            carry(&mut from_server, &mut to_client, &mut there)
        )
    };
    let ended = tokio::select! {
        ended = both => ended.is_ok(),
        () = cut.refused() => false,
    };
    if !ended {
        // A reset on one side is a reset on the other.
        to_client.as_ref().set_zero_linger()?;
        to_server.as_ref().set_zero_linger()?;
    }
    Ok(())
}

async fn connect(gate: &mut Gate, target: SocketAddr) -> std::io::Result<TcpStream> {
    gate.open().await;
    TcpStream::connect(target).await
}

async fn carry(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    gate: &mut Gate,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 32 * 1024];
    loop {
        let read = from.read(&mut chunk).await?;
        gate.open().await;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(bytes).await?;
    }
}

/// What one connection waits for: both of its sides.
#[derive(Clone)]
struct Gate([watch::Receiver<Flow>; 2]);

impl Gate {
    fn of(own: &Switch, origin: Option<&Switch>) -> Gate {
        Gate([own, origin.unwrap_or(own)].map(|switch| switch.0.subscribe()))
    }

    /// Returns when both sides are open.
    async fn open(&mut self) {
        while self.0.iter().any(|side| *side.borrow() != Flow::Open) {
            for side in &mut self.0 {
                // A switch that is gone is never set again.
                let _ = side.wait_for(|flow| *flow == Flow::Open).await;
            }
        }
    }

    /// Returns when either side refuses.
    async fn refused(&mut self) {
        let [own, origin] = &mut self.0;
        tokio::select! {
            _ = own.wait_for(|flow| *flow == Flow::Refused) => {}
            _ = origin.wait_for(|flow| *flow == Flow::Refused) => {}
        }
    }
}

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
