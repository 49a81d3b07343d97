//! Counters in this process's own memory: for tests and benchmarks, with the same layouts as the files.
//!
//! Columns are made with their rows once and do not grow. The lock of the open area is a mutex.

use core::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::tag::TagKey;
use super::{Busy, Cells, Exclusive, LayoutError, OpenArea, Place, Ring, Words, journal, open};
use crate::limits::rate::COSTS;

/// Words on the heap, shared by all who hold a clone.
#[derive(Clone)]
pub struct HeapWords(Arc<[AtomicU64]>);

impl HeapWords {
    /// So many zeroed words.
    pub fn zeroed(words: usize) -> Self {
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }
}

impl Words for HeapWords {
    fn words(&self) -> &[AtomicU64] {
        &self.0
    }
}

/// A mutex. Shared by all who hold a clone.
#[derive(Clone, Default)]
pub struct HeapLock(Arc<Mutex<()>>);

impl Exclusive for HeapLock {
    fn alone<R>(&self, work: impl FnOnce() -> R) -> Result<R, Busy> {
        // A holder that panicked is as good as one that died: the area repairs itself.
        let _held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(work())
    }
}

#[derive(Clone)]
struct Column {
    rows: HeapWords,
    costs: HeapWords,
}

/// The counters of a gateway whose workers are threads, and a ring.
pub struct HeapPlace {
    /// By number, as in the files: nothing is looked up by hash.
    columns: Vec<Option<Column>>,
    open: OpenArea<HeapWords, HeapLock>,
    ring: Ring<HeapWords>,
}

impl HeapPlace {
    /// Columns as (number, rows), and an open area of so many buckets (a power of two).
    pub fn new(columns: &[(u32, usize)], buckets: usize) -> Result<Self, LayoutError> {
        let area = HeapWords::zeroed(open::area_words(buckets));
        open::format(area.words(), [1, 2], TagKey([3, 4]))?;
        let count = columns.iter().map(|&(n, _)| n as usize + 1).max().unwrap_or(0);
        let mut by_number = vec![None; count];
        for &(n, rows) in columns {
            by_number[n as usize] = Some(Column { rows: HeapWords::zeroed(rows), costs: HeapWords::zeroed(COSTS) });
        }
        Ok(Self {
            columns: by_number,
            open: OpenArea::new(area, HeapLock::default())?,
            ring: Ring::new(HeapWords::zeroed(journal::RING_WORDS), 0).ok_or(LayoutError::Foreign("slot"))?,
        })
    }
}

impl Cells for HeapPlace {
    type Words = HeapWords;
    type Lock = HeapLock;

    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64> {
        self.columns.get(column as usize)?.as_ref()?.rows.words().get(row as usize)
    }

    fn costs(&self, column: u32) -> &[AtomicU64] {
        self.columns.get(column as usize).and_then(Option::as_ref).map_or(&[], |column| column.costs.words())
    }

    fn open(&self) -> &OpenArea<HeapWords, HeapLock> {
        &self.open
    }
}

impl Place for HeapPlace {
    fn ring(&self) -> &Ring<HeapWords> {
        &self.ring
    }
}
