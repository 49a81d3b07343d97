//! The stages of a request in their order, over one worker's files: match, identify, admit; and at its end settle, record.
//!
//! In: an arrival, then its body, then how its upstream call went. Out: an answer of the gateway's own, or a call with
//! everything it holds. Two phases: the head decides who and where and peeks at the limits, taking nothing; the body's end
//! takes all or nothing. `kong` has the stages for services and routes, `openai` those for models on `/v1`; what both share
//! is here and in `tier` (a tier's limits) and `refuse` (refusals as answers).

mod call;
mod ids;
mod kong;
mod openai;
mod refuse;
mod standing;
mod targets;
mod tier;

use crate::accept::{Answer, Arrival, Surface};
use crate::access_log::AccessLog;
use crate::cells::{SlotState, Worker};
use crate::clock::SystemClock;
use crate::forward::{self, VIA};
use crate::in_force::InForce;
use crate::record::{Ending, Recorder};
use crate::secret::Sealer;
use crate::snapshot::SnapshotReader;
use crate::upstream::{Call, Failure};
use aigw_core::admit::{Admitter, Check, Permit};
use aigw_core::denial::Reason;
use aigw_core::identify::KeyHasher;
use aigw_core::snapshot::{Route, Uuid};
use aigw_core::telemetry::{Counter, Source};
use arc_swap::ArcSwap;
use bytes::Bytes;
use call::ModelCall;
use http::{HeaderMap, HeaderValue, StatusCode};
use ids::Ids;
use openai::Passing;
use refuse::{Place, Turned};
use standing::Standing;
use std::borrow::Cow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub use crate::record::Outcome;

/// Streams and other answers larger than this are cut: a runaway answer is a cost (16 GiB).
const MAX_ANSWER: u64 = 16 << 30;

/// A header of the gateway's own: lower-case name, value.
pub type OwnHeader = (&'static str, Cow<'static, str>);

/// A request that its head let through: where it goes and what it will take.
pub struct Passage {
    in_force: Arc<InForce>,
    to: Destination,
    /// Index of the caller's tier.
    tier: Option<usize>,
    consumer: Option<Uuid>,
    checks: Vec<Check>,
}

/// Where a request goes, as far as its head tells.
enum Destination {
    Kong(kong::Passage),
    OpenAi(openai::Passage),
}

/// An admitted request: what it holds, and what its end needs.
pub struct Admitted {
    in_force: Arc<InForce>,
    /// Index of its route.
    route: Option<usize>,
    tier: Option<usize>,
    consumer: Option<Uuid>,
    /// Set for calls of models.
    model: Option<ModelCall>,
    permit: Option<Permit<Worker>>,
    headers: Vec<OwnHeader>,
    /// What `permit` was taken by.
    checks: Vec<Check>,
    ingress: u64,
    sent: bool,
    sent_after: Option<Duration>,
    arrived: Instant,
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

    /// An answer's head is about to pass: what must not go on is taken out.
    pub fn head(&mut self, status: StatusCode, headers: &mut HeaderMap<HeaderValue>) {
        // These are the gateway's words.
        remove_all(headers, "x-aigw-");
        if let Some(model) = &mut self.model {
            model.head(status, headers);
        }
    }

    /// A piece of the answer passes; what the client gets of it.
    pub fn piece(&mut self, piece: Bytes) -> Bytes {
        match &mut self.model {
            Some(model) => model.piece(piece, self.arrived),
            None => piece,
        }
    }

    /// The answer is whole: what was held back of it.
    pub fn rest(&mut self) -> Bytes {
        self.model.as_mut().map_or_else(Bytes::new, ModelCall::rest)
    }

    fn route(&self) -> Option<&Route> {
        self.in_force.snapshot.policy.routes.get(self.route?)
    }
}

/// The decisions of one worker.
pub struct Gateway {
    in_force: ArcSwap<InForce>,
    reader: SnapshotReader,
    hasher: KeyHasher,
    sealer: Sealer,
    cells: Arc<Worker>,
    admitter: Admitter<Worker>,
    standing: Standing,
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
        let secret = crate::secret::load(data)?;
        let sealer = Sealer::new(&secret);
        Ok(Self {
            in_force: ArcSwap::from_pointee(InForce::empty(&sealer)),
            hasher: KeyHasher::new(&secret),
            sealer,
            standing: Standing::new(&data.join("cells"), reader.store()),
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
        let held = self.in_force.load();
        if held.snapshot.generation == self.reader.generation() {
            return Arc::clone(&held);
        }
        let snapshot = self.reader.current();
        if Arc::ptr_eq(&held.snapshot, &snapshot) {
            return Arc::clone(&held);
        }
        let next = Arc::new(held.next(snapshot, &self.sealer));
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
        self.recorder.count_log();
        let failures = self.reader.take_failures();
        if failures > 0 {
            self.recorder.count(Counter::SnapshotFailed, failures);
        }
    }

    /// A new request id: 32 hex digits, unique over workers and restarts.
    pub fn request_id(&self) -> String {
        self.ids.next()
    }

    /// The head's decision: who, where, and whether there is anything left. `Err`: answered at once.
    pub fn on_head(&self, arrival: &mut Arrival) -> Result<Box<Passage>, Answer> {
        let in_force = self.current();
        if openai::serves(&in_force, &arrival.path) {
            arrival.surface = Surface::OpenAi;
        }
        if let Err(denial) = arrival.check() {
            return Err(self.refuse(arrival, Turned::new(denial, Place::default())));
        }
        match arrival.surface {
            Surface::Kong => {
                self.pass_kong(&in_force, arrival).map(Box::new).map_err(|turned| self.refuse(arrival, *turned))
            }
            Surface::OpenAi => match self.pass_openai(&in_force, arrival) {
                Ok(Passing::On(passage)) => Ok(Box::new(passage)),
                Ok(Passing::Answered(place, body)) => {
                    let answer = self.told(arrival, body);
                    self.recorded(arrival, &place, &answer, None);
                    Err(answer)
                }
                Err(turned) => Err(self.refuse(arrival, *turned)),
            },
        }
    }

    /// The body is whole: take everything, or refuse.
    pub fn on_body(&self, passage: Passage, arrival: &Arrival, body: Bytes) -> Result<(Call, Admitted), Answer> {
        let Passage { in_force, to, tier, consumer, checks } = passage;
        let ingress = body.len() as u64;
        let mut admitted = Admitted {
            in_force,
            route: None,
            tier,
            consumer,
            model: None,
            permit: None,
            headers: Vec::new(),
            checks: Vec::new(),
            ingress,
            sent: false,
            sent_after: None,
            arrived: arrival.at,
        };
        let call = match to {
            Destination::Kong(kong) => self.admit_kong(kong, checks, &mut admitted, arrival, body),
            Destination::OpenAi(openai) => self.admit_openai(&openai, checks, &mut admitted, arrival, body),
        };
        match call {
            Ok(call) => Ok((call, admitted)),
            Err(turned) => Err(self.refuse(arrival, *turned)),
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
        if arrival.surface == Surface::Kong {
            let sent = admitted.sent_after.unwrap_or_default();
            let upstream = arrival.at.elapsed().saturating_sub(sent);
            own.push(("x-kong-upstream-latency", upstream.as_millis().to_string().into()));
            own.push(("x-kong-proxy-latency", sent.as_millis().to_string().into()));
            own.push(("x-kong-request-id", arrival.request_id.clone().into()));
        }
        own.push(("x-request-id", arrival.request_id.clone().into()));
        if !headers.contains_key(http::header::SERVER) {
            own.push(("server", refuse::SERVER.into()));
        }
        let mut via = String::new();
        for value in headers.get_all(http::header::VIA).iter().filter_map(|value| value.to_str().ok()) {
            forward::join(&mut via, value);
        }
        if via.is_empty() {
            own.push(("via", VIA.into()));
        } else {
            forward::join(&mut via, VIA);
            own.push(("via", via.into()));
        }
        if self.draining.load(Ordering::Relaxed) {
            own.push(("connection", "close".into()));
        }
        own
    }

    /// What a stream that breaks off still says before it is cut.
    pub fn last_words(&self, arrival: &Arrival, admitted: &Admitted, failure: Failure, cutting: bool) -> Option<Bytes> {
        admitted.model.as_ref().filter(|model| model.streams())?;
        refuse::torn(arrival, failure, cutting)
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
        if let Some(model) = &admitted.model {
            self.recorder.call(model.series, &model.report(end, arrival.at.elapsed()));
        }
        let route = admitted.route();
        let service = route.and_then(|route| admitted.in_force.snapshot.policy.service_of(route));
        let offer = admitted.in_force.offer();
        self.recorder.end(
            arrival,
            &Ending {
                route_n: route.map_or(0, |route| route.n),
                route: route.map(|route| route.id),
                service: service.map(|service| service.id),
                consumer: admitted.consumer,
                tier: admitted.tier.and_then(|tier| offer.tiers.get(tier)).map(|tier| &*tier.name),
                model: admitted.model.as_ref().and_then(|call| offer.models.get(call.model)).map(|model| &*model.name),
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

    /// Why lines of the access log cannot be written, while they cannot.
    pub fn access_log_error(&self) -> Option<String> {
        self.recorder.log_error()
    }

    /// Write what waits of the access log.
    pub fn close(&self) {
        self.recorder.close();
    }
}

/// Take out the headers whose names begin so.
fn remove_all(headers: &mut HeaderMap<HeaderValue>, prefix: &str) {
    let found: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with(prefix)).cloned().collect();
    for name in found {
        headers.remove(name);
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
