//! The cost of the counters of one request: two windows looked at, taken with their journal entry, and settled.
//!
//! Rows come in random order, so the words are cold from 100,000 rows on. Time is an argument.
#![allow(missing_docs, clippy::unwrap_used)]

mod cpu;

use std::hint::black_box;
use std::sync::Arc;

use aigw_core::admit::{Admitter, Check};
use aigw_core::cells::CellKey;
use aigw_core::cells::heap::HeapPlace;
use aigw_core::limits::Period;
use aigw_core::units::{RequestId, UnixSeconds};
use cpu::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const ID: RequestId = RequestId([1, 2]);

fn checks(row: u32) -> [Check; 2] {
    let check = |column, period| Check::new(u32::MAX, period, CellKey::Dense { column, row });
    [check(1, Period::Minute), check(2, Period::Month)]
}

fn windows(criterion: &mut Criterion<CpuTime>) {
    for rows in [1_u32, 100_000, 1_000_000] {
        let place = HeapPlace::new(&[(1, rows as usize), (2, rows as usize)], 1 << 12).unwrap();
        let admitter = Admitter::new(Arc::new(place));
        let mut random = 1_u32;
        let mut row = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((u64::from(random) * u64::from(rows)) >> 32) as u32
        };
        criterion.bench_function(&format!("peek of 2 windows, {rows} rows"), |bench| {
            bench.iter(|| admitter.peek(black_box(&mut checks(row())), NOW));
        });
        criterion.bench_function(&format!("take and settle of 2 windows, {rows} rows"), |bench| {
            bench.iter(|| {
                let mut permit = admitter.take(black_box(&mut checks(row())), NOW, ID).unwrap();
                permit.mark_sent();
                permit.settle();
            });
        });
    }
    let admitter = Admitter::new(Arc::new(HeapPlace::new(&[], 1 << 14).unwrap()));
    let mut address = 0_u32;
    criterion.bench_function("take and settle of an open window, 50000 addresses", |bench| {
        bench.iter(|| {
            address = (address + 7_919) % 50_000;
            let key = admitter.open_key(3, &address.to_le_bytes());
            admitter.take(&mut [Check::new(u32::MAX, Period::Minute, key)], NOW, ID).unwrap().settle();
        });
    });
}

criterion_group! { name = benches; config = cpu::config(); targets = windows }
criterion_main!(benches);
