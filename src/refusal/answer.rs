//! An answer of the gateway's own, in the form of the request's surface.
//!
//! In: a [`Refusal`], or a document. Out: an [`Answer`] with status, headers and body. It counts and logs nothing.

use std::time::Duration;

use bytes::Bytes;

use super::kong::{Form, render};
use super::{Extra, Refusal, Retry, openai};
use crate::request::{Answer, Head, Header, Surface};

/// `Retry-After` of a worker that is full, in seconds: the smallest useful value of the header.
const RETRY_AFTER_S: u64 = 1;
/// `Server` of the gateway's own answers.
pub const SERVER: &str = concat!("aigw/", env!("CARGO_PKG_VERSION"));

/// The answer to a request that is refused `after` its arrival. `tier`: the caller's. `draining`: close the connection.
pub fn refuse(head: &Head, mut refusal: Refusal, tier: Option<&str>, after: Duration, draining: bool) -> Answer {
    let row = refusal.reason.row();
    let status = refusal.status.unwrap_or(row.status);
    let mut headers = std::mem::take(&mut refusal.headers);
    let body = match head.surface {
        Surface::Kong => {
            let form = Form::from_accept(head.headers.get("accept"));
            headers.push(("content-type", form.content_type().into()));
            headers.push(("x-kong-response-latency", after.as_millis().to_string().into()));
            headers.push(("x-kong-request-id", head.request_id.clone().into()));
            Bytes::from(render(form, refusal.message(), &head.request_id))
        }
        Surface::OpenAi => {
            headers.push(("content-type", "application/json".into()));
            if status == 401 {
                headers.push(("www-authenticate", "Bearer".into()));
            }
            // The headers of a limit that resets late advise against a retry.
            let late = headers.iter().any(|(name, _)| *name == "x-should-retry");
            let retryable = !late && matches!(row.retry, Retry::After | Retry::Soon);
            Bytes::from(openai::render(&refusal, tier, &head.request_id, retryable))
        }
    };
    headers.push(("server", SERVER.into()));
    headers.push(("x-request-id", head.request_id.clone().into()));
    if row.extra == Extra::RetryAfter {
        let seconds = refusal.retry_after_s.unwrap_or(RETRY_AFTER_S);
        headers.push(("retry-after", seconds.to_string().into()));
    }
    let hopeless = matches!(row.retry, Retry::Never | Retry::Operator) && head.surface == Surface::OpenAi;
    if row.retry == Retry::Unsafe || hopeless {
        headers.push(("x-should-retry", "false".into()));
    }
    if matches!(status, 401 | 429) {
        headers.push(("cache-control", "no-store".into()));
    }
    Answer { status, headers, body, close: row.extra == Extra::Close || draining }
}

/// The answer to a browser's preflight. `draining`: close the connection.
pub fn preflight(head: &Head, mut headers: Vec<Header>, draining: bool) -> Answer {
    headers.push(("server", SERVER.into()));
    headers.push(("x-request-id", head.request_id.clone().into()));
    // Kong answers 200.
    let status = if head.surface == Surface::Kong { 200 } else { 204 };
    Answer { status, headers, body: Bytes::new(), close: draining }
}

/// The answer to a probe: its status alone. `well`: the worker is as the probe asks. `draining`: close the connection.
pub fn probe(head: &Head, well: bool, draining: bool) -> Answer {
    let headers: Vec<Header> = vec![
        ("server", SERVER.into()),
        ("x-request-id", head.request_id.clone().into()),
        ("cache-control", "no-store".into()),
    ];
    Answer { status: if well { 200 } else { 503 }, headers, body: Bytes::new(), close: draining }
}

/// The answer that shows a JSON document. `draining`: close the connection.
pub fn document(head: &Head, body: Bytes, draining: bool) -> Answer {
    let headers: Vec<Header> = vec![
        ("content-type", "application/json".into()),
        ("server", SERVER.into()),
        ("x-request-id", head.request_id.clone().into()),
        ("cache-control", "no-store".into()),
    ];
    Answer { status: 200, headers, body, close: draining }
}
