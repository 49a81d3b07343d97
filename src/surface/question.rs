//! `GET /v1/usage`: a question about the caller that the control process answers from the ledger. It takes nothing from any limit.
//!
//! In: a head that the stages accepted; later the control process's reply. Out: the question, one line of JSON
//! `{"question": "usage", "consumer": 7, "query": "after=2026-11-01"}`; then the reply's document, or a refusal. The consumer's row number comes
//! from the caller's key, so no query can name another consumer. The control process reads the query.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::rejected::Rejected;
use crate::in_force::InForce;
use crate::refusal::{Reason, Refusal};
use crate::settle::LogContext;

/// Most bytes of the query of a question: two dates need fewer than 100.
const MOST_QUERY: usize = 1024;

/// A question that waits for its reply.
#[derive(Debug)]
pub struct Question {
    /// The configuration that judged its head.
    pub in_force: Arc<InForce>,
    /// The facts of its head.
    pub context: LogContext,
    /// One line of JSON, with its line feed.
    pub line: String,
}

impl Question {
    /// The refusal of the request before the control process is asked.
    pub fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(reason, self.context, &self.in_force)
    }
}

#[derive(Serialize)]
struct Line<'a> {
    question: &'static str,
    consumer: u32,
    query: &'a str,
}

/// A reply has one of them; any other reply is a fault of the control process.
#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(borrow)]
    answer: Option<&'a RawValue>,
    refused: Option<Refused>,
}

#[derive(Deserialize)]
struct Refused {
    param: String,
    message: String,
}

/// The line that asks for the usage of a consumer.
pub(super) fn usage(consumer: u32, query: &str) -> Result<String, Refusal> {
    if query.len() > MOST_QUERY {
        let message = format!("The query is longer than {MOST_QUERY} bytes: this endpoint takes 'after' and 'before'.");
        return Err(Refusal::because(Reason::InvalidRequest, message));
    }
    // A struct of numbers and strings always has a JSON text.
    let mut line = serde_json::to_string(&Line { question: "usage", consumer, query }).unwrap_or_default();
    line.push('\n');
    Ok(line)
}

/// The document of a reply, or the refusal that it asks for.
pub fn document(reply: &[u8]) -> Result<Bytes, Refusal> {
    match serde_json::from_slice(reply) {
        Ok(Reply { answer: Some(answer), .. }) => Ok(Bytes::copy_from_slice(answer.get().as_bytes())),
        Ok(Reply { refused: Some(Refused { param, message }), .. }) => {
            Err(Refusal::because(Reason::InvalidRequest, message).about(param))
        }
        _ => Err(Reason::ControlAway.into()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn line_names_consumer_and_keeps_query_in_one_line() {
        let line = usage(7, "after=1\n\"").unwrap();
        assert_eq!(line, "{\"question\":\"usage\",\"consumer\":7,\"query\":\"after=1\\n\\\"\"}\n");
        assert_eq!(usage(7, &"a".repeat(1025)).unwrap_err().reason, Reason::InvalidRequest);
    }

    #[test]
    fn reply_is_document_or_refusal() {
        assert_eq!(document(br#"{"answer": {"data": [1]}}"#).unwrap(), r#"{"data": [1]}"#);
        let refused = document(br#"{"refused": {"param": "after", "message": "no date"}}"#).unwrap_err();
        assert_eq!(
            (refused.reason, refused.param.as_deref(), refused.message()),
            (Reason::InvalidRequest, Some("after"), "no date")
        );
        for broken in [&b""[..], b"{}", b"[]", br#"{"failed": "x"}"#, br#"{"answer": {"#] {
            assert_eq!(document(broken).unwrap_err().reason, Reason::ControlAway);
        }
    }
}
