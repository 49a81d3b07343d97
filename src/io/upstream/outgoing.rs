//! The body of a request on its way to an upstream.
//!
//! A large one goes in pieces, and notes when the connection took the last: so an upstream that takes its time is told from one
//! that stopped taking. A small one is one piece, and nothing is noted.

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
    /// Whether it has them all.
    all: Cell<bool>,
}

impl Taken {
    /// What comes of `answer`; `None` when the upstream has taken nothing for as long as it may, or has all of it and does not
    /// answer.
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
            // Whatever is taken meanwhile ends no earlier than this.
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
