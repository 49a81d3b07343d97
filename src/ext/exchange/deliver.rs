//! Passes the events of the upstream thread to the server, and looks after the exchanges in flight at every beat.
//!
//! In: batches of events of settled calls. Out: calls of the server's protocol objects, under one attachment to the
//! interpreter. The beat finds overdue bodies and clients to watch, and cuts calls at a shutdown. A panic or an error of one
//! exchange is counted; the others go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::PoisonError;
use std::time::Instant;

use aigw_core::refusal::Reason;
use aigw_io::upstream::{Batch, CallObserver as _, Event};
use pyo3::prelude::*;

use super::{CallInFlight, Exchange, Phase, Shared};
use crate::{memory, protocol};

/// Delivers a batch of events.
pub(crate) fn deliver(shared: &Shared<Exchange>, batch: Batch<CallInFlight<Exchange>>) {
    // Counted before the answers go out: a client that has its answer finds it in the metrics.
    count_upstream(shared);
    Python::attach(|py| {
        for (waiter, event) in batch {
            deliver_one(py, shared, &waiter, event);
        }
    });
}

fn deliver_one(py: Python<'_>, shared: &Shared<Exchange>, waiter: &Rc<CallInFlight<Exchange>>, event: Event) {
    let last = event.is_last();
    let outcome = catch_unwind(AssertUnwindSafe(|| waiter.on_event(py, event)));
    let Err(fault) = outcome.map_err(|_| None).and_then(|passed| passed.map_err(Some)) else { return };
    shared.worker.recorder().panic();
    if let Some(error) = fault {
        error.print(py);
    }
    let exchange = waiter.exchange.bind(py);
    if !last {
        exchange.get().cancel.cancel();
    } else if let Err(error) = Exchange::finish(exchange) {
        error.print(py);
    }
}

impl CallInFlight<Exchange> {
    /// Passes one event on.
    fn on_event(&self, py: Python<'_>, event: Event) -> PyResult<()> {
        let exchange = self.exchange.bind(py);
        let own = exchange.get();
        if own.phase() == Phase::Over {
            return Ok(());
        }
        match event {
            Event::Whole(head, body) => {
                protocol::send_whole(py, &own.proto, &head, &body, own.keep_alive())?;
                Exchange::finish(exchange)
            }
            Event::Head(head) => {
                *self.transport.borrow_mut() = Some(protocol::send_head(py, &own.proto, &head, own.keep_alive())?);
                Ok(())
            }
            Event::Chunk(data) => {
                if let Some(transport) = &*self.transport.borrow()
                    && !protocol::send_piece(py, transport, &data)?
                {
                    own.shared.worker.recorder().client_gone();
                    own.cancel.cancel();
                }
                Ok(())
            }
            Event::End => {
                *self.transport.borrow_mut() = None;
                Exchange::finish(exchange)
            }
            Event::Cut(client, unread) => {
                // A clean end would pass a torn answer off as a whole one.
                let _ = client.is_some_and(|client| own.shared.cut(client, unread));
                *self.transport.borrow_mut() = None;
                Exchange::finish(exchange)
            }
            Event::Answer(answer) => Exchange::answer(exchange, &answer),
        }
    }
}

fn count_upstream(shared: &Shared<Exchange>) {
    shared.upstream.counters().take(|counter, n| shared.worker.recorder().count(counter, n));
}

/// Looks at everything in flight.
pub(crate) fn beat(shared: &Shared<Exchange>) {
    let now = Instant::now();
    shared.worker.beat();
    shared.turns.begin_anew();
    if shared.freed.lock().unwrap_or_else(PoisonError::into_inner).is_due(shared.worker.room(), now) {
        memory::give_back_own();
    }
    count_upstream(shared);
    if !shared.lingering.is_idle() {
        Python::attach(|py| sweep_bodies(py, shared, now));
    }
    let cutting = shared.worker.shutdown().cutting;
    let due = |exchange: &Exchange| cutting || exchange.body_due(now) || exchange.wants_watch(now);
    if shared.in_flight.any(|exchange| due(exchange.get())) {
        Python::attach(|py| {
            for exchange in shared.in_flight.all(py) {
                count_fault(py, shared, look_at(exchange.bind(py), cutting, now));
            }
        });
    }
}

fn look_at(exchange: &Bound<'_, Exchange>, cutting: bool, now: Instant) -> PyResult<()> {
    let own = exchange.get();
    if own.body_overdue(now) {
        Exchange::body_refused(exchange, Reason::BodyTimeout)
    } else if own.body_waits() && !cutting {
        Exchange::next_piece(exchange)
    } else if cutting && own.phase() == Phase::Body {
        Exchange::body_failed(exchange, Reason::Draining)
    } else if cutting {
        own.cancel.cancel();
        Ok(())
    } else if own.wants_watch(now) {
        Exchange::watch(exchange)
    } else {
        Ok(())
    }
}

/// Asks for the unread bodies of refused requests, and finishes those that are read.
fn sweep_bodies(py: Python<'_>, shared: &Shared<Exchange>, now: Instant) {
    for (exchange, until) in shared.lingering.take_left() {
        let exchange = exchange.bind(py);
        let own = exchange.get();
        // A body of one piece is small, and its connection's own buffer has it already.
        let claim = own.no_claim();
        let asked = shared.lingering.read(own.proto.bind(py), until, claim);
        count_fault(py, shared, asked.and_then(|()| Exchange::finish(exchange)));
    }
    shared.lingering.sweep(py, now, |error| count_fault(py, shared, Err(error)));
}

fn count_fault(py: Python<'_>, shared: &Shared<Exchange>, outcome: PyResult<()>) {
    if let Err(error) = outcome {
        shared.worker.recorder().panic();
        error.print(py);
    }
}
