//! As-written tiers and models -> [`Offer`]: every value checked, every reference resolved.

use std::collections::HashMap;

use super::checks::{Columns, column, index, prices, timeouts, uuid, value};
use super::compile_models;
use super::model::Timeouts;
use super::tier::{Offer, Parameters, Patterns, Subject, Tier, TierLimit};
use super::wire::{self, ColumnKind};
use super::wire_model;
use crate::limits::Limit;
use crate::snapshot::error::{Part, SnapshotError};

pub(super) fn offer(
    tiers: Vec<wire::Tier>,
    models: Vec<wire_model::Model>,
    default_tier: Option<u32>,
    columns: &Columns,
) -> Result<Offer, SnapshotError> {
    let model_by_n = index("model", models.iter().map(|m| m.n))?;
    let tier_by_n = index("tier", tiers.iter().map(|t| t.n))?;
    let dangling = |kind, to: u32| SnapshotError::Dangling { from: Part::Whole, kind, to: u64::from(to) };
    let default_tier = match default_tier {
        None => None,
        Some(n) => Some(*tier_by_n.get(&n).ok_or_else(|| dangling("tier", n))?),
    };
    let tiers = tiers.into_iter().map(|tier| self::tier(tier, &model_by_n, columns)).collect::<Result<Vec<_>, _>>()?;
    let models = models.into_iter().map(compile_models::model).collect::<Result<Vec<_>, _>>()?;
    let mut model_by_name = HashMap::with_capacity(models.len());
    for (at, model) in models.iter().enumerate() {
        if model_by_name.insert(model.name.clone(), at).is_some() {
            return Err(value(Part::Entity("model", model.n), "its name is another model's, too"));
        }
    }
    Ok(Offer { tiers, models, default_tier, tier_by_n, model_by_name })
}

fn tier(from: wire::Tier, models: &HashMap<u32, usize>, columns: &Columns) -> Result<Tier, SnapshotError> {
    let wire::Tier {
        n,
        id,
        name,
        limits,
        limit_set,
        features,
        models: allowed,
        parameters,
        prompt_max_bytes,
        route_max_bytes,
        prompt_max_tokens,
        output_max_tokens,
        request_max_spend,
        price,
        strict,
        first_byte_ms,
        between_ms,
        total_ms,
    } = from;
    let at = Part::Entity("tier", n);
    let limits = limits.into_iter().map(|one| limit(at, one, models, columns)).collect::<Result<_, _>>()?;
    if output_max_tokens == Some(0) || prompt_max_tokens == Some(0) {
        return Err(value(at, "caps must be above 0"));
    }
    let wire::Parameters { tools, n: choices, logprobs, stream, response_format, reasoning_effort } = parameters;
    let patterns = |names: Vec<String>| Patterns(names.into_iter().map(Into::into).collect());
    Ok(Tier {
        n,
        id: uuid(&id, at)?,
        name: name.into(),
        limits,
        limit_set,
        features: patterns(features),
        models: patterns(allowed),
        parameters: Parameters { tools, n: choices, logprobs, stream, response_format, reasoning_effort },
        prompt_max_bytes,
        route_max_bytes,
        prompt_max_tokens,
        output_max_tokens,
        request_max_spend,
        price: price.map(|price| prices(at, price)).transpose()?,
        strict,
        timeouts: timeouts(at, Timeouts { connect_ms: None, first_byte_ms, between_ms, total_ms })?,
    })
}

fn limit(
    at: Part,
    from: wire::TierLimit,
    models: &HashMap<u32, usize>,
    columns: &Columns,
) -> Result<TierLimit, SnapshotError> {
    let wire::TierLimit { kind, fields, scope, shadow, column: number, by_model } = from;
    let limit = Limit::build(&kind, &fields).map_err(|error| value(at, &error.to_string()))?;
    let subject = match scope {
        wire::Subject::Consumer => Subject::Consumer,
        wire::Subject::Credential => Subject::Credential,
        wire::Subject::Ip => Subject::Ip,
        wire::Subject::Model => Subject::Model,
    };
    if let Some(why) = limit.not_open().filter(|_| subject == Subject::Ip) {
        return Err(value(at, why));
    }
    let kind = if subject == Subject::Ip { ColumnKind::Open } else { ColumnKind::Dense };
    column(at, columns, number, kind, subject != Subject::Model)?;
    let found = if subject == Subject::Model {
        let mut by_index = vec![0; models.len()];
        for (model, one) in by_model {
            column(at, columns, Some(one), ColumnKind::Dense, true)?;
            let index = models.get(&model).ok_or_else(|| SnapshotError::Dangling {
                from: at,
                kind: "model",
                to: u64::from(model),
            })?;
            by_index[*index] = one;
        }
        if by_index.contains(&0) {
            return Err(value(at, "a limit by model lacks the column of a model"));
        }
        by_index
    } else {
        number.into_iter().collect()
    };
    Ok(TierLimit { limit, subject, shadow, columns: found.into() })
}
