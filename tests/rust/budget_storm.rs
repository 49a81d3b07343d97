//! Budgets and places in one folder of files, under processes that are killed at any instant: never above a limit, never less
//! counted than was used, and nothing reserved or in flight at rest. Worker processes are this test binary, run again as
//! `a_worker_process`.
#![allow(clippy::unwrap_used, clippy::panic)]

mod drawn;

use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aigw_core::admit::{Admitter, Check, NotTaken, Permit};
use aigw_core::cells::{CellKey, Cells};
use aigw_core::entry::Entry;
use aigw_core::limits::{Amounts, Demand, Limit, Usage};
use aigw_core::price::Classes;
use aigw_core::standing::Counter;
use aigw_core::units::{RequestId, UnixSeconds};
use aigw_io::cells::{ControlCells, WorkerCells};
use drawn::Drawn;
use serde_json::json;

const STORE: [u64; 2] = [11, 22];
const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const PROCESSES: u64 = 4;
const KILLS: u64 = 20;
const TOKENS: u64 = 6_000_000;
const SPEND: u64 = 40_000_000;
const PLACES: u64 = 6;
/// Calls that a process holds at once.
const CALLS: usize = 3;
/// The highest amount of one call, with all that it takes on its way.
const MOST: Amounts = Amounts { input_tokens: 100, output_tokens: 64 * 9, spend: 7 * (100 + 64 * 9) };

/// Columns: two budgets and the places, then the upstream's books (tokens, money) with a row for each process.
const BOOKS: [u32; 2] = [4, 5];

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn limits() -> [Limit; 3] {
    [
        Limit::build("tokens", &json!({"amount": TOKENS, "per": "day"})).unwrap(),
        Limit::build("spend", &json!({"amount": SPEND, "per": "month"})).unwrap(),
        Limit::build("concurrency", &json!({"calls": PLACES})).unwrap(),
    ]
}

fn checks() -> [Check; 3] {
    let mut column = 0;
    limits().map(|limit| {
        column += 1;
        Check::new(limit, CellKey::Dense { column, row: 0 })
    })
}

/// Amounts with their price: seven nano-dollars a token.
fn priced(input_tokens: u64, output_tokens: u64) -> Amounts {
    Amounts { input_tokens, output_tokens, spend: 7 * (input_tokens + output_tokens) }
}

/// The row of a call that uses so much.
fn row_of(request: RequestId, used: Amounts) -> Entry {
    let tokens = Classes { input: used.input_tokens, output: used.output_tokens, ..Classes::default() };
    Entry { request, model: 1, counted: true, tokens, price: Some(used.spend), ..Entry::default() }
}

/// (used and reserved, reserved) of each limit, as operators see them.
fn standing(control: &ControlCells) -> [(u64, u64); 3] {
    let counters = limits().into_iter().zip(1..).map(|(limit, column)| Counter::new(limit, column, 0)).collect();
    let found = control.standing(counters, NOW.into()).unwrap();
    [0, 1, 2].map(|n: usize| (found[n].used + found[n].reserved, found[n].reserved))
}

/// A call on its way: the amounts that the upstream has produced for it.
struct Call {
    permit: Permit<WorkerCells>,
    row: Entry,
    used: Amounts,
    granted: u64,
}

/// One process's walk: it begins calls, moves them on and ends them in every way there is, until the budget is spent.
struct Walk {
    worker: Arc<WorkerCells>,
    admitter: Admitter<WorkerCells>,
    checks: [Check; 3],
    calls: Vec<Call>,
    dice: Drawn,
    row: u32,
    seed: u64,
    begun: u64,
}

impl Walk {
    /// The upstream's books: an amount is written after the journal has it, so a killed process has never used more than it noted.
    fn book(&self, tokens: u64, spend: u64) {
        for (column, amount) in BOOKS.into_iter().zip([tokens, spend]) {
            self.worker.dense(column, self.row).unwrap().fetch_add(amount, Ordering::SeqCst);
        }
    }

    /// False when a budget has no room for one more call.
    fn begin(&mut self) -> bool {
        let input = 1 + self.dice.below(100);
        let demand = Demand { bound: priced(input, 64), rows: 1, ..Demand::default() };
        self.begun += 1;
        // No two calls of all processes that ever run have the same.
        let request = RequestId([self.seed, self.begun]);
        match self.admitter.take(&mut self.checks, &demand, NOW, request) {
            Ok(mut permit) => {
                if self.dice.below(8) > 0 {
                    let row = row_of(request, demand.bound);
                    permit.mark_sent(&row.draft());
                    permit.progress(&priced(input, 0));
                    self.book(input, 7 * input);
                    self.calls.push(Call { permit, row, used: priced(input, 0), granted: 64 });
                } // or nothing was sent: dropped, all goes back
                true
            }
            Err(NotTaken::Exceeded(2)) => true,
            Err(NotTaken::Exceeded(_)) => false,
            Err(refusal) => panic!("{refusal}"),
        }
    }

    fn produce(&mut self, at: usize) {
        let more = 1 + self.dice.below(64);
        let call = &mut self.calls[at];
        if call.used.output_tokens + more > call.granted {
            let full = call.granted + 64 > MOST.output_tokens;
            if full || call.permit.extend(&self.checks, &priced(0, 64), NOW.into()).is_err() {
                return self.end(at);
            }
            call.granted += 64;
        }
        call.used = priced(call.used.input_tokens, call.used.output_tokens + more);
        call.permit.progress(&call.used);
        self.book(more, 7 * more);
    }

    fn end(&mut self, at: usize) {
        let mut call = self.calls.swap_remove(at);
        call.permit.record(&Entry { last: true, ..row_of(call.row.request, call.used) }.encode());
        call.permit.settle(&Usage { requests: 1, amounts: call.used });
    }

    fn go(mut self) {
        for turn in 0_u64.. {
            let at = usize::try_from(self.dice.below(CALLS as u64)).unwrap();
            if at >= self.calls.len() {
                if !self.begin() {
                    break;
                }
            } else if self.dice.below(6) == 0 {
                self.end(at);
            } else {
                self.produce(at);
            }
            if turn % 512 == 0 {
                println!("\nworking");
            }
        }
        while !self.calls.is_empty() {
            self.end(0);
        }
        println!("\nexhausted");
    }
}

/// The program of the processes, not a test by itself.
#[test]
fn a_worker_process() {
    let Ok(cells) = std::env::var("AIGW_TEST_CELLS") else { return };
    let seed: u64 = std::env::var("AIGW_TEST_SEED").unwrap().parse().unwrap();
    let worker = Arc::new(WorkerCells::open(Path::new(&cells), STORE).unwrap());
    let row = u32::try_from(seed % PROCESSES).unwrap();
    let admitter = Admitter::new(Arc::clone(&worker));
    let dice = Drawn(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    Walk { worker, admitter, checks: checks(), calls: Vec::new(), dice, row, seed, begun: 0 }.go();
}

struct Process {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(cells: &Path, seed: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_worker_process", "--nocapture", "--test-threads=1"])
            .env("AIGW_TEST_CELLS", cells)
            .env("AIGW_TEST_SEED", seed.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// Waits for one of the words. False where the process has ended without.
    fn hears(&mut self, words: &[&str]) -> bool {
        self.said.by_ref().map_while(Result::ok).any(|said| words.contains(&said.as_str()))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn processes_under_kill_9_keep_budgets_and_places() {
    let folder = Folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("budget-storm-{}", std::process::id())));
    let cells = folder.0.join("cells");
    fs::create_dir_all(&folder.0).unwrap();
    let control = ControlCells::open(&cells, STORE).unwrap();
    for (column, words, key) in [(1, 2, "tokens"), (2, 2, "spend"), (3, 16, "concurrency")] {
        control.ensure_column(column, words, 1, key).unwrap();
    }
    for (column, key) in BOOKS.into_iter().zip(["books:tokens", "books:spend"]) {
        control.ensure_column(column, 1, PROCESSES, key).unwrap();
    }
    let within = || {
        let [(tokens, _), (spend, _), (places, _)] = standing(&control);
        assert!(tokens <= TOKENS && spend <= SPEND, "{tokens} tokens, {spend} spent");
        // A taker that finds no place has one for the instant until it turns back.
        assert!(places <= PLACES + PROCESSES, "{places} calls");
    };
    let mut processes: Vec<_> = (0..PROCESSES).map(|seed| Process::start(&cells, seed)).collect();
    let (mut open, mut settled) = (0, 0);
    for kill in 0..KILLS {
        let n = usize::try_from(kill * 3 % PROCESSES).unwrap();
        processes[n].hears(&["working", "exhausted"]);
        within();
        processes[n] = Process::start(&cells, kill * PROCESSES + PROCESSES + n as u64);
        // Every other time the slot is left to the next worker that starts.
        if kill % 2 == 0 {
            for slot in control.reclaim().unwrap() {
                open += slot.found.open;
                settled += slot.found.settled;
            }
        }
        within();
    }
    for process in &mut processes {
        assert!(process.hears(&["exhausted"]));
    }
    drop(processes);
    control.reclaim().unwrap();
    within();
    let [(tokens, tokens_held), (spend, spend_held), (places, _)] = standing(&control);
    assert_eq!((tokens_held, spend_held, places), (0, 0, 0), "nothing is held at rest");
    assert!(settled > 0 && open >= settled, "{open} calls caught on their way, {settled} of them streams");
    let rows = u32::try_from(PROCESSES).unwrap();
    let [booked, money] = BOOKS.map(|column| control.run(column, 0, rows).iter().sum::<u64>());
    let lost = KILLS * CALLS as u64;
    assert!(
        booked <= tokens,
        "{booked} tokens used, {tokens} counted: a call was free ({open} caught, {settled} settled)"
    );
    assert!(money <= spend, "{money} used, {spend} counted ({open} caught, {settled} settled)");
    assert!(tokens - booked <= lost * MOST.tokens(), "{booked} tokens used, {tokens} counted");
    assert!(spend - money <= lost * MOST.spend, "{money} used, {spend} counted");
    let room = priced(100, 64);
    assert!(TOKENS - tokens < room.tokens() || SPEND - spend < room.spend, "the rest can be had: {tokens}, {spend}");
}
