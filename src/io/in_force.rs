//! The snapshot in force, with what requests want of it worked out once: where each service lives.
//!
//! In: a loaded snapshot. Out: an [`InForce`] that a request holds for as long as it needs it; no request sees half of two.

use crate::upstream::{Deadlines, Origin};
use aigw_core::snapshot::{LimitBy, Policy, Scheme, Service, Snapshot};
use std::sync::Arc;
use std::time::Duration;

/// No exchange lasts longer, whatever its service allows between two bytes.
const TOTAL: Duration = Duration::from_hours(1);

/// One generation, ready for requests.
#[derive(Debug, Clone)]
pub(crate) struct InForce {
    pub(crate) snapshot: Arc<Snapshot>,
    worked: Arc<WorkedOut>,
}

/// What a policy says, as requests want it; shared by all generations with that policy.
#[derive(Debug)]
pub(crate) struct WorkedOut {
    /// By index of the service.
    pub(crate) services: Vec<ServiceUse>,
}

/// A service as the upstream client wants it.
#[derive(Debug)]
pub(crate) struct ServiceUse {
    pub(crate) origin: Arc<Origin>,
    /// The `Host` to send.
    pub(crate) host: String,
    pub(crate) deadlines: Deadlines,
}

impl InForce {
    /// The empty gateway.
    pub(crate) fn empty() -> Self {
        let snapshot = Arc::new(Snapshot::empty());
        let worked = Arc::new(WorkedOut::new(&snapshot.policy));
        Self { snapshot, worked }
    }

    /// The next generation; only a new policy is worked out anew.
    pub(crate) fn next(&self, snapshot: Arc<Snapshot>) -> Self {
        let same = Arc::ptr_eq(&self.snapshot.policy, &snapshot.policy);
        let worked = if same { Arc::clone(&self.worked) } else { Arc::new(WorkedOut::new(&snapshot.policy)) };
        Self { snapshot, worked }
    }
}

impl std::ops::Deref for InForce {
    type Target = WorkedOut;

    fn deref(&self) -> &WorkedOut {
        &self.worked
    }
}

impl WorkedOut {
    fn new(policy: &Policy) -> Self {
        Self { services: policy.services.iter().map(ServiceUse::new).collect() }
    }
}

impl ServiceUse {
    fn new(service: &Service) -> Self {
        let tls = service.scheme == Scheme::Https;
        let bare = service.host.trim_start_matches('[').trim_end_matches(']');
        let shown = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
        let usual = if tls { 443 } else { 80 };
        let host = if service.port == usual { shown } else { format!("{shown}:{}", service.port) };
        let read = Duration::from_millis(service.read_timeout_ms);
        Self {
            origin: Arc::new(Origin {
                tls,
                verify: service.tls_verify.unwrap_or(true),
                host: bare.to_owned(),
                port: service.port,
            }),
            host,
            deadlines: Deadlines {
                connect: Duration::from_millis(service.connect_timeout_ms),
                first_byte: read,
                between: read,
                total: TOTAL,
            },
        }
    }
}

/// Whose counter a limit uses, for one request.
pub(crate) enum Whose<'a> {
    /// A row of the dense column.
    Row(u32),
    /// A text in the hash area.
    Text(std::borrow::Cow<'a, [u8]>),
}

/// The identifier of a request under a profile: Kong's, with the client's address where it has none.
pub(crate) fn whose<'a>(
    by: &LimitBy,
    consumer: Option<u32>,
    credential: Option<u32>,
    header: impl Fn(&str) -> Option<&'a str>,
    path: &'a str,
    address: &'a [u8],
) -> Whose<'a> {
    let text = |text: &'a [u8]| Whose::Text(std::borrow::Cow::Borrowed(text));
    match by {
        LimitBy::Service => Whose::Row(0),
        LimitBy::Consumer => consumer.map_or_else(|| text(address), Whose::Row),
        LimitBy::Credential => credential.map_or_else(|| text(address), Whose::Row),
        LimitBy::Ip => text(address),
        LimitBy::Header(name) => text(header(name).map_or(address, str::as_bytes)),
        LimitBy::Path(only) => text(if path == &**only { path.as_bytes() } else { address }),
    }
}
