//! The rules that let pages of other origins call the gateway, compiled: the plugin `cors` of a route, and `v1.cors`.
//!
//! In: the wire form. Out: a [`Cors`] whose lists are the texts of the headers already. `surface::cors` decides by it.

use regex::Regex;

use super::checks::value;
use super::wire;
use crate::r#match::regex;
use crate::snapshot::error::{Part, SnapshotError};

/// The pages that may read answers, and the headers that they may send.
#[derive(Debug, Clone)]
#[allow(clippy::struct_excessive_bools)] // Kong's own fields
pub struct Cors {
    /// The pages.
    pub origins: Origins,
    /// `Access-Control-Allow-Methods`.
    pub methods: Box<str>,
    /// `Access-Control-Allow-Headers`; `None`: the ones that are asked for.
    pub headers: Option<Box<str>>,
    /// `Access-Control-Expose-Headers`; empty: without it.
    pub exposed: Box<str>,
    /// `Access-Control-Max-Age`.
    pub max_age: Option<Box<str>>,
    /// Pages may send cookies. Never together with `*`.
    pub credentials: bool,
    /// Preflights go to the upstream.
    pub preflight_continue: bool,
    /// Pages of public sites may call a private address.
    pub private_network: bool,
    /// Answers to requests without an `Origin` have the headers, too.
    pub origin_absent: bool,
}

/// The pages whose origin is allowed.
#[derive(Debug, Clone)]
pub enum Origins {
    /// Every page.
    Every,
    /// This origin, which every answer names.
    One(Box<str>),
    /// Those that one of the rules matches; an answer names the one that asked.
    Any(Box<[OriginRule]>),
}

/// One rule of a list of origins.
#[derive(Debug, Clone)]
pub enum OriginRule {
    /// This origin.
    Is(Box<str>),
    /// Origins that match the whole expression.
    Matches(Regex),
    /// Origins whose host matches the whole expression.
    HostMatches(Regex),
}

impl Cors {
    pub(super) fn compile(at: Part, from: wire::Cors) -> Result<Self, SnapshotError> {
        let wire::Cors {
            origins,
            always,
            methods,
            headers,
            exposed,
            max_age,
            credentials,
            preflight_continue,
            private_network,
            origin_absent,
        } = from;
        let texts = [&methods, &exposed].into_iter().chain(&headers).chain(&always);
        if texts.into_iter().any(|text| !text.bytes().all(|byte| (b' '..0x7f).contains(&byte))) {
            return Err(value(at, "the texts of headers must be printable ASCII"));
        }
        let origins = match (origins, always) {
            (_, Some(one)) => Origins::One(one.into()),
            (None, None) => Origins::Every,
            (Some(rules), None) => {
                Origins::Any(rules.into_iter().map(|rule| origin(at, rule)).collect::<Result<_, _>>()?)
            }
        };
        Ok(Self {
            origins,
            methods: methods.into(),
            headers: headers.map(Into::into),
            exposed: exposed.into(),
            max_age: max_age.map(|seconds| seconds.to_string().into()),
            credentials,
            preflight_continue,
            private_network,
            origin_absent,
        })
    }
}

fn origin(at: Part, from: wire::OriginRule) -> Result<OriginRule, SnapshotError> {
    let built = |text: &str| regex("^(?:", text, ")$").map_err(|source| SnapshotError::Rule { at, source });
    Ok(match from {
        wire::OriginRule::Is(text) => OriginRule::Is(text.into()),
        wire::OriginRule::Matches(text) => OriginRule::Matches(built(&text)?),
        wire::OriginRule::HostMatches(text) => OriginRule::HostMatches(built(&text)?),
    })
}

impl OriginRule {
    /// Whether this origin, as [`origin_of`] writes it, is allowed.
    pub fn holds(&self, origin: &str) -> bool {
        match self {
            Self::Is(text) => **text == *origin,
            Self::Matches(expression) => expression.is_match(origin),
            Self::HostMatches(expression) => expression.is_match(host_of(origin)),
        }
    }
}

/// An origin without the port that its scheme has by default, as Kong compares it.
pub fn origin_of(text: &str) -> &str {
    let default = |scheme: &str, port: &str| text.starts_with(scheme).then(|| text.strip_suffix(port)).flatten();
    default("http://", ":80").or_else(|| default("https://", ":443")).unwrap_or(text)
}

fn host_of(origin: &str) -> &str {
    let authority = origin.split_once("://").map_or(origin, |(_, rest)| rest);
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    }
}
