//! Bodies of requests that were refused before the body was read. The server takes a body off its connection only while
//! somebody reads it. A client that writes first and reads later gets its answer, and the connection is kept, if the body is
//! read.
//!
//! In: an answered exchange. Out: the exchanges to finish. A small body is not asked for, and its exchange stays unfinished:
//! the server reads one piece ahead, a small body is one piece, so it leaves the connection without a task, a wake-up or a
//! second entry into Python. The next refusal of that client finishes the exchange, because the server has read a head
//! behind the body. At the next beat the bodies that are still unread, and large ones at once, are asked for and read until
//! their end or their deadline; then their connections close. A large one holds its bytes of the worker's memory meanwhile.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use aigw_core::accept::room::{Claim, Holder};
use aigw_core::request::ClientConnection;
use pyo3::PyClass;
use pyo3::prelude::*;

/// Most bytes of a small body: the server nearly always has it as one piece.
const ONE_PIECE: u64 = 8 * 1024;
/// Large bodies of one address that are read behind their answers at once. Each takes turns with all other requests: behind 150 of them these
/// waited for 30 ms.
const OWN: usize = 4;
/// Those of all addresses.
const PLACES: usize = 16;

/// The bodies of one worker.
pub(super) struct Lingering<E> {
    /// By client: answered exchanges whose body was not asked for, and its deadline.
    left: Mutex<HashMap<ClientConnection, (Py<E>, Instant)>>,
    /// Futures of bodies that are read and thrown away, oldest first, with their deadlines.
    asked: Mutex<VecDeque<Asked>>,
    /// Places that are taken, by whom.
    taken: Arc<Mutex<Vec<Holder>>>,
}

/// The place of a large body that is read behind its answer, which closes the connection.
pub(super) struct Place {
    taken: Arc<Mutex<Vec<Holder>>>,
    by: Holder,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = locked(&self.taken);
        if let Some(at) = taken.iter().position(|by| *by == self.by) {
            taken.swap_remove(at);
        }
    }
}

/// A body that is read and thrown away.
struct Asked {
    body: Py<PyAny>,
    until: Instant,
    claim: Claim,
}

/// The next step of a body.
pub(super) enum Left<E> {
    /// The body waits; the client's exchange before this one is to be finished.
    Waits(Option<Py<E>>),
    /// The body is to be read, and its exchange finished.
    ToRead,
}

impl<E> Default for Lingering<E> {
    fn default() -> Self {
        Self { left: Mutex::default(), asked: Mutex::default(), taken: Arc::default() }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: PyClass> Lingering<E> {
    /// Leaves the body of `length` bytes unread until a deadline. `client`: its client, unless that waits for `100 Continue`.
    pub(super) fn leave(
        &self,
        exchange: &Bound<'_, E>,
        length: u64,
        client: Option<ClientConnection>,
        until: Instant,
    ) -> Left<E> {
        let Some(client) = client.filter(|_| length <= ONE_PIECE) else { return Left::ToRead };
        let before = locked(&self.left).insert(client, (exchange.clone().unbind(), until));
        Left::Waits(before.map(|(before, _)| before))
    }

    /// Reads a body and throws it away. `claim`: of its memory.
    pub(super) fn read(&self, proto: &Bound<'_, PyAny>, until: Instant, claim: Claim) -> PyResult<()> {
        let body = proto.call0()?.unbind();
        locked(&self.asked).push_back(Asked { body, until, claim });
        Ok(())
    }

    /// A place; `None` when all are taken, or all of this address.
    pub(super) fn place(&self, by: Holder) -> Option<Place> {
        let mut taken = locked(&self.taken);
        if taken.len() >= PLACES || taken.iter().filter(|other| **other == by).count() >= OWN {
            return None;
        }
        taken.push(by);
        Some(Place { taken: Arc::clone(&self.taken), by })
    }

    /// Whether no body waits or is being read.
    pub(super) fn is_idle(&self) -> bool {
        locked(&self.left).is_empty() && locked(&self.asked).is_empty()
    }

    /// Takes the exchanges whose body waits: each is to be read and finished.
    pub(super) fn take_left(&self) -> Vec<(Py<E>, Instant)> {
        // The lock is released while Python runs: Python may let another thread in, and that one may come here.
        std::mem::take(&mut *locked(&self.left)).into_values().collect()
    }

    /// Drops the bodies that are whole, and ends the connections of those past their deadline. Errors go to `failed`.
    pub(super) fn sweep(&self, py: Python<'_>, now: Instant, failed: impl Fn(PyErr)) {
        let asked = std::mem::take(&mut *locked(&self.asked));
        let mut kept = VecDeque::new();
        for Asked { body, until, claim } in asked {
            let whole = body.bind(py).call_method0("done").is_ok_and(|done| done.is_truthy().unwrap_or(true));
            if whole {
                continue;
            }
            if now < until {
                kept.push_back(Asked { body, until, claim });
            } else if let Err(error) = body.bind(py).call_method0("cancel") {
                failed(error);
            }
        }
        let mut asked = locked(&self.asked);
        kept.append(&mut asked);
        *asked = kept;
    }
}
