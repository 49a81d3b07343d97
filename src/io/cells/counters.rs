//! All counters of a folder, without a journal: the part that workers and the control process share.

use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use aigw_core::cells::Cells;
use aigw_core::units::Moment;

use super::columns::Columns;
use super::files;
use super::open_area::{self, FileLock, Open};
use super::{slots, steady};
use crate::map::WordMap;
use crate::store::StoreId;

/// All counters, without a journal.
pub(super) struct Counters {
    pub(super) columns: Columns,
    open: Open,
    boot: u64,
}

impl Counters {
    pub(super) fn open(dir: &Path, store: StoreId) -> io::Result<Self> {
        files::make_dir(dir)?;
        Ok(Self { open: open_area::open(dir, store)?, columns: Columns::new(dir, store), boot: slots::boot() })
    }
}

impl Counters {
    /// Sets the steady clock, for the control process. `begin`: the gateway starts.
    pub(super) fn set_clock(&self, begin: bool) {
        steady::set(self.open.clock(), self.boot, begin);
    }

    /// The steady clock's time.
    #[inline]
    pub(super) fn steady_now(&self) -> Option<Moment> {
        steady::now(self.open.clock(), self.boot)
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
    fn row(&self, column: u32, row: u32) -> Option<&[AtomicU64]> {
        self.columns.row(column, row)
    }

    #[inline]
    fn column(&self, column: u32) -> &[AtomicU64] {
        self.columns.shared(column)
    }

    #[inline]
    fn open(&self) -> &Open {
        &self.open
    }

    fn steady(&self, now: Moment) -> Moment {
        steady::of(self.open.clock(), self.boot, now)
    }
}
