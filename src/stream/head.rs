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
    remove(headers, |name| name.starts_with("x-aigw-"));
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

/// Whether a header of a model's answer concerns only the gateway and its upstream: the limits, account and session of the
/// fleet's own key, and the words of a server to browsers about its own origin, which here would be about the gateway's.
pub(super) fn is_fleets(name: &str) -> bool {
    const PREFIXES: [&str; 8] = [
        "x-ratelimit",
        "ratelimit",
        "anthropic-ratelimit-",
        "access-control-",
        "cf-",
        "content-security-policy",
        "cross-origin-",
        "x-envoy-",
    ];
    matches!(
        name,
        "alt-svc"
            | "anthropic-organization-id"
            | "clear-site-data"
            | "expect-ct"
            | "nel"
            | "openai-organization"
            | "openai-project"
            | "permissions-policy"
            | "public-key-pins"
            | "refresh"
            | "report-to"
            | "reporting-endpoints"
            | "server"
            | "server-timing"
            | "service-worker-allowed"
            | "set-cookie"
            | "set-cookie2"
            | "strict-transport-security"
            | "timing-allow-origin"
            | "www-authenticate"
            | "x-frame-options"
            | "x-powered-by"
            | "x-xss-protection"
    ) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Removes the headers whose names are `unwanted`.
pub(super) fn remove(headers: &mut HeaderMap<HeaderValue>, unwanted: impl Fn(&str) -> bool) {
    let found: Vec<_> = headers.keys().filter(|name| unwanted(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_upstream_about_its_origin_stay_behind() {
        for name in [
            "alt-svc",
            "strict-transport-security",
            "access-control-allow-origin",
            "cf-ray",
            "set-cookie",
            "nel",
            "server",
            "x-ratelimitbysize-remaining-minute",
            "ratelimit",
            "anthropic-ratelimit-tokens-remaining",
            "anthropic-organization-id",
        ] {
            assert!(is_fleets(name), "{name}");
        }
        for name in
            ["content-type", "openai-processing-ms", "openai-version", "x-request-id", "cfg", "retry-after", "date"]
        {
            assert!(!is_fleets(name), "{name}");
        }
    }
}
