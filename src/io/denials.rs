//! Refusals on their way to the ledger: counted in memory, written as one record for each caller, tier, model and reason of a second.
//!
//! In: each refusal. Out: records of the ledger, once a second and at the end of the worker. They are no entries: a killed worker loses those of
//! its last second, and a ledger without room drops them, counted. The memory is bounded: callers beyond the bound share a row.

use std::collections::HashMap;
use std::mem::take;
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

/// The refusals that are not written yet, by the start of their minute (unix seconds).
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<HashMap<(u32, Refused), u64>>);

impl Denials {
    /// Counts a refusal.
    pub(crate) fn count(&self, refused: Refused, now: Moment) {
        let minute = now.seconds().0 / MINUTE * MINUTE;
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = Refused { consumer: 0, ..refused };
        let is_known = counts.len() < MOST || counts.contains_key(&(minute, refused));
        *counts.entry((minute, if is_known { refused } else { shared })).or_default() += 1;
    }

    /// Writes them. Returns the number of refusals that had no room.
    pub(crate) fn write(&self, ledger: &LedgerWriter) -> u64 {
        let counts = take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
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
    use super::*;

    #[test]
    fn refusals_of_a_minute_count_together_and_the_rows_are_bounded() {
        let denials = Denials::default();
        let at = |seconds: u64| Moment(seconds * 1_000_000_000);
        let by = |consumer: u32| Refused { consumer, tier: 1, model: 0, reason: Reason::RateLimited };
        for consumer in (1..).take(MOST) {
            denials.count(by(consumer), at(60));
        }
        denials.count(by(1), at(119));
        denials.count(by(9_999), at(60));
        denials.count(by(9_998), at(60));
        let counts = denials.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert_eq!((counts[&(60, by(1))], counts[&(60, by(0))], counts.len()), (2, 2, MOST + 1));
    }

    #[test]
    fn row_has_the_fields_that_the_control_process_reads() {
        let refused = Refused { consumer: 7, tier: 2, model: 3, reason: Reason::InvalidApiKey };
        let row = row(120, refused, 5);
        assert_eq!(row[..4], [120, 7 | 2 << 32, 3 | (Reason::InvalidApiKey as u64) << 32, 5]);
    }
}
