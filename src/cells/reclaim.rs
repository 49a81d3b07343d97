//! What becomes of a dead worker's permits: doubt resolves to "taken".
//!
//! Only a permit that was complete and had sent nothing (HELD) is given back, exactly once; the others stay counted.
//! So a killed worker costs at most its permits in flight and never admits one too many. Crash-safe itself: an entry
//! is marked GIVING before its counters are touched, and GIVING stays counted if the reclaimer dies in turn.
//! The caller owns the slot: nobody else reclaims or writes this ring meanwhile.

use core::sync::atomic::AtomicU64;

use super::Cells;
use super::journal::{self, State};

/// What a reclaim found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Permits that were open.
    pub open: usize,
    /// Of these, given back.
    pub given_back: usize,
}

/// Frees all entries of a dead owner's ring.
///
/// `same_boot` says that the machine has run on since: after a power loss ring and counters need not be of the same
/// moment, so nothing at all is given back.
pub fn reclaim(ring: &[AtomicU64], cells: &impl Cells, same_boot: bool) -> Reclaimed {
    let mut found = Reclaimed::default();
    for entry in journal::entries(ring) {
        match entry.state() {
            State::Free => continue,
            State::Held if same_boot => {
                entry.step(State::Giving);
                for held in entry.held() {
                    held.give_back(cells);
                }
                found.given_back += 1;
            }
            State::Held | State::Intent | State::Sent | State::Giving => {}
        }
        found.open += 1;
        entry.step(State::Free);
    }
    found
}
