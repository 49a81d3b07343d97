//! The body of a request on its way to an upstream.
//!
//! A large body goes in pieces, and the time of the last one is kept: so a slow upstream is distinguished from one that
//! stopped reading. A small body is one piece, and its time is not kept.

use aigw_core::balance::Deadlines;
use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use std::cell::Cell;
use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::time::Instant;

/// Bodies up to this size are one piece.
const PIECE: usize = 64 * 1024;

/// A body that is being sent.
#[derive(Debug)]
pub(super) struct Outgoing {
    rest: Bytes,
    taken: Option<Rc<Taken>>,
}

/// How far the connection is with a large body.
#[derive(Debug)]
pub(super) struct Taken {
    /// When it took the last piece.
    at: Cell<Instant>,
    /// Whether it has all pieces.
    all: Cell<bool>,
}

impl Taken {
    /// The result of `answer`; `None` when the upstream has read nothing for as long as it may, or has the whole body and
    /// does not answer.
    pub(super) async fn wait_for<A>(&self, answer: impl Future<Output = A>, deadlines: Deadlines) -> Option<A> {
        self.at.set(Instant::now()); // connecting is not writing
        let mut answer = pin!(answer);
        loop {
            let limit = if self.all.get() { deadlines.first_byte } else { deadlines.write };
            let now = Instant::now();
            let by = self.at.get() + limit;
            if now >= by {
                return None;
            }
            // Bytes that are taken meanwhile move the deadline to this one at the earliest.
            let look = by.min(now + deadlines.first_byte);
            if let Ok(answered) = tokio::time::timeout_at(look, answer.as_mut()).await {
                return Some(answered);
            }
        }
    }
}

impl Outgoing {
    pub(super) fn new(body: Bytes) -> Self {
        let taken =
            (body.len() > PIECE).then(|| Rc::new(Taken { at: Cell::new(Instant::now()), all: Cell::new(false) }));
        Self { rest: body, taken }
    }

    /// How far the connection is, of a large body.
    pub(super) fn taken(&self) -> Option<Rc<Taken>> {
        self.taken.clone()
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let piece = if let Some(taken) = self.taken.clone() {
            let piece = self.rest.len().min(PIECE);
            taken.at.set(Instant::now());
            taken.all.set(piece == self.rest.len());
            self.rest.split_to(piece)
        } else {
            std::mem::take(&mut self.rest)
        };
        Poll::Ready((!piece.is_empty()).then(|| Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.rest.len() as u64)
    }
}
