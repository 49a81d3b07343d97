//! Refusals as answers, in the form of the surface that the request came in on, counted and logged here.
//!
//! In: a [`Turned`] (why, where the request had got to, the limit that refused). Out: an [`Answer`]. A refusal never touches
//! a counter of a limit; it is counted by reason, by route, and by the caller's tier.

use super::{Admitted, Gateway, Outcome, OwnHeader};
use crate::accept::{Answer, Arrival, Surface};
use crate::in_force::InForce;
use crate::record::Ending;
use crate::upstream::Failure;
use aigw_core::admit::Check;
use aigw_core::admit::headers;
use aigw_core::balance::health;
use aigw_core::clock::Clock as _;
use aigw_core::denial::{Extra, Reason, Refused, Retry};
use aigw_core::denial_body::{Form, render};
use aigw_core::denial_openai::{self, LimitFacts};
use aigw_core::snapshot::{Route, Service, Tier, Uuid};
use aigw_core::telemetry::Source;
use aigw_core::units::Moment;
use bytes::Bytes;
use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a client that finds the gateway full is told to wait, in seconds.
const RETRY_AFTER_S: u64 = 1;
/// `Server` of the gateway's own answers.
pub(super) const SERVER: &str = concat!("aigw/", env!("CARGO_PKG_VERSION"));

/// Where a request had got to, for its record.
#[derive(Clone, Default)]
pub(super) struct Place {
    /// The snapshot it is judged by; `None` before there was one.
    pub(super) in_force: Option<Arc<InForce>>,
    /// Index of its route.
    pub(super) route: Option<usize>,
    pub(super) consumer: Option<Uuid>,
    /// Index of its caller's tier.
    pub(super) tier: Option<usize>,
}

impl Place {
    pub(super) fn at(in_force: &Arc<InForce>) -> Self {
        Self { in_force: Some(Arc::clone(in_force)), ..Self::default() }
    }

    pub(super) fn of(in_force: &Arc<InForce>, route: usize) -> Self {
        Self { route: Some(route), ..Self::at(in_force) }
    }

    pub(super) fn route(&self) -> Option<&Route> {
        self.in_force.as_ref()?.snapshot.policy.routes.get(self.route?)
    }

    pub(super) fn service(&self) -> Option<&Service> {
        self.in_force.as_ref()?.snapshot.policy.service_of(self.route()?)
    }

    pub(super) fn tier(&self) -> Option<&Tier> {
        self.in_force.as_ref()?.offer().tiers.get(self.tier?)
    }
}

/// A refusal on its way to becoming an answer.
pub(super) struct Turned {
    pub(super) refused: Refused,
    pub(super) place: Place,
    pub(super) headers: Vec<OwnHeader>,
    /// Another status than the reason's own.
    pub(super) status: Option<u16>,
    pub(super) limit: Option<LimitFacts>,
}

impl Turned {
    pub(super) fn new(refused: impl Into<Refused>, place: Place) -> Self {
        Self { refused: refused.into(), place, headers: Vec::new(), status: None, limit: None }
    }

    pub(super) fn with(mut self, headers: Vec<OwnHeader>) -> Self {
        self.headers = headers;
        self
    }
}

/// What is told of the limit that refused.
pub(super) fn facts(check: &Check, scope: &'static str) -> LimitFacts {
    LimitFacts {
        policy: check.words(),
        limit: check.limit,
        used: check.used,
        scope,
        reset_at: check.free_at.seconds_up().0,
    }
}

impl Gateway {
    /// A refusal from outside the stages (a body too large, a full worker).
    pub fn deny(&self, arrival: &Arrival, denial: Reason) -> Answer {
        self.refuse(arrival, Turned::new(denial, Place::default()))
    }

    pub(super) fn refuse(&self, arrival: &Arrival, turned: Turned) -> Answer {
        let Turned { refused, place, headers, status, limit } = turned;
        let tier = place.tier();
        let answer = self.own_answer(arrival, &refused, headers, status, tier.map(|tier| &*tier.name), limit.as_ref());
        if let Some(tier) = tier {
            self.recorder.tier_denial(tier.n, refused.reason);
        }
        self.recorded(arrival, &place, &answer, Some(refused.reason));
        answer
    }

    /// Record an answer of the gateway's own.
    pub(super) fn recorded(&self, arrival: &Arrival, place: &Place, answer: &Answer, denial: Option<Reason>) {
        self.recorder.end(
            arrival,
            &Ending {
                route_n: place.route().map_or(0, |route| route.n),
                route: place.route().map(|route| route.id),
                service: place.service().map(|service| service.id),
                consumer: place.consumer,
                tier: place.tier().map(|tier| &*tier.name),
                model: None,
                status: answer.status,
                source: Source::Exit,
                denial,
                outcome: if denial.is_some() { Outcome::Refused } else { Outcome::Completed },
                ingress: 0,
                egress: answer.body.len() as u64,
                sent_after: None,
                head_after: None,
            },
        );
    }

    /// The answer for a call that has none. What was taken goes back, and the headers of its limits say so.
    /// `cutting`: a shutdown cuts what is in flight.
    pub fn failed(&self, arrival: &Arrival, admitted: &Admitted, failure: Failure, cutting: bool) -> (Reason, Answer) {
        let denial = match reason(failure, cutting) {
            Reason::Drained if !admitted.sent => Reason::Draining,
            denial => denial,
        };
        let (now, mut headers) = (self.clock.moment(), Vec::new());
        match arrival.surface {
            Surface::Kong => headers::rate_limit_given_back(&admitted.checks, now, &mut headers),
            Surface::OpenAi => headers::openai_given_back(&admitted.checks, now, &mut headers),
        }
        (denial, self.own_answer(arrival, &denial.into(), headers, None, None, None))
    }

    /// A refusal as an answer in the form of its surface.
    fn own_answer(
        &self,
        arrival: &Arrival,
        refused: &Refused,
        mut headers: Vec<OwnHeader>,
        status: Option<u16>,
        tier: Option<&str>,
        limit: Option<&LimitFacts>,
    ) -> Answer {
        let row = refused.reason.row();
        let status = status.unwrap_or(row.status);
        let body = match arrival.surface {
            Surface::Kong => {
                let form = Form::from_accept(arrival.headers.get("accept"));
                headers.push(("content-type", form.content_type().into()));
                headers.push(("x-kong-response-latency", arrival.at.elapsed().as_millis().to_string().into()));
                headers.push(("x-kong-request-id", arrival.request_id.clone().into()));
                Bytes::from(render(form, refused.message(), &arrival.request_id))
            }
            Surface::OpenAi => {
                headers.push(("content-type", "application/json".into()));
                if status == 401 {
                    headers.push(("www-authenticate", "Bearer".into()));
                }
                // A limit that comes back late has said so among its headers.
                let late = headers.iter().any(|(name, _)| *name == "x-should-retry");
                let retryable = !late && matches!(row.retry, Retry::After | Retry::Soon);
                Bytes::from(denial_openai::render(refused, tier, limit, &arrival.request_id, retryable))
            }
        };
        headers.push(("server", SERVER.into()));
        headers.push(("x-request-id", arrival.request_id.clone().into()));
        if row.extra == Extra::RetryAfter {
            let seconds = if row.reason == Reason::UpstreamOut { health::OUT.as_secs() } else { RETRY_AFTER_S };
            headers.push(("retry-after", seconds.to_string().into()));
        }
        let hopeless = row.retry == Retry::Never && arrival.surface == Surface::OpenAi;
        if row.retry == Retry::Unsafe || hopeless {
            headers.push(("x-should-retry", "false".into()));
        }
        if matches!(status, 401 | 429) {
            headers.push(("cache-control", "no-store".into()));
        }
        let close = row.extra == Extra::Close || self.draining.load(Ordering::Relaxed);
        Answer { status, headers, body, close }
    }

    /// An answer of the gateway's own that is none of a refusal.
    pub(super) fn told(&self, arrival: &Arrival, body: Bytes) -> Answer {
        let headers: Vec<OwnHeader> = vec![
            ("content-type", "application/json".into()),
            ("server", SERVER.into()),
            ("x-request-id", arrival.request_id.clone().into()),
            ("cache-control", "no-store".into()),
        ];
        Answer { status: 200, headers, body, close: self.draining.load(Ordering::Relaxed) }
    }
}

/// What a stream that breaks off still says, in the words of its surface; nothing where a cut says all.
pub(super) fn torn(arrival: &Arrival, failure: Failure, cutting: bool) -> Option<Bytes> {
    let reason = reason(failure, cutting);
    if arrival.surface != Surface::OpenAi || reason == Reason::ClientGone {
        return None;
    }
    Some(denial_openai::event(&reason.into(), None, &arrival.request_id).into())
}

fn reason(failure: Failure, cutting: bool) -> Reason {
    match failure {
        Failure::Refused => Reason::UpstreamRefused,
        Failure::Unresolved => Reason::UpstreamUnresolved,
        Failure::Out => Reason::UpstreamOut,
        Failure::Tls => Reason::UpstreamTls,
        Failure::ConnectTimeout => Reason::UpstreamConnectTimeout,
        Failure::Garbage | Failure::TooLarge => Reason::UpstreamGarbage,
        Failure::FirstByteTimeout | Failure::TotalTimeout | Failure::BetweenTimeout => Reason::UpstreamTimeout,
        Failure::Reset | Failure::CutShort | Failure::ClientStalled => Reason::UpstreamReset,
        Failure::Cancelled if cutting => Reason::Drained,
        Failure::Cancelled => Reason::ClientGone,
        Failure::Internal => Reason::Internal,
    }
}

/// Kong's headers of the limits that were checked, and what is ours beside them.
pub(super) fn kong_headers(
    checks: &[Check],
    now: Moment,
    refused: Option<usize>,
    scope: Option<&'static str>,
    tier: Option<&str>,
) -> Vec<OwnHeader> {
    let mut out = Vec::with_capacity(12);
    headers::rate_limit(checks, now, refused, &mut out);
    if let Some(scope) = scope {
        out.push(("x-aigw-scope", scope.into()));
    }
    if let Some(tier) = tier {
        out.push(("x-aigw-tier", Cow::Owned(tier.to_owned())));
    }
    out
}
