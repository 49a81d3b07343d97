//! The tables of the core for Python: docs and tests are made from them, so they cannot differ.
//!
//! Out: one complete dict for each row, in the table's order.

use std::collections::BTreeMap;

use aigw_core::price::SERVICE_TIERS;
use aigw_core::{limits, refusal, telemetry};
use aigw_io::access_log;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// See the stub.
#[pyfunction]
pub fn denials(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let rows = refusal::TABLE.iter().map(|row| {
        let dict = PyDict::new(py);
        dict.set_item("code", row.code)?;
        dict.set_item("status", row.status)?;
        dict.set_item("message", row.message)?;
        dict.set_item("why", row.why.trim())?;
        dict.set_item("extra", format!("{:?}", row.extra))?;
        dict.set_item("retry", format!("{:?}", row.retry))?;
        Ok(dict)
    });
    rows.collect()
}

/// See the stub.
#[pyfunction]
pub fn limit_kinds() -> BTreeMap<&'static str, u32> {
    limits::KINDS.iter().map(|kind| (kind.name, kind.words)).collect()
}

/// See the stub.
#[pyfunction]
pub fn wrong_limit(kind: &str, fields: &[u8], open: bool) -> Option<String> {
    limits::wrong(kind, fields, open)
}

/// See the stub.
#[pyfunction]
pub fn service_tiers() -> Vec<(&'static str, u8)> {
    SERVICE_TIERS.iter().map(|(name, tier)| (*name, *tier as u8)).collect()
}

/// See the stub.
#[pyfunction]
pub fn access_log_fields() -> Vec<(&'static str, &'static str, bool)> {
    access_log::FIELDS.to_vec()
}

/// See the stub.
#[pyfunction]
pub fn metrics_table(py: Python<'_>) -> PyResult<Vec<Bound<'_, PyDict>>> {
    let rows = telemetry::table().into_iter().map(|metric| {
        let dict = PyDict::new(py);
        dict.set_item("name", metric.name)?;
        dict.set_item("kind", metric.kind.name())?;
        dict.set_item("help", metric.help)?;
        dict.set_item("labels", metric.labels)?;
        Ok(dict)
    });
    rows.collect()
}
