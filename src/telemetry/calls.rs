//! Histograms of model calls, with the names of OpenTelemetry's `GenAI` conventions (v1.41): one run of words for each tier,
//! model, upstream and operation.
//!
//! In: a call that is over. Out: words, and the samples made of them. All labels come from the configuration or from a fixed
//! list, so the number of series is bounded by the configuration.

use super::error_type::ErrorType;
use super::failed_durations as failed;
use super::histogram::{Histogram, words};
use super::metric::{Metric, MetricType};
use super::page::Sink;
use super::series::CallReport;
use super::words::Run;
use crate::accept::openai::Endpoint;

/// The column of these histograms: its number, above all that limits are given, and its key.
pub const CALLS: (u32, &str) = (1_048_571, "metrics:calls");
/// Runs of one upstream: one for each operation.
pub const OPERATIONS: u32 = 3;
/// Operations by number, in the words of the conventions.
const OPERATION_NAMES: [&str; OPERATIONS as usize] = ["chat", "text_completion", "embeddings"];

/// Powers of four.
const TOKENS: &[u64] =
    &[1, 4, 16, 64, 256, 1_024, 4_096, 16_384, 65_536, 262_144, 1_048_576, 4_194_304, 16_777_216, 67_108_864];
/// Microseconds; doubled from 10 ms to 82 s, the conventions' advice.
const DURATION: &[u64] = &[
    10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 640_000, 1_280_000, 2_560_000, 5_120_000, 10_240_000, 20_480_000,
    40_960_000, 81_920_000,
];
/// Microseconds: the conventions' advice up to 10 s, and on to 60 s for models that think first.
const FIRST_TOKEN: &[u64] = &[
    1_000, 5_000, 10_000, 20_000, 40_000, 60_000, 80_000, 100_000, 250_000, 500_000, 750_000, 1_000_000, 2_500_000,
    5_000_000, 7_500_000, 10_000_000, 15_000_000, 20_000_000, 30_000_000, 45_000_000, 60_000_000,
];
/// Microseconds: the conventions' advice.
const PER_TOKEN: &[u64] = &[
    10_000, 25_000, 50_000, 75_000, 100_000, 150_000, 200_000, 300_000, 400_000, 500_000, 750_000, 1_000_000, 2_500_000,
];

/// Types of tokens. As in Envoy's gateway, the types after `output` are parts of the first two.
const TOKEN_TYPES: [&str; 5] = ["input", "output", "cached_input", "cache_creation_input", "reasoning"];
const FIRST: u32 = words(TOKENS) * 5;
const EACH: u32 = FIRST + words(FIRST_TOKEN);
const TOOK: u32 = EACH + words(PER_TOKEN);
/// Words (rows of the column) of one run: the last are durations of successes, and of failures that `failed` has no room for.
pub const CALL_WORDS: u32 = TOOK + words(DURATION) * 2;
const _: () = assert!(1 + words(DURATION) == failed::FAILED_WORDS, "a slot has the words of a histogram of durations");

const SECOND: u64 = 1_000_000;
const TO_FIRST: Histogram = Histogram { at: FIRST, bounds: FIRST_TOKEN, scale: SECOND };
const PER_OUTPUT: Histogram = Histogram { at: EACH, bounds: PER_TOKEN, scale: SECOND };

const fn tokens(of_type: u32) -> Histogram {
    Histogram { at: of_type * words(TOKENS), bounds: TOKENS, scale: 1 }
}

const fn took(at: u32) -> Histogram {
    Histogram { at, bounds: DURATION, scale: SECOND }
}

/// Durations of successes.
const SUCCEEDED: Histogram = took(TOOK);
/// Durations of failures without a place of their own.
const OTHERS: Histogram = took(TOOK + words(DURATION));

const fn of_calls(name: &'static str, help: &'static str, labels: &'static [&'static str]) -> Metric {
    Metric { name, kind: MetricType::Histogram, help, labels }
}

macro_rules! labels {
    ($($more:literal)?) => {
        &["gen_ai_operation_name", "gen_ai_provider_name", "gen_ai_original_model", "gen_ai_request_model",
          "gen_ai_response_model", "aigw_tier" $(, $more)?]
    };
}

const USAGE: Metric = of_calls(
    "gen_ai_client_token_usage",
    "Tokens of a call, by gen_ai_token_type; cached and reasoning tokens are parts of input and output.",
    labels!("gen_ai_token_type"),
);
const DURATIONS: Metric = of_calls(
    "gen_ai_server_request_duration_seconds",
    "Seconds from a call's head to the end of its answer; error_type only where it failed.",
    labels!("error_type"),
);
const FIRSTS: Metric = of_calls(
    "gen_ai_server_time_to_first_token_seconds",
    "Seconds from a call's head to the first piece of a streamed answer.",
    labels!(),
);
const EACHES: Metric = of_calls(
    "gen_ai_server_time_per_output_token_seconds",
    "Seconds per output token after the first, of streamed answers.",
    labels!(),
);

/// The metrics of this page, each once.
pub(super) fn table() -> [Metric; 4] {
    [USAGE, DURATIONS, FIRSTS, EACHES]
}

/// The run of an operation, in an upstream's row.
#[must_use]
pub fn run_of(row: u32, endpoint: Endpoint) -> u32 {
    let operation = match endpoint {
        Endpoint::Chat => 0,
        Endpoint::Completions => 1,
        Endpoint::Embeddings => 2,
    };
    row.saturating_mul(OPERATIONS).saturating_add(operation)
}

/// Counts a call in run `number`, whose words are `run`, and its failure in the table of failures.
pub fn count_call<'a>(number: u32, run: &impl Run<'a>, failures: &impl Run<'a>, call: &CallReport) {
    match call.error.map(|error| failed::find(failures, number, error)) {
        None => SUCCEEDED.observe(run, call.took),
        Some(Some(at)) => took(at).observe(failures, call.took),
        Some(None) => OTHERS.observe(run, call.took),
    }
    if let Some(first) = call.first {
        TO_FIRST.observe(run, first);
    }
    let Some(usage) = call.usage else { return };
    let input = usage.all_input();
    let output = usage.all_output();
    tokens(0).observe(run, input);
    let parts = [output, usage.cached_input, usage.cache_write, usage.reasoning];
    for (of_type, part) in (1..).zip(parts) {
        if part > 0 {
            tokens(of_type).observe(run, part);
        }
    }
    if call.first.is_some() && output > 1 {
        PER_OUTPUT.observe(run, call.streaming / (output - 1));
    }
}

/// One run's words, as read, with its labels.
#[derive(Debug, Clone)]
pub struct CallRow<'a> {
    /// Number of the operation.
    pub operation: u32,
    /// Tier name.
    pub tier: &'a str,
    /// Public name of the model.
    pub model: &'a str,
    /// The provider, or the address of the upstream.
    pub provider: &'a str,
    /// The upstream's name of the model.
    pub upstream_model: &'a str,
    /// Its words.
    pub words: Vec<u64>,
    /// The words of its failures, by error type.
    pub failed: Vec<(ErrorType, Vec<u64>)>,
}

impl<'a> CallRow<'a> {
    fn labels(&self) -> Vec<(&'static str, &'a str)> {
        vec![
            ("gen_ai_operation_name", OPERATION_NAMES.get(self.operation as usize).copied().unwrap_or("")),
            ("gen_ai_provider_name", self.provider),
            ("gen_ai_original_model", self.model),
            ("gen_ai_request_model", self.model),
            ("gen_ai_response_model", self.upstream_model),
            ("aigw_tier", self.tier),
        ]
    }

    /// Shows a histogram of these words that has values.
    fn show(&self, histogram: Histogram, words: &[u64], more: Option<(&'static str, &'a str)>, sink: &mut impl Sink) {
        if histogram.count(words) > 0 {
            let mut labels = self.labels();
            labels.extend(more);
            histogram.show(words, &labels, sink);
        }
    }

    /// Durations of failures, by error type.
    fn failures(&self) -> impl Iterator<Item = (ErrorType, Histogram, &[u64])> {
        let own = self.failed.iter().map(|(error, words)| (*error, took(0), &**words));
        own.chain([(ErrorType::OTHER, OTHERS, &*self.words)])
    }
}

/// Hands the histograms that have values to `sink`.
pub fn walk(rows: &[CallRow<'_>], sink: &mut impl Sink) {
    sink.metric(&USAGE);
    for row in rows {
        for (of_type, name) in (0..).zip(TOKEN_TYPES) {
            row.show(tokens(of_type), &row.words, Some(("gen_ai_token_type", name)), sink);
        }
    }
    sink.metric(&DURATIONS);
    for row in rows {
        row.show(SUCCEEDED, &row.words, None, sink);
        for (error, histogram, words) in row.failures() {
            row.show(histogram, words, Some(("error_type", error.name())), sink);
        }
    }
    for (metric, histogram) in [(&FIRSTS, TO_FIRST), (&EACHES, PER_OUTPUT)] {
        sink.metric(metric);
        for row in rows {
            row.show(histogram, &row.words, None, sink);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::page::Page;
    use super::*;
    use crate::price::Classes;
    use crate::refusal::Reason;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn shown(calls: &[CallReport]) -> String {
        shown_with(calls, failed::FAILED_SLOTS)
    }

    /// The page after these calls, where the table of failures has so many slots.
    fn shown_with(calls: &[CallReport], slots: u32) -> String {
        let zeros = |n: u32| (0..n).map(|_| AtomicU64::new(0)).collect::<Vec<_>>();
        let (words, table) = (zeros(CALL_WORDS), zeros(slots * failed::FAILED_WORDS));
        for call in calls {
            count_call(7, &|at: u32| words.get(at as usize), &|at: u32| table.get(at as usize), call);
        }
        let read = |words: &[AtomicU64]| words.iter().map(|word| word.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let table = read(&table);
        let failed = table.chunks(failed::FAILED_WORDS as usize).filter_map(|slot| {
            let (run, error) = failed::read(slot[0])?;
            assert_eq!(run, 7);
            Some((error, slot[1..].to_vec()))
        });
        let (tier, model, provider, upstream_model) = ("free", "small", "openai", "small-1");
        let (words, failed) = (read(&words), failed.collect());
        let mut page = Page::default();
        walk(&[CallRow { operation: 0, tier, model, provider, upstream_model, words, failed }], &mut page);
        page.text()
    }

    const LABELS: &str = "gen_ai_operation_name=\"chat\",gen_ai_provider_name=\"openai\",gen_ai_original_model=\"small\",\
                          gen_ai_request_model=\"small\",gen_ai_response_model=\"small-1\",aigw_tier=\"free\"";

    fn assert_shows(page: &str, lines: &[(&str, &str, &str)]) {
        for (name, more, value) in lines {
            let line = format!("{name}{{{LABELS}{more}}} {value}");
            assert!(page.lines().any(|own| own == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn a_call_is_shown_with_genai_names() {
        let usage =
            Classes { input: 10, cached_input: 2, cache_write: 0, output: 5, reasoning: 4, ..Classes::default() };
        let call = CallReport {
            usage: Some(usage),
            expected: true,
            took: 1_500_000,
            first: Some(30_000),
            streaming: 800_000,
            ..CallReport::default()
        };
        let page = shown(&[call]);
        assert_shows(
            &page,
            &[
                ("gen_ai_client_token_usage_sum", ",gen_ai_token_type=\"input\"", "12"),
                ("gen_ai_client_token_usage_sum", ",gen_ai_token_type=\"cached_input\"", "2"),
                ("gen_ai_client_token_usage_bucket", ",gen_ai_token_type=\"output\",le=\"16\"", "1"),
                ("gen_ai_server_request_duration_seconds_sum", "", "1.5"),
                ("gen_ai_server_time_to_first_token_seconds_bucket", ",le=\"0.04\"", "1"),
                ("gen_ai_server_time_per_output_token_seconds_sum", "", "0.1"),
            ],
        );
        assert_eq!(page.matches("# TYPE gen_ai_client_token_usage ").count(), 1);
        assert!(!page.contains("error_type=") && !page.contains("cache_creation_input"));
    }

    #[test]
    fn a_failed_call_is_shown_by_its_error_type() {
        let failed = |error| CallReport { error, took: 61_000_000, ..CallReport::default() };
        let page = shown(&[
            failed(ErrorType::of_status(429)),
            failed(Some(ErrorType::of_reason(Reason::UpstreamReset))),
            failed(ErrorType::of_status(429)),
        ]);
        assert_shows(
            &page,
            &[
                ("gen_ai_server_request_duration_seconds_count", ",error_type=\"429\"", "2"),
                ("gen_ai_server_request_duration_seconds_count", ",error_type=\"upstream_reset\"", "1"),
                ("gen_ai_server_request_duration_seconds_bucket", ",error_type=\"429\",le=\"81.92\"", "2"),
            ],
        );
        assert!(!page.contains(&format!("gen_ai_server_request_duration_seconds_count{{{LABELS}}}")));
    }

    #[test]
    fn a_failure_without_a_place_is_counted_as_other() {
        let error = ErrorType::of_status(429);
        let page = shown_with(&[CallReport { error, took: 1, ..CallReport::default() }], 0);
        assert_shows(&page, &[("gen_ai_server_request_duration_seconds_count", ",error_type=\"_OTHER\"", "1")]);
    }

    #[test]
    fn histograms_do_not_overlap() {
        let all: Vec<_> = (0..5).map(tokens).chain([TO_FIRST, PER_OUTPUT, SUCCEEDED, OTHERS]).collect();
        for pair in all.windows(2) {
            assert_eq!(pair[0].at + words(pair[0].bounds), pair[1].at);
        }
        assert!(all.iter().all(|one| one.at + words(one.bounds) <= CALL_WORDS));
    }
}
