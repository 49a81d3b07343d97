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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Two entries as version 0.1 wrote them: a window in the hash area and a bucket, then a free one.
    #[test]
    fn ring_of_version_0_1_is_read_as_it_was_written() {
        assert_eq!(RING_WORDS, 524_288);
        let ring: Vec<AtomicU64> = (0..128).map(|_| AtomicU64::new(0)).collect();
        let write =
            |words: &[(usize, u64)]| words.iter().for_each(|&(at, word)| ring[at].store(word, Ordering::SeqCst));
        write(&[(0, 0x702), (4, 2), (5, 0xa345_6789_8000_0001), (6, 0x6553_f100_0000_0003)]);
        write(&[(7, 0x4000_0002_0000_0003), (8, 0x0000_0000_ffff_ffff), (9, 1), (64, 0x900)]);
        let entries: Vec<_> = entries(&ring).collect();
        assert_eq!(entries.iter().map(DeadEntry::state).collect::<Vec<_>>(), [State::Held, State::Free]);
        let window = CellRef { kind: 1, open: true, column: 0x2345_6789, row: 0x8000_0001 };
        let bucket = CellRef { kind: 2, open: false, column: 2, row: 3 };
        let taken: Vec<_> = entries[0].taken().collect();
        assert_eq!(
            taken,
            [
                TakenAmount { cell: window, window: 0x6553_f100, amount: 3 },
                TakenAmount { cell: bucket, window: 0, amount: 0xffff_ffff },
            ]
        );
        assert_eq!(entries[1].taken().count(), 0);
        entries[0].step(State::Giving);
        assert_eq!((entries[0].state(), ring[0].load(Ordering::SeqCst)), (State::Giving, 0x704));
    }
}
