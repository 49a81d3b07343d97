//! Durations of failed calls, by error type: a bounded table that all workers share, without a lock.
//!
//! In: the run of a call, its error type. Out: a histogram of its own for each combination that occurred. Few of all possible
//! combinations ever do, so a run in the table costs nothing before. A combination that finds no place is counted as `_OTHER`
//! in the run of its call.

use crate::cells::atomic::Ordering;

use super::error_type::ErrorType;
use super::words::Run;

/// The column of this table: its number, above all that limits are given, and its key.
pub const FAILED: (u32, &str) = (1_048_567, "metrics:calls:failed");
/// Combinations that have a histogram of their own.
pub const FAILED_SLOTS: u32 = 4_096;
/// Words (rows of the column) of one combination: its key, and those of a histogram with 14 bounds.
pub const FAILED_WORDS: u32 = 17;
/// Slots that a search looks at before it gives up.
const PROBES: u32 = 32;
const ERROR_BITS: u32 = 8;
/// No key is 0: that is a free slot.
const USED: u64 = 1 << 63;

/// The first word of the histogram of a combination, which takes a free slot the first time.
pub(super) fn find<'a>(table: &impl Run<'a>, run: u32, error: ErrorType) -> Option<u32> {
    let key = USED | u64::from(run) << ERROR_BITS | u64::from(error.number());
    let home = u32::try_from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(0);
    for slot in (0..PROBES).map(|step| home.wrapping_add(step) & (FAILED_SLOTS - 1)) {
        let at = slot * FAILED_WORDS;
        let word = table(at)?;
        let found = match word.load(Ordering::Relaxed) {
            0 => {
                word.compare_exchange(0, key, Ordering::Relaxed, Ordering::Relaxed).map_or_else(|other| other, |_| key)
            }
            found => found,
        };
        if found == key {
            return Some(at + 1);
        }
    }
    None
}

/// The combination of a slot, by its first word.
#[must_use]
pub fn read(key: u64) -> Option<(u32, ErrorType)> {
    let run = u32::try_from((key & !USED) >> ERROR_BITS).ok().filter(|_| key & USED != 0)?;
    Some((run, ErrorType::numbered(u32::try_from(key & ((1 << ERROR_BITS) - 1)).ok()?)?))
}
