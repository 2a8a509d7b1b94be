//! Connections from the kernel's queue to their attestation.
//!
//! The kernel's queue is one for everybody, and once it is full, whoever comes is refused. To connect takes less time than to
//! attest who did. So one thread does nothing but empty the queue: it sleeps most of the time, and runs at once when it has to,
//! however busy the runtimes are. Those whom it took out wait by user and process, in [`Turns`], for another thread that attests
//! them: who comes in a crowd waits for that crowd, and nobody else does.

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::{Arc, atomic::Ordering},
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SocketFlags, accept_with, recv},
};
use shared::share::turns::{Comer, Room, Turns};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    ACCEPT_AGAIN, Server,
    connection::{Admitted, Unserved},
    limits::Exceeded,
    peer::{self, Queue, Stranger},
};

/// Connections that are told at once that there are too many; others are closed.
const REFUSALS: usize = 32;

/// How often somebody is looked at, at most, while descriptors have run out.
const LOOKS: usize = 20;

/// Users that workloads were seen to run as, of whom those seen last are remembered.
const EXPECTED: usize = 256;

/// A connection that was attested.
pub(super) struct Arrival {
    /// It, not blocking.
    pub(super) stream: UnixStream,
    /// Who it is, and its place, or why it has none.
    pub(super) admitted: Result<Admitted, Exceeded>,
    /// The right to be told why, where it has none.
    _refusal: Option<OwnedSemaphorePermit>,
}

/// Where connections come in. Closed when it is dropped.
pub(super) struct Arrivals {
    arriving: mpsc::UnboundedReceiver<Arrival>,
    open: Option<UnixStream>,
    server: Arc<Server>,
}

impl Arrivals {
    /// Starts the threads that let them in.
    ///
    /// # Errors
    /// If there can be none.
    pub(super) fn open(listener: &UnixListener, server: Arc<Server>) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (open, closed) = UnixStream::pair()?;
        let (hand, arriving) = mpsc::unbounded_channel();
        let waiting = Arc::new(Waiting::default());
        let attesting = Attesting {
            server: server.clone(),
            waiting: waiting.clone(),
            refusals: Arc::new(Semaphore::new(REFUSALS)),
            hand,
        };
        let accepting = AcceptThread {
            listener: listener.try_clone()?,
            closed,
            server: server.clone(),
            waiting: Closing(waiting),
            queue: Queue::Unknown,
        };
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        thread("holdover-attest").spawn(move || attesting.go_on())?;
        thread("holdover-accept").spawn(move || accepting.keep())?;
        Ok(Self {
            arriving,
            open: Some(open),
            server,
        })
    }

    /// The next one; none once no more can come. Not more of them wait than there are places, and those to be told that there is
    /// none.
    pub(super) async fn next(&mut self) -> Option<Arrival> {
        self.arriving.recv().await
    }

    /// Takes no more from the kernel's queue. Those that were taken still come.
    pub(super) fn close(&mut self) {
        self.server.is_closing.store(true, Ordering::Release);
        self.open = None;
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.close();
    }
}

/// Those who wait for their attestation.
#[derive(Default)]
struct Waiting {
    line: Mutex<WaitingLine>,
    came: Condvar,
}

#[derive(Default)]
struct WaitingLine {
    turns: Turns<Newcomer>,
    expected: Expected,
    is_closed: bool,
}

/// Somebody whom nobody has looked at.
type Newcomer = (UnixStream, Stranger);

/// Users that workloads were seen to run as, the one seen last at the end: an entry need not name any.
#[derive(Default)]
struct Expected(VecDeque<u32>);

impl Expected {
    fn seen(&mut self, uid: u32) {
        self.0.retain(|other| *other != uid);
        if self.0.len() >= EXPECTED {
            self.0.pop_front();
        }
        self.0.push_back(uid);
    }

    fn has(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }
}

impl WaitingLine {
    /// `newcomer` waits; `is_named` if an entry names its user. Who has to go is returned.
    fn wait(&mut self, is_named: bool, newcomer: Newcomer, room: Room) -> Option<Newcomer> {
        let uid = newcomer.1.uid();
        let comer = Comer {
            expected: is_named || self.expected.has(uid),
            uid,
            pid: newcomer.1.pid(),
        };
        self.turns.wait(comer, newcomer, room)
    }
}

impl Waiting {
    /// Whose turn it is, once there is somebody; nobody comes any more once none is accepted and all have had theirs.
    fn next(&self) -> Option<(UnixStream, Stranger)> {
        let mut line = self.line.lock();
        loop {
            match line.turns.take() {
                None if !line.is_closed => self.came.wait(&mut line),
                next => return next,
            }
        }
    }
}

/// Says that nobody comes any more, when it is dropped.
struct Closing(Arc<Waiting>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.line.lock().is_closed = true;
        self.0.came.notify_one();
    }
}

/// The thread that lets connections in.
struct AcceptThread {
    listener: UnixListener,
    /// Its other end is dropped to have it stop.
    closed: UnixStream,
    server: Arc<Server>,
    waiting: Closing,
    queue: Queue,
}

impl AcceptThread {
    fn keep(mut self) {
        while self.is_open() {
            if let Err(error) = self.empty_queue() {
                self.queue = Queue::Unknown;
                let again = self.server.not_accepted(&error);
                ready(&[self.closed.as_fd()], Some(again));
            }
        }
    }

    /// Waits for connections, or until it is to stop; whether it goes on.
    fn is_open(&self) -> bool {
        let closed = self.closed.as_fd();
        ready(&[closed, self.listener.as_fd()], None);
        !ready(&[closed], Some(Duration::ZERO))
    }

    /// Takes what is there out of the kernel's queue, until it is to stop, though more may come all the time.
    fn empty_queue(&mut self) -> io::Result<()> {
        while !self.server.is_closing() {
            // What makes room for whoever is looked at is not for another one to come in by.
            drop(self.server.short.lock());
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match accept_with(&self.listener, flags) {
                Ok(socket) => self.waits(socket.into()),
                Err(Errno::AGAIN) => {
                    self.queue = Queue::SeenEmpty;
                    break;
                }
                Err(Errno::INTR | Errno::CONNABORTED) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn waits(&mut self, stream: UnixStream) {
        if has_gone(stream.as_fd()) {
            return;
        }
        let met = || peer::meet(stream.as_fd(), self.queue);
        let stranger = match self.server.with_descriptors(met) {
            Ok(stranger) => stranger,
            Err(error) => return unknown(&error),
        };
        let room = self.server.room();
        let names = self.server.names_user(stranger.uid());
        let gone = self
            .waiting
            .0
            .line
            .lock()
            .wait(names, (stream, stranger), room);
        self.waiting.0.came.notify_one();
        // Closed without the lock.
        drop(gone);
    }
}

impl Server {
    /// Whether no more connections are taken.
    fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }

    /// What comes of looking at somebody. Where descriptors have run out for that, idle connections end, so that there are some:
    /// whoever came must not go for want of them, and nobody is let in meanwhile. Blocks for a moment then, unless everybody is
    /// about to go.
    pub(super) fn with_descriptors<T>(&self, look: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match look() {
            Err(error) if peer::is_exhausted(&error) => {}
            seen => return seen,
        }
        let _short = self.short.lock();
        for nr in 0..LOOKS {
            match look() {
                Err(error) if peer::is_exhausted(&error) && !self.is_closing() => {
                    let soon = self.not_accepted(&error);
                    // On a busy machine whoever has to go takes its time: more and more of it, or all would have to.
                    let pause = soon.saturating_mul(1 << nr.min(6)).min(ACCEPT_AGAIN);
                    ready(&[], Some(pause));
                }
                seen => return seen,
            }
        }
        look()
    }
}

/// The thread that attests who came.
struct Attesting {
    server: Arc<Server>,
    waiting: Arc<Waiting>,
    refusals: Arc<Semaphore>,
    hand: mpsc::UnboundedSender<Arrival>,
}

impl Attesting {
    fn go_on(self) {
        while let Some((stream, stranger)) = self.waiting.next() {
            if !has_gone(stream.as_fd()) {
                self.attest(stream, stranger);
            }
        }
    }

    fn attest(&self, stream: UnixStream, stranger: Stranger) {
        match self.server.admit(stream.as_fd(), stranger) {
            Ok(admitted) => {
                if let Some(uid) = admitted.workloads_user() {
                    self.waiting.line.lock().expected.seen(uid);
                }
                self.hand(stream, Ok(admitted), None);
            }
            Err(Unserved::Exceeded(limit)) => {
                if let Ok(refusal) = self.refusals.clone().try_acquire_owned() {
                    self.hand(stream, Err(limit), Some(refusal));
                }
            }
            Err(Unserved::Unknown(error)) => unknown(&error),
        }
    }

    fn hand(
        &self,
        stream: UnixStream,
        admitted: Result<Admitted, Exceeded>,
        refusal: Option<OwnedSemaphorePermit>,
    ) {
        // Nobody takes it once the server has ended.
        let _ = self.hand.send(Arrival {
            stream,
            admitted,
            _refusal: refusal,
        });
    }
}

fn unknown(error: &io::Error) {
    tracing::debug!(%error, "a connection was closed: nothing is known of its peer");
}

/// Whether whoever connected has said nothing and will say nothing. What it said is left to be read.
fn has_gone(socket: BorrowedFd<'_>) -> bool {
    let looks = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    matches!(recv(socket, &mut [0; 1], looks), Ok((_, 0)))
}

/// Waits until one of `sockets` can be read or was closed, at most `pause`; whether one is.
fn ready(sockets: &[BorrowedFd<'_>], pause: Option<Duration>) -> bool {
    let polled = sockets.iter().map(|socket| (*socket, PollFlags::IN));
    let mut polled: Vec<PollFd<'_>> = polled
        .map(|(socket, flags)| PollFd::from_borrowed_fd(socket, flags))
        .collect();
    let pause = pause.and_then(|pause| Timespec::try_from(pause).ok());
    matches!(poll(&mut polled, pause.as_ref()), Ok(1..))
}
