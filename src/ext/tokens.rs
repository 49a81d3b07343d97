//! The count of a text or a request for a model, as workers make it at admission.

use aigw_core::accept::count::{Measure, input};
use aigw_core::accept::openai::Endpoint;
use aigw_core::snapshot::Tokenizer;
use aigw_core::tokens::{BytesCounter, TokenCounter};
use aigw_io::tokens;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// See the stub.
#[pyfunction]
#[allow(clippy::needless_pass_by_value)] // as PyO3 gives it
pub fn count_tokens(
    py: Python<'_>,
    tokenizer: &str,
    kind: &str,
    text: Vec<u8>,
    template: (u32, u32),
    input_bounds: (u32, u32, u32),
) -> PyResult<(u64, u64)> {
    let tokenizer = match tokenizer {
        "o200k_base" => Tokenizer::O200kBase,
        "cl100k_base" => Tokenizer::Cl100kBase,
        "bytes" => Tokenizer::Bytes,
        other => return Err(PyValueError::new_err(format!("no tokenizer '{other}'"))),
    };
    let endpoint = match kind {
        "chat" => Some(Endpoint::Chat),
        "completion" => Some(Endpoint::Completions),
        "embedding" => Some(Endpoint::Embeddings),
        _ => None,
    };
    let text = std::str::from_utf8(&text).map_err(|error| PyValueError::new_err(error.to_string()))?;
    let counter = tokens::counter(&tokenizer);
    let count = |counter: &dyn TokenCounter| {
        let Some(endpoint) = endpoint else { return counter.count(text) };
        let ((per_message, per_request), (image, audio, file)) = (template, input_bounds);
        let count = |text: &str| counter.count(text);
        input(&Measure { text: &count, per_message, per_request, image, audio, file }, endpoint, text)
    };
    Ok(py.detach(|| (counter.timed(&|| count(counter.as_ref())), count(&BytesCounter))))
}
