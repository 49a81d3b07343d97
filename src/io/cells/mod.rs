//! The counters of a gateway as files in `DATA/cells`, shared by the control process and all workers.
//!
//! `columns` hold dense counters, `open_area` the hash area, `slots` each worker's lock and journal. Workers come in
//! by [`Worker`], the control process by [`Control`]. Decisions are the core's; here are only files, locks and maps.

mod columns;
mod files;
mod open_area;
mod reader;
mod slots;

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use aigw_core::cells::{Cells, OpenArea, Place, Ring};

use crate::map::WordMap;
use columns::Columns;
pub use files::set_aside_foreign;
use open_area::FileLock;
pub use reader::{CellReading, Control, ReclaimedSlot};
use slots::Slot;
pub use slots::{SLOTS, SlotReport, SlotState, SlotStatus};

/// The id of the store that the counters belong to: the 128 bits of its UUID.
pub type StoreId = [u64; 2];

/// The hash area as workers and control have it.
type Open = OpenArea<WordMap, FileLock>;

/// All counters, without a journal.
struct Counters {
    columns: Columns,
    open: Open,
}

impl Counters {
    fn open(dir: &Path, store: StoreId) -> io::Result<Self> {
        files::make_dir(dir)?;
        Ok(Self { open: open_area::open(dir, store)?, columns: Columns::new(dir, store) })
    }
}

impl Cells for Counters {
    type Words = WordMap;
    type Lock = FileLock;

    #[inline]
    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64> {
        self.columns.word(column, row)
    }

    #[inline]
    fn costs(&self, column: u32) -> &[AtomicU64] {
        self.columns.costs(column)
    }

    #[inline]
    fn open(&self) -> &Open {
        &self.open
    }
}

/// A worker's hold on the counters: all of them, and a slot with a journal of its own until it dies.
pub struct Worker {
    counters: Counters,
    slot: Slot,
    ring: Ring<WordMap>,
}

impl Worker {
    /// Takes a free slot, having given back what its dead owner had not sent.
    ///
    /// `dir` is `DATA/cells`. `StorageFull` when there is no room for the files, `ResourceBusy` when all slots are
    /// taken, `InvalidData` when a file is not what it should be.
    pub fn open(dir: &Path, store: StoreId) -> io::Result<Self> {
        let counters = Counters::open(dir, store)?;
        let (slot, ring) = Slot::acquire(dir, store, &counters)?;
        Ok(Self { counters, slot, ring })
    }

    /// What the worker shows of itself to the control process.
    pub fn status(&self) -> SlotStatus<'_> {
        self.slot.status()
    }
}

impl Cells for Worker {
    type Words = WordMap;
    type Lock = FileLock;

    #[inline]
    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64> {
        self.counters.dense(column, row)
    }

    #[inline]
    fn costs(&self, column: u32) -> &[AtomicU64] {
        self.counters.costs(column)
    }

    #[inline]
    fn open(&self) -> &Open {
        self.counters.open()
    }
}

impl Place for Worker {
    #[inline]
    fn ring(&self) -> &Ring<WordMap> {
        &self.ring
    }
}
