//! Connections from the kernel's queue to their attestation.
//!
//! The kernel's queue is one for everybody, and once it is full, whoever comes is refused. To connect takes less time than to
//! attest who did. So one thread does nothing but empty the queue: it sleeps most of the time, and runs at once when it has to,
//! however busy the runtimes are. Those whom it took out wait by user, in [`Turns`], for another thread that attests them: who
//! comes in a crowd waits for that crowd, and nobody else does.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::{UnixListener, UnixStream},
    },
    sync::Arc,
    thread,
    time::Duration,
};

use parking_lot::{Condvar, Mutex};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{RecvFlags, SocketFlags, accept_with, recv},
};
use shared::share::turns::Turns;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{
    Server,
    connection::{Admitted, Unserved},
    limits::Exceeded,
    peer::{self, Queue, Stranger},
};

/// Connections that are told at once that there are too many; others are closed.
const REFUSALS: usize = 32;

/// Connections that are taken from the kernel's queue before it is seen whether to stop.
const AT_ONCE: usize = 4096;

/// How often somebody is looked at, at most, while descriptors have run out.
const LOOKS: usize = 20;

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
            server,
            waiting: Closing(waiting),
            queue: Queue::Unknown,
        };
        let thread = |name: &str| thread::Builder::new().name(name.to_owned());
        thread("holdover-attest").spawn(move || attesting.go_on())?;
        thread("holdover-accept").spawn(move || accepting.keep())?;
        Ok(Self {
            arriving,
            open: Some(open),
        })
    }

    /// The next one. Not more of them wait than there are places, and those to be told that there is none.
    pub(super) async fn next(&mut self) -> Option<Arrival> {
        self.arriving.recv().await
    }

    /// Takes no more from the kernel's queue. Those that were taken still come.
    pub(super) fn close(&mut self) {
        self.open = None;
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
    turns: Turns<(UnixStream, Stranger)>,
    is_closed: bool,
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

    /// Takes what is there out of the kernel's queue; not for ever, though more may come all the time.
    fn empty_queue(&mut self) -> io::Result<()> {
        for _ in 0..AT_ONCE {
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
        let (uid, room) = (stranger.uid(), self.server.room());
        let newcomer = (stream, stranger);
        let gone = self.waiting.0.line.lock().turns.wait(uid, newcomer, room);
        self.waiting.0.came.notify_one();
        // Closed without the lock.
        drop(gone);
    }
}

impl Server {
    /// What comes of looking at somebody. Where descriptors have run out for that, idle connections end, so that there are some:
    /// whoever came must not go for want of them. Blocks for a moment then.
    pub(super) fn with_descriptors<T>(&self, look: impl Fn() -> io::Result<T>) -> io::Result<T> {
        for _ in 0..LOOKS {
            match look() {
                Err(error) if peer::is_exhausted(&error) => {
                    ready(&[], Some(self.not_accepted(&error)));
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
            Ok(admitted) => self.hand(stream, Ok(admitted), None),
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
