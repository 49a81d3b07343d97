//! The bucket word against a model: a burst passes at once, then the rate; never more in any stretch of time than the
//! bucket and its refill; refunds can be taken again; used requests stay used when the rate changes; a clock
//! that steps back neither opens nor jams it.
#![allow(clippy::unwrap_used)]

mod column;

use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::limits::gcra::{Rate, Take};
use aigw_core::units::Moment;
use column::Column;
use proptest::prelude::*;

const START: u64 = 1_700_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

fn took(column: &Column, rate: Rate, at: u64) -> bool {
    matches!(column.bucket().take(rate, 1, Moment(at)), Take::Took(_))
}

fn take(column: &Column, rate: Rate, at: u64, tries: usize) -> usize {
    (0..tries).filter(|_| took(column, rate, at)).count()
}

fn used(column: &Column, rate: Rate, at: u64) -> u64 {
    column.bucket().read(rate, Moment(at)).used
}

#[test]
fn a_burst_passes_at_once_and_then_the_rate() {
    let (word, rate) = (Column::new(), Rate::new(5, 1, 10).unwrap());
    assert_eq!((0..20).filter(|_| took(&word, rate, START)).count(), 10);
    let reading = word.bucket().look(rate, 1, Moment(START));
    assert_eq!((reading.used, reading.free_at), (10, Moment(START + SECOND / 5)));
    assert!(!took(&word, rate, START + SECOND / 5 - 1));
    assert!(took(&word, rate, START + SECOND / 5));
    assert_eq!((0..20).filter(|_| took(&word, rate, START + SECOND)).count(), 4);
    assert_eq!((0..20).filter(|_| took(&word, rate, START + 60 * SECOND)).count(), 10);
}

#[test]
fn give_back_refills_the_bucket_up_to_its_burst() {
    let (word, rate) = (Column::new(), Rate::new(1, 60, 3).unwrap());
    assert_eq!((0..5).filter(|_| took(&word, rate, START)).count(), 3);
    word.bucket().give_back(1);
    assert!(took(&word, rate, START) && !took(&word, rate, START));
    for _ in 0..9 {
        word.bucket().give_back(1);
    }
    assert_eq!((0..9).filter(|_| took(&word, rate, START)).count(), 3);
}

#[test]
fn a_clock_set_back_leaves_an_empty_bucket_that_refills() {
    let (word, rate) = (Column::new(), Rate::new(5, 1, 10).unwrap());
    assert_eq!((0..20).filter(|_| took(&word, rate, START)).count(), 10);
    let back = START - 3_600 * SECOND;
    assert_eq!((0..20).filter(|_| took(&word, rate, back)).count(), 0);
    assert_eq!(word.bucket().look(rate, 1, Moment(back)).free_at, Moment(back + SECOND / 5));
    assert_eq!(take(&word, rate, back + SECOND, 20), 5);
}

#[test]
fn a_new_rate_keeps_the_used_share() {
    let (day, more, burst) = (Rate::new(10, 86_400, 10), Rate::new(1_000, 86_400, 10), Rate::new(100, 86_400, 100));
    let (day, more, burst) = (day.unwrap(), more.unwrap(), burst.unwrap());
    let column = Column::new();
    assert_eq!(take(&column, day, START, 7), 7);
    for rate in [more, burst, day, burst, more, day] {
        assert_eq!(used(&column, rate, START), 7);
        column.bucket().look(rate, 1, Moment(START));
        assert_eq!(used(&column, rate, START), 7);
    }
    // One more at the new rate, and one given back that was taken at the old one.
    assert!(took(&column, burst, START) && used(&column, day, START) == 8);
    column.bucket().give_back(1);
    assert_eq!(used(&column, burst, START), 7);
}

#[test]
fn an_upgrade_refills_at_its_own_rate_from_the_first_look_on() {
    let (free, pro) = (Rate::new(10, 3_600, 10).unwrap(), Rate::new(3_600, 3_600, 2).unwrap());
    let column = Column::new();
    assert_eq!(take(&column, free, START, 7), 7);
    let seen = column.bucket().look(pro, 1, Moment(START));
    assert_eq!((seen.used, seen.free_at), (2, Moment(START + SECOND)));
    assert_eq!(take(&column, pro, START + SECOND, 5), 1);
    assert_eq!(take(&column, pro, START + 9 * SECOND, 5), 2);
    // Refused without a look before.
    let column = Column::new();
    take(&column, free, START, 7);
    assert!(!took(&column, pro, START) && took(&column, pro, START + SECOND));
}

#[test]
fn a_column_outlives_more_rates_than_it_keeps() {
    let column = Column::new();
    for requests in 1..1_000 {
        let rate = Rate::new(requests, 86_400, 5).unwrap();
        column.bucket().look(rate, 1, Moment(START));
        let before = used(&column, rate, START);
        assert_eq!(took(&column, rate, START), before < 5);
        assert_eq!(used(&column, rate, START), (before + 1).min(5));
    }
    let rate = Rate::new(7, 86_400, 5).unwrap();
    assert_eq!(take(&column, rate, START + 86_400 * SECOND, 9), 5);
}

#[test]
fn racing_threads_at_two_rates_take_one_bucket() {
    let rates = [Rate::new(1, 86_400, 10_000).unwrap(), Rate::new(7, 86_400, 10_000).unwrap()];
    let (column, all) = (Column::new(), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for n in 0..4 {
            let (column, all) = (&column, &all);
            scope.spawn(move || all.fetch_add(take(column, rates[n % 2], START, 4_000) as u64, Ordering::Relaxed));
        }
    });
    assert_eq!(all.into_inner(), 10_000);
}

#[test]
fn no_rate_of_nothing() {
    assert!(Rate::new(0, 1, 1).is_none() && Rate::new(1, 0, 1).is_none() && Rate::new(1, 1, 0).is_none());
    assert_eq!(Rate::new(3, 1, 1).unwrap().cost(), 333_333_376);
    assert!(Rate::new(1, 366 * 86_400, 1_000_000).is_none(), "its end would be beyond the word's");
    let slow = Rate::new(1, 366 * 86_400, 70).unwrap();
    let word = Column::new();
    assert_eq!((0..200).filter(|_| took(&word, slow, START)).count(), 70);
}

#[test]
fn racing_threads_take_the_burst_and_not_one_more() {
    let (word, rate) = (Column::new(), Rate::new(1, 86_400, 10_000).unwrap());
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
    fn whole_requests_stay_whole_at_any_rates(
        changes in prop::collection::vec((1_u32..10_000, 1_u32..90_000), 1..12), count in 0_u64..30, later in 0_u64..1_000,
    ) {
        let column = Column::new();
        let first = Rate::new(1, 86_400, 30).unwrap();
        take(&column, first, START, usize::try_from(count).unwrap());
        let mut at = START;
        for (requests, seconds) in changes {
            let rate = Rate::new(requests, seconds, 30).unwrap();
            prop_assert_eq!(column.bucket().look(rate, 1, Moment(at)).used, count);
            // The bucket refills at the rate in force, in whole requests.
            at += later;
            let left = used(&column, rate, at);
            prop_assert!(left <= count);
            prop_assert!(left + later / rate.cost() + 1 >= count);
            prop_assert!((left..count).all(|_| took(&column, rate, at)));
        }
    }

    #[test]
    fn take_never_admits_more_than_burst_and_refill(
        requests in 1_u32..50, seconds in 1_u32..100, burst in 1_u32..20,
        steps in prop::collection::vec((0_u64..5_000, 1_usize..30), 1..40),
    ) {
        let (word, rate) = (Column::new(), Rate::new(requests, seconds, burst).unwrap());
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
        let (word, rate) = (Column::new(), Rate::new(7, 3, 10).unwrap());
        for _ in 0..before {
            took(&word, rate, START);
        }
        let now = START + later * 1_000_000;
        let seen = word.bucket().look(rate, 1, Moment(now));
        if took(&word, rate, now) {
            word.bucket().give_back(1);
        }
        prop_assert_eq!(word.bucket().look(rate, 1, Moment(now)), seen);
    }
}

#[test]
fn column_keeps_256_rates_and_tells_the_amounts_of_a_further_one() {
    let column = Column::new();
    let rate = |requests| Rate::new(requests, 86_400, 5).unwrap();
    for requests in 1..=256 {
        column.bucket().look(rate(requests), 1, Moment(START));
        for requests in [requests, 1] {
            assert!(took(&column, rate(requests), START));
            column.bucket().give_back(1);
        }
    }
    let mut kept = column.costs();
    kept.sort_unstable();
    let mut costs: Vec<_> = (1..=256).map(|requests| rate(requests).cost()).collect();
    costs.sort_unstable();
    assert_eq!(kept, costs);
    for requests in 257..1_000 {
        assert!(took(&column, rate(requests), START) && used(&column, rate(requests), START) == 1, "{requests}");
        assert_eq!(column.bucket().look(rate(requests), 1, Moment(START)).used, 1);
        column.bucket().give_back(1);
        assert_eq!(used(&column, rate(requests), START), 0);
    }
}

#[test]
fn bucket_in_debt_lets_a_call_of_unknown_size_look() {
    let (column, rate) = (Column::new(), Rate::of_tokens(10, 1, 5).unwrap());
    column.bucket().take(rate, 5, Moment(START));
    column.bucket().charge(20);
    assert_eq!(used(&column, rate, START), 25);
    assert!(matches!(column.bucket().take(rate, 0, Moment(START)), Take::Took(state) if state.used == 25));
    assert!(matches!(column.bucket().take(rate, 1, Moment(START)), Take::Full(_)));
}
