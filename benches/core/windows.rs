//! The cost of the counters of one request: two windows looked at, taken with their journal entry, and settled.
//!
//! Rows come in random order, so the words are cold from 100,000 rows on. Time is an argument.
#![allow(missing_docs, clippy::unwrap_used)]

mod cpu;

use std::hint::black_box;
use std::sync::Arc;

use aigw_core::admit::{Admitter, Check};
use aigw_core::cells::CellKey;
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::journal::DRAFT_WORDS;
use aigw_core::limits::{Demand, Limit, Usage};
use aigw_core::units::{RequestId, UnixSeconds};
use cpu::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const ID: RequestId = RequestId([1, 2]);

fn window(per: &str) -> Limit {
    Limit::build("window", &serde_json::json!({"requests": u32::MAX, "per": per})).unwrap()
}

fn windows(criterion: &mut Criterion<CpuTime>) {
    let (minute, month) = (window("minute"), window("month"));
    let checks =
        |row: u32| [(1, minute), (2, month)].map(|(column, limit)| Check::new(limit, CellKey::Dense { column, row }));
    for rows in [1_u32, 100_000, 1_000_000] {
        let place = HeapSpace::new(&[(1, rows as usize), (2, rows as usize)], 1 << 12).unwrap();
        let admitter = Admitter::new(Arc::new(place));
        let mut random = 1_u32;
        let mut row = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((u64::from(random) * u64::from(rows)) >> 32) as u32
        };
        criterion.bench_function(&format!("peek of 2 windows, {rows} rows"), |bench| {
            bench.iter(|| admitter.peek(black_box(&mut checks(row())), &Demand::default(), NOW));
        });
        criterion.bench_function(&format!("take and settle of 2 windows, {rows} rows"), |bench| {
            bench.iter(|| {
                let mut permit = admitter.take(black_box(&mut checks(row())), &Demand::default(), NOW, ID).unwrap();
                permit.mark_sent(&[0; DRAFT_WORDS]);
                permit.settle(&Usage::ANSWERED);
            });
        });
    }
    let admitter = Admitter::new(Arc::new(HeapSpace::new(&[], 1 << 14).unwrap()));
    let mut address = 0_u32;
    criterion.bench_function("take and settle of an open window, 50000 addresses", |bench| {
        bench.iter(|| {
            address = (address + 7_919) % 50_000;
            let key = admitter.open_key(3, &address.to_le_bytes());
            let mut checks = [Check::new(minute, key)];
            admitter.take(&mut checks, &Demand::default(), NOW, ID).unwrap().settle(&Usage::ANSWERED);
        });
    });
}

criterion_group! { name = benches; config = cpu::config(); targets = windows }
criterion_main!(benches);
