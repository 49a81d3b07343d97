//! A column of counters with one bucket, for the tests of its word.

use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::limits::gcra::{BucketCell, COSTS};

/// A column with one bucket.
pub struct Column {
    word: AtomicU64,
    costs: Vec<AtomicU64>,
}

impl Column {
    pub fn new() -> Self {
        Self { word: AtomicU64::new(0), costs: (0..COSTS).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The costs of the rates that the column keeps.
    #[allow(dead_code)]
    pub fn costs(&self) -> Vec<u64> {
        self.costs.iter().map(|cost| cost.load(Ordering::SeqCst)).collect()
    }

    pub fn bucket(&self) -> BucketCell<'_> {
        BucketCell::new(&self.word, &self.costs)
    }
}
