//! `POST /v1/tokenize`: the input tokens of a body, for a caller who may call its model. It takes nothing from any limit.
//!
//! In: a head that the stages accepted, and its body, `{model, messages}` or `{model, input}`. Out: the document
//! `{"tokens": .., "bound": ..}`: the count by the model's vocabulary, and the bound by the body's bytes. Images, audio and files count as
//! their bounds in both.

use bytes::Bytes;

use super::case::Case;
use super::openai::judge_size;
use crate::accept::{self, openai::Endpoint};
use crate::admit::gate;
use crate::cells::CounterSpace;
use crate::coding::Coding;
use crate::refusal::{Reason, Refusal, openai};
use crate::settle::LogContext;

/// Most bytes of a body that is counted here. The count takes from no limit, and holds up the worker's other requests: 20 ms a megabyte
/// of text, ten times as long where the text is made to be slow (docs/decisions/011).
const MOST_BYTES: u64 = 4 * 1024 * 1024;

/// Counts a body. `coding`: of the body as it came.
pub(super) fn body<P: CounterSpace>(
    case: &Case<'_, P>,
    context: LogContext,
    coding: Option<Coding>,
    body: Bytes,
) -> Result<Bytes, Refusal> {
    let in_force = case.in_force;
    let tier = context.tier(in_force).ok_or(Reason::Internal)?;
    let body = case.plain(&context, body, coding)?;
    judge_size(tier, &body)?;
    if body.len() as u64 > MOST_BYTES {
        let message = format!("This endpoint counts requests of up to {MOST_BYTES} bytes: count the text in parts.");
        return Err(Refusal::because(Reason::SizeLimited, message));
    }
    let endpoint = if accept::openai::has_messages(&body) { Endpoint::Chat } else { Endpoint::Embeddings };
    let asked = accept::openai::read(endpoint, &body)?;
    let (at, model) = in_force.offer().model(&asked.model).ok_or_else(|| openai::no_model(&asked.model))?;
    gate::model(tier, model)?;
    let model = in_force.models.get(at).ok_or(Reason::Internal)?;
    let (tokens, bound) = (model.input_tokens(endpoint, &body), model.input_bound(endpoint, &body));
    Ok(format!("{{\"tokens\":{tokens},\"bound\":{bound}}}").into())
}
