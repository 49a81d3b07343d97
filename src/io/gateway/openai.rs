//! Calls on `/v1` in OpenAI's format: models by name, gated and limited by the caller's tier.
//!
//! Order of the head: endpoint, key, tier, size, a look at the windows; of the body: size, JSON, model, gates, then
//! everything is taken at once. The model is renamed, the output capped, the usage of streams asked for; what came else goes
//! on byte for byte. The answer's usage is read while it passes. `GET /v1/models` and `/v1/limits` take nothing.

use super::call::ModelCall;
use super::refuse::{Place, Turned, facts};
use super::targets::{Targets, order};
use super::tier::{self, Who, without_limit};
use super::{Admitted, Destination, Gateway, Ids, MAX_ANSWER, OwnHeader};
use crate::accept::{Arrival, BodyLength};
use crate::forward;
use crate::in_force::InForce;
use crate::upstream::{Call, Others};
use aigw_core::accept::openai::{Endpoint, read};
use aigw_core::admit::headers;
use aigw_core::admit::{Check, Refusal, gate};
use aigw_core::clock::Clock;
use aigw_core::denial::{Reason, Refused};
use aigw_core::identify::{Presented, bearer, keyless_query};
use aigw_core::r#match::CanonicalPath;
use aigw_core::units::Moment;
use bytes::Bytes;
use http::Method;
use std::sync::Arc;

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
            let allow = if matches!(target, Target::Call(_)) { "POST" } else { "GET, HEAD" };
            return Err(turned(Reason::UnsupportedMethod, &place).with(vec![("allow", allow.into())]).into());
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
        let caller = self.hasher.caller(&in_force.snapshot.keys, &key, u64::from(now.seconds().0));
        let known =
            caller.and_then(|caller| Some((caller.consumer?, caller.credential().ok()??, caller.names().ok()??)));
        let Some((consumer, credential, names)) = known else {
            return Err(unauthorized(Reason::InvalidApiKey, &place).into());
        };
        place.consumer = Some(names.id);
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
        admitted.checks = checks;
        admitted.model = Some(ModelCall::new(at, offer.series(admitted.tier.unwrap_or(0), at), &asked));
        let whole = !asked.stream;
        let order = order(in_force.models.get(at).map_or(&[][..], |model| &model.upstreams), request.0[1]);
        let mut targets = Targets {
            in_force: Arc::clone(&in_force),
            model: at,
            order,
            next: 0,
            endpoint,
            query: keyless_query(&arrival.query).into_owned(),
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
            whole,
        })
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
    Turned::new(
        Refused { param: Some("model".into()), ..Refused::because(Reason::ModelNotFound, message) },
        place.clone(),
    )
}

fn too_large(most: u64, place: &Place) -> Turned {
    let message = format!("The request is larger than the {most} bytes that your tier allows.");
    Turned::new(Refused::because(Reason::SizeLimited, message), place.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_under_v1() {
        assert!(matches!(Target::of("/v1/chat/completions"), Some(Target::Call(Endpoint::Chat))));
        assert!(matches!(Target::of("/v1/models/openai/gpt"), Some(Target::Model("openai/gpt"))));
        for path in ["/v1", "/v1/", "/v1/models/", "/v1/chat", "/v1/chat/completions/", "/v1/usage", "/v2/models"] {
            assert!(Target::of(path).is_none(), "{path}");
        }
    }
}
