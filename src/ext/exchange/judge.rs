//! Judges large bodies on a thread of its own: to read the words of ten megabytes of JSON takes a second, and the server's thread
//! has the heads and bodies of all other requests to take.
//!
//! In: an exchange whose large body is whole. Out: its admission, or its answer. One thread: large bodies wait for each other,
//! and for nothing else. A panic costs the one request.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Receiver;

use aigw_core::refusal::Reason;
use aigw_io::worker::BodyResult;
use pyo3::prelude::*;

use super::shared::Job;
use super::{Exchange, Shared};

/// Judges bodies for ever.
pub(crate) fn run(shared: &Shared<Exchange>, jobs: &Receiver<Job<Exchange>>) {
    for Job { exchange, accepted, body } in jobs {
        let (worker, head) = (&shared.worker, &exchange.get().head);
        let faulty = accepted.rejected(Reason::Internal);
        let judged = catch_unwind(AssertUnwindSafe(|| worker.on_body(*accepted, head, body)));
        let judged = judged.unwrap_or_else(|_| {
            worker.recorder().panic();
            BodyResult::Answered(worker.refuse(head, faulty))
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
