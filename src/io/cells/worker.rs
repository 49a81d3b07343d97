//! A worker's access to the counters: all of them, and a slot with a journal of its own until it dies.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use aigw_core::cells::{CellRef, Cells, CounterSpace, Ring, journal};

use super::counters::Counters;
use super::files::StoreId;
use super::open_area::{FileLock, Open};
use super::slots::{self, OpenSlots, Slot, SlotStatus};
use crate::map::WordMap;

/// The counters, for one worker.
pub struct WorkerCells {
    counters: Counters,
    slot: Slot,
    ring: Ring<WordMap>,
    /// The slots of all workers, opened when a refusal first asks for the amounts that they hold.
    others: OpenSlots,
}

impl WorkerCells {
    /// Takes a free slot, after giving back the unsent permits of its dead owner.
    ///
    /// `dir` is `DATA/cells`. `StorageFull` without room for the files, `ResourceBusy` when all slots are taken,
    /// `InvalidData` when a file is not valid.
    pub fn open(dir: &Path, store: StoreId) -> io::Result<Self> {
        let counters = Counters::open(dir, store)?;
        let (slot, ring) = Slot::acquire(dir, store, &counters)?;
        Ok(Self { counters, slot, ring, others: OpenSlots::new(dir, store) })
    }

    /// The number of the worker's slot.
    pub fn slot(&self) -> u8 {
        self.slot.number()
    }

    /// The status that the worker shows to the control process.
    pub fn status(&self) -> SlotStatus<'_> {
        self.slot.status()
    }
}

impl Cells for WorkerCells {
    type Words = WordMap;
    type Lock = FileLock;

    #[inline]
    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64> {
        self.counters.dense(column, row)
    }

    #[inline]
    fn row(&self, column: u32, row: u32) -> Option<&[AtomicU64]> {
        self.counters.row(column, row)
    }

    #[inline]
    fn column(&self, column: u32) -> &[AtomicU64] {
        self.counters.column(column)
    }

    #[inline]
    fn lane(&self) -> u64 {
        self.slot.number().into()
    }

    #[inline]
    fn open(&self) -> &Open {
        self.counters.open()
    }
}

impl CounterSpace for WorkerCells {
    #[inline]
    fn ring(&self) -> &Ring<WordMap> {
        &self.ring
    }

    fn held(&self, cell: CellRef, window: u64) -> u64 {
        let rings = self.others.open(&self.counters).unwrap_or_default();
        rings.iter().fold(0, |sum, (_, slot)| sum.saturating_add(journal::held(slots::ring(slot), cell, window)))
    }
}
