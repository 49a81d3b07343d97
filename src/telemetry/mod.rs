//! The metrics of the request path: their names, where each counter's word is, and the page that shows them.
//!
//! In: words of counter columns, shared by all workers (`metrics:routes`, a run of words per route; `metrics:gateway`; those of
//! `series` and `calls`).
//! Out: Prometheus text. One table has every fact about a metric; docs, the page and OpenTelemetry are made from it. It owns
//! no memory and reads no clock.

pub mod budgets;
pub mod calls;
pub mod consumers;
mod error_type;
pub mod failed_durations;
pub mod failures;
pub mod handshakes;
mod histogram;
mod metric;
mod page;
mod processes;
pub mod roster;
pub mod series;
mod source;
pub mod tokenizing;
pub mod upstreams;
mod words;

pub use error_type::ErrorType;
pub use metric::{Metric, MetricType};
pub use page::{Page, Sink, Value};
pub use processes::{CONTROL, WORKERS};
pub use source::Source;
pub use words::Run;
use words::{add, get};

use consumers::ByConsumer;

use crate::refusal::TABLE;

/// The column of per-route metrics: its number, above all that limits are given, and its key.
pub const ROUTES: (u32, &str) = (1_048_575, "metrics:routes");
/// Words (rows of the column) of one route; route `n` begins at `n * ROUTE_WORDS`, requests without a route at 0.
pub const ROUTE_WORDS: u32 = HISTOGRAMS + 3 * HISTOGRAM_WORDS;
/// The column of the slow requests of routes: the buckets above those of [`ROUTES`], which came later.
pub const SLOW: (u32, &str) = (1_048_566, "metrics:routes:slow");
/// Words (rows of that column) of one route; route `n` begins at `n * SLOW_WORDS`.
pub const SLOW_WORDS: u32 = 3 * SLOW_BUCKETS;
/// The column of the gateway's own metrics.
pub const GATEWAY: (u32, &str) = (1_048_574, "metrics:gateway");
/// Its words (rows of the column).
pub const GATEWAY_WORDS: u32 = 128;
/// The lowest number of a column of metrics: limits have lower ones.
pub const FIRST_COLUMN: u32 = 1_048_560;

const STATUSES: u32 = 500;
const BYTES: u32 = 2 * STATUSES;
const HISTOGRAMS: u32 = BYTES + 2;
/// Buckets with a bound, one without, and the sum.
#[allow(clippy::cast_possible_truncation)] // 17
const HISTOGRAM_WORDS: u32 = BOUNDS_MS.len() as u32 + 2;
/// Upper bounds in milliseconds: Kong's own.
const BOUNDS_MS: [u64; 17] = [1, 2, 5, 7, 10, 15, 20, 30, 50, 75, 100, 200, 500, 750, 1_000, 3_000, 6_000];
/// Upper bounds in milliseconds beyond Kong's own: calls of models take up to a minute and longer.
const SLOW_BOUNDS_MS: [u64; 3] = [10_000, 30_000, 60_000];
/// Buckets with a bound, and one without.
#[allow(clippy::cast_possible_truncation)] // 3
const SLOW_BUCKETS: u32 = SLOW_BOUNDS_MS.len() as u32 + 1;
const COUNTERS: u32 = 64;
/// The word of the gateway's run that says whether answers are counted by consumer: 0 or 1.
pub const BY_CONSUMER: u32 = GATEWAY_WORDS - 1;
/// The word of the gateway's run that says since when all counters count: unix microseconds; 0 until it is known.
pub const SINCE: u32 = GATEWAY_WORDS - 2;
const _: () = assert!(tokenizing::END <= handshakes::FIRST && handshakes::END <= SINCE, "each word has one use");

/// The duration that a histogram shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Latency {
    /// The whole request.
    Request,
    /// From sending upstream to the answer's head.
    Upstream,
    /// The time that the gateway added.
    Gateway,
}

/// Counters of the gateway's own row, by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// A client went away before its answer was whole.
    ClientGone,
    /// A thread or task of ours panicked or raised and went on.
    Panic,
    /// An access-log line was dropped.
    LogDropped,
    /// A snapshot was loaded.
    SnapshotLoaded,
    /// A snapshot could not be loaded.
    SnapshotFailed,
    /// A connection to an upstream was made.
    UpstreamConnect,
    /// A connection could not be made.
    UpstreamConnectFailed,
    /// A request went out on a kept connection.
    UpstreamReused,
    /// A call was sent to another upstream of its model.
    Failover,
    /// A model's tokenizer file could not count a text.
    TokenizerFailed,
    /// A refusal had no room in the ledger.
    DenialDropped,
    /// A resolver's answer had an address that no upstream may have.
    UpstreamForbidden,
    /// A line of a worker's process log was dropped.
    ProcessLogDropped,
    /// A certificate's pair could not be used.
    CertificateUnusable,
    /// A call was cut because its client did not read the answer.
    ClientStalled,
    /// A connection was cut because the head of a request did not end.
    HeadTimeout,
}

/// The table of counters: index and description.
const GATEWAY_COUNTERS: &[(Counter, Metric)] = &[
    (Counter::ClientGone, counter("aigw_client_gone_total", "Clients that went away before their answer was whole.")),
    (
        Counter::Panic,
        counter(
            "aigw_panics_total",
            "Faults caught in a thread or task of a worker; each cost one request at most, or some lines of the access log.",
        ),
    ),
    (
        Counter::LogDropped,
        counter(
            "aigw_access_log_dropped_total",
            "Access-log lines dropped because the writer was behind or could not write.",
        ),
    ),
    (Counter::SnapshotLoaded, counter("aigw_snapshot_loads_total", "Configurations loaded by workers.")),
    (
        Counter::SnapshotFailed,
        counter(
            "aigw_snapshot_load_failures_total",
            "Configurations a worker could not load; it keeps the one before.",
        ),
    ),
    (Counter::UpstreamConnect, counter("aigw_upstream_connects_total", "Connections made to upstreams.")),
    (
        Counter::UpstreamConnectFailed,
        counter("aigw_upstream_connect_failures_total", "Connections to upstreams that could not be made."),
    ),
    (Counter::UpstreamReused, counter("aigw_upstream_reused_total", "Requests sent on a kept connection.")),
    (
        Counter::Failover,
        counter("aigw_upstream_failovers_total", "Calls sent to another upstream of their model after one failed."),
    ),
    (
        Counter::TokenizerFailed,
        counter(
            "aigw_tokenizer_failures_total",
            "Texts that a model's tokenizer file could not count: the most tokens of their bytes counted instead.",
        ),
    ),
    (
        Counter::DenialDropped,
        counter(
            "aigw_ledger_denials_dropped_total",
            "Refusals that the ledger had no room for: they are missing in GET /denials. Entries are never dropped.",
        ),
    ),
    (
        Counter::UpstreamForbidden,
        counter(
            "aigw_upstream_forbidden_total",
            "Looks at an upstream's addresses that found one that no upstream may have: link-local, multicast, metadata services.",
        ),
    ),
    (
        Counter::ProcessLogDropped,
        counter(
            "aigw_worker_log_dropped_total",
            "Lines of the process log that workers dropped because standard error took no more.",
        ),
    ),
    (
        Counter::CertificateUnusable,
        counter(
            "aigw_certificates_unusable_total",
            "Pairs of certificate and key that a worker could not use: it serves without them, and logs certificate_unusable.",
        ),
    ),
    (
        Counter::ClientStalled,
        counter(
            "aigw_client_stalled_total",
            "Calls cut in the middle of their answer because the client did not read it (error_type client_stalled in the access log), and connections whose client took nothing of an answer's last bytes for 60 s.",
        ),
    ),
    (
        Counter::HeadTimeout,
        counter(
            "aigw_head_timeouts_total",
            "Connections cut because a request's head had not ended 10 s after its first byte. No request began: there is no line in the access log.",
        ),
    ),
];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricType::Counter, help, labels: &[] }
}

const REQUESTS: Metric = Metric {
    name: "kong_http_requests_total",
    kind: MetricType::Counter,
    help: "Answers by route, status and who made them (source: service or exit); by consumer with AIGW_METRICS_CONSUMERS=1.",
    labels: &["service", "route", "code", "source", "workspace", "consumer"],
};
/// A label that dashboards made for Kong select by: there is one workspace.
const WORKSPACE: (&str, &str) = ("workspace", "default");
const BANDWIDTH: Metric = Metric {
    name: "kong_bandwidth_bytes",
    kind: MetricType::Counter,
    help: "Bytes of request bodies (ingress) and answer bodies (egress).",
    labels: &["service", "route", "direction"],
};
const LATENCIES: [(Latency, Metric); 3] = [
    (
        Latency::Request,
        latency("kong_request_latency_ms", "Milliseconds from a request's head to the end of its answer."),
    ),
    (
        Latency::Upstream,
        latency("kong_upstream_latency_ms", "Milliseconds from sending upstream to the head of the answer."),
    ),
    (
        Latency::Gateway,
        latency("kong_kong_latency_ms", "Milliseconds the gateway itself added before sending upstream."),
    ),
];
const DENIALS: Metric = Metric {
    name: "aigw_denials_total",
    kind: MetricType::Counter,
    help: "Requests refused by the gateway, by reason.",
    labels: &["reason"],
};

const fn latency(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricType::Histogram, help, labels: &["service", "route"] }
}

/// Every metric of the request path, for docs and tests.
#[must_use]
pub fn table() -> Vec<Metric> {
    let mut all = vec![REQUESTS, BANDWIDTH];
    all.extend(LATENCIES.map(|(_, metric)| metric));
    all.push(DENIALS);
    all.extend(GATEWAY_COUNTERS.iter().map(|(_, metric)| *metric));
    all.push(tokenizing::SECONDS);
    all.push(handshakes::HANDSHAKES);
    all.extend(series::table());
    all.extend(failures::table());
    all.extend(budgets::table());
    all.extend(upstreams::table());
    all.extend(calls::table());
    all.extend(WORKERS);
    all.extend(CONTROL);
    all
}

/// Count an answer in its route's run, unless it was counted by its consumer.
pub fn count_answer<'a>(run: &impl Run<'a>, source: Source, status: u16) {
    let status = u32::from(status.clamp(100, 599)) - 100;
    add(run, if source == Source::Exit { STATUSES + status } else { status }, 1);
}

/// Count the bytes of bodies in their route's run.
pub fn count_bytes<'a>(run: &impl Run<'a>, ingress: u64, egress: u64) {
    if ingress > 0 {
        add(run, BYTES, ingress);
    }
    if egress > 0 {
        add(run, BYTES + 1, egress);
    }
}

/// Count a duration in its route's run, and one above [`BOUNDS_MS`] in the route's run of slow requests.
pub fn count_latency<'a>(run: &impl Run<'a>, slow: &impl Run<'a>, what: Latency, micros: u64) {
    let base = HISTOGRAMS + what as u32 * HISTOGRAM_WORDS;
    let find = |bounds: &[u64]| bounds.iter().position(|bound| micros <= bound * 1_000).unwrap_or(bounds.len());
    let bucket = find(&BOUNDS_MS);
    let beyond = what as u32 * SLOW_BUCKETS + u32::try_from(find(&SLOW_BOUNDS_MS)).unwrap_or(0);
    if bucket < BOUNDS_MS.len() || slow(beyond).is_none() {
        add(run, base + u32::try_from(bucket).unwrap_or(0), 1);
    } else {
        add(slow, beyond, 1);
    }
    add(run, base + HISTOGRAM_WORDS - 1, micros);
}

/// Counts a refusal in the gateway's run.
pub fn count_denial<'a>(run: &impl Run<'a>, denial: crate::refusal::Reason) {
    add(run, denial as u32, 1);
}

/// Counts an event in the gateway's run.
pub fn count<'a>(run: &impl Run<'a>, what: Counter, n: u64) {
    add(run, COUNTERS + what as u32, n);
}

/// One route's words, as read, with its labels.
#[derive(Debug, Clone, Copy)]
pub struct RouteRow<'a> {
    /// Route name, or id; empty for requests that matched none.
    pub route: &'a str,
    /// Service name, or id.
    pub service: &'a str,
    /// Its words.
    pub words: &'a [u64],
    /// Its words of slow requests.
    pub slow: &'a [u64],
    /// Answers that were counted by consumer, with the consumer's label.
    pub consumers: &'a [(&'a str, ByConsumer)],
}

/// Hands the metrics of routes and of the gateway to `sink`.
pub fn walk(routes: &[RouteRow<'_>], gateway: &[u64], sink: &mut impl Sink) {
    sink.metric(&REQUESTS);
    for row in routes {
        for (source, name) in [(0, "service"), (STATUSES, "exit")] {
            answers(row, source, name, sink);
        }
        for (consumer, counted) in row.consumers {
            let name = if counted.source == Source::Exit { "exit" } else { "service" };
            answer(row, (counted.status, name, consumer), counted.count, sink);
        }
    }
    sink.metric(&BANDWIDTH);
    for row in routes {
        for (at, direction) in [(BYTES, "ingress"), (BYTES + 1, "egress")] {
            let labels = [("service", row.service), ("route", row.route), ("direction", direction)];
            sink.sample("", &labels, Value::Whole(get(row.words, at)));
        }
    }
    for (what, metric) in &LATENCIES {
        sink.metric(metric);
        for row in routes {
            histogram(row, *what, sink);
        }
    }
    sink.metric(&DENIALS);
    for row in TABLE {
        sink.sample("", &[("reason", row.code)], Value::Whole(get(gateway, row.reason as u32)));
    }
    for (what, metric) in GATEWAY_COUNTERS {
        sink.metric(metric);
        sink.sample("", &[], Value::Whole(counted(gateway, *what)));
    }
    tokenizing::walk(gateway, sink);
    handshakes::walk(gateway, sink);
}

/// Answers in a route's run, as read.
#[must_use]
pub fn answered(route: &[u64]) -> u64 {
    // A damaged word must not cost the whole sum.
    route.iter().take(BYTES as usize).fold(0, |sum, word| sum.saturating_add(*word))
}

/// A counter of the gateway's run, as read.
#[must_use]
pub fn counted(gateway: &[u64], what: Counter) -> u64 {
    get(gateway, COUNTERS + what as u32)
}

/// Answers of one source by status, without statuses that never occurred.
fn answers(row: &RouteRow<'_>, source: u32, name: &str, sink: &mut impl Sink) {
    for status in 0..STATUSES {
        let n = get(row.words, source + status);
        if n > 0 {
            answer(row, (u16::try_from(status + 100).unwrap_or(0), name, ""), n, sink);
        }
    }
}

fn answer(row: &RouteRow<'_>, (status, source, consumer): (u16, &str, &str), n: u64, sink: &mut impl Sink) {
    let code = status.to_string();
    let labels = [
        ("service", row.service),
        ("route", row.route),
        ("code", &code),
        ("source", source),
        WORKSPACE,
        ("consumer", consumer),
    ];
    sink.sample("", &labels, Value::Whole(n));
}

fn histogram(row: &RouteRow<'_>, what: Latency, sink: &mut impl Sink) {
    let base = HISTOGRAMS + what as u32 * HISTOGRAM_WORDS;
    let [service, route] = [("service", row.service), ("route", row.route)];
    let mut total = 0_u64;
    let own = (base..).take(BOUNDS_MS.len()).map(|at| get(row.words, at));
    let slow = (what as u32 * SLOW_BUCKETS..).take(SLOW_BOUNDS_MS.len() + 1).map(|at| get(row.slow, at));
    let bounds = BOUNDS_MS.iter().chain(&SLOW_BOUNDS_MS).map(ToString::to_string).chain(["+Inf".to_owned()]);
    for (bound, n) in bounds.zip(own.chain(slow)) {
        // A damaged word must not cost the whole page.
        total = total.saturating_add(n);
        if bound == "+Inf" {
            // Slow requests of an earlier version, which knew no bound above 6 s.
            total = total.saturating_add(get(row.words, base + HISTOGRAM_WORDS - 2));
        }
        sink.sample("_bucket", &[service, route, ("le", &bound)], Value::Whole(total));
    }
    let sum = get(row.words, base + HISTOGRAM_WORDS - 1);
    sink.sample("_sum", &[service, route], Value::Thousandths(sum));
    sink.sample("_count", &[service, route], Value::Whole(total));
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    fn words(n: u32) -> Vec<AtomicU64> {
        (0..n).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn page_shows_counts_with_their_labels() {
        let (row, own) = (words(ROUTE_WORDS), words(GATEWAY_WORDS));
        count_answer(&|at: u32| row.get(at as usize), Source::Service, 200);
        count_answer(&|at: u32| row.get(at as usize), Source::Exit, 429);
        count_bytes(&|at: u32| row.get(at as usize), 10, 25);
        let slow = words(SLOW_WORDS);
        for micros in [4_000, 9_000_000, 59_000_000, 61_000_000] {
            let slow = |at: u32| slow.get(at as usize);
            count_latency(&|at: u32| row.get(at as usize), &slow, Latency::Request, micros);
        }
        // A word of an earlier version: a request of more than 6 s.
        row[(HISTOGRAMS + HISTOGRAM_WORDS - 2) as usize].fetch_add(1, Ordering::Relaxed);
        count_denial(&|at: u32| own.get(at as usize), crate::refusal::Reason::RateLimited);
        count(&|at: u32| own.get(at as usize), Counter::UpstreamReused, 3);
        let read = |words: &[AtomicU64]| words.iter().map(|word| word.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut page = Page::default();
        let counted = consumers::ByConsumer { consumer: 1, route: 0, source: Source::Service, status: 201, count: 4 };
        let consumers = [("ann", counted)];
        let route =
            RouteRow { route: "a\"b\nc", service: "s", words: &read(&row), slow: &read(&slow), consumers: &consumers };
        walk(&[route], &read(&own), &mut page);
        let page = page.text();
        for line in [
            "kong_http_requests_total{service=\"s\",route=\"a\\\"b\\nc\",code=\"200\",source=\"service\",workspace=\"default\",consumer=\"\"} 1",
            "kong_http_requests_total{service=\"s\",route=\"a\\\"b\\nc\",code=\"429\",source=\"exit\",workspace=\"default\",consumer=\"\"} 1",
            "kong_http_requests_total{service=\"s\",route=\"a\\\"b\\nc\",code=\"201\",source=\"service\",workspace=\"default\",consumer=\"ann\"} 4",
            "kong_bandwidth_bytes{service=\"s\",route=\"a\\\"b\\nc\",direction=\"egress\"} 25",
            "kong_request_latency_ms_bucket{service=\"s\",route=\"a\\\"b\\nc\",le=\"5\"} 1",
            "kong_request_latency_ms_bucket{service=\"s\",route=\"a\\\"b\\nc\",le=\"6000\"} 1",
            "kong_request_latency_ms_bucket{service=\"s\",route=\"a\\\"b\\nc\",le=\"10000\"} 2",
            "kong_request_latency_ms_bucket{service=\"s\",route=\"a\\\"b\\nc\",le=\"60000\"} 3",
            "kong_request_latency_ms_count{service=\"s\",route=\"a\\\"b\\nc\"} 5",
            "kong_request_latency_ms_sum{service=\"s\",route=\"a\\\"b\\nc\"} 129004.000",
            "aigw_denials_total{reason=\"rate_limited\"} 1",
            "aigw_upstream_reused_total 3",
        ] {
            assert!(page.lines().any(|own| own == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn damaged_words_are_shown_as_they_are() {
        let mut page = Page::default();
        let words = [u64::MAX; ROUTE_WORDS as usize];
        walk(&[RouteRow { route: "r", service: "s", words: &words, slow: &[], consumers: &[] }], &[], &mut page);
        assert!(
            page.text().contains(&format!("kong_request_latency_ms_count{{service=\"s\",route=\"r\"}} {}", u64::MAX))
        );
        let mut page = Page::default();
        let words = [u64::MAX; series::SERIES_WORDS as usize];
        let row = series::SeriesRow { tier: "t", model: "m", words: &words, failures: &words, budgets: &[] };
        series::walk(&[row], &[], &mut page);
        assert!(page.text().contains(&format!("model=\"m\"}} {}", u64::MAX)));
    }

    #[test]
    fn columns_have_numbers_of_their_own() {
        let (failed, failures) = (failed_durations::FAILED, failures::FAILURES);
        let all = [ROUTES, SLOW, GATEWAY, series::SERIES, series::TIERS, calls::CALLS, failed, failures];
        let all = all.into_iter().chain([consumers::CONSUMERS, upstreams::UPSTREAMS]);
        let all = all.chain([budgets::BUDGETS, budgets::IN_FLIGHT, roster::OF_SERIES, roster::OF_CALLS]);
        let numbers: std::collections::BTreeSet<u32> = all.map(|(number, _)| number).collect();
        assert_eq!((numbers.len(), numbers.first() >= Some(&FIRST_COLUMN)), (14, true));
    }

    #[test]
    fn counters_do_not_overlap_and_fit() {
        assert!(TABLE.len() <= COUNTERS as usize);
        assert!(COUNTERS as usize + GATEWAY_COUNTERS.len() <= tokenizing::FIRST as usize);
        let mut names: Vec<_> = table().iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), table().len());
    }
}
