//! Where counters live: words in memory that all workers share.
//!
//! `dense` cells have a fixed address (column, row), `open` ones are found by a tag in a bounded hash area.
//! `journal` is a worker's ring of permits over the same kind of memory. The core borrows `&[AtomicU64]` and never
//! asks for their origin: `heap` in tests, mapped files in `aigw-io`.

use atomic::{AtomicU64, Ordering};

use crate::units::Moment;

pub mod atomic;
pub mod budget;
pub mod counter;
pub mod heap;
pub mod journal;
pub mod journal_v1;
pub mod open;
pub mod places;
pub mod shared;
mod stack;
pub mod tag;

pub use journal::Ring;
pub use open::OpenArea;
pub use tag::Tag;

/// Owns, or keeps mapped, a run of words that may change under it at any time.
pub trait Words: Send + Sync {
    /// The words: always the same ones, at the same address.
    fn words(&self) -> &[AtomicU64];
}

/// Mutual exclusion among all threads of all processes that map the same area, let go when a holder dies.
pub trait Exclusive: Send + Sync {
    /// Runs `work` alone. [`Busy`] after a bounded wait.
    fn alone<R>(&self, work: impl FnOnce() -> R) -> Result<R, Busy>;
}

/// The lock could not be had in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the counters of open scopes are locked by another process: is one of the gateway's processes stopped?")]
pub struct Busy;

/// Why words are not the expected area.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Not an area of ours, or cut short.
    #[error("this is not a {0} file of aigw: move it away and start again")]
    Foreign(&'static str),
    /// Made by another version.
    #[error(
        "layout {found} of the {kind} file is not supported (this version knows {known}): move it away and start again"
    )]
    Version {
        /// The use of the file.
        kind: &'static str,
        /// The version in the file.
        found: u64,
        /// The version of this program.
        known: u64,
    },
}

/// The counters of one gateway.
pub trait Cells: Send + Sync {
    /// Owner of the open area's words.
    type Words: Words;
    /// Guard of the open area's changes.
    type Lock: Exclusive;

    /// The first word of a row; `None` when the column or the row does not exist (yet).
    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64>;
    /// All words of a row, as many as its limit kind asks for; `None` when the column or the row does not exist (yet).
    fn row(&self, column: u32, row: u32) -> Option<&[AtomicU64]>;
    /// The [`COLUMN_WORDS`](shared::COLUMN_WORDS) words that all rows of a column share; empty when there is no column.
    fn column(&self, column: u32) -> &[AtomicU64];
    /// The number of this process among those that admit calls: its own lane in counters of calls in flight.
    fn lane(&self) -> u64 {
        0
    }
    /// The hash area.
    fn open(&self) -> &OpenArea<Self::Words, Self::Lock>;

    /// `now` on a clock that all processes of the gateway share and that steps of the wall clock do not move; `now` itself without
    /// such a clock.
    #[inline]
    fn steady(&self, now: Moment) -> Moment {
        now
    }

    /// The first and the last word of a counter's row, mixed: the loads bring all lines of the row into the cache. 0 for a counter
    /// of the hash area.
    #[inline]
    fn ends(&self, key: CellKey) -> u64 {
        let CellKey::Dense { column, row } = key else { return 0 };
        let word = |word: Option<&AtomicU64>| word.map_or(0, |word| word.load(Ordering::Relaxed));
        self.row(column, row).map_or(0, |row| word(row.first()) ^ word(row.last()))
    }

    /// The first word of a cell that a journal names; `None` when there is no such cell.
    fn word(&self, cell: CellRef) -> Option<&AtomicU64> {
        if cell.open { self.open().word(cell.row) } else { self.dense(cell.column, cell.row) }
    }
}

/// Words of one row of the ledger.
pub const ROW: usize = 30;

/// The end of a worker's ledger: rows are added there, and never read.
pub trait Rows: Send + Sync {
    /// Claims room for so many rows. False: there is no room, and a call that needs it must not be sent.
    fn claim(&self, rows: u32) -> bool;
    /// Gives claims back that were not used.
    fn release(&self, rows: u32);
    /// Adds a row, by a claim. It is safe against the death of the process when this returns true; false without a claim.
    fn append(&self, row: &[u64; ROW]) -> bool;
}

/// The counters of one gateway, and one worker's own ring of permits and end of the ledger.
pub trait CounterSpace: Cells + Rows {
    /// The worker's journal.
    fn ring(&self) -> &Ring<Self::Words>;

    /// The amount that calls in flight hold in a cell and window, as far as their journals can be read: [`journal::held`].
    fn held(&self, cell: CellRef, window: u64) -> u64;
}

/// Why a counter could not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CounterError {
    /// The counters of open scopes could not be reached in time.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The snapshot names a counter that no file has: a defect of the gateway.
    #[error("no counter for column {column}, row {row}")]
    Missing {
        /// Column number.
        column: u32,
        /// Row number.
        row: u32,
    },
}

/// The counter of a limit: the name of a cell, before it is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellKey {
    /// A row of a column: consumer's or credential's `n`, or 0.
    Dense {
        /// Column number.
        column: u32,
        /// Row number.
        row: u32,
    },
    /// An identifier (address, header value, path) in the hash area; [`OpenArea::key`] makes it.
    Open {
        /// Column number.
        column: u32,
        /// Keyed hash of column and identifier.
        tag: Tag,
    },
}

impl CellKey {
    /// Column and row, for kinds whose counters are in rows alone. Building such a limit refuses the open area; a key of it has a
    /// row that no column has.
    #[inline]
    pub fn dense(self) -> (u32, u32) {
        match self {
            Self::Dense { column, row } => (column, row),
            Self::Open { column, .. } => (column, u32::MAX),
        }
    }
}

/// The address of a counter's cell, as permits and journal entries name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CellRef {
    /// Number of the limit kind that counts there.
    pub kind: u8,
    /// The cell is in the hash area.
    pub open: bool,
    /// Column number.
    pub column: u32,
    /// Row number; in the hash area the index of the word.
    pub row: u32,
}

const OPEN: u64 = 1 << 55;

/// The highest column number a journal can name.
pub const MAX_COLUMN: u32 = (1 << 20) - 1;

impl CellRef {
    /// As one word: kind (bits 56 to 63) | in the hash area (bit 55) | column (20 bits from 32 on) | row or index (32 bits).
    #[inline]
    pub fn pack(self) -> u64 {
        let open = if self.open { OPEN } else { 0 };
        u64::from(self.kind) << 56 | open | u64::from(self.column & MAX_COLUMN) << 32 | u64::from(self.row)
    }

    /// The reverse of [`Self::pack`].
    #[inline]
    pub fn unpack(word: u64) -> Self {
        Self {
            kind: (word >> 56) as u8,
            open: word & OPEN != 0,
            column: (word >> 32) as u32 & MAX_COLUMN,
            row: (word & 0xffff_ffff) as u32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Journals of every version have these bits.
    #[test]
    fn address_of_a_cell_is_packed_for_ever_the_same() {
        let cell = CellRef { kind: 0x9a, open: true, column: 0xf_edcb, row: 0x8765_4321 };
        for (cell, word) in [
            (cell, 0x9a8f_edcb_8765_4321),
            (CellRef { open: false, ..cell }, 0x9a0f_edcb_8765_4321),
            (CellRef { kind: 1, open: true, column: 0, row: 0 }, 0x0180_0000_0000_0000),
        ] {
            assert_eq!((cell.pack(), CellRef::unpack(word)), (word, cell));
        }
        assert_eq!((MAX_COLUMN, CellRef { column: u32::MAX, ..cell }.pack()), (0xf_ffff, 0x9a8f_ffff_8765_4321));
    }
}
