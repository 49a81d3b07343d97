//! The configuration in force, with the facts that every request needs worked out once: the targets of services and models,
//! and the models that a tier may see.
//!
//! In: a loaded snapshot. Out: an [`InForce`] that a request keeps from its head to its end, so that no request sees half of
//! two configurations.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::accept::count::{self, Measure};
use crate::accept::openai::Endpoint;
use crate::admit::gate;
use crate::balance::{ModelTarget, ServiceTarget};
use crate::snapshot::{InputBounds, Model, Offer, Policy, Snapshot, Template, Tier, Tokenizer};
use crate::tokens::{BytesCounter, TokenCounter};

/// One generation, ready for requests.
#[derive(Debug, Clone)]
pub struct InForce {
    /// The generation, its policy and its keys.
    pub snapshot: Arc<Snapshot>,
    prepared: Arc<Prepared>,
}

/// The facts of one policy; all generations with that policy share them.
#[derive(Debug)]
pub struct Prepared {
    /// By index of the service.
    pub services: Vec<ServiceTarget>,
    /// By index of the model.
    pub models: Vec<PreparedModel>,
    /// By index of the tier.
    pub tiers: Vec<PreparedTier>,
}

/// A model as requests need it.
pub struct PreparedModel {
    /// The targets that can be called.
    pub targets: Vec<ModelTarget>,
    /// The body of `GET /v1/models/{id}`.
    pub shown: Bytes,
    /// Counts texts by the model's vocabulary.
    pub counter: Arc<dyn TokenCounter>,
    /// The tokens that its chat template adds.
    pub template: Template,
    /// The most tokens of parts that are no text.
    pub input_bounds: InputBounds,
}

impl PreparedModel {
    /// The tokens of an accepted body's input, by the vocabulary. Costs about 25 ns a byte.
    pub fn input_tokens(&self, endpoint: Endpoint, body: &[u8]) -> u64 {
        self.counter.timed(&|| self.measured(endpoint, body, &|text| self.counter.count(text)))
    }

    /// A bound of [`Self::input_tokens`] that reads no vocabulary: the most tokens of its bytes.
    pub fn input_bound(&self, endpoint: Endpoint, body: &[u8]) -> u64 {
        self.measured(endpoint, body, &|text| self.counter.bound(text))
    }

    /// Whether a stream may hide a part of its output: a target did, or the call asks for reasoning and no stream of a target has shown
    /// it yet. Any target may answer.
    pub fn may_hide_output(&self, reasons: bool) -> bool {
        self.targets.iter().any(|target| target.learned.hides_output().unwrap_or(reasons))
    }

    fn measured(&self, endpoint: Endpoint, body: &[u8], text: &dyn Fn(&str) -> u64) -> u64 {
        let Ok(body) = std::str::from_utf8(body) else { return body.len() as u64 };
        let Template { per_message, per_request } = self.template;
        let InputBounds { image, audio, file } = self.input_bounds;
        let measure = Measure { text, per_message, per_request, image, audio, file };
        count::input(&measure, endpoint, body)
    }
}

impl fmt::Debug for PreparedModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PreparedModel").field("targets", &self.targets).finish_non_exhaustive()
    }
}

/// A tier as requests need it.
#[derive(Debug)]
pub struct PreparedTier {
    /// The body of `GET /v1/models`.
    pub models: Bytes,
}

impl InForce {
    /// An empty gateway.
    pub fn empty() -> Self {
        let snapshot = Arc::new(Snapshot::empty());
        let prepared = Arc::new(Prepared::new(&snapshot.policy, |_| None, |_| Arc::new(BytesCounter)));
        Self { snapshot, prepared }
    }

    /// The next generation; only a new policy is prepared again. `unseal` opens the sealed keys of upstreams,
    /// `counter` gives the counter of a vocabulary.
    #[must_use]
    pub fn next(
        &self,
        snapshot: Arc<Snapshot>,
        unseal: impl Fn(&str) -> Option<Vec<u8>>,
        counter: impl Fn(&Tokenizer) -> Arc<dyn TokenCounter>,
    ) -> Self {
        if Arc::ptr_eq(&self.snapshot.policy, &snapshot.policy) {
            return Self { snapshot, prepared: Arc::clone(&self.prepared) };
        }
        let mut prepared = Prepared::new(&snapshot.policy, unseal, counter);
        prepared.inherit(&self.prepared);
        Self { snapshot, prepared: Arc::new(prepared) }
    }

    /// Services, routes and plugins.
    pub fn policy(&self) -> &Policy {
        &self.snapshot.policy
    }

    /// Tiers and models.
    pub fn offer(&self) -> &Offer {
        &self.snapshot.policy.offer
    }
}

impl std::ops::Deref for InForce {
    type Target = Prepared;

    fn deref(&self) -> &Prepared {
        &self.prepared
    }
}

impl Prepared {
    fn new(
        policy: &Policy,
        unseal: impl Fn(&str) -> Option<Vec<u8>>,
        counter: impl Fn(&Tokenizer) -> Arc<dyn TokenCounter>,
    ) -> Self {
        let offer = &policy.offer;
        let model = |model: &Model| PreparedModel {
            targets: ModelTarget::all(model, &unseal),
            shown: json(&shown(model)),
            counter: counter(&model.tokenizer),
            template: model.template,
            input_bounds: model.input_bounds,
        };
        let tier = |tier| PreparedTier { models: models_of(tier, &offer.models) };
        Self {
            services: policy.services.iter().map(|service| ServiceTarget::new(service, &unseal)).collect(),
            models: offer.models.iter().map(model).collect(),
            tiers: offer.tiers.iter().map(tier).collect(),
        }
    }
}

impl Prepared {
    /// Targets that were there before keep the facts that were learned about them; equal targets of two models or services share them.
    fn inherit(&mut self, earlier: &Self) {
        let routes = earlier.services.iter().flat_map(|service| &service.targets);
        let mut healths: HashMap<_, _> =
            routes.map(|target| (&target.origin, (Arc::clone(&target.health), Arc::clone(&target.calls)))).collect();
        for target in self.services.iter_mut().flat_map(|service| &mut service.targets) {
            let (health, calls) = healths.entry(&target.origin).or_default();
            (target.health, target.calls) = (Arc::clone(health), Arc::clone(calls));
        }
        let targets = earlier.models.iter().flat_map(|model| &model.targets);
        let mut known: HashMap<_, _> = targets.map(|target| (target.place(), Arc::clone(&target.learned))).collect();
        for target in self.models.iter_mut().flat_map(|model| &mut model.targets) {
            target.learned = Arc::clone(known.entry(target.place()).or_default());
        }
    }
}

/// The body of `GET /v1/models` for a tier.
fn models_of(tier: &Tier, models: &[Model]) -> Bytes {
    let allowed: Vec<_> = models.iter().filter(|model| gate::model(tier, model).is_ok()).map(shown).collect();
    json(&serde_json::json!({"object": "list", "data": allowed}))
}

/// A model as OpenAI's clients expect it.
fn shown(model: &Model) -> serde_json::Value {
    serde_json::json!({"id": &*model.name, "object": "model", "created": model.created_at, "owned_by": "aigw"})
}

fn json(value: &serde_json::Value) -> Bytes {
    value.to_string().into()
}
