//! What an admitted request holds: the spine of the request path.
//!
//! A permit owns its journal entry and everything the entry names. It ends in one of two ways, once: `settle` (an
//! upstream has answered: the counts stay) or given back, by hand or by being dropped. It may cross threads.

use std::sync::Arc;

use crate::cells::Place;
use crate::cells::journal::{Entry, State};

/// The right to send one request upstream.
#[must_use = "dropping a permit gives everything back: settle it when an upstream has answered"]
pub struct Permit<P: Place> {
    place: Arc<P>,
    /// `None` when no limit applies: nothing is held, nothing is journalled.
    entry: Option<Entry>,
}

impl<P: Place> Permit<P> {
    pub(super) fn new(place: Arc<P>, entry: Option<Entry>) -> Self {
        Self { place, entry }
    }

    /// To be called before the first byte goes upstream: if the process dies from now on, the counts stay.
    pub fn mark_sent(&mut self) {
        if let Some(entry) = &self.entry {
            self.place.ring().step(entry, State::Sent);
        }
    }

    /// An upstream has answered: the request counts.
    pub fn settle(mut self) {
        if let Some(entry) = self.entry.take() {
            self.place.ring().end(&entry);
        }
    }

    /// No upstream has answered: all that was taken goes back to the windows it came from.
    pub fn give_back(self) {
        drop(self);
    }
}

impl<P: Place> Drop for Permit<P> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let cells = self.place.ring().cells(&entry);
            give_back(&*self.place, &entry, cells);
        }
    }
}

/// Gives back the first `taken` cells of an entry, last first, and ends it.
pub(super) fn give_back<P: Place>(place: &P, entry: &Entry, taken: usize) {
    // First the word, then the deed: who finds a half-given permit must not give it again.
    place.ring().step(entry, State::Giving);
    for n in (0..taken).rev() {
        place.ring().read(entry, n).give_back(place);
    }
    place.ring().end(entry);
}
