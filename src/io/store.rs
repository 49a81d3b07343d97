//! The store that the files of a data folder belong to.

/// The id of a store: the 128 bits of its UUID.
pub type StoreId = [u64; 2];
