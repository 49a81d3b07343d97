//! Upstreams that cannot be connected to, as all workers share it: one row of words per upstream that ever failed.
//!
//! In: the address of an upstream (`host:port`), a worker's slot, a fault. Out: whether this worker is the first that finds
//! the upstream down, or the last that finds it up again, so that one log line is written however many workers there are; and
//! the state for the metric and `/status`. A row is found by a hash of the address; a full table shows no further upstream.

use crate::cells::atomic::Ordering;

use sha2::{Digest as _, Sha256};

use super::metric::{Metric, MetricType};
use super::page::{Sink, Value};
use super::words::{Run, get};
use crate::balance::ConnectFault;

/// The column of upstreams: its number, above all that limits are given, and its key.
pub const UPSTREAMS: (u32, &str) = (1_048_569, "metrics:upstreams");
/// Rows of the table.
const ROWS: u32 = 1_024;
/// Words of a row: the key, the slots of the workers that find it down, the time since when, the fault.
const ROW: u32 = 4;
const DOWN: u32 = 1;
const SINCE: u32 = 2;
const FAULT: u32 = 3;
/// Words (rows of the column) of the whole table.
pub const UPSTREAM_WORDS: u32 = ROWS * ROW;

const UP: Metric = Metric {
    name: "aigw_upstream_up",
    kind: MetricType::Gauge,
    help: "1 while connections to the upstream can be made; 0 while a worker finds it down after three failed connects.",
    labels: &["upstream"],
};

/// An upstream that at least one worker finds down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// Unix milliseconds of the first worker's finding.
    pub since: u64,
    /// The fault that this worker met.
    pub fault: ConnectFault,
    /// The number of workers that find it down.
    pub workers: u32,
}

/// The metrics of this page.
pub(super) fn table() -> [Metric; 1] {
    [UP]
}

/// The worker in `slot` finds the upstream down. True when it is the first one, or when the table has no row left.
pub fn down<'a>(run: &impl Run<'a>, upstream: &str, slot: u8, since: u64, fault: ConnectFault) -> bool {
    let Some(row) = row(run, key(upstream)) else { return true };
    let Some(slots) = run(row + DOWN) else { return true };
    if slots.load(Ordering::Acquire) == 0 {
        for (at, value) in [(SINCE, since), (FAULT, fault as u64)] {
            if let Some(word) = run(row + at) {
                word.store(value, Ordering::Release);
            }
        }
    }
    slots.fetch_or(bit(slot), Ordering::AcqRel) == 0
}

/// The worker in `slot` has connected again. True when no other worker finds the upstream down.
pub fn up<'a>(run: &impl Run<'a>, upstream: &str, slot: u8) -> bool {
    let Some(slots) = row(run, key(upstream)).and_then(|row| run(row + DOWN)) else { return true };
    slots.fetch_and(!bit(slot), Ordering::AcqRel) & !bit(slot) == 0
}

/// A worker starts in `slot`, or died there: it finds nothing down.
pub fn forget<'a>(run: &impl Run<'a>, slot: u8) {
    for row in (0..ROWS).map(|n| n * ROW) {
        if let Some(slots) = run(row + DOWN)
            && slots.load(Ordering::Acquire) & bit(slot) != 0
        {
            slots.fetch_and(!bit(slot), Ordering::AcqRel);
        }
    }
}

/// The outage of an upstream in the table's words, as read; `None` while no worker finds it down.
pub fn outage(words: &[u64], upstream: &str) -> Option<Outage> {
    let key = key(upstream);
    let row = (0..ROWS).map(|n| n * ROW).find(|row| get(words, *row) == key)?;
    let (slots, fault) = (get(words, row + DOWN), ConnectFault::from_code(get(words, row + FAULT))?);
    (slots != 0).then(|| Outage { since: get(words, row + SINCE), fault, workers: slots.count_ones() })
}

/// Hands the state of these upstreams to `sink`.
pub fn walk<'a>(words: &[u64], upstreams: impl Iterator<Item = &'a str>, sink: &mut impl Sink) {
    sink.metric(&UP);
    for upstream in upstreams {
        let up = u64::from(outage(words, upstream).is_none());
        sink.sample("", &[("upstream", upstream)], Value::Whole(up));
    }
}

/// The first word of a key's row; a free row becomes the key's.
fn row<'a>(run: &impl Run<'a>, key: u64) -> Option<u32> {
    let start = key % u64::from(ROWS);
    let rows = (0..u64::from(ROWS)).map(|step| (start + step) % u64::from(ROWS));
    for row in rows.filter_map(|n| u32::try_from(n).ok()).map(|n| n * ROW) {
        let word = run(row)?;
        let found = match word.compare_exchange(0, key, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => key,
            Err(found) => found,
        };
        if found == key {
            return Some(row);
        }
    }
    None
}

/// Never 0, which is a free row.
fn key(upstream: &str) -> u64 {
    let hash = Sha256::digest(upstream.as_bytes());
    let (first, _) = hash.as_slice().split_first_chunk::<8>().unwrap_or((&[0; 8], &[]));
    u64::from_be_bytes(*first).max(1)
}

fn bit(slot: u8) -> u64 {
    1 << (slot & 63)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    fn words() -> Vec<AtomicU64> {
        (0..UPSTREAM_WORDS).map(|_| AtomicU64::new(0)).collect()
    }

    fn read(words: &[AtomicU64]) -> Vec<u64> {
        words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }

    #[test]
    fn first_worker_down_and_last_worker_up_are_told_apart() {
        let words = words();
        let run = |at: u32| words.get(at as usize);
        assert!(down(&run, "a:1", 0, 5, ConnectFault::Refused));
        assert!(!down(&run, "a:1", 63, 9, ConnectFault::Tls));
        assert!(down(&run, "b:1", 63, 9, ConnectFault::Tls));
        let outage_of = |upstream| outage(&read(&words), upstream);
        assert_eq!(outage_of("a:1"), Some(Outage { since: 5, fault: ConnectFault::Refused, workers: 2 }));
        assert!(!up(&run, "a:1", 0));
        assert!(up(&run, "a:1", 63));
        assert_eq!((outage_of("a:1"), outage_of("c:1")), (None, None));
        assert_eq!(outage_of("b:1").unwrap().fault, ConnectFault::Tls);
        forget(&run, 63);
        assert_eq!(outage_of("b:1"), None);
        assert!(down(&run, "a:1", 1, 20, ConnectFault::TimedOut));
        assert_eq!(outage_of("a:1").unwrap().since, 20);
    }

    #[test]
    fn full_table_and_missing_column_say_every_outage() {
        let words = words();
        let run = |at: u32| words.get(at as usize);
        for n in 0..ROWS {
            assert!(down(&run, &format!("u{n}:1"), 0, 1, ConnectFault::Refused));
        }
        for _ in 0..2 {
            assert!(down(&run, "one-too-many:1", 0, 1, ConnectFault::Refused));
        }
        assert!(up(&run, "one-too-many:1", 0));
        assert!(down(&|_| None, "a:1", 0, 1, ConnectFault::Refused));
        assert_eq!(outage(&[], "a:1"), None);
    }
}
