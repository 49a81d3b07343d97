//! The metrics of all workers, read by the control process from shared columns and slots.
//!
//! In: columns, slots, and the names of routes, series and tiers. Out: samples, handed to a [`Sink`]. Names and layout of the
//! metrics are the core's (`telemetry`).

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use aigw_core::snapshot::file::Highest;
use aigw_core::telemetry::failures::{FAILURE_WORDS, FAILURES};
use aigw_core::telemetry::series::{SERIES, SERIES_WORDS, SeriesRow, TIER_WORDS, TIERS};
use aigw_core::telemetry::upstreams::{Outage, UPSTREAM_WORDS, UPSTREAMS};
use aigw_core::telemetry::{
    self, Counter, GATEWAY, GATEWAY_WORDS, Page, ROUTE_WORDS, ROUTES, RouteRow, Sink, Value, WORKERS,
};

use crate::cells::{ControlCells, SlotState};

/// Make room for the counters of numbers up to these.
pub fn prepare(cells: &ControlCells, highest: Highest) -> io::Result<()> {
    let rows = |highest: u32, words: u32| (u64::from(highest) + 1) * u64::from(words);
    cells.ensure_column(ROUTES.0, 1, rows(highest.route, ROUTE_WORDS), ROUTES.1)?;
    cells.ensure_column(SERIES.0, 1, rows(highest.series, SERIES_WORDS), SERIES.1)?;
    cells.ensure_column(FAILURES.0, 1, rows(highest.series, FAILURE_WORDS), FAILURES.1)?;
    cells.ensure_column(TIERS.0, 1, rows(highest.tier, TIER_WORDS), TIERS.1)?;
    cells.ensure_column(UPSTREAMS.0, 1, u64::from(UPSTREAM_WORDS), UPSTREAMS.1)?;
    cells.ensure_column(GATEWAY.0, 1, u64::from(GATEWAY_WORDS), GATEWAY.1)
}

/// The names that labels are made of.
pub struct Labels {
    /// Route number -> the labels of the route and of its service.
    pub routes: BTreeMap<u32, (String, String)>,
    /// Row of metrics -> tier, model.
    pub series: BTreeMap<u32, (String, String)>,
    /// Tier n -> name.
    pub tiers: BTreeMap<u32, String>,
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
    routes.iter().fold(answered(0), |sum, n| sum.saturating_add(answered(*n)))
}

/// Hands every metric and its samples to `sink`, in the order of the page.
pub fn walk(
    cells: &ControlCells,
    Labels { routes, series, tiers, upstreams }: &Labels,
    sink: &mut impl Sink,
) -> io::Result<()> {
    let run = |column: u32, n: u32, words: u32| cells.run(column, n.saturating_mul(words), words);
    let nowhere = run(ROUTES.0, 0, ROUTE_WORDS);
    // A route without requests has no sample: thousands of empty samples would make the page too large to be read.
    let words: Vec<(&str, &str, Vec<u64>)> = routes
        .iter()
        .map(|(n, (route, service))| (route.as_str(), service.as_str(), run(ROUTES.0, *n, ROUTE_WORDS)))
        .filter(|(_, _, words)| words.iter().any(|word| *word > 0))
        .collect();
    let mut rows = vec![RouteRow { route: "", service: "", words: &nowhere }];
    rows.extend(words.iter().map(|(route, service, words)| RouteRow { route, service, words }));
    telemetry::walk(&rows, &cells.run(GATEWAY.0, 0, GATEWAY_WORDS), sink);
    let words: Vec<_> = series
        .iter()
        .map(|(row, (tier, model))| {
            let (words, failures) = (run(SERIES.0, *row, SERIES_WORDS), run(FAILURES.0, *row, FAILURE_WORDS));
            (tier.as_str(), model.as_str(), words, failures)
        })
        .collect();
    let rows: Vec<_> =
        words.iter().map(|(tier, model, words, failures)| SeriesRow { tier, model, words, failures }).collect();
    let tiers: Vec<_> = tiers.iter().map(|(n, name)| (name.as_str(), run(TIERS.0, *n, TIER_WORDS))).collect();
    telemetry::series::walk(&rows, &tiers, sink);
    telemetry::upstreams::walk(&cells.run(UPSTREAMS.0, 0, UPSTREAM_WORDS), upstreams.iter().map(String::as_str), sink);
    let slots = cells.slots()?;
    for (at, metric) in WORKERS.iter().enumerate() {
        sink.metric(metric);
        for slot in &slots {
            let value = [u64::from(slot.state == SlotState::Ready), slot.in_flight, u64::from(slot.inline)][at];
            sink.sample("", &[("slot", &slot.slot.to_string())], Value::Whole(value));
        }
    }
    Ok(())
}
