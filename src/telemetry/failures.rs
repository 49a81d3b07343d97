//! Counts of model calls that failed, and of failed attempts, by error type: one run of words per tier and model.
//!
//! In: the outcome and the error of a call that is over, the errors of its attempts. Out: words, and the page made of them.
//! The same row of [`series`](super::series) counts all calls by outcome: calls of an older version that failed have no type.

use super::error_type::{ERROR_TYPES, ErrorType};
use super::metric::{Metric, MetricType};
use super::page::{Sink, Value};
use super::words::{Run, add, get};

/// The column of these counts: its number, above all that limits are given, and its key.
pub const FAILURES: (u32, &str) = (1_048_568, "metrics:failures");
/// Words (rows of the column) of one series: its calls by outcome and type, then its attempts by type.
pub const FAILURE_WORDS: u32 = ATTEMPTS + ERROR_TYPES;

/// Outcomes of calls that fail; their index is one less than the outcome's.
const OUTCOMES: [&str; 3] = ["client_cut", "upstream_cut", "upstream_error"];
const ATTEMPTS: u32 = 3 * ERROR_TYPES;
const CALLS: Metric = Metric {
    name: "aigw_model_requests_total",
    kind: MetricType::Counter,
    help: "Calls of models that were sent on, by how they ended (limit_cut: a budget ended the stream); error_type only where they failed.",
    labels: &["tier", "model", "outcome", "error_type"],
};
const ERRORS: Metric = Metric {
    name: "aigw_upstream_errors_total",
    kind: MetricType::Counter,
    help: "Attempts at upstreams of a model that failed, also where another upstream then answered the call.",
    labels: &["tier", "model", "error_type"],
};

/// The metrics of this page.
pub(super) fn table() -> [Metric; 2] {
    [CALLS, ERRORS]
}

/// Counts a call that failed. `outcome`: 1 client cut, 2 upstream cut, 3 upstream error.
pub fn count_failure<'a>(run: &impl Run<'a>, outcome: u32, error: ErrorType) {
    add(run, outcome.clamp(1, 3).saturating_sub(1) * ERROR_TYPES + error.number(), 1);
}

/// Counts an attempt that failed.
pub fn count_attempt<'a>(run: &impl Run<'a>, error: ErrorType) {
    add(run, ATTEMPTS + error.number(), 1);
}

/// One series' words, as read, with its labels.
#[derive(Debug, Clone, Copy)]
pub struct FailureRow<'a> {
    /// Tier name.
    pub tier: &'a str,
    /// Public name of the model.
    pub model: &'a str,
    /// Calls by outcome: completed, client cut, upstream cut, upstream error.
    pub outcomes: [u64; 4],
    /// Streams that a budget ended.
    pub limit_cut: u64,
    /// Its words.
    pub words: &'a [u64],
}

/// Hands the calls of series by outcome, and their failed attempts, to `sink`. A type that never occurred has no sample.
pub fn walk(rows: &[FailureRow<'_>], sink: &mut impl Sink) {
    sink.metric(&CALLS);
    for row in rows {
        calls(row, sink);
    }
    sink.metric(&ERRORS);
    for row in rows {
        by_type(row.words, ATTEMPTS, &[("tier", row.tier), ("model", row.model)], sink);
    }
}

fn calls(row: &FailureRow<'_>, sink: &mut impl Sink) {
    let [completed, failed @ ..] = row.outcomes;
    let labels = |outcome| [("tier", row.tier), ("model", row.model), ("outcome", outcome)];
    sink.sample("", &labels("completed"), Value::Whole(completed));
    sink.sample("", &labels("limit_cut"), Value::Whole(row.limit_cut));
    for (at, (outcome, all)) in (0..).zip(OUTCOMES.into_iter().zip(failed)) {
        let typed = by_type(row.words, at * ERROR_TYPES, &labels(outcome), sink);
        if all > typed {
            sink.sample("", &labels(outcome), Value::Whole(all - typed));
        }
    }
}

/// Shows the counts of all types; returns their sum.
fn by_type(words: &[u64], first: u32, labels: &[(&'static str, &str)], sink: &mut impl Sink) -> u64 {
    let mut sum = 0_u64;
    for error in ErrorType::all() {
        let n = get(words, first + error.number());
        sum = sum.saturating_add(n);
        if n > 0 {
            sink.sample("", &[labels, &[("error_type", error.name())]].concat(), Value::Whole(n));
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::page::Page;
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn failures_are_shown_by_outcome_and_type() {
        let words: Vec<AtomicU64> = (0..FAILURE_WORDS).map(|_| AtomicU64::new(0)).collect();
        let run = |at: u32| words.get(at as usize);
        let overloaded = ErrorType::of_status(529).unwrap_or(ErrorType::IN_ANSWER);
        count_failure(&run, 3, overloaded);
        count_failure(&run, 3, ErrorType::EMPTY_STREAM);
        count_failure(&run, 2, overloaded);
        count_attempt(&run, overloaded);
        count_attempt(&run, overloaded);
        let words: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let mut page = Page::default();
        walk(
            &[FailureRow { tier: "free", model: "m", outcomes: [7, 0, 1, 4], limit_cut: 2, words: &words }],
            &mut page,
        );
        let page = page.text();
        let shown: Vec<_> = page.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            shown,
            [
                "aigw_model_requests_total{tier=\"free\",model=\"m\",outcome=\"completed\"} 7",
                "aigw_model_requests_total{tier=\"free\",model=\"m\",outcome=\"limit_cut\"} 2",
                "aigw_model_requests_total{tier=\"free\",model=\"m\",outcome=\"upstream_cut\",error_type=\"529\"} 1",
                "aigw_model_requests_total{tier=\"free\",model=\"m\",outcome=\"upstream_error\",error_type=\"empty_stream\"} 1",
                "aigw_model_requests_total{tier=\"free\",model=\"m\",outcome=\"upstream_error\",error_type=\"529\"} 1",
                "aigw_model_requests_total{tier=\"free\",model=\"m\",outcome=\"upstream_error\"} 2",
                "aigw_upstream_errors_total{tier=\"free\",model=\"m\",error_type=\"529\"} 2",
            ]
        );
    }
}
