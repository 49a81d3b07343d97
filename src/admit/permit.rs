//! The right to send one request upstream: the spine of the request path.
//!
//! A permit owns its journal entry and every amount that the entry names. It ends in one of two ways, once: settled (an
//! upstream has answered: the amounts become those used) or given back, by hand or by being dropped. It has room for the call's rows
//! in the ledger, and the row of the end is written before the amounts change: a reclaim that finds the entry after a crash finds the row, too.
//! It may cross threads.

use std::sync::Arc;

use super::check::Check;
use crate::cells::journal::{DRAFT_WORDS, Entry, MAX_CELLS, State, TakenAmount};
use crate::cells::{CounterSpace, ROW};
use crate::limits::{self, Amounts, More, Times, Usage};
use crate::units::Moment;

/// The right to send one request upstream.
#[must_use = "dropping a permit gives everything back: settle it when an upstream has answered"]
pub struct Permit<S: CounterSpace> {
    space: Arc<S>,
    /// `None` once it has ended.
    entry: Option<Entry>,
    /// Rows that it may still add to the ledger.
    rows: u32,
    /// By check: the amount that windows before the one in the journal have given. Empty until a window ends on the way.
    earlier: Vec<u64>,
}

impl<S: CounterSpace> Permit<S> {
    pub(super) fn new(space: Arc<S>, entry: Entry, rows: u32) -> Self {
        Self { space, entry: Some(entry), rows, earlier: Vec::new() }
    }

    /// The counters that it was taken from.
    pub fn space(&self) -> &Arc<S> {
        &self.space
    }

    /// Call it before the first byte goes upstream: if the process dies from now on, the amounts stay counted, and the ledger gets a row
    /// from `draft`.
    pub fn mark_sent(&mut self, draft: &[u64; DRAFT_WORDS]) {
        if let Some(entry) = &self.entry {
            let ring = self.space.ring();
            ring.draft(entry, draft);
            ring.step(entry, State::Sent);
        }
    }

    /// Adds a row to the ledger. False: the permit had no room for it, and the ledger has none.
    pub fn record(&mut self, row: &[u64; ROW]) -> bool {
        if self.rows == 0 && !self.space.claim(1) {
            return false;
        }
        self.rows = self.rows.saturating_sub(1);
        self.space.append(row)
    }

    /// Notes the amounts that the call on its way has used so far: the reservation of a worker that dies is settled to them.
    pub fn progress(&mut self, used: &Amounts) {
        if let Some(entry) = &self.entry {
            self.space.ring().progress(entry, [used.input_tokens, used.output_tokens, used.spend]);
        }
    }

    /// Takes more for the call on its way from every limit that counts a part of it, or from none. `checks`: those that the
    /// permit was taken by. The error is the index of a check that has not so much left.
    ///
    /// Counters are changed before the journal. A process that is killed in between leaves the amount counted, and nobody
    /// gives it back. A call that goes on in a later window holds its new amounts there, and the counter of the earlier window
    /// is over: the journal names the later one from then on, and each window counts the use that it has given tokens for.
    pub fn extend(&mut self, checks: &[Check], more: &Amounts, now: Moment) -> Result<(), usize> {
        let Some(entry) = &self.entry else { return Ok(()) };
        let (ring, now) = (self.space.ring(), Times::new(now, self.space.steady(now)));
        let mut pieces = [None; MAX_CELLS];
        for (n, check) in checks.iter().enumerate().take(MAX_CELLS) {
            if check.shadow && ring.read(entry, n).is_nothing() {
                continue;
            }
            let mut state = check.state;
            match check.limit.extend(&*self.space, check.key, more, now, &mut state) {
                Ok(More::Took(piece)) => pieces[n] = Some(piece),
                Ok(More::Nothing) => {}
                Ok(More::Full) | Err(_) if check.shadow => {}
                Ok(More::Full) | Err(_) => {
                    pieces.iter().flatten().rev().for_each(|piece| limits::give_back(&*self.space, *piece));
                    return Err(n);
                }
            }
        }
        for (n, piece) in pieces.iter().enumerate() {
            let Some(piece) = piece else { continue };
            let line = ring.read(entry, n);
            if line.window == piece.window {
                ring.write(entry, n, TakenAmount { amount: line.amount.saturating_add(piece.amount), ..line });
                continue;
            }
            self.earlier.resize(checks.len(), 0);
            self.earlier[n] = self.earlier[n].saturating_add(line.amount);
            ring.move_on(entry, n, *piece);
        }
        Ok(())
    }

    /// Gives a part of the amounts back on the way: the call needs less than it was admitted with.
    ///
    /// The journal is changed before the counters. A process that is killed in between leaves the part counted, and nobody gives
    /// it back a second time. A counter that went on in a later window keeps its amount: the first window holds the part.
    pub fn shrink(&mut self, less: &Amounts) {
        let Some(entry) = &self.entry else { return };
        let ring = self.space.ring();
        let less = Usage { requests: 0, amounts: *less };
        for n in 0..ring.cells(entry) {
            if self.earlier.get(n).is_some_and(|earlier| *earlier > 0) {
                continue;
            }
            let line = ring.read(entry, n);
            // A line of 0 names a counter that gave nothing: the end of the call would charge nothing there.
            let amount = limits::used(line, &less).min(line.amount.saturating_sub(1));
            if amount > 0 {
                ring.write(entry, n, TakenAmount { amount: line.amount - amount, ..line });
                limits::give_back(&*self.space, TakenAmount { amount, ..line });
            }
        }
    }

    /// A check of the permit with its counter's state as it is now.
    pub fn look(&self, check: &Check, now: Moment) -> Check {
        let mut seen = *check;
        // A counter that cannot be read keeps the state that the permit was taken by.
        let now = Times::new(now, self.space.steady(now));
        let _ = check.limit.look(&*self.space, check.key, 0, now, &mut seen.state);
        seen
    }

    /// An upstream has answered: each amount becomes the one that was used, in the window that it was taken from.
    pub fn settle(mut self, usage: &Usage) {
        let Some(entry) = self.entry.take() else { return };
        let ring = self.space.ring();
        let mut corrected = false;
        for (n, taken) in ring.taken(&entry).enumerate() {
            let earlier = self.earlier.get(n).copied().unwrap_or_default();
            let used = limits::used(taken, usage).saturating_sub(earlier);
            if used == taken.amount {
                continue;
            }
            if !corrected {
                // First the word, then the deed: a reclaim must not give back an amount that was corrected.
                ring.step(&entry, State::Giving);
                corrected = true;
            }
            limits::settle(&*self.space, taken, used);
        }
        ring.end(&entry);
        // Dropped now: it gives back the room for rows that it did not need.
    }

    /// No upstream has answered: every amount goes back to the window it was taken from.
    pub fn give_back(self) {
        drop(self);
    }
}

impl<S: CounterSpace> Drop for Permit<S> {
    fn drop(&mut self) {
        if let Some(entry) = self.entry.take() {
            let cells = self.space.ring().cells(&entry);
            give_back(&*self.space, &entry, cells);
        }
        if self.rows > 0 {
            self.space.release(self.rows);
        }
    }
}

/// Gives back the first `taken` cells of an entry, last first, and ends it.
pub(super) fn give_back<S: CounterSpace>(space: &S, entry: &Entry, taken: usize) {
    // First the word, then the deed: a reclaim that finds a half-given permit must not give it again.
    space.ring().step(entry, State::Giving);
    for n in (0..taken).rev() {
        limits::give_back(space, space.ring().read(entry, n));
    }
    space.ring().end(entry);
}
