//! The bucket word against a model: a burst passes at once, then the rate; never more in any stretch of time than the
//! bucket and what refilled; what is given back can be taken again; a clock that steps back neither opens nor jams it.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::limits::Rate;
use aigw_core::limits::rate::{self, Take};
use aigw_core::units::Moment;
use proptest::prelude::*;

const START: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn took(word: &AtomicU64, rate: Rate, at: u64) -> bool {
    matches!(rate::take(word, rate, Moment(at)), Take::Took(_))
}

#[test]
fn a_burst_passes_at_once_and_then_the_rate() {
    let (word, rate) = (AtomicU64::new(0), Rate::new(5, 1, 10).unwrap());
    assert_eq!((0..20).filter(|_| took(&word, rate, START)).count(), 10);
    let reading = rate::peek(&word, rate, Moment(START));
    assert_eq!((reading.used, reading.free_at), (10, Moment(START + SECOND / 5)));
    assert!(!took(&word, rate, START + SECOND / 5 - 1));
    assert!(took(&word, rate, START + SECOND / 5));
    assert_eq!((0..20).filter(|_| took(&word, rate, START + SECOND)).count(), 4);
    assert_eq!((0..20).filter(|_| took(&word, rate, START + 60 * SECOND)).count(), 10);
}

#[test]
fn what_is_given_back_is_there_again_and_a_full_bucket_does_not_overflow() {
    let (word, rate) = (AtomicU64::new(0), Rate::new(1, 60, 3).unwrap());
    assert_eq!((0..5).filter(|_| took(&word, rate, START)).count(), 3);
    rate::give_back(&word, rate.cost());
    assert!(took(&word, rate, START) && !took(&word, rate, START));
    for _ in 0..9 {
        rate::give_back(&word, rate.cost());
    }
    assert_eq!((0..9).filter(|_| took(&word, rate, START)).count(), 3);
}

#[test]
fn a_clock_set_back_leaves_an_empty_bucket_that_refills() {
    let (word, rate) = (AtomicU64::new(0), Rate::new(5, 1, 10).unwrap());
    assert_eq!((0..20).filter(|_| took(&word, rate, START)).count(), 10);
    let back = START - 3_600 * SECOND;
    assert_eq!((0..20).filter(|_| took(&word, rate, back)).count(), 0);
    // Nothing was written: the next look clamps anew, and the bucket fills from the later clock's point of view.
    assert_eq!(rate::peek(&word, rate, Moment(back)).free_at, Moment(back + SECOND / 5));
}

#[test]
fn no_rate_of_nothing() {
    assert!(Rate::new(0, 1, 1).is_none() && Rate::new(1, 0, 1).is_none() && Rate::new(1, 1, 0).is_none());
    assert_eq!(Rate::new(3, 1, 1).unwrap().cost(), 333_333_334);
    assert!(Rate::new(1, 366 * 86_400, 1_000_000).is_none(), "its end would be beyond the word's");
    let slow = Rate::new(1, 366 * 86_400, 100).unwrap();
    let word = AtomicU64::new(0);
    assert_eq!((0..200).filter(|_| took(&word, slow, START)).count(), 100);
}

#[test]
fn racing_threads_take_the_burst_and_not_one_more() {
    let (word, rate) = (AtomicU64::new(0), Rate::new(1, 86_400, 10_000).unwrap());
    let all = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let own = (0..8_000).filter(|_| took(&word, rate, START)).count();
                all.fetch_add(own as u64, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(all.into_inner(), 10_000);
}

proptest! {
    #[test]
    fn never_more_than_the_bucket_and_what_refilled(
        requests in 1_u32..50, seconds in 1_u32..100, burst in 1_u32..20,
        steps in prop::collection::vec((0_u64..5_000, 1_usize..30), 1..40),
    ) {
        let (word, rate) = (AtomicU64::new(0), Rate::new(requests, seconds, burst).unwrap());
        let mut now = START;
        let mut passed: Vec<u64> = Vec::new();
        for (millis, tries) in steps {
            now += millis * 1_000_000;
            for _ in 0..tries {
                if took(&word, rate, now) {
                    passed.push(now);
                }
            }
        }
        for (index, first) in passed.iter().enumerate() {
            for (count, last) in (1_u64..).zip(&passed[index..]) {
                let refilled = (last - first) * u64::from(requests) / (u64::from(seconds) * SECOND);
                prop_assert!(count <= u64::from(burst) + refilled + 1);
            }
        }
    }

    #[test]
    fn taken_and_given_back_is_as_if_never(before in 0_u32..10, later in 0_u64..2_000) {
        let (word, rate) = (AtomicU64::new(0), Rate::new(7, 3, 10).unwrap());
        for _ in 0..before {
            took(&word, rate, START);
        }
        let now = START + later * 1_000_000;
        let seen = rate::peek(&word, rate, Moment(now));
        if took(&word, rate, now) {
            rate::give_back(&word, rate.cost());
        }
        prop_assert_eq!(rate::peek(&word, rate, Moment(now)), seen);
    }
}
