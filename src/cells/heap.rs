//! Counters in this process's own memory: for tests and benchmarks, with the same layouts as the files.
//!
//! Columns are made with their rows once and do not grow. The lock of the open area is a mutex.

use super::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::shared::COLUMN_WORDS;
use super::tag::TagKey;
use super::{
    Busy, CellRef, Cells, CounterSpace, Exclusive, LayoutError, OpenArea, ROW, Ring, Rows, Words, journal, open,
};
use crate::units::Moment;

/// Words of two cache lines. Words start with a line, as those of a file start with a page.
const PAIR: usize = 16;
/// The same in bytes, whatever size a model checker's words have.
const PAIR_BYTES: usize = 128;

/// Words on the heap, shared by all who hold a clone.
#[derive(Clone)]
pub struct HeapWords {
    words: Arc<[AtomicU64]>,
    first: usize,
    end: usize,
}

impl HeapWords {
    /// This many zeroed words.
    pub fn zeroed(count: usize) -> Self {
        let words: Arc<[_]> = (0..count + PAIR).map(|_| AtomicU64::new(0)).collect();
        let first = words.as_ptr().align_offset(PAIR_BYTES).min(PAIR);
        Self { words, first, end: first + count }
    }
}

impl Words for HeapWords {
    #[inline]
    fn words(&self) -> &[AtomicU64] {
        &self.words[self.first..self.end]
    }
}

/// A mutex. Shared by all who hold a clone.
#[derive(Clone, Default)]
pub struct HeapLock(Arc<Mutex<()>>);

impl Exclusive for HeapLock {
    fn alone<R>(&self, work: impl FnOnce() -> R) -> Result<R, Busy> {
        // A holder that panicked equals one that died: the area repairs itself.
        let _held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work())
    }
}

#[derive(Clone)]
struct Column {
    rows: HeapWords,
    width: usize,
    shared: HeapWords,
}

/// The counters of a gateway whose workers are threads, and a ring.
pub struct HeapSpace {
    /// By number, as in the files: a column is found without a hash.
    columns: Vec<Option<Column>>,
    open: OpenArea<HeapWords, HeapLock>,
    ring: Ring<HeapWords>,
    rows: Mutex<HeapRows>,
    /// Nanoseconds that the wall clock was set forward, of two's complement.
    stepped: AtomicU64,
}

/// A ledger without an end, or with room for so many rows.
#[derive(Default)]
struct HeapRows {
    rows: Vec<[u64; ROW]>,
    claimed: u32,
    most: Option<u32>,
}

impl HeapSpace {
    /// Columns of one word a row as (number, rows), and an open area of so many buckets (a power of two).
    pub fn new(columns: &[(u32, usize)], buckets: usize) -> Result<Self, LayoutError> {
        let wide: Vec<_> = columns.iter().map(|&(n, rows)| (n, rows, 1)).collect();
        Self::wide(&wide, buckets)
    }

    /// Columns as (number, rows, words of a row), and an open area of so many buckets (a power of two).
    pub fn wide(columns: &[(u32, usize, usize)], buckets: usize) -> Result<Self, LayoutError> {
        let area = HeapWords::zeroed(open::area_words(buckets));
        open::format(area.words(), [1, 2], TagKey([3, 4]))?;
        let count = columns.iter().map(|&(n, ..)| n as usize + 1).max().unwrap_or(0);
        let mut by_number = vec![None; count];
        for &(n, rows, width) in columns {
            let (rows, shared) = (HeapWords::zeroed(rows * width), HeapWords::zeroed(COLUMN_WORDS));
            by_number[n as usize] = Some(Column { rows, width, shared });
        }
        Ok(Self {
            columns: by_number,
            open: OpenArea::new(area, HeapLock::default())?,
            ring: Ring::new(HeapWords::zeroed(journal::RING_WORDS), 0).ok_or(LayoutError::Foreign("slot"))?,
            rows: Mutex::default(),
            stepped: AtomicU64::new(0),
        })
    }

    /// Tells by how many nanoseconds the wall clock is ahead of the steady one: the sum of the steps that it made.
    pub fn step_to(&self, ahead: i64) {
        self.stepped.store(ahead.cast_unsigned(), Ordering::Relaxed);
    }

    /// The rows of the ledger.
    pub fn rows(&self) -> Vec<[u64; ROW]> {
        self.ledger().rows.clone()
    }

    /// Claims that are open.
    pub fn claimed(&self) -> u32 {
        self.ledger().claimed
    }

    /// From now on the ledger has room for so many rows more.
    pub fn leave_room(&self, rows: u32) {
        let mut ledger = self.ledger();
        ledger.most = Some(u32::try_from(ledger.rows.len()).unwrap_or(u32::MAX).saturating_add(rows));
    }

    fn ledger(&self) -> MutexGuard<'_, HeapRows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn found(&self, column: u32) -> Option<&Column> {
        self.columns.get(column as usize)?.as_ref()
    }
}

impl Cells for HeapSpace {
    type Words = HeapWords;
    type Lock = HeapLock;

    #[inline]
    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64> {
        let column = self.found(column)?;
        column.rows.words().get(row as usize * column.width)
    }

    #[inline]
    fn row(&self, column: u32, row: u32) -> Option<&[AtomicU64]> {
        let column = self.found(column)?;
        column.rows.words().get(row as usize * column.width..)?.get(..column.width)
    }

    #[inline]
    fn column(&self, column: u32) -> &[AtomicU64] {
        self.found(column).map_or(&[], |column| column.shared.words())
    }

    #[inline]
    fn open(&self) -> &OpenArea<HeapWords, HeapLock> {
        &self.open
    }

    #[inline]
    fn steady(&self, now: Moment) -> Moment {
        Moment(now.0.wrapping_sub(self.stepped.load(Ordering::Relaxed)))
    }
}

impl Rows for HeapSpace {
    fn claim(&self, rows: u32) -> bool {
        let mut ledger = self.ledger();
        let used = u32::try_from(ledger.rows.len()).unwrap_or(u32::MAX).saturating_add(ledger.claimed);
        let fits = ledger.most.is_none_or(|most| used.saturating_add(rows) <= most);
        ledger.claimed += if fits { rows } else { 0 };
        fits
    }

    fn release(&self, rows: u32) {
        self.ledger().claimed -= rows;
    }

    fn append(&self, row: &[u64; ROW]) -> bool {
        let mut ledger = self.ledger();
        ledger.claimed -= 1;
        ledger.rows.push(*row);
        true
    }
}

impl CounterSpace for HeapSpace {
    #[inline]
    fn ring(&self) -> &Ring<HeapWords> {
        &self.ring
    }

    fn held(&self, cell: CellRef, window: u64) -> u64 {
        journal::held(self.ring.words(), cell, window)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn words_start_with_a_cache_line_as_in_a_mapped_file() {
        for count in [1, 7, 100, 4_096] {
            let words = HeapWords::zeroed(count);
            assert_eq!((words.words().as_ptr().addr() % 128, words.words().len()), (0, count));
        }
    }

    #[test]
    fn rows_of_a_wide_column_follow_each_other() {
        let space = HeapSpace::wide(&[(1, 3, 2), (4, 1, 16)], 8).unwrap();
        let at = |word: &AtomicU64| std::ptr::from_ref(word);
        for row in 0..3 {
            let words = space.row(1, row).unwrap();
            assert_eq!((words.len(), at(space.dense(1, row).unwrap())), (2, at(&words[0])));
        }
        assert_eq!(at(space.dense(1, 2).unwrap()), at(&space.row(1, 0).unwrap()[0]).wrapping_add(4));
        assert!(space.row(1, 3).is_none() && space.dense(1, 3).is_none() && space.row(2, 0).is_none());
        assert_eq!(
            (space.row(4, 0).unwrap().len(), space.column(4).len(), space.column(3).len()),
            (16, COLUMN_WORDS, 0)
        );
    }
}
