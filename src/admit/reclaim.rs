//! Freeing a dead worker's permits: doubt resolves to "taken".
//!
//! Only a permit that was complete and had sent nothing (HELD) is given back, exactly once; the others stay counted.
//! A killed worker costs at most its permits in flight and never admits one too many. Crash-safe itself: an entry is
//! marked GIVING before its counters are touched, and GIVING stays counted if the reclaimer dies in turn.
//! The caller owns the slot: the ring has no other reclaimer or writer meanwhile.

use core::sync::atomic::AtomicU64;

use crate::cells::Cells;
use crate::cells::journal::{self, State};
use crate::cells::journal_v1;
use crate::limits;

/// The permits that a reclaim found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Permits that were open.
    pub open: usize,
    /// Permits that were given back, of the open ones.
    pub given_back: usize,
}

/// Frees all entries of a dead owner's ring.
///
/// `same_boot`: the machine has not restarted since. After a power loss ring and counters may be of different moments, so
/// everything stays counted.
pub fn reclaim(ring: &[AtomicU64], cells: &impl Cells, same_boot: bool) -> Reclaimed {
    let mut found = Reclaimed::default();
    for entry in journal::entries(ring) {
        let give = || entry.taken().for_each(|taken| limits::give_back(cells, taken));
        let end = || entry.taken().for_each(|taken| limits::reclaim(cells, taken));
        free(&mut found, entry.state(), same_boot, |state| entry.step(state), give, end);
    }
    found
}

/// As [`reclaim`], for a ring that a version before 0.2 has left.
pub fn reclaim_v1(ring: &[AtomicU64], cells: &impl Cells, same_boot: bool) -> Reclaimed {
    let mut found = Reclaimed::default();
    for entry in journal_v1::entries(ring) {
        let give = || entry.taken().for_each(|taken| limits::give_back(cells, taken));
        free(&mut found, entry.state(), same_boot, |state| entry.step(state), give, || ());
    }
    found
}

/// Frees one entry. `give`: gives its amounts back. `end`: ends the parts of its call that are sure to be over, once more and
/// harmlessly if the reclaimer dies before the entry is free.
fn free(
    found: &mut Reclaimed,
    state: State,
    same_boot: bool,
    step: impl Fn(State),
    give: impl FnOnce(),
    end: impl FnOnce(),
) {
    if state != State::Free {
        end();
    }
    match state {
        State::Free => return,
        State::Held if same_boot => {
            step(State::Giving);
            give();
            found.given_back += 1;
        }
        State::Held | State::Intent | State::Sent | State::Giving => {}
    }
    found.open += 1;
    step(State::Free);
}
