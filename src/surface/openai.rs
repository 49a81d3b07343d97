//! The stages of a request on `/v1`, in their order: models by name, gated and limited by the caller's tier.
//!
//! [`head`]: match (a preflight, operation), identify (key), admit (tier), accept (the body's coding), admit (size, a look at the limits).
//! [`body`]: accept (plain bytes), admit (size), accept (deciding words), admit (model, gates, then all limits are taken), balance (order of the
//! targets), forward. The same body goes upstream with the model renamed, the output capped, and the usage of a stream asked
//! for. `GET /v1/models` and `/v1/limits` are answered from the head and take nothing;
//! `tokenize` answers `/v1/tokenize` from the body, `question` has `/v1/usage` answered by the control process; both take nothing.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;

use super::budget::{self, Ask, Refused, Taken};
use super::case::{Admission, Case, Findings, HeadOutcome, OpenAiHead, StandingReader, holder};
use super::{cors, question};
use crate::accept;
use crate::accept::openai::{Asked, Endpoint};
use crate::admit::{Admitter, CallerRows, Check, gate, headers, refused, size, tier, tier::Work};
use crate::balance::{Deadlines, order};
use crate::cells::CounterSpace;
use crate::coding::Coding;
use crate::forward::{Attempts, Dispatch, Limits, ModelAttempts};
use crate::identify::{self, azure_query, keyless_query};
use crate::in_force::InForce;
use crate::limits::Demand;
use crate::r#match::operation::{self, Operation};
use crate::refusal::{Reason, Refusal, openai};
use crate::request::{BodyLength, Head};
use crate::settle::{CountInput, LogContext};
use crate::snapshot::Tier;
use crate::stream::answer::ModelAnswer;
use crate::stream::plain::Plain;

/// Bytes of a body whose input is counted after its call. The count holds up the worker's other requests: 20 ms for a megabyte of text
/// (docs/decisions/011).
const MOST_COUNTED: usize = 1024 * 1024;

pub(super) fn head<P: CounterSpace>(
    case: &Case<'_, P>,
    context: &mut LogContext,
    standing: &StandingReader<'_>,
) -> Result<HeadOutcome, Refusal> {
    let Case { in_force, hasher, admitter, head, now, .. } = *case;
    let offer = in_force.offer();

    // match
    if let Some(headers) = in_force.policy().v1_cors.as_ref().and_then(|cors| cors::preflight(cors, head)) {
        return Ok(HeadOutcome::Preflight(*context, headers));
    }
    let operation = operation::operation(head)?;

    // identify
    let seconds = u64::from(now.seconds().0);
    let caller = identify::key_holder(hasher, &in_force.snapshot.keys, head, seconds)?;
    (context.consumer, context.consumer_n) = (Some(caller.id), Some(caller.consumer));
    context.credential_n = caller.credential;
    let rows = CallerRows { consumer: caller.consumer, credential: caller.credential };
    // admit: the tier, for all operations
    let (index, tier) = offer.tier(caller.tier).ok_or(Reason::NoTier)?;
    context.tier = Some(index);
    // accept: behind the caller, whom the record of the refusal names
    let coding = accept::head::coding(head)?;

    let endpoint = match operation {
        Operation::Call(endpoint) => endpoint,
        Operation::Limits => {
            let page = standing(offer, tier, &caller).ok_or(Reason::Internal)?;
            return Ok(HeadOutcome::Document(*context, page));
        }
        other => return aside(case, *context, other, coding),
    };
    context.endpoint = Some(endpoint);

    // admit: the declared size, then a look at the limits
    judge_declared(tier, head)?;
    let mut checks = Vec::with_capacity(tier.limits.len());
    tier::checks(tier, work(endpoint), rows, head, admitter, &mut checks);
    let peeked = admitter.peek(&mut checks, &Demand::default(), now);
    peeked.map_err(|why| refused::openai(why, tier, &checks, now, head.id))?;

    let openai = OpenAiHead { endpoint, coding, caller: rows };
    Ok(case.accepted(*context, checks, Findings::OpenAi(openai)))
}

/// The operations beside calls. They take nothing.
fn aside<P: CounterSpace>(
    case: &Case<'_, P>,
    context: LogContext,
    operation: Operation<'_>,
    coding: Option<Coding>,
) -> Result<HeadOutcome, Refusal> {
    let Case { in_force, head, .. } = *case;
    let (offer, tier) = (in_force.offer(), context.tier(in_force).ok_or(Reason::Internal)?);
    match operation {
        Operation::Models => {
            let tier = context.tier.and_then(|index| in_force.tiers.get(index));
            let list = tier.map(|tier| tier.models.clone()).unwrap_or_default();
            Ok(HeadOutcome::Document(context, list))
        }
        Operation::Model(name) => {
            let (at, model) = offer.model(name).ok_or_else(|| openai::no_model(name))?;
            gate::model(tier, model)?;
            let shown = in_force.models.get(at).map(|model| model.shown.clone()).unwrap_or_default();
            Ok(HeadOutcome::Document(context, shown))
        }
        Operation::Tokenize => {
            judge_declared(tier, head)?;
            Ok(case.accepted(context, Vec::new(), Findings::Tokenize(coding)))
        }
        Operation::Usage => {
            let line = question::usage(context.consumer_n.ok_or(Reason::Internal)?, &query(head))?;
            Ok(case.accepted(context, Vec::new(), Findings::Question(line)))
        }
        Operation::Call(_) | Operation::Limits => Err(Reason::Internal.into()),
    }
}

pub(super) fn body<P: CounterSpace>(
    case: &Case<'_, P>,
    shared: &Arc<Head>,
    context: &mut LogContext,
    accepted: OpenAiHead,
    mut checks: Vec<Check>,
    body: Bytes,
) -> Result<Admission<P>, Refusal> {
    let Case { in_force, admitter, bounds, head, now, .. } = *case;
    let OpenAiHead { endpoint, coding, caller } = accepted;
    let tier = context.tier(in_force).ok_or(Reason::Internal)?;

    // accept: the plain body of a size that the tier takes, and its deciding words
    let body = case.plain(context, body, coding)?;
    let (body, asked) = deciding_words(tier, head, endpoint, body)?;
    // admit: model and gates, then all limits, or none
    let (at, model) = in_force.offer().model(&asked.model).ok_or_else(|| openai::no_model(&asked.model))?;
    context.model = Some(at);
    gate::model(tier, model)?;
    gate::parameters(tier, &asked)?;

    tier::model_checks(tier, work(endpoint), caller, at, &mut checks);
    let limits = Limits { tier: tier.output_max_tokens, model: model.max_output_tokens };
    let prepared = in_force.models.get(at).ok_or(Reason::Internal)?;
    let ask = Ask { tier, asked: &asked, endpoint, limits, model: prepared, body: body.len() as u64, now, id: head.id };
    let taken = take(&ask, admitter, &mut checks, &body);
    let Taken { permit, charge, limits, exact } = taken.map_err(|why| why.refusal(tier, &checks, now, head.id))?;
    let mut own = Vec::with_capacity(12);
    headers::openai(&checks, now, None, &mut own);

    // balance, forward
    let bound = budget::bound(endpoint, &asked, &charge, limits, &prepared.counter);
    let plain = Some(Plain::new(Arc::clone(&prepared.counter), endpoint.generates()));
    let charge = charge.counting(if exact { None } else { count_input(in_force, at, endpoint, &body) });
    let (answer, whole) = (ModelAnswer::new(&asked, tier.price.clone()).bounded(bound).kept(plain), !asked.stream);
    let attempts = Attempts::of_model(ModelAttempts {
        in_force: in_force.clone(),
        model: at,
        order: order_of(in_force, at, head),
        endpoint,
        query: query(head),
        head: Arc::clone(shared),
        body,
        asked,
        limits,
        room: (Arc::clone(&bounds.room), holder(context, head)),
        last: None,
    });
    let deadlines = Deadlines::of_model(&tier.timeouts, &model.timeouts);
    let dispatch = Dispatch::new(Method::POST, attempts.ok_or(Reason::Internal)?, deadlines, head.connection(), whole);
    Ok(Admission {
        permit,
        shadowed: tier::shadowed(&checks),
        checks,
        headers: own,
        dispatch: Dispatch { ping: model.stream_ping().filter(|_| !whole), ..dispatch },
        model: Some((at, answer)),
        charge: Some(charge),
    })
}

fn work(endpoint: Endpoint) -> Work {
    if endpoint.generates() { Work::Generating } else { Work::Reading }
}

/// The deciding words of a body. In Azure's dialect the path names the model.
fn deciding_words(tier: &Tier, head: &Head, endpoint: Endpoint, body: Bytes) -> Result<(Bytes, Asked), Refusal> {
    judge_size(tier, &body)?;
    let body = accept::body::of_deployment(body, operation::deployment(&head.path));
    let asked = accept::openai::read(endpoint, &body)?;
    Ok((body, asked))
}

/// Takes from all limits of a call, or from none.
fn take<P: CounterSpace>(
    ask: &Ask<'_>,
    admitter: &Admitter<P>,
    checks: &mut [Check],
    body: &[u8],
) -> Result<Taken<P>, Refused> {
    let (endpoint, model) = (ask.endpoint, ask.model);
    ask.take(admitter, checks, || model.input_bound(endpoint, body), || model.input_tokens(endpoint, body))
}

/// Counts the input of a call that nobody reports usage of; `None` for a body whose bound stays, since to count it would take long.
fn count_input(in_force: &InForce, model: usize, endpoint: Endpoint, body: &Bytes) -> Option<CountInput> {
    if body.len() > MOST_COUNTED {
        return None;
    }
    let (in_force, body) = (in_force.clone(), body.clone());
    Some(Box::new(move || in_force.models.get(model).map_or(u64::MAX, |model| model.input_tokens(endpoint, &body))))
}

/// Refuses a head that declares a body above the tier's bound.
fn judge_declared(tier: &Tier, head: &Head) -> Result<(), Refusal> {
    match (head.length, tier.prompt_max_bytes) {
        (BodyLength::Known(bytes), Some(most)) if size::is_above(bytes, Some(most)) => Err(openai::too_large(most)),
        _ => Ok(()),
    }
}

/// Refuses a plain body above the tier's bound.
pub(super) fn judge_size(tier: &Tier, body: &[u8]) -> Result<(), Refusal> {
    match tier.prompt_max_bytes {
        Some(most) if size::is_above(body.len() as u64, Some(most)) => Err(openai::too_large(most)),
        _ => Ok(()),
    }
}

/// The order of a model's targets for this request.
fn order_of(in_force: &InForce, model: usize, head: &Head) -> std::vec::IntoIter<usize> {
    let targets = in_force.models.get(model).map_or(&[][..], |model| &model.targets);
    order::draw(targets.iter().map(|target| target.weight), head.id.0[1]).into_iter()
}

/// The caller's query as it goes on.
fn query(head: &Head) -> String {
    let azure = operation::serves_azure(&head.path);
    if azure { azure_query(&head.query) } else { keyless_query(&head.query) }.into_owned()
}
