//! Use and speed of model calls: one run of words per tier and model, and one per tier.
//!
//! In: the usage and the times of a call that is over. Out: words, and the page made of them, with the names of
//! OpenTelemetry's `GenAI` conventions (v1.41) where they have one. Classes of tokens are disjoint.

use super::ErrorType;
use super::failures::{self, FailureRow};
use super::metric::{Metric, MetricType};
use super::page::{Sink, Value};
use super::words::{Run, add, get};
use crate::refusal::TABLE;
use crate::stream::usage::Usage;

/// The column of metrics by tier and model: its number, above all that limits are given, and its key.
pub const SERIES: (u32, &str) = (1_048_573, "metrics:series");
/// The column of metrics by tier.
pub const TIERS: (u32, &str) = (1_048_572, "metrics:tiers");
/// Words of one tier: a count for each reason to refuse, then [`SHADOW`].
pub const TIER_WORDS: u32 = 128;
/// The word that counts a tier's shadow limits.
const SHADOW: u32 = 64;

const CLASSES: [&str; 5] = ["input", "cached_input", "cache_write_input", "output", "reasoning"];
const OUTCOME: u32 = 5;
const MISSING: u32 = 9;
const FIRST: u32 = 16;

/// A histogram of a series: the index of its first word, its bounds, and the divisor of its values on the page.
struct Histogram {
    metric: Metric,
    /// The class of tokens that it counts, where it counts tokens.
    class: Option<&'static str>,
    at: u32,
    bounds: &'static [u64],
    scale: u64,
}

/// Powers of four.
const TOKENS: [u64; 14] =
    [1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];
/// Microseconds; doubled from 10 ms.
const DURATION: [u64; 14] = [
    10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 1_280_000, 2_560_000, 5_120_000, 10_240_000, 20_480_000,
    40_960_000, 81_920_000,
];
const FIRST_TOKEN: [u64; 16] = [
    1_000, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
    5_000_000, 7_500_000, 10_000_000,
];
const PER_TOKEN: [u64; 13] = [
    10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 750_000, 1_000_000, 2_500_000,
];

const LABELS: &[&str] = &["gen_ai_request_model", "aigw_tier"];
const USAGE: Metric = Metric {
    name: "gen_ai_client_token_usage",
    kind: MetricType::Histogram,
    help: "Tokens of a call, by gen_ai_token_type.",
    labels: &["gen_ai_request_model", "aigw_tier", "gen_ai_token_type"],
};

const fn seconds(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricType::Histogram, help, labels: LABELS }
}

const INPUT: u32 = FIRST;
const OUTPUT: u32 = INPUT + 16;
const TOOK: u32 = OUTPUT + 16;
const TO_FIRST: u32 = TOOK + 16;
const EACH: u32 = TO_FIRST + 18;
/// Words (rows of the column) of one series.
pub const SERIES_WORDS: u32 = EACH + 15;

const HISTOGRAMS: [Histogram; 5] = [
    Histogram { metric: USAGE, class: Some("input"), at: INPUT, bounds: &TOKENS, scale: 1 },
    Histogram { metric: USAGE, class: Some("output"), at: OUTPUT, bounds: &TOKENS, scale: 1 },
    Histogram {
        metric: seconds(
            "gen_ai_server_request_duration_seconds",
            "Seconds from a call's head to the end of its answer.",
        ),
        class: None,
        at: TOOK,
        bounds: &DURATION,
        scale: 1_000_000,
    },
    Histogram {
        metric: seconds(
            "gen_ai_server_time_to_first_token_seconds",
            "Seconds from a call's head to the first piece of a streamed answer.",
        ),
        class: None,
        at: TO_FIRST,
        bounds: &FIRST_TOKEN,
        scale: 1_000_000,
    },
    Histogram {
        metric: seconds(
            "gen_ai_server_time_per_output_token_seconds",
            "Seconds per output token after the first, of streamed answers.",
        ),
        class: None,
        at: EACH,
        bounds: &PER_TOKEN,
        scale: 1_000_000,
    },
];

const TOKENS_TOTAL: Metric = Metric {
    name: "aigw_tokens_total",
    kind: MetricType::Counter,
    help: "Tokens as upstreams reported them, in disjoint classes.",
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
    let mut all = vec![TOKENS_TOTAL, UNREPORTED, TIER_DENIALS, SHADOWS, USAGE];
    all.extend(HISTOGRAMS.iter().skip(2).map(|histogram| histogram.metric));
    all
}

/// The facts of a model's call.
#[derive(Debug, Clone, Copy, Default)]
pub struct CallReport {
    /// Index of its outcome: completed, client cut, upstream cut, upstream error.
    pub outcome: u32,
    /// Why it failed; `None` when it completed.
    pub error: Option<ErrorType>,
    /// The usage that the upstream reported.
    pub usage: Option<Usage>,
    /// The answer was a 2xx, so usage was expected.
    pub expected: bool,
    /// Microseconds of the whole call.
    pub took: u64,
    /// Microseconds to the first piece of a stream.
    pub first: Option<u64>,
    /// Microseconds from the first to the last piece of a stream.
    pub streaming: u64,
}

/// Count a call in its series' run.
pub fn count_call<'a>(run: &impl Run<'a>, call: &CallReport) {
    add(run, OUTCOME + call.outcome.min(3), 1);
    observe(run, &HISTOGRAMS[2], call.took);
    if let Some(first) = call.first {
        observe(run, &HISTOGRAMS[3], first);
    }
    let Some(usage) = call.usage else {
        if call.expected {
            add(run, MISSING, 1);
        }
        return;
    };
    let classes = [usage.input, usage.cached_input, usage.cache_write_input, usage.output, usage.reasoning];
    for (at, tokens) in (0..).zip(classes) {
        if tokens > 0 {
            add(run, at, tokens);
        }
    }
    let output = usage.output + usage.reasoning;
    observe(run, &HISTOGRAMS[0], usage.input + usage.cached_input + usage.cache_write_input);
    if output > 0 {
        observe(run, &HISTOGRAMS[1], output);
    }
    if call.first.is_some() && output > 1 {
        observe(run, &HISTOGRAMS[4], call.streaming / (output - 1));
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

fn observe<'a>(run: &impl Run<'a>, histogram: &Histogram, value: u64) {
    let bounds = histogram.bounds;
    let bucket = bounds.iter().position(|bound| value <= *bound).unwrap_or(bounds.len());
    add(run, histogram.at + u32::try_from(bucket).unwrap_or(0), 1);
    add(run, histogram.at + u32::try_from(bounds.len()).unwrap_or(0) + 1, value);
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
}

/// Hands the metrics of series (those that were ever used) and tiers to `sink`.
pub fn walk(series: &[SeriesRow<'_>], tiers: &[(&str, Vec<u64>)], sink: &mut impl Sink) {
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
    let mut named = "";
    for histogram in &HISTOGRAMS {
        if histogram.metric.name != named {
            sink.metric(&histogram.metric);
            named = histogram.metric.name;
        }
        for row in &used {
            samples(histogram, row, sink);
        }
    }
    refusals(tiers, sink);
}

fn of_failures<'a>(row: &SeriesRow<'a>) -> FailureRow<'a> {
    let outcomes = [0, 1, 2, 3].map(|outcome| get(row.words, OUTCOME + outcome));
    FailureRow { tier: row.tier, model: row.model, outcomes, words: row.failures }
}

/// Refusals by tier and reason, without those that never occurred; and hits of shadow limits by tier.
fn refusals(tiers: &[(&str, Vec<u64>)], sink: &mut impl Sink) {
    sink.metric(&TIER_DENIALS);
    for (tier, words) in tiers {
        for row in TABLE {
            let n = get(words, row.reason as u32);
            if n > 0 {
                sink.sample("", &[("tier", tier), ("reason", row.code)], Value::Whole(n));
            }
        }
    }
    sink.metric(&SHADOWS);
    for (tier, words) in tiers {
        sink.sample("", &[("tier", tier)], Value::Whole(get(words, SHADOW)));
    }
}

fn samples(histogram: &Histogram, row: &SeriesRow<'_>, sink: &mut impl Sink) {
    let mut labels = vec![("gen_ai_request_model", row.model), ("aigw_tier", row.tier)];
    labels.extend(histogram.class.map(|class| ("gen_ai_token_type", class)));
    let mut bucket =
        |le: &str, total| sink.sample("_bucket", &[&labels[..], &[("le", le)]].concat(), Value::Whole(total));
    let mut total = 0_u64;
    for (at, bound) in (histogram.at..).zip(histogram.bounds) {
        total = total.saturating_add(get(row.words, at));
        bucket(&Value::Parts(*bound, histogram.scale).to_string(), total);
    }
    let last = histogram.at + u32::try_from(histogram.bounds.len()).unwrap_or(0);
    total = total.saturating_add(get(row.words, last));
    bucket("+Inf", total);
    sink.sample("_sum", &labels, Value::Parts(get(row.words, last + 1), histogram.scale));
    sink.sample("_count", &labels, Value::Whole(total));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_call_is_shown_with_genai_names() {
        let words: Vec<AtomicU64> = (0..SERIES_WORDS).map(|_| AtomicU64::new(0)).collect();
        let usage = Usage { input: 10, cached_input: 2, cache_write_input: 0, output: 5, reasoning: 4 };
        let call = CallReport {
            outcome: 0,
            error: None,
            usage: Some(usage),
            expected: true,
            took: 1_500_000,
            first: Some(30_000),
            streaming: 800_000,
        };
        count_call(&|at: u32| words.get(at as usize), &call);
        let read: Vec<u64> = words.iter().map(|word| word.load(Ordering::Relaxed)).collect();
        let mut page = super::super::page::Page::default();
        let tier: Vec<u64> = (0..u64::from(TIER_WORDS)).collect();
        walk(&[SeriesRow { tier: "free", model: "small", words: &read, failures: &[] }], &[("free", tier)], &mut page);
        let page = page.text();
        for line in [
            "aigw_tokens_total{tier=\"free\",model=\"small\",class=\"cached_input\"} 2",
            "aigw_model_requests_total{tier=\"free\",model=\"small\",outcome=\"completed\"} 1",
            "gen_ai_client_token_usage_sum{gen_ai_request_model=\"small\",aigw_tier=\"free\",gen_ai_token_type=\"input\"} 12",
            "gen_ai_client_token_usage_bucket{gen_ai_request_model=\"small\",aigw_tier=\"free\",gen_ai_token_type=\"output\",le=\"16\"} 1",
            "gen_ai_server_request_duration_seconds_sum{gen_ai_request_model=\"small\",aigw_tier=\"free\"} 1.5",
            "gen_ai_server_time_to_first_token_seconds_bucket{gen_ai_request_model=\"small\",aigw_tier=\"free\",le=\"0.04\"} 1",
            "gen_ai_server_time_per_output_token_seconds_sum{gen_ai_request_model=\"small\",aigw_tier=\"free\"} 0.1",
            "aigw_shadow_exceeded_total{tier=\"free\"} 64",
        ] {
            assert!(page.lines().any(|own| own == line), "{line} is missing in\n{page}");
        }
        assert_eq!(page.matches("# TYPE gen_ai_client_token_usage ").count(), 1);
        assert!(TABLE.len() <= SHADOW as usize);
    }
}
