//! A worker's access to the counters: all of them, and a slot with a journal and an end of the ledger of its own until it dies.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aigw_core::cells::{CellRef, Cells, CounterSpace, ROW, Ring, Rows, journal};
use aigw_core::clock::Clock as _;
use aigw_core::entry::record::RecordKind;
use aigw_core::units::Moment;

use super::counters::Counters;
use super::open_area::{FileLock, Open};
use super::slots::{self, OpenSlots, Slot, SlotStatus};
use crate::clock::SystemClock;
use crate::ledger::{LEDGER, LedgerWriter};
use crate::map::WordMap;
use crate::store::StoreId;

/// The counters, for one worker.
pub struct WorkerCells {
    counters: Counters,
    slot: Slot,
    ring: Ring<WordMap>,
    ledger: Arc<LedgerWriter>,
    /// The slots of all workers, opened when a refusal first asks for the amounts that they hold.
    others: OpenSlots,
}

impl WorkerCells {
    /// Takes a free slot, and begins a segment of the ledger.
    ///
    /// `dir` is `DATA/cells`; the ledger is in `DATA/ledger`. `StorageFull` without room for the files, `ResourceBusy` when all slots are taken,
    /// `InvalidData` when a file is not valid.
    pub fn open(dir: &Path, store: StoreId) -> io::Result<Self> {
        let counters = Counters::open(dir, store)?;
        let life = SystemClock::new().moment().0;
        let (slot, ring) = Slot::acquire(dir, store, &counters, life)?;
        let ledger = LedgerWriter::open(&dir.with_file_name(LEDGER), store, slot.number(), life)?;
        Ok(Self { counters, slot, ring, ledger, others: OpenSlots::new(dir, store) })
    }

    /// The number of the worker's slot.
    pub fn slot(&self) -> u8 {
        self.slot.number()
    }

    /// The worker's end of the ledger.
    pub fn ledger(&self) -> &LedgerWriter {
        &self.ledger
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

    #[inline]
    fn steady(&self, now: Moment) -> Moment {
        self.counters.steady_now().unwrap_or(now)
    }
}

impl Rows for WorkerCells {
    #[inline]
    fn claim(&self, rows: u32) -> bool {
        self.ledger.reserve(rows)
    }

    #[inline]
    fn release(&self, rows: u32) {
        self.ledger.release(rows);
    }

    #[inline]
    fn append(&self, row: &[u64; ROW]) -> bool {
        self.ledger.append(RecordKind::Entry, row).is_ok()
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
