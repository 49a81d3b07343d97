//! The report of a request that is over: the input of metrics and access log.

use std::time::Duration;

use super::{End, Outcome, Settled, UsageSource};
use crate::accept::openai::Endpoint;
use crate::balance::Origin;
use crate::in_force::InForce;
use crate::price::Classes;
use crate::snapshot::{Keys, Route, Tier, Uuid};
use crate::stream::answer::ModelAnswer;
use crate::telemetry::Source;
use crate::telemetry::series::{CallNames, CallReport};

/// How far a request got: the stages fill it in, so that a refusal is recorded with everything known by then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LogContext {
    /// Index of the route.
    pub route: Option<usize>,
    /// Id of the consumer.
    pub consumer: Option<Uuid>,
    /// Row number of the consumer.
    pub consumer_n: Option<u32>,
    /// Row number of the credential; 0 without one.
    pub credential_n: u32,
    /// Index of the caller's tier.
    pub tier: Option<usize>,
    /// Index of the model that is called.
    pub model: Option<usize>,
    /// The endpoint that calls it.
    pub endpoint: Option<Endpoint>,
    /// Index of the model's upstream that was asked last.
    pub upstream: Option<usize>,
}

/// Bytes and times of a call; times are since arrival.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of the request's body.
    pub ingress: u64,
    /// The request was sent upstream.
    pub sent_after: Option<Duration>,
    /// The answer's head came.
    pub head_after: Option<Duration>,
}

/// A request that is over.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    /// Route number; 0 without a route.
    pub route_n: u32,
    /// Route id.
    pub route: Option<Uuid>,
    /// Service id.
    pub service: Option<Uuid>,
    /// Consumer id.
    pub consumer: Option<Uuid>,
    /// Row number of the consumer.
    pub consumer_n: Option<u32>,
    /// The keys and consumers of the configuration that judged the request.
    pub keys: &'a Keys,
    /// The caller's tier.
    pub tier: Option<&'a Tier>,
    /// Public name of the model that was called.
    pub model: Option<&'a str>,
    /// The author of the answer.
    pub source: Source,
    /// The upstream address that was asked last.
    pub upstream: Option<&'a Origin>,
    /// Attempts at upstream addresses.
    pub attempts: u32,
    /// The tokens that the upstream of a model reported.
    pub usage: Option<Classes>,
    /// The end of the budgets that counted it.
    pub settled: Option<Settled>,
    /// How the request ended.
    pub end: End,
    /// Bytes and times.
    pub traffic: Traffic,
    /// From arrival to the end.
    pub took: Duration,
}

impl LogContext {
    /// The route that was matched.
    pub fn route<'a>(&self, in_force: &'a InForce) -> Option<&'a Route> {
        in_force.policy().routes.get(self.route?)
    }

    /// The caller's tier.
    pub fn tier<'a>(&self, in_force: &'a InForce) -> Option<&'a Tier> {
        in_force.offer().tiers.get(self.tier?)
    }

    /// The names of a model's call in metrics.
    pub fn names(&self, in_force: &InForce) -> Option<CallNames> {
        let (offer, model) = (in_force.offer(), self.model?);
        let upstream = self.upstream.and_then(|upstream| offer.upstream_number(model, upstream)).zip(self.endpoint);
        let (tier, model) = (offer.tiers.get(self.tier.unwrap_or(0))?.n, offer.models.get(model)?.n);
        Some(CallNames { tier, model, upstream })
    }

    /// The report of a request that got this far.
    pub fn report<'a>(&self, in_force: &'a InForce, end: End, traffic: Traffic, took: Duration) -> Report<'a> {
        let route = self.route(in_force);
        let service = route.and_then(|route| in_force.policy().service_of(route));
        let model = self.model.and_then(|model| in_force.offer().models.get(model));
        Report {
            route_n: route.map_or(0, |route| route.n),
            route: route.map(|route| route.id),
            service: service.map(|service| service.id),
            consumer: self.consumer,
            consumer_n: self.consumer_n,
            keys: &in_force.snapshot.keys,
            tier: self.tier(in_force),
            model: model.map(|model| &*model.name),
            source: Source::Exit,
            upstream: None,
            attempts: 0,
            usage: None,
            settled: None,
            end,
            traffic,
            took,
        }
    }
}

impl<'a> Report<'a> {
    /// Its tokens by class, and their source; `None` where it does not count.
    pub fn tokens(&self) -> Option<(Classes, UsageSource)> {
        self.settled.map(|settled| (settled.classes, settled.source))
    }

    /// Its price in nano-dollars; `None` where it does not count, or the tier has no prices.
    pub fn price(&self) -> Option<u64> {
        self.settled?.price
    }

    /// The consumer's username, else its custom id: a look-up that only a log line pays for.
    pub fn consumer_name(&self) -> Option<&'a str> {
        let names = self.keys.names(self.consumer_n?)?;
        names.username.or(names.custom_id)
    }
}

/// The report of a model's call, for the metrics by tier and model. `report`: that of the request.
pub fn call_report(answer: &ModelAnswer, report: &Report<'_>) -> CallReport {
    let Report { usage, end, took, .. } = *report;
    let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let (first, streaming) = answer.times();
    CallReport {
        error: end.error,
        outcome: match end.outcome {
            // The caller's own limit: the stream ended in order.
            Outcome::Completed | Outcome::LimitCut => 0,
            Outcome::ClientCut => 1,
            Outcome::UpstreamCut => 2,
            Outcome::UpstreamError | Outcome::Refused => 3,
        },
        usage,
        tokens: report.tokens().map(|(classes, _)| classes),
        price: report.price(),
        expected: answer.is_success() && end.outcome == Outcome::Completed,
        took: micros(took),
        first: first.map(micros),
        streaming: micros(streaming),
    }
}
