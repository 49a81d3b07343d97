//! The cells of budgets and of calls in flight against a plain model and under races: never above the limit, no amount below
//! 0, a window never moves back, a refund reaches only its own window, and nothing is held at rest. Then the permits of calls
//! over them: extensions, overruns, and the reclaim of a dead worker's calls.
#![allow(clippy::unwrap_used)]

mod without_ledger;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use aigw_core::admit::{Admitter, Check, NotTaken, Permit, reclaim};
use aigw_core::cells::budget::{BudgetCell, BudgetState, MOST, Take};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::places::{Places, WORDS};
use aigw_core::cells::{CellKey, CounterSpace};
use aigw_core::limits::{Amounts, Demand, KINDS, Limit, Usage};
use aigw_core::units::{RequestId, UnixSeconds};
use proptest::prelude::*;
use serde_json::json;
use without_ledger::{DRAFT, NoLedger};

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const ID: RequestId = RequestId([1, 2]);

/// Seconds of a window.
const WINDOW: u32 = 60;
const LIMIT: u64 = 1_000;

fn row(words: u32) -> Vec<AtomicU64> {
    (0..words).map(|_| AtomicU64::new(0)).collect()
}

/// The end of the window that the clock is in.
fn end_of(now: u32) -> UnixSeconds {
    UnixSeconds(now - now % WINDOW + WINDOW)
}

#[derive(Clone, Debug)]
enum Step {
    Take(u64),
    /// Takes more for a call that holds something.
    Extend(usize, u64),
    GiveBack(usize),
    /// Settles to so many percent of the amount held: above 100 is an overrun.
    Settle(usize, u64),
    Limit(u64),
    Pass(u32),
    /// The clock is set back.
    Back(u32),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0..400_u64).prop_map(Step::Take),
        3 => (any::<usize>(), 0..400_u64).prop_map(|(which, amount)| Step::Extend(which, amount)),
        2 => any::<usize>().prop_map(Step::GiveBack),
        3 => (any::<usize>(), 0..=130_u64).prop_map(|(which, share)| Step::Settle(which, share)),
        1 => (0..2 * LIMIT).prop_map(Step::Limit),
        1 => (0..100_u32).prop_map(Step::Pass),
        1 => (0..200_u32).prop_map(Step::Back),
    ];
    prop::collection::vec(step, 1..200)
}

/// One amount and one window: the cell without its words.
#[derive(Default)]
struct Model {
    amount: u64,
    end: UnixSeconds,
}

impl Model {
    fn take(&mut self, own: UnixSeconds, amount: u64, limit: u64) -> bool {
        // A refused amount begins the window, too.
        *self = Self { amount: self.seen(own).amount, end: self.end.max(own) };
        let fits = self.amount + amount <= limit;
        self.amount += if fits { amount } else { 0 };
        fits
    }

    fn change(&mut self, end: UnixSeconds, next: impl Fn(u64) -> u64) {
        if self.end == end {
            self.amount = next(self.amount);
        }
    }

    fn seen(&self, own: UnixSeconds) -> BudgetState {
        if self.end < own {
            BudgetState { amount: 0, end: own }
        } else {
            BudgetState { amount: self.amount, end: self.end }
        }
    }
}

/// Runs the steps on a cell and on the model: both decide alike, and both hold the same amount after each step.
fn follow(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let row = row(2);
    let cell = BudgetCell::new(&row).unwrap();
    let (mut model, mut now, mut limit) = (Model::default(), 1_000_000, LIMIT);
    let mut held: Vec<(UnixSeconds, u64)> = Vec::new();
    for step in steps {
        let own = end_of(now);
        match step {
            Step::Pass(seconds) => now += seconds,
            Step::Back(seconds) => now -= seconds,
            Step::Limit(to) => limit = to,
            Step::Take(amount) => {
                let took = model.take(own, amount, limit);
                prop_assert_eq!(matches!(cell.take(own, amount, limit), Take::Took(_)), took);
                held.extend(took.then_some((model.end, amount)));
            }
            _ if held.is_empty() => {}
            Step::Extend(which, amount) => {
                let at = which % held.len();
                let took = model.take(own, amount, limit);
                prop_assert_eq!(matches!(cell.take(own, amount, limit), Take::Took(_)), took);
                if took && held[at].0 == model.end {
                    held[at].1 += amount;
                } else if took {
                    held.push((model.end, amount));
                }
            }
            Step::GiveBack(which) => {
                let (end, amount) = held.swap_remove(which % held.len());
                model.change(end, |counted| counted - amount);
                cell.give_back(end, amount);
            }
            Step::Settle(which, share) => {
                let (end, amount) = held.swap_remove(which % held.len());
                let used = amount * share / 100;
                model.change(end, |counted| counted - amount + used);
                if used < amount {
                    cell.give_back(end, amount - used);
                } else {
                    cell.charge(end, used - amount);
                }
            }
        }
        let own = end_of(now);
        prop_assert_eq!(cell.look(own), model.seen(own));
    }
    Ok(())
}

proptest! {
    #[test]
    fn budget_cell_decides_as_its_model(steps in steps()) {
        follow(steps)?;
    }
}

#[test]
fn amount_saturates_at_both_ends() {
    let row = row(2);
    let (cell, end) = (BudgetCell::new(&row).unwrap(), UnixSeconds(60));
    assert!(matches!(cell.take(end, MOST, u64::MAX), Take::Took(_)));
    assert!(matches!(cell.take(end, 1, u64::MAX), Take::Full(_)), "no limit exceeds the most that a cell counts");
    assert!(matches!(cell.take(end, u64::MAX, u64::MAX), Take::Full(_)));
    cell.charge(end, u64::MAX);
    assert_eq!(cell.read(), BudgetState { amount: MOST, end });
    cell.give_back(end, u64::MAX);
    assert_eq!(cell.read(), BudgetState { amount: 0, end });
}

#[test]
fn threads_that_race_over_the_ends_of_windows_never_pass_the_limit() {
    const THREADS: u64 = 4;
    const TURNS: u64 = 20_000;
    let (row, clock, tally) = (row(2), AtomicU32::new(1_000_000), tallies());
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (cell, clock, tally) = (BudgetCell::new(&row).unwrap(), &clock, &tally);
            scope.spawn(move || {
                for turn in 0..TURNS {
                    if turn % 50 == thread {
                        clock.fetch_add(WINDOW / 2, Ordering::SeqCst);
                    }
                    let own = end_of(clock.load(Ordering::SeqCst));
                    let amount = (thread * 7 + turn) % 400;
                    let Take::Took(BudgetState { end, .. }) = cell.take(own, amount, LIMIT) else { continue };
                    let of_window = &tally[&end];
                    let counted = of_window.fetch_add(amount, Ordering::SeqCst) + amount;
                    assert!(counted <= LIMIT, "{counted} in the window that ends at {}", end.0);
                    // A part of it was used, so each window fills up.
                    let used = amount / 3;
                    of_window.fetch_sub(amount - used, Ordering::SeqCst);
                    cell.give_back(end, amount - used);
                }
            });
        }
    });
    let last = BudgetCell::new(&row).unwrap().read();
    assert_eq!(last.amount, tally[&last.end].load(Ordering::SeqCst), "nothing is lost, and nothing is held at rest");
}

/// A sum for each window that a clock can reach in the race.
fn tallies() -> HashMap<UnixSeconds, AtomicU64> {
    (0..2_000).map(|n| (end_of(1_000_000 + n * WINDOW / 2), AtomicU64::new(0))).collect()
}

#[test]
fn threads_that_race_for_places_never_hold_more_than_there_are() {
    const PLACES: u64 = 3;
    let (row, held, refused) = (row(WORDS), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for lane in 0..6 {
            let (places, held, refused) = (Places::new(&row), &held, &refused);
            scope.spawn(move || {
                for _ in 0..20_000 {
                    if places.take(lane * 9, 1, PLACES).is_err() {
                        refused.store(true, Ordering::Relaxed);
                        continue;
                    }
                    assert!(held.fetch_add(1, Ordering::SeqCst) < PLACES);
                    held.fetch_sub(1, Ordering::SeqCst);
                    places.give_back(lane * 9, 1);
                }
            });
        }
    });
    assert_eq!(Places::new(&row).sum(), 0);
    assert_eq!(Places::new(&row).take(63, 1, 1), Ok(0), "every place can be had again");
}

#[test]
fn takers_at_once_leave_no_place_unused() {
    const PLACES: u64 = 2;
    for _ in 0..300 {
        let (row, start) = (row(WORDS), std::sync::Barrier::new(4));
        let took: usize = std::thread::scope(|scope| {
            let takers: Vec<_> = (0..4)
                .map(|lane| {
                    let (places, start) = (Places::new(&row), &start);
                    scope.spawn(move || {
                        start.wait();
                        usize::from(places.take(lane * 5, 1, PLACES).is_ok())
                    })
                })
                .collect();
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        assert_eq!(took as u64, PLACES);
    }
}

/// Admits calls against a budget of 1,000 tokens, one of 500 output tokens, and two calls at once.
fn call_limits() -> (Arc<HeapSpace>, [Check; 3]) {
    let width = KINDS.iter().map(|kind| kind.words as usize).max().unwrap();
    let space = Arc::new(HeapSpace::wide(&[(1, 4, width), (2, 4, width), (3, 4, width)], 8).unwrap());
    let limits = [
        Limit::build("tokens", &json!({"amount": 1_000, "per": "day"})).unwrap(),
        Limit::build("output_tokens", &json!({"amount": 500, "per": "minute"})).unwrap(),
        Limit::build("concurrency", &json!({"calls": 2})).unwrap(),
    ];
    let mut column = 0;
    let checks = limits.map(|limit| {
        column += 1;
        Check::new(limit, CellKey::Dense { column, row: 2 })
    });
    (space, checks)
}

fn counted(space: &HeapSpace, checks: &[Check; 3], now: UnixSeconds) -> [u64; 3] {
    checks.map(|check| check.limit.standing(space, check.key, now.into()).taken)
}

fn call(input_tokens: u64, output_tokens: u64) -> Amounts {
    Amounts { input_tokens, output_tokens, spend: 0 }
}

#[test]
fn extend_takes_from_every_budget_or_from_none() {
    let (space, mut checks) = call_limits();
    let admitter = Admitter::new(Arc::clone(&space));
    let demand = Demand { bound: call(300, 200), ..Demand::default() };
    let mut permit = admitter.take(&mut checks, &demand, NOW, ID).unwrap();
    assert_eq!(counted(&space, &checks, NOW), [500, 200, 1]);
    assert_eq!(permit.extend(&checks, &call(0, 300), NOW.into()), Ok(()));
    assert_eq!(permit.extend(&checks, &call(0, 1), NOW.into()), Err(1), "output tokens are spent");
    assert_eq!(permit.extend(&checks, &call(201, 0), NOW.into()), Err(0), "tokens are spent");
    assert_eq!(counted(&space, &checks, NOW), [800, 500, 1]);
    permit.settle(&Usage { requests: 1, amounts: call(290, 350) });
    assert_eq!(counted(&space, &checks, NOW), [640, 350, 0]);
}

#[test]
fn extend_after_the_end_of_a_window_takes_from_the_next_one() {
    let (space, mut checks) = call_limits();
    let admitter = Admitter::new(Arc::clone(&space));
    let demand = Demand { bound: call(300, 500), ..Demand::default() };
    let mut permit = admitter.take(&mut checks, &demand, NOW, ID).unwrap();
    let later = UnixSeconds(NOW.0 + 60);
    assert_eq!(permit.extend(&checks, &call(0, 100), later.into()), Ok(()));
    assert_eq!(counted(&space, &checks, later), [900, 100, 1]);
    assert_eq!(permit.extend(&checks, &call(0, 101), later.into()), Err(0));
    permit.give_back();
    assert_eq!(counted(&space, &checks, later), [0, 0, 0], "both windows get their parts back");
}

#[test]
fn each_window_of_a_long_stream_counts_the_part_that_it_has_given() {
    for (used, third) in [(150, 0), (250, 50), (300, 100), (340, 140)] {
        let (space, mut checks) = call_limits();
        let permit = spanning(&space, &mut checks);
        permit.settle(&Usage { requests: 1, amounts: call(10, used) });
        assert_eq!(counted(&space, &checks, minute(2)), [10 + used, third, 0], "{used} tokens");
    }
}

#[test]
fn reclaim_of_a_long_stream_counts_at_most_the_part_of_the_last_window() {
    let (space, mut checks) = call_limits();
    let mut permit = spanning(&space, &mut checks);
    permit.progress(&call(10, 250));
    std::mem::forget(permit);
    reclaim(space.ring().words(), &*space, true, &mut NoLedger);
    assert_eq!(counted(&space, &checks, minute(2)), [260, 100, 0]);
}

fn minute(n: u32) -> UnixSeconds {
    UnixSeconds(NOW.0 + 60 * n)
}

/// A stream of 10 input tokens that holds 100 output tokens of each of three minutes.
fn spanning(space: &Arc<HeapSpace>, checks: &mut [Check; 3]) -> Permit<HeapSpace> {
    let demand = Demand { bound: call(10, 100), ..Demand::default() };
    let mut permit = Admitter::new(Arc::clone(space)).take(checks, &demand, NOW, ID).unwrap();
    permit.mark_sent(&DRAFT);
    for (n, tokens) in [(1, 60), (1, 40), (2, 100)] {
        assert_eq!(permit.extend(checks, &call(0, tokens), minute(n).into()), Ok(()));
    }
    permit
}

#[test]
fn overrun_is_charged_past_the_limit() {
    let (space, mut checks) = call_limits();
    let admitter = Admitter::new(Arc::clone(&space));
    let demand = Demand { bound: call(300, 200), ..Demand::default() };
    admitter.take(&mut checks, &demand, NOW, ID).unwrap().settle(&Usage { requests: 1, amounts: call(900, 600) });
    assert_eq!(counted(&space, &checks, NOW), [1_500, 600, 0]);
    assert_eq!(admitter.take(&mut checks, &demand, NOW, ID).err(), Some(NotTaken::Exceeded(0)));
}

#[test]
fn places_are_free_again_after_every_end_of_a_call() {
    let (space, mut checks) = call_limits();
    let admitter = Admitter::new(Arc::clone(&space));
    let mut take = || admitter.take(&mut checks, &Demand::default(), NOW, ID);
    let (first, mut second) = (take().unwrap(), take().unwrap());
    assert_eq!(take().err(), Some(NotTaken::Exceeded(2)));
    drop(first);
    take().unwrap().settle(&Usage::ANSWERED);
    take().unwrap().give_back();
    second.mark_sent(&DRAFT);
    std::mem::forget((second, take().unwrap()));
    reclaim(space.ring().words(), &*space, false, &mut NoLedger);
    assert_eq!(counted(&space, &checks, NOW), [0, 0, 0], "a dead worker's places, whatever its calls had done");
}

#[test]
fn reclaim_settles_a_stream_to_its_progress_and_keeps_a_plain_call() {
    let (space, mut checks) = call_limits();
    let admitter = Admitter::new(Arc::clone(&space));
    let demand = Demand { bound: call(100, 100), ..Demand::default() };
    let mut take = || admitter.take(&mut checks, &demand, NOW, ID).unwrap();
    let (mut stream, mut plain) = (take(), take());
    stream.mark_sent(&DRAFT);
    plain.mark_sent(&DRAFT);
    stream.progress(&call(90, 0));
    stream.progress(&call(90, 64));
    std::mem::forget((stream, plain));
    let found = reclaim(space.ring().words(), &*space, true, &mut NoLedger);
    assert_eq!((found.open, found.given_back, found.settled), (2, 0, 1));
    assert_eq!(counted(&space, &checks, NOW), [354, 164, 0]);
    assert_eq!(reclaim(space.ring().words(), &*space, true, &mut NoLedger).open, 0);
}

#[test]
fn progress_of_an_earlier_call_is_not_that_of_a_later_one_in_its_entry() {
    let (space, mut checks) = call_limits();
    let admitter = Admitter::new(Arc::clone(&space));
    let demand = Demand { bound: call(100, 100), ..Demand::default() };
    let mut first = admitter.take(&mut checks, &demand, NOW, ID).unwrap();
    first.progress(&call(1, 1));
    first.settle(&Usage { requests: 1, amounts: call(1, 1) });
    let mut second = admitter.take(&mut checks, &demand, NOW, ID).unwrap();
    second.mark_sent(&DRAFT);
    std::mem::forget(second);
    assert_eq!(reclaim(space.ring().words(), &*space, true, &mut NoLedger).settled, 0);
    assert_eq!(counted(&space, &checks, NOW), [202, 101, 0]);
}
