//! A call as the upstream client sends it.

use crate::request::ClientConnection;
use std::time::Duration;

use http::Method;

use super::Attempts;
use crate::balance::Deadlines;

/// Answers with more bytes are cut: a runaway answer is a cost (16 GiB).
const MAX_ANSWER: u64 = 16 << 30;

/// Everything that the upstream client needs to send a call and to pass its answer on.
#[derive(Debug)]
pub struct Dispatch {
    /// The method that is sent.
    pub method: Method,
    /// The attempts, in order.
    pub attempts: Attempts,
    /// The bounds: `total` for all attempts together, the others for each.
    pub deadlines: Deadlines,
    /// The client's connection: its socket is looked at when an answer must be paced or cut.
    pub client: Option<ClientConnection>,
    /// Answers with more bytes are cut.
    pub max_answer: u64,
    /// The client asked for an answer that is useless in part: a small one is passed on whole, or refused.
    pub whole: bool,
    /// The client of a stream gets a comment when the upstream was silent for so long; `None`: never.
    pub ping: Option<Duration>,
}

impl Dispatch {
    /// A call with the usual bound on its answer.
    pub fn new(
        method: Method,
        attempts: Attempts,
        deadlines: Deadlines,
        client: Option<ClientConnection>,
        whole: bool,
    ) -> Self {
        Self { method, attempts, deadlines, client, max_answer: MAX_ANSWER, whole, ping: None }
    }
}
