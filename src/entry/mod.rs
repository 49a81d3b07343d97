//! The rows of the ledger: their facts, their bytes, and reading them back after a crash.
//!
//! In: the facts of a call that a stage has settled, or of one whose worker died. Out: an [`Entry`], its words in a record, the records of
//! a segment. Numbers in place of names: the store gives each entity one number for ever. Nothing here reads a counter, a clock or a file.

pub mod doubt;
pub mod record;
pub mod recover;
mod row;
pub mod sums;

pub use row::{Ended, Entry, PAYLOAD, TokenSource};
