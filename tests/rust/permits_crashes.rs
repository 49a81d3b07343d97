//! Permits of calls over budgets, requests and places, with workers that die between any two touches of shared memory, windows
//! that end, and limits that change, against plain books. A counter is never above its limit, never below the amount that was
//! used, and holds nothing at rest beyond the doubt that deaths leave.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod without_ledger;

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use aigw_core::admit::{Admitter, Check, Permit, reclaim};
use aigw_core::cells::heap::{HeapLock, HeapWords};
use aigw_core::cells::journal::{RING_WORDS, open_permits};
use aigw_core::cells::places::Places;
use aigw_core::cells::tag::TagKey;
use aigw_core::cells::{CellKey, CellRef, Cells, CounterSpace, OpenArea, Ring, Words, journal, open};
use aigw_core::limits::{Amounts, Demand, KINDS, Limit, Usage};
use aigw_core::units::{RequestId, UnixSeconds};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::json;
use without_ledger::{DRAFT, NoLedger};

const WORKERS: usize = 2;
/// Columns: all tokens a minute, money an hour, output tokens a minute, calls at once.
const COLUMNS: usize = 4;
const BUDGETS: usize = 3;
const PLACES: u64 = 3;
const LIVING: i64 = i64::MAX;

/// Touches of shared memory that a process has left before it dies.
struct Life(AtomicI64);

impl Life {
    fn is_over(&self) -> bool {
        self.0.load(Ordering::Relaxed) <= 0
    }

    fn touches(&self) -> bool {
        self.0.fetch_sub(1, Ordering::Relaxed) > 0
    }
}

/// Shared words, as a process sees them that may die: from then on it writes to words of its own that nobody reads.
#[derive(Clone)]
struct Mortal {
    shared: HeapWords,
    own: HeapWords,
    life: Arc<Life>,
}

impl Words for Mortal {
    fn words(&self) -> &[AtomicU64] {
        if self.life.touches() { self.shared.words() } else { self.own.words() }
    }
}

/// The memory of a gateway's processes. It outlives them and is used by one test run after the other.
struct Memory {
    columns: [HeapWords; COLUMNS],
    rings: [HeapWords; WORKERS],
    area: HeapWords,
    /// The words that dead processes write to.
    lost: [HeapWords; 2],
}

impl Memory {
    fn new() -> Self {
        let width = KINDS.iter().map(|kind| kind.words as usize).max().unwrap();
        let area = HeapWords::zeroed(open::area_words(1));
        open::format(area.words(), [1, 2], TagKey([3, 4])).unwrap();
        Self {
            columns: std::array::from_fn(|_| HeapWords::zeroed(width)),
            rings: std::array::from_fn(|_| HeapWords::zeroed(RING_WORDS)),
            area,
            lost: [HeapWords::zeroed(width), HeapWords::zeroed(RING_WORDS)],
        }
    }

    fn clear(&self) {
        let rings = self.rings.iter().flat_map(|ring| ring.words().iter().step_by(96));
        self.columns.iter().flat_map(Words::words).chain(rings).for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn budget(&self, column: usize) -> aigw_core::cells::budget::BudgetState {
        aigw_core::cells::budget::BudgetCell::new(self.columns[column].words()).unwrap().read()
    }
}

/// One worker process.
struct Worker {
    columns: Vec<Mortal>,
    ring: Ring<Mortal>,
    area: OpenArea<Mortal, HeapLock>,
    lane: u64,
    life: Arc<Life>,
}

impl Worker {
    fn start(memory: &Memory, lane: usize) -> Arc<Self> {
        let life = Arc::new(Life(AtomicI64::new(LIVING)));
        let mortal = |shared: &HeapWords, own: &HeapWords| Mortal {
            shared: shared.clone(),
            own: own.clone(),
            life: Arc::clone(&life),
        };
        let [row, ring] = &memory.lost;
        Arc::new(Self {
            columns: memory.columns.iter().map(|column| mortal(column, row)).collect(),
            ring: Ring::new(mortal(&memory.rings[lane], ring), 0).unwrap(),
            area: OpenArea::new(mortal(&memory.area, &memory.area), HeapLock::default()).unwrap(),
            lane: lane as u64,
            life: Arc::clone(&life),
        })
    }
}

impl Cells for Worker {
    type Words = Mortal;
    type Lock = HeapLock;

    fn dense(&self, column: u32, _: u32) -> Option<&AtomicU64> {
        self.columns.get(column as usize)?.words().first()
    }

    fn row(&self, column: u32, _: u32) -> Option<&[AtomicU64]> {
        Some(self.columns.get(column as usize)?.words())
    }

    fn column(&self, _: u32) -> &[AtomicU64] {
        &[]
    }

    fn lane(&self) -> u64 {
        self.lane
    }

    fn open(&self) -> &OpenArea<Mortal, HeapLock> {
        &self.area
    }
}

no_rows!(Worker);

impl CounterSpace for Worker {
    fn ring(&self) -> &Ring<Mortal> {
        &self.ring
    }

    fn held(&self, cell: CellRef, window: u64) -> u64 {
        journal::held(self.ring.words(), cell, window)
    }
}

/// The control process, which frees what dead workers held, and may be killed itself: its thread ends at that touch.
struct Control<'a>(&'a Worker);

struct Killed;

impl Cells for Control<'_> {
    type Words = Mortal;
    type Lock = HeapLock;

    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64> {
        self.row(column, row)?.first()
    }

    fn row(&self, column: u32, row: u32) -> Option<&[AtomicU64]> {
        if self.0.life.is_over() {
            resume_unwind(Box::new(Killed));
        }
        self.0.row(column, row)
    }

    fn column(&self, _: u32) -> &[AtomicU64] {
        &[]
    }

    fn open(&self) -> &OpenArea<Mortal, HeapLock> {
        &self.0.area
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// Worker, input tokens, output tokens.
    Take(usize, u64, u64),
    Sent(usize),
    Extend(usize, u64),
    /// So many percent of the input are not needed.
    Shrink(usize, u64),
    /// Notes that so many percent of the amount held are used.
    Progress(usize, u64),
    /// Ends the call with so many percent used; above 100 is an overrun.
    Settle(usize, u64),
    Drop(usize),
    /// The worker dies so many touches of shared memory from now.
    Doom(usize, i64),
    /// The control process dies so many touches into its next work.
    DoomControl(i64),
    Pass(u32),
    Back(u32),
    Limit(usize, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => (0..WORKERS, 0..200_u64, 0..200_u64).prop_map(|(worker, input, output)| Step::Take(worker, input, output)),
        5 => any::<usize>().prop_map(Step::Sent),
        5 => (any::<usize>(), 0..150_u64).prop_map(|(which, more)| Step::Extend(which, more)),
        3 => (any::<usize>(), 0..=100_u64).prop_map(|(which, share)| Step::Shrink(which, share)),
        5 => (any::<usize>(), 0..=100_u64).prop_map(|(which, share)| Step::Progress(which, share)),
        3 => (any::<usize>(), 0..=120_u64).prop_map(|(which, share)| Step::Settle(which, share)),
        2 => any::<usize>().prop_map(Step::Drop),
        2 => (0..WORKERS, 0..40_i64).prop_map(|(worker, touches)| Step::Doom(worker, touches)),
        1 => (0..6_i64).prop_map(Step::DoomControl),
        1 => (0..50_u32).prop_map(Step::Pass),
        1 => (0..90_u32).prop_map(Step::Back),
        1 => (0..BUDGETS, 0..1_500_u64).prop_map(|(budget, to)| Step::Limit(budget, to)),
    ];
    prop::collection::vec(step, 1..150)
}

/// A call on its way: its permit, and the amounts that its author knows of.
struct Call {
    permit: Permit<Worker>,
    worker: usize,
    checks: Vec<Check>,
    /// By budget: the amounts taken, by the end of the window that gave them, in order.
    parts: [Vec<(u32, u64)>; BUDGETS],
    held: Amounts,
    noted: Option<Amounts>,
    sent: bool,
}

/// By budget and window: the least and the most that may be counted, and the highest limit that was in force.
#[derive(Default, Clone, Copy)]
struct Book {
    least: u64,
    most: u64,
    ceiling: u64,
}

struct World<'a> {
    memory: &'a Memory,
    workers: Vec<Arc<Worker>>,
    calls: Vec<Call>,
    books: [HashMap<u32, Book>; BUDGETS],
    limits: [u64; BUDGETS],
    now: u32,
    control_life: i64,
}

fn amount(budget: usize, amounts: &Amounts) -> u64 {
    [amounts.tokens(), amounts.spend, amounts.output_tokens][budget]
}

/// Three nano-dollars a token.
fn priced(input_tokens: u64, output_tokens: u64) -> Amounts {
    Amounts { input_tokens, output_tokens, spend: 3 * (input_tokens + output_tokens) }
}

fn part(of: &Amounts, percent: u64) -> Amounts {
    priced(of.input_tokens * percent / 100, of.output_tokens * percent / 100)
}

impl<'a> World<'a> {
    fn new(memory: &'a Memory) -> Self {
        memory.clear();
        Self {
            memory,
            workers: (0..WORKERS).map(|lane| Worker::start(memory, lane)).collect(),
            calls: Vec::new(),
            books: std::array::from_fn(|_| HashMap::new()),
            limits: [1_000, 3_000, 700],
            now: 1_700_000_000,
            control_life: LIVING,
        }
    }

    fn checks(&self) -> Vec<Check> {
        let [tokens, spend, output] = self.limits;
        let limits = [
            Limit::build("tokens", &json!({"amount": tokens, "per": "minute"})),
            Limit::build("spend", &json!({"amount": spend, "per": "hour"})),
            Limit::build("output_tokens", &json!({"amount": output, "per": "minute"})),
            Limit::build("concurrency", &json!({"calls": PLACES})),
        ];
        (0..).zip(limits).map(|(column, limit)| Check::new(limit.unwrap(), CellKey::Dense { column, row: 0 })).collect()
    }

    /// The window that a budget's counter is in, once a taker has come by.
    fn window(&self, budget: usize) -> u32 {
        self.memory.budget(budget).end.0
    }

    fn book(&mut self, budget: usize, window: u32) -> &mut Book {
        self.books[budget].entry(window).or_default()
    }

    /// A taker comes by with these limits.
    fn raise_ceilings(&mut self, checks: &[Check]) {
        for (budget, check) in checks.iter().enumerate().take(BUDGETS) {
            let (window, limit) = (self.window(budget), check.facts().limit);
            let book = self.book(budget, window);
            book.ceiling = book.ceiling.max(limit);
        }
    }

    /// An amount that was taken, or, where the taker died on its way, may have been.
    fn count(&mut self, budget: usize, amount: u64, sure: bool) -> u32 {
        let window = self.window(budget);
        let book = self.book(budget, window);
        book.most += amount;
        book.least += if sure { amount } else { 0 };
        window
    }

    fn take(&mut self, worker: usize, bound: Amounts) {
        let mut checks = self.checks();
        let demand = Demand { bound, ..Demand::default() };
        let admitter = Admitter::new(Arc::clone(&self.workers[worker]));
        let taken = admitter.take(&mut checks, &demand, UnixSeconds(self.now), RequestId([1, 2]));
        self.raise_ceilings(&checks);
        let died = self.workers[worker].life.is_over();
        if taken.is_err() && !died {
            return;
        }
        let mut parts = [const { Vec::new() }; BUDGETS];
        for (budget, parts) in parts.iter_mut().enumerate() {
            let amount = amount(budget, &bound);
            let window = self.count(budget, amount, !died);
            if !died {
                parts.push((window, amount));
            }
        }
        if let Ok(permit) = taken {
            if died {
                return std::mem::forget(permit);
            }
            self.calls.push(Call { permit, worker, checks, parts, held: bound, noted: None, sent: false });
        }
    }

    fn extend(&mut self, at: usize, more: Amounts) {
        let now = UnixSeconds(self.now).into();
        let call = &mut self.calls[at];
        let granted = call.permit.extend(&call.checks, &more, now).is_ok();
        let (worker, checks) = (call.worker, call.checks.clone());
        self.raise_ceilings(&checks);
        let died = self.workers[worker].life.is_over();
        if !granted && !died {
            return;
        }
        for budget in 0..BUDGETS {
            let amount = amount(budget, &more);
            if amount == 0 {
                continue;
            }
            let window = self.count(budget, amount, !died);
            if died {
                continue;
            }
            let parts = &mut self.calls[at].parts[budget];
            match parts.last_mut() {
                Some((last, sum)) if *last == window => *sum += amount,
                _ => parts.push((window, amount)),
            }
        }
        let held = &mut self.calls[at].held;
        *held = priced(held.input_tokens + more.input_tokens, held.output_tokens + more.output_tokens);
    }

    /// Gives back a part of the input. A worker that dies in it leaves the part counted or not, and its line with it or without.
    fn shrink(&mut self, at: usize, less: Amounts) {
        self.calls[at].permit.shrink(&less);
        let died = self.workers[self.calls[at].worker].life.is_over();
        for budget in 0..BUDGETS {
            let Some(((window, last), earlier)) = self.calls[at].parts[budget].split_last_mut() else { continue };
            if earlier.iter().any(|(_, amount)| *amount > 0) {
                continue;
            }
            let part = amount(budget, &less).min(last.saturating_sub(1));
            *last -= part;
            let window = *window;
            let book = self.book(budget, window);
            book.least -= part;
            book.most -= if died { 0 } else { part };
        }
        let Call { held, noted, .. } = &mut self.calls[at];
        *held = priced(held.input_tokens - less.input_tokens, held.output_tokens);
        // A note of more than a line has counts as the line.
        *noted = noted.map(|noted| priced(noted.input_tokens.min(held.input_tokens), noted.output_tokens));
    }

    /// Ends a call with `used`; `None`: it is given back.
    fn end(&mut self, at: usize, used: Option<Amounts>) {
        let Call { permit, worker, parts, noted, sent, .. } = self.calls.swap_remove(at);
        match used {
            Some(amounts) => permit.settle(&Usage { requests: 1, amounts }),
            None => permit.give_back(),
        }
        let died = self.workers[worker].life.is_over();
        for (budget, parts) in parts.iter().enumerate() {
            let used = used.map_or(0, |used| amount(budget, &used));
            let noted = if sent { noted.map_or(u64::MAX, |noted| amount(budget, &noted)) } else { 0 };
            self.close(budget, parts, used, died.then_some(noted));
        }
    }

    /// The last part of a call becomes the amount used, as far as earlier windows have not counted it. `noted`: its worker died,
    /// and its journal may have that much in place of it.
    fn close(&mut self, budget: usize, parts: &[(u32, u64)], used: u64, noted: Option<u64>) {
        let Some((&(window, last), earlier)) = parts.split_last() else { return };
        let earlier: u64 = earlier.iter().map(|(_, amount)| amount).sum();
        let since = if last == 0 { 0 } else { used.saturating_sub(earlier) };
        let book = self.book(budget, window);
        let (least, most) = match noted {
            None => (since, since),
            Some(noted) => (since.min(noted.saturating_sub(earlier)).min(last), since.max(last)),
        };
        book.least = book.least + least - last;
        book.most = book.most + most - last;
        book.ceiling += most.saturating_sub(last);
    }

    /// The doomed worker is dead: its calls are lost, its memory is freed, and another one takes its place.
    fn bury(&mut self, worker: usize) {
        let calls = std::mem::take(&mut self.calls);
        let (dead, living): (Vec<_>, Vec<_>) = calls.into_iter().partition(|call| call.worker == worker);
        self.calls = living;
        for call in dead {
            std::mem::forget(call.permit);
            for budget in 0..BUDGETS {
                let sum: u64 = call.parts[budget].iter().map(|(_, amount)| amount).sum();
                let noted = match (call.sent, &call.noted) {
                    (false, _) => 0,
                    (true, None) => sum,
                    (true, Some(noted)) => amount(budget, noted),
                };
                self.close(budget, &call.parts[budget], noted, Some(noted));
            }
        }
        let control = Worker::start(self.memory, worker);
        control.life.0.store(std::mem::replace(&mut self.control_life, LIVING), Ordering::Relaxed);
        let ring = self.memory.rings[worker].words();
        let killed = catch_unwind(AssertUnwindSafe(|| reclaim(ring, &Control(&control), true, &mut NoLedger))).is_err();
        if killed {
            control.life.0.store(LIVING, Ordering::Relaxed);
            reclaim(ring, &Control(&control), true, &mut NoLedger);
        }
        assert_eq!(open_permits(ring).count(), 0);
        self.workers[worker] = Worker::start(self.memory, worker);
    }

    fn check(&self) -> Result<(), TestCaseError> {
        for budget in 0..BUDGETS {
            let state = self.memory.budget(budget);
            let book = self.books[budget].get(&state.end.0).copied().unwrap_or_default();
            prop_assert!(state.amount >= book.least, "budget {budget} counts {} of {}", state.amount, book.least);
            prop_assert!(state.amount <= book.most, "budget {budget} counts {}, more than {}", state.amount, book.most);
            prop_assert!(state.amount <= book.ceiling, "budget {budget} counts {} over {}", state.amount, book.ceiling);
        }
        prop_assert_eq!(Places::new(self.memory.columns[3].words()).sum(), self.calls.len() as u64);
        Ok(())
    }

    fn step(&mut self, step: &Step) {
        let calls = self.calls.len();
        let at = |which: usize| which % calls;
        match *step {
            Step::Take(worker, input, output) => self.take(worker, priced(input, output)),
            Step::Doom(worker, touches) => self.workers[worker].life.0.store(touches, Ordering::Relaxed),
            Step::DoomControl(touches) => self.control_life = touches,
            Step::Pass(seconds) => self.now += seconds,
            Step::Back(seconds) => self.now -= seconds,
            Step::Limit(budget, to) => self.limits[budget] = to,
            _ if self.calls.is_empty() => {}
            Step::Sent(which) => {
                let call = &mut self.calls[at(which)];
                call.permit.mark_sent(&DRAFT);
                call.sent |= !self.workers[call.worker].life.is_over();
            }
            Step::Extend(which, more) => self.extend(at(which), priced(0, more)),
            Step::Shrink(which, share) => {
                let input = self.calls[at(which)].held.input_tokens * share / 100;
                self.shrink(at(which), priced(input, 0));
            }
            Step::Progress(which, share) => {
                let call = &mut self.calls[at(which)];
                let (now, before) = (part(&call.held, share), call.noted.unwrap_or(Amounts::NONE));
                let output = now.output_tokens.max(before.output_tokens);
                let used = priced(now.input_tokens.max(before.input_tokens), output);
                call.permit.progress(&used);
                // A worker that dies in it has left the note or not: the smaller amount is sure, and without a note all that is held.
                if call.noted.is_none() || !self.workers[call.worker].life.is_over() {
                    call.noted = Some(used);
                }
            }
            Step::Settle(which, share) => {
                let at = at(which);
                let used = part(&self.calls[at].held, share);
                self.end(at, Some(used));
            }
            Step::Drop(which) => self.end(at(which), None),
        }
    }
}

/// A doomed worker dies at the first step that finds it so. Steps of a progress or a mark are one touch, which happens or not.
fn follow(memory: &Memory, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new(memory);
    for step in steps {
        world.step(step);
        for worker in 0..WORKERS {
            if world.workers[worker].life.is_over() {
                world.bury(worker);
            }
        }
        world.check()?;
    }
    while !world.calls.is_empty() {
        world.workers.iter().for_each(|worker| worker.life.0.store(LIVING, Ordering::Relaxed));
        let held = world.calls[0].held;
        world.end(0, Some(held));
    }
    let open: usize = memory.rings.iter().map(|ring| open_permits(ring.words()).count()).sum();
    prop_assert_eq!(open, 0, "nothing is reserved at rest");
    world.check()
}

#[test]
fn permits_of_mortal_workers_keep_every_limit_and_lose_no_use() {
    let memory = Memory::new();
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    runner.run(&steps(), |steps| follow(&memory, &steps)).unwrap();
}
