//! Budget cells, places and journals under schedules that a model checker chooses: it stops each thread between any two touches of
//! shared memory. `make schedules` runs it; other builds have no test here. The checker knows orders of steps, not weak memory.
#![cfg(shuttle)]
#![allow(clippy::unwrap_used)]

mod without_ledger;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aigw_core::admit::{Admitter, Check};
use aigw_core::cells::atomic::{AtomicU64, Ordering};
use aigw_core::cells::budget::{BudgetCell, BudgetState, Take};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::journal::{State, open_permits};
use aigw_core::cells::places::{Places, WORDS};
use aigw_core::cells::{CellKey, CounterSpace};
use aigw_core::limits::{Amounts, Demand, KINDS, Limit, Usage};
use aigw_core::units::{RequestId, UnixSeconds};
use serde_json::json;
use shuttle::thread;
use without_ledger::DRAFT;

/// Schedules of a test of one cell, and of one of a whole space, whose thousands of words each schedule makes.
const CELL: usize = 2_000;
const SPACE: usize = 100;
const LIMIT: u64 = 10;
const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

/// Every schedule of a few threads would be too many: random ones, and those that switch threads at few places.
fn check(schedules: usize, test: impl Fn() + Send + Sync + Clone + 'static) {
    shuttle::check_random(test.clone(), schedules);
    shuttle::check_pct(test, schedules, 3);
}

fn row(words: u32) -> Arc<Vec<AtomicU64>> {
    Arc::new((0..words).map(|_| AtomicU64::new(0)).collect())
}

/// Runs each job in a thread, and waits for all.
fn race(jobs: Vec<Box<dyn FnOnce() + Send>>) {
    let threads: Vec<_> = jobs.into_iter().map(thread::spawn).collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// The words of a cell whose mover died after so many steps from the window that ends at 60 to the one that ends at 120.
fn begun(row: &[AtomicU64], steps: u64) {
    row[0].store(5, Ordering::SeqCst);
    row[1].store(60, Ordering::SeqCst);
    if steps > 0 {
        row[0].store(0xff << 56 | 120, Ordering::SeqCst);
    }
    if steps > 1 {
        row[1].store(120, Ordering::SeqCst);
    }
}

fn race_over_the_end_of_a_window(steps: u64) {
    let row = row(2);
    begun(&row, steps);
    // The use that the threads have counted, by window. The first window has five from before.
    let books = Arc::new(Mutex::new(HashMap::from([(60, 5_u64)])));
    let taker = |own: u32, amount: u64, used: u64| {
        let (row, books) = (Arc::clone(&row), Arc::clone(&books));
        Box::new(move || {
            let cell = BudgetCell::new(&row).unwrap();
            for _ in 0..2 {
                if let Take::Took(BudgetState { end, .. }) = cell.take(UnixSeconds(own), amount, LIMIT) {
                    assert!(end.0 >= own);
                    cell.give_back(end, amount - used);
                    *books.lock().unwrap().entry(end.0).or_default() += used;
                }
            }
        }) as Box<dyn FnOnce() + Send>
    };
    let late = Arc::clone(&row);
    // A call of the first window ends late, and an operator looks on.
    let returner = Box::new(move || BudgetCell::new(&late).unwrap().give_back(UnixSeconds(60), 5));
    let seen = Arc::clone(&row);
    let onlooker = Box::new(move || {
        let mut last = UnixSeconds(0);
        for _ in 0..4 {
            let state = BudgetCell::new(&seen).unwrap().read();
            assert!(state.amount <= LIMIT && state.end >= last, "{state:?} after {last:?}");
            last = state.end;
        }
    });
    race(vec![taker(60, 4, 2), taker(120, 6, 3), taker(180, 6, 1), returner, onlooker]);
    let last = BudgetCell::new(&row).unwrap().read();
    assert_eq!(last.end, UnixSeconds(180));
    assert_eq!(last.amount, books.lock().unwrap().get(&180).copied().unwrap_or_default());
}

#[test]
fn budget_cell_keeps_its_windows_in_every_schedule() {
    for steps in 0..3 {
        check(CELL, move || race_over_the_end_of_a_window(steps));
    }
}

#[test]
fn places_are_never_held_by_more_calls_than_there_are() {
    check(CELL, || {
        let (row, held) = (row(WORDS), Arc::new(Mutex::new(0)));
        let caller = |lane: u64| {
            let (row, held) = (Arc::clone(&row), Arc::clone(&held));
            Box::new(move || {
                let places = Places::new(&row);
                for _ in 0..2 {
                    if places.take(lane, 1, 2).is_ok() {
                        let mut now = held.lock().unwrap();
                        *now += 1;
                        assert!(*now <= 2);
                        drop(now);
                        thread::yield_now();
                        *held.lock().unwrap() -= 1;
                        places.give_back(lane, 1);
                    }
                }
            }) as Box<dyn FnOnce() + Send>
        };
        race(vec![caller(0), caller(1), caller(5), caller(5)]);
        assert_eq!(Places::new(&row).sum(), 0);
        assert_eq!(Places::new(&row).take(9, 2, 2), Ok(0), "every place can be had again");
    });
}

/// Tokens of which a call takes as many as its request's number, two budgets of them, and three calls at once.
fn call_limits() -> (Arc<HeapSpace>, [Check; 3]) {
    let width = KINDS.iter().map(|kind| kind.words as usize).max().unwrap();
    let space = Arc::new(HeapSpace::wide(&[(0, 1, width), (1, 1, width), (2, 1, width)], 1).unwrap());
    let limits = [
        Limit::build("tokens", &json!({"amount": 20, "per": "day"})).unwrap(),
        Limit::build("input_tokens", &json!({"amount": 12, "per": "day"})).unwrap(),
        Limit::build("concurrency", &json!({"calls": 2})).unwrap(),
    ];
    let mut column = 0;
    let checks = limits.map(|limit| {
        column += 1;
        Check::new(limit, CellKey::Dense { column: column - 1, row: 0 })
    });
    (space, checks)
}

fn input(input_tokens: u64) -> Amounts {
    Amounts { input_tokens, ..Amounts::NONE }
}

/// A call takes `n` tokens and as many again on its way, and uses one less than it has. Returns the amount that it has used.
fn call(space: &Arc<HeapSpace>, mut checks: [Check; 3], n: u64) -> u64 {
    let demand = Demand { bound: input(n), ..Demand::default() };
    let admitter = Admitter::new(Arc::clone(space));
    let Ok(mut permit) = admitter.take(&mut checks, &demand, NOW, RequestId([n, n])) else { return 0 };
    if n % 2 == 0 {
        permit.give_back();
        return 0;
    }
    permit.mark_sent(&DRAFT);
    let more = permit.extend(&checks, &input(n), NOW.into()).is_ok();
    let used = if more { 2 * n - 1 } else { n - 1 };
    permit.progress(&input(used));
    permit.settle(&Usage { requests: 1, amounts: input(used) });
    used
}

#[test]
fn permits_take_all_or_nothing_and_settle_to_their_use() {
    check(SPACE, || {
        let (space, checks) = call_limits();
        let used = Arc::new(Mutex::new(0));
        let caller = |numbers: [u64; 2]| {
            let (space, used) = (Arc::clone(&space), Arc::clone(&used));
            Box::new(move || {
                for n in numbers {
                    let more = call(&space, checks, n);
                    *used.lock().unwrap() += more;
                }
            }) as Box<dyn FnOnce() + Send>
        };
        let seen = Arc::clone(&space);
        let onlooker = Box::new(move || {
            for check in checks.iter().take(2).cycle().take(6) {
                let taken = check.limit.standing(&*seen, check.key, NOW.into()).taken;
                assert!(taken <= check.facts().limit);
            }
        });
        race(vec![caller([3, 4]), caller([5, 3]), caller([2, 3]), onlooker]);
        let taken = checks.map(|check| check.limit.standing(&*space, check.key, NOW.into()).taken);
        let used = *used.lock().unwrap();
        assert_eq!(taken, [used, used, 0], "nothing is lost, and nothing is held at rest");
        assert_eq!(open_permits(space.ring().words()).count(), 0);
    });
}

#[test]
fn reader_of_a_journal_sees_whole_permits() {
    check(SPACE, || {
        let (space, checks) = call_limits();
        let caller = |n: u64| {
            let space = Arc::clone(&space);
            Box::new(move || {
                for _ in 0..2 {
                    call(&space, checks, n);
                }
            }) as Box<dyn FnOnce() + Send>
        };
        let seen = Arc::clone(&space);
        let reader = Box::new(move || {
            for _ in 0..3 {
                for permit in open_permits(seen.ring().words()) {
                    let n = permit.request.0[0];
                    assert_eq!((permit.request.0[1], permit.held.len()), (n, 3));
                    if permit.state == State::Held {
                        let held = |at: usize| permit.held[at].amount;
                        assert!((0..2).all(|at| held(at) == n || held(at) == 2 * n), "{permit:?}");
                    }
                }
            }
        });
        race(vec![caller(3), caller(5), reader]);
    });
}
