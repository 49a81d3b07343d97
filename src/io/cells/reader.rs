//! The control process's hand on the counters: makes columns, reads counts, reclaims dead workers' slots.
//!
//! It holds no slot and takes nothing. What it reads is of one moment per word, not of one moment for all.

use std::array;
use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::Ordering;

use aigw_core::cells::reclaim::Reclaimed;
use aigw_core::cells::{CellRef, Cells as _, journal};
use aigw_core::limits::{Rate, rate, window};
use aigw_core::telemetry::series::TIERS;
use aigw_core::units::{Moment, UnixSeconds};

use super::counters::Counters;
use super::files::StoreId;
use super::slots::{self, SLOTS, SlotReport};
use crate::map::WordMap;

/// From here on columns are those of metrics.
const FIRST_OF_METRICS: u32 = TIERS.0;

/// What a counter says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CellReading {
    /// Taken in the window, with what is held.
    pub count: u32,
    /// Of it, held by permits in flight.
    pub held: u32,
    /// When the window ends; 0 when the counter was never touched.
    pub end: UnixSeconds,
}

/// A slot that was reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReclaimedSlot {
    /// Its number.
    pub slot: u8,
    /// What its dead owner had left.
    pub found: Reclaimed,
}

/// The counters, for one control process.
pub struct Control {
    dir: PathBuf,
    store: StoreId,
    counters: Counters,
    slots: [OnceLock<WordMap>; SLOTS as usize],
}

impl Control {
    /// Opens `DATA/cells`, making what is missing. [`super::set_aside_foreign`] comes first.
    pub fn open(dir: &Path, store: StoreId) -> io::Result<Self> {
        let counters = Counters::open(dir, store)?;
        Ok(Self { dir: dir.to_owned(), store, counters, slots: array::from_fn(|_| OnceLock::new()) })
    }

    /// The highest number of a limit's column that has a file; 0 for none.
    pub fn highest_column(&self) -> io::Result<u32> {
        self.counters.columns.highest(FIRST_OF_METRICS)
    }

    /// Makes a column of `width` words a row, or lets it grow to hold rows `0..rows`.
    ///
    /// `StorageFull` when the disk is: the column is then as it was. `InvalidData` when the file counts something
    /// else than `key`.
    pub fn ensure_column(&self, number: u32, width: u64, rows: u64, key: &str) -> io::Result<()> {
        self.counters.columns.ensure(number, width, rows, key)
    }

    /// Reads counters by (column, row); one that does not exist reads as never touched.
    pub fn read_cells(&self, cells: &[(u32, u32)]) -> io::Result<Vec<CellReading>> {
        let words = |&(column, row): &(u32, u32)| self.counters.columns.word(column, row);
        let counts: Vec<_> =
            cells.iter().map(|cell| words(cell).map(|word| window::unpack(word.load(Ordering::Acquire)))).collect();
        let wanted = cells
            .iter()
            .zip(&counts)
            .filter_map(|(&(column, row), count)| Some(((CellRef::Dense { column, row }, count.as_ref()?.end), 0_u32)));
        let mut held: HashMap<_, u32> = wanted.collect();
        for (_, slot) in self.open_slots()? {
            for taken in journal::open_permits(slots::ring(slot)).flat_map(|permit| permit.held) {
                if let Some(sum) = held.get_mut(&(taken.cell, taken.end)) {
                    *sum = sum.saturating_add(taken.amount);
                }
            }
        }
        let readings = cells.iter().zip(counts).map(|(&(column, row), count)| {
            let Some(window::Reading { count, end }) = count else { return CellReading::default() };
            let held = held.get(&(CellRef::Dense { column, row }, end)).copied().unwrap_or(0);
            // An intent may not have been taken yet.
            CellReading { count, held: held.min(count), end }
        });
        Ok(readings.collect())
    }

    /// Reads `count` rows of a one-word column from `first` on, as plain words; those that do not exist read as 0.
    pub fn run(&self, column: u32, first: u32, count: u32) -> Vec<u64> {
        let word = |row| self.counters.columns.word(column, row).map_or(0, |word| word.load(Ordering::Relaxed));
        (first..first.saturating_add(count)).map(word).collect()
    }

    /// What a bucket says at this rate; `None` for one that does not exist (yet). Nothing is written.
    pub fn read_bucket(&self, (column, row): (u32, u32), rate: Rate, now: Moment) -> Option<rate::Reading> {
        Some(self.counters.bucket(column, row)?.read(rate, now))
    }

    /// Frees the slots whose owners are dead.
    pub fn reclaim(&self) -> io::Result<Vec<ReclaimedSlot>> {
        let mut reclaimed = Vec::new();
        for (slot, words) in self.open_slots()? {
            if let Some(found) = slots::reclaim_dead(&self.dir, slot, words, &self.counters)? {
                reclaimed.push(ReclaimedSlot { slot, found });
            }
        }
        Ok(reclaimed)
    }

    /// The slots in use.
    pub fn slots(&self) -> io::Result<Vec<SlotReport>> {
        Ok(self.open_slots()?.into_iter().filter_map(|(slot, words)| slots::report(slot, words)).collect())
    }

    fn open_slots(&self) -> io::Result<Vec<(u8, &WordMap)>> {
        let mut found = Vec::new();
        for (number, place) in (0..SLOTS).zip(&self.slots) {
            if let Some(words) = place.get() {
                found.push((number, words));
            } else if let Some(words) = slots::open(&self.dir, self.store, number)? {
                found.push((number, place.get_or_init(|| words)));
            } else {
                // Slots are taken from the lowest on: there are none behind the first that was never made.
                break;
            }
        }
        Ok(found)
    }
}
