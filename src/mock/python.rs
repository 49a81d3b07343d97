//! The module `aigw._mock`: blocking calls that serve until a signal handler raises.
//!
//! In: arguments, checked here into a `Plan`. The call ends with the exception of a Python signal handler (so it belongs on
//! the main thread), or with `OSError` when it cannot bind. The GIL is released while serving and taken ten times a second,
//! so that signal handlers run.

use std::net::SocketAddr;
use std::time::Duration;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use super::echo::Echo;
use super::fault::Faults;
use super::llm::{Llm, Plan};
use super::server::Server;
use super::service::Service;

/// The gateway's allocator, too: a benchmark's upstream must not be slower than its gateway.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const SLICE: Duration = Duration::from_millis(100);

fn serve<S: Service>(py: Python<'_>, address: &str, service: S, ready: &Bound<'_, PyAny>) -> PyResult<()> {
    let address: SocketAddr =
        address.parse().map_err(|_| PyValueError::new_err(format!("{address:?} is not an IP address and a port")))?;
    let server = Server::bind(address, service)?;
    ready.call1((server.port(),))?;
    loop {
        py.detach(|| server.run_for(SLICE));
        py.check_signals()?;
    }
}

/// Serve the mock model server; see the stub.
#[pyfunction]
#[pyo3(signature = (address, ready, *, first_byte_ms=0, chunk_ms=0, chunks=16, cached_tokens=0, audio_tokens=0, reasoning_tokens=0, usage=true, fail=None))]
#[allow(clippy::too_many_arguments)]
pub fn serve_mock_llm(
    py: Python<'_>,
    address: &str,
    ready: &Bound<'_, PyAny>,
    first_byte_ms: u64,
    chunk_ms: u64,
    chunks: u64,
    cached_tokens: u64,
    audio_tokens: u64,
    reasoning_tokens: u64,
    usage: bool,
    fail: Option<&str>,
) -> PyResult<()> {
    let faults = fail.map(str::parse::<Faults>).transpose().map_err(PyValueError::new_err)?;
    let plan = Plan {
        first_byte: Duration::from_millis(first_byte_ms),
        chunk: Duration::from_millis(chunk_ms),
        chunks,
        cached: cached_tokens,
        audio: audio_tokens,
        reasoning: reasoning_tokens,
        usage,
        faults,
    };
    serve(py, address, Llm::new(plan), ready)
}

/// Serve the echo service; see the stub.
#[pyfunction]
pub fn serve_echo(py: Python<'_>, address: &str, ready: &Bound<'_, PyAny>) -> PyResult<()> {
    serve(py, address, Echo, ready)
}

/// Mock upstreams; see the stub.
#[pymodule]
fn _mock(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(serve_mock_llm, m)?)?;
    m.add_function(wrap_pyfunction!(serve_echo, m)?)?;
    Ok(())
}
