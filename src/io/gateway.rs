//! The stages of a request in their order, over one worker's files: match, identify, admit; and at its end settle, record.
//!
//! In: an arrival, then its body, then how its upstream call went. Out: a refusal, or a call with everything it holds.
//! Two phases: the head decides who and where and peeks at the limits, taking nothing; the body's end takes all or
//! nothing. Every refusal is an answer in Kong's form, counted and logged here; it never touches a counter of a limit.

use crate::accept::{Answer, Arrival, BodyLength};
use crate::access_log::AccessLog;
use crate::cells::{SlotState, Worker};
use crate::clock::SystemClock;
use crate::forward::{self, Bound, Identity, VIA};
use crate::in_force::{InForce, Whose, whose};
use crate::record::{Ending, Recorder};
use crate::snapshot::SnapshotReader;
use crate::upstream::{Call, Failure};
use aigw_core::admit::{Admitter, Check, Permit, Refusal};
use aigw_core::cells::CellKey;
use aigw_core::clock::Clock;
use aigw_core::denial::{Extra, Reason, Refused};
use aigw_core::denial_body::{Form, render};
use aigw_core::identify::{KeyHasher, Request, hidden_query, identify};
use aigw_core::limits::headers::rate_limit;
use aigw_core::r#match::upstream_path::upstream_path;
use aigw_core::r#match::{Authority, CanonicalPath, Query};
use aigw_core::snapshot::{Limit, Profile, Refs, Route, Service, UuidText, plan};
use aigw_core::telemetry::{Counter, Source};
use aigw_core::units::RequestId;
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use crate::record::Outcome;

/// Streams and other answers larger than this are cut: a runaway answer is a cost (16 GiB).
const MAX_ANSWER: u64 = 16 << 30;
/// What a client that finds the gateway full is told to wait, in seconds.
const RETRY_AFTER_S: u32 = 1;
/// `Server` of the gateway's own answers.
const SERVER: &str = concat!("aigw/", env!("CARGO_PKG_VERSION"));

/// A header of the gateway's own: lower-case name, value.
pub type OwnHeader = (&'static str, Cow<'static, str>);

/// A request that its head let through: where it goes and what it will take.
pub struct Passage {
    in_force: Arc<InForce>,
    route: usize,
    /// Bytes of the path that the route covered.
    covered: usize,
    identity: Option<Identity>,
    checks: Vec<Check>,
    /// The profile the checks come from.
    profile: Option<u32>,
}

/// An admitted request: what it holds, and what its end needs.
pub struct Admitted {
    in_force: Arc<InForce>,
    route: usize,
    identity: Option<Identity>,
    permit: Option<Permit<Worker>>,
    headers: Vec<OwnHeader>,
    ingress: u64,
    sent: bool,
    sent_after: Option<Duration>,
    arrived: std::time::Instant,
}

impl Admitted {
    /// The first byte goes upstream now.
    pub fn sending(&mut self) {
        if self.sent {
            return;
        }
        self.sent = true;
        self.sent_after = Some(self.arrived.elapsed());
        if let Some(permit) = &mut self.permit {
            permit.mark_sent();
        }
    }

    fn route(&self) -> Option<&Route> {
        self.in_force.snapshot.policy.routes.get(self.route)
    }
}

/// The decisions of one worker.
pub struct Gateway {
    in_force: ArcSwap<InForce>,
    reader: SnapshotReader,
    hasher: KeyHasher,
    cells: Arc<Worker>,
    admitter: Admitter<Worker>,
    recorder: Recorder,
    clock: SystemClock,
    ids: Ids,
    draining: AtomicBool,
}

impl Gateway {
    /// Take a slot of the data folder. `NotFound` before a control process has prepared it, `InvalidData` when what is
    /// there is another version's.
    pub fn open(data: &Path, access_log: &str) -> std::io::Result<Self> {
        let reader = SnapshotReader::open(data)?;
        let cells = Arc::new(Worker::open(&data.join("cells"), reader.store())?);
        let recorder = Recorder::new(Arc::clone(&cells), AccessLog::open(access_log)?);
        Ok(Self {
            in_force: ArcSwap::from_pointee(InForce::empty()),
            hasher: KeyHasher::new(&crate::secret::load(data)?),
            reader,
            admitter: Admitter::new(Arc::clone(&cells)),
            cells,
            recorder,
            clock: SystemClock::new(),
            ids: Ids::new()?,
            draining: AtomicBool::new(false),
        })
    }

    /// Load what was published last. True when a published configuration is in force, else the reason why not, if it is
    /// more than that nothing was published yet.
    pub fn refresh(&self) -> Result<bool, String> {
        let generation = self.current().snapshot.generation;
        if generation != 0 { Ok(true) } else { self.reader.error().map_or(Ok(false), Err) }
    }

    /// What is in force now. A generation that cannot be loaded leaves the one before; `/status` shows the worker behind.
    fn current(&self) -> Arc<InForce> {
        let snapshot = self.reader.current();
        let held = self.in_force.load();
        if Arc::ptr_eq(&held.snapshot, &snapshot) {
            return Arc::clone(&held);
        }
        let next = Arc::new(held.next(snapshot));
        self.recorder.count(Counter::SnapshotLoaded, 1);
        self.cells.status().set_generation(next.snapshot.generation);
        self.in_force.store(Arc::clone(&next));
        next
    }

    /// The recorder, for what happens outside the stages.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Count what happened beside the requests.
    pub fn beat(&self) {
        self.recorder.count_dropped();
        let failures = self.reader.take_failures();
        if failures > 0 {
            self.recorder.count(Counter::SnapshotFailed, failures);
        }
    }

    /// A new request id: 32 hex digits, unique over workers and restarts.
    pub fn request_id(&self) -> String {
        self.ids.next()
    }

    /// The head's decision: who, where, and whether there is anything left.
    pub fn on_head(&self, arrival: &mut Arrival) -> Result<Box<Passage>, Answer> {
        let in_force = self.current();
        if let Err(denial) = arrival.check() {
            return Err(self.refuse(arrival, &denial.into(), &Place::default(), Vec::new()));
        }
        self.pass(&in_force, arrival)
            .map_err(|(refused, place, headers)| self.refuse(arrival, &refused, &place, headers))
    }

    fn pass(&self, in_force: &Arc<InForce>, arrival: &Arrival) -> Result<Box<Passage>, Turned> {
        let nowhere = |denial: Reason| (denial.into(), Place::default(), Vec::new());
        let path = CanonicalPath::new(&arrival.path).map_err(|_| nowhere(Reason::BadPath))?;
        let authority = match arrival.host() {
            "" => Authority { host: Cow::Borrowed(""), port: None },
            host => Authority::parse(host).ok_or_else(|| nowhere(Reason::BadHost))?,
        };
        let headers: Vec<(&str, &str)> = arrival.headers.iter().collect();
        let method = arrival.method.as_str();
        let policy = &in_force.snapshot.policy;
        let query = Query { method, authority: &authority, tls: arrival.tls, path, headers: &headers };
        let matched = policy.router.find(&query).ok_or_else(|| nowhere(Reason::NoRoute))?;
        let Some(route) = policy.routes.get(matched.route) else { return Err(nowhere(Reason::Internal)) };
        let mut place = Place::of(in_force, matched.route);
        if !route.allow_http && !arrival.tls {
            return Err((Reason::HttpsRequired.into(), place, upgrade(route, arrival)));
        }
        if policy.service_of(route).is_none() {
            return Err((Reason::NoService.into(), place, Vec::new()));
        }
        let now = self.clock.now();
        let mut identity = None;
        let mut caller = aigw_core::identify::Caller::NOBODY;
        if let Some(auth) = policy.key_auth_of(route) {
            let request = Request { method, headers: &headers, query: &arrival.query };
            caller = identify(auth, &self.hasher, &in_force.snapshot.keys, &request, u64::from(now.0)).map_err(
                |refused| {
                    let challenge = (refused.reason.row().extra == Extra::Challenge)
                        .then(|| ("www-authenticate", auth.challenge.to_string().into()));
                    (refused, place.clone(), challenge.into_iter().collect())
                },
            )?;
            identity = caller.consumer.map(|consumer| Identity {
                id: consumer.id.to_string(),
                username: consumer.username.map(str::to_owned),
                custom_id: consumer.custom_id.map(str::to_owned),
                credential: caller.credential.map(|credential| credential.id.to_string()),
            });
            place.consumer = identity.as_ref().map(|identity| identity.id.clone());
        }
        let refs = caller.consumer.map_or(Refs::empty(), |consumer| consumer.refs);
        let planned = plan::rate_limiting(policy, route, refs)
            .map_err(|_| (Reason::Internal.into(), place.clone(), Vec::new()))?;
        let (mut checks, mut chosen) = (Vec::new(), None);
        if let Some((index, profile)) = planned {
            let consumer = caller.consumer.map(|consumer| consumer.n);
            let credential = caller.credential.map(|credential| credential.n);
            checks = self.checks(profile, arrival, consumer, credential);
            chosen = Some(index);
            // A body may take long to arrive: what is exhausted now is refused before it is read. Without a body the
            // taking follows at once and looks for itself.
            if arrival.length != BodyLength::None
                && let Err(refusal) = self.admitter.peek(&mut checks, now)
            {
                let (refused, headers) = self.turned(refusal, profile, &checks);
                return Err((refused, place, headers));
            }
        }
        Ok(Box::new(Passage {
            in_force: Arc::clone(in_force),
            route: matched.route,
            covered: matched.prefix_len,
            identity,
            checks,
            profile: chosen,
        }))
    }

    fn checks(
        &self,
        profile: &Profile,
        arrival: &Arrival,
        consumer: Option<u32>,
        credential: Option<u32>,
    ) -> Vec<Check> {
        let address = arrival.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
        let header = |name: &str| arrival.headers.get(name);
        let whose = whose(&profile.limit_by, consumer, credential, header, &arrival.path, address.as_bytes());
        let key = |limit: &Limit| match (&whose, limit.dense, limit.open) {
            (Whose::Row(row), Some(column), _) => CellKey::Dense { column, row: *row },
            (Whose::Text(text), _, Some(column)) => self.admitter.open_key(column, text),
            // A column the policy forgot: no counter exists, and taking will say so (`Missing`) rather than let through.
            _ => CellKey::Dense { column: u32::MAX >> 1, row: 0 },
        };
        profile.limits.iter().map(|limit| Check::new(limit.limit, limit.per, key(limit))).collect()
    }

    /// The body is whole: take everything, or refuse.
    pub fn on_body(&self, passage: Passage, arrival: &Arrival, body: Bytes) -> Result<(Call, Admitted), Answer> {
        let Passage { in_force, route: index, covered, identity, mut checks, profile } = passage;
        let mut place = Place::of(&in_force, index);
        place.consumer = identity.as_ref().map(|identity| identity.id.clone());
        let policy = &in_force.snapshot.policy;
        let refuse = |refused: Refused, headers| Err(self.refuse(arrival, &refused, &place, headers));
        let found = policy.routes.get(index).and_then(|route| Some((route, in_force.services.get(route.service?)?)));
        let Some((route, service)) = found else { return refuse(Reason::Internal.into(), Vec::new()) };
        let profile = profile.and_then(|profile| policy.rate_limiting.get(profile as usize));
        let Ok(path) = CanonicalPath::new(&arrival.path) else { return refuse(Reason::BadPath.into(), Vec::new()) };
        let base = policy.service_of(route).and_then(|service| service.path.as_deref());
        let Ok(target) = upstream_path(base, path, covered, route.strip_path) else {
            return refuse(Reason::BadPath.into(), Vec::new());
        };
        let auth = policy.key_auth_of(route).filter(|auth| auth.hide);
        let query = auth.map_or(Cow::Borrowed(&*arrival.query), |auth| hidden_query(auth, &arrival.query));
        let target = if query.is_empty() { target.into_owned() } else { format!("{target}?{query}") };
        let mut headers = Vec::with_capacity(12);
        let mut permit = None;
        if let Some(profile) = profile {
            let now = self.clock.now();
            match self.admitter.take(&mut checks, now, Ids::number(&arrival.request_id)) {
                Ok(taken) => permit = Some(taken),
                Err(refusal) => {
                    let (refused, headers) = self.turned(refusal, profile, &checks);
                    return refuse(refused, headers);
                }
            }
            if !profile.hide_client_headers {
                rate_limit(&checks, now, None, &mut headers);
            }
        }
        let hide = auth.map_or(&[][..], |auth| &*auth.header_names);
        let stripped = (route.strip_path && covered > 1).then(|| arrival.path.get(..covered)).flatten();
        let host = if route.preserve_host { arrival.host() } else { &service.host };
        let ingress = body.len() as u64;
        let call = Call {
            origin: Arc::clone(&service.origin),
            method: arrival.method.clone(),
            target,
            headers: forward::headers(arrival, Bound { host, stripped, identity: identity.as_ref(), hide }),
            body,
            deadlines: service.deadlines,
            peer: arrival.peer,
            max_answer: MAX_ANSWER,
        };
        let arrived = arrival.at;
        let admitted = Admitted {
            route: index,
            in_force,
            identity,
            permit,
            headers,
            ingress,
            sent: false,
            sent_after: None,
            arrived,
        };
        Ok((call, admitted))
    }

    /// What a refused check becomes for the client.
    fn turned(&self, refusal: Refusal, profile: &Profile, checks: &[Check]) -> (Refused, Vec<OwnHeader>) {
        match refusal {
            Refusal::Exceeded(index) => {
                let mut headers = Vec::with_capacity(12);
                if !profile.hide_client_headers {
                    rate_limit(checks, self.clock.now(), Some(index), &mut headers);
                    headers.push(("x-aigw-scope", profile.limit_by.name().into()));
                }
                let refused = Refused { reason: Reason::RateLimited, message: Some(profile.error_message.clone()) };
                headers.push((STATUS, profile.error_code.to_string().into()));
                (refused, headers)
            }
            Refusal::Full | Refusal::Busy(_) => (Reason::Overloaded.into(), Vec::new()),
            Refusal::Missing { .. } | Refusal::TooMany => (Reason::Internal.into(), Vec::new()),
        }
    }

    /// The gateway's own headers on an upstream's answer.
    pub fn answer_headers(
        &self,
        arrival: &Arrival,
        admitted: &mut Admitted,
        headers: &HeaderMap<HeaderValue>,
    ) -> Vec<OwnHeader> {
        let mut own = std::mem::take(&mut admitted.headers);
        let sent = admitted.sent_after.unwrap_or_default();
        let upstream = arrival.at.elapsed().saturating_sub(sent);
        own.push(("x-kong-upstream-latency", upstream.as_millis().to_string().into()));
        own.push(("x-kong-proxy-latency", sent.as_millis().to_string().into()));
        own.push(("x-kong-request-id", arrival.request_id.clone().into()));
        own.push(("x-request-id", arrival.request_id.clone().into()));
        if !headers.contains_key(http::header::VIA) {
            own.push(("via", VIA.into()));
        }
        if self.draining.load(Ordering::Relaxed) {
            own.push(("connection", "close".into()));
        }
        own
    }

    /// The answer for a call that has none.
    pub fn failed(&self, arrival: &Arrival, failure: Failure, cutting: bool) -> (Reason, Answer) {
        let denial = match failure {
            Failure::Refused => Reason::UpstreamRefused,
            Failure::Unresolved => Reason::UpstreamUnresolved,
            Failure::Out => Reason::UpstreamOut,
            Failure::Tls => Reason::UpstreamTls,
            Failure::ConnectTimeout => Reason::UpstreamConnectTimeout,
            Failure::Garbage | Failure::TooLarge => Reason::UpstreamGarbage,
            Failure::FirstByteTimeout | Failure::TotalTimeout | Failure::BetweenTimeout => Reason::UpstreamTimeout,
            Failure::Reset | Failure::CutShort | Failure::ClientStalled => Reason::UpstreamReset,
            Failure::Cancelled if cutting => Reason::Draining,
            Failure::Cancelled => Reason::ClientGone,
            Failure::Internal => Reason::Internal,
        };
        (denial, self.own_answer(arrival, &denial.into(), Vec::new()))
    }

    /// A refusal from outside the stages (a body too large, a full worker).
    pub fn deny(&self, arrival: &Arrival, denial: Reason) -> Answer {
        self.refuse(arrival, &denial.into(), &Place::default(), Vec::new())
    }

    fn refuse(&self, arrival: &Arrival, refused: &Refused, place: &Place, headers: Vec<OwnHeader>) -> Answer {
        let answer = self.own_answer(arrival, refused, headers);
        let (route_id, service_id) =
            (place.route().map(|route| route.id.text()), place.service().map(|service| service.id.text()));
        self.recorder.end(
            arrival,
            &Ending {
                route_n: place.route().map_or(0, |route| route.n),
                route: route_id.as_ref().map(UuidText::as_str),
                service: service_id.as_ref().map(UuidText::as_str),
                consumer: place.consumer.as_deref(),
                status: answer.status,
                source: Source::Exit,
                denial: Some(refused.reason),
                outcome: Outcome::Refused,
                ingress: 0,
                egress: answer.body.len() as u64,
                sent_after: None,
                head_after: None,
            },
        );
        answer
    }

    /// A refusal as an answer in Kong's form.
    fn own_answer(&self, arrival: &Arrival, refused: &Refused, mut headers: Vec<OwnHeader>) -> Answer {
        let row = refused.reason.row();
        let mut status = row.status;
        headers.retain(|(name, value)| {
            let chosen = *name == STATUS;
            if chosen {
                status = value.parse().unwrap_or(status);
            }
            !chosen
        });
        let form = Form::from_accept(arrival.headers.get("accept"));
        let body = render(form, refused.message(), &arrival.request_id);
        headers.push(("content-type", form.content_type().into()));
        headers.push(("server", SERVER.into()));
        headers.push(("x-kong-response-latency", arrival.at.elapsed().as_millis().to_string().into()));
        headers.push(("x-kong-request-id", arrival.request_id.clone().into()));
        headers.push(("x-request-id", arrival.request_id.clone().into()));
        if row.extra == Extra::RetryAfter {
            headers.push(("retry-after", RETRY_AFTER_S.to_string().into()));
        }
        if row.retry == aigw_core::denial::Retry::Unsafe {
            headers.push(("x-should-retry", "false".into()));
        }
        if matches!(status, 401 | 429) {
            headers.push(("cache-control", "no-store".into()));
        }
        let close = row.extra == Extra::Close || self.draining.load(Ordering::Relaxed);
        Answer { status, headers, body: Bytes::from(body), close }
    }

    /// The call is over: what it took stays or goes back, and it is recorded. The permit ends here, before the client can
    /// react to the answer.
    pub fn settle(&self, arrival: &Arrival, admitted: &mut Admitted, end: &End) {
        if let Some(permit) = admitted.permit.take() {
            let counts = match end.outcome {
                Outcome::Completed | Outcome::Cut => true,
                // The upstream may have worked for it; a client that hangs up early must not get that for nothing.
                Outcome::ClientCut => admitted.sent,
                Outcome::Unanswered | Outcome::Refused => false,
            };
            if counts { permit.settle() } else { permit.give_back() }
        }
        let route = admitted.route();
        let service = route.and_then(|route| admitted.in_force.snapshot.policy.service_of(route));
        let (route_id, service_id) = (route.map(|route| route.id.text()), service.map(|service| service.id.text()));
        self.recorder.end(
            arrival,
            &Ending {
                route_n: route.map_or(0, |route| route.n),
                route: route_id.as_ref().map(UuidText::as_str),
                service: service_id.as_ref().map(UuidText::as_str),
                consumer: admitted.identity.as_ref().map(|identity| &*identity.id),
                status: end.status,
                source: if end.reason.is_some() { Source::Exit } else { Source::Service },
                denial: end.reason,
                outcome: end.outcome,
                ingress: admitted.ingress,
                egress: end.bytes,
                sent_after: admitted.sent_after,
                head_after: end.head_after,
            },
        );
    }

    /// The worker serves from now on.
    pub fn ready(&self, inline: bool) {
        let status = self.cells.status();
        status.set_inline(inline);
        status.set_state(SlotState::Ready);
    }

    /// Every answer from now on closes its connection.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.cells.status().set_state(SlotState::Draining);
    }

    /// The count of requests in flight that the slot shows.
    pub fn in_flight(&self) -> &AtomicU64 {
        self.cells.status().in_flight()
    }

    /// Write what waits of the access log.
    pub fn close(&self) {
        self.recorder.close();
    }
}

/// How a forwarded request ended.
#[derive(Debug, Clone, Copy)]
pub struct End {
    /// In the ledger's words.
    pub outcome: Outcome,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of its body.
    pub bytes: u64,
    /// From arrival to its head.
    pub head_after: Option<Duration>,
    /// The refusal, when the answer is one.
    pub reason: Option<Reason>,
}

/// Not a header: how a profile's own status travels with its refusal's headers.
const STATUS: &str = ":status";

/// A refusal on its way to becoming an answer.
type Turned = (Refused, Place, Vec<OwnHeader>);

/// Where a refused request had got to, for its record.
#[derive(Clone, Default)]
struct Place {
    /// The snapshot and the index of the route in it.
    route: Option<(Arc<InForce>, usize)>,
    consumer: Option<String>,
}

impl Place {
    fn of(in_force: &Arc<InForce>, index: usize) -> Self {
        Self { route: Some((Arc::clone(in_force), index)), consumer: None }
    }

    fn route(&self) -> Option<&Route> {
        self.route.as_ref().and_then(|(in_force, index)| in_force.snapshot.policy.routes.get(*index))
    }

    fn service(&self) -> Option<&Service> {
        let (in_force, _) = self.route.as_ref()?;
        in_force.snapshot.policy.service_of(self.route()?)
    }
}

/// The headers of "come back over TLS": an upgrade, or a redirect where the route asks for one.
fn upgrade(route: &Route, arrival: &Arrival) -> Vec<OwnHeader> {
    if route.https_redirect_status == Reason::HttpsRequired.status() {
        return vec![("connection", "Upgrade".into()), ("upgrade", "TLS/1.2, HTTP/1.1".into())];
    }
    let host = arrival.host().rsplit_once(':').map_or(arrival.host(), |(host, _)| host);
    let path = aigw_core::r#match::canonical::encode(&arrival.path);
    let query = if arrival.query.is_empty() { String::new() } else { format!("?{}", arrival.query) };
    vec![
        ("location", format!("https://{host}{path}{query}").into()),
        (STATUS, route.https_redirect_status.to_string().into()),
    ]
}

/// Makes request ids: a random 64-bit word of this worker's, and a mixed counter.
struct Ids {
    worker: u64,
    next: AtomicU64,
}

impl Ids {
    fn new() -> std::io::Result<Self> {
        let mut seed = [0_u8; 16];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        let (worker, start) = seed.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        Ok(Self { worker: word(worker), next: AtomicU64::new(word(start)) })
    }

    fn next(&self) -> String {
        // An odd step walks through all 64-bit words before it repeats one.
        let n = self.next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        let mut text = String::with_capacity(32);
        for word in [self.worker, n] {
            for nibble in (0..16).rev() {
                text.push(char::from_digit((word >> (nibble * 4) & 15) as u32, 16).unwrap_or('0'));
            }
        }
        text
    }

    fn number(text: &str) -> RequestId {
        let word = |part: Option<&str>| part.and_then(|part| u64::from_str_radix(part, 16).ok()).unwrap_or(0);
        RequestId([word(text.get(..16)), word(text.get(16..))])
    }
}
