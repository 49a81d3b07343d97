//! The headers of the request that goes upstream, rebuilt from parsed parts.
//!
//! In: a head, its target, its caller. Out: headers. Framing and hop-by-hop headers are never copied. Headers that only the
//! gateway may send (`X-Consumer-*`, `X-Credential-*`, `X-Authenticated-*`, `X-Forwarded-*`, request ids) are removed from
//! the client's, and set again; `Forwarded`, `X-Original-URL` and `X-Rewrite-URL` are removed.

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::accept::head::PASSES;
use crate::balance::ModelTarget;
use crate::r#match::canonical;
use crate::request::Head;
use crate::snapshot::{Acl, Consumer, Credential, Names, Uuid};

/// `Via` of everything that passes through.
pub const VIA: &str = concat!("1.1 aigw/", env!("CARGO_PKG_VERSION"));

/// The caller as an upstream sees it.
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
    /// Its groups, joined by commas; empty without groups, and where `hide_groups_header` is set.
    pub groups: String,
}

impl Identity {
    /// The identity of a consumer. `acl`: the route's, which may hide the groups.
    pub fn new(consumer: &Consumer<'_>, names: &Names<'_>, credential: Option<Credential>, acl: Option<&Acl>) -> Self {
        let hidden = acl.is_none_or(|acl| acl.hide_groups_header);
        Self {
            id: names.id,
            username: names.username.map(str::to_owned),
            custom_id: names.custom_id.map(str::to_owned),
            credential: credential.map(|credential| credential.id),
            groups: if hidden { String::new() } else { consumer.groups.iter().collect::<Vec<_>>().join(", ") },
        }
    }
}

/// Input of the headers on Kong's routes, next to the head.
#[derive(Debug, Clone, Copy)]
pub struct Bound<'a> {
    /// The `Host` to send.
    pub host: &'a str,
    /// The part of the path that was stripped.
    pub stripped: Option<&'a str>,
    /// The caller, on routes that authenticate.
    pub identity: Option<&'a Identity>,
    /// Headers that carried a credential and must not go on.
    pub hide: &'a [Box<str>],
}

/// The headers of a request on Kong's routes.
#[must_use]
pub fn kong(head: &Head, bound: Bound<'_>) -> HeaderMap<HeaderValue> {
    let mut out = HeaderMap::with_capacity(head.headers.size().0 + 12);
    put(&mut out, header::HOST, bound.host);
    let named = named_by_connection(head);
    let named = named.as_str();
    let mut forwarded_for = String::new();
    let mut via = String::new();
    for (name, value) in head.headers.iter() {
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
    if let Some(peer) = head.peer {
        let address = peer.ip().to_canonical().to_string();
        join(&mut forwarded_for, &address);
        put(&mut out, HeaderName::from_static("x-real-ip"), &address);
    }
    put(&mut out, HeaderName::from_static("x-forwarded-for"), &forwarded_for);
    put(&mut out, HeaderName::from_static("x-forwarded-proto"), if head.tls { "https" } else { "http" });
    let (host, port) = split_host(head.host(), head.tls);
    put(&mut out, HeaderName::from_static("x-forwarded-host"), host);
    put(&mut out, HeaderName::from_static("x-forwarded-port"), port);
    put(&mut out, HeaderName::from_static("x-forwarded-path"), &canonical::encode(&head.path));
    if let Some(stripped) = bound.stripped {
        put(&mut out, HeaderName::from_static("x-forwarded-prefix"), stripped);
    }
    put(&mut out, HeaderName::from_static("x-request-id"), &head.request_id);
    put(&mut out, HeaderName::from_static("x-kong-request-id"), &head.request_id);
    join(&mut via, VIA);
    put(&mut out, header::VIA, &via);
    put_passes(&mut out, head);
    if let Some(identity) = bound.identity {
        put_identity(&mut out, identity);
    }
    out
}

/// Counts this pass. A request that comes back has the count, whatever its caller sent.
fn put_passes(out: &mut HeaderMap<HeaderValue>, head: &Head) {
    out.insert(HeaderName::from_static(PASSES), HeaderValue::from(u16::from(head.passes) + 1));
}

fn put_identity(out: &mut HeaderMap<HeaderValue>, identity: &Identity) {
    put(
        out,
        HeaderName::from_static("x-consumer-id"),
        identity.id.hyphenated().encode_lower(&mut Uuid::encode_buffer()),
    );
    if let Some(username) = &identity.username {
        put(out, HeaderName::from_static("x-consumer-username"), username);
    }
    if let Some(custom_id) = &identity.custom_id {
        put(out, HeaderName::from_static("x-consumer-custom-id"), custom_id);
    }
    match &identity.credential {
        Some(credential) => {
            put(
                out,
                HeaderName::from_static("x-credential-identifier"),
                credential.hyphenated().encode_lower(&mut Uuid::encode_buffer()),
            );
        }
        None => put(out, HeaderName::from_static("x-anonymous-consumer"), "true"),
    }
    if !identity.groups.is_empty() {
        put(out, HeaderName::from_static("x-consumer-groups"), &identity.groups);
    }
}

/// The headers of a model's call without its target. The caller's key, address and cookies do not leave the gateway. The
/// answer comes uncompressed, because its usage is read. [`address`] adds the target.
#[must_use]
pub fn openai(head: &Head) -> HeaderMap<HeaderValue> {
    let mut out = HeaderMap::with_capacity(head.headers.size().0 + 6);
    let named = named_by_connection(head);
    for (name, value) in head.headers.iter() {
        let kept = !is_ours(name) && !is_callers(name) && !is_connections(name, &named);
        if kept && let (Ok(name), Ok(value)) = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
            out.append(name, value);
        }
    }
    out.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    // The body was read as JSON, even if the caller named another type.
    out.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    out.insert(header::VIA, HeaderValue::from_static(VIA));
    put_passes(&mut out, head);
    put(&mut out, HeaderName::from_static("x-request-id"), &head.request_id);
    out
}

/// Adds the target of a model's call, and its own headers in place of the caller's. Servers that read `_` and `-` as the same must not
/// find a caller's header next to the target's.
pub fn address(out: &mut HeaderMap<HeaderValue>, target: &ModelTarget) {
    put(out, header::HOST, &target.host);
    for (name, value) in &target.headers {
        if name.as_str().contains(['-', '_']) {
            let same = |other: &str| other.len() == name.as_str().len() && alike(other, name.as_str());
            let others: Vec<_> = out.keys().filter(|other| *other != name && same(other.as_str())).cloned().collect();
            for other in &others {
                out.remove(other);
            }
        }
        out.insert(name.clone(), value.clone());
    }
}

/// Whether two names are equal where `_` is `-`.
fn alike(one: &str, other: &str) -> bool {
    let dashed = |byte| if byte == b'_' { b'-' } else { byte };
    one.bytes().map(dashed).eq(other.bytes().map(dashed))
}

/// Headers that concern only the caller and the gateway.
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
            // The body is decoded before it is read, and goes on plain.
            | "content-encoding"
            | "baggage"
            // The account of the caller's key; the upstream's key belongs to another.
            | "openai-organization"
            | "openai-project"
    )
}

/// Sets a header unless its value is invalid. Names with other than visible ASCII are percent-encoded by the caller.
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

/// Headers that only the gateway may send upstream, that frame a message, or that belong to one connection.
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
        | "http2-settings"
        // Claims of the client about its address and its target: some servers believe them.
        | "forwarded"
        | "x-original-url"
        | "x-rewrite-url" => true,
        // Kong passes the claims of a token on in `X-Authenticated-*`.
        _ => ["x-consumer-", "x-credential-", "x-authenticated-", "x-aigw-", "x-forwarded-", "x-kong-"]
            .iter()
            .any(|prefix| name.starts_with(prefix)),
    }
}

/// The header names in the client's `Connection` headers, joined by commas.
fn named_by_connection(head: &Head) -> String {
    let mut named = String::new();
    for (_, value) in head.headers.iter().filter(|(name, _)| *name == "connection") {
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
