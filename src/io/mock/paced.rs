//! A stream's events, each at its time: the body of a mocked event stream.
//!
//! In: the events and the pause before each but the first. Out: frames, and the flight's end when the last one is
//! handed over. Dropped before that, the flight counts as cancelled. Each event is a write of its own, as a model server
//! makes them, with and without a pause.
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

use super::stats::Flight;

/// See the module.
pub struct Paced {
    events: std::vec::IntoIter<(Bytes, u64)>,
    pause: Duration,
    wait: Option<Pin<Box<Sleep>>>,
    flushed: bool,
    flight: Flight,
}

impl Paced {
    /// `events` with their tokens; `pause` of zero hands them over as fast as they are written.
    pub fn new(events: Vec<(Bytes, u64)>, pause: Duration, flight: Flight) -> Self {
        flight.stream();
        Self { events: events.into_iter(), pause, wait: None, flushed: true, flight }
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
            // A body that is not ready makes the connection write out what it has.
            this.flushed = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        this.flushed = false;
        let Some((event, tokens)) = this.events.next() else {
            return Poll::Ready(None);
        };
        this.flight.sent(event.len(), tokens);
        if this.events.as_slice().is_empty() {
            this.flight.complete();
        } else if !this.pause.is_zero() {
            this.wait = Some(Box::pin(sleep(this.pause)));
        }
        Poll::Ready(Some(Ok(Frame::data(event))))
    }

    fn is_end_stream(&self) -> bool {
        self.events.as_slice().is_empty()
    }
}
