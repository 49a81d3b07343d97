//! Memory that a gateway's processes share: rows of counters, and a ring of permits for each slot. It outlives them.
//!
//! A process that may die sees words through [`Mortal`]: so many touches after its doom, all that it writes goes to words that nobody
//! reads, as if it had been killed between two steps of an operation. One memory serves many worlds, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use aigw_core::cells::heap::HeapWords;
use aigw_core::cells::journal::{ENTRY_WORDS, RING_WORDS};
use aigw_core::cells::tag::TagKey;
use aigw_core::cells::{Words, open};

/// Slots of workers.
pub const SLOTS: usize = 3;
/// Rows of each column.
pub const CONSUMERS: usize = 2;
/// Words of a row, by column: tokens, money, output tokens, requests, calls at once.
pub const WIDTHS: [usize; 5] = [2, 2, 2, 1, 16];
/// Entries of a ring that a world may use: they are used from the lowest on.
pub const ENTRIES_IN_USE: usize = 32;

/// Words of a page.
const PAGE: usize = 512;
const LIVING: i64 = i64::MAX;

/// Touches of shared memory that a process has left before it dies.
#[derive(Debug)]
pub struct Life(AtomicI64);

impl Life {
    pub fn new() -> Arc<Self> {
        Arc::new(Self(AtomicI64::new(LIVING)))
    }

    /// From now on it has so many touches left.
    pub fn doom(&self, touches: i64) {
        self.0.store(touches, Ordering::Relaxed);
    }

    pub fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) < 0
    }

    /// Touches once: the number of touches that were left, or less than 0 for a dead process.
    pub fn touch(&self) -> i64 {
        self.0.fetch_sub(1, Ordering::Relaxed) - 1
    }
}

/// Shared words, as a process sees them that may die.
#[derive(Clone)]
pub struct Mortal {
    shared: HeapWords,
    lost: HeapWords,
    life: Arc<Life>,
}

impl Words for Mortal {
    fn words(&self) -> &[AtomicU64] {
        if self.life.touch() >= 0 { self.shared.words() } else { self.lost.words() }
    }
}

/// The memory.
pub struct Memory {
    pub columns: [HeapWords; WIDTHS.len()],
    rings: [HeapWords; SLOTS],
    /// The hash area, which no world uses.
    pub area: HeapWords,
    /// The words that dead processes write to: of a column, of a ring.
    lost: [HeapWords; 2],
}

impl Memory {
    pub fn new() -> Self {
        let area = HeapWords::zeroed(open::area_words(1));
        open::format(area.words(), [1, 2], TagKey([3, 4])).unwrap();
        let column = |width: usize| HeapWords::zeroed(width * CONSUMERS);
        Self {
            columns: WIDTHS.map(column),
            rings: std::array::from_fn(|_| HeapWords::zeroed(RING_WORDS)),
            area,
            lost: [column(16), HeapWords::zeroed(RING_WORDS)],
        }
    }

    /// Makes it new for the next world.
    pub fn clear(&self) {
        let rings = (0..SLOTS).flat_map(|slot| self.ring(slot));
        self.columns.iter().flat_map(Words::words).chain(rings).for_each(|word| word.store(0, Ordering::Relaxed));
    }

    /// The words of a consumer's row.
    pub fn row(&self, column: usize, consumer: usize) -> &[AtomicU64] {
        row(self.columns[column].words(), column, consumer)
    }

    /// The entries of a slot that worlds use.
    pub fn ring(&self, slot: usize) -> &[AtomicU64] {
        &self.rings[slot].words()[..ENTRIES_IN_USE * ENTRY_WORDS]
    }

    /// The columns, for a process with this life.
    pub fn columns_for(&self, life: &Arc<Life>) -> Vec<Mortal> {
        self.columns.iter().map(|column| self.mortal(column, 0, life)).collect()
    }

    /// The ring of a slot, for a process with this life.
    pub fn ring_for(&self, slot: usize, life: &Arc<Life>) -> Mortal {
        self.mortal(&self.rings[slot], 1, life)
    }

    /// The hash area, which no world uses.
    pub fn area_for(&self, life: &Arc<Life>) -> Mortal {
        Mortal { shared: self.area.clone(), lost: self.area.clone(), life: Arc::clone(life) }
    }

    fn mortal(&self, shared: &HeapWords, lost: usize, life: &Arc<Life>) -> Mortal {
        Mortal { shared: shared.clone(), lost: self.lost[lost].clone(), life: Arc::clone(life) }
    }

    /// A copy of all words, as a disk may have them.
    pub fn pages(&self) -> Pages {
        let copy = |words: &[AtomicU64]| words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        Pages {
            columns: self.columns.iter().map(|column| copy(column.words())).collect(),
            rings: (0..SLOTS).map(|slot| copy(self.ring(slot))).collect(),
        }
    }

    /// Gives the pages of counters their former words where `is_lost` says so, and those of the rings of these slots.
    pub fn lose(&self, pages: &Pages, slots: [bool; SLOTS], mut is_lost: impl FnMut() -> bool) {
        let columns = self.columns.iter().map(Words::words).zip(&pages.columns).map(|(now, was)| (now, &was[..]));
        let rings = (0..SLOTS)
            .filter(|slot| slots[*slot])
            .flat_map(|slot| self.ring(slot).chunks(PAGE).zip(pages.rings[slot].chunks(PAGE)));
        for (now, was) in columns.chain(rings).filter(|_| is_lost()) {
            now.iter().zip(was).for_each(|(word, was)| word.store(*was, Ordering::Relaxed));
        }
        // Counters of calls at once are 0 after a restart of the machine (`src/io/cells/columns.rs`).
        let places = self.columns.last().into_iter().flat_map(Words::words);
        places.for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// The words of counters and rings at some moment.
#[derive(Clone, Default)]
pub struct Pages {
    columns: Vec<Vec<u64>>,
    rings: Vec<Vec<u64>>,
}

/// The row of a consumer in a column.
pub fn row(words: &[AtomicU64], column: usize, consumer: usize) -> &[AtomicU64] {
    let width = WIDTHS[column];
    &words[consumer * width..][..width]
}
