//! The wait until a refused request passes, as clients get it: spread over time, and in words.
//!
//! In: a check that refused, the time, the request's id. Out: milliseconds, never fewer than the true wait, and text for people.
//! Requests that were refused together must not come back together. The spread of a bucket is at most the time in which the
//! request's amount comes back; that of a window, which renews a whole limit at once, at most a second: it takes the edge off the herd at
//! the window's end. The id decides where in the spread a request lies, so equal inputs give equal answers.

use super::check::Check;
use crate::units::{Moment, RequestId};

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// The check that refused, and the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused {
    /// Index of the check.
    pub index: usize,
    /// The request's id.
    pub id: RequestId,
}

/// Milliseconds to wait: the true wait and a part of the spread.
pub(super) fn spread_ms(check: &Check, now: Moment, id: RequestId) -> u64 {
    let wait = check.wait(now);
    let quarter = wait / 4;
    let spread = match check.facts().refill {
        0 => quarter.clamp(SECOND / 4, SECOND),
        refill => refill.saturating_mul(check.amount.max(1)).min(quarter.max(SECOND)),
    };
    wait.saturating_add(part(spread, id)).div_ceil(MILLISECOND).max(1)
}

/// A share of `spread` that differs from request to request.
fn part(spread: u64, id: RequestId) -> u64 {
    let mixed = (id.0[0] ^ id.0[1].rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    u64::try_from((u128::from(mixed) * u128::from(spread)) >> 64).unwrap_or(0)
}

/// A wait for people, rounded up to the smaller unit: `45 s`, `3 min 20 s`, `5 h 12 min`, `12 d 3 h`.
pub(super) fn words(seconds: u32) -> String {
    let (minutes, hours) = (seconds.div_ceil(60), seconds.div_ceil(3_600));
    let two = |large: u32, unit: &str, small: u32, smaller: &str| match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {smaller}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        // 23 h 59 min 1 s is a day.
        _ if minutes < 1_440 => two(minutes / 60, "h", minutes % 60, "min"),
        _ => two(hours / 24, "d", hours % 24, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CellKey;
    use crate::limits::Limit;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(kind: &str, fields: &serde_json::Value, free_at: u64) -> Check {
        let limit = Limit::build(kind, fields).unwrap_or_else(|error| unreachable!("{error}"));
        let mut check = Check::new(limit, CellKey::Dense { column: 1, row: 1 });
        check.state.free_at = Moment(free_at);
        check
    }

    #[test]
    fn words_round_up_to_the_smaller_unit() {
        for (seconds, wanted) in [
            (1, "1 s"),
            (59, "59 s"),
            (60, "1 min"),
            (3_599, "59 min 59 s"),
            (3_600, "1 h"),
            (3_601, "1 h 1 min"),
            (18_720, "5 h 12 min"),
            (7_199, "2 h"),
            (86_340, "23 h 59 min"),
            (86_341, "1 d"),
            (86_400, "1 d"),
            (1_047_601, "12 d 4 h"),
        ] {
            assert_eq!(words(seconds), wanted);
        }
    }

    #[test]
    fn part_of_a_spread_mixes_both_words_of_an_id() {
        for (id, wanted) in [([5, 9], 565), ([0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210], 378), ([3, 3 << 32], 0)] {
            assert_eq!(part(1_000, RequestId(id)), wanted);
        }
    }

    #[test]
    fn spread_of_a_window_is_a_quarter_of_its_wait_within_bounds() {
        for (wait, most) in [(0, 250), (100, 350), (1_200, 1_500), (3_999, 4_999), (4_000, 5_000), (60_000, 61_000)] {
            let window = check("window", &json!({"requests": 5, "per": "minute"}), wait * MILLISECOND);
            let waits = (0..1_000).map(|n| spread_ms(&window, Moment(0), RequestId([n, 7 * n])));
            let (low, high) = waits.fold((u64::MAX, 0), |(low, high), wait| (low.min(wait), high.max(wait)));
            assert!(
                low <= wait.max(1) + 2 && low >= wait && high <= most && high + 5 >= most,
                "{wait}: {low} to {high}"
            );
        }
    }

    #[test]
    fn spread_of_a_bucket_grows_with_the_amount() {
        let mut tokens = check("bucket", &json!({"requests": 5, "per": "second", "burst": 100}), 20 * SECOND);
        for (amount, most) in [(0, 200), (1, 200), (4, 800), (20, 4_000), (90, 5_000)] {
            tokens.amount = amount;
            let high =
                (0..1_000).map(|n| spread_ms(&tokens, Moment(0), RequestId([n, 7 * n]))).max().unwrap_or_default();
            assert!(high <= 20_000 + most && high + 20 >= 20_000 + most, "{amount}: {high}");
        }
    }

    #[test]
    fn a_herd_is_spread_over_the_time_of_one_request() {
        let burst = check("bucket", &json!({"requests": 5, "per": "second", "burst": 10}), 100 * MILLISECOND);
        let waits: Vec<u64> = (0..1_000).map(|n| spread_ms(&burst, Moment(0), RequestId([n, 7 * n]))).collect();
        assert!(waits.iter().all(|wait| (100..=300).contains(wait)));
        let early = waits.iter().filter(|wait| **wait < 200).count();
        assert!((400..600).contains(&early), "{early} of 1,000 are in the first half");
    }

    proptest! {
        #[test]
        fn nobody_is_told_to_come_before_there_is_room(
            wait in 0..100_000 * SECOND, first in any::<u64>(), second in any::<u64>(), per in 1..600_u32, bucket in any::<bool>(),
        ) {
            let fields = json!({"requests": 3, "per": format!("{per}s")});
            let limited = if bucket {
                check("bucket", &json!({"requests": 3, "per": format!("{per}s"), "burst": 3}), wait)
            } else {
                check("window", &fields, wait)
            };
            let told = spread_ms(&limited, Moment(0), RequestId([first, second])) * MILLISECOND;
            prop_assert!(told >= wait);
            prop_assert!(told <= wait + (wait / 4).max(SECOND) + MILLISECOND);
        }
    }
}
