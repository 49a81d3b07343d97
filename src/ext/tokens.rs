//! The count of a text or a request for a model, as workers make it at admission.

use aigw_core::accept::count::{Measure, input};
use aigw_core::accept::openai::Endpoint;
use aigw_io::tokens;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;

/// The name of an embedded vocabulary, or the content of a `tokenizer.json`.
#[derive(FromPyObject)]
pub enum Vocabulary {
    Named(String),
    File(PyBackedBytes),
}

/// See the stub.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // as PyO3 gives it
pub fn count_tokens(
    py: Python<'_>,
    tokenizer: Vocabulary,
    kind: &str,
    text: Vec<u8>,
    template: (u32, u32),
    input_bounds: (u32, u32, u32),
) -> PyResult<(u64, u64)> {
    let endpoint = match kind {
        "chat" => Some(Endpoint::Chat),
        "completion" => Some(Endpoint::Completions),
        "embedding" => Some(Endpoint::Embeddings),
        _ => None,
    };
    let text = std::str::from_utf8(&text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let counter = match &tokenizer {
        Vocabulary::Named(name) => tokens::embedded(name).ok_or_else(|| format!("no tokenizer '{name}'")),
        Vocabulary::File(json) => py.detach(|| tokens::of_file(json)).map(|(counter, _)| counter),
    };
    let counter = counter.map_err(PyValueError::new_err)?;
    let count = |count: &dyn Fn(&str) -> u64| {
        let Some(endpoint) = endpoint else { return count(text) };
        let ((per_message, per_request), (image, audio, file)) = (template, input_bounds);
        input(&Measure { text: count, per_message, per_request, image, audio, file }, endpoint, text)
    };
    let (exact, bound) = (|text: &str| counter.count(text), |text: &str| counter.bound(text));
    Ok(py.detach(|| (counter.timed(&|| count(&exact)), count(&bound))))
}

/// See the stub.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // as PyO3 gives it
pub fn check_tokenizer(py: Python<'_>, json: PyBackedBytes) -> PyResult<u32> {
    py.detach(|| tokens::of_file(&json)).map(|(_, per_byte)| per_byte).map_err(PyValueError::new_err)
}
