//! The p50 and p99 of single decisions, which a mean hides.
//!
//! Reads the wall clock before and after each decision and subtracts the median cost of reading it. On a shared machine the p99 also
//! measures the other users.

use std::time::Instant;

const BATCH: usize = 512;
const BATCHES: usize = 400;

/// Times `decide` for many inputs, each made before its batch, and prints p50 and p99.
pub fn print<T>(name: &str, mut make: impl FnMut() -> T, decide: impl Fn(&mut T)) {
    let clock = percentile(&mut (0..BATCH).map(|_| timed(|| ())).collect::<Vec<_>>(), 50);
    let mut all = Vec::with_capacity(BATCH * BATCHES);
    for _ in 0..BATCHES {
        let mut inputs: Vec<T> = (0..BATCH).map(|_| make()).collect();
        all.extend(inputs.iter_mut().map(|input| timed(|| decide(input)).saturating_sub(clock)));
    }
    let (p50, p99) = (percentile(&mut all, 50), percentile(&mut all, 99));
    println!("{name}: p50 {p50} ns, p99 {p99} ns of {} one by one (less the clock's own {clock} ns)", all.len());
}

fn timed(work: impl FnOnce()) -> u128 {
    let start = Instant::now();
    work();
    start.elapsed().as_nanos()
}

fn percentile(all: &mut [u128], percent: usize) -> u128 {
    all.sort_unstable();
    all.get(all.len() * percent / 100).copied().unwrap_or(0)
}
