//! The body of an event stream: each event at its time, and each in a write of its own, as model servers do.
//!
//! In: the events and the pause between two of them. Out: frames. The last frame completes the flight; a cut body breaks off
//! before it. A body that is dropped earlier counts as cancelled.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

use super::stats::{Flight, Usage};

/// A piece of an answer.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its bytes.
    pub bytes: Bytes,
    /// Output tokens in it.
    pub tokens: u64,
    /// The usage object in it.
    pub usage: Option<Usage>,
}

impl Event {
    /// A piece with this number of output tokens.
    pub fn new(bytes: impl Into<Bytes>, tokens: u64) -> Self {
        Self { bytes: bytes.into(), tokens, usage: None }
    }
}

/// The body of an event stream.
pub struct Paced {
    events: std::vec::IntoIter<Event>,
    pause: Duration,
    cut: bool,
    wait: Option<Pin<Box<Sleep>>>,
    flushed: bool,
    flight: Flight,
}

impl Paced {
    /// `events`, all or (`cut`) the first half of them; a `pause` of zero hands them over as fast as they are written.
    pub fn new(mut events: Vec<Event>, pause: Duration, cut: bool, flight: Flight) -> Self {
        if cut {
            events.truncate(events.len() / 2);
        }
        Self { events: events.into_iter(), pause, cut, wait: None, flushed: true, flight }
    }
}

impl Body for Paced {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        if let Some(wait) = &mut this.wait {
            ready!(wait.as_mut().poll(cx));
            this.wait = None;
        } else if !this.flushed {
            // A pending body makes the connection write its buffer.
            this.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.flushed = false;
        let Some(event) = this.events.next() else {
            let broken = this.cut.then(|| Err(io::ErrorKind::ConnectionAborted.into()));
            return Poll::Ready(broken);
        };
        this.flight.sent(event.bytes.len(), event.tokens);
        if let Some(usage) = event.usage {
            this.flight.reports(usage);
        }
        if this.events.as_slice().is_empty() && !this.cut {
            this.flight.complete();
        } else if !this.pause.is_zero() {
            this.wait = Some(Box::pin(sleep(this.pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(event.bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.events.as_slice().is_empty() && !self.cut
    }
}
