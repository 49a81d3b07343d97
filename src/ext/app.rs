//! The RSGI application of a worker: what all its exchanges share, and the delivery of upstream events.
//!
//! In: the server's calls and the upstream thread's events. Out: answers. It owns the threads; they start in the worker,
//! never at import, and each survives a panic, counts it and goes on.

use crate::answer;
use crate::errors::io_error;
use crate::exchange::{Exchange, Phase};
use crate::linger::Lingering;
use aigw_core::denial::Reason;
use aigw_io::accept::Arrival;
use aigw_io::gateway::{Admitted, End, Gateway as Decisions, Outcome, OwnHeader};
use aigw_io::socket;
use aigw_io::upstream::{Call, Cancel, Event, Failure, Inbox, Ticket, Upstream};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// How often exchanges in flight are looked at for their deadlines.
const BEAT: Duration = Duration::from_millis(50);

/// Settings of a worker that the path needs.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) max_body: u64,
    pub(crate) body_timeout: Duration,
    pub(crate) max_in_flight: usize,
    /// The listener speaks TLS.
    pub(crate) tls: bool,
}

/// What all exchanges of a worker share.
pub(crate) struct Shared {
    pub(crate) gateway: Decisions,
    pub(crate) settings: Settings,
    upstream: Upstream<Held>,
    event_loop: OnceLock<Py<PyAny>>,
    in_flight: Mutex<Places>,
    /// Bodies of answered requests that are still to be taken off their connections.
    pub(crate) lingering: Lingering,
    count: AtomicUsize,
    cutting: AtomicBool,
}

/// Exchanges in flight, each at a place it knows.
#[derive(Default)]
struct Places {
    places: Vec<Option<Py<Exchange>>>,
    free: Vec<u32>,
}

impl Shared {
    fn places(&self) -> std::sync::MutexGuard<'_, Places> {
        self.in_flight.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Count an exchange among those in flight; false when the worker is full.
    pub(crate) fn enter(&self, exchange: &Bound<'_, Exchange>) -> bool {
        let mut places = self.places();
        if self.count.load(Ordering::Relaxed) >= self.settings.max_in_flight {
            return false;
        }
        let held = Some(exchange.clone().unbind());
        let place = if let Some(place) = places.free.pop() {
            places.places[place as usize] = held;
            place
        } else {
            let Ok(place) = u32::try_from(places.places.len()) else { return false };
            places.places.push(held);
            place
        };
        self.count.fetch_add(1, Ordering::Relaxed);
        self.gateway.in_flight().fetch_add(1, Ordering::Relaxed);
        exchange.get().set_place(place);
        true
    }

    /// Forget the exchange at this place; `u32::MAX` for one that was never counted.
    pub(crate) fn leave(&self, place: u32) {
        if place == u32::MAX {
            return;
        }
        let gone = {
            let mut places = self.places();
            places.free.push(place);
            places.places.get_mut(place as usize).and_then(Option::take)
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.gateway.in_flight().fetch_sub(1, Ordering::Relaxed);
        drop(gone);
    }

    /// The worker's event loop.
    pub(crate) fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop
            .get()
            .map(|event_loop| event_loop.bind(py).clone())
            .ok_or_else(|| PyRuntimeError::new_err("the gateway was not started: call start(loop) first"))
    }

    /// Hand an admitted request to the upstream thread.
    pub(crate) fn submit(
        &self,
        exchange: &Bound<'_, Exchange>,
        arrival: Box<Arrival>,
        admitted: Admitted,
        call: Call,
    ) -> PyResult<()> {
        let held = Held {
            shared: Arc::clone(&exchange.get().shared),
            cancel: Arc::clone(&exchange.get().cancel),
            exchange: exchange.clone().unbind(),
            live: RefCell::new(Live { arrival, admitted, transport: None, status: 0, bytes: 0, head_after: None }),
        };
        match self.upstream.submit(held, call) {
            Ok(()) => Ok(()),
            Err(held) => held.on_event(exchange.py(), Event::Failed(Failure::Internal)),
        }
    }

    /// Look at what is in flight: overdue bodies, clients worth watching, a drain that has run out.
    fn beat(&self) {
        let now = Instant::now();
        self.gateway.beat();
        self.count_upstream();
        self.lingering.sweep(now, |py, error| {
            self.gateway.recorder().panic();
            error.print(py);
        });
        let cutting = self.is_cutting();
        let due = {
            let places = self.places();
            places.places.iter().flatten().any(|exchange| {
                let exchange = exchange.get();
                cutting || exchange.body_overdue(now) || exchange.wants_watch(now)
            })
        };
        if !due {
            return;
        }
        Python::attach(|py| {
            let all: Vec<Py<Exchange>> =
                self.places().places.iter().flatten().map(|exchange| exchange.clone_ref(py)).collect();
            for exchange in all {
                let exchange = exchange.bind(py);
                let own = exchange.get();
                let outcome = if own.body_overdue(now) {
                    Exchange::body_failed(exchange, Reason::BodyTimeout)
                } else if cutting && own.phase() == Phase::Body {
                    Exchange::body_failed(exchange, Reason::Draining)
                } else if cutting {
                    own.cancel.cancel();
                    Ok(())
                } else if own.wants_watch(now) {
                    Exchange::watch(exchange)
                } else {
                    Ok(())
                };
                if let Err(error) = outcome {
                    self.gateway.recorder().panic();
                    error.print(py);
                }
            }
        });
    }

    /// A shutdown cuts what is still in flight.
    fn is_cutting(&self) -> bool {
        self.cutting.load(Ordering::Relaxed)
    }

    fn count_upstream(&self) {
        self.upstream.counters().take(|what, n| self.gateway.recorder().count(what, n));
    }

    /// Deliver a batch of events under one attachment to the interpreter.
    fn deliver(&self, batch: Vec<(Rc<Held>, Event)>) {
        // Before the answers go out, so that whoever has one finds it counted.
        self.count_upstream();
        Python::attach(|py| {
            for (held, event) in batch {
                let last = event.is_last();
                let outcome = catch_unwind(AssertUnwindSafe(|| held.on_event(py, event)));
                let Err(fault) = outcome.map_err(|_| None).and_then(|told| told.map_err(Some)) else { continue };
                self.gateway.recorder().panic();
                if let Some(error) = fault {
                    error.print(py);
                }
                if !last {
                    held.cancel.cancel();
                } else if let Err(error) = Exchange::finish(held.exchange.bind(py)) {
                    error.print(py);
                }
            }
        });
    }
}

/// An exchange in the hands of the upstream thread.
pub(crate) struct Held {
    shared: Arc<Shared>,
    exchange: Py<Exchange>,
    cancel: Arc<Cancel>,
    live: RefCell<Live>,
}

struct Live {
    arrival: Box<Arrival>,
    admitted: Admitted,
    transport: Option<Py<PyAny>>,
    status: u16,
    bytes: u64,
    head_after: Option<Duration>,
}

impl Ticket for Held {
    fn sending(&self) {
        self.live.borrow_mut().admitted.sending();
    }

    fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    fn head(&self, status: StatusCode, headers: &mut HeaderMap<HeaderValue>) {
        self.live.borrow_mut().admitted.head(status, headers);
    }

    fn piece(&self, piece: Bytes) -> Bytes {
        self.live.borrow_mut().admitted.piece(piece)
    }

    fn rest(&self) -> Bytes {
        self.live.borrow_mut().admitted.rest()
    }

    fn last_words(&self, failure: Failure) -> Option<Bytes> {
        let live = self.live.borrow();
        self.shared.gateway.last_words(&live.arrival, &live.admitted, failure, self.shared.is_cutting())
    }
}

impl Held {
    /// One event of the exchange.
    fn on_event(&self, py: Python<'_>, event: Event) -> PyResult<()> {
        let exchange = self.exchange.bind(py);
        let own = exchange.get();
        if own.phase() == Phase::Over {
            return Ok(());
        }
        let gateway = &own.shared.gateway;
        match event {
            Event::Full { status, headers, body } => {
                let extra = self.head(own, status.as_u16(), &headers);
                self.live.borrow_mut().bytes = body.len() as u64;
                // Given back before the client can react: its next request must not meet this one's permit.
                self.settle(own, Outcome::Completed, None);
                answer::send_whole(py, &own.proto, status.as_u16(), &headers, &extra, &body)?;
                Exchange::finish(exchange)
            }
            Event::Head { status, headers } => {
                let extra = self.head(own, status.as_u16(), &headers);
                let transport = answer::send_head(py, &own.proto, status.as_u16(), &headers, &extra)?;
                self.live.borrow_mut().transport = Some(transport);
                own.set_phase(Phase::Streaming);
                Ok(())
            }
            Event::Chunk(data) => {
                let mut live = self.live.borrow_mut();
                live.bytes += data.len() as u64;
                if let Some(transport) = &live.transport
                    && !answer::send_piece(py, transport, &data)?
                {
                    gateway.recorder().client_gone();
                    self.cancel.cancel();
                }
                Ok(())
            }
            Event::End => {
                self.settle(own, Outcome::Completed, None);
                self.live.borrow_mut().transport = None;
                Exchange::finish(exchange)
            }
            Event::Failed(failure) if own.phase() == Phase::Streaming => {
                let left = failure == Failure::Cancelled && !own.shared.is_cutting();
                self.settle(own, if left { Outcome::ClientCut } else { Outcome::Cut }, None);
                // A clean end would pass a torn answer off as a whole one.
                let peer = self.live.borrow().arrival.peer;
                let _ = peer.is_some_and(socket::cut);
                self.live.borrow_mut().transport = None;
                Exchange::finish(exchange)
            }
            Event::Failed(failure) => {
                let cutting = own.shared.is_cutting();
                let (reason, answer) = {
                    let live = self.live.borrow();
                    gateway.failed(&live.arrival, &live.admitted, failure, cutting)
                };
                {
                    let mut live = self.live.borrow_mut();
                    live.status = answer.status;
                    live.bytes = answer.body.len() as u64;
                }
                let outcome =
                    if failure == Failure::Cancelled && !cutting { Outcome::ClientCut } else { Outcome::Unanswered };
                self.settle(own, outcome, Some(reason));
                Exchange::answer(exchange, &answer)
            }
        }
    }

    /// The gateway's own headers for an upstream's answer; remembers what the record needs.
    fn head(&self, own: &Exchange, status: u16, headers: &HeaderMap<HeaderValue>) -> Vec<OwnHeader> {
        let mut live = self.live.borrow_mut();
        let live = &mut *live;
        live.status = status;
        live.head_after = Some(own.since.elapsed());
        own.shared.gateway.answer_headers(&live.arrival, &mut live.admitted, headers)
    }

    fn settle(&self, own: &Exchange, outcome: Outcome, reason: Option<Reason>) {
        let mut live = self.live.borrow_mut();
        let live = &mut *live;
        let end = End { outcome, status: live.status, bytes: live.bytes, head_after: live.head_after, reason };
        own.shared.gateway.settle(&live.arrival, &mut live.admitted, &end);
    }
}

/// The RSGI application of one worker.
///
/// Args:
///     `data_dir`: the data folder; the worker takes one slot of its `cells/`.
///     `access_log`: `"-"` for stdout, `"off"`, or a path that is appended to.
///     `max_in_flight`: requests in flight in this worker; more are answered 503.
///     `max_body_bytes`: larger request bodies are answered 413.
///     `body_timeout_s`: a request body must be whole within this, else 408.
///     tls: the listener speaks TLS.
///
/// Raises `OSError` when the data folder cannot be used, `ValueError` for bad arguments.
#[pyclass(frozen, module = "aigw._native")]
pub struct Gateway {
    shared: Arc<Shared>,
    inbox: Mutex<Option<Inbox<Held>>>,
}

#[pymethods]
impl Gateway {
    #[new]
    #[allow(clippy::too_many_arguments)] // by keyword in Python
    #[pyo3(signature = (data_dir, *, access_log="off", max_in_flight=8192, max_body_bytes=10_485_760, body_timeout_s=60.0, tls=false))]
    fn new(
        py: Python<'_>,
        data_dir: &str,
        access_log: &str,
        max_in_flight: usize,
        max_body_bytes: u64,
        body_timeout_s: f64,
        tls: bool,
    ) -> PyResult<Self> {
        let body_timeout = Duration::try_from_secs_f64(body_timeout_s)
            .map_err(|_| PyValueError::new_err("body_timeout_s must be a positive number of seconds"))?;
        let gateway = py.detach(|| Decisions::open(std::path::Path::new(data_dir), access_log)).map_err(io_error)?;
        let (upstream, inbox) = Upstream::channel();
        let settings = Settings { max_body: max_body_bytes, body_timeout, max_in_flight, tls };
        let shared = Arc::new(Shared {
            gateway,
            settings,
            upstream,
            event_loop: OnceLock::new(),
            in_flight: Mutex::default(),
            lingering: Lingering::default(),
            count: AtomicUsize::new(0),
            cutting: AtomicBool::new(false),
        });
        Ok(Self { shared, inbox: Mutex::new(Some(inbox)) })
    }

    /// Start the worker's threads. `event_loop` is the loop the server runs on. Once.
    fn start(&self, event_loop: Py<PyAny>) -> PyResult<()> {
        let inbox = self.inbox.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(inbox) = inbox else { return Err(PyRuntimeError::new_err("the gateway was started already")) };
        let _ = self.shared.event_loop.set(event_loop);
        let for_delivery = Arc::clone(&self.shared);
        let for_beat = Arc::clone(&self.shared);
        std::thread::Builder::new().name("upstream".into()).spawn(move || {
            // Attached once for life, detached while it waits: taking the interpreter back is then cheap.
            Python::attach(|py| {
                py.detach(|| {
                    let (deliver, beat) = (move |batch| for_delivery.deliver(batch), move || for_beat.beat());
                    let served = catch_unwind(AssertUnwindSafe(|| Upstream::run(inbox, BEAT, deliver, beat)));
                    if !matches!(served, Ok(Ok(()))) {
                        // Without this thread no request can be answered: a restart is the repair.
                        std::process::abort();
                    }
                });
            });
        })?;
        Ok(())
    }

    /// Tell that this worker serves: its slot says `ready` from now on.
    fn ready(&self, inline: bool) {
        self.shared.gateway.ready(inline);
    }

    /// Stop keeping connections: every answer from now on closes its connection.
    fn begin_drain(&self) {
        self.shared.gateway.begin_drain();
    }

    /// Requests in flight: being read, forwarded or streamed.
    fn in_flight(&self) -> usize {
        self.shared.count.load(Ordering::Relaxed)
    }

    /// Cut what is still in flight and settle it; returns how many there were. They are gone shortly after.
    fn cut(&self) -> usize {
        self.shared.cutting.store(true, Ordering::Relaxed);
        self.in_flight()
    }

    /// Flush the access log and give the slot back. The last call.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.shared.gateway.close());
    }

    /// Why lines of the access log cannot be written, while they cannot.
    fn access_log_error(&self) -> Option<String> {
        self.shared.gateway.access_log_error()
    }

    /// Load what the control process published last: `True` when a configuration is in force. Raises `ValueError` with
    /// the reason when what was published cannot be loaded.
    fn refresh(&self, py: Python<'_>) -> PyResult<bool> {
        py.detach(|| self.shared.gateway.refresh()).map_err(PyValueError::new_err)
    }

    fn __call__(&self, py: Python<'_>, scope: &Bound<'_, PyAny>, proto: &Bound<'_, PyAny>) -> PyResult<Py<Exchange>> {
        Exchange::begin(py, &self.shared, scope, proto)
    }
}
