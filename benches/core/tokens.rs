//! The cost of counting tokens: a page of English, texts of two lengths, and a run of signs that is slow to merge.
//!
//! 1 MB may take 12 times as long as 100 kB at most: counting is linear.
#![allow(missing_docs)]

mod cpu;

use std::hint::black_box;

use aigw_io::tokens;
use cpu::CpuTime;
use criterion::{Criterion, criterion_group, criterion_main};

const ENGLISH: &str = "The gateway counts the tokens of a request before it is sent, and it's exact: a budget that is spent refuses \
the next call, while one that isn't lets it pass. Prices are told in dollars per million tokens (0.15 for input, 0.60 for output).\n";

fn counts(criterion: &mut Criterion<CpuTime>) {
    for name in ["o200k_base", "cl100k_base"] {
        let Some(counter) = tokens::embedded(name) else { return };
        for (size, bytes) in [("1 KiB", 1_024), ("100 kB", 100_000), ("1 MB", 1_000_000)] {
            let text: String = ENGLISH.chars().cycle().take(bytes).collect();
            criterion.bench_function(&format!("count of {size} of English by {name}"), |bench| {
                bench.iter(|| counter.count(black_box(&text)));
            });
        }
        let signs = "-".repeat(1_000_000);
        criterion.bench_function(&format!("count of 1 MB of dashes by {name}"), |bench| {
            bench.iter(|| counter.count(black_box(&signs)));
        });
        let lines = ("-".repeat(1_000) + "\n").repeat(1_000);
        criterion.bench_function(&format!("count of 1 MB of lines of dashes by {name}"), |bench| {
            bench.iter(|| counter.count(black_box(&lines)));
        });
    }
}

/// A user's files: one for each kind of model, and the inputs that are slow for some.
fn files(criterion: &mut Criterion<CpuTime>) {
    for name in ["byte_level", "sentence_piece", "unigram", "word_piece"] {
        let path = format!("{}/../../tests/golden/tokenizers/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let Some((counter, _)) = std::fs::read(path).ok().and_then(|json| tokens::of_file(&json).ok()) else { return };
        let units = [("English", ENGLISH), ("blanks", " "), ("letters", "a"), ("emoji", "👍"), ("base64", "QUJDREVG")];
        for (kind, unit) in units {
            for (size, bytes) in [("1 KiB", 1_024), ("100 kB", 100_000), ("1 MB", 1_000_000)] {
                let text: String =
                    unit.chars().cycle().take(bytes / unit.chars().next().map_or(1, char::len_utf8)).collect();
                criterion.bench_function(&format!("count of {size} of {kind} by a file of {name}"), |bench| {
                    bench.iter(|| counter.count(black_box(&text)));
                });
            }
        }
    }
}

criterion_group! { name = benches; config = cpu::config(); targets = counts, files }
criterion_main!(benches);
