//! One request from the server's hands to the client's answer: the RSGI application's awaitable.
//!
//! In: `app(scope, proto)` from the server's thread. Out: exactly one answer through `proto`, from whichever thread has it,
//! with no Python frame of ours on the way. The decisions are `aigw_io::gateway`'s; this file moves bytes over the boundary
//! and keeps the order: head, body, forward, answer. Stepped inline (`step`) or, on a stock loop, as an asyncio future:
//! the same code either way. An exchange that is dropped unanswered gives its permit back and the server answers 500.

use crate::answer::{self, Names};
use crate::app::Shared;
use crate::body::{Purpose, Reading};
use crate::step::{self, Step};
use aigw_core::denial::Reason;
use aigw_io::accept::{Answer, Arrival, BodyLength};
use aigw_io::gateway::Passage;
use aigw_io::upstream::Cancel;
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::PyDict;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A refusal reads this much of a body before it answers: a client that is still writing would lose the answer.
pub(crate) const DISCARD_BYTES: u64 = 1024 * 1024;
/// ... or for this long.
const DISCARD_FOR: Duration = Duration::from_secs(1);
/// Bodies larger than this are read without the interpreter.
const LARGE: usize = 64 * 1024;
/// A client whose answer is this late is watched for going away.
pub(crate) const WATCH_AFTER: Duration = Duration::from_millis(100);

/// Where an exchange stands; only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
pub(crate) enum Phase {
    Head = 0,
    Body = 1,
    Forwarded = 2,
    Streaming = 3,
    Over = 4,
}

/// How the waiting party is woken: its coroutine (inline) or its callback (stock loop).
#[derive(Default)]
struct Parked {
    over: bool,
    coroutine: Option<Py<PyAny>>,
    waker: Option<(Py<PyAny>, Option<Py<PyAny>>)>,
}

/// The awaitable of one request.
#[pyclass(frozen, module = "aigw._native")]
pub struct Exchange {
    pub(crate) shared: Arc<Shared>,
    pub(crate) proto: Py<PyAny>,
    phase: AtomicU8,
    blocking: AtomicBool,
    parked: Mutex<Parked>,
    arrival: Mutex<Option<Box<Arrival>>>,
    pub(crate) reading: Mutex<Option<Reading>>,
    /// The bell of the upstream call, once forwarded.
    pub(crate) cancel: Arc<Cancel>,
    /// The future that resolves when the client goes away, once it is watched.
    watch: Mutex<Option<Py<PyAny>>>,
    pub(crate) since: Instant,
    /// Its place in the worker's list of exchanges in flight.
    place: AtomicU32,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not take this exchange's answer with it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    /// Begin: read the head, decide, and answer, read on, or forward.
    pub(crate) fn begin(
        py: Python<'_>,
        shared: &Arc<Shared>,
        scope: &Bound<'_, PyAny>,
        proto: &Bound<'_, PyAny>,
    ) -> PyResult<Py<Self>> {
        let mut arrival = answer::read_arrival(py, shared, scope)?;
        let judged = shared.gateway.on_head(&mut arrival);
        let length = arrival.length;
        let exchange = Py::new(
            py,
            Self {
                shared: Arc::clone(shared),
                proto: proto.clone().unbind(),
                phase: AtomicU8::new(Phase::Head as u8),
                blocking: AtomicBool::new(true),
                parked: Mutex::default(),
                since: arrival.at,
                arrival: Mutex::new(Some(Box::new(arrival))),
                reading: Mutex::default(),
                cancel: Arc::default(),
                watch: Mutex::default(),
                place: AtomicU32::new(u32::MAX),
            },
        )?;
        let this = exchange.bind(py);
        let begun = match (judged, length) {
            (Ok(passage), BodyLength::None) => Self::forward(this, *passage, Bytes::new()),
            (Ok(_), BodyLength::Known(bytes)) if bytes > shared.settings.max_body => {
                Self::turn_away(this, Reason::BodyTooLarge, length)
            }
            (Ok(passage), _) if shared.enter(this) => {
                let pieces = length == BodyLength::Chunked;
                Self::read(this, Purpose::Collect(passage), pieces, shared.settings.body_timeout)
            }
            (Ok(_), _) => Self::turn_away(this, Reason::Overloaded, length),
            (Err(answer), _) => Self::refuse(this, answer, length),
        };
        // Nobody will wait for one that did not begin: it must not be in flight for ever.
        begun.inspect_err(|_| exchange.get().leave())?;
        Ok(exchange)
    }

    /// It is over: no longer in flight.
    fn leave(&self) {
        self.set_phase(Phase::Over);
        self.shared.leave(self.place.swap(u32::MAX, Ordering::AcqRel));
    }

    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Head,
            1 => Phase::Body,
            2 => Phase::Forwarded,
            3 => Phase::Streaming,
            _ => Phase::Over,
        }
    }

    pub(crate) fn set_phase(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// The answer for a reason found outside the stages, counted and logged as this request's. `None` once the request went on.
    pub(crate) fn deny(this: &Bound<'_, Self>, reason: Reason) -> Option<Answer> {
        let own = this.get();
        locked(&own.arrival).as_deref().map(|arrival| own.shared.gateway.deny(arrival, reason))
    }

    fn turn_away(this: &Bound<'_, Self>, reason: Reason, length: BodyLength) -> PyResult<()> {
        match Self::deny(this, reason) {
            Some(answer) => Self::refuse(this, answer, length),
            None => Ok(()),
        }
    }

    /// Answer with a refusal, and read what the client still writes: one that finds its connection closed while it writes
    /// would lose the answer.
    fn refuse(this: &Bound<'_, Self>, mut answer: Answer, length: BodyLength) -> PyResult<()> {
        let own = this.get();
        match length {
            BodyLength::None => Self::answer(this, &answer),
            BodyLength::Known(bytes) if bytes <= DISCARD_BYTES && !answer.close => {
                answer::send_own(this.py(), &own.proto, &answer)?;
                let peer = locked(&own.arrival)
                    .as_deref()
                    .and_then(|arrival| arrival.peer.filter(|_| arrival.headers.get("expect").is_none()));
                if own.shared.lingering.want(this, bytes, peer, own.since + DISCARD_FOR)? {
                    return Ok(());
                }
                Self::finish(this)
            }
            BodyLength::Chunked if own.phase() == Phase::Head && own.shared.enter(this) => {
                Self::read(this, Purpose::Discard(answer), true, DISCARD_FOR)
            }
            BodyLength::Known(_) | BodyLength::Chunked => {
                answer.close = true;
                Self::answer(this, &answer)
            }
        }
    }

    /// A future of this exchange resolved: a body (piece), or the client went away.
    pub(crate) fn ready(this: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let own = this.get();
        if own.phase() != Phase::Body {
            if locked(&own.watch).as_ref().is_some_and(|watch| watch.is(future)) {
                own.shared.gateway.recorder().client_gone();
                own.cancel.cancel();
            }
            return Ok(());
        }
        Self::piece_came(this, future)
    }

    /// Take everything the request needs and send it, or refuse.
    pub(crate) fn forward(this: &Bound<'_, Self>, passage: Passage, body: Bytes) -> PyResult<()> {
        let own = this.get();
        let Some(arrival) = locked(&own.arrival).take() else { return Ok(()) };
        let gateway = &own.shared.gateway;
        let admitted = if body.len() > LARGE {
            // Reading a large body takes longer than taking the interpreter back.
            this.py().detach(|| gateway.on_body(passage, &arrival, body))
        } else {
            gateway.on_body(passage, &arrival, body)
        };
        match admitted {
            Err(answer) => Self::answer(this, &answer),
            Ok((call, admitted)) => {
                if own.phase() == Phase::Head && !own.shared.enter(this) {
                    drop(admitted);
                    let answer = own.shared.gateway.deny(&arrival, Reason::Overloaded);
                    return Self::answer(this, &answer);
                }
                own.set_phase(Phase::Forwarded);
                own.shared.submit(this, arrival, admitted, call)
            }
        }
    }

    /// Answer with something of the gateway's own, and end: also where the server would not take it.
    pub(crate) fn answer(this: &Bound<'_, Self>, answer: &Answer) -> PyResult<()> {
        let sent = answer::send_own(this.py(), &this.get().proto, answer);
        Self::finish(this).and(sent)
    }

    /// The answer is on its way: end the coroutine (inline) or wake the task (stock loop).
    pub(crate) fn finish(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        own.leave();
        // Not held while Python runs: it may let another thread in, and that one come here.
        let watch = locked(&own.watch).take();
        if let Some(watch) = watch {
            // One bell per connection wakes one waiter only: an old watch must not swallow a later request's.
            let watch = watch.bind(py);
            watch.call_method1("remove_done_callback", (this,))?;
            watch.call_method0("cancel")?;
        }
        let (coroutine, waker) = {
            let mut parked = locked(&own.parked);
            parked.over = true;
            (parked.coroutine.take(), parked.waker.take())
        };
        if let Some(coroutine) = coroutine
            && let Step::Waits(_) = step::step(coroutine.bind(py))?
        {
            own.shared.gateway.recorder().panic();
        }
        if let Some((callback, context)) = waker {
            own.wake(this, callback.bind(py), context)?;
        }
        Ok(())
    }

    fn wake(&self, this: &Bound<'_, Self>, callback: &Bound<'_, PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let py = this.py();
        let keywords = PyDict::new(py);
        keywords.set_item("context", context)?;
        self.shared.event_loop(py)?.call_method("call_soon_threadsafe", (callback, this), Some(&keywords))?;
        Ok(())
    }

    /// Keep the coroutine that waits for this exchange (inline stepping), or end it when the answer was faster.
    pub(crate) fn park(&self, coroutine: &Bound<'_, PyAny>) -> PyResult<()> {
        {
            let mut parked = locked(&self.parked);
            if !parked.over {
                parked.coroutine = Some(coroutine.clone().unbind());
                return Ok(());
            }
        }
        step::step(coroutine).map(|_| ())
    }

    pub(crate) fn set_place(&self, place: u32) {
        self.place.store(place, Ordering::Release);
    }

    /// Watch for the client going away; called once, late in an exchange that takes its time.
    pub(crate) fn watch(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if own.phase() == Phase::Over || locked(&own.watch).is_some() {
            return Ok(());
        }
        let future = own.proto.bind(py).call_method0(Names::get(py).client_disconnect.bind(py))?;
        // Until the callback is set the interpreter stays attached, so the future cannot resolve in between.
        match future.call_method1(Names::get(py).add_done_callback.bind(py), (this,)) {
            Ok(_) => *locked(&own.watch) = Some(future.unbind()),
            // A finished awaitable has no callbacks: the client is gone already.
            Err(_) => own.cancel.cancel(),
        }
        Ok(())
    }

    /// Whether it is time to watch this exchange's client.
    pub(crate) fn wants_watch(&self, now: Instant) -> bool {
        matches!(self.phase(), Phase::Forwarded | Phase::Streaming)
            && now.saturating_duration_since(self.since) > WATCH_AFTER
            && locked(&self.watch).is_none()
    }
}

#[pymethods]
impl Exchange {
    fn __await__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __iter__(this: PyRef<'_, Self>) -> PyRef<'_, Self> {
        this
    }

    fn __next__(this: PyRef<'_, Self>) -> Option<PyRef<'_, Self>> {
        if this.phase() == Phase::Over { None } else { Some(this) }
    }

    /// A future of this exchange resolved (on a stock loop, called by the loop).
    fn __call__(this: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        Self::ready(this, future)
    }

    /// asyncio's mark of a future that is being waited for.
    #[getter(_asyncio_future_blocking)]
    fn asyncio_future_blocking(&self) -> bool {
        self.blocking.load(Ordering::Relaxed)
    }

    #[setter(_asyncio_future_blocking)]
    fn set_asyncio_future_blocking(&self, value: bool) {
        self.blocking.store(value, Ordering::Relaxed);
    }

    /// The loop of the worker, as asyncio asks of its futures.
    fn get_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.shared.event_loop(py)
    }

    /// Have `callback(self)` called on the loop when the exchange is over.
    #[pyo3(signature = (callback, context=None))]
    fn add_done_callback(this: &Bound<'_, Self>, callback: Py<PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let own = this.get();
        {
            let mut parked = locked(&own.parked);
            if !parked.over {
                parked.waker = Some((callback, context));
                return Ok(());
            }
        }
        own.wake(this, callback.bind(this.py()), context)
    }

    /// Nothing to return: the answer went out through the protocol object.
    #[allow(clippy::unused_self)] // asyncio calls it as a method
    fn result(&self) {}

    /// Asked by a loop that shuts down: stop the upstream call; the answer (a refusal) still goes out.
    #[pyo3(signature = (msg=None))]
    fn cancel(&self, msg: Option<Py<PyAny>>) -> bool {
        drop(msg);
        self.cancel.cancel();
        false
    }
}
