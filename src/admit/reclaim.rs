//! Freeing a dead worker's permits: doubt resolves to "taken".
//!
//! A permit that was complete and had sent nothing (HELD) is given back, exactly once. One that was sent (SENT) is settled to
//! the progress that its journal has, if any; the others stay counted. Places of calls in flight are free in any case.
//! A killed worker costs at most its permits in flight and never admits one too many. Crash-safe itself: an entry is
//! marked GIVING before its counters are touched, and GIVING stays counted if the reclaimer dies in turn.
//! The caller owns the slot: the ring has no other reclaimer or writer meanwhile.

use crate::cells::atomic::AtomicU64;

use crate::cells::Cells;
use crate::cells::journal::{self, DeadEntry, State};
use crate::cells::journal_v1;
use crate::limits::{self, Amounts, Usage};

/// The permits that a reclaim found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Permits that were open.
    pub open: usize,
    /// Permits that were given back, of the open ones.
    pub given_back: usize,
    /// Permits that were settled to the progress of their calls, of the open ones.
    pub settled: usize,
}

/// Frees all entries of a dead owner's ring.
///
/// `same_boot`: the machine has not restarted since. After a power loss ring and counters may be of different moments, so
/// everything stays counted.
pub fn reclaim(ring: &[AtomicU64], cells: &impl Cells, same_boot: bool) -> Reclaimed {
    let mut found = Reclaimed::default();
    for entry in journal::entries(ring) {
        let give = || entry.taken().for_each(|taken| limits::give_back(cells, taken));
        let settle = || settle(&entry, cells);
        let end = || entry.taken().for_each(|taken| limits::reclaim(cells, taken));
        free(&mut found, entry.state(), same_boot, |state| entry.step(state), give, settle, end);
    }
    found
}

/// As [`reclaim`], for a ring that a version before 0.2 has left.
pub fn reclaim_v1(ring: &[AtomicU64], cells: &impl Cells, same_boot: bool) -> Reclaimed {
    let mut found = Reclaimed::default();
    for entry in journal_v1::entries(ring) {
        let give = || entry.taken().for_each(|taken| limits::give_back(cells, taken));
        free(&mut found, entry.state(), same_boot, |state| entry.step(state), give, || false, || ());
    }
    found
}

/// Settles a permit that was sent to the progress of its call. False, and nothing is changed, where none was noted: the call
/// may have used all that was taken for it.
fn settle(entry: &DeadEntry<'_>, cells: &impl Cells) -> bool {
    let Some([input_tokens, output_tokens, spend]) = entry.progress() else { return false };
    let usage = Usage { requests: 1, amounts: Amounts { input_tokens, output_tokens, spend } };
    entry.step(State::Giving);
    for taken in entry.taken() {
        // A stream never passes the amount it holds; a line of a later window holds the part since then.
        limits::settle(cells, taken, limits::used(taken, &usage).min(taken.amount));
    }
    true
}

/// Frees one entry. `give`: gives its amounts back. `settle`: settles them to the progress of its call, if there is any.
/// `end`: ends the parts of its call that are sure to be over, once more and harmlessly if the reclaimer dies before the entry
/// is free.
fn free(
    found: &mut Reclaimed,
    state: State,
    same_boot: bool,
    step: impl Fn(State),
    give: impl FnOnce(),
    settle: impl FnOnce() -> bool,
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
        State::Sent if same_boot => found.settled += usize::from(settle()),
        State::Held | State::Intent | State::Sent | State::Giving => {}
    }
    found.open += 1;
    step(State::Free);
}
