//! The cost of an append to the ledger while its thread syncs, and the time to read a million records back.
//!
//! An append may cost 1 us at most; a million records may take 10 s at most. The folder is on the disk of `target`.
#![allow(missing_docs, clippy::unwrap_used)]

mod cpu;
mod percentiles;

use std::fs;
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use aigw_core::entry::record::{PAYLOAD_WORDS, RecordKind};
use aigw_io::ledger::{LedgerWriter, SegmentName, Segments};
use cpu::CpuTime;
use criterion::measurement::Measurement;
use criterion::{Criterion, criterion_group, criterion_main};

const STORE: [u64; 2] = [1, 2];
const RECORDS: u32 = 1_000_000;

struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("ledger-bench-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn claim(writer: &LedgerWriter) {
    while !writer.reserve(1) {
        thread::yield_now();
    }
}

fn appends(criterion: &mut Criterion<CpuTime>) {
    let folder = Folder::new("append");
    let writer = LedgerWriter::open(&folder.0, STORE, 0, 1).unwrap();
    let payload = [0x0123_4567_89ab_cdef; PAYLOAD_WORDS];
    // Claims wait for new spares outside the measured time: the disk's pace, not the append's cost.
    criterion.bench_function("append of a record, with a thread that syncs", |bench| {
        bench.iter_custom(|appends| {
            let (mut left, mut took) = (appends, Duration::ZERO);
            while left > 0 {
                let batch = left.min(64);
                (0..batch).for_each(|_| claim(&writer));
                let start = CpuTime.start();
                for _ in 0..batch {
                    writer.append(RecordKind::Entry, black_box(&payload)).unwrap();
                }
                took += CpuTime.end(start);
                left -= batch;
            }
            took
        });
    });
    criterion.bench_function("claim and give back", |bench| {
        bench.iter(|| {
            let claimed = writer.reserve(1);
            writer.release(u32::from(claimed));
        });
    });
    percentiles::print("append", || claim(&writer), |()| writer.append(RecordKind::Entry, &payload).map_or((), |_| ()));
    writer.close().unwrap();
}

fn recovery(_: &mut Criterion<CpuTime>) {
    let folder = Folder::new("recovery");
    let writer = LedgerWriter::open(&folder.0, STORE, 0, 1).unwrap();
    for n in 0..RECORDS {
        claim(&writer);
        writer.append(RecordKind::Entry, &[u64::from(n); PAYLOAD_WORDS]).unwrap();
    }
    writer.close().unwrap();
    drop(writer);
    let start = Instant::now();
    let (mut records, mut segments) = (0, 0);
    let reader = Segments::open(&folder.0, STORE);
    for life in reader.lives().unwrap() {
        for segment in &life.segments {
            let name = SegmentName { life: life.life, slot: life.slot, number: segment.number };
            let read = reader.read(name, 0, u32::MAX).unwrap();
            assert!(read.is_finished && read.gaps.is_empty());
            (records, segments) = (records + black_box(read).records.len(), segments + 1);
        }
    }
    println!("recovery of {records} records in {segments} segments: {:.3} s", start.elapsed().as_secs_f64());
}

criterion_group! { name = benches; config = cpu::config(); targets = appends, recovery }
criterion_main!(benches);
