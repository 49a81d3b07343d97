//! A request's body on its way in: read piece by piece from the server, to be forwarded or thrown away.
//!
//! In: the server's protocol object and its pieces. Out: the next step of the reading, and at its end the whole body. The
//! bounds on size and time are enforced here; the exchange sets them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use aigw_core::request::Answer;
use aigw_core::surface::Accepted;
use aigw_io::socket;
use bytes::{Bytes, BytesMut};
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;

use crate::protocol::Names;

/// The body of one request.
pub(super) struct BodyReader {
    purpose: Purpose,
    /// The future of the piece that is awaited.
    future: Option<Py<PyAny>>,
    /// Set for chunked bodies: the protocol object is an async iterator.
    chunked: bool,
    held: BytesMut,
    /// Bytes that came.
    seen: u64,
    /// Most bytes of the body.
    most: u64,
    /// When the silence is next looked at.
    silent_at: Instant,
    deadline: Instant,
    /// An empty piece came: the next call tells the end from a cut.
    ending: bool,
}

/// The times of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Within {
    /// The longest silence.
    pub(super) silence: Duration,
    /// From its first look to its end.
    pub(super) total: Duration,
}

/// The use of a body.
pub(super) enum Purpose {
    /// To be forwarded.
    Forward(Box<Accepted>),
    /// To be thrown away before this answer.
    Discard(Answer),
}

/// The state of the reading after a piece.
pub(super) enum Progress {
    /// The body is whole.
    Whole,
    /// The caller asks for the next piece.
    More,
    /// The body is too large.
    TooLarge,
}

impl BodyReader {
    /// Begins to read a body of at most `most` bytes within its times. `chunked`: the head declared no length.
    pub(super) fn new(
        proto: &Bound<'_, PyAny>,
        purpose: Purpose,
        chunked: bool,
        most: u64,
        within: Within,
    ) -> PyResult<Self> {
        if chunked {
            proto.call_method0(Names::get(proto.py()).aiter.bind(proto.py()))?;
        }
        let (held, now) = (BytesMut::new(), Instant::now());
        let (silent_at, deadline) = (now + within.silence, now + within.total);
        Ok(Self { purpose, future: None, chunked, held, seen: 0, most, silent_at, deadline, ending: false })
    }

    /// A chunked body comes as many pieces, any other as one.
    pub(super) fn is_chunked(&self) -> bool {
        self.chunked
    }

    /// Notes the future of the next piece. False when the body went on behind its end: a cut, or trailers (not accepted).
    pub(super) fn asked(&mut self, future: &Bound<'_, PyAny>) -> bool {
        self.future = Some(future.clone().unbind());
        !self.ending
    }

    /// Takes a piece.
    pub(super) fn take(&mut self, piece: &[u8]) -> Progress {
        self.future = None;
        self.seen = self.seen.saturating_add(piece.len() as u64);
        if matches!(self.purpose, Purpose::Forward(_)) {
            self.held.extend_from_slice(piece);
        }
        self.ending = self.chunked && piece.is_empty();
        if self.seen > self.most {
            Progress::TooLarge
        } else if self.chunked {
            Progress::More
        } else {
            Progress::Whole
        }
    }

    /// The body's use, its bytes, and the future that is still awaited.
    pub(super) fn into_parts(self) -> (Purpose, Bytes, Option<Py<PyAny>>) {
        (self.purpose, self.held.freeze(), self.future)
    }

    /// The time of the body may be up: [`BodyReader::is_overdue`] tells.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        now > self.silent_at || now > self.deadline
    }

    /// Whether the time of the body is up. The server hands most bodies over whole, so the socket of `peer` tells when its last
    /// bytes came.
    pub(super) fn is_overdue(&mut self, now: Instant, peer: Option<SocketAddr>, silence: Duration) -> bool {
        if now > self.deadline || now <= self.silent_at {
            return now > self.deadline;
        }
        match peer.and_then(socket::quiet) {
            Some(quiet) if quiet < silence => {
                self.silent_at = now + silence.saturating_sub(quiet);
                false
            }
            _ => true,
        }
    }
}

/// Asks the server for the (next piece of the) body; `None` at the end of a chunked one.
pub(super) fn ask<'py>(proto: &Bound<'py, PyAny>, chunked: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = proto.py();
    if !chunked {
        return proto.call0().map(Some);
    }
    match proto.call_method0(Names::get(py).anext.bind(py)) {
        Ok(future) => Ok(Some(future)),
        Err(error) if error.is_instance_of::<PyStopAsyncIteration>(py) => Ok(None),
        Err(error) => Err(error),
    }
}
