//! The facts of a call that outlive it, and its end for the record.
//!
//! In: the facts that the stages and each attempt note, the answer that passed, the settlement. Out: an [`EndedCall`], which makes the
//! reports for the access log and the metrics. A target learns here whether its stream hid output. No counter is read or changed.

use std::sync::Arc;
use std::time::Duration;

use super::entry::{Answered, Subject};
use http::StatusCode;

use crate::balance::Origin;
use crate::in_force::InForce;
use crate::price::Classes;
use crate::request::Head;
use crate::settle::{Charge, End, Known, LogContext, Outcome, Report, Settled, Traffic, Verdict, call_report};
use crate::snapshot::{FailoverOn, Model, Tokenizer};
use crate::stream::answer::ModelAnswer;
use crate::telemetry::ErrorType;
use crate::telemetry::Source;
use crate::telemetry::budgets::BudgetReport;
use crate::telemetry::series::{CallNames, CallReport};
use crate::units::Moment;

/// The facts of a call that its record needs.
#[allow(clippy::struct_excessive_bools)] // of the call, and of its last attempt
pub(super) struct Facts {
    pub(super) in_force: Arc<InForce>,
    pub(super) head: Arc<Head>,
    pub(super) context: LogContext,
    pub(super) traffic: Traffic,
    /// The answer of a model.
    pub(super) answer: Option<ModelAnswer>,
    /// The address that was asked last.
    pub(super) upstream: Option<Arc<Origin>>,
    /// Attempts at addresses.
    pub(super) attempts: u32,
    /// The last of them that an upstream answered.
    pub(super) answered: Option<Answered>,
    /// The caller asked for a stream.
    pub(super) stream: bool,
    /// The last of them has not failed.
    pub(super) open: bool,
    /// The first byte of the last of them went upstream.
    pub(super) sent: bool,
    /// The last of them led back to a gateway, which refused it.
    pub(super) looped: bool,
    /// Those that failed, of a model's call.
    pub(super) failed: Vec<FailedAttempt>,
}

/// An attempt at an upstream of a model that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedAttempt {
    /// The address.
    pub upstream: Arc<Origin>,
    /// Why.
    pub error: ErrorType,
    /// The status of its answer; `None` without one.
    pub status: Option<StatusCode>,
}

/// A call that is over and settled.
pub struct EndedCall {
    pub(super) facts: Facts,
    pub(super) end: End,
    pub(super) took: Duration,
    /// The tokens that the upstream of a model reported.
    pub(super) usage: Option<Classes>,
    /// The budgets that counted it.
    pub(super) charge: Option<Charge>,
    /// Their end; `None` where no budget counts it, or its amounts went back.
    pub(super) settled: Option<Settled>,
}

impl Facts {
    /// The subject of the call's rows, at this upstream of its model.
    pub(super) fn subject(&self, admitted: Moment, upstream: Option<usize>) -> Subject<'_> {
        let Self { in_force, head, context, stream, .. } = self;
        Subject { in_force, head, context: LogContext { upstream, ..*context }, admitted, stream: *stream }
    }

    pub(super) fn attempt_failed(&mut self, error: ErrorType, status: Option<StatusCode>) {
        if std::mem::take(&mut self.open)
            && self.answer.is_some()
            && let Some(upstream) = self.upstream.clone()
        {
            self.failed.push(FailedAttempt { upstream, error, status });
        }
    }

    /// The facts about the tokens of a call with this end.
    pub(super) fn known(&self, usage: Option<Classes>, end: End, verdict: Verdict) -> Known {
        let (counted, error) = (self.counted(usage), verdict == Verdict::Error);
        let outdated = self.answer.as_ref().is_some_and(ModelAnswer::is_outdated);
        let bound = self.model().is_some_and(|model| model.tokenizer == Tokenizer::Bytes);
        let service = self.answer.as_ref().map(ModelAnswer::service).unwrap_or_default();
        Known { usage, counted, service, error, cut: outdated || end.outcome != Outcome::Completed, bound }
    }

    /// Remembers whether the target hides a part of its streams' output: the reservations of later streams depend on it.
    pub(super) fn learn(&self) {
        let Some(hides) = self.answer.as_ref().and_then(ModelAnswer::hides_output) else { return };
        let model = self.context.model.and_then(|model| self.in_force.models.get(model));
        let mut targets = model.into_iter().flat_map(|model| &model.targets);
        if let Some(target) = targets.find(|target| Some(target.at) == self.context.upstream) {
            target.learned.set_hides_output(hides);
        }
    }

    /// The model that is called; `None` on Kong's routes.
    pub(super) fn model(&self) -> Option<&Model> {
        self.in_force.offer().models.get(self.context.model?)
    }

    /// The output tokens that the gateway counts; of a document only where its usage has none.
    pub(super) fn counted(&self, usage: Option<Classes>) -> Option<u64> {
        let answer = self.answer.as_ref()?;
        let told = usage.is_some_and(|usage| usage.all_output() > 0);
        if told && !answer.is_events() { None } else { answer.counted() }
    }

    /// The ends of attempts after which the next target is asked; `None` on Kong's routes.
    pub(super) fn failover(&self) -> Option<&FailoverOn> {
        self.model().map(|model| &model.failover_on)
    }
}

impl EndedCall {
    /// The head of the request.
    pub fn request(&self) -> &Head {
        &self.facts.head
    }

    /// The report of the request.
    pub fn report(&self) -> Report<'_> {
        let Facts { in_force, context, traffic, upstream, attempts, .. } = &self.facts;
        let source = if self.end.reason.is_some() { Source::Exit } else { Source::Service };
        let (upstream, attempts, usage, settled) = (upstream.as_deref(), *attempts, self.usage, self.settled);
        Report { source, upstream, attempts, usage, settled, ..context.report(in_force, self.end, *traffic, self.took) }
    }

    /// The report of a model's call, and its names in metrics; `None` where it was refused as a loop: no model worked on it. `report`:
    /// that of the request.
    pub fn call_report(&self, report: &Report<'_>) -> Option<(CallNames, CallReport)> {
        let Facts { in_force, context, answer, looped, .. } = &self.facts;
        let call = call_report(answer.as_ref().filter(|_| !looped)?, report);
        Some((context.names(in_force)?, call))
    }

    /// The end of its budgets; `None` where no budget counts it, or its amounts went back.
    pub fn settled(&self) -> Option<&Settled> {
        self.settled.as_ref()
    }

    /// The tier's row number, and the report of its budgets; `None` where no budget counts it.
    pub fn budget_report(&self) -> Option<(u32, BudgetReport)> {
        let Facts { in_force, context, .. } = &self.facts;
        let cut = self.end.outcome == Outcome::LimitCut;
        let charge = self.charge.as_ref().filter(|charge| charge.has_budget())?;
        Some((context.tier(in_force)?.n, charge.report(self.settled(), cut)))
    }

    /// Its attempts that failed, of a model's call.
    pub fn failed_attempts(&self) -> &[FailedAttempt] {
        &self.facts.failed
    }
}
