//! Forward: the request that goes upstream, rebuilt from parsed parts.
//!
//! In: an arrival, where it goes, who sent it. Out: headers. Framing and hop-by-hop headers are never copied; what only the
//! gateway may say (`X-Consumer-*`, `X-Credential-*`, `X-Authenticated-*`, `X-Forwarded-*`, request ids) is removed from
//! what the client sent and said anew. It decides nothing.

use crate::accept::Arrival;
use aigw_core::snapshot::Uuid;
use http::{HeaderMap, HeaderName, HeaderValue, header};

/// `Via` of everything that passes through.
pub const VIA: &str = concat!("1.1 aigw/", env!("CARGO_PKG_VERSION"));

/// Who the gateway says is calling.
#[derive(Debug, Clone)]
pub struct Identity {
    /// Consumer id.
    pub id: Uuid,
    /// Username, if it has one.
    pub username: Option<String>,
    /// Custom id, if it has one.
    pub custom_id: Option<String>,
    /// Credential id; `None` for an anonymous consumer.
    pub credential: Option<Uuid>,
    /// Its groups, joined; empty for none, or where they are not told.
    pub groups: String,
}

/// Where a request goes, as far as its headers tell.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// The `Host` to send.
    pub host: &'a str,
    /// The part of the path that was stripped, if any.
    pub stripped: Option<&'a str>,
    /// Who is calling, on routes that ask.
    pub identity: Option<&'a Identity>,
    /// Headers that carried a credential and must not go on.
    pub hide: &'a [Box<str>],
}

/// The headers of the upstream request.
#[must_use]
pub fn headers(arrival: &Arrival, bound: Bound<'_>) -> HeaderMap<HeaderValue> {
    let mut out = HeaderMap::with_capacity(arrival.headers.size().0 + 12);
    put(&mut out, header::HOST, bound.host);
    let named = named_by_connection(arrival);
    let named = named.as_str();
    let mut forwarded_for = String::new();
    let mut via = String::new();
    for (name, value) in arrival.headers.iter() {
        match name {
            "x-forwarded-for" => join(&mut forwarded_for, value),
            "via" => join(&mut via, value),
            _ if is_ours(name) || is_connections(name, named) || bound.hide.iter().any(|hidden| &**hidden == name) => {}
            _ => {
                if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                    out.append(name, value);
                }
            }
        }
    }
    if let Some(peer) = arrival.peer {
        let address = peer.ip().to_canonical().to_string();
        join(&mut forwarded_for, &address);
        put(&mut out, HeaderName::from_static("x-real-ip"), &address);
    }
    put(&mut out, HeaderName::from_static("x-forwarded-for"), &forwarded_for);
    put(&mut out, HeaderName::from_static("x-forwarded-proto"), if arrival.tls { "https" } else { "http" });
    let (host, port) = split_host(arrival.host(), arrival.tls);
    put(&mut out, HeaderName::from_static("x-forwarded-host"), host);
    put(&mut out, HeaderName::from_static("x-forwarded-port"), port);
    put(&mut out, HeaderName::from_static("x-forwarded-path"), &aigw_core::r#match::canonical::encode(&arrival.path));
    if let Some(stripped) = bound.stripped {
        put(&mut out, HeaderName::from_static("x-forwarded-prefix"), stripped);
    }
    put(&mut out, HeaderName::from_static("x-request-id"), &arrival.request_id);
    put(&mut out, HeaderName::from_static("x-kong-request-id"), &arrival.request_id);
    join(&mut via, VIA);
    put(&mut out, header::VIA, &via);
    if let Some(identity) = bound.identity {
        put(
            &mut out,
            HeaderName::from_static("x-consumer-id"),
            identity.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()),
        );
        if let Some(username) = &identity.username {
            put(&mut out, HeaderName::from_static("x-consumer-username"), username);
        }
        if let Some(custom_id) = &identity.custom_id {
            put(&mut out, HeaderName::from_static("x-consumer-custom-id"), custom_id);
        }
        match &identity.credential {
            Some(credential) => {
                put(
                    &mut out,
                    HeaderName::from_static("x-credential-identifier"),
                    credential.hyphenated().encode_lower(&mut Uuid::encode_buffer()),
                );
            }
            None => put(&mut out, HeaderName::from_static("x-anonymous-consumer"), "true"),
        }
        if !identity.groups.is_empty() {
            put(&mut out, HeaderName::from_static("x-consumer-groups"), &identity.groups);
        }
    }
    out
}

/// The headers of a call of a model, whoever serves it: nothing of the caller's key, address or cookies leaves the gateway, and
/// the answer comes uncompressed, since its usage is read. [`address`] adds where it goes.
#[must_use]
pub fn headers_openai(arrival: &Arrival) -> HeaderMap<HeaderValue> {
    let mut out = HeaderMap::with_capacity(arrival.headers.size().0 + 6);
    let named = named_by_connection(arrival);
    for (name, value) in arrival.headers.iter() {
        let kept = !is_ours(name) && !is_callers(name) && !is_connections(name, &named);
        if kept && let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            out.append(name, value);
        }
    }
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // As such it was read, whatever the caller called it.
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(header::VIA, HeaderValue::from_static(VIA));
    put(&mut out, HeaderName::from_static("x-request-id"), &arrival.request_id);
    out
}

/// Where a call of a model goes, and the key it needs there.
pub fn address(out: &mut HeaderMap<HeaderValue>, host: &str, authorization: Option<&HeaderValue>) {
    put(out, header::HOST, host);
    if let Some(authorization) = authorization {
        out.insert(header::AUTHORIZATION, authorization.clone());
    }
}

/// Headers that are between the caller and the gateway.
fn is_callers(name: &str) -> bool {
    matches!(
        name,
        "authorization"
            | "apikey"
            | "x-api-key"
            | "api-key"
            | "cookie"
            | "forwarded"
            | "via"
            | "accept-encoding"
            | "baggage"
            // What the caller's own key would act for; the upstream's key is another.
            | "openai-organization"
            | "openai-project"
    )
}

/// Set a header unless its value cannot be one: names with other than visible ASCII are sent percent-encoded by their maker.
fn put(out: &mut HeaderMap<HeaderValue>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        out.insert(name, value);
    } else if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
        out.insert(name, value);
    }
}

pub(crate) fn join(list: &mut String, value: &str) {
    if !list.is_empty() {
        list.push_str(", ");
    }
    list.push_str(value);
}

/// Headers that only the gateway may send upstream, or that frame a message or belong to one connection.
fn is_ours(name: &str) -> bool {
    if name.contains('_') {
        // Servers that hand headers to programs as variables (CGI, WSGI) read `_` and `-` as the same.
        return is_ours(&name.replace('_', "-"));
    }
    match name {
        "host"
        | "content-length"
        | "transfer-encoding"
        | "connection"
        | "keep-alive"
        | "proxy-connection"
        | "te"
        | "trailer"
        | "upgrade"
        | "expect"
        | "proxy-authorization"
        | "proxy-authenticate"
        | "x-request-id"
        | "x-real-ip"
        | "x-anonymous-consumer"
        | "http2-settings" => true,
        // `X-Authenticated-*` is how Kong tells what a token said.
        _ => ["x-consumer-", "x-credential-", "x-authenticated-", "x-aigw-", "x-forwarded-", "x-kong-"]
            .iter()
            .any(|prefix| name.starts_with(prefix)),
    }
}

/// What the client's `Connection` headers name, all of them joined.
fn named_by_connection(arrival: &Arrival) -> String {
    let mut named = String::new();
    for (_, value) in arrival.headers.iter().filter(|(name, _)| *name == "connection") {
        join(&mut named, value);
    }
    named
}

/// Whether the client's `Connection` headers name this header as its own hop's.
fn is_connections(name: &str, named: &str) -> bool {
    !named.is_empty() && named.split(',').any(|one| one.trim().eq_ignore_ascii_case(name))
}

fn split_host(host: &str, tls: bool) -> (&str, &str) {
    let default = if tls { "443" } else { "80" };
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => (name, port),
        _ => (host, default),
    }
}
