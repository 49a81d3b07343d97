//! The time that counts of input tokens take, as a histogram in the gateway's run.
//!
//! In: the microseconds of one count of a body. Out: words, and the samples made of them. A body whose bytes prove a budget ample is
//! not counted, so the number of values tells how often an exact count was needed.

use super::histogram::{Histogram, words};
use super::metric::{Metric, MetricType};
use super::page::Sink;
use super::words::Run;

/// Microseconds: 1 KiB of English takes less than 25, 10 MB a few seconds.
const BOUNDS: &[u64] = &[10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000];
/// Index of the first word in the gateway's run.
pub(super) const FIRST: u32 = 96;
/// The first word behind them.
pub(super) const END: u32 = FIRST + words(BOUNDS);
const HISTOGRAM: Histogram = Histogram { at: FIRST, bounds: BOUNDS, scale: 1_000_000 };

pub(super) const SECONDS: Metric = Metric {
    name: "aigw_tokenize_seconds",
    kind: MetricType::Histogram,
    help: "Seconds of one exact count of a request's input tokens; requests whose bytes prove their budgets ample are not counted. A worker's first count loads the vocabulary.",
    labels: &[],
};

/// Counts a count in the gateway's run.
pub fn count<'a>(gateway: &impl Run<'a>, micros: u64) {
    HISTOGRAM.observe(gateway, micros);
}

/// Hands the histogram to `sink`.
pub(super) fn walk(gateway: &[u64], sink: &mut impl Sink) {
    sink.metric(&SECONDS);
    HISTOGRAM.show(gateway, &[], sink);
}
