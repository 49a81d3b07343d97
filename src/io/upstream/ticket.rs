//! The caller's side of a call, and how it asks to stop.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::event::Failure;

/// The caller's side of one exchange, held by the upstream thread until the last event.
pub trait Ticket: Send + 'static {
    /// The request's first byte is about to be written: from here on it may have been acted upon.
    fn sending(&self);
    /// How the caller asks to stop.
    fn cancel(&self) -> &Cancel;
    /// An answer's head is about to be handed over; what must not go on is taken out here.
    fn head(&self, status: StatusCode, headers: &mut HeaderMap<HeaderValue>);
    /// A piece of the answer is about to be handed over; what goes on of it.
    fn piece(&self, piece: Bytes) -> Bytes;
    /// The answer is whole: what was held back of it.
    fn rest(&self) -> Bytes;
    /// The answer breaks off: what is still said before it is cut.
    fn last_words(&self, failure: Failure) -> Option<Bytes>;
}

/// A flag with a bell: set from any thread, awaited by the exchange's task.
#[derive(Debug, Default)]
pub struct Cancel {
    set: AtomicBool,
    bell: tokio::sync::Notify,
}

impl Cancel {
    /// Ask the exchange to stop; idempotent.
    pub fn cancel(&self) {
        self.set.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    pub(super) async fn wait(&self) {
        while !self.is_set() {
            self.bell.notified().await;
        }
    }
}
