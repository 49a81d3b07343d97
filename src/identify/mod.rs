//! Stage `identify`: credential -> consumer.
//!
//! [`credential`] finds what the caller presented, [`keytable`] says whose it is, `recent` remembers that for the next
//! call. Out: a [`Caller`], borrowed from the snapshot, or a [`crate::denial::Refused`]. No key leaves this stage: only
//! row numbers, ids and names do.

pub mod credential;
pub mod keytable;
mod recent;

pub use credential::{Presented, Request, bearer, hidden_query, keyless_query, presented};
pub use keytable::{Caller, KeyHasher, identify};
