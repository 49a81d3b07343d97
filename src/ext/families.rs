//! Metrics as Python values.
//!
//! In: metrics and samples. Out: one tuple for each metric, in the order of the Prometheus page.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use aigw_core::telemetry::{Metric, Sink, Value};
use aigw_io::cells::ControlCells;
use aigw_io::metrics::{self, Labels};
use pyo3::prelude::*;

/// (name, kind, help, samples) of each metric.
pub(crate) type Family = (&'static str, &'static str, &'static str, Vec<Sample>);
/// (name, labels, value)
pub(crate) type Sample = (String, Vec<(&'static str, String)>, f64);

/// Names by number: the attributes of the value that Python hands over.
#[derive(FromPyObject)]
pub(crate) struct MetricLabels {
    routes: BTreeMap<u32, (String, String)>,
    tiers: BTreeMap<u32, String>,
    models: BTreeMap<u32, String>,
    calls: BTreeMap<u32, (String, String, String)>,
    consumers: BTreeMap<u32, String>,
    upstreams: BTreeSet<String>,
}

impl From<MetricLabels> for Labels {
    fn from(labels: MetricLabels) -> Self {
        let MetricLabels { routes, tiers, models, calls, consumers, upstreams } = labels;
        Self { routes, tiers, models, calls, consumers, upstreams }
    }
}

/// The metrics of all workers.
pub(crate) fn families(cells: &ControlCells, labels: &Labels) -> io::Result<Vec<Family>> {
    let mut families = Families(Vec::new());
    metrics::walk(cells, labels, &mut families)?;
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
