//! A streamed body that comes back where nothing of it was taken, so that it can go to the next address.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use parking_lot::Mutex;

use super::body::{BodyError, RelayBody};

/// The sender's half: a body like any other.
pub(crate) struct LentBody(Arc<Mutex<Loan>>);

/// The half that stays.
pub(crate) struct Lent(Arc<Mutex<Loan>>);

struct Loan {
    body: Box<RelayBody>,
    taken: bool,
}

impl Lent {
    /// Lends `body` out.
    pub(crate) fn out(body: RelayBody) -> (RelayBody, Self) {
        let loan = Arc::new(Mutex::new(Loan {
            body: Box::new(body),
            taken: false,
        }));
        (RelayBody::Lent(LentBody(Arc::clone(&loan))), Self(loan))
    }

    /// The same body once more, if nothing of it was taken.
    pub(crate) fn again(&self) -> Option<RelayBody> {
        let untouched = !self.0.lock().taken;
        untouched.then(|| RelayBody::Lent(LentBody(Arc::clone(&self.0))))
    }
}

impl LentBody {
    pub(crate) fn poll(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let loan = &mut *self.0.lock();
        let polled = Pin::new(&mut *loan.body).poll_frame(cx);
        // Waiting for the first bytes takes nothing.
        loan.taken |= polled.is_ready();
        polled
    }

    pub(crate) fn is_ended(&self) -> bool {
        self.0.lock().body.is_end_stream()
    }

    pub(crate) fn size(&self) -> SizeHint {
        self.0.lock().body.size_hint()
    }
}
