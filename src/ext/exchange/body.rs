//! A request's body on its way in: read piece by piece from the server, to be forwarded or thrown away.
//!
//! In: the server's protocol object and its pieces. Out: the next step of the reading, and at its end the whole body. The
//! bounds on size, time, memory and chunks are enforced here; the exchange sets them.
//!
//! The server gathers a whole body without a bound on its memory, so only a small one with a length is left to it. Any other
//! comes piece by piece. A piece costs an entry into the interpreter: a body with a length whose pieces are small waits a
//! beat, and the kernel gathers meanwhile. A chunk is always a piece, so chunks are counted, and small ones are read in
//! turns (`Turns`): the others' requests come between. A refused body without a turn is not read further.

use std::time::{Duration, Instant};

use aigw_core::accept::room::Claim;
use aigw_core::accept::turns::Turns;
use aigw_core::refusal::Reason;
use aigw_core::request::{Answer, BodyLength, ClientConnection};
use aigw_core::surface::Accepted;
use aigw_io::socket;
use bytes::{Bytes, BytesMut};
use pyo3::exceptions::PyStopAsyncIteration;
use pyo3::prelude::*;

use super::linger::Place;
use crate::protocol::Names;

/// A body of this length and less is gathered by the server, which holds it up to three times at its end.
const GATHERED: u64 = 64 * 1024;
/// Smaller pieces of a body with a length wait for more, after the first few: the piece behind the head is always small.
const SMALL: usize = 16 * 1024;
/// Pieces that do not wait.
const AT_ONCE: u64 = 16;
/// Chunks that any body may have. A chunk costs 20 us, a body of 64 KiB in one-byte chunks 1.3 s.
const CHUNKS: u64 = 4096;
/// Bytes for which a body may have one chunk more.
const CHUNK: u64 = 64;
/// Smaller chunks are read in turns.
const SMALL_CHUNK: usize = 4 * 1024;
/// The body of one request.
pub(super) struct BodyReader {
    purpose: Purpose,
    /// The future of the piece that is awaited.
    future: Option<Py<PyAny>>,
    form: Form,
    held: BytesMut,
    /// The memory of `held`.
    claim: Claim,
    /// Bytes that came.
    seen: u64,
    /// Pieces that came.
    pieces: u64,
    /// When the last piece came; before it, the begin of the reading.
    came_at: Instant,
    /// The next piece is asked for at the next beat.
    waits: bool,
    /// Most bytes of the body.
    most: u64,
    /// The longest silence, and when it is next looked at.
    silence: Duration,
    silent_at: Instant,
    deadline: Instant,
    /// An empty piece came: the next call tells the end from a cut.
    ending: bool,
}

/// The way that a body comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// As one piece.
    Gathered,
    /// So many bytes, as the server reads them: the protocol object is an async iterator.
    Pieces(u64),
    /// Chunk by chunk, likewise.
    Chunks,
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
    /// To be thrown away behind its answer.
    Linger {
        /// Given back when it is dropped.
        _place: Place,
    },
}

/// The state of the reading after a piece.
pub(super) enum Progress {
    /// The body is whole.
    Whole,
    /// The caller asks for the next piece.
    More,
    /// The caller asks for the next piece at the next beat.
    Later,
    /// The body is cut, too large, or has no room.
    Refused(Reason),
}

impl BodyReader {
    /// Begins to read a body of at most `most` bytes within its times. `claim`: of the whole length, where the head declared it.
    pub(super) fn new(
        proto: &Bound<'_, PyAny>,
        purpose: Purpose,
        length: BodyLength,
        most: u64,
        within: Within,
        claim: Claim,
    ) -> PyResult<Self> {
        let form = match length {
            // No memory is claimed for a body that is thrown away, so the server must not gather it.
            BodyLength::Known(bytes) if bytes > GATHERED || !matches!(purpose, Purpose::Forward(_)) => {
                Form::Pieces(bytes)
            }
            BodyLength::Known(_) | BodyLength::None => Form::Gathered,
            BodyLength::Chunked => Form::Chunks,
        };
        if form != Form::Gathered {
            proto.call_method0(Names::get(proto.py()).aiter.bind(proto.py()))?;
        }
        let held = match form {
            Form::Pieces(bytes) if matches!(purpose, Purpose::Forward(_)) => {
                BytesMut::with_capacity(usize::try_from(bytes.min(most)).unwrap_or(0))
            }
            _ => BytesMut::new(),
        };
        let now = Instant::now();
        let (silence, silent_at, deadline) = (within.silence, now + within.silence, now + within.total);
        let (seen, pieces, waits, ending) = (0, 0, false, false);
        Ok(Self {
            purpose,
            future: None,
            form,
            held,
            claim,
            seen,
            pieces,
            came_at: now,
            waits,
            most,
            silence,
            silent_at,
            deadline,
            ending,
        })
    }

    /// Whether the body comes piece by piece.
    pub(super) fn comes_in_pieces(&self) -> bool {
        self.form != Form::Gathered
    }

    /// Whether the next piece is to be asked for at this beat.
    pub(super) fn waits(&self) -> bool {
        self.waits
    }

    /// Notes the future of the next piece. False when the body went on behind its end: a cut, or trailers (not accepted).
    pub(super) fn asked(&mut self, future: &Bound<'_, PyAny>) -> bool {
        self.future = Some(future.clone().unbind());
        self.waits = false;
        !self.ending
    }

    /// Takes a piece.
    pub(super) fn take(&mut self, piece: &[u8], turns: &Turns) -> Progress {
        self.future = None;
        self.seen = self.seen.saturating_add(piece.len() as u64);
        self.pieces += 1;
        self.came_at = Instant::now();
        if self.seen > self.most {
            return Progress::Refused(Reason::BodyTooLarge);
        }
        if !self.is_discarded() {
            if let Err(reason) = self.make_room(piece.len()) {
                return Progress::Refused(reason);
            }
            self.held.extend_from_slice(piece);
        }
        match self.form {
            Form::Gathered => Progress::Whole,
            Form::Pieces(_) if piece.is_empty() => Progress::Refused(Reason::BodyCut),
            Form::Pieces(bytes) if self.seen >= bytes => Progress::Whole,
            Form::Pieces(_) => self.next(piece.len() < SMALL && self.pieces > AT_ONCE),
            Form::Chunks if self.pieces > CHUNKS + self.seen / CHUNK => Progress::Refused(Reason::BodyInPieces),
            Form::Chunks => {
                self.ending = piece.is_empty();
                // The server hands a large chunk over in pieces, of which the last may be small.
                let are_small = self.seen < self.pieces.saturating_mul(SMALL_CHUNK as u64);
                let is_small = piece.len() < SMALL_CHUNK && are_small && self.pieces > AT_ONCE && !self.ending;
                match is_small && !turns.take(self.claim.holder(), self.is_discarded()) {
                    true if self.is_discarded() => Progress::Refused(Reason::BodyInPieces),
                    waits => self.next(waits),
                }
            }
        }
    }

    fn next(&mut self, waits: bool) -> Progress {
        self.waits = waits;
        if waits { Progress::Later } else { Progress::More }
    }

    /// Throws away the bytes that came and those that still come, at most so many `more`, behind the answer. Returns the purpose before.
    pub(super) fn linger(&mut self, place: Place, more: u64, within: Within) -> Purpose {
        self.held = BytesMut::new();
        self.claim.hold(0);
        self.most = self.seen.saturating_add(more);
        let now = Instant::now();
        (self.silence, self.silent_at, self.deadline) = (within.silence, now + within.silence, now + within.total);
        std::mem::replace(&mut self.purpose, Purpose::Linger { _place: place })
    }

    /// Whether the body is thrown away.
    pub(super) fn is_discarded(&self) -> bool {
        !matches!(self.purpose, Purpose::Forward(_))
    }

    /// Whether nobody asked for the next piece, now or for the next beat.
    pub(super) fn is_unasked(&self) -> bool {
        self.future.is_none() && !self.waits
    }

    /// Claims the memory of a chunked body before it grows: it doubles, as far as the body may.
    fn make_room(&mut self, more: usize) -> Result<(), Reason> {
        let (length, room) = (self.held.len() + more, self.held.capacity());
        if self.form != Form::Chunks || length <= room {
            return Ok(());
        }
        let most = usize::try_from(self.most).unwrap_or(usize::MAX);
        let wanted = (2 * room).min(most).max(length);
        self.claim.grow((wanted as u64).saturating_sub(self.claim.bytes()))?;
        self.held.reserve(wanted - self.held.len());
        Ok(())
    }

    /// The body's use, its bytes, and the future that is still awaited.
    pub(super) fn into_parts(self) -> (Purpose, Bytes, Option<Py<PyAny>>) {
        (self.purpose, self.claim.keep(self.held.freeze()), self.future)
    }

    /// It is time to look at the body: it waits for a beat, or its time may be up, which [`BodyReader::is_overdue`] tells.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.waits || now > self.silent_at || now > self.deadline
    }

    /// Whether the time of the body is up. The server hands most bodies over whole, so the socket of `client` tells when its last
    /// bytes came.
    pub(super) fn is_overdue(&mut self, now: Instant, client: Option<ClientConnection>) -> bool {
        let silence = self.silence;
        if self.waits {
            // A piece came since the last beat, and the next may be here: the silence is the reader's.
            self.silent_at = now + silence;
        }
        if now > self.deadline || now <= self.silent_at {
            return now > self.deadline;
        }
        // A worker that stood still takes its pieces later than they came.
        let since_piece = now.saturating_duration_since(self.came_at);
        match client.and_then(socket::quiet).map(|quiet| quiet.min(since_piece)) {
            Some(quiet) if quiet < silence => {
                self.silent_at = now + silence.saturating_sub(quiet);
                false
            }
            _ => true,
        }
    }
}

/// Asks the server for the (next piece of the) body; `None` at the end of one that comes in `pieces`.
pub(super) fn ask<'py>(proto: &Bound<'py, PyAny>, pieces: bool) -> PyResult<Option<Bound<'py, PyAny>>> {
    let py = proto.py();
    if !pieces {
        return proto.call0().map(Some);
    }
    match proto.call_method0(Names::get(py).anext.bind(py)) {
        Ok(future) => Ok(Some(future)),
        Err(error) if error.is_instance_of::<PyStopAsyncIteration>(py) => Ok(None),
        Err(error) => Err(error),
    }
}
