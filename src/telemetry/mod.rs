//! The metrics of the request path: their names, where each counter's word is, and the page that shows them.
//!
//! In: words of two counter columns, shared by all workers (`metrics:routes`, a run of words per route; `metrics:gateway`).
//! Out: Prometheus text. One table has every fact about a metric; docs, the page and OpenTelemetry are made from it. It owns
//! no memory and reads no clock.

mod error_type;
pub mod failures;
mod metric;
mod page;
mod processes;
pub mod series;
pub mod upstreams;
mod words;

pub use error_type::ErrorType;
pub use metric::{Metric, MetricType};
pub use page::{Page, Sink, Value};
pub use processes::{CONTROL, WORKERS};
pub use words::Run;
use words::{add, get};

use crate::refusal::TABLE;

/// The column of per-route metrics: its number, above all that limits are given, and its key.
pub const ROUTES: (u32, &str) = (1_048_575, "metrics:routes");
/// Words (rows of the column) of one route; route `n` begins at `n * ROUTE_WORDS`, requests without a route at 0.
pub const ROUTE_WORDS: u32 = HISTOGRAMS + 3 * HISTOGRAM_WORDS;
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
const COUNTERS: u32 = 64;

/// The author of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Passed on from an upstream.
    Service,
    /// The gateway's own.
    Exit,
}

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
];

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricType::Counter, help, labels: &[] }
}

const REQUESTS: Metric = Metric {
    name: "kong_http_requests_total",
    kind: MetricType::Counter,
    help: "Answers by route, status and who made them (source: service or exit).",
    labels: &["service", "route", "code", "source", "workspace", "consumer"],
};
/// The labels that dashboards made for Kong select by: the one workspace, and an empty consumer.
const KONGS: [(&str, &str); 2] = [("workspace", "default"), ("consumer", "")];
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
    all.extend(series::table());
    all.extend(failures::table());
    all.extend(upstreams::table());
    all.extend(WORKERS);
    all.extend(CONTROL);
    all
}

/// Count an answer in its route's run.
pub fn count_answer<'a>(run: &impl Run<'a>, source: Source, status: u16, ingress: u64, egress: u64) {
    let status = u32::from(status.clamp(100, 599)) - 100;
    add(run, if source == Source::Exit { STATUSES + status } else { status }, 1);
    if ingress > 0 {
        add(run, BYTES, ingress);
    }
    if egress > 0 {
        add(run, BYTES + 1, egress);
    }
}

/// Count a duration in its route's run.
pub fn count_latency<'a>(run: &impl Run<'a>, what: Latency, micros: u64) {
    let base = HISTOGRAMS + what as u32 * HISTOGRAM_WORDS;
    let bucket = BOUNDS_MS.iter().position(|bound| micros <= bound * 1_000).unwrap_or(BOUNDS_MS.len());
    add(run, base + u32::try_from(bucket).unwrap_or(0), 1);
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
}

/// Hands the metrics of routes and of the gateway to `sink`.
pub fn walk(routes: &[RouteRow<'_>], gateway: &[u64], sink: &mut impl Sink) {
    sink.metric(&REQUESTS);
    for row in routes {
        for (source, name) in [(0, "service"), (STATUSES, "exit")] {
            answers(row, source, name, sink);
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
            let code = (status + 100).to_string();
            let [workspace, consumer] = KONGS;
            let labels = [
                ("service", row.service),
                ("route", row.route),
                ("code", &code),
                ("source", name),
                workspace,
                consumer,
            ];
            sink.sample("", &labels, Value::Whole(n));
        }
    }
}

fn histogram(row: &RouteRow<'_>, what: Latency, sink: &mut impl Sink) {
    let base = HISTOGRAMS + what as u32 * HISTOGRAM_WORDS;
    let [service, route] = [("service", row.service), ("route", row.route)];
    let mut total = 0_u64;
    for (bucket, at) in (base..).take(BOUNDS_MS.len() + 1).enumerate() {
        // A damaged word must not cost the whole page.
        total = total.saturating_add(get(row.words, at));
        let bound = BOUNDS_MS.get(bucket).map_or_else(|| "+Inf".to_owned(), ToString::to_string);
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
        count_answer(&|at: u32| row.get(at as usize), Source::Service, 200, 10, 20);
        count_answer(&|at: u32| row.get(at as usize), Source::Exit, 429, 0, 5);
        count_latency(&|at: u32| row.get(at as usize), Latency::Request, 4_000);
        count_latency(&|at: u32| row.get(at as usize), Latency::Request, 9_000_000);
        count_denial(&|at: u32| own.get(at as usize), crate::refusal::Reason::RateLimited);
        count(&|at: u32| own.get(at as usize), Counter::UpstreamReused, 3);
        let read = |words: &[AtomicU64]| words.iter().map(|word| word.load(Ordering::Relaxed)).collect::<Vec<_>>();
        let mut page = Page::default();
        walk(&[RouteRow { route: "a\"b\nc", service: "s", words: &read(&row) }], &read(&own), &mut page);
        let page = page.text();
        for line in [
            "kong_http_requests_total{service=\"s\",route=\"a\\\"b\\nc\",code=\"200\",source=\"service\",workspace=\"default\",consumer=\"\"} 1",
            "kong_http_requests_total{service=\"s\",route=\"a\\\"b\\nc\",code=\"429\",source=\"exit\",workspace=\"default\",consumer=\"\"} 1",
            "kong_bandwidth_bytes{service=\"s\",route=\"a\\\"b\\nc\",direction=\"egress\"} 25",
            "kong_request_latency_ms_bucket{service=\"s\",route=\"a\\\"b\\nc\",le=\"5\"} 1",
            "kong_request_latency_ms_count{service=\"s\",route=\"a\\\"b\\nc\"} 2",
            "kong_request_latency_ms_sum{service=\"s\",route=\"a\\\"b\\nc\"} 9004.000",
            "aigw_denials_total{reason=\"rate_limited\"} 1",
            "aigw_upstream_reused_total 3",
        ] {
            assert!(page.lines().any(|own| own == line), "{line} is missing in\n{page}");
        }
    }

    #[test]
    fn damaged_words_are_shown_as_they_are() {
        let mut page = Page::default();
        walk(&[RouteRow { route: "r", service: "s", words: &[u64::MAX; ROUTE_WORDS as usize] }], &[], &mut page);
        assert!(
            page.text().contains(&format!("kong_request_latency_ms_count{{service=\"s\",route=\"r\"}} {}", u64::MAX))
        );
        let mut page = Page::default();
        let words = [u64::MAX; series::SERIES_WORDS as usize];
        series::walk(&[series::SeriesRow { tier: "t", model: "m", words: &words, failures: &words }], &[], &mut page);
        assert!(page.text().contains(&format!("aigw_tier=\"t\"}} {}", u64::MAX)));
    }

    #[test]
    fn counters_do_not_overlap_and_fit() {
        assert!(TABLE.len() <= COUNTERS as usize);
        assert!(COUNTERS as usize + GATEWAY_COUNTERS.len() <= GATEWAY_WORDS as usize);
        let mut names: Vec<_> = table().iter().map(|metric| metric.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), table().len());
    }
}
