//! Bodies of requests that were refused before they were read. The server takes a body off its connection while somebody wants
//! it, so that a client that writes first and reads later still gets its answer, and the connection is kept.
//!
//! In: an answered exchange. Out: the exchanges that are to be finished. A small body is left where it is and its exchange
//! unfinished: the server reads one piece ahead of its reader, a small body comes as one piece, and so it is taken off
//! without a task, a wake-up or a second way into Python. The next refusal of that client finishes the exchange: the server
//! has read a head behind the body. A body that is left at the next beat, and a large one, is asked for and read until its
//! end or its time; then its connection ends.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pyo3::PyClass;
use pyo3::prelude::*;

/// A body that the server has as one piece, nearly always.
const ONE_PIECE: u64 = 8 * 1024;

/// The bodies of one worker.
pub(super) struct Lingering<E> {
    /// By client: answered exchanges whose body nobody asked for, and until when it may come.
    left: Mutex<HashMap<SocketAddr, (Py<E>, Instant)>>,
    /// Futures of bodies that are being read and thrown away, oldest first, with their deadlines.
    asked: Mutex<VecDeque<(Py<PyAny>, Instant)>>,
}

/// The fate of a body.
pub(super) enum Left<E> {
    /// It is left where it is; the client's exchange before this one is to be finished.
    Waits(Option<Py<E>>),
    /// It is to be read, and its exchange finished.
    ToRead,
}

impl<E> Default for Lingering<E> {
    fn default() -> Self {
        Self { left: Mutex::default(), asked: Mutex::default() }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<E: PyClass> Lingering<E> {
    /// Leaves the body of `length` bytes until then. `peer`: its client, unless that one waits to be told to send it.
    pub(super) fn leave(
        &self,
        exchange: &Bound<'_, E>,
        length: u64,
        peer: Option<SocketAddr>,
        until: Instant,
    ) -> Left<E> {
        let Some(peer) = peer.filter(|_| length <= ONE_PIECE) else { return Left::ToRead };
        let before = locked(&self.left).insert(peer, (exchange.clone().unbind(), until));
        Left::Waits(before.map(|(before, _)| before))
    }

    /// Has a body read and thrown away.
    pub(super) fn read(&self, proto: &Bound<'_, PyAny>, until: Instant) -> PyResult<()> {
        let body = proto.call0()?;
        locked(&self.asked).push_back((body.unbind(), until));
        Ok(())
    }

    /// Nothing is left and nothing is being read.
    pub(super) fn is_idle(&self) -> bool {
        locked(&self.left).is_empty() && locked(&self.asked).is_empty()
    }

    /// Takes the exchanges whose body was left: each is to be read and finished.
    pub(super) fn take_left(&self) -> Vec<(Py<E>, Instant)> {
        // No lock is held while Python runs: it may let another thread in, and that one come here.
        std::mem::take(&mut *locked(&self.left)).into_values().collect()
    }

    /// Lets go of the bodies that are whole, and ends the connections of those whose time is up. Errors go to `failed`.
    pub(super) fn sweep(&self, py: Python<'_>, now: Instant, failed: impl Fn(PyErr)) {
        let asked = std::mem::take(&mut *locked(&self.asked));
        let mut kept = VecDeque::new();
        for (body, until) in asked {
            let whole = body.bind(py).call_method0("done").is_ok_and(|done| done.is_truthy().unwrap_or(true));
            if whole {
                continue;
            }
            if now < until {
                kept.push_back((body, until));
            } else if let Err(error) = body.bind(py).call_method0("cancel") {
                failed(error);
            }
        }
        let mut asked = locked(&self.asked);
        kept.append(&mut asked);
        *asked = kept;
    }
}
