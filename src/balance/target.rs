//! Targets: the addresses of services and models, in the form that the upstream client needs.
//!
//! In: compiled entities of a policy. Out: an [`Origin`] (the key of a connection pool), the `Host` to send, the bounds of
//! one call.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;

use crate::snapshot::{Model, Scheme, Service, Tier};

/// A call ends after this, whatever its service allows between two bytes: clients give up earlier.
const TOTAL: Duration = Duration::from_hours(1);
/// The bound of a connection to a model's upstream.
const MODEL_CONNECT: Duration = Duration::from_secs(10);
/// The bound of the head of a model's answer, unless the tier sets another: OpenAI's own clients wait as long.
const MODEL_FIRST_BYTE: Duration = Duration::from_mins(10);
/// The bound between two pieces of a model's answer.
const MODEL_BETWEEN: Duration = Duration::from_mins(2);

/// The address of an upstream: the key of its connection pool.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// TLS towards the upstream.
    pub tls: bool,
    /// Check the upstream's certificate; false only where the service sets `tls_verify: false`.
    pub verify: bool,
    /// Host name or address literal (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The bounds of one call; a bound that passes before the answer's head is answered with 504.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlines {
    /// To a connected (and, with TLS, greeted) socket.
    pub connect: Duration,
    /// Between two pieces of a large body that the upstream takes.
    pub write: Duration,
    /// From the end of the request, of a large body its last piece, to the answer's head.
    pub first_byte: Duration,
    /// Between two reads of the answer's body; also how long a client may leave sent bytes unread.
    pub between: Duration,
    /// For the whole call, all attempts together.
    pub total: Duration,
}

/// The target of a service.
#[derive(Debug)]
pub struct ServiceTarget {
    /// Its address.
    pub origin: Arc<Origin>,
    /// The `Host` to send.
    pub host: String,
    /// The bounds of a call.
    pub deadlines: Deadlines,
}

/// One target of a model.
#[derive(Debug)]
pub struct ModelTarget {
    /// Its address.
    pub origin: Arc<Origin>,
    /// The `Host` to send.
    pub host: String,
    /// Base path; the endpoint's path is appended.
    pub path: Box<str>,
    /// The model's name there.
    pub model: Box<str>,
    /// Share of calls; a target with 0 comes after all others.
    pub weight: u32,
    /// `Authorization`, marked as sensitive.
    pub authorization: Option<HeaderValue>,
}

impl ServiceTarget {
    /// The target of a service.
    pub fn new(service: &Service) -> Self {
        let (origin, host) = origin(service.scheme, &service.host, service.port, service.tls_verify.unwrap_or(true));
        let read = Duration::from_millis(service.read_timeout_ms);
        let connect = Duration::from_millis(service.connect_timeout_ms);
        let write = Duration::from_millis(service.write_timeout_ms);
        Self { origin, host, deadlines: Deadlines { connect, write, first_byte: read, between: read, total: TOTAL } }
    }
}

impl ModelTarget {
    /// The targets of a model. `unseal` opens the sealed key of one; a key that cannot be opened leaves its target out.
    pub fn all(model: &Model, unseal: impl Fn(&str) -> Option<Vec<u8>>) -> Vec<Self> {
        let targets = model.upstreams.iter().filter_map(|upstream| {
            let authorization = match &upstream.api_key {
                None => None,
                Some(sealed) => {
                    let mut value = b"Bearer ".to_vec();
                    value.extend(unseal(sealed)?);
                    let mut value = HeaderValue::from_bytes(&value).ok()?;
                    value.set_sensitive(true);
                    Some(value)
                }
            };
            let (origin, host) = origin(upstream.scheme, &upstream.host, upstream.port, upstream.tls_verify);
            let (path, model) = (upstream.path.clone(), upstream.model.clone());
            Some(Self { origin, host, path, model, weight: upstream.weight, authorization })
        });
        targets.collect()
    }
}

impl Deadlines {
    /// The bounds of a tier's calls of models.
    pub fn of_tier(tier: &Tier) -> Self {
        let of = |ms: Option<u64>, otherwise| ms.map_or(otherwise, Duration::from_millis);
        let first_byte = of(tier.first_byte_ms, MODEL_FIRST_BYTE);
        Self {
            // A tier that bounds the wait for the head bounds the wait for the connection, too.
            connect: MODEL_CONNECT.min(first_byte),
            write: first_byte,
            first_byte,
            between: MODEL_BETWEEN,
            total: of(tier.total_ms, TOTAL),
        }
    }
}

/// The origin of an address, and the `Host` to send it.
fn origin(scheme: Scheme, host: &str, port: u16, verify: bool) -> (Arc<Origin>, String) {
    let tls = scheme == Scheme::Https;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let shown = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    let usual = if tls { 443 } else { 80 };
    let host = if port == usual { shown } else { format!("{shown}:{port}") };
    (Arc::new(Origin { tls, verify, host: bare.to_owned(), port }), host)
}
