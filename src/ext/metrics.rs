//! The metrics of all workers, as the control process reads them: shared columns and the state of the slots.
//!
//! In: the columns, the labels of routes, series and tiers. Out: a Prometheus page, or families as values. Names and layout
//! are the core's (`telemetry`).

use std::collections::BTreeMap;
use std::io;

use aigw_core::snapshot::file::Highest;
use aigw_core::telemetry::series::{SERIES, SERIES_WORDS, SeriesRow, TIER_WORDS, TIERS};
use aigw_core::telemetry::{
    self, Counter, GATEWAY, GATEWAY_WORDS, Metric, Page, ROUTE_WORDS, ROUTES, RouteRow, Sink, Value, WORKERS,
};
use aigw_io::cells::{Control, SlotState};

/// Make room for the counters of numbers up to these.
pub(crate) fn prepare(cells: &Control, highest: Highest) -> io::Result<()> {
    let rows = |highest: u32, words: u32| (u64::from(highest) + 1) * u64::from(words);
    cells.ensure_column(ROUTES.0, 1, rows(highest.route, ROUTE_WORDS), ROUTES.1)?;
    cells.ensure_column(SERIES.0, 1, rows(highest.series, SERIES_WORDS), SERIES.1)?;
    cells.ensure_column(TIERS.0, 1, rows(highest.tier, TIER_WORDS), TIERS.1)?;
    cells.ensure_column(GATEWAY.0, 1, u64::from(GATEWAY_WORDS), GATEWAY.1)
}

/// The names that labels are made of.
pub(crate) struct Labels {
    /// Route n -> its label, its service's.
    pub routes: BTreeMap<u32, (String, String)>,
    /// Row of metrics -> tier, model.
    pub series: BTreeMap<u32, (String, String)>,
    /// Tier n -> name.
    pub tiers: BTreeMap<u32, String>,
}

/// The Prometheus page.
pub(crate) fn page(cells: &Control, labels: &Labels) -> io::Result<String> {
    let mut page = Page::default();
    walk(cells, labels, &mut page)?;
    Ok(page.text())
}

/// (name, kind, help, samples) of each metric.
pub(crate) type Family = (&'static str, &'static str, &'static str, Vec<Sample>);
/// (name, labels, value)
pub(crate) type Sample = (String, Vec<(&'static str, String)>, f64);

/// The same as values.
pub(crate) fn families(cells: &Control, labels: &Labels) -> io::Result<Vec<Family>> {
    let mut families = Families(Vec::new());
    walk(cells, labels, &mut families)?;
    Ok(families.0)
}

struct Families(Vec<Family>);

impl Sink for Families {
    fn metric(&mut self, metric: &Metric) {
        self.0.push((metric.name, metric.kind.name(), metric.help, Vec::new()));
    }

    fn sample(&mut self, suffix: &'static str, labels: &[(&'static str, &str)], value: Value) {
        if let Some((name, _, _, samples)) = self.0.last_mut() {
            let labels = labels.iter().map(|&(label, text)| (label, text.to_owned())).collect();
            samples.push((format!("{name}{suffix}"), labels, value.number()));
        }
    }
}

/// Configurations that a worker could not load, since the data folder was made.
pub(crate) fn load_failures(cells: &Control) -> u64 {
    telemetry::counted(&cells.run(GATEWAY.0, 0, GATEWAY_WORDS), Counter::SnapshotFailed)
}

/// Answers on these routes, and on no route.
pub(crate) fn total_requests(cells: &Control, routes: &[u32]) -> u64 {
    let answered = |n: u32| telemetry::answered(&cells.run(ROUTES.0, n.saturating_mul(ROUTE_WORDS), ROUTE_WORDS));
    routes.iter().fold(answered(0), |sum, n| sum.saturating_add(answered(*n)))
}

fn walk(cells: &Control, Labels { routes, series, tiers }: &Labels, sink: &mut impl Sink) -> io::Result<()> {
    let run = |column: u32, n: u32, words: u32| cells.run(column, n.saturating_mul(words), words);
    let nowhere = run(ROUTES.0, 0, ROUTE_WORDS);
    // A route that was never called has no sample: thousands of them would make the page too large to be read.
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
        .map(|(row, (tier, model))| (tier.as_str(), model.as_str(), run(SERIES.0, *row, SERIES_WORDS)))
        .collect();
    let rows: Vec<_> = words.iter().map(|(tier, model, words)| SeriesRow { tier, model, words }).collect();
    let tiers: Vec<_> = tiers.iter().map(|(n, name)| (name.as_str(), run(TIERS.0, *n, TIER_WORDS))).collect();
    telemetry::series::walk(&rows, &tiers, sink);
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
