//! Judges large bodies on a thread of its own: to read the words of ten megabytes of JSON takes a second, and the server's thread
//! has the heads and bodies of all other requests to take.
//!
//! In: an exchange whose large body is whole. Out: its admission, or its answer. One thread: large bodies wait for each other,
//! and for nothing else. A panic costs the one request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};

use aigw_core::refusal::Reason;
use aigw_core::surface::Accepted;
use aigw_io::worker::BodyResult;
use bytes::Bytes;
use pyo3::prelude::*;

use super::{Exchange, Shared};

/// Smaller bodies are judged where they come: it takes no longer than to hand them over.
pub(super) const LARGE: usize = 64 * 1024;

/// A body to judge.
pub(crate) struct Job<E> {
    exchange: Py<E>,
    accepted: Box<Accepted>,
    body: Bytes,
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

/// Judges bodies for ever.
pub(crate) fn run(shared: &Shared<Exchange>, jobs: &Receiver<Job<Exchange>>) {
    for Job { exchange, accepted, body } in jobs {
        let (worker, head) = (&shared.worker, &exchange.get().head);
        let judged = catch_unwind(AssertUnwindSafe(|| worker.on_body(*accepted, head, body)));
        let judged = judged.unwrap_or_else(|_| {
            worker.recorder().panic();
            BodyResult::Answered(worker.deny(head, Reason::Internal, None))
        });
        Python::attach(|py| {
            let exchange = exchange.into_bound(py);
            let passed = catch_unwind(AssertUnwindSafe(|| Exchange::judged(&exchange, judged)));
            if let Err(fault) = passed.map_err(|_| None).and_then(|passed| passed.map_err(Some)) {
                shared.worker.recorder().panic();
                if let Some(error) = fault {
                    error.print(py);
                }
            }
        });
    }
}
