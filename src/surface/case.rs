//! The values that pass between the order of the stages and the stages.
//!
//! A [`Case`] is one request with everything that judges it. An accepted head leaves its [`Findings`] for the body; an
//! admitted body leaves an [`Admission`] for the call.

use std::mem::take;
use std::sync::Arc;

use bytes::Bytes;

use super::bounds::Bounds;
use super::question::Question;
use super::rejected::Rejected;
use crate::accept;
use crate::accept::openai::Endpoint;
use crate::accept::room::Holder;
use crate::admit::{Admitter, CallerRows, Check, Permit};
use crate::cells::CounterSpace;
use crate::coding::Coding;
use crate::forward::Dispatch;
use crate::forward::headers::Identity;
use crate::identify::{KeyHasher, KeyHolder};
use crate::in_force::InForce;
use crate::r#match::probe::Probe;
use crate::refusal::{Reason, Refusal};
use crate::request::{Head, Header};
use crate::settle::{Charge, LogContext};
use crate::snapshot::{Offer, Tier};
use crate::stream::answer::ModelAnswer;
use crate::units::Moment;

/// Reads where a caller stands at the limits of its tier, as the body of `GET /v1/limits`; `None` when the counters of other
/// workers cannot be read.
pub type StandingReader<'a> = dyn Fn(&Offer, &Tier, &KeyHolder) -> Option<Bytes> + 'a;

/// One request at the stages: its head, the configuration that judges it, the counters, the time.
pub(super) struct Case<'a, P: CounterSpace> {
    pub(super) in_force: &'a Arc<InForce>,
    pub(super) hasher: &'a KeyHasher,
    pub(super) admitter: &'a Admitter<P>,
    pub(super) bounds: &'a Bounds,
    pub(super) head: &'a Head,
    pub(super) now: Moment,
}

/// A head that every stage accepted: its body is to be read.
#[derive(Debug)]
pub struct Accepted {
    pub(super) in_force: Arc<InForce>,
    pub(super) context: LogContext,
    /// The limits that the head is subject to.
    pub(super) checks: Vec<Check>,
    pub(super) findings: Findings,
}

/// The findings of a head that its body needs.
#[derive(Debug)]
pub(super) enum Findings {
    Kong(KongHead),
    OpenAi(OpenAiHead),
    /// A body that is only counted, and its coding.
    Tokenize(Option<Coding>),
    /// A question to the control process, as its line. Its body is thrown away.
    Question(String),
}

/// The findings on Kong's routes.
#[derive(Debug)]
pub(super) struct KongHead {
    /// Bytes of the path that the route covers.
    pub(super) covered: usize,
    pub(super) identity: Option<Identity>,
    /// Index of the rate-limiting instance that runs; the first `own` checks are its.
    pub(super) profile: Option<u32>,
    pub(super) own: usize,
    /// Most bytes of the body.
    pub(super) size: Option<u64>,
}

/// The findings on `/v1`.
#[derive(Debug, Clone, Copy)]
pub(super) struct OpenAiHead {
    pub(super) endpoint: Endpoint,
    /// The coding of the body; `None`: it is plain.
    pub(super) coding: Option<Coding>,
    pub(super) caller: CallerRows,
}

/// The result of a head that was not refused.
#[derive(Debug)]
pub enum HeadOutcome {
    /// The body is to be read.
    Accepted(Box<Accepted>),
    /// The head asked for a document.
    Document(LogContext, Bytes),
    /// A load balancer asks about the worker.
    Probe(Probe),
    /// A browser asks whether a page may call: these headers tell it.
    Preflight(LogContext, Vec<Header>),
}

/// The result of a body that was not refused.
pub(super) struct Admission<P: CounterSpace> {
    pub(super) permit: Permit<P>,
    /// The checks that the permit was taken by.
    pub(super) checks: Vec<Check>,
    /// The headers of the limits.
    pub(super) headers: Vec<Header>,
    /// A limit in shadow mode would have refused.
    pub(super) shadowed: bool,
    pub(super) dispatch: Dispatch,
    /// The model that is called, and its answer.
    pub(super) model: Option<(usize, ModelAnswer)>,
    /// Its budgets; `None`: no budget counts it.
    pub(super) charge: Option<Charge>,
}

impl Accepted {
    /// Whether the body is answered by [`super::Stages::tokenize`], and goes to no upstream.
    pub fn is_counted(&self) -> bool {
        matches!(self.findings, Findings::Tokenize(_))
    }

    /// The question to the control process that the head asks, if it asks one.
    pub fn question(&mut self) -> Option<Question> {
        let Findings::Question(line) = &mut self.findings else { return None };
        Some(Question { in_force: Arc::clone(&self.in_force), context: self.context, line: take(line) })
    }

    /// The caller whose part of the worker's memory has the body.
    pub fn holder(&self, head: &Head) -> Holder {
        holder(&self.context, head)
    }

    /// The refusal of the request for a reason outside of the stages, with the facts of its head.
    pub fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(reason, self.context, &self.in_force)
    }
}

/// The caller whose part of the worker's memory a request takes.
pub(super) fn holder(context: &LogContext, head: &Head) -> Holder {
    let address = || Holder::Address(head.peer.map(|peer| peer.ip().to_canonical()));
    context.consumer_n.map_or_else(address, Holder::Consumer)
}

impl<P: CounterSpace> Case<'_, P> {
    /// The plain body, of a bounded number of members, which holds its own bytes of the worker's memory once it was decoded.
    pub(super) fn plain(&self, context: &LogContext, body: Bytes, coding: Option<Coding>) -> Result<Bytes, Refusal> {
        let plain = accept::body::plain(body, coding, self.bounds.max_body)?;
        accept::body::judge_members(&plain, self.bounds.max_members)?;
        if coding.is_none() {
            return Ok(plain);
        }
        let claim = self.bounds.room.claim(holder(context, self.head), plain.len() as u64)?;
        Ok(claim.keep(plain))
    }

    /// The head is accepted with these findings.
    pub(super) fn accepted(&self, context: LogContext, checks: Vec<Check>, findings: Findings) -> HeadOutcome {
        HeadOutcome::Accepted(Box::new(Accepted { in_force: Arc::clone(self.in_force), context, checks, findings }))
    }
}
