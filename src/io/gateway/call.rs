//! Stage `stream` for models: what a call's answer says while it passes.
//!
//! In: the answer's head and pieces, on the upstream's thread. Out: what the client gets of them, and at the end the call's
//! report: usage, time to the first piece, time of streaming.

use super::End;
use crate::record::Outcome;
use crate::upstream::is_events;
use aigw_core::accept::openai::{Asked, IncludeUsage};
use aigw_core::stream::find::UsageFinder;
use aigw_core::stream::sse::Events;
use aigw_core::stream::usage::Usage;
use aigw_core::telemetry::series::CallReport;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};
use std::time::{Duration, Instant};

/// One call of a model: what its answer says while it passes.
pub(super) struct ModelCall {
    /// Index of the model.
    pub(super) model: usize,
    /// Row of its metrics.
    pub(super) series: u32,
    streamed: bool,
    /// The caller asked for the usage of its stream itself.
    wants_usage: bool,
    reading: Reading,
    expected: bool,
    first: Option<Duration>,
    last: Option<Duration>,
}

enum Reading {
    Nothing,
    Plain(UsageFinder),
    Events(Events),
}

impl ModelCall {
    pub(super) fn new(model: usize, series: u32, asked: &Asked) -> Self {
        Self {
            model,
            series,
            streamed: asked.stream,
            wants_usage: asked.include_usage == IncludeUsage::Yes,
            reading: Reading::Nothing,
            expected: false,
            first: None,
            last: None,
        }
    }

    /// The answer is a stream of events.
    pub(super) fn streams(&self) -> bool {
        matches!(self.reading, Reading::Events(_))
    }

    pub(super) fn head(&mut self, status: StatusCode, headers: &mut HeaderMap<HeaderValue>) {
        // The fleet's own limits, account and sessions are none of the caller's business.
        super::remove_all(headers, "x-ratelimit-");
        headers.remove("openai-organization");
        headers.remove("openai-project");
        headers.remove(SET_COOKIE);
        self.expected = status.is_success();
        if headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return;
        }
        self.reading = if is_events(headers) {
            let strip = self.streamed && !self.wants_usage;
            if strip {
                headers.remove(CONTENT_LENGTH);
            }
            Reading::Events(Events::new(strip))
        } else {
            Reading::Plain(UsageFinder::default())
        };
    }

    pub(super) fn piece(&mut self, piece: Bytes, arrived: Instant) -> Bytes {
        if piece.is_empty() {
            return piece;
        }
        match &mut self.reading {
            Reading::Nothing => piece,
            Reading::Plain(finder) => {
                finder.push(&piece);
                piece
            }
            Reading::Events(events) => {
                let now = arrived.elapsed();
                self.first.get_or_insert(now);
                self.last = Some(now);
                events.push(&piece).map_or(piece, Bytes::from)
            }
        }
    }

    pub(super) fn rest(&mut self) -> Bytes {
        match &mut self.reading {
            Reading::Events(events) => events.finish().into(),
            Reading::Nothing | Reading::Plain(_) => Bytes::new(),
        }
    }

    fn usage(&self) -> Option<Usage> {
        match &self.reading {
            Reading::Nothing => None,
            Reading::Plain(finder) => finder.found().and_then(Usage::parse),
            Reading::Events(events) => events.usage(),
        }
    }

    pub(super) fn report(&self, end: &End, took: Duration) -> CallReport {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        CallReport {
            outcome: match end.outcome {
                Outcome::Completed => 0,
                Outcome::ClientCut => 1,
                Outcome::Cut => 2,
                Outcome::Unanswered | Outcome::Refused => 3,
            },
            usage: self.usage(),
            expected: self.expected && end.outcome == Outcome::Completed,
            took: micros(took),
            first: self.first.map(micros),
            streaming: micros(self.last.unwrap_or_default().saturating_sub(self.first.unwrap_or_default())),
        }
    }
}
