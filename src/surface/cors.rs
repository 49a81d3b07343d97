//! Pages of other origins: the answer to a browser's preflight, and the headers that let a page read an answer.
//!
//! In: the rules of a route or of `/v1` ([`Cors`]), and a head. Out: headers. A preflight needs no key and takes from no limit. Every
//! answer to a request that the rules cover has the headers, refusals too: a page could not tell a 429 from a lost network without
//! them. Without rules nothing here runs. The order of the decisions is Kong's (`kong/plugins/cors/handler.lua`).

use http::{HeaderMap, HeaderValue, Method, header};

use crate::forward::headers::join;
use crate::in_force::InForce;
use crate::request::{Head, Header, Surface};
use crate::settle::LogContext;
use crate::snapshot::Cors;
use crate::snapshot::cors::{Origins, origin_of};

/// The first part of the names of headers that OpenAI's own client adds to each request.
const STAINLESS: &str = "x-stainless-";

/// The rules for a request, if there are any.
pub fn of<'a>(in_force: &'a InForce, context: &LogContext, head: &Head) -> Option<&'a Cors> {
    match head.surface {
        Surface::OpenAi => in_force.policy().v1_cors.as_ref(),
        Surface::Kong => context.route(in_force).and_then(|route| in_force.policy().cors_of(route)),
    }
}

/// Adds the headers of a request's rules to an answer of the gateway's own.
pub fn append(in_force: &InForce, context: &LogContext, head: &Head, own: &mut Vec<Header>) {
    if let Some(cors) = of(in_force, context, head) {
        answer(cors, head, own);
    }
}

/// The same for an upstream's answer, whose own headers of this kind give way.
pub(super) fn append_to(cors: &Cors, head: &Head, headers: &mut HeaderMap<HeaderValue>, own: &mut Vec<Header>) {
    if is_preflight(head) && cors.preflight_continue {
        return;
    }
    let before = own.len();
    answer(cors, head, own);
    let added = own.get(before..).unwrap_or_default();
    if added.is_empty() {
        return;
    }
    headers.remove(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    for (name, _) in added.iter().filter(|(name, _)| name.starts_with("access-control-")) {
        headers.remove(*name);
    }
    let mut vary = String::new();
    for value in headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok()) {
        join(&mut vary, value);
    }
    if let Some((_, own)) = own.iter_mut().find(|(name, _)| *name == "vary")
        && !vary.is_empty()
    {
        join(&mut vary, own);
        *own = vary.into();
    }
}

/// The headers of the answer to a preflight; `None`: the request is not a preflight, or its upstream answers it.
pub(super) fn preflight(cors: &Cors, head: &Head) -> Option<Vec<Header>> {
    if !is_preflight(head) || cors.preflight_continue {
        return None;
    }
    let mut own = Vec::with_capacity(8);
    origin(cors, head, &mut own);
    let asked = head.headers.get("access-control-request-headers");
    if let Some(allowed) = allowed_headers(cors, asked) {
        own.push(("access-control-allow-headers", allowed.into()));
    }
    own.push(("access-control-allow-methods", cors.methods.to_string().into()));
    if let Some(seconds) = &cors.max_age {
        own.push(("access-control-max-age", seconds.to_string().into()));
    }
    if cors.private_network && head.headers.get("access-control-request-private-network") == Some("true") {
        own.push(("access-control-allow-private-network", "true".into()));
    }
    Some(own)
}

/// The request is a browser's question whether it may send another one.
fn is_preflight(head: &Head) -> bool {
    head.method == Method::OPTIONS
        && head.headers.get("origin").is_some_and(|origin| !origin.is_empty())
        && head.headers.get("access-control-request-method").is_some()
}

/// The headers that a page may send: those of the list and those that OpenAI's own client adds; without a list those it asks for.
fn allowed_headers(cors: &Cors, asked: Option<&str>) -> Option<String> {
    let Some(list) = &cors.headers else { return asked.map(str::to_owned) };
    let mut allowed = list.to_string();
    for name in asked.unwrap_or_default().split(',').map(str::trim) {
        if name.get(..STAINLESS.len()).is_some_and(|start| start.eq_ignore_ascii_case(STAINLESS)) {
            join(&mut allowed, name);
        }
    }
    Some(allowed)
}

/// The headers of an answer.
fn answer(cors: &Cors, head: &Head, own: &mut Vec<Header>) {
    let asked = head.headers.get("origin").is_some_and(|origin| !origin.is_empty());
    if !asked && !cors.origin_absent {
        return;
    }
    origin(cors, head, own);
    if !cors.exposed.is_empty() {
        own.push(("access-control-expose-headers", cors.exposed.to_string().into()));
    }
}

/// The headers that name the allowed page.
fn origin(cors: &Cors, head: &Head, own: &mut Vec<Header>) {
    const ORIGIN: &str = "access-control-allow-origin";
    let asked = head.headers.get("origin").filter(|origin| !origin.is_empty());
    let (allowed, varies) = match &cors.origins {
        // A browser takes no `*` for a request with cookies.
        Origins::Every if cors.credentials => (asked, true),
        Origins::Every => (Some("*"), false),
        Origins::One(one) => (Some(&**one), true),
        Origins::Any(rules) => {
            let asked = asked.map(origin_of);
            (asked.filter(|origin| rules.iter().any(|rule| rule.holds(origin))), true)
        }
    };
    if varies {
        own.push(("vary", "Origin".into()));
    }
    if let Some(allowed) = allowed {
        own.push((ORIGIN, allowed.to_owned().into()));
        if cors.credentials {
            own.push(("access-control-allow-credentials", "true".into()));
        }
    }
}
