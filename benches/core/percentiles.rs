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

/// As [`print`], for each part of a decision by itself: `decide` calls its second argument behind each part. Each call waits for the
/// loads before it, so the parts add up to more than the whole.
#[allow(dead_code)] // each bench has its own copy of this file, and only some have parts
pub fn print_parts<T, const N: usize>(
    name: &str,
    parts: [&str; N],
    mut make: impl FnMut() -> T,
    decide: impl Fn(&mut T, &mut dyn FnMut()),
) {
    let clock = percentile(&mut (0..BATCH).map(|_| timed(|| ())).collect::<Vec<_>>(), 50);
    let mut laps: [Vec<u128>; N] = [const { Vec::new() }; N];
    for _ in 0..BATCHES {
        let mut inputs: Vec<T> = (0..BATCH).map(|_| make()).collect();
        for input in &mut inputs {
            let (mut times, mut part) = ([Instant::now(); N], 0);
            let start = times[0];
            decide(input, &mut || {
                times[part] = Instant::now();
                part += 1;
            });
            let mut before = start;
            for (part, time) in laps.iter_mut().zip(times) {
                part.push((time - before).as_nanos().saturating_sub(clock));
                before = time;
            }
        }
    }
    for (part, times) in parts.iter().zip(&mut laps) {
        println!("{name}, {part}: p50 {} ns, p99 {} ns", percentile(times, 50), percentile(times, 99));
    }
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
