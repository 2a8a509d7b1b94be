//! Bodies: whole in memory where an answer may have to be replaced, streamed where not; and what marks their end.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, header::TRANSFER_ENCODING, response::Parts};
use http_body_util::BodyExt;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use shared::share::{Sharer, Total, amounts::Short};
use tokio::time::{Sleep, sleep};
use zeroize::Zeroizing;

use super::{
    lent::LentBody,
    nesting::Nesting,
    passed::Passed,
    room::{BodyRoom, Rooms},
};

/// A streamed body may pause for this long before it counts as dead.
const PAUSE: Duration = Duration::from_secs(120);

/// What all answers that are in memory at once may take, in bytes.
pub(crate) const ANSWERS: u64 = 64 << 20;

/// The largest answer that is not counted until it was sent, in bytes.
pub(crate) const SMALL: usize = 8 * 1024;

/// The least that is asked of the allocator for a body, in bytes.
const LEAST: usize = 1024;

/// A body on its way to the primary or to a client.
pub(crate) enum RelayBody {
    /// All of it, as its framing says.
    Whole(Bytes),
    /// As it comes; also what is here to its end, if its framing does not say that this is the end.
    Streamed(Streamed),
    /// A streamed one that may come back.
    Lent(LentBody),
}

/// A body on its way in, which ends with an error where it may have been cut.
pub(crate) struct Arriving {
    incoming: Incoming,
    end: End,
}

/// What marks the end of a body.
enum End {
    /// Its length or its last chunk: of these hyper sees that they are missing.
    Framing,
    /// The end of the connection, which comes as well where a sender dies in the middle, or a balancer loses its server.
    /// It counts as the end only of a whole document.
    Connection(Nesting),
}

/// A body of which a part was read already.
pub(crate) struct Streamed {
    first: Bytes,
    rest: Arriving,
    pausing: Option<Pin<Box<Sleep>>>,
    /// What is taken until it has ended.
    place: Option<Box<BodyRoom>>,
    /// Where it is said what of it has gone out.
    passed: Option<Passed>,
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// Its sender went, or sent nonsense.
    #[error("the body ended early: {0}")]
    Broken(#[from] hyper::Error),
    /// Nothing of it came for [`PAUSE`].
    #[error("the body stalled")]
    Stalled,
    /// Its connection ended, which does not say that it is whole.
    #[error("the body has no marked end, and may have been cut")]
    Unmarked,
    /// It is longer than can be measured.
    #[error("length limit exceeded")]
    TooLong,
    /// There is no room for more of it.
    #[error("there is no room for the body")]
    NoRoom(Short),
}

impl Arriving {
    /// The body of a request: without a length and without chunks it would have none.
    pub(crate) fn request(incoming: Incoming) -> Self {
        let end = End::Framing;
        Self { incoming, end }
    }

    /// The body of an answer, which may end with its connection.
    pub(crate) fn answer(parts: &Parts, incoming: Incoming) -> Self {
        let is_framed = incoming.size_hint().exact().is_some() || is_chunked(&parts.headers);
        let end = match is_framed {
            true => End::Framing,
            false => End::Connection(Nesting::Before),
        };
        Self { incoming, end }
    }

    /// What was read of it, once it has ended.
    fn ended(self, read: Bytes) -> RelayBody {
        match self.end {
            End::Framing => RelayBody::Whole(read),
            End::Connection(_) => RelayBody::with_first(read, self),
        }
    }
}

/// Whether chunks are the outermost encoding: what is not read as such ends with its connection.
fn is_chunked(headers: &HeaderMap) -> bool {
    let encodings = headers.get_all(TRANSFER_ENCODING).into_iter().next_back();
    let outermost = encodings
        .and_then(|encodings| encodings.to_str().ok())
        .and_then(|encodings| encodings.rsplit(',').next());
    outermost.is_some_and(|encoding| encoding.trim().eq_ignore_ascii_case("chunked"))
}

impl RelayBody {
    /// None at all.
    pub(crate) const EMPTY: Self = Self::Whole(Bytes::new());

    /// A secret one, wiped once it was sent.
    pub(crate) fn secret(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self::Whole(Bytes::from_owner(bytes))
    }

    /// One of which nothing was read.
    pub(crate) fn streamed(rest: Arriving) -> Self {
        Self::with_first(Bytes::new(), rest)
    }

    /// One of which the first part is waited for.
    pub(crate) async fn begun(mut incoming: Arriving) -> Result<Self, BodyError> {
        let first = match incoming.frame().await {
            Some(frame) => frame?.into_data().unwrap_or_default(),
            None => Bytes::new(),
        };
        Ok(Self::with_first(first, incoming))
    }

    /// What of it is here.
    pub(crate) fn head(&self) -> &[u8] {
        match self {
            Self::Whole(bytes) => bytes,
            Self::Streamed(streamed) => &streamed.first,
            Self::Lent(_) => &[],
        }
    }

    /// The rest of it, where nothing was read yet.
    ///
    /// # Errors
    /// Itself, if something was.
    pub(crate) fn into_unread(self) -> Result<Arriving, Self> {
        match self {
            Self::Streamed(streamed) if streamed.first.is_empty() => Ok(streamed.rest),
            other => Err(other),
        }
    }

    fn with_first(first: Bytes, rest: Arriving) -> Self {
        Self::Streamed(Streamed {
            first,
            rest,
            pausing: None,
            place: None,
            passed: None,
        })
    }

    /// What of it will have gone out.
    pub(crate) fn passing(&mut self) -> Passed {
        match self {
            Self::Streamed(streamed) => streamed.passed.insert(Passed::nothing()).clone(),
            Self::Whole(_) | Self::Lent(_) => Passed::whole(),
        }
    }

    /// It, with a place that is taken until all of it has come.
    pub(crate) fn in_place(mut self, place: BodyRoom) -> Self {
        if let Self::Streamed(streamed) = &mut self {
            streamed.place = Some(Box::new(place));
        }
        self
    }

    /// One that is whole and not small, with a place that is taken until it was sent.
    pub(crate) fn whole_in_place(self, place: BodyRoom) -> Self {
        match self {
            Self::Whole(bytes) if bytes.len() > SMALL => Self::Whole(place.keep(bytes)),
            other => other.in_place(place),
        }
    }

    /// All of it in `room`, at most `limit` bytes.
    ///
    /// # Errors
    /// If it is longer or breaks off, or there is no room for it.
    pub(crate) async fn gathered(
        mut self,
        limit: usize,
        room: BodyRoom,
    ) -> Result<Bytes, BodyError> {
        let mut read = Gathered::new(None, Some(room));
        while let Some(frame) = self.frame().await {
            let came = frame?.into_data().unwrap_or_default();
            if read.bytes.len() + came.len() > limit {
                return Err(BodyError::TooLong);
            }
            read.add(&came).map_err(BodyError::NoRoom)?;
        }
        Ok(read.finish())
    }

    /// Reads at most `limit` bytes ahead: whole if that is all, else streamed with what was read at its head.
    pub(crate) async fn read_ahead(incoming: Arriving, limit: usize) -> Result<Self, BodyError> {
        Self::read(incoming, limit, None).await.0
    }

    /// The same in `room`, which is taken as the bytes come; streamed if it is too little.
    pub(crate) async fn read_as_room(
        incoming: Arriving,
        limit: usize,
        room: BodyRoom,
    ) -> Result<Self, BodyError> {
        Self::read(incoming, limit, Some(room)).await.0
    }

    /// The same in `room`, or not at all.
    ///
    /// # Errors
    /// [`BodyError::NoRoom`] if it is too little; what was read is dropped.
    pub(crate) async fn read_within(
        incoming: Arriving,
        limit: usize,
        room: BodyRoom,
    ) -> Result<Self, BodyError> {
        match Self::read(incoming, limit, Some(room)).await {
            (Ok(_), Some(short)) => Err(BodyError::NoRoom(short)),
            (read, _) => read,
        }
    }

    /// Reads ahead until there is no more, or no more room: why not is returned beside it.
    async fn read(
        mut incoming: Arriving,
        limit: usize,
        room: Option<BodyRoom>,
    ) -> (Result<Self, BodyError>, Option<Short>) {
        let hint = incoming.size_hint();
        if hint.lower() > limit as u64 {
            return (Ok(Self::streamed(incoming)), None);
        }
        let expected = hint.exact().and_then(|size| usize::try_from(size).ok());
        let mut read = Gathered::new(expected, room);
        while let Some(frame) = incoming.frame().await {
            // Trailers say nothing that this API has.
            let came = match frame {
                Ok(frame) => frame.into_data().unwrap_or_default(),
                Err(error) => return (Err(error), None),
            };
            let short = read.add(&came).err();
            if short.is_some() || read.bytes.len() > limit {
                return (Ok(Self::with_first(read.finish(), incoming)), short);
            }
        }
        (Ok(incoming.ended(read.finish())), None)
    }

    /// The bytes, if all of them are here and their framing says so.
    pub(crate) fn whole(&self) -> Option<&Bytes> {
        match self {
            Self::Whole(bytes) => Some(bytes),
            Self::Streamed(_) | Self::Lent(_) => None,
        }
    }
}

/// What was read of a body.
struct Gathered {
    bytes: BytesMut,
    expected: Option<usize>,
    room: Option<BodyRoom>,
}

impl Gathered {
    fn new(expected: Option<usize>, room: Option<BodyRoom>) -> Self {
        Self {
            bytes: BytesMut::new(),
            expected,
            room,
        }
    }

    /// Adds what came, with what it takes in memory. So a length that is only announced takes nothing.
    ///
    /// # Errors
    /// If there is no room for it; it is added all the same.
    fn add(&mut self, came: &[u8]) -> Result<(), Short> {
        let needed = self.bytes.len() + came.len();
        let mut room = Ok(());
        if needed > self.bytes.capacity() {
            let doubled = self.bytes.capacity().saturating_mul(2).max(LEAST);
            let wanted = needed.max(doubled.min(self.expected.unwrap_or(usize::MAX)));
            room = self
                .room
                .as_mut()
                .map_or(Ok(()), |room| room.grow_to(wanted));
            self.bytes.reserve(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(came);
        room
    }

    fn finish(self) -> Bytes {
        let bytes = self.bytes.freeze();
        match self.room {
            Some(room) => room.keep(bytes),
            None => bytes,
        }
    }
}

/// The room for answers that are in memory. What finds none streams: it is served, but not replaced if it breaks.
#[derive(Clone, Default)]
pub(crate) struct Buffers(Rooms);

impl Buffers {
    /// Room for an answer to `by`.
    pub(crate) fn room(&self, by: impl Into<Sharer>, total: Total) -> BodyRoom {
        self.0.room(by, total)
    }

    /// Puts an answer that is whole already into a room for it.
    ///
    /// # Errors
    /// If there is none.
    pub(crate) fn put(
        &self,
        answer: Bytes,
        by: impl Into<Sharer>,
        total: Total,
    ) -> Result<Bytes, Short> {
        let mut room = self.room(by, total);
        room.grow_to(answer.len())?;
        Ok(room.keep(answer))
    }

    /// Bytes of answers that are in memory.
    pub(crate) fn taken(&self) -> u64 {
        self.0.taken()
    }
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.incoming).poll_frame(cx)).transpose()?;
        let End::Connection(nesting) = &mut this.end else {
            return Poll::Ready(frame.map(Ok));
        };
        match &frame {
            Some(frame) => {
                let came = frame.data_ref().map_or(&[][..], Bytes::as_ref);
                *nesting = nesting.behind(came);
            }
            None if *nesting == Nesting::Closed => {}
            None => return Poll::Ready(Some(Err(BodyError::Unmarked))),
        }
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl HttpBody for RelayBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        match self.get_mut() {
            Self::Whole(bytes) => Poll::Ready(take(bytes).map(Ok)),
            Self::Streamed(streamed) => streamed.poll(cx),
            Self::Lent(lent) => lent.poll(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Streamed(streamed) => streamed.first.is_empty() && streamed.rest.is_end_stream(),
            Self::Lent(lent) => lent.is_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Streamed(streamed) => {
                let ahead = streamed.first.len() as u64;
                let mut hint = streamed.rest.size_hint();
                if let Some(upper) = hint.upper() {
                    hint.set_upper(upper.saturating_add(ahead));
                }
                hint.set_lower(hint.lower().saturating_add(ahead));
                hint
            }
            Self::Lent(lent) => lent.size(),
        }
    }
}

impl Streamed {
    fn poll(&mut self, cx: &mut Context<'_>) -> Polled {
        let polled = self.poll_next(cx);
        match (&self.passed, &polled) {
            (Some(passed), Poll::Ready(Some(Ok(frame)))) => {
                passed.pass(frame.data_ref().map_or(&[][..], Bytes::as_ref));
            }
            (Some(passed), Poll::Ready(None)) => passed.end(),
            _ => {}
        }
        polled
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Polled {
        if let Some(frame) = take(&mut self.first) {
            return Poll::Ready(Some(Ok(frame)));
        }
        match Pin::new(&mut self.rest).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.pausing = None;
                Poll::Ready(frame)
            }
            Poll::Pending => {
                let pausing = self.pausing.get_or_insert_with(|| Box::pin(sleep(PAUSE)));
                pausing
                    .as_mut()
                    .poll(cx)
                    .map(|()| Some(Err(BodyError::Stalled)))
            }
        }
    }
}

fn take(bytes: &mut Bytes) -> Option<Frame<Bytes>> {
    (!bytes.is_empty()).then(|| Frame::data(std::mem::take(bytes)))
}
