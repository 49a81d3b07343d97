//! Targets of models: everything that differs between the servers that run one.
//!
//! In: compiled upstreams, and a way to open sealed values. Out: for each an [`Origin`], the parts of its URL, the headers that it
//! gets. A target whose secrets cannot be opened is left out.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::learned::Learned;
use super::target::{Origin, origin};
use super::tls::{Pem, TlsSettings};
use crate::r#match::canonical;
use crate::snapshot::{Model, ModelUpstream, Pair, UpstreamTls};

/// Bytes of a query's name or value that are encoded: all but the unreserved ones (RFC 3986 s.2.3).
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// One target of a model.
#[derive(Debug)]
pub struct ModelTarget {
    /// Index among the model's upstreams, those counted whose secrets cannot be opened.
    pub at: usize,
    /// Its address.
    pub origin: Arc<Origin>,
    /// The `Host` to send.
    pub host: String,
    /// Base path without a final slash; may be empty. The endpoint's path is appended.
    pub path: Box<str>,
    /// The query of every call.
    pub query: TargetQuery,
    /// The model's name there.
    pub model: Box<str>,
    /// Share of calls; a target with 0 comes after all others.
    pub weight: u32,
    /// The headers of every call, the key's included; secrets are marked as sensitive.
    pub headers: Box<[(HeaderName, HeaderValue)]>,
    /// Facts from its answers.
    pub learned: Arc<Learned>,
}

/// The query that a target gets with every call.
#[derive(Default)]
pub struct TargetQuery {
    /// Encoded, without its `?`; may be empty, may hold secrets.
    pub text: Box<str>,
    /// Its names, decoded: a caller's arguments of these names are dropped.
    pub names: Box<[Box<[u8]>]>,
}

impl std::fmt::Debug for TargetQuery {
    /// Without values.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.names.iter().map(|name| String::from_utf8_lossy(name)).collect();
        write!(f, "TargetQuery({})", names.join(", "))
    }
}

type Unseal<'a> = &'a dyn Fn(&str) -> Option<Vec<u8>>;

impl ModelTarget {
    /// The targets of a model. `unseal` opens a sealed value; a target with one that cannot be opened is left out.
    pub fn all(model: &Model, unseal: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Self> {
        model.upstreams.iter().enumerate().filter_map(|(at, upstream)| Self::new(at, upstream, &unseal)).collect()
    }

    fn new(at: usize, upstream: &ModelUpstream, unseal: Unseal<'_>) -> Option<Self> {
        let settings = settings(&upstream.tls, unseal)?;
        let settings = (!settings.are_usual()).then(|| Arc::new(settings));
        let (origin, host) = origin(upstream.scheme, &upstream.host, upstream.port, upstream.tls.verify, settings);
        Some(Self {
            at,
            origin,
            host,
            path: upstream.path.clone(),
            query: query(&upstream.base_query, &upstream.query, unseal)?,
            model: upstream.model.clone(),
            weight: upstream.weight,
            headers: headers(upstream, unseal)?,
            learned: Arc::default(),
        })
    }

    /// Its address and model: targets that have the same are one.
    pub fn place(&self) -> (Arc<Origin>, Box<str>, Box<str>, Box<str>) {
        (Arc::clone(&self.origin), self.path.clone(), self.query.text.clone(), self.model.clone())
    }
}

/// The value of a pair.
fn open(pair: &Pair, unseal: Unseal<'_>) -> Option<Vec<u8>> {
    if pair.sealed { unseal(&pair.value) } else { Some(pair.value.as_bytes().to_vec()) }
}

fn headers(upstream: &ModelUpstream, unseal: Unseal<'_>) -> Option<Box<[(HeaderName, HeaderValue)]>> {
    let mut found = Vec::with_capacity(upstream.headers.len() + 1);
    for pair in &upstream.headers {
        found.push(header(&pair.name, &open(pair, unseal)?, pair.sealed)?);
    }
    if let Some(sealed) = &upstream.api_key {
        let mut value = upstream.auth_scheme.as_bytes().to_vec();
        if !value.is_empty() {
            value.push(b' ');
        }
        value.extend(unseal(sealed)?);
        found.push(header(&upstream.auth_header, &value, true)?);
    }
    Some(found.into())
}

fn header(name: &str, value: &[u8], sensitive: bool) -> Option<(HeaderName, HeaderValue)> {
    let mut value = HeaderValue::from_bytes(value).ok()?;
    value.set_sensitive(sensitive);
    Some((HeaderName::from_bytes(name.as_bytes()).ok()?, value))
}

fn query(base: &str, more: &[Pair], unseal: Unseal<'_>) -> Option<TargetQuery> {
    let mut names: Vec<Box<[u8]>> = Vec::new();
    for pair in base.split('&').filter(|pair| !pair.is_empty()) {
        names.push(canonical::decode_argument(pair.split('=').next().unwrap_or(pair)).into_owned().into());
    }
    let mut text = base.to_owned();
    for pair in more {
        let value = String::from_utf8(open(pair, unseal)?).ok()?;
        if !text.is_empty() {
            text.push('&');
        }
        text.extend(utf8_percent_encode(&pair.name, ENCODED));
        text.push('=');
        text.extend(utf8_percent_encode(&value, ENCODED));
        names.push(pair.name.as_bytes().into());
    }
    Some(TargetQuery { text: text.into(), names: names.into() })
}

/// The settings of TLS; `None`: a secret cannot be opened.
fn settings(tls: &UpstreamTls, unseal: Unseal<'_>) -> Option<TlsSettings> {
    let open = |sealed: Option<&str>| sealed.map_or(Some(Pem::default()), |sealed| Some(unseal(sealed)?.into()));
    let (ca, cert, key) = (tls.ca.as_deref(), tls.cert.as_deref(), tls.key.as_deref());
    Some(TlsSettings::new(open(ca)?, tls.server_name.clone(), open(cert)?, open(key)?))
}
