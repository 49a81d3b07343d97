//! The RSGI application of a worker: its settings, its threads, its shutdown.
//!
//! In: the server's calls, one for each request. Out: an [`Exchange`] for each. Threads start in the worker, never at import;
//! each survives a panic, counts it and goes on.

use std::net::Ipv4Addr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use aigw_core::accept::room::Room;
use aigw_core::r#match::probe::Probes;
use aigw_core::surface::Bounds;
use aigw_core::telemetry::Counter;
use aigw_io::tls_listener::{Listener, Stop};
use aigw_io::upstream::{self, Inbox, Upstream};
use aigw_io::worker::Worker;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::errors::io_error;
use crate::exchange::{CallInFlight, Exchange, Judge, Port, Settings, Shared, deliver, idle, judge};
use crate::publisher::reach;

/// Interval at which deadlines of exchanges in flight are checked.
const BEAT: Duration = Duration::from_millis(50);

/// The RSGI application of one worker.
///
/// Args:
///     `data_dir`: the data folder; the worker takes one slot of its `cells/`.
///     `access_log`: `"-"` for stdout, `"off"`, or a path that is appended to.
///     `max_in_flight`: requests in flight in this worker; more are answered 503.
///     `max_body_bytes`: larger request bodies are answered 413.
///     `max_body_members`: JSON bodies with more members and elements are answered 400.
///     `body_memory_bytes`: bytes of bodies and answers that the worker holds at once; a body beyond is answered 503.
///     `body_memory_part`: percent of them that one caller's bodies may take; a body beyond is answered 429.
///     `body_timeout_s`: the longest silence within a request body, else 408.
///     `body_total_s`: a request body must be whole within this, else 408.
///     `keep_alive_s`: answers tell that an idle connection is kept for this.
///     `probe_paths`: paths of probes, which precede all routes; `None`: `/livez` and `/readyz` where no route has them.
///     `upstream_allow`: networks, with commas, that upstreams may be in though link-local, multicast or a metadata service.
///
/// Raises `OSError` when the data folder cannot be used, `ValueError` for bad arguments.
#[pyclass(frozen, module = "aigw._native")]
pub struct Gateway {
    shared: Arc<Shared<Exchange>>,
    inbox: Mutex<Option<Inbox<Worker, CallInFlight<Exchange>>>>,
    /// Ends the TLS address.
    tls: OnceLock<Stop>,
}

/// The same application for the private port, on which the server takes the requests of the TLS address.
#[pyclass(frozen, module = "aigw._native")]
pub struct GatewayBehindTls(Arc<Shared<Exchange>>);

#[pymethods]
impl GatewayBehindTls {
    fn __call__(&self, py: Python<'_>, scope: &Bound<'_, PyAny>, proto: &Bound<'_, PyAny>) -> PyResult<Py<Exchange>> {
        Exchange::begin(py, &self.0, scope, proto, Port::Private)
    }
}

#[pymethods]
impl Gateway {
    #[new]
    #[allow(clippy::too_many_arguments)] // by keyword in Python
    #[pyo3(signature = (data_dir, *, access_log="off", max_in_flight=8192, max_body_bytes=10_485_760, max_body_members=1_048_576, body_memory_bytes=268_435_456, body_memory_part=25, body_timeout_s=30.0, body_total_s=300.0, keep_alive_s=75.0, probe_paths=None, upstream_allow=""))]
    fn new(
        py: Python<'_>,
        data_dir: &str,
        access_log: &str,
        max_in_flight: usize,
        max_body_bytes: u64,
        max_body_members: u64,
        body_memory_bytes: u64,
        body_memory_part: u64,
        body_timeout_s: f64,
        body_total_s: f64,
        keep_alive_s: f64,
        probe_paths: Option<Vec<String>>,
        upstream_allow: &str,
    ) -> PyResult<Self> {
        let (body_silence, body_total) =
            (seconds("body_timeout_s", body_timeout_s)?, seconds("body_total_s", body_total_s)?);
        let keep_alive = seconds("keep_alive_s", keep_alive_s)?;
        let part = body_memory_bytes.saturating_mul(body_memory_part) / 100;
        let room = Arc::new(Room::new(body_memory_bytes, part));
        let bounds =
            Bounds { max_body: max_body_bytes, max_members: max_body_members, probes: Probes::new(probe_paths), room };
        let data = std::path::Path::new(data_dir);
        let worker = py.detach(|| Worker::open(data, access_log, bounds)).map_err(io_error)?;
        let (upstream, inbox) = Upstream::channel(reach(upstream_allow)?);
        // A client may count in whole seconds only.
        let keep_alive = ("keep-alive", format!("timeout={}", keep_alive.as_secs()).into());
        let settings = Settings { max_body: max_body_bytes, body_silence, body_total, keep_alive, max_in_flight };
        let shared = Arc::new(Shared::new(worker, settings, upstream));
        Ok(Self { shared, inbox: Mutex::new(Some(inbox)), tls: OnceLock::new() })
    }

    /// Start the worker's threads. `event_loop` is the loop the server runs on; `log` gets an event's name, and its facts by
    /// keyword. Once.
    #[pyo3(signature = (event_loop, log=None))]
    fn start(&self, event_loop: Py<PyAny>, log: Option<Py<PyAny>>) -> PyResult<()> {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(inbox) = inbox else { return Err(PyRuntimeError::new_err("the gateway was started already")) };
        let _ = self.shared.event_loop.set(event_loop);
        if let Some(log) = log {
            self.shared.worker.log_to(Box::new(move |event, facts| write_line(&log, event, facts)));
        }
        let (judge, jobs) = Judge::new();
        let _ = self.shared.judge.set(judge);
        let for_bodies = Arc::clone(&self.shared);
        std::thread::Builder::new().name("bodies".into()).spawn(move || judge::run(&for_bodies, &jobs))?;
        let (for_delivery, for_beat) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        let (worker, runtime) = (Arc::clone(&self.shared.worker), upstream::runtime().map_err(io_error)?);
        std::thread::Builder::new().name("upstream".into()).spawn(move || {
            // Attached once for life, detached while it waits: taking the interpreter back is then cheap.
            Python::attach(|py| {
                py.detach(|| {
                    let deliver = move |batch| deliver::deliver(&for_delivery, batch);
                    let beat = move || deliver::beat(&for_beat);
                    let serve = || Upstream::run(&runtime, inbox, worker, BEAT, deliver, beat);
                    if catch_unwind(AssertUnwindSafe(serve)).is_err() {
                        // The panic's text is in the process log by now. Without this thread no request can be answered: a restart is
                        // the repair.
                        std::process::abort();
                    }
                });
            });
        })?;
        Ok(())
    }

    /// End the connections at these ports whose client begins a head and does not end it, or sends none for `idle_s`. Once.
    fn watch_idle(&self, ports: Vec<u16>, idle_s: f64) -> PyResult<()> {
        let (shared, most) = (Arc::clone(&self.shared), seconds("idle_s", idle_s)?);
        std::thread::Builder::new().name("idle".into()).spawn(move || idle::watch(&shared, &ports, most))?;
        Ok(())
    }

    /// The application for the private port.
    fn behind_tls(&self) -> GatewayBehindTls {
        GatewayBehindTls(Arc::clone(&self.shared))
    }

    /// Serve TLS on a duplicate of the descriptor `listening`, with the certificates of the configuration in force, and carry the
    /// requests to the server at `private_port`. Once.
    fn serve_tls(&self, py: Python<'_>, listening: i32, private_port: u16) -> PyResult<()> {
        let server = (Ipv4Addr::LOCALHOST, private_port).into();
        let socket = aigw_io::socket::listener(listening).map_err(io_error)?;
        let (worker, carried) = (Arc::clone(&self.shared.worker), Arc::clone(&self.shared.carried));
        let (listener, stop) = Listener::new(socket, server, worker, carried).map_err(io_error)?;
        if self.tls.set(stop).is_err() {
            return Err(PyRuntimeError::new_err("the gateway serves TLS already"));
        }
        py.detach(|| self.shared.worker.serve_tls());
        std::thread::Builder::new().name("tls".into()).spawn(move || {
            // It ends by a panic alone, whose text is in the process log by now. Without this thread no client of the TLS address is
            // served: a restart is the repair.
            let _ = catch_unwind(AssertUnwindSafe(|| listener.run()));
            std::process::abort();
        })?;
        Ok(())
    }

    /// Serve this pair (PEM: chain, then key) to clients whose server name no certificate of the configuration serves. Raises
    /// `ValueError` for a pair that cannot be used; the one before stays.
    fn serve_pair(&self, py: Python<'_>, pem: &[u8]) -> PyResult<()> {
        py.detach(|| self.shared.worker.serve_pair(pem)).map_err(PyValueError::new_err)
    }

    /// The number of open connections at the TLS address.
    fn tls_connections(&self) -> usize {
        self.shared.carried.open()
    }

    /// Tell that this worker serves: its slot says `ready` from now on.
    fn ready(&self, inline: bool) {
        self.shared.worker.ready(inline);
    }

    /// Tell that the event loop moves; `server`: so do the server's threads.
    #[pyo3(signature = (*, server))]
    fn beat(&self, server: bool) {
        self.shared.worker.beat_loop(server);
    }

    /// Count lines that the worker's process log has dropped.
    fn log_dropped(&self, lines: u64) {
        self.shared.worker.recorder().count(Counter::ProcessLogDropped, lines);
    }

    /// Stop keeping connections: every answer from now on closes its connection. The TLS address accepts no more.
    fn begin_drain(&self) {
        if let Some(tls) = self.tls.get() {
            tls.stop();
        }
        self.shared.worker.begin_drain();
    }

    /// The number of requests in flight: being read, forwarded or streamed.
    fn in_flight(&self) -> usize {
        self.shared.in_flight.count()
    }

    /// Cut all calls in flight and settle them; returns their number. They end shortly after.
    fn cut(&self) -> usize {
        self.shared.worker.begin_cut();
        self.in_flight()
    }

    /// Flush the access log and give the slot back. The last call.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.shared.worker.close());
    }

    /// Why lines of the access log cannot be written; `None` while they can.
    fn access_log_error(&self) -> Option<String> {
        self.shared.worker.access_log_error()
    }

    /// Load the newest published generation: `True` when a configuration is in force. Raises `ValueError` with the reason
    /// when the generation cannot be loaded.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.shared.worker.refresh()).map_err(PyValueError::new_err)
    }

    fn __call__(&self, py: Python<'_>, scope: &Bound<'_, PyAny>, proto: &Bound<'_, PyAny>) -> PyResult<Py<Exchange>> {
        Exchange::begin(py, &self.shared, scope, proto, Port::Public)
    }
}

fn seconds(name: &str, value: f64) -> PyResult<Duration> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| PyValueError::new_err(format!("{name} must be a positive number of seconds")))
}

/// Rare lines only: each one attaches to the interpreter.
fn write_line(log: &Py<PyAny>, event: &str, facts: &[(&str, String)]) {
    Python::attach(|py| {
        let keywords = PyDict::new(py);
        let filled = facts.iter().try_for_each(|(name, text)| keywords.set_item(name, text));
        if let Err(error) = filled.and_then(|()| log.call(py, (event,), Some(&keywords)).map(drop)) {
            error.print(py);
        }
    });
}
