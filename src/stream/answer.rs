//! The answer to a model's call: its usage and its times, read while it passes.
//!
//! In: the answer's head and pieces. Out: the bytes that the client gets of them. A caller that asked for no usage does not
//! see the usage that the gateway asked for.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, SET_COOKIE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::find::UsageFinder;
use super::head::{is_events, remove_all};
use super::sse::Events;
use super::usage::Usage;
use crate::accept::openai::{Asked, IncludeUsage};

/// A fault inside an answer whose status is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// An event of the stream is an error.
    Error,
    /// The stream ended without an event.
    Empty,
}

/// One model's answer. Times are since the request's arrival.
#[derive(Debug)]
pub struct ModelAnswer {
    /// The caller asked for a stream.
    streamed: bool,
    /// The caller asked for the usage of its stream.
    wants_usage: bool,
    usage: UsageReader,
    /// The status is a success.
    success: bool,
    /// The first and the last piece of a stream.
    first: Option<Duration>,
    last: Option<Duration>,
}

#[derive(Debug)]
enum UsageReader {
    /// No head yet, or a content coding that the gateway cannot read.
    Nothing,
    Document(UsageFinder),
    Events(Events),
}

impl ModelAnswer {
    /// The answer to a call with these wishes.
    pub fn new(asked: &Asked) -> Self {
        Self {
            streamed: asked.stream,
            wants_usage: asked.include_usage == IncludeUsage::Yes,
            usage: UsageReader::Nothing,
            success: false,
            first: None,
            last: None,
        }
    }

    /// The answer is a stream of events.
    pub fn is_events(&self) -> bool {
        matches!(self.usage, UsageReader::Events(_))
    }

    /// Removes the headers that belong to the upstream's account, and prepares to read the body.
    pub fn head(&mut self, status: StatusCode, headers: &mut HeaderMap<HeaderValue>) {
        // The limits, account and session of the fleet's own key.
        remove_all(headers, "x-ratelimit-");
        headers.remove("openai-organization");
        headers.remove("openai-project");
        headers.remove(SET_COOKIE);
        self.success = status.is_success();
        if headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return;
        }
        self.usage = if is_events(headers) {
            let strip = self.streamed && !self.wants_usage;
            if strip {
                headers.remove(CONTENT_LENGTH);
            }
            UsageReader::Events(Events::new(strip))
        } else {
            UsageReader::Document(UsageFinder::default())
        };
    }

    /// Reads a piece, `after` the arrival, and returns the bytes that go on.
    pub fn piece(&mut self, piece: Bytes, after: Duration) -> Bytes {
        if piece.is_empty() {
            return piece;
        }
        match &mut self.usage {
            UsageReader::Nothing => piece,
            UsageReader::Document(finder) => {
                finder.push(&piece);
                piece
            }
            UsageReader::Events(events) => {
                self.first.get_or_insert(after);
                self.last = Some(after);
                events.push(&piece).map_or(piece, Bytes::from)
            }
        }
    }

    /// The held bytes, once the answer is whole.
    pub fn rest(&mut self) -> Bytes {
        match &mut self.usage {
            UsageReader::Events(events) => events.finish().into(),
            UsageReader::Nothing | UsageReader::Document(_) => Bytes::new(),
        }
    }

    /// The usage that the upstream reported.
    pub fn usage(&self) -> Option<Usage> {
        match &self.usage {
            UsageReader::Nothing => None,
            UsageReader::Document(finder) => finder.found().and_then(Usage::parse),
            UsageReader::Events(events) => events.usage(),
        }
    }

    /// The fault inside a successful answer. Asked once the answer is whole: before that a stream may be empty and go on.
    pub fn fault(&self) -> Option<Fault> {
        match &self.usage {
            UsageReader::Events(events) if self.success && events.has_error() => Some(Fault::Error),
            UsageReader::Events(events) if self.success && events.is_empty() => Some(Fault::Empty),
            _ => None,
        }
    }

    /// Whether the status is a success: then the upstream should report usage.
    pub fn is_success(&self) -> bool {
        self.success
    }

    /// From arrival to the first piece of a stream, and from there to its last.
    pub fn times(&self) -> (Option<Duration>, Duration) {
        (self.first, self.last.unwrap_or_default().saturating_sub(self.first.unwrap_or_default()))
    }
}
