//! The requests that a call sends: one for each target, made when its turn comes.
//!
//! In: a target and the parts that all attempts share. Out: an [`Attempt`] with the headers, the body and the key that this
//! target gets. A target that refuses a parameter may be asked once more in other words ([`wording`]).

use std::sync::Arc;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::caps::Limits;
use super::upstream_url::path_and_query;
use super::wording::{self, Sent, Wording};
use super::{headers, openai};
use crate::accept::openai::{Asked, Endpoint};
use crate::accept::room::{Holder, Room};
use crate::balance::passive::Lost;
use crate::balance::{Busy, ModelTarget, Origin, RouteTarget, ServiceTarget};
use crate::in_force::InForce;
use crate::request::Head;
use crate::snapshot::{CapParameter, Model, Passive, StreamUsage};
use crate::units::Moment;

/// One try of a call at one target.
#[derive(Debug)]
pub struct Attempt {
    /// Index of the target among its model's upstreams; `None` for a service.
    pub upstream: Option<usize>,
    /// The target's address.
    pub origin: Arc<Origin>,
    /// Path and query, encoded.
    pub target: String,
    /// The headers to send, `host` included; the upstream client adds the framing.
    pub headers: HeaderMap<HeaderValue>,
    /// The whole body; may be empty.
    pub body: Bytes,
}

/// The attempts of a call: the first, and those that follow when it fails.
#[derive(Debug)]
pub struct Attempts {
    /// The first one.
    pub first: Attempt,
    /// Those that may follow; `None` for a service with one target.
    pub others: Option<Others>,
}

/// The attempts that may follow the first.
#[derive(Debug)]
pub enum Others {
    /// Of a model.
    Model(Box<ModelAttempts>),
    /// Of a service whose host is an upstream.
    Service(Box<ServiceAttempts>),
}

/// The targets of a route's call.
#[derive(Debug)]
pub struct ServiceTurns {
    /// The configuration that holds the targets.
    pub in_force: Arc<InForce>,
    /// Index of the service.
    pub service: usize,
    /// Indices of the targets that are still to be tried, in order.
    pub order: std::vec::IntoIter<usize>,
    /// Index of the target that was tried last.
    pub last: usize,
    /// `Host` stays the client's.
    pub keeps_host: bool,
    /// The moment of admission.
    pub now: Moment,
}

/// The parts of a route's call that its attempts share.
#[derive(Debug)]
pub struct ServiceAttempts {
    turns: ServiceTurns,
    /// Path and query.
    target: String,
    /// The headers of the first attempt.
    headers: HeaderMap<HeaderValue>,
    body: Bytes,
    /// The call at the target that was tried last.
    busy: Option<Busy>,
}

/// The parts of a model's call that its attempts share.
#[derive(Debug)]
pub struct ModelAttempts {
    /// The configuration that holds the targets.
    pub in_force: Arc<InForce>,
    /// Index of the model.
    pub model: usize,
    /// Indices of the targets that are still to be tried, in order.
    pub order: std::vec::IntoIter<usize>,
    /// The endpoint that is called.
    pub endpoint: Endpoint,
    /// The query without keys, without its `?`.
    pub query: String,
    /// The client's head.
    pub head: Arc<Head>,
    /// The client's body.
    pub body: Bytes,
    /// The deciding words of the body.
    pub asked: Asked,
    /// The most output tokens of tier and model.
    pub limits: Limits,
    /// The worker's memory, and the caller who holds a part of it.
    pub room: (Arc<Room>, Holder),
    /// The attempt that was made last.
    pub last: Option<Last>,
}

/// The attempt that was made last: its target, and its wording.
#[derive(Debug, Clone, Copy)]
pub struct Last {
    target: usize,
    wording: Wording,
    /// The target had refused another wording before.
    reworded: u8,
}

/// Copies of smaller bodies are gone before anybody counts them.
const LARGE: usize = 64 * 1024;
/// Most wordings of one call at one target after the first: one for each parameter that may be refused.
const MAX_REWORDED: u8 = 2;

impl Attempts {
    /// The attempts of a call of a service. `first`: the one at the target `turns.last`.
    pub fn of_service(first: Attempt, turns: ServiceTurns) -> Self {
        if turns.order.len() == 0 {
            return Self { first, others: None };
        }
        let (target, headers, body) = (first.target.clone(), first.headers.clone(), first.body.clone());
        let mut rest = ServiceAttempts { turns, target, headers, body, busy: None };
        rest.busy = rest.at_last().map(|(_, target)| Busy::at(target));
        Self { first, others: Some(Others::Service(Box::new(rest))) }
    }

    /// The attempts of a model's call; `None` when no target is left.
    pub fn of_model(mut attempts: ModelAttempts) -> Option<Self> {
        let first = attempts.next()?;
        Some(Self { first, others: Some(Others::Model(Box::new(attempts))) })
    }
}

impl Others {
    /// The head of the last attempt's answer is here. True: [`Self::reworded`] wants its body.
    pub fn answered(&self, status: StatusCode) -> bool {
        match self {
            Self::Model(model) => model.answered(status),
            Self::Service(service) => {
                service.note(|target, bounds| target.health.answered(bounds, status.as_u16(), service.turns.now));
                false
            }
        }
    }

    /// The last attempt was lost.
    pub fn lost(&self, lost: Lost) {
        if let Self::Service(service) = self {
            service.note(|target, bounds| target.health.lost(bounds, lost, service.turns.now));
        }
    }

    /// The count of the call at its target; everything else is dropped.
    pub fn into_busy(self) -> Option<Busy> {
        match self {
            Self::Model(_) => None,
            Self::Service(service) => service.busy,
        }
    }

    /// The same call at the same target in other words, when this whole answer refuses a parameter.
    pub fn reworded(&mut self, status: StatusCode, body: &[u8]) -> Option<Attempt> {
        match self {
            Self::Model(model) => model.reworded(status, body),
            Self::Service(_) => None,
        }
    }
}

impl Iterator for Others {
    type Item = Attempt;

    /// The first attempt at the next target.
    fn next(&mut self) -> Option<Attempt> {
        match self {
            Self::Model(model) => model.next(),
            Self::Service(service) => service.next(),
        }
    }
}

impl ServiceAttempts {
    fn at_last(&self) -> Option<(&ServiceTarget, &RouteTarget)> {
        let service = self.turns.in_force.services.get(self.turns.service)?;
        Some((service, service.targets.get(self.turns.last)?))
    }

    fn note(&self, told: impl FnOnce(&RouteTarget, &Passive)) {
        if let Some((service, target)) = self.at_last() {
            told(target, &service.passive);
        }
    }
}

impl Iterator for ServiceAttempts {
    type Item = Attempt;

    /// The attempt at the next target.
    fn next(&mut self) -> Option<Attempt> {
        self.turns.last = self.turns.order.next()?;
        let (_, to) = self.at_last()?;
        let busy = Busy::at(to);
        let mut headers = self.headers.clone();
        if let (false, Ok(host)) = (self.turns.keeps_host, HeaderValue::from_str(&to.host)) {
            headers.insert(HOST, host);
        }
        let (target, body) = (self.target.clone(), self.body.clone());
        let origin = Arc::clone(&to.origin);
        self.busy = Some(busy);
        Some(Attempt { upstream: None, origin, target, headers, body })
    }
}

impl ModelAttempts {
    /// The head of the last attempt's answer is here. True: it may be the refusal of a parameter, and [`Self::reworded`] wants its
    /// body. A success is remembered for the target.
    pub fn answered(&self, status: StatusCode) -> bool {
        let Some((last, model, target)) = self.at_last() else { return false };
        if status.is_success() {
            let Last { wording, reworded, .. } = last;
            if self.asked.stream && model.stream_usage == StreamUsage::Auto && (wording.usage || reworded > 0) {
                target.learned.set_takes_usage(wording.usage);
            }
            if reworded > 0 && model.cap_parameter == CapParameter::Auto && self.endpoint == Endpoint::Chat {
                target.learned.set_cap(wording.cap);
            }
            return false;
        }
        last.reworded < MAX_REWORDED && wording::is_refusal(status) && last.wording.may_change(model, self.sent())
    }

    /// The same call at the same target in other words, when this whole answer refuses a parameter.
    pub fn reworded(&mut self, status: StatusCode, body: &[u8]) -> Option<Attempt> {
        let (last, model, target) = self.at_last()?;
        let wording = last.wording.after(model, &target.learned, self.sent(), status, body)?;
        self.ask(Last { wording, reworded: last.reworded + 1, ..last })
    }

    fn sent(&self) -> Sent<'_> {
        Sent { endpoint: self.endpoint, asked: &self.asked, limits: self.limits }
    }

    fn at_last(&self) -> Option<(Last, &Model, &ModelTarget)> {
        let last = self.last?;
        let target = self.in_force.models.get(self.model)?.targets.get(last.target)?;
        Some((last, self.in_force.offer().models.get(self.model)?, target))
    }

    /// An edited copy of the body. A large one holds bytes of the worker's memory until it is sent.
    fn kept(&self, edited: Vec<u8>) -> Bytes {
        let (room, holder) = &self.room;
        let mut claim = room.nothing(*holder);
        if edited.len() > LARGE {
            claim.hold(edited.len() as u64);
        }
        claim.keep(edited.into())
    }

    fn ask(&mut self, how: Last) -> Option<Attempt> {
        self.last = Some(how);
        let target = self.in_force.models.get(self.model)?.targets.get(how.target)?;
        let mut headers = headers::openai(&self.head);
        headers::address(&mut headers, target);
        let body = openai::body(self.endpoint, &self.body, &self.asked, &target.model, self.limits, how.wording)
            .map_or_else(|| self.body.clone(), |edited| self.kept(edited));
        let url = path_and_query(target, self.endpoint, &self.query);
        Some(Attempt { upstream: Some(target.at), origin: Arc::clone(&target.origin), target: url, headers, body })
    }
}

impl Iterator for ModelAttempts {
    type Item = Attempt;

    /// The first attempt at the next target.
    fn next(&mut self) -> Option<Attempt> {
        let index = self.order.next()?;
        let target = self.in_force.models.get(self.model)?.targets.get(index)?;
        let wording = Wording::first(self.in_force.offer().models.get(self.model)?, &target.learned, self.endpoint);
        self.ask(Last { target: index, wording, reworded: 0 })
    }
}
