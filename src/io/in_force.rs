//! The snapshot in force, with what requests want of it worked out once: where services and models live, what tiers see.
//!
//! In: a loaded snapshot. Out: an [`InForce`] that a request holds for as long as it needs it; no request sees half of two.

use crate::secret::Sealer;
use crate::upstream::{Deadlines, Origin};
use aigw_core::admit::gate;
use aigw_core::snapshot::{LimitBy, Model, Offer, Policy, Scheme, Service, Snapshot, Tier};
use bytes::Bytes;
use http::HeaderValue;
use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

/// No exchange lasts longer, whatever its service allows between two bytes.
const TOTAL: Duration = Duration::from_hours(1);
/// To a connected upstream of a model.
const MODEL_CONNECT: Duration = Duration::from_secs(10);
/// To the head of a model's answer, unless the tier says otherwise: as long as OpenAI's own clients wait.
const MODEL_FIRST_BYTE: Duration = Duration::from_mins(10);
/// Between two pieces of a model's answer.
const MODEL_BETWEEN: Duration = Duration::from_mins(2);

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
    /// By index of the model.
    pub(crate) models: Vec<ModelUse>,
    /// By index of the tier.
    pub(crate) tiers: Vec<TierUse>,
}

/// A service as the upstream client wants it.
#[derive(Debug)]
pub(crate) struct ServiceUse {
    pub(crate) origin: Arc<Origin>,
    /// The `Host` to send.
    pub(crate) host: String,
    pub(crate) deadlines: Deadlines,
}

/// A model as the upstream client wants it.
#[derive(Debug)]
pub(crate) struct ModelUse {
    /// Those that can be called: a key that cannot be read leaves its upstream out.
    pub(crate) upstreams: Vec<UpstreamUse>,
    /// The model as `GET /v1/models/{id}` shows it.
    pub(crate) shown: Bytes,
}

/// One upstream of a model.
#[derive(Debug)]
pub(crate) struct UpstreamUse {
    pub(crate) origin: Arc<Origin>,
    pub(crate) host: String,
    pub(crate) path: Box<str>,
    pub(crate) model: Box<str>,
    pub(crate) weight: u32,
    /// `Authorization`, marked as not to be shown.
    pub(crate) authorization: Option<HeaderValue>,
}

/// A tier as requests want it.
#[derive(Debug)]
pub(crate) struct TierUse {
    pub(crate) deadlines: Deadlines,
    /// The body of `GET /v1/models`.
    pub(crate) models: Bytes,
}

impl InForce {
    /// The empty gateway.
    pub(crate) fn empty(sealer: &Sealer) -> Self {
        let snapshot = Arc::new(Snapshot::empty());
        let worked = Arc::new(WorkedOut::new(&snapshot.policy, sealer));
        Self { snapshot, worked }
    }

    /// The next generation; only a new policy is worked out anew.
    pub(crate) fn next(&self, snapshot: Arc<Snapshot>, sealer: &Sealer) -> Self {
        let same = Arc::ptr_eq(&self.snapshot.policy, &snapshot.policy);
        let worked = if same { Arc::clone(&self.worked) } else { Arc::new(WorkedOut::new(&snapshot.policy, sealer)) };
        Self { snapshot, worked }
    }

    /// Tiers and models.
    pub(crate) fn offer(&self) -> &Offer {
        &self.snapshot.policy.offer
    }
}

impl std::ops::Deref for InForce {
    type Target = WorkedOut;

    fn deref(&self) -> &WorkedOut {
        &self.worked
    }
}

impl WorkedOut {
    fn new(policy: &Policy, sealer: &Sealer) -> Self {
        let offer = &policy.offer;
        Self {
            services: policy.services.iter().map(ServiceUse::new).collect(),
            models: offer.models.iter().map(|model| ModelUse::new(model, sealer)).collect(),
            tiers: offer.tiers.iter().map(|tier| TierUse::new(tier, &offer.models)).collect(),
        }
    }
}

impl ServiceUse {
    fn new(service: &Service) -> Self {
        let (origin, host) = place(service.scheme, &service.host, service.port, service.tls_verify.unwrap_or(true));
        let read = Duration::from_millis(service.read_timeout_ms);
        let connect = Duration::from_millis(service.connect_timeout_ms);
        let write = Duration::from_millis(service.write_timeout_ms);
        Self { origin, host, deadlines: Deadlines { connect, write, first_byte: read, between: read, total: TOTAL } }
    }
}

/// The origin of an address, and the `Host` to send it.
fn place(scheme: Scheme, host: &str, port: u16, verify: bool) -> (Arc<Origin>, String) {
    let tls = scheme == Scheme::Https;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let shown = if bare.contains(':') { format!("[{bare}]") } else { bare.to_owned() };
    let usual = if tls { 443 } else { 80 };
    let host = if port == usual { shown } else { format!("{shown}:{port}") };
    (Arc::new(Origin { tls, verify, host: bare.to_owned(), port }), host)
}

impl ModelUse {
    fn new(model: &Model, sealer: &Sealer) -> Self {
        let upstreams = model.upstreams.iter().filter_map(|upstream| {
            let authorization = match &upstream.api_key {
                None => None,
                Some(sealed) => {
                    let mut value = b"Bearer ".to_vec();
                    value.extend(sealer.open(sealed)?);
                    let mut value = HeaderValue::from_bytes(&value).ok()?;
                    value.set_sensitive(true);
                    Some(value)
                }
            };
            let (origin, host) = place(upstream.scheme, &upstream.host, upstream.port, upstream.tls_verify);
            let (path, model) = (upstream.path.clone(), upstream.model.clone());
            Some(UpstreamUse { origin, host, path, model, weight: upstream.weight, authorization })
        });
        Self { upstreams: upstreams.collect(), shown: json(&shown(model)) }
    }
}

impl TierUse {
    fn new(tier: &Tier, models: &[Model]) -> Self {
        let of = |ms: Option<u64>, otherwise| ms.map_or(otherwise, Duration::from_millis);
        let total = of(tier.total_ms, TOTAL);
        let first_byte = of(tier.first_byte_ms, MODEL_FIRST_BYTE);
        let deadlines = Deadlines {
            // Who waits so long for an answer's head waits no longer for the place that it comes from.
            connect: MODEL_CONNECT.min(first_byte),
            write: first_byte,
            first_byte,
            between: MODEL_BETWEEN,
            total,
        };
        let allowed: Vec<_> = models.iter().filter(|model| gate::model(tier, model).is_ok()).map(shown).collect();
        Self { deadlines, models: json(&serde_json::json!({"object": "list", "data": allowed})) }
    }
}

/// A model as OpenAI's clients expect it.
fn shown(model: &Model) -> serde_json::Value {
    serde_json::json!({"id": &*model.name, "object": "model", "created": model.created_at, "owned_by": "aigw"})
}

fn json(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}

/// Whose counter a limit uses, for one request.
pub(crate) enum Whose<'a> {
    /// A row of the dense column.
    Row(u32),
    /// A text in the hash area.
    Text(Cow<'a, [u8]>),
}

/// The identifier of a request under a profile: Kong's, with the client's address where it has none.
pub(crate) fn whose<'a>(
    by: &LimitBy,
    consumer: Option<u32>,
    credential: Option<u32>,
    header: impl Fn(&str) -> Option<&'a str>,
    path: &'a str,
    address: impl Fn() -> String,
) -> Whose<'a> {
    let at_address = || Whose::Text(Cow::Owned(address().into_bytes()));
    let of = |text: Option<&'a str>| text.map_or_else(at_address, |text| Whose::Text(Cow::Borrowed(text.as_bytes())));
    match by {
        LimitBy::Service => Whose::Row(0),
        LimitBy::Consumer => consumer.map_or_else(at_address, Whose::Row),
        LimitBy::Credential => credential.map_or_else(at_address, Whose::Row),
        LimitBy::Ip => at_address(),
        LimitBy::Header(name) => of(header(name)),
        LimitBy::Path(only) => of((path == &**only).then_some(path)),
    }
}
