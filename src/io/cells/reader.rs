//! The control process's access to the counters: makes columns, reads counts, reclaims dead workers' slots.
//!
//! It holds no slot and takes nothing. Each word is read at its own moment: the words of one answer may be of different
//! moments.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use aigw_core::admit::Reclaimed;
use aigw_core::cells::Cells as _;
use aigw_core::clock::Clock as _;
use aigw_core::counted::{self, Counted, CountedColumn};
use aigw_core::limits::Times;
use aigw_core::standing::{self, Counter, Standing};
use aigw_core::telemetry::FIRST_COLUMN;
use aigw_core::telemetry::budgets::{self, IN_FLIGHT};
use aigw_core::telemetry::upstreams::{self, UPSTREAMS};
use aigw_core::units::Moment;

use super::counters::Counters;
use super::slots::{self, OpenSlots, SlotReport};
use crate::clock::{SystemClock, machine_millis};
use crate::ledger::{CONTROL_SLOT, DeadBooks, LEDGER, LedgerWriter, Segments};
use crate::map::WordMap;
use crate::store::StoreId;

/// A slot that was reclaimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReclaimedSlot {
    /// Its number.
    pub slot: u8,
    /// The permits that its dead owner left.
    pub found: Reclaimed,
}

/// The counters, for one control process.
pub struct ControlCells {
    dir: PathBuf,
    counters: Counters,
    slots: OpenSlots,
    store: StoreId,
    /// The ledger's folder.
    ledger: PathBuf,
    /// The end of the ledger for rows of calls whose worker died, begun with the first of them.
    rows: OnceLock<Arc<LedgerWriter>>,
    /// Held while permits of dead workers are ended.
    reclaiming: Mutex<()>,
    /// Slot and life of the workers when this control process began.
    earlier: OnceLock<HashSet<(u8, u64)>>,
    waiting: Mutex<Option<Waiting>>,
    /// Slot and life of dead workers that the last reclaim could not end.
    left: Mutex<HashSet<(u8, u64)>>,
}

/// Calls of dead workers that wait, as the last reclaim found them: their rows may be in a segment that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Number of calls.
    pub calls: usize,
    /// Why such a segment cannot be read.
    pub why: String,
}

impl ControlCells {
    /// Opens `DATA/cells` and makes missing files. [`super::set_aside_foreign`] comes first.
    pub fn open(dir: &Path, store: StoreId) -> io::Result<Self> {
        let counters = Counters::open(dir, store)?;
        counters.set_clock(false);
        Ok(Self {
            dir: dir.to_owned(),
            counters,
            slots: OpenSlots::new(dir, store),
            store,
            ledger: dir.with_file_name(LEDGER),
            rows: OnceLock::new(),
            reclaiming: Mutex::default(),
            earlier: OnceLock::new(),
            waiting: Mutex::default(),
            left: Mutex::default(),
        })
    }

    /// The control process begins, alone: only calls of workers that hold slots now can have rows that an earlier one wrote. Without this
    /// note those of all workers can.
    pub fn note_earlier(&self) {
        if let Ok(slots) = self.open_slots() {
            let lives = slots.into_iter().filter_map(|(slot, words)| Some((slot, slots::life(words)?)));
            self.earlier.get_or_init(|| lives.collect());
        }
    }

    /// The highest number of a limit's column that has a file; 0 for none.
    pub fn highest_column(&self) -> io::Result<u32> {
        self.counters.columns.highest(FIRST_COLUMN)
    }

    /// Makes a column of `width` words a row, or lets it grow to hold rows `0..rows`.
    ///
    /// `StorageFull` when the disk is: the column is then as it was. `InvalidData` when the file counts something
    /// else than `key`.
    pub fn ensure_column(&self, number: u32, width: u64, rows: u64, key: &str) -> io::Result<()> {
        self.counters.columns.ensure(number, width, rows, key)
    }

    /// The gateway starts: shorter windows and buckets count by the wall clock of now, unless it is behind.
    pub fn begin_clock(&self) {
        self.counters.set_clock(true);
    }

    /// A moment on the clocks that limits count by.
    pub fn times(&self, now: Moment) -> Times {
        Times::new(now, self.counters.steady(now))
    }

    /// Reads the counters of a caller.
    pub fn standing<'a>(&self, counters: Vec<Counter<'a>>, now: Moment) -> io::Result<Vec<Standing<'a>>> {
        let slots = self.open_slots()?;
        let rings: Vec<&[AtomicU64]> = slots.iter().map(|(_, slot)| slots::ring(slot)).collect();
        Ok(standing::read(&self.counters, &rings, counters, now))
    }

    /// Reads every counter of these columns that is not 0.
    pub fn counted(&self, columns: &[CountedColumn], now: Moment) -> io::Result<Vec<Counted>> {
        let slots = self.open_slots()?;
        let rings: Vec<&[AtomicU64]> = slots.iter().map(|(_, slot)| slots::ring(slot)).collect();
        Ok(counted::read(&self.counters, &rings, columns, now))
    }

    /// Reads `count` rows of a one-word column from `first` on, as plain words; those that do not exist read as 0.
    pub fn run(&self, column: u32, first: u32, count: u32) -> Vec<u64> {
        let word = |row| self.counters.columns.word(column, row).map_or(0, |word| word.load(Ordering::Relaxed));
        (first..first.saturating_add(count)).map(word).collect()
    }

    /// Reads the first `count` rows of a two-word column; none of a column that does not exist.
    pub fn pairs(&self, column: u32, count: u32) -> Vec<(u64, u64)> {
        let read = |row| match self.counters.columns.row(column, row)? {
            [first, second] => Some((first.load(Ordering::Relaxed), second.load(Ordering::Relaxed))),
            _ => None,
        };
        (0..count).map_while(read).collect()
    }

    /// Writes a word of a one-word column that no worker writes.
    pub fn set(&self, column: u32, row: u32, value: u64) {
        if let Some(word) = self.counters.columns.word(column, row) {
            word.store(value, Ordering::Release);
        }
    }

    /// When the column's file was made, where the file system tells.
    pub fn made(&self, column: u32) -> Option<SystemTime> {
        self.counters.columns.made(column)
    }

    /// Frees the slots whose owners are dead. One that cannot be freed keeps no other from it.
    pub fn reclaim(&self) -> io::Result<Vec<ReclaimedSlot>> {
        let _alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut reclaimed, mut waiting, mut failed, mut left) = (Vec::new(), None, None, HashSet::new());
        for (slot, words) in self.open_slots()? {
            match self.reclaim_slot(slot, words, &mut waiting) {
                Ok(found) => {
                    let stays = found.is_some_and(|found| found.found.waiting > 0);
                    left.extend(slots::life(words).filter(|_| stays).map(|life| (slot, life)));
                    reclaimed.extend(found);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = waiting;
        *self.left.lock().unwrap_or_else(PoisonError::into_inner) = left;
        failed.map_or(Ok(reclaimed), Err)
    }

    fn reclaim_slot(
        &self,
        slot: u8,
        words: &WordMap,
        waiting: &mut Option<Waiting>,
    ) -> io::Result<Option<ReclaimedSlot>> {
        let mut unread = None;
        let books = |life| {
            let segments = Segments::open(&self.ledger, self.store);
            let is_earlier = self.earlier.get().is_none_or(|earlier| earlier.contains(&(slot, life)));
            let books = DeadBooks::open(&segments, life, slot, is_earlier, self.rows()?, SystemClock::new().moment())?;
            unread = books.unread().map(str::to_owned);
            Ok(books)
        };
        let Some(found) = slots::reclaim_dead(&self.dir, slot, words, &self.counters, books)? else { return Ok(None) };
        upstreams::forget(&|at| self.counters.columns.word(UPSTREAMS.0, at), slot);
        budgets::forget(&|at| self.counters.columns.word(IN_FLIGHT.0, at), slot.into());
        if let Some(why) = unread.filter(|_| found.waiting > 0) {
            waiting.get_or_insert(Waiting { calls: 0, why }).calls += found.waiting;
        }
        Ok(Some(ReclaimedSlot { slot, found }))
    }

    /// Calls of dead workers whose rows may be in a segment that cannot be read.
    pub fn waiting(&self) -> Option<Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The control process's own end of the ledger.
    fn rows(&self) -> io::Result<&LedgerWriter> {
        if let Some(rows) = self.rows.get() {
            return Ok(rows);
        }
        let life = SystemClock::new().moment().0;
        let rows = LedgerWriter::open(&self.ledger, self.store, CONTROL_SLOT, life)?;
        Ok(self.rows.get_or_init(|| rows))
    }

    /// Whether permits that nobody has ended yet may have their rows in the segments of a dead process: those of a worker that started at
    /// `life` with this slot. A control process may have died between the row of any dead worker's permit and the permit's end.
    pub fn has_permits_of(&self, slot: u8, life: u64) -> io::Result<bool> {
        let slots = self.open_slots()?;
        if slot == CONTROL_SLOT {
            let _alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
            for (number, words) in slots {
                if slots::is_left(&self.dir, number, words)? {
                    return Ok(true);
                }
            }
            return Ok(false);
        }
        Ok(slots.into_iter().any(|(number, words)| number == slot && slots::is_left_by(words, life)))
    }

    /// Whether the worker that started at `life` with this slot still runs.
    pub fn is_alive(&self, slot: u8, life: u64) -> io::Result<bool> {
        let of_life = |(number, words): &(u8, &WordMap)| *number == slot && slots::is_left_by(words, life);
        let Some((number, words)) = self.open_slots()?.into_iter().find(of_life) else { return Ok(false) };
        let _alone = self.reclaiming.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(!slots::is_left(&self.dir, number, words)?)
    }

    /// The slots in use, without those whose owner is known to be dead.
    pub fn slots(&self) -> io::Result<Vec<SlotReport>> {
        let (now, slots) = (machine_millis(), self.open_slots()?);
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let alive = slots
            .into_iter()
            .filter(|(slot, words)| slots::life(words).is_some_and(|life| !left.contains(&(*slot, life))));
        Ok(alive.filter_map(|(slot, words)| slots::report(slot, words, now)).collect())
    }

    fn open_slots(&self) -> io::Result<Vec<(u8, &WordMap)>> {
        self.slots.open(&self.counters)
    }
}
