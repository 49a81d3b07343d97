//! A deterministic simulation of limits, permits, ledger and compactor, with a clock, a disk and deaths of its own.
//!
//! Each seed is one world: one to three workers, a control process, consumers with limits of several meters, an upstream that keeps its own
//! books. Workers take permits, send, stream, extend, append, settle and acknowledge by the product's own `Admitter`, `Permit`, `reclaim`,
//! `LedgerWriter` and `Segments`; the store and the compactor are a model (`store`). Processes die between any two steps, and
//! in the middle of an operation; the disk fills, fails, and loses unsynced bytes when the power goes. After each step and at rest
//! `check` holds the promises against the books of those outside (`books`).
//!
//! `make simulate` runs 100,000 seeds. A failure names its seed, and `SEED=n make simulate` runs that world alone.
#![allow(clippy::unwrap_used, clippy::panic)]

mod books;
mod call;
mod check;
mod control;
mod disk;
#[path = "../drawn/mod.rs"]
mod drawn;
mod memory;
mod plan;
mod space;
mod store;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use memory::Memory;
use plan::Planted;
use world::World;

/// Seeds of a run without `SEEDS`, and those within which a planted fault must be found.
const SEEDS: u64 = 1_000;

/// Runs seeds on all processors until one fails. The error names it.
fn simulate(seeds: std::ops::Range<u64>, planted: Option<Planted>) -> Result<u64, (u64, String)> {
    let (next, found) = (AtomicU64::new(seeds.start), Mutex::new(None::<(u64, String)>));
    let work = |thread: usize| {
        let (memory, dir) = (Memory::new(), folder(thread, planted));
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end || found.lock().unwrap().is_some() {
                return;
            }
            if let Err(text) = run(seed, planted, &memory, &dir) {
                let mut found = found.lock().unwrap();
                if found.as_ref().is_none_or(|(other, _)| seed < *other) {
                    *found = Some((seed, text));
                }
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from);
    thread::scope(|scope| {
        let work = &work;
        (0..threads).for_each(|thread| drop(scope.spawn(move || work(thread))));
    });
    found.into_inner().unwrap().map_or(Ok(seeds.end - seeds.start), Err)
}

fn run(seed: u64, planted: Option<Planted>, memory: &Memory, dir: &Path) -> Result<(), String> {
    let world = || World::new(seed, planted, setting("SEED").is_some(), memory, dir).run();
    catch_unwind(AssertUnwindSafe(world)).unwrap_or_else(|_| Err("a panic, see above".into()))
}

/// A folder in memory, where there is such a file system.
fn folder(thread: usize, planted: Option<Planted>) -> PathBuf {
    let memory = Path::new("/dev/shm");
    let above = if memory.is_dir() { memory } else { Path::new(env!("CARGO_TARGET_TMPDIR")) };
    above.join(format!("aigw-simulation-{}-{planted:?}-{thread}", std::process::id()))
}

fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number: {text:?}")))
}

#[test]
fn worlds_keep_every_promise() {
    let seeds = match setting("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("SEEDS").unwrap_or(SEEDS),
    };
    if let Err((seed, text)) = simulate(seeds, None) {
        panic!("seed {seed}: {text}\nthis world alone: make simulate SEED={seed}");
    }
}

fn finds(planted: Planted) {
    match simulate(0..SEEDS, Some(planted)) {
        Err((seed, text)) => println!("{planted:?} is found by seed {seed}: {text}"),
        Ok(_) => panic!("{planted:?} is not found within {SEEDS} seeds"),
    }
}

#[test]
fn skipped_fsync_is_found() {
    finds(Planted::SkippedSync);
}

#[test]
fn double_settle_is_found() {
    finds(Planted::DoubleSettle);
}

#[test]
fn lost_release_is_found() {
    finds(Planted::LostRelease);
}

#[test]
fn cursor_outside_the_transaction_is_found() {
    finds(Planted::CursorApart);
}

#[test]
fn entry_after_the_last_byte_is_found() {
    finds(Planted::LateEntry);
}
