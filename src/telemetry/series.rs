//! Counts of model calls: one run of words per tier and model, and one per tier.
//!
//! In: the usage and the outcome of a call that is over. Out: words, and the page made of them. Classes of tokens are
//! disjoint. `calls` has the histograms of the same calls.

use super::ErrorType;
use super::budgets::{self, ModelRow, TierRow};
use super::failures::{self, FailureRow};
use super::metric::{Metric, MetricType};
use super::page::{Sink, Value};
use super::words::{Run, add, get};
use crate::accept::openai::Endpoint;
use crate::price::Classes;
use crate::refusal::TABLE;

/// The column of metrics by tier and model: its number, above all that limits are given, and its key.
pub const SERIES: (u32, &str) = (1_048_573, "metrics:series");
/// The column of metrics by tier.
pub const TIERS: (u32, &str) = (1_048_572, "metrics:tiers");
/// Words of one tier: a count for each reason to refuse, then [`SHADOW`], then those of `budgets`.
pub const TIER_WORDS: u32 = 128;
/// The word that counts a tier's shadow limits.
pub(super) const SHADOW: u32 = 64;

const CLASSES: [&str; 5] = ["input", "cached_input", "cache_write_input", "output", "reasoning"];
const OUTCOME: u32 = 5;
const MISSING: u32 = 9;

/// Words (rows of the column) of one series. Only the first ten are counted; the others held histograms, which `calls` has
/// now, and stay so that a data folder of an earlier version keeps its counts.
pub const SERIES_WORDS: u32 = 97;

const TOKENS_TOTAL: Metric = Metric {
    name: "aigw_tokens_total",
    kind: MetricType::Counter,
    help: "Tokens of calls in disjoint classes, as their entries in the ledger have them.",
    labels: &["tier", "model", "class"],
};
const UNREPORTED: Metric = Metric {
    name: "aigw_usage_missing_total",
    kind: MetricType::Counter,
    help: "Answers of models that came without usage.",
    labels: &["tier", "model"],
};
const TIER_DENIALS: Metric = Metric {
    name: "aigw_tier_denials_total",
    kind: MetricType::Counter,
    help: "Requests refused by the gateway, by the caller's tier and reason.",
    labels: &["tier", "reason"],
};
const SHADOWS: Metric = Metric {
    name: "aigw_shadow_exceeded_total",
    kind: MetricType::Counter,
    help: "Requests that a limit in shadow mode would have refused.",
    labels: &["tier"],
};

/// The metrics of this page, each once.
pub(super) fn table() -> Vec<Metric> {
    vec![TOKENS_TOTAL, UNREPORTED, TIER_DENIALS, SHADOWS]
}

/// The facts of a model's call.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallReport {
    /// Index of its outcome: completed or ended by a budget, client cut, upstream cut, upstream error.
    pub outcome: u32,
    /// Why it failed; `None` when it completed.
    pub error: Option<ErrorType>,
    /// The usage that the upstream reported.
    pub usage: Option<Classes>,
    /// The tokens of the call, where they are known.
    pub tokens: Option<Classes>,
    /// Their price in nano-dollars, where the tier has prices.
    pub price: Option<u64>,
    /// The answer was a 2xx, so usage was expected.
    pub expected: bool,
    /// Microseconds of the whole call.
    pub took: u64,
    /// Microseconds to the first piece of a stream.
    pub first: Option<u64>,
    /// Microseconds from the first to the last piece of a stream.
    pub streaming: u64,
}

/// The numbers that a call's rows of metrics are found by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallNames {
    /// Of its tier.
    pub tier: u32,
    /// Of its model.
    pub model: u32,
    /// Of its upstream's labels, with the endpoint that was called; `None` before an upstream was asked.
    pub upstream: Option<(u32, Endpoint)>,
}

/// Count a call in its series' run.
pub fn count_call<'a>(run: &impl Run<'a>, call: &CallReport) {
    add(run, OUTCOME + call.outcome.min(3), 1);
    if call.usage.is_none() && call.expected {
        add(run, MISSING, 1);
    }
    let Classes { input, cached_input, cache_write, output, reasoning, .. } = call.tokens.unwrap_or_default();
    for (at, tokens) in (0..).zip([input, cached_input, cache_write, output, reasoning]) {
        if tokens > 0 {
            add(run, at, tokens);
        }
    }
}

/// Count a refusal in its tier's run.
pub fn count_tier_denial<'a>(run: &impl Run<'a>, denial: crate::refusal::Reason) {
    add(run, denial as u32, 1);
}

/// Count a request that a shadow limit would have refused, in its tier's run.
pub fn count_shadow<'a>(run: &impl Run<'a>) {
    add(run, SHADOW, 1);
}

/// One series' words, as read, with its labels.
#[derive(Debug, Clone, Copy)]
pub struct SeriesRow<'a> {
    /// Tier name.
    pub tier: &'a str,
    /// Public name of the model.
    pub model: &'a str,
    /// Its words.
    pub words: &'a [u64],
    /// Its words in the column of failures.
    pub failures: &'a [u64],
    /// Its words in the column of budgets.
    pub budgets: &'a [u64],
}

/// Hands the metrics of series (those that were ever used) and tiers to `sink`.
pub fn walk(series: &[SeriesRow<'_>], tiers: &[TierRow<'_>], sink: &mut impl Sink) {
    let used: Vec<_> = series.iter().filter(|row| row.words.iter().any(|word| *word > 0)).collect();
    sink.metric(&TOKENS_TOTAL);
    for row in &used {
        for (at, class) in (0..).zip(CLASSES) {
            let labels = [("tier", row.tier), ("model", row.model), ("class", class)];
            sink.sample("", &labels, Value::Whole(get(row.words, at)));
        }
    }
    let failures: Vec<_> = used.iter().map(|row| of_failures(row)).collect();
    failures::walk(&failures, sink);
    sink.metric(&UNREPORTED);
    for row in &used {
        sink.sample("", &[("tier", row.tier), ("model", row.model)], Value::Whole(get(row.words, MISSING)));
    }
    refusals(tiers, sink);
    let models: Vec<_> =
        used.iter().map(|row| ModelRow { tier: row.tier, model: row.model, words: row.budgets }).collect();
    budgets::walk(tiers, &models, sink);
}

fn of_failures<'a>(row: &SeriesRow<'a>) -> FailureRow<'a> {
    let mut outcomes = [0, 1, 2, 3].map(|outcome| get(row.words, OUTCOME + outcome));
    // A stream that a budget ended has ended in order: its series counts it as completed.
    let limit_cut = budgets::cuts(row.budgets).min(outcomes[0]);
    outcomes[0] -= limit_cut;
    FailureRow { tier: row.tier, model: row.model, outcomes, limit_cut, words: row.failures }
}

/// Refusals by tier and reason, without those that never occurred; and hits of shadow limits by tier.
fn refusals(tiers: &[TierRow<'_>], sink: &mut impl Sink) {
    sink.metric(&TIER_DENIALS);
    for TierRow { tier, words, .. } in tiers {
        for row in TABLE {
            let n = get(words, row.reason as u32);
            if n > 0 {
                sink.sample("", &[("tier", tier), ("reason", row.code)], Value::Whole(n));
            }
        }
    }
    sink.metric(&SHADOWS);
    for TierRow { tier, words, .. } in tiers {
        sink.sample("", &[("tier", tier)], Value::Whole(get(words, SHADOW)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_call_is_counted_by_class_and_outcome() {
        let words: Vec<AtomicU64> = (0..SERIES_WORDS).map(|_| AtomicU64::new(0)).collect();
        let tokens =
            Classes { input: 10, cached_input: 2, cache_write: 0, output: 5, reasoning: 4, ..Classes::default() };
        let call = CallReport { outcome: 0, tokens: Some(tokens), expected: true, ..CallReport::default() };
        count_call(&|at: u32| words.get(at as usize), &call);
        let read: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let mut page = super::super::page::Page::default();
        let tier: Vec<u64> = (0..u64::from(TIER_WORDS)).collect();
        let (tier, row) = (TierRow { tier: "free", words: &tier, in_flight: Vec::new() }, ("free", "small"));
        let row = SeriesRow { tier: row.0, model: row.1, words: &read, failures: &[], budgets: &[] };
        walk(&[row], &[tier], &mut page);
        let page = page.text();
        for line in [
            "aigw_tokens_total{tier=\"free\",model=\"small\",class=\"cached_input\"} 2",
            "aigw_model_requests_total{tier=\"free\",model=\"small\",outcome=\"completed\"} 1",
            "aigw_usage_missing_total{tier=\"free\",model=\"small\"} 1",
            "aigw_shadow_exceeded_total{tier=\"free\"} 64",
        ] {
            assert!(page.lines().any(|own| own == line), "{line} is missing in\n{page}");
        }
        assert!(TABLE.len() <= SHADOW as usize);
    }
}
