//! A request's body on its way in: asked of the server piece by piece, and kept to be forwarded, or thrown away before an answer.
//!
//! In: an exchange, and what its body is for. Out: the whole body, forwarded; or, of one that is too large, too slow or cut, an
//! answer that closes the connection. The bound on time is looked at from outside, at each beat.

use crate::answer::Names;
use crate::exchange::{DISCARD_BYTES, Exchange, Phase, locked};
use aigw_core::denial::Reason;
use aigw_io::accept::Answer;
use aigw_io::gateway::Passage;
use bytes::BytesMut;
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::time::{Duration, Instant};

/// The body as it is being read, and what for.
pub(crate) struct Reading {
    purpose: Purpose,
    /// The future of the piece that is awaited.
    future: Option<Py<PyAny>>,
    /// Set for chunked bodies: the protocol object as an async iterator.
    pieces: bool,
    held: BytesMut,
    seen: u64,
    deadline: Instant,
    /// An empty piece came: the next call tells the end from a cut.
    ending: bool,
}

pub(crate) enum Purpose {
    /// To be forwarded.
    Collect(Box<Passage>),
    /// To be thrown away before this answer.
    Discard(Answer),
}

impl Exchange {
    /// Begin to read, `pieces` of a chunked body or all of one with a length.
    pub(crate) fn read(this: &Bound<'_, Self>, purpose: Purpose, pieces: bool, within: Duration) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        own.set_phase(Phase::Body);
        let proto = own.proto.bind(py);
        if pieces {
            proto.call_method0(Names::get(py).aiter.bind(py))?;
        }
        *locked(&own.reading) = Some(Reading {
            purpose,
            future: None,
            pieces,
            held: BytesMut::new(),
            seen: 0,
            deadline: Instant::now() + within,
            ending: false,
        });
        Self::next_piece(this)
    }

    /// Ask for the (next piece of the) body; it arrives at [`Exchange::piece_came`].
    fn next_piece(this: &Bound<'_, Self>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let proto = own.proto.bind(py);
        let pieces = locked(&own.reading).as_ref().is_some_and(|reading| reading.pieces);
        let future = if pieces {
            match proto.call_method0(Names::get(py).anext.bind(py)) {
                Ok(future) => future,
                Err(error) if error.is_instance_of::<PyStopAsyncIteration>(py) => return Self::body_complete(this),
                Err(error) => return Err(error),
            }
        } else {
            proto.call0()?
        };
        let went_on = {
            let mut reading = locked(&own.reading);
            let Some(reading) = reading.as_mut() else { return Ok(()) };
            reading.future = Some(future.clone().unbind());
            reading.ending
        };
        if went_on {
            // The server's stream went on after an empty piece: a cut, or trailers (not accepted).
            return Self::body_failed(this, Reason::BodyCut);
        }
        future.call_method1(Names::get(py).add_done_callback.bind(py), (this,))?;
        Ok(())
    }

    /// The piece that was asked for is here, or never will be.
    pub(crate) fn piece_came(this: &Bound<'_, Self>, future: &Bound<'_, PyAny>) -> PyResult<()> {
        let py = this.py();
        let own = this.get();
        let Ok(piece) = future.call_method0(Names::get(py).result.bind(py)) else {
            return Self::body_failed(this, Reason::BodyCut);
        };
        let piece = piece.cast::<PyBytes>()?.as_bytes();
        let (whole, too_large) = {
            let mut reading = locked(&own.reading);
            let Some(reading) = reading.as_mut() else { return Ok(()) };
            reading.future = None;
            reading.seen = reading.seen.saturating_add(piece.len() as u64);
            let cap = match reading.purpose {
                Purpose::Collect(_) => own.shared.settings.max_body,
                Purpose::Discard(_) => DISCARD_BYTES,
            };
            if matches!(reading.purpose, Purpose::Collect(_)) {
                reading.held.extend_from_slice(piece);
            }
            reading.ending = reading.pieces && piece.is_empty();
            (!reading.pieces, reading.seen > cap)
        };
        if too_large {
            Self::body_failed(this, Reason::BodyTooLarge)
        } else if whole {
            Self::body_complete(this)
        } else {
            Self::next_piece(this)
        }
    }

    fn body_complete(this: &Bound<'_, Self>) -> PyResult<()> {
        let Some(reading) = locked(&this.get().reading).take() else { return Ok(()) };
        match reading.purpose {
            Purpose::Collect(passage) => Self::forward(this, *passage, reading.held.freeze()),
            Purpose::Discard(answer) => Self::answer(this, &answer),
        }
    }

    /// The body cannot be had (cut, too large, too slow): answer and close.
    pub(crate) fn body_failed(this: &Bound<'_, Self>, reason: Reason) -> PyResult<()> {
        let py = this.py();
        let Some(reading) = locked(&this.get().reading).take() else { return Ok(()) };
        let answer = match reading.purpose {
            Purpose::Discard(answer) => Some(answer),
            Purpose::Collect(_) => Self::deny(this, reason),
        };
        let Some(mut answer) = answer else { return Ok(()) };
        answer.close = true;
        let answered = Self::answer(this, &answer);
        if let Some(future) = reading.future {
            // Dropping the body is what ends a connection whose client never finishes it.
            let future = future.bind(py);
            future.call_method1("remove_done_callback", (this,))?;
            future.call_method0("cancel")?;
        }
        answered
    }

    /// Whether the body's time is up.
    pub(crate) fn body_overdue(&self, now: Instant) -> bool {
        self.phase() == Phase::Body && locked(&self.reading).as_ref().is_some_and(|reading| now > reading.deadline)
    }
}
