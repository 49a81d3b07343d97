//! One request and its answer as the server sees them: the RSGI application's awaitable.
//!
//! In: `app(scope, proto)` from the server's thread. Out: exactly one answer through `proto`, from whichever thread has it,
//! with no Python frame of ours on the way. The core decides; this folder moves bytes over the boundary and keeps the order:
//! `begin`, `accepted`, `read`, `forward`, `finish`. `body` reads a body, `linger` the bodies of refused requests, `shared` has
//! the parts of the worker and `in_flight` its exchanges, `judge` judges large bodies, `deliver` passes the events of a call on, `idle` ends connections without a request. `waiter` is woken at the
//! end: a coroutine that is stepped inline or, on a stock loop, an asyncio callback. An exchange that is dropped unanswered
//! gives its permit back, and the server answers 500.

mod body;
pub(crate) mod deliver;
pub(crate) mod idle;
mod in_flight;
pub(crate) mod judge;
mod linger;
mod shared;
mod waiter;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aigw_core::accept::room::{Claim, Holder};
use aigw_core::refusal::Reason;
use aigw_core::request::{Answer, BodyLength, Head, Header};
use aigw_core::surface::{Accepted, Question};
use aigw_io::upstream::Cancel;
use aigw_io::worker::{BodyResult, HeadResult};
use bytes::Bytes;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::coroutine::{Step, step};
use crate::protocol::{self, Names};
use body::{BodyReader, Progress, Purpose, Within, ask};
use linger::Left;
use shared::LARGE;
pub(crate) use shared::{CallInFlight, Judge, Settings, Shared};
use waiter::Waiter;

/// Behind a larger body of a refused request the connection is closed.
const DISCARD_BYTES: u64 = 1024 * 1024;
/// A body of a refused request whose connection is kept is read for this long.
const DISCARD_FOR: Duration = Duration::from_secs(1);
/// The times of a body behind an answer that closes its connection. nginx has 5 s and 30 s (`lingering_timeout`, `lingering_time`).
const LINGER: Within = Within { silence: Duration::from_secs(1), total: Duration::from_secs(10) };
/// Of such a body at most so much is read: a few milliseconds of a processor. nginx has no bound.
const LINGER_BYTES: u64 = 32 * 1024 * 1024;
/// A client whose answer is this late is watched for leaving.
const WATCH_AFTER: Duration = Duration::from_millis(100);

/// The port that a request came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    /// That of the plain address.
    Public,
    /// The one behind the TLS address, to which its listener carries requests.
    Private,
}

/// The phase of an exchange; only ever moves forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
#[repr(u8)]
enum Phase {
    Head = 0,
    Body = 1,
    Forwarded = 2,
    Over = 3,
}

/// The awaitable of one request.
#[pyclass(frozen, module = "aigw._native")]
pub struct Exchange {
    shared: Arc<Shared<Self>>,
    proto: Py<PyAny>,
    head: Arc<Head>,
    phase: AtomicU8,
    blocking: AtomicBool,
    waiter: Waiter,
    body: Mutex<Option<BodyReader>>,
    /// The bell that stops the call, once forwarded.
    cancel: Arc<Cancel>,
    /// The future that resolves when the client leaves, once it is watched.
    watch: Mutex<Option<Py<PyAny>>>,
    /// Its index among the exchanges in flight; `u32::MAX`: it is not in flight.
    index: AtomicU32,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic elsewhere must not block this exchange's answer.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Exchange {
    /// Begins: the head is read and judged; then the request is answered, its body read, or forwarded.
    pub(crate) fn begin(
        py: Python<'_>,
        shared: &Arc<Shared<Self>>,
        scope: &Bound<'_, PyAny>,
        proto: &Bound<'_, PyAny>,
        port: Port,
    ) -> PyResult<Py<Self>> {
        let mut head = protocol::read_head(py, scope, shared.worker.request_id(), port == Port::Private)?;
        let judged = if port == Port::Public || Self::find_client(shared, &mut head) {
            shared.worker.on_head(&mut head)
        } else {
            HeadResult::Answered(shared.worker.deny(&head, Reason::PrivatePort))
        };
        let exchange = Py::new(
            py,
            Self {
                shared: Arc::clone(shared),
                proto: proto.clone().unbind(),
                head: Arc::new(head),
                phase: AtomicU8::new(Phase::Head as u8),
                blocking: AtomicBool::new(true),
                waiter: Waiter::default(),
                body: Mutex::default(),
                cancel: Arc::default(),
                watch: Mutex::default(),
                index: AtomicU32::new(u32::MAX),
            },
        )?;
        let this = exchange.bind(py);
        let begun = match judged {
            HeadResult::Accepted(accepted) => Self::accepted(this, accepted),
            HeadResult::Answered(answer) => Self::refuse(this, answer),
        };
        // An exchange that did not begin has no waiter: it must leave the list of those in flight.
        begun.inspect_err(|_| exchange.get().leave())?;
        Ok(exchange)
    }

    /// Puts the client in the place of the TLS address's own connection; false when another process made the connection.
    fn find_client(shared: &Shared<Self>, head: &mut Head) -> bool {
        let client = head.peer.and_then(|own| shared.carried.client(own));
        head.peer = client.or(head.peer);
        client.is_some()
    }

    /// The head is accepted: reads the body, if there is one.
    fn accepted(this: &Bound<'_, Self>, accepted: Box<Accepted>) -> PyResult<()> {
        let own = this.get();
        let settings = &own.shared.settings;
        match own.head.length {
            BodyLength::None => Self::forward(this, accepted, Bytes::new()),
            BodyLength::Known(bytes) if bytes > settings.max_body => {
                Self::turn_away(this, Reason::BodyTooLarge, &accepted)
            }
            length => {
                let declared = if let BodyLength::Known(bytes) = length { bytes } else { 0 };
                let claim = match own.shared.worker.room().claim(accepted.holder(&own.head), declared) {
                    Ok(claim) => claim,
                    Err(reason) => return Self::turn_away(this, reason, &accepted),
                };
                if !Self::enter(this) {
                    return Self::turn_away(this, Reason::Overloaded, &accepted);
                }
                let within = Within { silence: settings.body_silence, total: settings.body_total };
                Self::read(this, Purpose::Forward(accepted), settings.max_body, within, claim)
            }
        }
    }

    fn turn_away(this: &Bound<'_, Self>, reason: Reason, accepted: &Accepted) -> PyResult<()> {
        let own = this.get();
        Self::refuse(this, own.shared.worker.refuse(&own.head, accepted.rejected(reason)))
    }

    /// Answers before the body was read, and reads the rest: a client that finds its connection closed while it writes would
    /// lose the answer.
    fn refuse(this: &Bound<'_, Self>, mut answer: Answer) -> PyResult<()> {
        let own = this.get();
        match own.head.length {
            BodyLength::None => Self::answer(this, &answer),
            BodyLength::Known(bytes)
                if bytes <= DISCARD_BYTES
                    && !answer.close
                    && let Ok(claim) = own.shared.worker.room().claim(own.address(), bytes) =>
            {
                protocol::send_own(this.py(), &own.proto, &answer, own.keep_alive())?;
                let client = own.head.connection().filter(|_| !own.head.expects_continue());
                let until = own.head.arrived + DISCARD_FOR;
                let before = own.shared.lingering.leave(this, bytes, client, until);
                match before {
                    Left::Waits(None) => Ok(()),
                    Left::Waits(Some(before)) => Self::finish(before.bind(this.py())),
                    Left::ToRead => {
                        own.shared.lingering.read(own.proto.bind(this.py()), until, claim)?;
                        Self::finish(this)
                    }
                }
            }
            BodyLength::Chunked if !own.head.expects_continue() && own.phase() == Phase::Head && Self::enter(this) => {
                let within = Within { silence: DISCARD_FOR, total: DISCARD_FOR };
                Self::read(this, Purpose::Discard(answer), DISCARD_BYTES, within, own.no_claim())
            }
            BodyLength::Known(_)
                if !own.head.expects_continue()
                    && own.phase() == Phase::Head
                    && let Some(place) = own.shared.place(own.address())
                    && Self::enter(this) =>
            {
                answer.close = true;
                protocol::send_own(this.py(), &own.proto, &answer, own.keep_alive())?;
                Self::read(this, Purpose::Linger { _place: place }, LINGER_BYTES, LINGER, own.no_claim())
            }
            BodyLength::Known(_) | BodyLength::Chunked => {
                answer.close = true;
                Self::answer(this, &answer)
            }
        }
    }

    /// Begins to read the body.
    fn read(this: &Bound<'_, Self>, purpose: Purpose, most: u64, within: Within, claim: Claim) -> PyResult<()> {
        let own = this.get();
        own.set_phase(Phase::Body);
        let reader = BodyReader::new(own.proto.bind(this.py()), purpose, own.head.length, most, within, claim)?;
        *locked(&own.body) = Some(reader);
        Self::next_piece(this)
    }

    /// Asks for the (next piece of the) body; it arrives at [`Exchange::piece_came`].
    fn next_piece(this: &Bound<'_, Self>) -> PyResult<()> {
        let own = this.get();
        let pieces = locked(&own.body).as_ref().is_some_and(BodyReader::comes_in_pieces);
        let Some(future) = ask(own.proto.bind(this.py()), pieces)? else { return Self::body_complete(this) };
        let Some(expected) = locked(&own.body).as_mut().map(|body| body.asked(&future)) else { return Ok(()) };
        if !expected {
            return Self::body_failed(this, Reason::BodyCut);
        }
        future.call_method1(Names::get(this.py()).add_done_callback.bind(this.py()), (this,))?;
        Ok(())
    }

    /// A future of this exchange resolved: a piece of the body, or the client went away.
    pub(crate) fn ready(this: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let own = this.get();
        if own.phase() != Phase::Body {
            if locked(&own.watch).as_ref().is_some_and(|watch| watch.is(future)) {
                own.shared.worker.recorder().client_gone();
                own.cancel.cancel();
            }
            return Ok(());
        }
        Self::piece_came(this, future)
    }

    /// The awaited piece is here, or its future failed.
    fn piece_came(this: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let Ok(piece) = future.call_method0(Names::get(this.py()).result.bind(this.py())) else {
            return Self::body_failed(this, Reason::BodyCut);
        };
        let piece = piece.cast::<PyBytes>()?.as_bytes();
        let own = this.get();
        let Some(progress) = locked(&own.body).as_mut().map(|body| body.take(piece, &own.shared.turns)) else {
            return Ok(());
        };
        match progress {
            Progress::Refused(reason) => Self::body_refused(this, reason),
            Progress::Whole => Self::body_complete(this),
            Progress::More => Self::next_piece(this),
            Progress::Later => Ok(()),
        }
    }

    fn body_complete(this: &Bound<'_, Self>) -> PyResult<()> {
        let Some(reader) = locked(&this.get().body).take() else { return Ok(()) };
        match reader.into_parts() {
            (Purpose::Forward(accepted), body, _) => Self::forward(this, accepted, body),
            (Purpose::Discard(answer), ..) => Self::answer(this, &answer),
            (Purpose::Linger { .. }, ..) => Self::finish(this),
        }
    }

    /// The body is refused while it comes: the answer goes out, and the rest of the body is read behind it, where it is cheap.
    fn body_refused(this: &Bound<'_, Self>, reason: Reason) -> PyResult<()> {
        let own = this.get();
        let reads_on = |body: &BodyReader| match reason {
            Reason::BodyTooLarge | Reason::BodyMemory | Reason::Overloaded => true,
            Reason::BodyTimeout => body.is_discarded(),
            _ => false,
        };
        let linger = |body: &mut BodyReader| {
            reads_on(body)
                .then(|| own.shared.place(own.address()))
                .flatten()
                .map(|place| body.linger(place, LINGER_BYTES, LINGER))
        };
        let before = locked(&own.body).as_mut().and_then(linger);
        let mut answer = match before {
            Some(Purpose::Forward(accepted)) => own.shared.worker.refuse(&own.head, accepted.rejected(reason)),
            Some(Purpose::Discard(answer)) => answer,
            Some(Purpose::Linger { .. }) | None => return Self::body_failed(this, reason),
        };
        answer.close = true;
        if let Err(error) = protocol::send_own(this.py(), &own.proto, &answer, own.keep_alive()) {
            return Self::body_failed(this, reason).and(Err(error));
        }
        let is_unasked = locked(&own.body).as_ref().is_some_and(BodyReader::is_unasked);
        if is_unasked { Self::next_piece(this) } else { Ok(()) }
    }

    /// The body is cut, or nobody reads on: answers, unless that is done, and closes.
    fn body_failed(this: &Bound<'_, Self>, reason: Reason) -> PyResult<()> {
        let own = this.get();
        let Some(reader) = locked(&own.body).take() else { return Ok(()) };
        let (purpose, _, future) = reader.into_parts();
        let answer = match purpose {
            Purpose::Discard(answer) => Some(answer),
            Purpose::Linger { .. } => None,
            Purpose::Forward(accepted) => Some(own.shared.worker.refuse(&own.head, accepted.rejected(reason))),
        };
        let answered = match answer {
            Some(answer) => Self::answer(this, &Answer { close: true, ..answer }),
            None => Self::finish(this),
        };
        if let Some(future) = future {
            // The connection of a client that never finishes its body ends when the body is dropped.
            let future = future.bind(this.py());
            future.call_method1("remove_done_callback", (this,))?;
            future.call_method0("cancel")?;
        }
        answered
    }

    /// Whether the next piece of the body is to be asked for at this beat.
    fn body_waits(&self) -> bool {
        self.phase() == Phase::Body && locked(&self.body).as_ref().is_some_and(BodyReader::waits)
    }

    /// The caller that bytes are held for before anybody knows who it is.
    fn address(&self) -> Holder {
        Holder::Address(self.head.peer.map(|peer| peer.ip().to_canonical()))
    }

    /// The claim of a body of which no bytes are held.
    fn no_claim(&self) -> Claim {
        self.shared.worker.room().nothing(self.address())
    }

    /// Whether it is time to look at the body.
    fn body_due(&self, now: Instant) -> bool {
        self.phase() == Phase::Body && locked(&self.body).as_ref().is_some_and(|body| body.is_due(now))
    }

    /// Whether the time of the body is up.
    fn body_overdue(&self, now: Instant) -> bool {
        let overdue = |body: &mut BodyReader| body.is_overdue(now, self.head.connection());
        self.phase() == Phase::Body && locked(&self.body).as_mut().is_some_and(overdue)
    }

    /// The header by which an answer tells how long its connection is kept; `None` when it is not.
    fn keep_alive(&self) -> Option<&Header> {
        (!self.head.closes).then_some(&self.shared.settings.keep_alive)
    }

    /// The body is whole: it is judged, here or on the thread of large ones.
    fn forward(this: &Bound<'_, Self>, accepted: Box<Accepted>, body: Bytes) -> PyResult<()> {
        let own = this.get();
        let (accepted, body) = match own.shared.judge.get().filter(|_| body.len() > LARGE) {
            None => (accepted, body),
            Some(judge) => match judge.hand_over(this.clone().unbind(), accepted, body) {
                Ok(()) => return Ok(()),
                Err(parts) => parts,
            },
        };
        let judged = own.shared.worker.on_body(*accepted, &own.head, body);
        Self::judged(this, judged)
    }

    /// The body is judged: the request goes to the upstream thread, or is answered.
    fn judged(this: &Bound<'_, Self>, judged: BodyResult) -> PyResult<()> {
        let own = this.get();
        let worker = &own.shared.worker;
        let admitted = match judged {
            BodyResult::Admitted(admitted) => admitted,
            BodyResult::Answered(answer) => return Self::answer(this, &answer),
            BodyResult::Asks(question) => return Self::ask(this, question),
        };
        if own.phase() == Phase::Head && !Self::enter(this) {
            return Self::answer(this, &worker.turn_away(*admitted, Reason::Overloaded));
        }
        own.set_phase(Phase::Forwarded);
        let waiter = CallInFlight { exchange: this.clone().unbind(), transport: RefCell::default() };
        match own.shared.upstream.submit(admitted, Arc::clone(&own.cancel), waiter) {
            Ok(()) => Ok(()),
            Err(admitted) => Self::answer(this, &worker.turn_away(*admitted, Reason::Internal)),
        }
    }

    /// Asks the control process on the upstream thread; its reply is the answer.
    fn ask(this: &Bound<'_, Self>, question: Question) -> PyResult<()> {
        let own = this.get();
        if own.phase() == Phase::Head && !Self::enter(this) {
            return Self::answer(this, &own.shared.worker.refuse(&own.head, question.rejected(Reason::Overloaded)));
        }
        own.set_phase(Phase::Forwarded);
        let waiter = CallInFlight { exchange: this.clone().unbind(), transport: RefCell::default() };
        let (worker, head, cancel) = (Arc::clone(&own.shared.worker), Arc::clone(&own.head), Arc::clone(&own.cancel));
        let unasked = question.rejected(Reason::Internal);
        let answer = async move { worker.ask(question, &head, &cancel).await };
        if own.shared.upstream.answer(Box::pin(answer), waiter) {
            return Ok(());
        }
        Self::answer(this, &own.shared.worker.refuse(&own.head, unasked))
    }

    /// Answers with an answer of the gateway's own and ends the exchange, even when the server refuses the answer.
    fn answer(this: &Bound<'_, Self>, answer: &Answer) -> PyResult<()> {
        let own = this.get();
        let sent = protocol::send_own(this.py(), &own.proto, answer, own.keep_alive());
        Self::finish(this).and(sent)
    }

    /// The answer is on its way: ends the coroutine (inline) or wakes the task (stock loop).
    fn finish(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        own.leave();
        // The lock is released while Python runs: Python may let another thread in, and that one may come here.
        let watch = locked(&own.watch).take();
        if let Some(watch) = watch {
            // One bell per connection wakes only one waiter: an old watch must not swallow a later request's.
            let watch = watch.bind(py);
            watch.call_method1("remove_done_callback", (this,))?;
            watch.call_method0("cancel")?;
        }
        let (coroutine, callback) = own.waiter.end();
        if let Some(coroutine) = coroutine
            && let Step::Waits(_) = step(coroutine.bind(py))?
        {
            own.shared.worker.recorder().panic();
        }
        if let Some((callback, context)) = callback {
            own.wake(this, callback.bind(py), context)?;
        }
        Ok(())
    }

    /// Counts the exchange among those in flight; false when the worker is full.
    fn enter(this: &Bound<'_, Self>) -> bool {
        let own = this.get();
        let Some(index) = own.shared.enter(this) else { return false };
        own.index.store(index, Ordering::Release);
        true
    }

    /// The exchange is over: it is not in flight any more.
    fn leave(&self) {
        self.set_phase(Phase::Over);
        let index = self.index.swap(u32::MAX, Ordering::AcqRel);
        if index != u32::MAX {
            self.shared.leave(index);
        }
    }

    fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Head,
            1 => Phase::Body,
            2 => Phase::Forwarded,
            _ => Phase::Over,
        }
    }

    fn set_phase(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    fn wake(&self, this: &Bound<'_, Self>, callback: &Bound<'_, PyAny>, context: Option<Py<PyAny>>) -> PyResult<()> {
        let py = this.py();
        let keywords = PyDict::new(py);
        keywords.set_item("context", context)?;
        self.shared.event_loop(py)?.call_method("call_soon_threadsafe", (callback, this), Some(&keywords))?;
        Ok(())
    }

    /// Keeps the coroutine that waits for this exchange (inline stepping), or ends it when the answer was faster.
    pub(crate) fn park(&self, coroutine: &Bound<'_, PyAny>) -> PyResult<()> {
        if self.waiter.park(coroutine) { Ok(()) } else { step(coroutine).map(|_| ()) }
    }

    /// Watches for the client to leave; called once, late in a slow exchange.
    fn watch(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        if own.phase() == Phase::Over || locked(&own.watch).is_some() {
            return Ok(());
        }
        let future = own.proto.bind(py).call_method0(Names::get(py).client_disconnect.bind(py))?;
        // Until the callback is set the interpreter stays attached, so the future cannot resolve in between.
        match future.call_method1(Names::get(py).add_done_callback.bind(py), (this,)) {
            Ok(_) => *locked(&own.watch) = Some(future.unbind()),
            // A finished awaitable has no callbacks: the client has left already.
            Err(_) => own.cancel.cancel(),
        }
        Ok(())
    }

    /// Whether it is time to watch this exchange's client.
    fn wants_watch(&self, now: Instant) -> bool {
        self.phase() == Phase::Forwarded
            && now.saturating_duration_since(self.head.arrived) > WATCH_AFTER
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
        match own.waiter.add_callback(callback, context) {
            None => Ok(()),
            Some((callback, context)) => own.wake(this, callback.bind(this.py()), context),
        }
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
