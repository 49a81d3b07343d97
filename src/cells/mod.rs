//! Where counters live: words in memory that all workers share.
//!
//! `dense` cells have a place of their own (column, row), `open` ones are found by a tag in a bounded hash area.
//! `journal` is a worker's ring of permits over the same kind of memory. The core borrows `&[AtomicU64]` and never
//! asks where it comes from: `heap` in tests, mapped files in `aigw-io`.

use core::sync::atomic::AtomicU64;

pub mod heap;
pub mod journal;
pub mod open;
pub mod reclaim;
pub mod shared;
mod stack;
pub mod tag;

pub use journal::Ring;
pub use open::OpenArea;
pub use tag::Tag;

use crate::limits::rate::Bucket;

/// Owns, or keeps mapped, a run of words that may change under it at any time.
pub trait Words: Send + Sync {
    /// The words. Always the same ones, in the same place.
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

/// Why words are not the area they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Not ours, or cut short.
    #[error("this is no {0} file of aigw: move it away and start again")]
    Foreign(&'static str),
    /// Made by another version.
    #[error(
        "layout {found} of the {kind} file is not supported (this version knows {known}): move it away and start again"
    )]
    Version {
        /// What the file is for.
        kind: &'static str,
        /// The version in the file.
        found: u64,
        /// The version of this program.
        known: u64,
    },
}

/// The counters of one gateway.
pub trait Cells: Send + Sync {
    /// What holds the open area's words.
    type Words: Words;
    /// What guards the open area's changes.
    type Lock: Exclusive;

    /// The first word of a row; `None` when the column or the row does not exist (yet).
    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64>;
    /// The costs that the column's buckets speak of ([`COSTS`](crate::limits::rate::COSTS)); none for a column that does not exist.
    fn costs(&self, column: u32) -> &[AtomicU64];
    /// The hash area.
    fn open(&self) -> &OpenArea<Self::Words, Self::Lock>;

    /// The bucket in a row's first word; `None` when the column or the row does not exist (yet).
    #[inline]
    fn bucket(&self, column: u32, row: u32) -> Option<Bucket<'_>> {
        Some(Bucket::new(self.dense(column, row)?, self.costs(column)))
    }

    /// The word that a journal names; `None` when there is no such word.
    fn word(&self, cell: CellRef) -> Option<&AtomicU64> {
        match cell {
            CellRef::Dense { column, row } | CellRef::Rate { column, row } => self.dense(column, row),
            CellRef::Open { index, .. } => self.open().word(index),
        }
    }
}

/// The counters of one gateway and one worker's own ring of permits.
pub trait Place: Cells {
    /// The worker's journal.
    fn ring(&self) -> &Ring<Self::Words>;
}

/// Which counter a limit is held in: the name of a cell, before it is looked up.
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

/// Where a counter's word is: what a permit holds and its journal names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CellRef {
    /// A row of a column.
    Dense {
        /// Column number.
        column: u32,
        /// Row number.
        row: u32,
    },
    /// A row of a column whose words are buckets.
    Rate {
        /// Column number.
        column: u32,
        /// Row number.
        row: u32,
    },
    /// A word of the hash area.
    Open {
        /// Column number, for readers.
        column: u32,
        /// Index of the word in the area.
        index: u32,
    },
}

const OPEN: u64 = 1 << 63;
const RATE: u64 = 1 << 62;

/// The highest column number a journal can name.
pub const MAX_COLUMN: u32 = (1 << 30) - 1;

impl CellRef {
    /// As one word: open (bit 63) | bucket (bit 62) | column (30 bits) | row or index (32 bits).
    pub fn pack(self) -> u64 {
        let (flag, column, low) = match self {
            Self::Dense { column, row } => (0, column, row),
            Self::Rate { column, row } => (RATE, column, row),
            Self::Open { column, index } => (OPEN, column, index),
        };
        flag | (u64::from(column & MAX_COLUMN) << 32) | u64::from(low)
    }

    /// The reverse of [`Self::pack`].
    pub fn unpack(word: u64) -> Self {
        let column = (word >> 32) as u32 & MAX_COLUMN;
        let low = (word & 0xffff_ffff) as u32;
        match word & (OPEN | RATE) {
            0 => Self::Dense { column, row: low },
            RATE => Self::Rate { column, row: low },
            _ => Self::Open { column, index: low },
        }
    }
}
