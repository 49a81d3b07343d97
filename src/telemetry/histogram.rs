//! A histogram as a run of words: a word for each bucket, one for the values above the last bound, and the sum.
//!
//! In: values in the unit of the bounds. Out: words, and the samples made of them: the buckets of Prometheus count everything
//! up to their bound, the words only their own part.

use super::page::{Sink, Value};
use super::words::{Run, add, get};

/// The words of one histogram.
#[derive(Debug, Clone, Copy)]
pub(super) struct Histogram {
    /// Index of its first word.
    pub at: u32,
    /// Upper bounds of its buckets, rising.
    pub bounds: &'static [u64],
    /// Parts of one in a value: 1, or a million for microseconds that the page shows as seconds.
    pub scale: u64,
}

/// The words of a histogram with so many bounds.
#[allow(clippy::cast_possible_truncation)] // tens
pub(super) const fn words(bounds: &[u64]) -> u32 {
    bounds.len() as u32 + 2
}

impl Histogram {
    /// Counts a value.
    pub fn observe<'a>(&self, run: &impl Run<'a>, value: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound).unwrap_or(self.bounds.len());
        add(run, self.at + u32::try_from(bucket).unwrap_or(0), 1);
        add(run, self.at + words(self.bounds) - 1, value);
    }

    /// The number of values.
    pub fn count(&self, words: &[u64]) -> u64 {
        // A damaged word must not cost the whole page.
        (self.at..).take(self.bounds.len() + 1).fold(0, |sum, at| sum.saturating_add(get(words, at)))
    }

    /// Hands the samples to `sink`.
    pub fn show(&self, words: &[u64], labels: &[(&'static str, &str)], sink: &mut impl Sink) {
        let mut total = 0_u64;
        let bounds = self.bounds.iter().map(|bound| Value::Parts(*bound, self.scale).to_string());
        for (at, bound) in (self.at..).zip(bounds.chain(["+Inf".to_owned()])) {
            total = total.saturating_add(get(words, at));
            sink.sample("_bucket", &[labels, &[("le", &bound)]].concat(), Value::Whole(total));
        }
        let sum = get(words, self.at + self::words(self.bounds) - 1);
        sink.sample("_sum", labels, Value::Parts(sum, self.scale));
        sink.sample("_count", labels, Value::Whole(total));
    }
}
