//! The metrics of all workers, read by the control process from shared columns and slots.
//!
//! In: columns, slots, and the names of routes, series and tiers. Out: samples, handed to a [`Sink`]. Names and layout of the
//! metrics are the core's (`telemetry`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{SystemTime, UNIX_EPOCH};

use aigw_core::snapshot::file::Highest;
use aigw_core::telemetry::budgets::{BUDGET_WORDS, BUDGETS, IN_FLIGHT, IN_FLIGHT_WORDS, TierRow};
use aigw_core::telemetry::calls::{CALL_WORDS, CALLS, CallRow, OPERATIONS};
use aigw_core::telemetry::consumers::{self, ByConsumer, COMBINATIONS, CONSUMER_ROWS, CONSUMERS, OTHER};
use aigw_core::telemetry::failed_durations::{self as failed, FAILED, FAILED_SLOTS, FAILED_WORDS};
use aigw_core::telemetry::failures::{FAILURE_WORDS, FAILURES};
use aigw_core::telemetry::roster::{NO_ROW, OF_CALLS, OF_SERIES};
use aigw_core::telemetry::series::{SERIES, SERIES_WORDS, SeriesRow, TIER_WORDS, TIERS};
use aigw_core::telemetry::upstreams::{Outage, UPSTREAM_WORDS, UPSTREAMS};
use aigw_core::telemetry::{
    self, Counter, ErrorType, GATEWAY, GATEWAY_WORDS, Page, ROUTE_WORDS, ROUTES, RouteRow, SLOW, SLOW_WORDS, Sink,
    Value, WORKERS,
};

use crate::cells::{ControlCells, SlotReport, SlotState};
use crate::rosters;

/// Make room for the counters of numbers up to these.
pub fn prepare(cells: &ControlCells, highest: Highest) -> io::Result<()> {
    let rows = |highest: u32, words: u32| (u64::from(highest) + 1) * u64::from(words);
    cells.ensure_column(ROUTES.0, 1, rows(highest.route, ROUTE_WORDS), ROUTES.1)?;
    cells.ensure_column(SLOW.0, 1, rows(highest.route, SLOW_WORDS), SLOW.1)?;
    cells.ensure_column(TIERS.0, 1, rows(highest.tier, TIER_WORDS), TIERS.1)?;
    cells.ensure_column(IN_FLIGHT.0, 1, rows(highest.tier, IN_FLIGHT_WORDS), IN_FLIGHT.1)?;
    cells.ensure_column(UPSTREAMS.0, 1, u64::from(UPSTREAM_WORDS), UPSTREAMS.1)?;
    cells.ensure_column(FAILED.0, 1, u64::from(FAILED_SLOTS * FAILED_WORDS), FAILED.1)?;
    cells.ensure_column(GATEWAY.0, 1, u64::from(GATEWAY_WORDS), GATEWAY.1)
}

/// Begins or ends counting answers by consumer, in all workers.
pub fn count_consumers(cells: &ControlCells, on: bool) -> io::Result<()> {
    if on {
        cells.ensure_column(CONSUMERS.0, 2, u64::from(CONSUMER_ROWS), CONSUMERS.1)?;
    }
    cells.ensure_column(GATEWAY.0, 1, u64::from(GATEWAY_WORDS), GATEWAY.1)?;
    cells.set(GATEWAY.0, telemetry::BY_CONSUMER, u64::from(on));
    Ok(())
}

/// The numbers of the consumers whose answers were counted by consumer.
pub fn consumers(cells: &ControlCells) -> Vec<u32> {
    let counted = by_consumer(cells).into_iter().map(|counted| counted.consumer);
    counted.filter(|consumer| *consumer != OTHER).collect::<BTreeSet<_>>().into_iter().collect()
}

fn by_consumer(cells: &ControlCells) -> Vec<ByConsumer> {
    let rows = cells.pairs(CONSUMERS.0, COMBINATIONS);
    rows.into_iter().filter_map(|(key, count)| consumers::read(key, count)).collect()
}

/// Since when all counters count, as unix nanoseconds: since now where that is not known, because an earlier version did
/// not note it and the file system does not tell when the first counters were made.
pub fn counting_since(cells: &ControlCells) -> io::Result<u64> {
    let now = SystemTime::now();
    cells.ensure_column(GATEWAY.0, 1, u64::from(GATEWAY_WORDS), GATEWAY.1)?;
    let micros = |time: SystemTime| {
        time.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_micros()).ok()).unwrap_or(0)
    };
    let noted = cells.run(GATEWAY.0, telemetry::SINCE, 1)[0];
    let since = match noted {
        0 => cells.made(GATEWAY.0).map_or(micros(now), |made| micros(made).min(micros(now))),
        noted => noted,
    };
    if noted == 0 {
        cells.set(GATEWAY.0, telemetry::SINCE, since);
    }
    Ok(since.saturating_mul(1_000))
}

/// Model, provider, the upstream's name of the model.
pub type CallLabels = (String, String, String);

/// The names that labels are made of.
pub struct Labels {
    /// Route number -> the labels of the route and of its service.
    pub routes: BTreeMap<u32, (String, String)>,
    /// Model n -> name.
    pub models: BTreeMap<u32, String>,
    /// Tier n -> name.
    pub tiers: BTreeMap<u32, String>,
    /// Upstream's number -> model, provider, the upstream's name of the model.
    pub calls: BTreeMap<u32, CallLabels>,
    /// Consumer number -> name.
    pub consumers: BTreeMap<u32, String>,
    /// Addresses of models' upstreams and of services, `host:port`.
    pub upstreams: BTreeSet<String>,
}

/// Those of these upstreams that a worker finds down.
pub fn outages(cells: &ControlCells, upstreams: Vec<String>) -> Vec<(String, Outage)> {
    let words = cells.run(UPSTREAMS.0, 0, UPSTREAM_WORDS);
    let outage = |upstream: String| telemetry::upstreams::outage(&words, &upstream).map(|found| (upstream, found));
    upstreams.into_iter().filter_map(outage).collect()
}

/// The Prometheus page.
pub fn page(cells: &ControlCells, labels: &Labels) -> io::Result<String> {
    let mut page = Page::default();
    walk(cells, labels, &mut page)?;
    Ok(page.text())
}

/// Configurations that a worker could not load, since the data folder was made.
pub fn load_failures(cells: &ControlCells) -> u64 {
    telemetry::counted(&cells.run(GATEWAY.0, 0, GATEWAY_WORDS), Counter::SnapshotFailed)
}

/// The number of answers on these routes, and on no route.
pub fn total_requests(cells: &ControlCells, routes: &[u32]) -> u64 {
    let answered = |n: u32| telemetry::answered(&cells.run(ROUTES.0, n.saturating_mul(ROUTE_WORDS), ROUTE_WORDS));
    let dense = routes.iter().fold(answered(0), |sum, n| sum.saturating_add(answered(*n)));
    let routes: BTreeSet<u32> = routes.iter().copied().chain([0]).collect();
    let counted = by_consumer(cells).into_iter().filter(|counted| routes.contains(&counted.route));
    counted.fold(dense, |sum, counted| sum.saturating_add(counted.count))
}

/// The histograms of calls.
fn call_rows<'a>(cells: &ControlCells, labels: &'a Labels) -> Vec<CallRow<'a>> {
    let table = cells.run(FAILED.0, 0, FAILED_SLOTS * FAILED_WORDS);
    let mut by_run: BTreeMap<u32, Vec<(ErrorType, Vec<u64>)>> = BTreeMap::new();
    for slot in table.chunks(FAILED_WORDS as usize) {
        if let Some((run, error)) = slot.first().and_then(|key| failed::read(*key)) {
            by_run.entry(run).or_default().push((error, slot[1..].to_vec()));
        }
    }
    let named = rosters::rows(cells, OF_CALLS.0).into_iter().filter_map(|(row, tier, upstream)| {
        let (model, provider, upstream_model) = labels.calls.get(&upstream)?;
        Some((row, [labels.tiers.get(&tier)?, model, provider, upstream_model].map(String::as_str)))
    });
    let rows = std::iter::once((NO_ROW, [""; 4])).chain(named);
    let rows = rows.flat_map(|(row, labels)| (0..OPERATIONS).map(move |operation| (row, operation, labels)));
    let rows = rows.map(|(row, operation, [tier, model, provider, upstream_model])| {
        let n = row.saturating_mul(OPERATIONS).saturating_add(operation);
        let words = cells.run(CALLS.0, n.saturating_mul(CALL_WORDS), CALL_WORDS);
        let failed = by_run.remove(&n).unwrap_or_default();
        CallRow { operation, tier, model, provider, upstream_model, words, failed }
    });
    rows.collect()
}

/// Tier, model, and the words of their calls, failures and budgets.
type SeriesWords<'a> = (&'a str, &'a str, [Vec<u64>; 3]);

/// The counts of calls by tier and model.
fn series_rows<'a>(cells: &ControlCells, labels: &'a Labels) -> Vec<SeriesWords<'a>> {
    let named = rosters::rows(cells, OF_SERIES.0)
        .into_iter()
        .filter_map(|(row, tier, model)| Some((row, &**labels.tiers.get(&tier)?, &**labels.models.get(&model)?)));
    let columns = [(SERIES.0, SERIES_WORDS), (FAILURES.0, FAILURE_WORDS), (BUDGETS.0, BUDGET_WORDS)];
    std::iter::once((NO_ROW, "", ""))
        .chain(named)
        .map(|(row, tier, model)| {
            (tier, model, columns.map(|(column, words)| cells.run(column, row.saturating_mul(words), words)))
        })
        .collect()
}

/// Hands every metric and its samples to `sink`, in the order of the page.
pub fn walk(cells: &ControlCells, labels: &Labels, sink: &mut impl Sink) -> io::Result<()> {
    let Labels { routes, tiers, consumers, upstreams, .. } = labels;
    let run = |column: u32, n: u32, words: u32| cells.run(column, n.saturating_mul(words), words);
    let nowhere = run(ROUTES.0, 0, ROUTE_WORDS);
    let slow_nowhere = run(SLOW.0, 0, SLOW_WORDS);
    let mut by_route: BTreeMap<u32, Vec<(&str, ByConsumer)>> = BTreeMap::new();
    for counted in by_consumer(cells) {
        // A consumer that is gone has no name, and is not shown any more, like a route that is gone.
        let name =
            if counted.consumer == OTHER { Some("other") } else { consumers.get(&counted.consumer).map(|n| &**n) };
        by_route.entry(counted.route).or_default().extend(name.map(|name| (name, counted)));
    }
    let counted = |n: u32| by_route.get(&n).map_or(&[][..], |counted| counted);
    // A route without requests has no sample: thousands of empty samples would make the page too large to be read.
    let words: Vec<_> = routes
        .iter()
        .map(|(n, names)| (n, names, run(ROUTES.0, *n, ROUTE_WORDS), run(SLOW.0, *n, SLOW_WORDS)))
        .filter(|(n, _, words, slow)| words.iter().chain(slow).any(|word| *word > 0) || !counted(**n).is_empty())
        .collect();
    let mut rows =
        vec![RouteRow { route: "", service: "", words: &nowhere, slow: &slow_nowhere, consumers: counted(0) }];
    rows.extend(words.iter().map(|(n, (route, service), words, slow)| RouteRow {
        route,
        service,
        words,
        slow,
        consumers: counted(**n),
    }));
    telemetry::walk(&rows, &cells.run(GATEWAY.0, 0, GATEWAY_WORDS), sink);
    let words = series_rows(cells, labels);
    let rows: Vec<_> = words
        .iter()
        .map(|(tier, model, [words, failures, budgets])| SeriesRow { tier, model, words, failures, budgets })
        .collect();
    let words: Vec<_> = tiers.iter().map(|(n, name)| (*n, name.as_str(), run(TIERS.0, *n, TIER_WORDS))).collect();
    let in_flight = |n: u32| run(IN_FLIGHT.0, n, IN_FLIGHT_WORDS);
    let tiers: Vec<_> =
        words.iter().map(|(n, tier, words)| TierRow { tier, words, in_flight: in_flight(*n) }).collect();
    telemetry::series::walk(&rows, &tiers, sink);
    telemetry::upstreams::walk(&cells.run(UPSTREAMS.0, 0, UPSTREAM_WORDS), upstreams.iter().map(String::as_str), sink);
    telemetry::calls::walk(&call_rows(cells, labels), sink);
    workers(&cells.slots()?, sink);
    Ok(())
}

/// The gauges of the slots in use.
fn workers(slots: &[SlotReport], sink: &mut impl Sink) {
    for (at, metric) in WORKERS.iter().enumerate() {
        sink.metric(metric);
        for slot in slots {
            let value = [
                Value::Whole(u64::from(slot.state == SlotState::Ready)),
                Value::Whole(slot.in_flight),
                Value::Whole(slot.tls_connections),
                Value::Whole(u64::from(slot.inline)),
                Value::Thousandths(slot.silent_ms),
            ][at];
            sink.sample("", &[("slot", &slot.slot.to_string())], value);
        }
    }
}
