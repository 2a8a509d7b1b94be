//! The bytes of a connection, each attributed to the process that wrote it.
//!
//! `SO_PEERCRED` names who connected; a descriptor can be handed on. So the kernel attaches the writer's credentials
//! to every message (`SO_PASSCRED`), they are read with each `recvmsg`, and bytes of another identity end the
//! connection before anything looks at them. `recvmsg` never mixes the bytes of two writers.

use std::{
    io::{self, IoSlice, IoSliceMut},
    os::fd::AsRawFd,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use arc_swap::ArcSwap;
use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::UnixStream,
    time::{Sleep, sleep},
};

use super::{
    SocketRules,
    limits::HeldSeat,
    line::RequestLine,
    peer::{PeerFacts, Process},
};

/// A connection whose every byte comes from its peer.
pub struct AttributedStream {
    inner: UnixStream,
    writers: Writers,
    control: Vec<u8>,
    line: RequestLine,
    /// Ends the connection while nothing of an answer is taken.
    stalled: Option<Pin<Box<Sleep>>>,
    /// The place of the connection, which is to know that its answers were sent.
    place: Arc<HeldSeat>,
}

/// An answer of which nothing is taken for this long is nobody's.
const UNREAD: Duration = Duration::from_secs(120);

/// The processes whose bytes a connection takes.
struct Writers {
    facts: Arc<PeerFacts>,
    first: Option<Process>,
    other: Option<Process>,
    rules: Arc<ArcSwap<SocketRules>>,
}

/// Why bytes are not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Unattributed {
    /// The kernel attached no credentials.
    #[error("bytes came without credentials")]
    NoCredentials,
    /// Their writer has ended, so nothing can be said of it.
    #[error("the writer of the bytes has ended")]
    Gone,
    /// Their writer is somebody else than the peer that connected.
    #[error("another identity wrote to the connection: a descriptor was passed on")]
    AnotherIdentity,
}

impl AttributedStream {
    /// Takes a connection over. `SO_PASSCRED` must be set on it before anything was read.
    pub fn new(
        inner: UnixStream,
        facts: Arc<PeerFacts>,
        process: Option<Process>,
        rules: Arc<ArcSwap<SocketRules>>,
        place: Arc<HeldSeat>,
    ) -> Self {
        Self {
            inner,
            place,
            writers: Writers {
                facts,
                first: process,
                other: None,
                rules,
            },
            line: RequestLine::default(),
            stalled: None,
            // Room for credentials alone: descriptors that a client sends do not fit, and are refused.
            control: nix::cmsg_space!(UnixCredentials),
        }
    }

    /// What came of writing, unless nobody has read for too long.
    fn written<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(UNREAD)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// The request line that arrived last.
    pub(crate) fn request_line(&self) -> RequestLine {
        self.line.clone()
    }
}

impl Writers {
    /// Takes bytes of the peer, or of another process with its identity.
    fn admit(&mut self, credentials: Option<UnixCredentials>) -> Result<(), Unattributed> {
        let credentials = credentials.ok_or(Unattributed::NoCredentials)?;
        let proved = |process: &Option<Process>| {
            process
                .as_ref()
                .is_some_and(|process| process.pid() == credentials.pid() && process.is_alive())
        };
        if proved(&self.first) {
            return Ok(());
        }
        if credentials.uid() != self.facts.uid {
            return Err(Unattributed::AnotherIdentity);
        }
        if proved(&self.other) {
            return Ok(());
        }
        let process = Process::open(credentials.pid()).map_err(|_| Unattributed::Gone)?;
        let facts = process
            .wrote(&credentials)
            .map_err(|error| match error.kind() {
                io::ErrorKind::PermissionDenied => Unattributed::AnotherIdentity,
                _ => Unattributed::Gone,
            })?;
        let matches = &self.rules.load().matches;
        let entries = |facts: &PeerFacts| facts.peer(matches).workloads;
        if facts.unit != self.facts.unit || entries(&facts) != entries(&self.facts) {
            return Err(Unattributed::AnotherIdentity);
        }
        self.other = Some(process);
        Ok(())
    }
}

impl AsyncRead for AttributedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            ready!(this.inner.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled();
            if room.is_empty() {
                return Poll::Ready(Ok(()));
            }
            let (inner, control) = (&this.inner, &mut this.control);
            // Readiness ends with WouldBlock alone: a short read may mean that the writer changed, and more
            // bytes wait for which no edge will come.
            let received = inner.try_io(Interest::READABLE, || receive(inner, room, control));
            match received {
                Ok((0, _)) => return Poll::Ready(Ok(())),
                Ok((length, credentials)) => {
                    if let Err(why) = this.writers.admit(credentials) {
                        tracing::warn!(uid = this.writers.facts.uid, %why, "connection closed");
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::PermissionDenied,
                            why,
                        )));
                    }
                    buf.advance(length);
                    let filled = buf.filled();
                    let arrived = filled.len().saturating_sub(length);
                    this.line.arrived(filled.get(arrived..).unwrap_or_default());
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

/// One `recvmsg`: how many bytes, and who wrote them.
fn receive(
    socket: &UnixStream,
    room: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, Option<UnixCredentials>)> {
    let mut parts = [IoSliceMut::new(room)];
    let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    let received = loop {
        match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut *control), flags) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let length = received.bytes;
    // What does not fit into the control buffer are descriptors: no client of ours has a reason to send any.
    let credentials = received.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmCredentials(credentials) => Some(credentials),
        _ => None,
    });
    Ok((length, credentials))
}

impl AsyncWrite for AttributedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.answered();
        let written = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.written(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.answered();
        let written = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.written(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.place.was_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
