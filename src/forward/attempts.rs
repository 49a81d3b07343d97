//! The requests that a call sends: one for each target, made when its turn comes.
//!
//! In: a target and the parts that all attempts share. Out: an [`Attempt`] with the headers, the body and the key that this
//! target gets.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};

use super::upstream_url::path_and_query;
use super::{headers, openai};
use crate::accept::openai::{Asked, Endpoint};
use crate::balance::Origin;
use crate::in_force::InForce;

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

/// The attempts of a call: the first; for a model with more targets also those that follow when it fails.
#[derive(Debug)]
pub struct Attempts {
    /// The first one.
    pub first: Attempt,
    /// The others; `None` for a service, which has one target.
    pub others: Option<Box<ModelAttempts>>,
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
    /// The headers except the target's own.
    pub headers: HeaderMap<HeaderValue>,
    /// The client's body.
    pub body: Bytes,
    /// The deciding words of the body.
    pub asked: Asked,
    /// The most output tokens of the tier.
    pub tier_cap: Option<u32>,
    /// The most output tokens of the model.
    pub model_cap: Option<u32>,
}

impl Attempts {
    /// The only attempt of a call on Kong's routes.
    pub fn one(first: Attempt) -> Self {
        Self { first, others: None }
    }

    /// The attempts of a model's call; `None` when no target is left.
    pub fn of_model(mut attempts: ModelAttempts) -> Option<Self> {
        let first = attempts.next()?;
        let more = attempts.order.len() > 0;
        Some(Self { first, others: more.then(|| Box::new(attempts)) })
    }
}

impl Iterator for ModelAttempts {
    type Item = Attempt;

    fn next(&mut self) -> Option<Attempt> {
        let index = self.order.next()?;
        let last = self.order.len() == 0;
        let mut headers = if last { std::mem::take(&mut self.headers) } else { self.headers.clone() };
        let target = self.in_force.models.get(self.model)?.targets.get(index)?;
        headers::address(&mut headers, target);
        let body = openai::body(self.endpoint, &self.body, &self.asked, &target.model, self.tier_cap, self.model_cap)
            .map_or_else(|| self.body.clone(), Bytes::from);
        let url = path_and_query(target, self.endpoint, &self.query);
        Some(Attempt { upstream: Some(target.at), origin: Arc::clone(&target.origin), target: url, headers, body })
    }
}
