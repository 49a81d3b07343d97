//! Refusals: the reasons to turn a request away, and the answers that say so.
//!
//! In: a stage returns a [`Refusal`]: a [`Reason`] from the table in `reason`, with the message, headers and limit that only
//! this request has. Out: an [`Answer`](crate::request::Answer) in the form of the request's surface: `answer` chooses
//! status and headers, `kong` and `openai` write the body. A refusal never changes a counter of a limit.

pub mod answer;
pub mod kong;
pub mod openai;
mod reason;

use std::borrow::Cow;

use serde::Serialize;

use crate::request::Header;
pub use reason::{Extra, Reason, Retry, Row, TABLE};

/// A refusal as a stage returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The row of the table.
    pub reason: Reason,
    /// Replaces the row's message; never holds anything of a key.
    pub message: Option<Box<str>>,
    /// The member of the request's body that is at fault, on surfaces that name it.
    pub param: Option<Cow<'static, str>>,
    /// Replaces the row's status.
    pub status: Option<u16>,
    /// Headers that only this refusal has.
    pub headers: Vec<Header>,
    /// Seconds of `Retry-After`, for rows that have it; 1 without.
    pub retry_after_s: Option<u64>,
    /// The limit that refused, on surfaces whose body names it.
    pub limit: Option<Box<LimitFacts>>,
}

/// The limit that refused, as a client reads it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LimitFacts {
    /// The limit for people: `100 requests per day`.
    pub policy: String,
    /// The meter's name: `tokens`.
    pub meter: &'static str,
    /// The period; `None` for a bound on so much at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per: Option<String>,
    /// The whole limit, in units of its meter.
    pub limit: u64,
    /// The amount counted, without the part that calls in flight are known to hold.
    pub used: u64,
    /// The part that calls in flight hold, where it refused the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved: Option<u64>,
    /// The most that the call would use; `None` for meters whose calls are all of one size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub needs: Option<u64>,
    /// The amount that is left, for the same meters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left: Option<u64>,
    /// The meter counts tokens.
    #[serde(skip)]
    pub tokens: bool,
    /// The scope of its counter.
    pub scope: &'static str,
    /// Unix seconds at which one more request passes.
    pub reset_at: u32,
}

impl Refusal {
    /// A refusal with a message of its own.
    pub fn because(reason: Reason, message: impl Into<Box<str>>) -> Self {
        Self { message: Some(message.into()), ..Self::from(reason) }
    }

    /// The message of the body.
    pub fn message(&self) -> &str {
        self.message.as_deref().unwrap_or(self.reason.row().message)
    }

    /// The same refusal about a member of the request's body.
    #[must_use]
    pub fn about(self, param: impl Into<Cow<'static, str>>) -> Self {
        Self { param: Some(param.into()), ..self }
    }

    /// The same refusal with these headers.
    #[must_use]
    pub fn with(self, headers: Vec<Header>) -> Self {
        Self { headers, ..self }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { reason, message: None, param: None, status: None, headers: Vec::new(), retry_after_s: None, limit: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_replaces_message_of_its_row() {
        assert_eq!(Refusal::from(Reason::InvalidApiKey).message(), "Unauthorized");
        let own = Refusal::because(Reason::AnonymousMissing, "anonymous consumer x");
        assert_eq!(own.message(), "anonymous consumer x");
    }
}
