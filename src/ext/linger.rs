//! Bodies of requests that were refused before they were read. The server takes one off its connection while somebody wants
//! it, so that a client that writes first and reads later still gets its answer, and the connection is kept.
//!
//! In: an answered exchange. Nothing comes out. A small body is left where it is and its exchange unfinished: the server
//! reads one piece ahead of its reader, a small body comes as one piece, and so it is taken off without a task, a wake-up
//! or a second way into Python. The next refusal of that client finishes the exchange: the server has read a head behind
//! the body. What is left at the next beat, and what is large, is asked for and read until its end or its time; then its
//! connection ends.

use crate::exchange::{Exchange, locked};
use pyo3::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Instant;

/// A body that the server has as one piece, nearly always.
const ONE_PIECE: u64 = 8 * 1024;

/// The bodies of one worker.
#[derive(Default)]
pub(crate) struct Lingering {
    /// By client: answered exchanges whose body nobody asked for, and until when it may come.
    left: Mutex<HashMap<SocketAddr, (Py<Exchange>, Instant)>>,
    /// Futures of bodies that are being read and thrown away, oldest first, with their deadlines.
    asked: Mutex<VecDeque<(Py<PyAny>, Instant)>>,
}

impl Lingering {
    /// Want the body of `length` bytes until then. `peer` is its client, unless that one waits to be told to send it. True
    /// when the exchange must stay unfinished: it is finished here.
    pub(crate) fn want(
        &self,
        exchange: &Bound<'_, Exchange>,
        length: u64,
        peer: Option<SocketAddr>,
        until: Instant,
    ) -> PyResult<bool> {
        let Some(peer) = peer.filter(|_| length <= ONE_PIECE) else {
            self.ask(exchange, until)?;
            return Ok(false);
        };
        let before = locked(&self.left).insert(peer, (exchange.clone().unbind(), until));
        if let Some((before, _)) = before {
            Exchange::finish(before.bind(exchange.py()))?;
        }
        Ok(true)
    }

    /// Have the body read.
    fn ask(&self, exchange: &Bound<'_, Exchange>, until: Instant) -> PyResult<()> {
        let body = exchange.get().proto.bind(exchange.py()).call0()?;
        locked(&self.asked).push_back((body.unbind(), until));
        Ok(())
    }

    /// Ask for what was left, let go of what is whole, end the connections of those whose time is up. Errors are told one
    /// by one.
    pub(crate) fn sweep(&self, now: Instant, failed: impl Fn(Python<'_>, PyErr)) {
        if locked(&self.left).is_empty() && locked(&self.asked).is_empty() {
            return;
        }
        Python::attach(|py| {
            // No lock is held while Python runs: it may let another thread in, and that one come here.
            let left = std::mem::take(&mut *locked(&self.left));
            for (exchange, until) in left.into_values() {
                let exchange = exchange.bind(py);
                if let Err(error) = self.ask(exchange, until).and_then(|()| Exchange::finish(exchange)) {
                    failed(py, error);
                }
            }
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
                    failed(py, error);
                }
            }
            let mut asked = locked(&self.asked);
            kept.append(&mut asked);
            *asked = kept;
        });
    }
}
