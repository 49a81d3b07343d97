//! The tables of the core for Python: docs and tests are made from them, so they cannot differ.
//!
//! Out: one complete dict for each row, in the table's order.

use std::collections::BTreeMap;

use aigw_core::price::Prices;
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
#[pyo3(signature = (tokens, *, input, cached_input, cache_write, output, reasoning, request))]
pub fn price_bound(
    tokens: (u64, u64),
    input: u64,
    cached_input: u64,
    cache_write: u64,
    output: u64,
    reasoning: u64,
    request: u64,
) -> u64 {
    Prices { input, cached_input, cache_write, output, reasoning, request }.bound(tokens.0, tokens.1)
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
