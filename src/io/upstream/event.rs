//! The steps of a call as its waiter sees them.

use aigw_core::request::ClientConnection;
use aigw_core::request::{Answer, Header};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use crate::socket::Unread;

/// One step, in order. The call is settled and recorded before its last event is delivered.
#[derive(Debug)]
pub enum Event {
    /// A whole small answer at once.
    Whole(AnswerHead, Bytes),
    /// The head of an answer whose body follows in pieces.
    Head(AnswerHead),
    /// A piece of the body.
    Chunk(Bytes),
    /// The body is whole.
    End,
    /// The answer broke off behind its head: the client's connection is to be cut.
    Cut(Option<ClientConnection>, Unread),
    /// No answer came: the gateway answers.
    Answer(Answer),
}

/// The head of an upstream's answer.
#[derive(Debug)]
pub struct AnswerHead {
    /// The upstream's status.
    pub status: StatusCode,
    /// The upstream's headers that go on.
    pub headers: HeaderMap<HeaderValue>,
    /// The gateway's headers, which win over the upstream's.
    pub own: Vec<Header>,
}

impl Event {
    /// The last event of its call.
    #[must_use]
    pub fn is_last(&self) -> bool {
        !matches!(self, Self::Head(_) | Self::Chunk(_))
    }
}
