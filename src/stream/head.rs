//! The head of an upstream's answer on its way to the client.
//!
//! In: the upstream's headers. Out: the headers that the gateway adds (limits, latencies, ids, `Via`); headers that only the
//! gateway may send are removed.

use std::time::Duration;

use http::header::{SERVER, VIA};
use http::{HeaderMap, HeaderValue};

use crate::forward::headers::{VIA as OWN_VIA, join};
use crate::refusal::answer::SERVER as OWN_SERVER;
use crate::request::{Head, Header, Surface};

/// The times of a call that an answer shows, both since the request's arrival.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    /// The request was sent upstream.
    pub sent: Duration,
    /// The answer's head came.
    pub head: Duration,
}

/// Adds the gateway's headers to `own`, which has those of the limits. `closing`: the worker drains.
pub fn own_headers(
    own: &mut Vec<Header>,
    head: &Head,
    headers: &mut HeaderMap<HeaderValue>,
    times: Times,
    closing: bool,
) {
    remove_all(headers, "x-aigw-");
    if head.surface == Surface::Kong {
        let upstream = times.head.saturating_sub(times.sent);
        own.push(("x-kong-upstream-latency", upstream.as_millis().to_string().into()));
        own.push(("x-kong-proxy-latency", times.sent.as_millis().to_string().into()));
        own.push(("x-kong-request-id", head.request_id.clone().into()));
    }
    own.push(("x-request-id", head.request_id.clone().into()));
    if !headers.contains_key(SERVER) {
        own.push(("server", OWN_SERVER.into()));
    }
    let mut via = String::new();
    for value in headers.get_all(VIA).iter().filter_map(|value| value.to_str().ok()) {
        join(&mut via, value);
    }
    if via.is_empty() {
        own.push(("via", OWN_VIA.into()));
    } else {
        join(&mut via, OWN_VIA);
        own.push(("via", via.into()));
    }
    if closing {
        own.push(("connection", "close".into()));
    }
}

/// Removes the headers whose names begin with `prefix`.
pub(super) fn remove_all(headers: &mut HeaderMap<HeaderValue>, prefix: &str) {
    let found: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(prefix)).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}
