//! Admission over heap counters: all or none, a look takes nothing, a permit ends once, and the refusal names the
//! limit that resets last.
#![allow(clippy::unwrap_used)]

mod without_ledger;

use std::sync::Arc;

use aigw_core::admit::{Admitter, Check, NotTaken};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::journal::{self, ENTRIES, MAX_CELLS, State};
use aigw_core::cells::{CellKey, Cells, CounterSpace, counter};
use aigw_core::limits::{Amounts, Demand, Limit, Period, Usage};
use aigw_core::units::{Moment, RequestId, UnixSeconds};
use proptest::prelude::*;
use without_ledger::DRAFT;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const ID: RequestId = RequestId([0xfeed, 0xbeef]);

fn place() -> (Arc<HeapSpace>, Admitter<HeapSpace>) {
    let place = Arc::new(HeapSpace::new(&[(1, 4), (2, 4), (3, 4)], 8).unwrap());
    (Arc::clone(&place), Admitter::new(place))
}

fn window(requests: u32, per: Period) -> Limit {
    Limit::build("window", &serde_json::json!({"requests": requests, "per": per.to_string()})).unwrap()
}

fn bucket(requests: u32, per: Period, burst: u32) -> Limit {
    let fields = serde_json::json!({"requests": requests, "per": per.to_string(), "burst": burst});
    Limit::build("bucket", &fields).unwrap()
}

fn check(column: u32, limit: u32, period: Period) -> Check {
    Check::new(window(limit, period), CellKey::Dense { column, row: 2 })
}

fn count(place: &HeapSpace, column: u32) -> u32 {
    counter::unpack(place.dense(column, 2).unwrap().load(std::sync::atomic::Ordering::SeqCst)).count
}

fn open(place: &HeapSpace) -> Vec<State> {
    journal::open_permits(place.ring().words()).map(|permit| permit.state).collect()
}

#[test]
fn a_look_takes_nothing_and_a_take_counts_itself_only_afterwards() {
    let (place, admitter) = place();
    let mut checks = [check(1, 2, Period::Minute), check(2, 5, Period::Hour)];
    for used in 0..2_u64 {
        admitter.peek(&mut checks, &Demand::default(), NOW).unwrap();
        assert_eq!((checks[0].state.used, u64::from(count(&place, 1))), (used, used));
        admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap().settle(&Usage::ANSWERED);
        assert_eq!(checks.map(|check| check.state.used), [used, used]);
    }
    assert_eq!(admitter.peek(&mut checks, &Demand::default(), NOW), Err(NotTaken::Exceeded(0)));
    assert_eq!(admitter.take(&mut checks, &Demand::default(), NOW, ID).err(), Some(NotTaken::Exceeded(0)));
    assert_eq!((count(&place, 1), count(&place, 2)), (2, 2));
    assert_eq!(checks[0].state.end, Period::Minute.window(NOW).end);
    assert_eq!(checks[0].resets_in(NOW), 40);
}

#[test]
fn of_several_exhausted_limits_the_one_that_resets_last_is_named() {
    let (_, admitter) = place();
    let mut checks = [check(1, 1, Period::Second), check(2, 1, Period::Day), check(3, 1, Period::Minute)];
    admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap().settle(&Usage::ANSWERED);
    assert_eq!(admitter.take(&mut checks, &Demand::default(), NOW, ID).err(), Some(NotTaken::Exceeded(1)));
    assert!(checks.iter().all(Check::exhausted));
}

#[test]
fn a_permit_is_seen_through_its_life_and_given_back_once() {
    let (place, admitter) = place();
    let mut checks = [check(1, 9, Period::Minute), check(2, 9, Period::Hour)];
    let mut permit = admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
    let seen: Vec<_> = journal::open_permits(place.ring().words()).collect();
    assert_eq!((seen.len(), seen[0].state, seen[0].request, seen[0].started), (1, State::Held, ID, NOW));
    assert_eq!(seen[0].held.iter().map(|held| held.amount).collect::<Vec<_>>(), [1, 1]);
    permit.mark_sent(&DRAFT);
    assert_eq!(open(&place), [State::Sent]);
    permit.give_back();
    assert_eq!((count(&place, 1), count(&place, 2), open(&place)), (0, 0, vec![]));
    let permit = admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
    std::thread::spawn(move || drop(permit)).join().unwrap();
    assert_eq!((count(&place, 1), open(&place)), (0, vec![]));
}

#[test]
fn give_back_after_its_window_leaves_the_next_window_alone() {
    let (place, admitter) = place();
    let mut checks = [check(1, 9, Period::Second)];
    let late = admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
    admitter.take(&mut checks, &Demand::default(), UnixSeconds(NOW.0 + 1), ID).unwrap().settle(&Usage::ANSWERED);
    drop(late);
    assert_eq!(count(&place, 1), 1);
}

#[test]
fn after_the_clock_was_set_back_the_later_window_counts_and_gets_back() {
    let (place, admitter) = place();
    let mut checks = [check(1, 2, Period::Minute)];
    let later = UnixSeconds(NOW.0 + 600);
    admitter.take(&mut checks, &Demand::default(), later, ID).unwrap().settle(&Usage::ANSWERED);
    let held = admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
    assert_eq!((checks[0].state.used, checks[0].state.end), (1, Period::Minute.window(later).end));
    assert_eq!(admitter.peek(&mut checks, &Demand::default(), NOW), Err(NotTaken::Exceeded(0)));
    held.give_back();
    assert_eq!(count(&place, 1), 1);
}

#[test]
fn open_identifiers_are_admitted_and_given_back_like_rows() {
    let (place, admitter) = place();
    let mut checks =
        [check(1, 9, Period::Minute), Check::new(window(2, Period::Minute), admitter.open_key(7, b"192.0.2.1"))];
    let held = admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
    admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap().settle(&Usage::ANSWERED);
    assert_eq!(admitter.take(&mut checks, &Demand::default(), NOW, ID).err(), Some(NotTaken::Exceeded(1)));
    held.give_back();
    admitter.peek(&mut checks, &Demand::default(), NOW).unwrap();
    assert_eq!((checks[1].state.used, count(&place, 1)), (1, 1));
}

#[test]
fn take_holds_nothing_when_it_refuses() {
    let (place, admitter) = place();
    let mut checks =
        [check(1, 9, Period::Minute), Check::new(window(9, Period::Day), CellKey::Dense { column: 8, row: 0 })];
    assert_eq!(
        admitter.take(&mut checks, &Demand::default(), NOW, ID).err(),
        Some(NotTaken::Missing { column: 8, row: 0 })
    );
    assert_eq!(
        admitter.take(&mut [checks[0]; MAX_CELLS + 1], &Demand::default(), NOW, ID).err(),
        Some(NotTaken::TooMany)
    );
    let all: Vec<_> = (0..ENTRIES)
        .map(|_| admitter.take(&mut [check(2, u32::MAX, Period::Year)], &Demand::default(), NOW, ID))
        .collect();
    assert!(all.iter().all(Result::is_ok));
    assert_eq!(admitter.take(&mut checks[..1], &Demand::default(), NOW, ID).err(), Some(NotTaken::Full));
    assert_eq!(count(&place, 1), 0);
    drop(all);
    assert!(admitter.take(&mut checks[..1], &Demand::default(), NOW, ID).is_ok());
    assert_eq!((count(&place, 1), count(&place, 2)), (0, 0));
}

#[test]
fn call_without_a_limit_is_journalled_and_holds_nothing() {
    let (place, admitter) = place();
    let mut permit = admitter.take(&mut [], &Demand::default(), NOW, ID).unwrap();
    permit.mark_sent(&DRAFT);
    assert_eq!(open(&place), [State::Sent]);
    permit.settle(&Usage::ANSWERED);
    assert_eq!(open(&place), []);
}

#[test]
fn threads_over_two_limits_are_admitted_to_the_smaller_one() {
    let (place, admitter) = place();
    let admitted: usize = std::thread::scope(|scope| {
        let work = || {
            let mut checks = [check(1, 100_000, Period::Minute), check(2, 5_000, Period::Day)];
            let permits = (0..3_000).filter_map(|_| admitter.take(&mut checks, &Demand::default(), NOW, ID).ok());
            permits.map(|permit| permit.settle(&Usage::ANSWERED)).count()
        };
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((admitted, count(&place, 1), count(&place, 2)), (5_000, 5_000, 5_000));
    assert_eq!(open(&place), []);
}

proptest! {
    #[test]
    fn whatever_happens_all_counters_say_the_same(
        limits in prop::array::uniform3(0..8_u32),
        steps in prop::collection::vec((0..4_u8, any::<usize>()), 1..100),
    ) {
        let (place, admitter) = place();
        let periods = [Period::Minute, Period::Hour, Period::Day];
        let mut checks = [(1, 0), (2, 1), (3, 2)].map(|(column, n): (u32, usize)| check(column, limits[n], periods[n]));
        let smallest = *limits.iter().min().unwrap();
        let (mut settled, mut held) = (0, Vec::new());
        for (what, which) in steps {
            match what {
                0 | 1 => match admitter.take(&mut checks, &Demand::default(), NOW, ID) {
                    Ok(permit) => held.push(permit),
                    Err(refusal) => {
                        prop_assert!(matches!(refusal, NotTaken::Exceeded(n) if checks[n].exhausted()));
                        prop_assert_eq!(settled + held.len(), smallest as usize);
                    }
                },
                _ if held.is_empty() => {}
                2 => {
                    held.swap_remove(which % held.len()).settle(&Usage::ANSWERED);
                    settled += 1;
                }
                _ => drop(held.swap_remove(which % held.len())),
            }
            prop_assert!(settled + held.len() <= smallest as usize);
            for column in 1..=3 {
                prop_assert_eq!(count(&place, column) as usize, settled + held.len());
            }
        }
    }
}

#[test]
fn a_bucket_beside_a_window_all_or_none_and_given_back_together() {
    let (place, admitter) = place();
    let bucket = Check::new(bucket(5, Period::Second, 2), CellKey::Dense { column: 2, row: 2 });
    let mut checks = [check(1, 3, Period::Day), bucket];
    let held = admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
    admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap().settle(&Usage::ANSWERED);
    assert_eq!(admitter.take(&mut checks, &Demand::default(), NOW, ID).err(), Some(NotTaken::Exceeded(1)));
    assert_eq!(count(&place, 1), 2);
    assert_eq!((checks[1].state.used, checks[1].wait(NOW)), (2, 200_000_000));
    held.give_back();
    assert_eq!(count(&place, 1), 1);
    admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap().settle(&Usage::ANSWERED);
    assert_eq!((count(&place, 1), checks[1].state.used), (2, 1));
}

#[test]
fn a_shadow_is_counted_and_refuses_nobody() {
    let (place, admitter) = place();
    let mut checks = [check(1, 1, Period::Day), check(2, 9, Period::Day)];
    checks[0].shadow = true;
    for round in 0..3 {
        let permit = admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
        assert_eq!(checks[0].exhausted(), round > 0);
        permit.settle(&Usage::ANSWERED);
    }
    assert_eq!((count(&place, 1), count(&place, 2)), (1, 3));
    let permit = admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
    permit.give_back();
    assert_eq!((count(&place, 1), count(&place, 2)), (1, 3), "what was not taken is not given back");
    let mut bucket = [Check::new(bucket(1, Period::Minute, 1), CellKey::Dense { column: 3, row: 2 })];
    bucket[0].shadow = true;
    for _ in 0..3 {
        admitter.take(&mut bucket, &Demand::default(), NOW, ID).unwrap().give_back();
    }
    admitter.take(&mut bucket, &Demand::default(), NOW, ID).unwrap().settle(&Usage::ANSWERED);
    admitter.take(&mut bucket, &Demand::default(), NOW, ID).unwrap().give_back();
    assert!(admitter.peek(&mut bucket, &Demand::default(), NOW).is_ok() && bucket[0].exhausted());
}

#[test]
fn permit_holds_29_limits_and_a_further_one_is_refused() {
    let (place, admitter) = place();
    let mut checks = vec![check(1, 1_000, Period::Minute); MAX_CELLS + 1];
    let refused = admitter.take(&mut checks, &Demand::default(), NOW, ID).err();
    assert_eq!((refused, count(&place, 1)), (Some(NotTaken::TooMany), 0));
    let permit = admitter.take(&mut checks[..MAX_CELLS], &Demand::default(), NOW, ID).unwrap();
    assert_eq!(count(&place, 1), 29);
    drop(permit);
    assert_eq!(count(&place, 1), 0);
}

/// A moment so many milliseconds after the start.
fn after(millis: u64) -> Moment {
    Moment(u64::from(NOW.0) * 1_000_000_000 + millis * 1_000_000)
}

fn tokens(input_tokens: u64) -> Amounts {
    Amounts { input_tokens, ..Amounts::NONE }
}

#[test]
fn refusal_tells_the_part_of_a_budget_that_calls_in_flight_hold() {
    let place = Arc::new(HeapSpace::wide(&[(1, 4, 2)], 8).unwrap());
    let admitter = Admitter::new(Arc::clone(&place));
    let budget = Limit::build("tokens", &serde_json::json!({"amount": 10, "per": "minute"})).unwrap();
    let of = |row| [Check::new(budget, CellKey::Dense { column: 1, row })];
    let take = |row, amount, at| {
        let mut checks = of(row);
        let demand = Demand { bound: tokens(amount), ..Demand::default() };
        (admitter.take(&mut checks, &demand, after(at), ID), checks[0])
    };
    let used = |amount| Usage { requests: 1, amounts: tokens(amount) };
    let refused = |row, amount, at| {
        let (taken, check) = take(row, amount, at);
        assert_eq!(taken.err(), Some(NotTaken::Exceeded(0)));
        (check.state.held, check.is_held(), check.wait(after(at)))
    };
    // In each of two rows four tokens are settled, and five are in flight.
    let _held: Vec<_> = [1, 2]
        .map(|row| {
            take(row, 4, 0).0.unwrap().settle(&used(4));
            take(row, 5, 0).0.unwrap()
        })
        .into();
    assert_eq!(refused(1, 6, 0), (5, true, 500_000_000), "six fit behind the settled four");
    assert_eq!(refused(1, 6, 1), (5, true, 500_000_000));
    // Seven do not: the settled amount is kept for a second, and nothing is read again.
    assert_eq!(refused(1, 7, 10), (5, false, 39_990_000_000));
    assert_eq!(refused(2, 7, 10), (5, false, 39_990_000_000));
    for row in [1, 2] {
        assert_eq!(refused(row, 7, 1_009), (0, false, 38_991_000_000));
        assert_eq!(refused(row, 6, 1_009).0, 5, "a smaller call asks again");
        assert_eq!(refused(row, 7, 1_010), (5, false, 38_990_000_000));
    }
    let mut window = [check(1, 0, Period::Minute)];
    assert!(admitter.peek(&mut window, &Demand::default(), NOW).is_err());
    assert_eq!(window[0].state.held, 0, "calls give back no part of a limit on requests");
}

#[test]
fn bound_on_calls_at_once_names_half_a_second() {
    let admitter = Admitter::new(Arc::new(HeapSpace::wide(&[(1, 4, 16)], 8).unwrap()));
    let limit = Limit::build("concurrency", &serde_json::json!({"calls": 2})).unwrap();
    let mut checks = [Check::new(limit, CellKey::Dense { column: 1, row: 2 })];
    let waits = |check: &Check| [check.state.free_at, check.state.full_at].map(|at| at.since(NOW.into()));
    let mut held = Vec::new();
    for wanted in [[0, 0], [0, 500_000_000]] {
        held.push(admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap());
        assert_eq!(waits(&checks[0]), wanted);
    }
    assert!(admitter.take(&mut checks, &Demand::default(), NOW, ID).is_err());
    assert_eq!((waits(&checks[0]), checks[0].state.used), ([500_000_000; 2], 2));
}

#[test]
fn shadow_budget_counts_the_amounts_it_would_grant_and_extends_only_those() {
    let place = Arc::new(HeapSpace::wide(&[(1, 4, 2), (2, 4, 2)], 8).unwrap());
    let admitter = Admitter::new(Arc::clone(&place));
    let budget = Limit::build("tokens", &serde_json::json!({"amount": 10, "per": "minute"})).unwrap();
    let mut checks = [1, 2].map(|column| Check::new(budget, CellKey::Dense { column, row: 2 }));
    (checks[0].shadow, checks[1].limit) =
        (true, Limit::build("tokens", &serde_json::json!({"amount": 100, "per": "minute"})).unwrap());
    let counted = || [1, 2].map(|column| budget.standing(&*place, CellKey::Dense { column, row: 2 }, NOW.into()).taken);
    let demand = Demand { bound: tokens(30), shadow: tokens(8), ..Demand::default() };
    let mut first = admitter.take(&mut checks, &demand, NOW, ID).unwrap();
    assert_eq!(counted(), [8, 30]);
    assert_eq!((first.extend(&checks, &tokens(1), NOW.into()), counted()), (Ok(()), [9, 31]));
    let mut second = admitter.take(&mut checks, &demand, NOW, ID).unwrap();
    assert_eq!((second.extend(&checks, &tokens(1), NOW.into()), counted()), (Ok(()), [9, 62]), "the shadow was full");
    drop((first, second));
    assert_eq!(counted(), [0, 0]);
}
