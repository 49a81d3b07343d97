//! The ring of permits as versions before 0.2 wrote it, read once when a data folder is taken over.
//!
//! An entry was 64 words: state, time, request id (2), number of cells, then pairs (cell, window end | amount of 32
//! bits). A cell was: in the open area (bit 63) | a bucket (bit 62) | column (30 bits) | row or index (32 bits).
//! The states were those of today.

use super::atomic::{AtomicU64, Ordering};

use super::journal::{State, TakenAmount, step};
use super::{CellRef, counter};

const ENTRY_WORDS: usize = 64;
const STATE: usize = 0;
const CELLS: usize = 4;
const PAIRS: usize = 5;
const MAX_CELLS: usize = 29;
const OPEN: u64 = 1 << 63;
const WITHOUT_WINDOW: u64 = 1 << 62;
/// Numbers of the two limit kinds of that time: with windows, and without.
const KINDS: [u8; 2] = [1, 2];

/// Words of a whole ring.
pub const RING_WORDS: usize = 8_192 * ENTRY_WORDS;

/// The entries of a dead owner's ring.
pub fn entries(ring: &[AtomicU64]) -> impl Iterator<Item = DeadEntry<'_>> {
    ring.chunks_exact(ENTRY_WORDS).map(DeadEntry)
}

/// An entry whose owner is dead.
pub struct DeadEntry<'a>(&'a [AtomicU64]);

impl DeadEntry<'_> {
    /// The step of its permit's life.
    pub fn state(&self) -> State {
        State::of(self.0[STATE].load(Ordering::Acquire))
    }

    /// Steps it on.
    pub fn step(&self, state: State) {
        step(&self.0[STATE], state);
    }

    /// The amounts it names.
    pub fn taken(&self) -> impl Iterator<Item = TakenAmount> {
        let count = usize::try_from(self.0[CELLS].load(Ordering::Relaxed)).unwrap_or(MAX_CELLS).min(MAX_CELLS);
        (0..count).map(|n| {
            let [cell, taken] = [0, 1].map(|at| self.0[PAIRS + 2 * n + at].load(Ordering::Relaxed));
            let state = counter::unpack(taken);
            let cell = CellRef {
                kind: KINDS[usize::from(cell & WITHOUT_WINDOW != 0)],
                open: cell & OPEN != 0,
                column: (cell >> 32) as u32 & ((1 << 30) - 1),
                row: (cell & 0xffff_ffff) as u32,
            };
            TakenAmount { cell, window: state.end.0.into(), amount: state.count.into() }
        })
    }
}
