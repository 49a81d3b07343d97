//! Targets of services, and the parts that all targets share, in the form that the upstream client needs.
//!
//! In: compiled entities of a policy. Out: an [`Origin`] (the key of a connection pool), the `Host` to send, the bounds of
//! one call.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::passive::TargetHealth;
use super::tls::{Pem, TlsSettings};
use crate::snapshot::{HashOn, Passive, Scheme, Service, ServiceTls, Target, Timeouts};

/// A call ends after this, whatever its service allows between two bytes: clients give up earlier.
const TOTAL: Duration = Duration::from_hours(1);
/// The bound of a connection to a model's upstream, unless the model sets another.
const MODEL_CONNECT: Duration = Duration::from_secs(10);
/// The bound of the head of a model's answer, unless tier or model set another: OpenAI's own clients wait as long.
const MODEL_FIRST_BYTE: Duration = Duration::from_mins(10);
/// The bound between two pieces of a model's answer, unless tier or model set another: of it, or a longer bound of the head. Some
/// servers send the head at once and read the prompt then.
const MODEL_BETWEEN: Duration = Duration::from_mins(2);

/// How long a client may leave bytes of a model's answer unread: an upstream whose answers come fast has a short bound between
/// pieces, which says nothing about its clients.
const MODEL_UNREAD: Duration = Duration::from_mins(2);

/// The address of an upstream: the key of its connection pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// TLS towards the upstream.
    pub tls: bool,
    /// Check the upstream's certificate; false only where the service sets `tls_verify: false`.
    pub verify: bool,
    /// Host name or address literal (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// The settings of TLS that differ from the usual ones; `None` for most.
    pub settings: Option<Arc<TlsSettings>>,
}

/// Each call looks its pool up, and hardly two origins differ in their other fields alone.
impl Hash for Origin {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.host.as_str(), self.port).hash(state);
    }
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
    /// Between two reads of the answer's body.
    pub between: Duration,
    /// How long a client may leave sent bytes unread.
    pub unread: Duration,
    /// For the whole call, all attempts together.
    pub total: Duration,
}

/// A service as requests need it.
#[derive(Debug)]
pub struct ServiceTarget {
    /// Its targets: one, or those of its upstream, which may have none.
    pub targets: Box<[RouteTarget]>,
    /// The parts of a request that choose its target.
    pub hash: Box<[HashOn]>,
    /// The target with the fewest calls for its weight goes first.
    pub least_connections: bool,
    /// When a target is out.
    pub passive: Passive,
    /// The bounds of a call.
    pub deadlines: Deadlines,
}

/// A server that a service's requests go to.
#[derive(Debug)]
pub struct RouteTarget {
    /// Its address.
    pub origin: Arc<Origin>,
    /// The `Host` to send.
    pub host: String,
    /// Share of requests.
    pub weight: u32,
    /// Facts from its answers and failures, which outlive a configuration.
    pub health: Arc<TargetHealth>,
    /// Calls of this worker that it serves now; outlives a configuration, too.
    pub calls: Arc<AtomicU32>,
}

/// A call at a target, counted until it is dropped.
#[derive(Debug)]
pub struct Busy(Arc<AtomicU32>);

impl Busy {
    /// One more call at the target.
    pub fn at(target: &RouteTarget) -> Self {
        target.calls.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&target.calls))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ServiceTarget {
    /// The targets of a service. `unseal` opens the key of its certificate; a service whose key cannot be opened has no targets.
    pub fn new(service: &Service, unseal: impl Fn(&str) -> Option<Vec<u8>>) -> Self {
        let verify = service.tls_verify.unwrap_or(true);
        let settings = service.tls.as_deref().map(|tls| Some(Arc::new(settings(tls, unseal)?)));
        let is_whole = settings != Some(None);
        let settings = settings.flatten();
        let target = |host: &str, port, weight| {
            let (origin, host) = origin(service.scheme, host, port, verify, settings.clone());
            RouteTarget { origin, host, weight, health: Arc::default(), calls: Arc::default() }
        };
        let least_connections = service.upstream.as_ref().is_some_and(|upstream| upstream.least_connections);
        let (targets, hash, passive) = match &service.upstream {
            _ if !is_whole => (Box::default(), Box::default(), Passive::default()),
            None => ([target(&service.host, service.port, 1)].into(), Box::default(), Passive::default()),
            Some(upstream) => {
                let of = |one: &Target| {
                    let made = target(&one.host, one.port, one.weight);
                    let host = upstream.host_header.as_deref().map_or(made.host, str::to_owned);
                    RouteTarget { host, ..made }
                };
                (upstream.targets.iter().map(of).collect(), upstream.hash.clone(), upstream.passive.clone())
            }
        };
        let read = Duration::from_millis(service.read_timeout_ms);
        let connect = Duration::from_millis(service.connect_timeout_ms);
        let write = Duration::from_millis(service.write_timeout_ms);
        let deadlines = Deadlines { connect, write, first_byte: read, between: read, unread: read, total: TOTAL };
        Self { targets, hash, least_connections, passive, deadlines }
    }
}

/// The settings of TLS; `None`: the key cannot be opened.
fn settings(tls: &ServiceTls, unseal: impl Fn(&str) -> Option<Vec<u8>>) -> Option<TlsSettings> {
    let pem = |text: Option<&str>| text.map_or_else(Pem::default, |text| text.as_bytes().into());
    let key = tls.key.as_deref().map_or(Some(Pem::default()), |sealed| Some(unseal(sealed)?.into()))?;
    Some(TlsSettings::new(pem(tls.ca.as_deref()), None, pem(tls.cert.as_deref()), key))
}

impl Deadlines {
    /// The bounds of a tier's calls of a model: of two, the shorter.
    pub fn of_model(tier: &Timeouts, model: &Timeouts) -> Self {
        let set = |one: Option<u64>, other: Option<u64>| one.into_iter().chain(other).min().map(Duration::from_millis);
        let first_byte = set(tier.first_byte_ms, model.first_byte_ms);
        let between = set(tier.between_ms, model.between_ms);
        let slow = first_byte.unwrap_or_default();
        let first_byte = first_byte.unwrap_or(MODEL_FIRST_BYTE);
        Self {
            // A bound of the wait for the head bounds the wait for the connection, too.
            connect: set(tier.connect_ms, model.connect_ms).unwrap_or(MODEL_CONNECT).min(first_byte),
            write: first_byte,
            first_byte,
            between: between.unwrap_or(MODEL_BETWEEN.max(slow)),
            unread: MODEL_UNREAD,
            total: set(tier.total_ms, model.total_ms).unwrap_or(TOTAL),
        }
    }
}

impl fmt::Display for Origin {
    /// Host and port, as a URL has them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// The origin of an address, and the `Host` to send it.
pub(super) fn origin(
    scheme: Scheme,
    host: &str,
    port: u16,
    verify: bool,
    settings: Option<Arc<TlsSettings>>,
) -> (Arc<Origin>, String) {
    let tls = scheme == Scheme::Https;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let shown = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    let usual = if tls { 443 } else { 80 };
    let host = if port == usual { shown } else { format!("{shown}:{port}") };
    (Arc::new(Origin { tls, verify, host: bare.to_owned(), port, settings }), host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_bounded_by_the_shorter_word_else_by_two_minutes_or_a_longer_head() {
        for (tier, model, [first_byte, between]) in [
            ([None, None], [None, None], [600, 120]),
            ([Some(300), None], [None, None], [300, 300]),
            ([Some(10), None], [None, None], [10, 120]),
            ([Some(300), Some(60)], [None, None], [300, 60]),
            ([None, Some(60)], [None, Some(600)], [600, 60]),
            ([None, None], [Some(200), Some(600)], [200, 600]),
        ] {
            let times = |[first_byte, between]: [Option<u64>; 2]| Timeouts {
                first_byte_ms: first_byte.map(|s| s * 1000),
                between_ms: between.map(|s| s * 1000),
                ..Timeouts::default()
            };
            let found = Deadlines::of_model(&times(tier), &times(model));
            assert_eq!([found.first_byte, found.between].map(|bound| bound.as_secs()), [first_byte, between]);
        }
    }
}
