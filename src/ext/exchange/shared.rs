//! The parts of a worker that all its exchanges share, and an exchange whose call the upstream thread has.
//!
//! `E` is the exchange: these values keep it alive and know nothing else of it.

use std::cell::RefCell;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use aigw_core::accept::room::Holder;
use aigw_core::accept::turns::Turns;
use aigw_core::request::{ClientConnection, Header, Listens};
use aigw_core::surface::Accepted;
use aigw_io::socket::{self, Unread};
use aigw_io::tls_listener::Carried;
use aigw_io::upstream::Upstream;
use aigw_io::worker::Worker;
use bytes::Bytes;
use pyo3::PyClass;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use super::in_flight::InFlight;
use super::linger::{Lingering, Place};
use crate::memory::Freed;

/// Settings of a worker that its exchanges need.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) max_body: u64,
    /// The longest silence within a body.
    pub(crate) body_silence: Duration,
    /// The time for a whole body.
    pub(crate) body_total: Duration,
    /// `Keep-Alive` of answers that leave their connection open.
    pub(crate) keep_alive: Header,
    pub(crate) max_in_flight: usize,
}

/// Smaller bodies are judged where they come: it takes no longer than to hand them over.
pub(super) const LARGE: usize = 64 * 1024;

/// A body to judge.
pub(crate) struct Job<E> {
    pub(super) exchange: Py<E>,
    pub(super) accepted: Box<Accepted>,
    pub(super) body: Bytes,
}

/// The way to the thread that judges.
pub(crate) struct Judge<E>(Sender<Job<E>>);

impl<E> Judge<E> {
    /// The way, and the jobs that come over it.
    pub(crate) fn new() -> (Self, Receiver<Job<E>>) {
        let (sender, jobs) = channel();
        (Self(sender), jobs)
    }

    /// Hands a body over; gives its parts back when the thread is gone.
    pub(super) fn hand_over(
        &self,
        exchange: Py<E>,
        accepted: Box<Accepted>,
        body: Bytes,
    ) -> Result<(), (Box<Accepted>, Bytes)> {
        self.0.send(Job { exchange, accepted, body }).map_err(|unsent| (unsent.0.accepted, unsent.0.body))
    }
}

/// The parts of a worker that all its exchanges share.
pub(crate) struct Shared<E> {
    pub(crate) worker: Arc<Worker>,
    pub(crate) settings: Settings,
    pub(crate) upstream: Upstream<Worker, CallInFlight<E>>,
    pub(crate) event_loop: OnceLock<Py<PyAny>>,
    pub(crate) judge: OnceLock<Judge<E>>,
    pub(crate) in_flight: InFlight<E>,
    /// The clients of the TLS address.
    pub(crate) carried: Arc<Carried>,
    pub(super) lingering: Lingering<E>,
    pub(super) turns: Turns,
    /// The upstream thread's part of the memory that was freed.
    pub(super) freed: Mutex<Freed>,
}

/// An exchange whose call the upstream thread has.
pub(crate) struct CallInFlight<E> {
    pub(super) exchange: Py<E>,
    /// The server's transport, once the head of an answer was passed on.
    pub(super) transport: RefCell<Option<Py<PyAny>>>,
}

impl<E: PyClass> Shared<E> {
    pub(crate) fn new(worker: Worker, settings: Settings, upstream: Upstream<Worker, CallInFlight<E>>) -> Self {
        let (worker, in_flight) = (Arc::new(worker), InFlight::new(settings.max_in_flight));
        let (event_loop, judge) = (OnceLock::new(), OnceLock::new());
        let (lingering, freed, carried) = (Lingering::default(), Mutex::new(Freed::new()), Arc::default());
        let turns = Turns::default();
        Self { worker, settings, upstream, event_loop, judge, in_flight, carried, lingering, turns, freed }
    }

    /// Counts an exchange among those in flight and returns its index; `None` when the worker is full.
    pub(super) fn enter(&self, exchange: &Bound<'_, E>) -> Option<u32> {
        let index = self.in_flight.enter(exchange)?;
        self.worker.in_flight().fetch_add(1, Ordering::Relaxed);
        Some(index)
    }

    /// A place for an exchange that stays in flight only to read a refused body: requests come first, and have half of all exchanges.
    pub(super) fn place(&self, by: Holder) -> Option<Place> {
        if self.in_flight.count() < self.settings.max_in_flight / 2 { self.lingering.place(by) } else { None }
    }

    /// The exchange at an index is over.
    pub(super) fn leave(&self, index: u32) {
        self.worker.in_flight().fetch_sub(1, Ordering::Relaxed);
        self.in_flight.leave(index);
    }

    /// Cuts a client's connection, behind the bytes that its socket has, or, of a client that takes nothing, without them. Those of the TLS address have some on the way to it: the
    /// connection that carries them ends first. True if it was found.
    pub(super) fn cut(&self, client: ClientConnection, unread: Unread) -> bool {
        match client.at {
            Listens::Tls => {
                let own = self.carried.tear(client.peer);
                if unread == Unread::Dropped {
                    // No byte on its way is waited for.
                    let _ = socket::cut(client, unread);
                }
                own.is_some_and(|own| socket::cut(ClientConnection::new(own, Listens::Private), unread))
            }
            Listens::Plain | Listens::Private => socket::cut(client, unread),
        }
    }

    /// The worker's event loop.
    pub(super) fn event_loop<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.event_loop
            .get()
            .map(|event_loop| event_loop.bind(py).clone())
            .ok_or_else(|| PyRuntimeError::new_err("the gateway was not started: call start(loop) first"))
    }
}
