//! Every limit kind through its interface, over heap counters: never above the limit, refunds restore, a settled rest goes
//! back to its window, resets are exact, a dead worker's permits are kept or given back, *never* differs from *not yet*.
#![allow(clippy::unwrap_used)]

mod without_ledger;

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aigw_core::admit::{Admitter, Check, NotTaken, reclaim, reclaim_v1};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::journal::{self, State as PermitState, TakenAmount};
use aigw_core::cells::{CellKey, Cells, CounterSpace, journal_v1};
use aigw_core::clock::{Clock, FakeClock};
use aigw_core::limits::bucket::{RefillBucket, TokenBucket};
use aigw_core::limits::budget::{SpendBudget, TokenBudget};
use aigw_core::limits::concurrency::Concurrency;
use aigw_core::limits::window::FixedWindow;
use aigw_core::limits::{Amounts, Demand, KINDS, Limit, LimitKind, State, Usage, wrong};
use aigw_core::units::{Moment, RequestId, UnixSeconds};
use proptest::prelude::*;
use serde_json::{Value, json};
use without_ledger::{DRAFT, NoLedger};

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const KEY: CellKey = CellKey::Dense { column: 1, row: 2 };
const ID: RequestId = RequestId([1, 2]);

fn space() -> HeapSpace {
    let width = KINDS.iter().map(|kind| kind.words as usize).max().unwrap();
    HeapSpace::wide(&[(1, 4, width), (2, 4, width)], 8).unwrap()
}

/// One limit and its counter under test.
struct Subject<K> {
    kind: K,
    space: HeapSpace,
    clock: FakeClock,
    state: State,
}

impl<K: LimitKind> Subject<K> {
    fn new(fields: &Value) -> Self {
        let kind = K::build(fields).unwrap();
        Self { kind, space: space(), clock: FakeClock::at(NOW), state: State::default() }
    }

    fn now(&self) -> Moment {
        self.clock.moment()
    }

    /// The amount counted now.
    fn taken(&self) -> u64 {
        self.kind.standing(&self.space, KEY, self.now()).taken
    }

    fn window(&self) -> Option<u64> {
        self.kind.standing(&self.space, KEY, self.now()).held_in.map(|(_, window)| window)
    }

    /// Takes as `Admitter` does; the journal's line when it took.
    fn take(&mut self, amount: u64) -> Option<TakenAmount> {
        let now = self.now();
        self.kind.look(&self.space, KEY, amount, now, &mut self.state).unwrap();
        let line = Cell::new(self.kind.intent(KEY, amount, &self.state));
        let note = |taken| line.set(taken);
        let took = self.kind.take(&self.space, KEY, amount, now, &mut self.state, note).unwrap();
        took.then(|| line.get())
    }
}

#[derive(Clone, Debug)]
enum Step {
    Take(u64),
    GiveBack(usize),
    /// Settle to so many percent of the amount taken.
    Settle(usize, u64),
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..9_u64).prop_map(Step::Take),
        2 => any::<usize>().prop_map(Step::GiveBack),
        2 => (any::<usize>(), 0..=100_u64).prop_map(|(which, share)| Step::Settle(which, share)),
        1 => (0..40_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..120)
}

/// Runs the steps. A refund into the current window lowers the counter by exactly its amount; a bucket, which refills
/// meanwhile, has nothing left at most.
fn follow<K: LimitKind>(fields: &Value, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut subject = Subject::<K>::new(fields);
    let limit = subject.kind.facts().limit;
    let mut outstanding: Vec<TakenAmount> = Vec::new();
    for step in steps {
        match step {
            Step::Pass(millis) => subject.clock.advance(Duration::from_millis(millis)),
            Step::Take(amount) => {
                let before = subject.taken();
                let took = subject.take(amount);
                prop_assert_eq!(took.is_some(), before + amount <= limit, "{} + {} of {}", before, amount, limit);
                prop_assert_eq!(subject.state.used, before);
                prop_assert_eq!(subject.taken(), before + took.map_or(0, |taken| taken.amount));
                outstanding.extend(took);
            }
            Step::GiveBack(_) | Step::Settle(..) if outstanding.is_empty() => {}
            Step::GiveBack(which) => {
                let taken = outstanding.swap_remove(which % outstanding.len());
                let expected = after_refund(&subject, taken, taken.amount);
                K::give_back(&subject.space, taken);
                prop_assert_eq!(subject.taken(), expected);
            }
            Step::Settle(which, share) => {
                let taken = outstanding.swap_remove(which % outstanding.len());
                let used = taken.amount * share / 100;
                let expected = after_refund(&subject, taken, taken.amount - used);
                K::settle(&subject.space, taken, used);
                prop_assert_eq!(subject.taken(), expected);
            }
        }
        prop_assert!(subject.taken() <= limit);
    }
    Ok(())
}

fn after_refund<K: LimitKind>(subject: &Subject<K>, taken: TakenAmount, refund: u64) -> u64 {
    let counts = taken.window == 0 || subject.window() == Some(taken.window);
    if counts { subject.taken().saturating_sub(refund) } else { subject.taken() }
}

proptest! {
    #[test]
    fn fixed_window_keeps_its_limit_and_restores_refunds(
        requests in 0..20_u32, per in prop::sample::select(vec!["second", "minute", "90s"]), steps in steps(),
    ) {
        follow::<FixedWindow>(&json!({"requests": requests, "per": per}), steps)?;
    }

    #[test]
    fn bucket_keeps_its_limit_and_restores_refunds(
        requests in 1..20_u32, burst in 1..20_u32, per in prop::sample::select(vec!["second", "minute", "90s"]),
        steps in steps(),
    ) {
        follow::<RefillBucket>(&json!({"requests": requests, "per": per, "burst": burst}), steps)?;
    }
}

proptest! {
    #[test]
    fn budget_keeps_its_limit_and_restores_refunds(
        amount in 0..20_u64, per in prop::sample::select(vec!["second", "minute", "90s"]), steps in steps(),
    ) {
        follow::<TokenBudget>(&json!({"amount": amount, "per": per}), steps.clone())?;
        follow::<SpendBudget>(&json!({"amount": amount, "per": per}), steps)?;
    }

    #[test]
    fn bucket_of_tokens_keeps_its_limit_and_restores_refunds(
        amount in prop::sample::select(vec![1_u64, 7, 333, 1_000, 250_000]), burst in 1..20_u64,
        per in prop::sample::select(vec!["second", "minute", "90s"]), steps in steps(),
    ) {
        let fields = json!({"amount": amount, "per": per, "burst": burst});
        follow::<TokenBucket>(&fields, steps)?;
    }

    #[test]
    fn places_keep_their_limit_and_come_back(calls in 0..20_u32, steps in steps()) {
        follow::<Concurrency>(&json!({"calls": calls}), steps)?;
    }

    #[test]
    fn permit_with_extensions_holds_no_more_than_its_budgets(
        limits in (1..400_u64, 1..400_u64), moves in prop::collection::vec((0..4_u8, 0..60_u64, 0..60_u64), 1..40),
    ) {
        extended(limits, &moves)?;
    }
}

/// Random takes, extensions, settlements and drops of permits over a token and a spend budget.
fn extended(limits: (u64, u64), moves: &[(u8, u64, u64)]) -> Result<(), TestCaseError> {
    let space = Arc::new(space());
    let admitter = Admitter::new(Arc::clone(&space));
    let counters = [(1, "tokens", limits.0), (2, "spend", limits.1)].map(|(column, kind, amount)| {
        let limit = Limit::build(kind, &json!({"amount": amount, "per": "day"})).unwrap();
        (limit, CellKey::Dense { column, row: 2 })
    });
    let counted = || counters.map(|(limit, key)| limit.standing(&*space, key, NOW.into()).taken);
    let mut checks = counters.map(|(limit, key)| Check::new(limit, key));
    let (mut open, mut settled) = (Vec::new(), [0, 0]);
    for &(what, output_tokens, spend) in moves {
        let more = Amounts { input_tokens: 0, output_tokens, spend };
        match what {
            0 => {
                let demand = Demand { bound: more, ..Demand::default() };
                if let Ok(permit) = admitter.take(&mut checks, &demand, NOW, ID) {
                    open.push((permit, [output_tokens, spend]));
                }
            }
            1 => {
                if let Some((permit, held)) = open.last_mut()
                    && permit.extend(&checks, &more, NOW.into()).is_ok()
                {
                    *held = [held[0] + output_tokens, held[1] + spend];
                }
            }
            2 => {
                if let Some((permit, held)) = open.pop() {
                    let used = [held[0].min(output_tokens), held[1].min(spend)];
                    let amounts = Amounts { input_tokens: 0, output_tokens: used[0], spend: used[1] };
                    permit.settle(&Usage { requests: 1, amounts });
                    settled = [settled[0] + used[0], settled[1] + used[1]];
                }
            }
            _ => drop(open.pop()),
        }
        let held = open.iter().fold(settled, |sum, (_, held)| [sum[0] + held[0], sum[1] + held[1]]);
        prop_assert_eq!(counted(), held);
        prop_assert!(held[0] <= limits.0 && held[1] <= limits.1, "{:?} of {:?}", held, limits);
    }
    drop(open);
    prop_assert_eq!(counted(), settled);
    Ok(())
}

#[test]
fn extension_in_a_later_window_counts_there() {
    let space = Arc::new(space());
    let admitter = Admitter::new(Arc::clone(&space));
    let limit = Limit::build("tokens", &json!({"amount": 100, "per": "minute"})).unwrap();
    let mut checks = [Check::new(limit, KEY)];
    let bound = Amounts { output_tokens: 90, ..Amounts::NONE };
    let mut permit = admitter.take(&mut checks, &Demand { bound, ..Demand::default() }, NOW, ID).unwrap();
    let more = Amounts { output_tokens: 20, ..Amounts::NONE };
    assert_eq!(permit.extend(&checks, &more, NOW.into()), Err(0));
    let later = UnixSeconds(NOW.0 + 60);
    assert_eq!(permit.extend(&checks, &more, later.into()), Ok(()));
    assert_eq!(limit.standing(&*space, KEY, later.into()).taken, 20);
    permit.settle(&Usage { requests: 1, amounts: Amounts { output_tokens: 110, ..Amounts::NONE } });
    assert_eq!(limit.standing(&*space, KEY, later.into()).taken, 20, "the rest belongs to the window that is over");
}

#[test]
fn budget_resets_exactly_at_its_end_and_takes_back_nothing_of_the_window_before() {
    let mut subject = Subject::<TokenBudget>::new(&json!({"amount": 1_u64 << 48, "per": "minute"}));
    let taken = subject.take(1 << 48).unwrap();
    assert!(subject.take(1).is_none());
    let end = subject.state.end;
    subject.clock.step_to(UnixSeconds(end.0 - 1));
    assert!(subject.take(1).is_none());
    subject.clock.step_to(end);
    assert_eq!(subject.taken(), 0);
    assert!(subject.take(7).is_some());
    TokenBudget::settle(&subject.space, taken, 0);
    assert_eq!(subject.taken(), 7);
    subject.clock.step_to(UnixSeconds(end.0 - 1));
    assert!(subject.take(1 << 48).is_none(), "a clock that was set back reopens no window");
}

#[test]
fn places_of_a_dead_worker_are_free_whatever_its_calls_did() {
    let space = Arc::new(space());
    let admitter = Admitter::new(Arc::clone(&space));
    let calls = Limit::build("concurrency", &json!({"calls": 3})).unwrap();
    let tokens = Limit::build("tokens", &json!({"amount": 99, "per": "day"})).unwrap();
    let taken = |limit: Limit, column| limit.standing(&*space, CellKey::Dense { column, row: 2 }, NOW.into()).taken;
    let mut checks =
        [(1, calls), (2, tokens)].map(|(column, limit)| Check::new(limit, CellKey::Dense { column, row: 2 }));
    let demand = Demand { bound: Amounts { input_tokens: 9, ..Amounts::NONE }, ..Demand::default() };
    let mut take = || admitter.take(&mut checks, &demand, NOW, ID);
    take().unwrap().settle(&Usage::ANSWERED);
    assert_eq!((taken(calls, 1), taken(tokens, 2)), (0, 0));
    let (held, mut sent, mut also) = (take().unwrap(), take().unwrap(), take().unwrap());
    assert!(matches!(take(), Err(NotTaken::Exceeded(0))));
    sent.mark_sent(&DRAFT);
    also.mark_sent(&DRAFT);
    assert_eq!((taken(calls, 1), taken(tokens, 2)), (3, 27));
    std::mem::forget((held, sent, also));
    reclaim(space.ring().words(), &*space, true, &mut NoLedger);
    assert_eq!((taken(calls, 1), taken(tokens, 2)), (0, 18), "the amounts of calls that were sent stay");
}

#[test]
fn fixed_window_resets_exactly_at_its_end() {
    let mut subject = Subject::<FixedWindow>::new(&json!({"requests": 3, "per": "minute"}));
    assert!(subject.take(3).is_some() && subject.take(1).is_none());
    let end = subject.state.end;
    subject.clock.step_to(UnixSeconds(end.0 - 1));
    assert!(subject.take(1).is_none());
    subject.clock.step_to(end);
    assert!(subject.take(3).is_some() && subject.take(1).is_none());
}

#[test]
fn bucket_refills_exactly_when_it_announces() {
    let mut subject = Subject::<RefillBucket>::new(&json!({"requests": 5, "per": "second", "burst": 10}));
    assert!(subject.take(10).is_some() && subject.take(2).is_none());
    let wait = subject.state.free_at.since(subject.now());
    assert_eq!(wait, 400_000_000, "two requests at five a second");
    subject.clock.advance(Duration::from_nanos(wait - 1));
    assert!(subject.take(2).is_none());
    subject.clock.advance(Duration::from_nanos(1));
    assert!(subject.take(2).is_some());
}

#[test]
fn settle_charges_an_overrun() {
    let mut window = Subject::<FixedWindow>::new(&json!({"requests": 5, "per": "day"}));
    let taken = window.take(4).unwrap();
    FixedWindow::settle(&window.space, taken, 6);
    assert_eq!((window.taken(), window.take(1)), (6, None));
    let mut bucket = Subject::<RefillBucket>::new(&json!({"requests": 1, "per": "day", "burst": 10}));
    let taken = bucket.take(4).unwrap();
    RefillBucket::settle(&bucket.space, taken, 7);
    assert_eq!((bucket.taken(), bucket.take(4)), (7, None));
}

/// Threads that take and give back in races never hold more than the limit together.
fn holds_under_races<K: LimitKind + Send + Sync>(fields: &Value) {
    let (kind, space) = (K::build(fields).unwrap(), space());
    let (limit, held) = (kind.facts().limit, AtomicU64::new(0));
    std::thread::scope(|scope| {
        for worker in 0..4_u64 {
            let (space, held) = (&space, &held);
            scope.spawn(move || {
                let mut state = State::default();
                for n in 0..5_000 {
                    let amount = (worker + n) % 3 + 1;
                    kind.look(space, KEY, amount, NOW.into(), &mut state).unwrap();
                    let line = Cell::new(kind.intent(KEY, amount, &state));
                    if kind.take(space, KEY, amount, NOW.into(), &mut state, |taken| line.set(taken)).unwrap() {
                        assert!(held.fetch_add(amount, Ordering::SeqCst) + amount <= limit);
                        held.fetch_sub(amount, Ordering::SeqCst);
                        K::settle(space, line.get(), 0);
                    }
                }
            });
        }
    });
    assert_eq!(kind.standing(&space, KEY, NOW.into()).taken, 0);
}

#[test]
fn racing_threads_never_pass_a_limit() {
    holds_under_races::<FixedWindow>(&json!({"requests": 7, "per": "day"}));
    holds_under_races::<RefillBucket>(&json!({"requests": 1, "per": "day", "burst": 7}));
    holds_under_races::<TokenBucket>(&json!({"amount": 3, "per": "day", "burst": 7}));
    holds_under_races::<TokenBudget>(&json!({"amount": 7, "per": "day"}));
    holds_under_races::<SpendBudget>(&json!({"amount": 7, "per": "day"}));
    holds_under_races::<Concurrency>(&json!({"calls": 7}));
}

fn both() -> [Limit; 2] {
    let window = Limit::build("window", &json!({"requests": 9, "per": "day"})).unwrap();
    let bucket = Limit::build("bucket", &json!({"requests": 1, "per": "day", "burst": 9})).unwrap();
    [window, bucket]
}

fn used(space: &HeapSpace) -> [u64; 2] {
    let counters = [(1, both()[0]), (2, both()[1])];
    counters.map(|(column, limit)| limit.standing(space, CellKey::Dense { column, row: 2 }, NOW.into()).taken)
}

#[test]
fn reclaim_keeps_permits_that_were_sent_and_gives_back_those_that_were_not() {
    let space = Arc::new(space());
    let admitter = Admitter::new(Arc::clone(&space));
    let [window, bucket] = both();
    let mut checks =
        [(1, window), (2, bucket)].map(|(column, limit)| Check::new(limit, CellKey::Dense { column, row: 2 }));
    let mut take = || admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap();
    take().settle(&Usage::ANSWERED);
    take().settle(&Usage { requests: 0, ..Usage::ANSWERED });
    assert_eq!(used(&space), [1, 1], "a request that does not count goes back");
    let (held, mut sent) = (take(), take());
    sent.mark_sent(&DRAFT);
    assert_eq!(used(&space), [3, 3]);
    std::mem::forget((held, sent));
    let found = reclaim(space.ring().words(), &*space, true, &mut NoLedger);
    assert_eq!((found.open, found.given_back, used(&space)), (2, 1, [2, 2]));
    assert_eq!(reclaim(space.ring().words(), &*space, true, &mut NoLedger).open, 0);
}

#[test]
fn reclaim_reads_the_ring_of_the_version_before() {
    let space = space();
    let (mut state, key) = (State::default(), |column| CellKey::Dense { column, row: 2 });
    let (fixed, refilling) = (
        FixedWindow::build(&json!({"requests": 9, "per": "day"})).unwrap(),
        RefillBucket::build(&json!({"requests": 1, "per": "day", "burst": 9})).unwrap(),
    );
    assert!(fixed.take(&space, key(1), 3, NOW.into(), &mut state, |_| ()).unwrap());
    let end = fixed.standing(&space, key(1), NOW.into()).resets_at.unwrap();
    assert!(refilling.take(&space, key(2), 3, NOW.into(), &mut state, |_| ()).unwrap());
    let ring: Vec<AtomicU64> = (0..journal_v1::RING_WORDS).map(|_| AtomicU64::new(0)).collect();
    let entry = |n: usize, state: PermitState| {
        let pairs = [(1_u64 << 32 | 2, u64::from(end.0) << 32 | 1), (1 << 62 | 2 << 32 | 2, 1)];
        let words = [0x100 | state as u64, NOW.0.into(), 1, 2, 2, pairs[0].0, pairs[0].1, pairs[1].0, pairs[1].1];
        for (at, word) in words.into_iter().enumerate() {
            ring[n * 64 + at].store(word, Ordering::SeqCst);
        }
    };
    entry(0, PermitState::Held);
    entry(7, PermitState::Sent);
    let found = reclaim_v1(&ring, &space, true);
    assert_eq!((found.open, found.given_back, used(&space)), (2, 1, [2, 2]));
    assert_eq!(reclaim_v1(&ring, &space, true).open, 0);
}

/// A kind that takes more than one unit at a time would refuse so; requests take one.
#[test]
fn check_separates_never_from_not_yet() {
    let space = Arc::new(space());
    let admitter = Admitter::new(Arc::clone(&space));
    let mut check = Check::new(both()[0], KEY);
    check.amount = 10;
    assert!(check.never_passes() && check.exhausted());
    check.amount = 9;
    assert!(!check.never_passes() && !check.exhausted());
    let closed = Limit::build("window", &json!({"requests": 0, "per": "day"})).unwrap();
    let mut closed = [Check::new(closed, KEY)];
    assert_eq!(admitter.peek(&mut closed, &Demand::default(), NOW), Err(NotTaken::Exceeded(0)));
    assert!(!closed[0].never_passes(), "a limit of 0 is exhausted, as it always was");
}

#[test]
fn journal_carries_amounts_of_64_bits() {
    let space = space();
    let mut subject = Subject::<FixedWindow>::new(&json!({"requests": u32::MAX, "per": "day"}));
    assert_eq!(subject.take(u64::MAX), None, "larger than the whole limit");
    assert_eq!(subject.take(u32::MAX.into()).map(|taken| taken.amount), Some(u32::MAX.into()));
    assert!(journal::open_permits(space.ring().words()).next().is_none());
    assert!(space.row(1, 3).is_some_and(|row| !row.is_empty()) && space.row(1, 4).is_none());
}

#[test]
fn registry_refuses_unknown_kinds_and_fields() {
    for (kind, fields, wanted) in [
        ("none", json!({}), "no kind of limit"),
        ("window", json!({"requests": 1}), "per"),
        ("window", json!({"requests": 1, "per": "day", "burst": 2}), "burst"),
        ("window", json!({"requests": -1, "per": "day"}), "-1"),
        ("bucket", json!({"requests": 1, "per": "month", "burst": 2}), "fixed length"),
        ("bucket", json!({"requests": 1, "per": "366d", "burst": 2}), "366 days"),
        ("bucket", json!({"requests": 0, "per": "day", "burst": 2}), "requests above 0"),
        ("bucket", json!({"requests": 1, "per": "day", "burst": 0}), "burst: must be above 0"),
        ("tokens_bucket", json!({"amount": 0, "per": "day", "burst": 2}), "tokens above 0"),
        ("tokens_bucket", json!({"amount": 1, "per": "month", "burst": 2}), "fixed length"),
        ("input_tokens_bucket", json!({"amount": 9, "per": "day", "burst": 1_u64 << 48}), "366 days"),
        ("output_tokens_bucket", json!({"amount": 15_625_001, "per": "second", "burst": 9}), "15625000 tokens"),
    ] {
        let error = Limit::build(kind, &fields).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

/// The counters of a consumer whose tier has four windows, a budget of tokens, one of money, and calls at once.
#[test]
fn consumer_with_every_kind_of_limit_takes_at_most_200_bytes_of_counters() {
    let words = |kind: &str| KINDS.iter().find(|row| row.name == kind).unwrap().words;
    let kinds = ["window", "window", "window", "window", "tokens", "spend", "concurrency"];
    let bytes = kinds.map(|kind| words(kind) * 8).iter().sum::<u32>();
    assert_eq!(bytes, 192);
}

/// Another worker's clock is in the next window already when a call takes: the journal names the window that it took from.
fn take_notes_a_later_window<K: LimitKind>(fields: &Value) {
    let mut subject = Subject::<K>::new(fields);
    let (now, notes) = (subject.now(), RefCell::new(Vec::new()));
    let later = Moment(now.0 + 60_000_000_000);
    let take = |state: &mut State, amount, at| {
        subject.kind.take(&subject.space, KEY, amount, at, state, |taken| notes.borrow_mut().push(taken)).unwrap()
    };
    subject.kind.look(&subject.space, KEY, 1, now, &mut subject.state).unwrap();
    let mut state = subject.state;
    assert!(take(&mut state, 1, now) && notes.borrow().is_empty(), "it took from the window that the look saw");
    let mut ahead = State::default();
    subject.kind.look(&subject.space, KEY, 1, later, &mut ahead).unwrap();
    assert!(take(&mut ahead, 2, later) && notes.borrow().is_empty());
    let mut state = subject.state;
    assert!(take(&mut state, 3, now));
    let end = later.seconds().0.next_multiple_of(60);
    let wanted = TakenAmount { window: u64::from(end), amount: 3, ..subject.kind.intent(KEY, 3, &subject.state) };
    assert_eq!((notes.take(), state.used, state.end.0), (vec![wanted], 2, end));
    let mut state = subject.state;
    assert!(!take(&mut state, 100, now) && notes.borrow().is_empty(), "nothing was taken");
}

#[test]
fn take_names_the_window_that_it_took_from() {
    take_notes_a_later_window::<FixedWindow>(&json!({"requests": 9, "per": "minute"}));
    take_notes_a_later_window::<TokenBudget>(&json!({"amount": 9, "per": "minute"}));
}

/// A limit of a kind with numbers that bodies of policies have.
#[test]
fn wrong_fields_are_refused_with_their_reason() {
    let said = |kind: &str, fields: &str, open| wrong(kind, fields.as_bytes(), open);
    assert_eq!(said("window", r#"{"requests": 5, "per": "minute"}"#, true), None);
    assert_eq!(said("tokens", r#"{"amount": 5, "per": "minute"}"#, false), None);
    assert!(said("tokens", r#"{"amount": 5, "per": "minute"}"#, true).is_some(), "only windows count addresses");
    for (kind, fields) in [("nothing", "{}"), ("window", "{"), ("window", r#"{"requests": 5, "per": "eon"}"#)] {
        assert!(said(kind, fields, false).is_some_and(|text| !text.is_empty()), "{kind} {fields}");
    }
}

#[test]
fn facts_of_every_kind_are_those_of_its_fields() {
    let facts = |kind: &str, fields: Value| {
        let facts = Limit::build(kind, &fields).unwrap().facts();
        (facts.meter, facts.sized, facts.per.map(|per| per.to_string()), facts.limit, facts.quota, facts.refill)
    };
    let per = |period: &str| Some(period.to_owned());
    let window = |period: &str| facts("window", json!({"requests": 7, "per": period}));
    assert_eq!(window("hour"), ("requests", false, per("hour"), 7, false, 0));
    assert_eq!(window("day"), ("requests", false, per("day"), 7, true, 0));
    for meter in ["tokens", "input_tokens", "output_tokens"] {
        let budget = |period: &str| facts(meter, json!({"amount": 7, "per": period}));
        assert_eq!(budget("hour"), (meter, true, per("hour"), 7, false, 0));
        assert_eq!(budget("day"), (meter, true, per("day"), 7, true, 0));
    }
    for period in ["hour", "day"] {
        assert_eq!(facts("spend", json!({"amount": 7, "per": period})), ("spend", true, per(period), 7, true, 0));
    }
    assert_eq!(facts("concurrency", json!({"calls": 7})), ("concurrency", false, None, 7, false, 500_000_000));
    let bucket = facts("bucket", json!({"requests": 5, "per": "second", "burst": 7}));
    assert_eq!(bucket, ("requests", false, per("second"), 7, false, 200_000_000));
}

#[test]
fn bucket_fills_within_366_days() {
    for (fields, fits) in [
        (json!({"requests": 1, "per": "day", "burst": 366}), true),
        (json!({"requests": 1, "per": "day", "burst": 367}), false),
        (json!({"requests": 2, "per": "day", "burst": 732}), true),
        (json!({"requests": 2, "per": "day", "burst": 733}), false),
    ] {
        assert_eq!(Limit::build("bucket", &fields).is_ok(), fits, "{fields}");
    }
}

#[test]
fn budget_is_at_most_the_highest_amount_that_its_cell_counts() {
    let built = |amount: u64| Limit::build("tokens", &json!({"amount": amount, "per": "day"})).is_ok();
    assert_eq!([(1 << 56) - 1, 1 << 56].map(built), [true, false]);
}
