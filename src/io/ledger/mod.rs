//! The ledger's segments: files of records in `DATA/ledger`, written by workers and read by the control process.
//!
//! A worker appends through a [`LedgerWriter`]: a record is safe against the death of the process when `append` returns, and
//! against the loss of power after the next group `fdatasync` of the `syncer`, a thread of its own. `state` knows the files in use and
//! the room that admitted calls have claimed; `segment` is one mapped file, `header` its first words. The control process reads
//! through [`Segments`], by `read` and never by a map: a file that somebody cuts short is damage there, and no SIGBUS.
//! The meaning of a record, and its check, are the core's (`entry`).

mod books;
mod files;
mod header;
mod name;
mod news;
mod parts;
mod place;
mod reader;
mod segment;
mod state;
mod syncer;
mod writer;

/// The folder's name in the data folder.
pub const LEDGER: &str = "ledger";

pub use books::{CONTROL_SLOT, DeadBooks};
pub use files::{Disk, Files};
pub use name::SegmentName;
pub use news::News;
pub use reader::{Life, SegmentRead, SegmentReport, Segments};
pub use state::Position;
pub use syncer::Syncer;
pub use writer::{LedgerState, LedgerStatus, LedgerWriter, NoRoom};
