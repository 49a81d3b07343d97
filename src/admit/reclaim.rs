//! Ending a dead worker's permits: doubt resolves to "taken", and every call that was sent gets its row in the ledger.
//!
//! A permit that was complete and had sent nothing (HELD) is given back, exactly once. One that was sent (SENT) is settled to the row that
//! its owner has written in the ledger. Without a row it gets one: of its progress, if its journal has any, else of its reservation, and is
//! settled to that. The others stay counted. Places of calls in flight are free in any case. A killed worker costs at most its permits
//! in flight and never admits one too many. The ledger notes the amounts that stay without a row, for the audit. Crash-safe itself: a row is written before counters change, and an entry is marked GIVING
//! before its counters are touched; GIVING stays counted if the reclaimer dies in turn.
//! The caller owns the slot: the ring has no other reclaimer or writer meanwhile.

use crate::cells::atomic::AtomicU64;

use crate::cells::Cells;
use crate::cells::journal::{self, DRAFT_WORDS, DeadEntry, State, TakenAmount};
use crate::cells::journal_v1;
use crate::limits::{self, Amounts, Usage};
use crate::units::RequestId;

/// The permits that a reclaim found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Permits that were open.
    pub open: usize,
    /// Permits that were given back, of the open ones.
    pub given_back: usize,
    /// Permits that were settled to their rows in the ledger, of the open ones.
    pub settled: usize,
    /// Permits that stay: their rows could not be written now.
    pub waiting: usize,
}

/// The ledger of dead workers.
pub trait Books {
    /// The amounts of the call's last row; `None` without one.
    fn used(&mut self, request: RequestId) -> Option<Usage>;
    /// Adds the row of a call that has none. `progress`: input tokens, output tokens and nano-dollars that it had counted. Returns the
    /// amounts of the row; `None`: the call keeps those that it holds.
    fn add(&mut self, draft: &[u64; DRAFT_WORDS], progress: Option<[u64; 3]>) -> Result<Option<Usage>, NotNow>;
    /// Notes amounts that stay counted though nobody knows whether they were taken, or given back.
    fn doubt(&mut self, request: RequestId, lines: impl Iterator<Item = TakenAmount>) -> Result<(), NotNow>;
}

/// Of owners that had no ledger.
struct NoBooks;

impl Books for NoBooks {
    fn used(&mut self, _: RequestId) -> Option<Usage> {
        None
    }

    fn add(&mut self, _: &[u64; DRAFT_WORDS], progress: Option<[u64; 3]>) -> Result<Option<Usage>, NotNow> {
        Ok(progress.map(|[input_tokens, output_tokens, spend]| {
            let amounts = Amounts { input_tokens, output_tokens, spend };
            Usage { requests: 1, amounts }
        }))
    }

    fn doubt(&mut self, _: RequestId, _: impl Iterator<Item = TakenAmount>) -> Result<(), NotNow> {
        Ok(())
    }
}

/// A row cannot be written now: its permit waits for another time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row cannot be written now")]
pub struct NotNow;

/// Frees all entries of a dead owner's ring. Those whose row cannot be written now stay for another time.
///
/// `same_boot`: the machine has not restarted since. After a power loss ring, ledger and counters may be of different moments: the row of a
/// call may be in the store, and its segment gone. So everything stays counted, and no row is added.
pub fn reclaim(ring: &[AtomicU64], cells: &impl Cells, same_boot: bool, books: &mut impl Books) -> Reclaimed {
    free(journal::entries(ring), cells, same_boot, books)
}

/// As [`reclaim`], for a ring whose owner had no ledger: the calls get no rows.
pub fn reclaim_v2(ring: &[AtomicU64], cells: &impl Cells, same_boot: bool) -> Reclaimed {
    free(journal::entries_v2(ring), cells, same_boot, &mut NoBooks)
}

fn free<'a>(
    entries: impl Iterator<Item = DeadEntry<'a>>,
    cells: &impl Cells,
    same_boot: bool,
    books: &mut impl Books,
) -> Reclaimed {
    let mut found = Reclaimed::default();
    for entry in entries {
        let state = entry.state();
        if state == State::Free {
            continue;
        }
        // Harmless once more, if the reclaimer dies before the entry is free.
        entry.taken().for_each(|taken| limits::reclaim(cells, taken));
        match state {
            State::Held if same_boot => {
                entry.step(State::Giving);
                entry.taken().for_each(|taken| limits::give_back(cells, taken));
                found.given_back += 1;
            }
            State::Sent if same_boot => {
                let written = books.used(entry.request());
                let row = match written {
                    Some(used) => Ok(Some(used)),
                    None => books.add(&entry.draft(), entry.progress()),
                };
                let Ok(used) = row else {
                    found.waiting += 1;
                    continue;
                };
                if let Some(used) = used {
                    // Only its owner knew of more than it held.
                    settle(&entry, cells, &used, written.is_none() || entry.has_moved());
                    found.settled += 1;
                }
            }
            State::Free | State::Held | State::Sent | State::Intent | State::Giving => {
                if books.doubt(entry.request(), entry.taken()).is_err() {
                    found.waiting += 1;
                    continue;
                }
            }
        }
        found.open += 1;
        entry.step(State::Free);
    }
    found
}

/// As [`reclaim`], for a ring that a version before 0.2 has left.
pub fn reclaim_v1(ring: &[AtomicU64], cells: &impl Cells, same_boot: bool) -> Reclaimed {
    let mut found = Reclaimed::default();
    for entry in journal_v1::entries(ring) {
        match entry.state() {
            State::Free => continue,
            State::Held if same_boot => {
                entry.step(State::Giving);
                entry.taken().for_each(|taken| limits::give_back(cells, taken));
                found.given_back += 1;
            }
            State::Held | State::Intent | State::Sent | State::Giving => {}
        }
        found.open += 1;
        entry.step(State::Free);
    }
    found
}

/// Settles a permit that was sent to the amounts of its row. `within`: never to more than the permit holds. A line of a later window holds
/// the part since then; the earlier windows keep theirs.
fn settle(entry: &DeadEntry<'_>, cells: &impl Cells, used: &Usage, within: bool) {
    entry.step(State::Giving);
    for taken in entry.taken() {
        let used = limits::used(taken, used);
        limits::settle(cells, taken, if within { used.min(taken.amount) } else { used });
    }
}
