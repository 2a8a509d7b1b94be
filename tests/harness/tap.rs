//! A wire between Holdover and the primary that keeps what passes over it, and can be cut, choked or garbled.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::failure::{Context, Failure, Result};
use crate::port::Port;

/// What becomes of the bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wire {
    /// They arrive.
    Whole,
    /// Connections, those that stand included, are closed at once.
    Cut,
    /// Connections stay open and nothing arrives, either way.
    Silent,
    /// Connections are answered with something that is neither TLS nor HTTP, and closed.
    Garbled,
    /// Requests arrive; where an answer should come, the connection is closed.
    Unanswered,
    /// Requests arrive; the answer breaks off after this many bytes.
    Truncated(usize),
}

/// What becomes of the answers to some requests, while all others pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Loss {
    /// The connection is closed in place of the answer.
    Closed,
    /// The answer waits on the wire until nothing is lost any more.
    Held,
}

/// The wire. Gone when dropped.
pub struct Tap {
    port: Port,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

struct Shared {
    target: String,
    wire: watch::Sender<Wire>,
    sent: Mutex<Vec<Vec<u8>>>,
    received: Mutex<Vec<Vec<u8>>>,
    answers: AtomicUsize,
    lies: Mutex<Vec<Lie>>,
    losses: watch::Sender<Vec<(Vec<u8>, Loss)>>,
}

/// What the primary says, and what arrives in its place: of the same length, so that nothing around it changes.
#[derive(Clone)]
struct Lie {
    said: Vec<u8>,
    told: Vec<u8>,
}

impl Tap {
    /// Listens on a port of its own for connections to `target`, `address:port`.
    pub async fn to(target: &str) -> Result<Tap> {
        let port = Port::reserve()?;
        let listener = TcpListener::bind(("127.0.0.1", port.number()))
            .await
            .context("the wire's listener")?;
        let shared = Arc::new(Shared {
            target: target.to_owned(),
            wire: watch::Sender::new(Wire::Whole),
            sent: Mutex::default(),
            received: Mutex::default(),
            answers: AtomicUsize::new(0),
            lies: Mutex::default(),
            losses: watch::Sender::default(),
        });
        let task = tokio::spawn(serve(listener, shared.clone()));
        Ok(Tap { port, shared, task })
    }

    /// Where Holdover is to connect to: `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port.number())
    }

    /// Changes what becomes of the bytes, on connections that stand too.
    pub fn set(&self, wire: Wire) {
        self.shared.wire.send_replace(wire);
    }

    /// Has `told` arrive wherever the primary says `said`, which is of the same length. Over TLS neither is ever seen.
    pub fn lie(&self, said: &str, told: &str) -> Result<()> {
        if said.len() != told.len() || said.is_empty() {
            return Err(Failure::new("a lie is as long as the truth"));
        }
        let (said, told) = (said.as_bytes().to_vec(), told.as_bytes().to_vec());
        lock(&self.shared.lies).push(Lie { said, told });
        Ok(())
    }

    /// Ends all lies.
    pub fn tell_the_truth(&self) {
        lock(&self.shared.lies).clear();
    }

    /// Loses the answer to each request from now on that has `part` in its first bytes. It is carried out all the same. Over
    /// TLS no part of a request is ever seen.
    pub fn lose(&self, part: &str, loss: Loss) {
        let part = part.as_bytes().to_vec();
        self.shared
            .losses
            .send_modify(|losses| losses.push((part, loss)));
    }

    /// Ends all losses: what was held arrives.
    pub fn lose_nothing(&self) {
        self.shared.losses.send_replace(Vec::new());
    }

    /// How often Holdover sent a request with `part` in it.
    pub fn times_sent(&self, part: &str) -> usize {
        let sent = lock(&self.shared.sent);
        let found = sent
            .iter()
            .map(|bytes| String::from_utf8_lossy(bytes).matches(part).count());
        found.sum()
    }

    /// What Holdover sent, by connection.
    pub fn sent(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.sent).clone()
    }

    /// What the primary answered, by connection.
    pub fn received(&self) -> Vec<Vec<u8>> {
        lock(&self.shared.received).clone()
    }

    /// How many answers broke off, or never came, because of the wire.
    pub fn broken(&self) -> usize {
        self.shared.answers.load(Ordering::SeqCst)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.task.abort();
        self.set(Wire::Cut);
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let shared = shared.clone();
        // Either side may go at any time: that is what the wire is for.
        tokio::spawn(async move { drop(pass(client, &shared).await) });
    }
}

async fn pass(mut client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let wire = shared.wire.subscribe();
    let now = *shared.wire.borrow();
    match now {
        Wire::Cut => return Ok(()),
        Wire::Garbled => return client.write_all(b"420 such is life\r\n\r\n").await,
        _ => {}
    }
    let server = TcpStream::connect(&shared.target).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let nr = {
        lock(&shared.received).push(Vec::new());
        let mut sent = lock(&shared.sent);
        sent.push(Vec::new());
        sent.len() - 1
    };
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
        (client.split(), server.into_split());
    let (there, back) = (shared.wire.subscribe(), shared.wire.subscribe());
    let lost = Mutex::new(None);
    tokio::select! {
        end = requests(&mut from_client, &mut to_server, there, shared, (nr, &lost)) => end,
        end = answers(&mut from_server, &mut to_client, back, shared, (nr, &lost)) => end,
        () = cut(wire) => Ok(()),
    }
}

async fn requests(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut wire: watch::Receiver<Wire>,
    shared: &Shared,
    (nr, lost): (usize, &Mutex<Option<Loss>>),
) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut chunk).await?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        // Silence ends when the wire changes; what was sent meanwhile arrives then.
        let _ = wire.wait_for(|wire| *wire != Wire::Silent).await;
        keep(&shared.sent, nr, bytes);
        shared.choose(bytes, lost);
        to.write_all(bytes).await?;
    }
}

async fn answers(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    mut wire: watch::Receiver<Wire>,
    shared: &Shared,
    (nr, lost): (usize, &Mutex<Option<Loss>>),
) -> std::io::Result<()> {
    let mut chunk = vec![0; 16 * 1024];
    let mut held: Vec<u8> = Vec::new();
    loop {
        let read = from.read(&mut chunk).await?;
        let bytes = chunk.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(());
        }
        let _ = wire.wait_for(|wire| *wire != Wire::Silent).await;
        let loss = *lock(lost);
        match loss {
            Some(Loss::Closed) => {
                shared.answers.fetch_add(1, Ordering::SeqCst);
                return Ok(());
            }
            Some(Loss::Held) => {
                shared.answers.fetch_add(1, Ordering::SeqCst);
                let mut losses = shared.losses.subscribe();
                let _ = losses.wait_for(Vec::is_empty).await;
            }
            None => {}
        }
        let whole = match *wire.borrow() {
            Wire::Unanswered => Some(0),
            Wire::Truncated(length) => Some(length),
            _ => None,
        };
        if let Some(length) = whole {
            shared.answers.fetch_add(1, Ordering::SeqCst);
            return to.write_all(bytes.get(..length).unwrap_or(bytes)).await;
        }
        keep(&shared.received, nr, bytes);
        held.extend_from_slice(bytes);
        let waits = {
            let lies = lock(&shared.lies);
            lies.iter().for_each(|lie| lie.put_in(&mut held));
            lies.iter().map(|lie| lie.begun(&held)).max()
        };
        let ready = held.len() - waits.unwrap_or(0);
        to.write_all(held.get(..ready).unwrap_or_default()).await?;
        held.drain(..ready);
    }
}

impl Shared {
    /// What becomes of the answer to a request that begins with these bytes. The rest of one changes nothing of that.
    fn choose(&self, bytes: &[u8], lost: &Mutex<Option<Loss>>) {
        let begins = bytes
            .split(|byte| *byte == b'\r')
            .next()
            .is_some_and(|line| line.ends_with(b" HTTP/1.1"));
        if begins {
            let has = |part: &[u8]| bytes.windows(part.len()).any(|found| found == part);
            let losses = self.losses.borrow();
            let loss = losses.iter().find(|(part, _)| has(part));
            *lock(lost) = loss.map(|(_, loss)| *loss);
        }
    }
}

impl Lie {
    fn put_in(&self, text: &mut [u8]) {
        let length = self.said.len();
        let mut at = 0;
        while let Some(window) = text.get_mut(at..at + length) {
            if window == self.said {
                window.copy_from_slice(&self.told);
            }
            at += 1;
        }
    }

    /// How much of the end of `text` may be the beginning of what is to be replaced: it waits for more.
    fn begun(&self, text: &[u8]) -> usize {
        let longest = (self.said.len() - 1).min(text.len());
        let begun = (1..=longest).rev();
        let is_begun = |count: &usize| text.ends_with(self.said.get(..*count).unwrap_or_default());
        begun.into_iter().find(is_begun).unwrap_or(0)
    }
}

async fn cut(mut wire: watch::Receiver<Wire>) {
    let _ = wire
        .wait_for(|wire| matches!(wire, Wire::Cut | Wire::Garbled))
        .await;
}

fn keep(all: &Mutex<Vec<Vec<u8>>>, nr: usize, bytes: &[u8]) {
    if let Some(connection) = lock(all).get_mut(nr) {
        connection.extend_from_slice(bytes);
    }
}

fn lock<T>(all: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    all.lock().unwrap_or_else(PoisonError::into_inner)
}
