//! Calls on `/v1` in OpenAI's format: models by name, gated and limited by the caller's tier.
//!
//! Order of the head: endpoint, key, tier, size, a look at the windows; of the body: size, JSON, model, gates, then
//! everything is taken at once. The model is renamed, the output capped, the usage of streams asked for; what came else goes
//! on byte for byte. The answer's usage is read while it passes. `GET /v1/models` and `/v1/limits` take nothing.

use super::refuse::{Place, Turned, facts};
use super::tier::{self, Who, without_limit};
use super::{Admitted, Destination, End, Gateway, Ids, MAX_ANSWER, OwnHeader};
use crate::accept::{Arrival, BodyLength};
use crate::forward;
use crate::in_force::{InForce, UpstreamUse};
use crate::record::Outcome;
use crate::upstream::{Attempt, Call, Others};
use aigw_core::accept::openai::{Asked, Endpoint, IncludeUsage, read};
use aigw_core::admit::{Check, Refusal, gate};
use aigw_core::clock::Clock;
use aigw_core::denial::{Reason, Refused};
use aigw_core::forward::openai::body as rewritten;
use aigw_core::identify::{Presented, bearer};
use aigw_core::limits::headers;
use aigw_core::r#match::CanonicalPath;
use aigw_core::stream::find::UsageFinder;
use aigw_core::stream::sse::Events;
use aigw_core::stream::usage::Usage;
use aigw_core::telemetry::series::CallReport;
use aigw_core::units::Moment;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// What the head found out.
pub(super) struct Passage {
    endpoint: Endpoint,
    who: Who,
}

/// What becomes of a head.
pub(super) enum Passing {
    /// Its body is wanted.
    On(super::Passage),
    /// The answer is here.
    Answered(Place, Bytes),
}

/// What a path under `/v1` is.
enum Target<'a> {
    Call(Endpoint),
    Models,
    Model(&'a str),
    Limits,
}

impl<'a> Target<'a> {
    fn of(path: &'a str) -> Option<Self> {
        Some(match path.strip_prefix("/v1/")? {
            "chat/completions" => Self::Call(Endpoint::Chat),
            "completions" => Self::Call(Endpoint::Completions),
            "embeddings" => Self::Call(Endpoint::Embeddings),
            "models" => Self::Models,
            "limits" => Self::Limits,
            other => Self::Model(other.strip_prefix("models/").filter(|name| !name.is_empty())?),
        })
    }

    fn takes(&self, method: &Method) -> bool {
        match self {
            Self::Call(_) => method == Method::POST,
            Self::Models | Self::Model(_) | Self::Limits => method == Method::GET || method == Method::HEAD,
        }
    }
}

/// Whether the path belongs to this surface: as soon as there are models, before any route.
pub(super) fn serves(in_force: &InForce, path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        && !in_force.offer().models.is_empty()
}

impl Gateway {
    pub(super) fn pass_openai(&self, in_force: &Arc<InForce>, arrival: &Arrival) -> Result<Passing, Box<Turned>> {
        let mut place = Place::at(in_force);
        let turned = |reason: Reason, place: &Place| Turned::new(reason, place.clone());
        CanonicalPath::new(&arrival.path).map_err(|_| turned(Reason::BadPath, &place))?;
        let Some(target) = Target::of(&arrival.path) else {
            return Err(turned(Reason::UnsupportedEndpoint, &place).into());
        };
        if !target.takes(&arrival.method) {
            return Err(turned(Reason::UnsupportedMethod, &place).into());
        }
        if arrival.headers.get("content-encoding").is_some_and(|coding| !coding.eq_ignore_ascii_case("identity")) {
            return Err(turned(Reason::ContentEncoding, &place).into());
        }
        let now = self.clock.moment();
        let key = match bearer(arrival.headers.iter()) {
            Presented::Key(key) => key,
            Presented::None => return Err(unauthorized(Reason::NoApiKey, &place).into()),
            Presented::Duplicate => return Err(unauthorized(Reason::DuplicateApiKey, &place).into()),
        };
        let found = in_force.snapshot.keys.find(&self.hasher.digest(&key));
        let Some((credential, consumer)) =
            found.filter(|(credential, _)| !credential.expired(u64::from(now.seconds().0)))
        else {
            return Err(unauthorized(Reason::InvalidApiKey, &place).into());
        };
        place.consumer = Some(consumer.id);
        let offer = in_force.offer();
        let Some((index, tier)) = offer.tier(consumer.tier) else { return Err(turned(Reason::NoTier, &place).into()) };
        place.tier = Some(index);
        let who = Who { consumer: consumer.n, credential: credential.n };
        let endpoint = match target {
            Target::Call(endpoint) => endpoint,
            Target::Models => {
                let body = in_force.tiers.get(index).map(|tier| tier.models.clone()).unwrap_or_default();
                return Ok(Passing::Answered(place, body));
            }
            Target::Model(name) => {
                let (at, model) = offer.model(name).ok_or_else(|| no_model(name, &place))?;
                gate::model(tier, model).map_err(|refused| Turned::new(refused, place.clone()))?;
                let body = in_force.models.get(at).map(|model| model.shown.clone()).unwrap_or_default();
                return Ok(Passing::Answered(place, body));
            }
            Target::Limits => {
                let body = self.standing.of(offer, tier, who, now).map_err(|_| turned(Reason::Internal, &place))?;
                return Ok(Passing::Answered(place, body.into()));
            }
        };
        if let (BodyLength::Known(bytes), Some(most)) = (arrival.length, tier.prompt_max_bytes)
            && bytes > most
        {
            return Err(too_large(most, &place).into());
        }
        let mut checks = Vec::with_capacity(tier.limits.len());
        self.tier_checks(tier, who, arrival, &mut checks);
        if let Err(refusal) = self.admitter.peek(&mut checks, now) {
            return Err(limited(refusal, &checks, now, place).into());
        }
        Ok(Passing::On(super::Passage {
            in_force: Arc::clone(in_force),
            to: Destination::OpenAi(Passage { endpoint, who }),
            tier: Some(index),
            consumer: place.consumer,
            checks,
        }))
    }

    pub(super) fn admit_openai(
        &self,
        passage: &Passage,
        mut checks: Vec<Check>,
        admitted: &mut Admitted,
        arrival: &Arrival,
        body: Bytes,
    ) -> Result<Call, Box<Turned>> {
        let Passage { endpoint, who } = *passage;
        let in_force = Arc::clone(&admitted.in_force);
        let place = Place {
            in_force: Some(Arc::clone(&in_force)),
            route: None,
            consumer: admitted.consumer,
            tier: admitted.tier,
        };
        let refused = |refused: Refused| Box::new(Turned::new(refused, place.clone()));
        let offer = in_force.offer();
        let found = admitted.tier.and_then(|at| Some((offer.tiers.get(at)?, in_force.tiers.get(at)?)));
        let Some((tier, tier_use)) = found else { return Err(refused(Reason::Internal.into())) };
        if let Some(most) = tier.prompt_max_bytes.filter(|most| body.len() as u64 > *most) {
            return Err(Box::new(too_large(most, &place)));
        }
        let asked = read(endpoint, &body).map_err(refused)?;
        let Some((at, model)) = offer.model(&asked.model) else { return Err(Box::new(no_model(&asked.model, &place))) };
        gate::model(tier, model).map_err(refused)?;
        gate::parameters(tier, &asked).map_err(refused)?;
        Self::model_checks(tier, who, at, &mut checks);
        let now = self.clock.moment();
        let request = Ids::number(&arrival.request_id);
        match self.admitter.take(&mut checks, now, request) {
            Ok(taken) => admitted.permit = Some(taken),
            Err(refusal) => return Err(Box::new(limited(refusal, &checks, now, place))),
        }
        self.count_shadows(tier, &checks);
        headers::openai(&checks, now, None, &mut admitted.headers);
        admitted.model = Some(ModelCall::new(at, offer.series(admitted.tier.unwrap_or(0), at), &asked));
        let order = order(in_force.models.get(at).map_or(&[][..], |model| &model.upstreams), request.0[1]);
        let mut targets = Targets {
            in_force: Arc::clone(&in_force),
            model: at,
            order,
            next: 0,
            endpoint,
            query: arrival.query.clone(),
            headers: forward::headers_openai(arrival),
            body,
            asked,
            caps: (tier.output_max_tokens, model.max_output_tokens),
        };
        let Some(attempt) = targets.next() else { return Err(refused(Reason::Internal.into())) };
        let others: Option<Box<dyn Others>> =
            if targets.next < targets.order.len() { Some(Box::new(targets)) } else { None };
        Ok(Call {
            method: Method::POST,
            attempt,
            others,
            deadlines: tier_use.deadlines,
            peer: arrival.peer,
            max_answer: MAX_ANSWER,
        })
    }
}

/// The upstreams of a model that are still to be tried, each with the body it shall get.
struct Targets {
    in_force: Arc<InForce>,
    model: usize,
    order: Vec<usize>,
    next: usize,
    endpoint: Endpoint,
    query: String,
    headers: HeaderMap<HeaderValue>,
    body: Bytes,
    asked: Asked,
    /// Of the tier, of the model.
    caps: (Option<u32>, Option<u32>),
}

impl Others for Targets {
    fn next(&mut self) -> Option<Attempt> {
        let index = *self.order.get(self.next)?;
        self.next += 1;
        let upstream = self.in_force.models.get(self.model)?.upstreams.get(index)?;
        let last = self.next == self.order.len();
        let mut headers = if last { std::mem::take(&mut self.headers) } else { self.headers.clone() };
        forward::address(&mut headers, &upstream.host, upstream.authorization.as_ref());
        let (tier_cap, model_cap) = self.caps;
        let body = rewritten(self.endpoint, &self.body, &self.asked, &upstream.model, tier_cap, model_cap)
            .map_or_else(|| self.body.clone(), Bytes::from);
        let mut target = format!("{}{}", upstream.path, self.endpoint.path());
        if !self.query.is_empty() {
            target.push('?');
            target.push_str(&self.query);
        }
        Some(Attempt { origin: Arc::clone(&upstream.origin), target, headers, body })
    }
}

/// The upstreams in the order in which they are tried: drawn by weight without putting back, those of weight 0 last.
fn order(upstreams: &[UpstreamUse], seed: u64) -> Vec<usize> {
    let mut left: Vec<usize> = (0..upstreams.len()).collect();
    if left.len() < 2 {
        return left;
    }
    let mut drawn = Vec::with_capacity(left.len());
    let mut seed = seed;
    while left.len() > 1 {
        let total: u64 = left.iter().map(|&at| u64::from(upstreams[at].weight)).sum();
        // The request id's mixed counter, mixed again (SplitMix64): neighbours must not follow each other.
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        let mut point = if total == 0 { 0 } else { mixed % total };
        let chosen = left.iter().position(|&at| {
            let weight = u64::from(upstreams[at].weight);
            let here = point < weight;
            point = point.saturating_sub(weight);
            here
        });
        drawn.push(left.remove(chosen.unwrap_or(0)));
    }
    drawn.append(&mut left);
    drawn
}

/// One call of a model: what its answer says while it passes.
pub(super) struct ModelCall {
    /// Index of the model.
    pub(super) model: usize,
    /// Row of its metrics.
    pub(super) series: u32,
    streamed: bool,
    /// The caller asked for the usage of its stream itself.
    wants_usage: bool,
    reading: Reading,
    expected: bool,
    first: Option<Duration>,
    last: Option<Duration>,
}

enum Reading {
    Nothing,
    Plain(UsageFinder),
    Events(Events),
}

impl ModelCall {
    fn new(model: usize, series: u32, asked: &Asked) -> Self {
        Self {
            model,
            series,
            streamed: asked.stream,
            wants_usage: asked.include_usage == IncludeUsage::Yes,
            reading: Reading::Nothing,
            expected: false,
            first: None,
            last: None,
        }
    }

    /// The answer is a stream of events.
    pub(super) fn streams(&self) -> bool {
        matches!(self.reading, Reading::Events(_))
    }

    pub(super) fn head(&mut self, status: StatusCode, headers: &mut HeaderMap<HeaderValue>) {
        // The fleet's own limits, account and sessions are none of the caller's business.
        let ours: Vec<_> = headers.keys().filter(|name| name.as_str().starts_with("x-ratelimit-")).cloned().collect();
        for name in ours {
            headers.remove(name);
        }
        headers.remove("openai-organization");
        headers.remove("openai-project");
        headers.remove(SET_COOKIE);
        self.expected = status.is_success();
        if !status.is_success() || headers.contains_key(CONTENT_ENCODING) {
            return;
        }
        let events = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
        self.reading = if events {
            let strip = self.streamed && !self.wants_usage;
            if strip {
                headers.remove(CONTENT_LENGTH);
            }
            Reading::Events(Events::new(strip))
        } else {
            Reading::Plain(UsageFinder::default())
        };
    }

    pub(super) fn piece(&mut self, piece: Bytes, arrived: Instant) -> Bytes {
        if piece.is_empty() {
            return piece;
        }
        match &mut self.reading {
            Reading::Nothing => piece,
            Reading::Plain(finder) => {
                finder.push(&piece);
                piece
            }
            Reading::Events(events) => {
                let now = arrived.elapsed();
                self.first.get_or_insert(now);
                self.last = Some(now);
                events.push(&piece).map_or(piece, Bytes::from)
            }
        }
    }

    pub(super) fn rest(&mut self) -> Bytes {
        match &mut self.reading {
            Reading::Events(events) => events.finish().into(),
            Reading::Nothing | Reading::Plain(_) => Bytes::new(),
        }
    }

    fn usage(&self) -> Option<Usage> {
        match &self.reading {
            Reading::Nothing => None,
            Reading::Plain(finder) => finder.found().and_then(Usage::parse),
            Reading::Events(events) => events.usage(),
        }
    }

    pub(super) fn report(&self, end: &End, took: Duration) -> CallReport {
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        CallReport {
            outcome: match end.outcome {
                Outcome::Completed => 0,
                Outcome::ClientCut => 1,
                Outcome::Cut => 2,
                Outcome::Unanswered | Outcome::Refused => 3,
            },
            usage: self.usage(),
            expected: self.expected && end.outcome == Outcome::Completed,
            took: micros(took),
            first: self.first.map(micros),
            streaming: micros(self.last.unwrap_or_default().saturating_sub(self.first.unwrap_or_default())),
        }
    }
}

/// What a refused check becomes on this surface.
fn limited(refusal: Refusal, checks: &[Check], now: Moment, place: Place) -> Turned {
    let Refusal::Exceeded(index) = refusal else { return Turned::new(without_limit(refusal), place) };
    let Some(check) = checks.get(index) else { return Turned::new(Reason::Internal, place) };
    let reason = tier::reason(check);
    let tier = place.tier().map(|tier| tier.name.to_string()).unwrap_or_default();
    let wait = check.resets_in(now).max(1);
    let message = if reason == Reason::QuotaExhausted {
        format!("You exceeded your current quota of {} in tier '{tier}'. It is renewed in {wait} s.", check.words())
    } else {
        format!("Rate limit reached in tier '{tier}': {}. Please try again in {wait} s.", check.words())
    };
    let mut own: Vec<OwnHeader> = Vec::with_capacity(12);
    headers::openai(checks, now, Some(index), &mut own);
    own.push(("x-aigw-limit", check.words().into()));
    own.push(("x-aigw-scope", check.scope.into()));
    own.push(("x-aigw-tier", tier.into()));
    own.push(("x-aigw-reset", check.window.end.to_string().into()));
    Turned {
        headers: own,
        limit: Some(facts(check, check.scope)),
        ..Turned::new(Refused::because(reason, message), place)
    }
}

fn unauthorized(reason: Reason, place: &Place) -> Turned {
    let message = match reason {
        Reason::NoApiKey => {
            "You didn't provide an API key. Send it as 'Authorization: Bearer KEY', or in an 'apikey' or 'x-api-key' header."
        }
        Reason::DuplicateApiKey => "More than one API key was provided: send one, in one header.",
        _ => "Incorrect API key provided.",
    };
    Turned::new(Refused::because(reason, message), place.clone())
}

fn no_model(name: &str, place: &Place) -> Turned {
    // As much of it as a person needs to see the typo.
    let shown: String = name.chars().take(128).collect();
    let message = format!("The model '{shown}' does not exist. GET /v1/models lists those you may call.");
    Turned::new(Refused { param: Some("model"), ..Refused::because(Reason::ModelNotFound, message) }, place.clone())
}

fn too_large(most: u64, place: &Place) -> Turned {
    let message = format!("The request is larger than the {most} bytes that your tier allows.");
    Turned::new(Refused::because(Reason::SizeLimited, message), place.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Origin;

    fn upstream(weight: u32) -> UpstreamUse {
        UpstreamUse {
            origin: Arc::new(Origin { tls: false, verify: true, host: "127.0.0.1".into(), port: 1 }),
            host: "127.0.0.1:1".into(),
            path: "/v1".into(),
            model: "m".into(),
            weight,
            authorization: None,
        }
    }

    #[test]
    fn upstreams_are_drawn_by_weight_and_those_without_come_last() {
        let upstreams = [upstream(3), upstream(0), upstream(1)];
        let mut first = [0_u32; 3];
        for n in 0..40_000_u64 {
            let order = order(&upstreams, n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            assert_eq!((order.len(), order[2]), (3, 1));
            first[order[0]] += 1;
        }
        assert_eq!(first[1], 0);
        assert!((29_000..31_000).contains(&first[0]), "{first:?}");
        assert_eq!(order(&upstreams[..1], 7), [0]);
        assert_eq!(order(&[upstream(0), upstream(0)], 7).len(), 2);
    }

    #[test]
    fn paths_under_v1() {
        assert!(matches!(Target::of("/v1/chat/completions"), Some(Target::Call(Endpoint::Chat))));
        assert!(matches!(Target::of("/v1/models/openai/gpt"), Some(Target::Model("openai/gpt"))));
        for path in ["/v1", "/v1/", "/v1/models/", "/v1/chat", "/v1/chat/completions/", "/v1/usage", "/v2/models"] {
            assert!(Target::of(path).is_none(), "{path}");
        }
    }
}
