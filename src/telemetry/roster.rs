//! The roster of a column of metrics: the keys of its rows, in the order in which they were first called.
//!
//! In: the key of a tier's calls of a model, or of an upstream. Out: the row that counts them, the same in all workers and after
//! every restart. Of all tiers times all models few pairs are ever called, so a pair has a row from its first call on. Word 0 of
//! the roster is the end of the rows that the control process has made; the word of a row is its key, 0 for a free row. Workers
//! claim the first free row without a lock, so that a row never changes its key and no key has two rows.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};

use crate::cells::atomic::Ordering;

use super::words::Run;

/// The roster of rows by tier and model: the number of its column, above all that limits are given, and the column's key.
pub const OF_SERIES: (u32, &str) = (1_048_563, "metrics:series:rows");
/// The roster of rows by tier and upstream.
pub const OF_CALLS: (u32, &str) = (1_048_562, "metrics:calls:rows");
/// The row of calls that found no free row: shown without a tier and a model.
pub const NO_ROW: u32 = 0;
/// The word that is the end of the rows.
pub const END: u32 = 0;
/// The word of a row whose key is not known any more.
pub const FORGOTTEN: u64 = u64::MAX;

/// The key of a tier's calls of a model or an upstream, by their numbers.
#[must_use]
pub fn key(tier: u32, other: u32) -> u64 {
    u64::from(tier) << 32 | u64::from(other)
}

/// The numbers of a tier and of its model or upstream.
#[must_use]
pub fn read(key: u64) -> (u32, u32) {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    (half(key >> 32), half(key))
}

/// The part of a roster that this process has read.
#[derive(Debug, Default)]
pub struct Roster {
    known: RwLock<Known>,
}

#[derive(Debug, Default)]
struct Known {
    rows: HashMap<u64, u32>,
    /// The last row that was read.
    last: u32,
}

impl Roster {
    /// The row of a key, whose roster is `run`. A new key gets the first free row, or [`NO_ROW`] while all rows are taken.
    pub fn row<'a>(&self, run: &impl Run<'a>, key: u64) -> u32 {
        let found = self.known.read().unwrap_or_else(PoisonError::into_inner).rows.get(&key).copied();
        found.unwrap_or_else(|| self.claim(run, key))
    }

    #[cold]
    fn claim<'a>(&self, run: &impl Run<'a>, key: u64) -> u32 {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(row) = known.rows.get(&key) {
            return *row;
        }
        let end = run(END).map_or(0, |word| word.load(Ordering::Acquire));
        while u64::from(known.last) + 1 < end {
            let row = known.last + 1;
            let Some(word) = run(row) else { break };
            // A failed exchange tells the key of another call, which may be this one's.
            let found = word.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire).err().unwrap_or(key);
            known.last = row;
            known.rows.entry(found).or_insert(row);
            if found == key {
                return row;
            }
        }
        NO_ROW
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::atomic::AtomicU64;
    use std::collections::BTreeSet;

    fn words(end: u64) -> Vec<AtomicU64> {
        std::iter::once(end).chain((1..9).map(|_| 0)).map(AtomicU64::new).collect()
    }

    #[test]
    fn key_has_one_row_in_all_workers_and_the_next_key_the_next() {
        let words = words(9);
        let run = |at: u32| words.get(at as usize);
        let (one, other) = (Roster::default(), Roster::default());
        let rows = [(1, 1), (1, 2), (1, 1)].map(|(tier, model)| one.row(&run, key(tier, model)));
        assert_eq!((rows, other.row(&run, key(1, 2)), other.row(&run, key(2, 1))), ([1, 2, 1], 2, 3));
        assert_eq!((one.row(&run, key(2, 1)), Roster::default().row(&run, key(1, 1))), (3, 1));
        assert_eq!(words[2].load(Ordering::Relaxed), key(1, 2));
        assert_eq!(read(key(7, u32::MAX)), (7, u32::MAX));
    }

    #[test]
    fn key_without_a_free_row_gets_one_as_soon_as_there_is_one() {
        let words = words(2);
        words[1].store(FORGOTTEN, Ordering::Relaxed);
        let run = |at: u32| words.get(at as usize);
        let roster = Roster::default();
        assert_eq!(roster.row(&run, key(1, 1)), NO_ROW);
        words[0].store(3, Ordering::Release);
        assert_eq!(roster.row(&run, key(1, 1)), 2);
        assert_eq!(Roster::default().row(&|_| None, key(1, 1)), NO_ROW);
    }

    #[test]
    fn threads_that_race_for_rows_agree() {
        let words = words(9);
        let claim = |_| {
            let run = |at: u32| words.get(at as usize);
            let roster = Roster::default();
            (1..9).map(|model| roster.row(&run, key(1, model))).collect::<Vec<_>>()
        };
        let all: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|at| scope.spawn(move || claim(at))).collect();
            threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
        });
        assert!(all.len() == 4 && all.iter().all(|rows| *rows == all[0]));
        assert_eq!(all[0].iter().collect::<BTreeSet<_>>().len(), 8);
    }
}
