//! Refusals on their way to the ledger: counted in memory, written as one record for each caller, tier, model and reason of a second.
//!
//! In: each refusal. Out: records of the ledger, twice a second and at the end of the worker. They are no entries: a killed worker loses those of
//! its last second, and a ledger without room drops them, counted. The memory is bounded: callers beyond the bound share a row.

use std::collections::HashMap;
use std::mem::take;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use aigw_core::entry::PAYLOAD;
use aigw_core::entry::record::RecordKind;
use aigw_core::refusal::Reason;
use aigw_core::units::Moment;

use crate::ledger::LedgerWriter;

/// Rows that are kept at most between two writes.
const MOST: usize = 4_096;
const MINUTE: u32 = 60;

/// The subject of refusals that count together. A row number of 0 names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Refused {
    pub(crate) consumer: u32,
    pub(crate) tier: u32,
    pub(crate) model: u32,
    pub(crate) reason: Reason,
}

/// The least time between two writes, in nanoseconds: a row of each caller on each beat (50 ms) would fill segments with few refusals.
const EVERY: u64 = 500_000_000;

/// The refusals that are not written yet, by the start of their minute (unix seconds).
#[derive(Debug, Default)]
pub(crate) struct Denials {
    counts: Mutex<HashMap<(u32, Refused), u64>>,
    /// When they were last written; unix nanoseconds.
    written: AtomicU64,
}

impl Denials {
    /// Counts a refusal.
    pub(crate) fn count(&self, refused: Refused, now: Moment) {
        let minute = now.seconds().0 / MINUTE * MINUTE;
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = Refused { consumer: 0, ..refused };
        let is_known = counts.len() < MOST || counts.contains_key(&(minute, refused));
        *counts.entry((minute, if is_known { refused } else { shared })).or_default() += 1;
    }

    /// Writes them, if it is time. Returns the number of refusals that had no room.
    pub(crate) fn write_due(&self, ledger: &LedgerWriter, now: Moment) -> u64 {
        // A clock that was put back is no reason to wait.
        if now.0.abs_diff(self.written.load(Ordering::Relaxed)) < EVERY {
            return 0;
        }
        self.written.store(now.0, Ordering::Relaxed);
        self.write(ledger)
    }

    /// Writes them. Returns the number of refusals that had no room.
    pub(crate) fn write(&self, ledger: &LedgerWriter) -> u64 {
        let counts = take(&mut *self.counts.lock().unwrap_or_else(PoisonError::into_inner));
        let mut dropped = 0;
        for ((minute, refused), count) in counts {
            let is_written =
                ledger.reserve(1) && ledger.append(RecordKind::Denials, &row(minute, refused, count)).is_ok();
            dropped += if is_written { 0 } else { count };
        }
        dropped
    }
}

/// Start of the minute; consumer and tier; model and reason; count.
fn row(minute: u32, refused: Refused, count: u64) -> [u64; PAYLOAD] {
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let Refused { consumer, tier, model, reason } = refused;
    let mut row = [0; PAYLOAD];
    row[..4].copy_from_slice(&[u64::from(minute), pair(consumer, tier), pair(model, reason as u32), count]);
    row
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::path::Path;

    use aigw_core::entry::record::SEGMENT_RECORDS;

    use super::*;
    use crate::ledger::{SegmentName, Segments};

    const STORE: [u64; 2] = [1, 2];

    fn by(consumer: u32) -> Refused {
        Refused { consumer, tier: 1, model: 0, reason: Reason::RateLimited }
    }

    fn at(millis: u64) -> Moment {
        Moment(millis * 1_000_000)
    }

    /// Minute, caller and count of each record, sorted.
    fn recorded(dir: &Path) -> Vec<(u64, u64, u64)> {
        let name = SegmentName { life: 9, slot: 3, number: 0 };
        let read = Segments::open(dir, STORE).read(name, 0, SEGMENT_RECORDS).unwrap();
        assert!(read.records.iter().all(|record| record.kind == RecordKind::Denials));
        let mut rows: Vec<_> =
            read.records.iter().map(|one| (one.payload[0], one.payload[1], one.payload[3])).collect();
        rows.sort_unstable();
        rows
    }

    #[test]
    fn refusals_are_written_once_for_each_caller_and_minute() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = LedgerWriter::open(folder.path(), STORE, 3, 9).unwrap();
        let denials = Denials::default();
        for (millis, consumer) in [(60_000, 1), (60_100, 1), (119_999, 2), (120_000, 1)] {
            denials.count(by(consumer), at(millis));
        }
        assert_eq!(denials.write_due(&ledger, at(120_000)), 0);
        denials.count(by(1), at(120_001));
        assert_eq!(denials.write_due(&ledger, at(120_400)), 0);
        assert_eq!(ledger.status().appended, 3, "too early for the second write");
        assert_eq!(denials.write_due(&ledger, at(120_500)), 0);
        denials.count(by(1), at(59_000));
        assert_eq!(denials.write_due(&ledger, at(59_000)), 0, "the clock was put back");
        assert_eq!((denials.write(&ledger), ledger.status().reserved), (0, 0));
        ledger.close().unwrap();
        let (one, two) = (1 | 1 << 32, 2 | 1 << 32);
        assert_eq!(recorded(folder.path()), [(0, one, 1), (60, one, 2), (60, two, 1), (120, one, 1), (120, one, 1)]);
    }

    #[test]
    fn refusals_without_room_are_dropped_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = LedgerWriter::open(folder.path(), STORE, 3, 9).unwrap();
        let room = u32::try_from(ledger.status().room).unwrap();
        assert!(ledger.reserve(room - 1));
        let denials = Denials::default();
        for consumer in [1, 1, 1, 2, 2, 2] {
            denials.count(by(consumer), at(0));
        }
        assert_eq!(denials.write(&ledger), 3, "one row had room");
        assert_eq!((denials.write(&ledger), ledger.status().appended), (0, 1));
        ledger.close().unwrap();
    }

    #[test]
    fn refusals_of_a_minute_count_together_and_the_rows_are_bounded() {
        let denials = Denials::default();
        for consumer in (1..).take(MOST) {
            denials.count(by(consumer), at(60_000));
        }
        denials.count(by(1), at(119_000));
        denials.count(by(9_999), at(60_000));
        denials.count(by(9_998), at(60_000));
        let counts = denials.counts.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!((counts[&(60, by(1))], counts[&(60, by(0))], counts.len()), (2, 2, MOST + 1));
    }

    #[test]
    fn row_has_the_fields_that_the_control_process_reads() {
        let refused = Refused { consumer: 7, tier: 2, model: 3, reason: Reason::InvalidApiKey };
        let row = row(120, refused, 5);
        assert_eq!(row[..4], [120, 7 | 2 << 32, 3 | (Reason::InvalidApiKey as u64) << 32, 5]);
    }
}
