//! Runs of counter words: one word is one counter, shared by all workers. A word that is missing reads 0 and counts nothing.

use crate::cells::atomic::{AtomicU64, Ordering};

/// Finds the word at an index of a run; `None` when the column does not exist yet.
pub trait Run<'a>: Fn(u32) -> Option<&'a AtomicU64> {}
impl<'a, F: Fn(u32) -> Option<&'a AtomicU64>> Run<'a> for F {}

pub(super) fn add<'a>(run: &impl Run<'a>, at: u32, n: u64) {
    if let Some(word) = run(at) {
        word.fetch_add(n, Ordering::Relaxed);
    }
}

pub(super) fn get(words: &[u64], at: u32) -> u64 {
    words.get(at as usize).copied().unwrap_or(0)
}
