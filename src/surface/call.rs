//! The stages behind admission, the same for both surfaces: the call is sent, its answer passes, it is settled.
//!
//! In: an [`Admitted`] request; then, from the upstream client, each step of its [`Call`] with the time since arrival. Out: the
//! headers and bytes that the client gets, and once at the end an [`EndedCall`] for the record. A call that is dropped
//! before its end gives back all that it took.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::case::{Admission, holder};
use super::cors;
use super::ended::{EndedCall, Facts};
use super::entry::Answered;
use super::extension::{Current, Extension};
use super::in_flight::InFlight;
use super::rejected::Rejected;
use crate::accept::room::Holder;
use crate::admit::{Check, Permit, headers};
use crate::balance::{Origin, health};
use crate::cells::CounterSpace;
use crate::forward::Dispatch;
use crate::in_force::InForce;
use crate::limits;
use crate::refusal::{Reason, Refusal, answer, openai};
use crate::request::{Answer, Head, Header, Surface};
use crate::settle::{Charge, End, Failure, Known, LogContext, Outcome, Shutdown, Traffic, Verdict, stand_in};
use crate::stream::answer::{Fault, ModelAnswer};
use crate::stream::bill;
use crate::stream::gauge::Unbounded;
use crate::stream::head::{Times, own_headers};
use crate::telemetry::ErrorType;
use crate::units::Moment;

/// A request that every stage let through, with its permit: the only value that an upstream client takes.
///
/// Only [`Stages::body`](super::Stages::body) makes one, so a request that was not admitted cannot be sent:
///
/// ```compile_fail,E0451
/// use aigw_core::cells::heap::HeapSpace;
/// use aigw_core::forward::Dispatch;
/// use aigw_core::surface::Admitted;
///
/// fn send(_: Admitted<HeapSpace>) {}
///
/// fn sneak_past(dispatch: Dispatch) {
///     send(Admitted { dispatch });
/// }
/// ```
///
/// Nor can it be sent twice: sending takes it by value.
///
/// ```compile_fail,E0382
/// use aigw_core::cells::heap::HeapSpace;
/// use aigw_core::surface::Admitted;
///
/// fn send(_: Admitted<HeapSpace>) {}
///
/// fn send_twice(admitted: Admitted<HeapSpace>) {
///     send(admitted);
///     send(admitted);
/// }
/// ```
#[must_use = "dropping an admitted request gives back all that it took"]
pub struct Admitted<P: CounterSpace> {
    dispatch: Dispatch,
    call: Call<P>,
    shadowed: bool,
}

/// An admitted request on its way to upstreams.
#[must_use = "dropping a call gives back all that it took: end it with `completed` or `failed`"]
pub struct Call<P: CounterSpace> {
    permit: Permit<P>,
    /// The checks that the permit was taken by.
    checks: Vec<Check>,
    /// The headers of the limits, until the answer's head passes.
    headers: Vec<Header>,
    admitted: Moment,
    /// The budgets that count it.
    charge: Option<Charge>,
    in_flight: InFlight<P>,
    /// On the answer that passes; before it, whether the last attempt's answer was the fleet's own failure.
    verdict: Verdict,
    status: u16,
    egress: u64,
    facts: Facts,
}

/// The way on from an answer's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judged {
    /// The answer passes.
    Passes,
    /// The upstream refused the call.
    Refused {
        /// The failure that stands for the answer; `None`: the answer may pass.
        stand_in: Option<Failure>,
        /// The next target is asked, if there is one.
        followed: bool,
    },
}

/// Whether an answer is a gateway's refusal of a loop.
fn is_of_loop(status: StatusCode, headers: Option<&HeaderMap<HeaderValue>>) -> bool {
    let server = || headers?.get(http::header::SERVER);
    status == StatusCode::LOOP_DETECTED && server().is_some_and(|server| server.as_bytes().starts_with(b"aigw/"))
}

/// A call that failed.
pub struct FailedCall {
    /// For the record.
    pub ended: EndedCall,
    /// The answer to the client; `None` when a part of the upstream's answer had passed: then its connection is cut.
    pub answer: Option<Answer>,
}

impl<P: CounterSpace> Admitted<P> {
    pub(super) fn new(
        admission: Admission<P>,
        in_force: Arc<InForce>,
        head: Arc<Head>,
        mut context: LogContext,
        ingress: u64,
        admitted: Moment,
    ) -> Self {
        let Admission { permit, checks, headers, shadowed, dispatch, model, charge } = admission;
        context.model = model.as_ref().map(|(model, _)| *model);
        let answer = model.map(|(_, answer)| answer);
        let stream = !dispatch.whole && answer.is_some();
        let traffic = Traffic { ingress, ..Traffic::default() };
        let tier = context.tier(&in_force).map(|tier| tier.n);
        let in_flight = InFlight::enter(permit.space(), tier, charge.as_ref().map(Charge::held));
        let facts = Facts {
            in_force,
            head,
            context,
            traffic,
            answer,
            upstream: None,
            attempts: 0,
            answered: None,
            stream,
            open: false,
            sent: false,
            looped: false,
            failed: Vec::new(),
        };
        let (verdict, status, egress) = Default::default();
        Self {
            dispatch,
            call: Call { permit, checks, headers, admitted, charge, in_flight, verdict, status, egress, facts },
            shadowed,
        }
    }

    /// The row number of the caller's tier, when one of its limits in shadow mode would have refused.
    pub fn shadowed_tier(&self) -> Option<u32> {
        let facts = &self.call.facts;
        facts.context.tier(&facts.in_force).filter(|_| self.shadowed).map(|tier| tier.n)
    }

    /// The requests to send, and the call that watches their answers.
    pub fn into_parts(self) -> (Dispatch, Call<P>) {
        (self.dispatch, self.call)
    }
}

impl<P: CounterSpace> Call<P> {
    /// The head of the request.
    pub fn request(&self) -> &Arc<Head> {
        &self.facts.head
    }

    /// The caller whose part of the worker's memory the call takes.
    pub fn holder(&self) -> Holder {
        holder(&self.facts.context, &self.facts.head)
    }

    /// The refusal of the request, which cannot be sent.
    pub fn rejected(&self, reason: Reason) -> Rejected {
        Rejected::new(reason, self.facts.context, &self.facts.in_force)
    }

    /// An attempt at this address begins. `at`: its index among the model's upstreams; `None` for a service.
    pub fn attempt(&mut self, upstream: &Arc<Origin>, at: Option<usize>) {
        self.facts.context.upstream = at;
        self.facts.attempts += 1;
        self.facts.open = true;
        self.facts.sent = false;
        self.facts.looped = false;
        self.verdict = Verdict::default();
        self.facts.upstream = Some(Arc::clone(upstream));
    }

    /// The attempt failed, and another one may follow. A second failure of one attempt changes nothing.
    pub fn attempt_failed(&mut self, error: ErrorType) {
        self.facts.attempt_failed(error, None);
    }

    /// Whether the next target is asked after a failure before sending.
    pub fn follows_failure(&self) -> bool {
        !self.is_of_model() || self.facts.failover().is_some_and(|on| on.connect)
    }

    /// Whether a model answers.
    pub fn is_of_model(&self) -> bool {
        self.facts.answer.is_some()
    }

    /// Judges the head of an attempt's answer; `headers` may be unknown. On Kong's routes every answer passes.
    pub fn judge(&mut self, status: StatusCode, headers: Option<&HeaderMap<HeaderValue>>) -> Judged {
        if is_of_loop(status, headers) {
            // A gateway refused the request behind this one: nobody worked on it, and no upstream failed.
            (self.facts.looped, self.facts.open, self.verdict) = (true, false, Verdict::Fleets);
        } else {
            self.answered(status);
        }
        let Some(on) = self.facts.failover().filter(|_| !status.is_success()) else { return Judged::Passes };
        let (stand_in, followed) = (stand_in(status), on.status(status.as_u16()));
        let reason = stand_in.map(|failure| failure.error_type(false));
        if let Some(error) = reason.or(ErrorType::of_status(status.as_u16())) {
            self.facts.attempt_failed(error, Some(status));
        }
        if Verdict::of(status) == Verdict::Fleets {
            // Also for a client that leaves before it hears of it.
            self.verdict = Verdict::Fleets;
        }
        if stand_in.is_some() || followed { Judged::Refused { stand_in, followed } } else { Judged::Passes }
    }

    /// The attempt has an answer.
    fn answered(&mut self, status: StatusCode) {
        self.record_refused();
        let Facts { attempts, context, .. } = self.facts;
        self.facts.answered = Some(Answered { attempt: attempts, upstream: context.upstream, status: status.as_u16() });
    }

    /// Writes the row of the attempt before this one, if it was answered: its answer did not count. Returns whether it did.
    fn record_refused(&mut self) -> bool {
        let attempts = self.facts.attempts;
        let Some(before) = self.facts.answered.take_if(|before| before.attempt != attempts) else { return false };
        let after = self.facts.traffic.sent_after.unwrap_or_default();
        let row = self.facts.subject(self.admitted, before.upstream).refused(before, after);
        self.permit.record(&row.encode())
    }

    /// The first byte of an attempt goes upstream now. A worker that dies from here on leaves this attempt's row.
    pub fn sending(&mut self, after: Duration) {
        let first = self.facts.traffic.sent_after.is_none();
        self.facts.traffic.sent_after.get_or_insert(after);
        self.facts.sent = true;
        if self.record_refused() || first {
            let Facts { context, attempts, .. } = self.facts;
            let draft = self.facts.subject(self.admitted, context.upstream).draft(attempts, self.charge.as_ref());
            self.permit.mark_sent(&draft.draft());
        }
    }

    /// The head of an answer passes: removes the headers that must stay behind from `headers`, and returns the gateway's
    /// own. `first`: the bytes of the body that are there already. `draining`: close the connection.
    pub fn head(
        &mut self,
        status: StatusCode,
        headers: &mut HeaderMap<HeaderValue>,
        first: &[u8],
        after: Duration,
        draining: bool,
    ) -> Vec<Header> {
        let Facts { in_force, head, context, traffic, answer, .. } = &mut self.facts;
        self.status = status.as_u16();
        traffic.head_after = Some(after);
        if let Some(answer) = answer {
            answer.head(status, headers, first);
            self.verdict = Verdict::of(status);
            if self.verdict != Verdict::Success {
                // An error leads no client elsewhere, and asks for no other key.
                for name in ["location", "refresh", "www-authenticate"] {
                    headers.remove(name);
                }
            }
        }
        let mut own = std::mem::take(&mut self.headers);
        if self.verdict == Verdict::Fleets {
            own.clear();
            match head.surface {
                Surface::OpenAi => headers::openai_given_back(&self.checks, self.admitted, &mut own),
                Surface::Kong if self.checks.is_empty() => {}
                Surface::Kong => headers::rate_limit_given_back(&self.checks, self.admitted, &mut own),
            }
        }
        let times = Times { sent: traffic.sent_after.unwrap_or_default(), head: after };
        if let Some(cors) = cors::of(in_force, context, head) {
            cors::append_to(cors, head, headers, &mut own);
        }
        own_headers(&mut own, head, headers, times, draining);
        own
    }

    /// The whole answer of a model passes as one piece: adds the headers that tell its tokens and its price to `own`.
    /// The headers of its budgets become those after its settlement.
    pub fn bill(&mut self, own: &mut Vec<Header>) {
        let Facts { in_force, context, answer, .. } = &self.facts;
        let Some(plain) = answer.as_ref().filter(|answer| answer.is_plain()) else { return };
        let usage = plain.usage();
        if let Some(charge) = &self.charge {
            let (counted, service) = (self.facts.counted(usage), plain.service());
            let known = Known { usage, counted, service, error: plain.fault().is_some(), cut: false, bound: true };
            let settled = charge.settle(known);
            bill::headers(&settled.classes, settled.price, own);
            headers::openai_settled(&mut self.checks, &settled.amounts, self.admitted, own);
        } else if let Some(usage) = usage {
            let prices = context.tier(in_force).and_then(|tier| tier.price.as_ref());
            bill::headers(&usage, prices.map(|prices| prices.of(&usage)), own);
        }
    }

    /// A piece of the answer passes: returns its bytes for the client.
    pub fn piece(&mut self, piece: Bytes, after: Duration, current: &Current<'_>) -> Bytes {
        let piece = match self.budgeted(after, current) {
            (Some(answer), Some(mut more)) => answer.piece(piece, after, &mut more),
            (Some(answer), None) => answer.piece(piece, after, &mut Unbounded),
            (None, _) => piece,
        };
        self.egress += piece.len() as u64;
        piece
    }

    /// The upstream is silent: returns a comment for the client, where one may stand.
    pub fn ping(&mut self) -> Option<Bytes> {
        let ping = self.facts.answer.as_ref()?.ping()?;
        self.egress += ping.len() as u64;
        Some(ping)
    }

    /// The answer of a model, and the way to more tokens where budgets count it.
    fn budgeted<'a>(
        &'a mut self,
        after: Duration,
        current: &'a Current<'a>,
    ) -> (Option<&'a mut ModelAnswer>, Option<Extension<'a, P>>) {
        let Self { permit, checks, charge, in_flight, admitted, facts, .. } = self;
        let now = Moment(admitted.0.saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX)));
        let Facts { in_force: admitted_by, context, answer, .. } = facts;
        let tier = context.tier(admitted_by);
        let more = charge.as_mut().map(|charge| Extension {
            permit,
            checks,
            charge,
            in_flight,
            admitted_by,
            current,
            tier,
            now,
            refused: None,
        });
        (answer.as_mut(), more)
    }

    /// The answer is whole: returns the held bytes.
    pub fn rest(&mut self, after: Duration, current: &Current<'_>) -> Bytes {
        let rest = match self.budgeted(after, current) {
            (Some(answer), Some(mut more)) => answer.rest(&mut more),
            (Some(answer), None) => answer.rest(&mut Unbounded),
            (None, _) => Bytes::new(),
        };
        self.egress += rest.len() as u64;
        rest
    }

    /// Whether the stream has ended at the boundary of a budget: the upstream is not read further.
    pub fn is_over(&self) -> bool {
        self.facts.answer.as_ref().is_some_and(ModelAnswer::is_over)
    }

    /// Whether the answer of a model, whose connection ended in order, ended inside an event.
    pub fn is_torn(&self) -> bool {
        self.facts.answer.as_ref().is_some_and(ModelAnswer::is_torn)
    }

    /// The last bytes of a stream that breaks off, before its connection is cut. `None`: the cut is enough.
    pub fn last_words(&mut self, failure: Failure, cutting: bool) -> Option<Bytes> {
        let Facts { head, answer, .. } = &self.facts;
        let reason = failure.reason(cutting);
        if head.surface != Surface::OpenAi
            || reason == Reason::ClientGone
            || !answer.as_ref().is_some_and(ModelAnswer::is_events)
        {
            return None;
        }
        let words = Bytes::from(openai::event(&reason.into(), &head.request_id));
        self.egress += words.len() as u64;
        Some(words)
    }

    /// The whole answer was passed on.
    pub fn completed(mut self, after: Duration) -> EndedCall {
        let inside = self.facts.answer.as_ref().and_then(ModelAnswer::fault).map(|fault| match fault {
            Fault::Error => ErrorType::IN_ANSWER,
            Fault::Empty => ErrorType::EMPTY_STREAM,
            Fault::NoBody => ErrorType::EMPTY_ANSWER,
        });
        let error = match self.verdict {
            Verdict::Success => inside,
            Verdict::Error | Verdict::Fleets => ErrorType::of_status(self.status),
        };
        let outcome = match error {
            Some(_) => Outcome::UpstreamError,
            None if self.is_over() => Outcome::LimitCut,
            None => Outcome::Completed,
        };
        if let Some(error) = inside.filter(|_| self.verdict == Verdict::Success) {
            self.verdict = Verdict::Error;
            self.attempt_failed(error);
        }
        let end = End { outcome, reason: None, error, status: self.status, egress: self.egress };
        self.end(end, after)
    }

    /// The call broke off. `began`: the head of an answer was passed on.
    pub fn failed(
        mut self,
        failure: Failure,
        began: bool,
        shutdown: Shutdown,
        now: Moment,
        after: Duration,
    ) -> FailedCall {
        let left = failure.is_clients(shutdown.cutting);
        if failure.is_upstreams() {
            self.attempt_failed(failure.error_type(shutdown.cutting));
        }
        if began {
            let (outcome, error) = match self.verdict {
                Verdict::Fleets => (Outcome::UpstreamError, ErrorType::of_status(self.status)),
                _ if left => (Outcome::ClientCut, Some(failure.error_type(shutdown.cutting))),
                _ => (Outcome::UpstreamCut, Some(failure.error_type(shutdown.cutting))),
            };
            let end = End { outcome, reason: None, error, status: self.status, egress: self.egress };
            return FailedCall { ended: self.end(end, after), answer: None };
        }
        let reason = match failure.reason(shutdown.cutting) {
            Reason::Drained if self.facts.traffic.sent_after.is_none() => Reason::Draining,
            reason => reason,
        };
        // The amounts go back to the limits, and the headers of the limits show it.
        let mut own = Vec::new();
        match self.facts.head.surface {
            Surface::Kong => headers::rate_limit_given_back(&self.checks, now, &mut own),
            Surface::OpenAi => headers::openai_given_back(&self.checks, now, &mut own),
        }
        let retry_after_s = (reason == Reason::UpstreamOut).then(|| health::OUT.as_secs());
        let refusal = Refusal { retry_after_s, ..Refusal::from(reason).with(own) };
        let Facts { in_force, head, context, .. } = &self.facts;
        let mut answer = answer::refuse(head, refusal, None, after, shutdown.draining);
        cors::append(in_force, context, head, &mut answer.headers);
        let outcome = if left { Outcome::ClientCut } else { Outcome::UpstreamError };
        let (error, egress) = (Some(ErrorType::of_reason(reason)), answer.body.len() as u64);
        let end = End { outcome, reason: Some(reason), error, status: answer.status, egress };
        FailedCall { ended: self.end(end, after), answer: Some(answer) }
    }

    /// Whether the tier of the caller wants the call's entry on disk before the answer ends.
    pub fn is_strict(&self) -> bool {
        self.facts.context.tier(&self.facts.in_force).is_some_and(|tier| tier.strict)
    }

    fn end(self, end: End, took: Duration) -> EndedCall {
        let Self { mut permit, facts, verdict, charge, admitted, .. } = self;
        facts.learn();
        let usage = facts.answer.as_ref().and_then(ModelAnswer::usage);
        let counts = end.outcome.counts(verdict, facts.sent);
        let settled = charge.as_ref().map(|charge| charge.settle(facts.known(usage, end, verdict))).filter(|_| counts);
        if counts || facts.answered.is_some() {
            let (attempt, upstream) =
                facts.answered.map_or((facts.attempts, facts.context.upstream), |last| (last.attempt, last.upstream));
            let subject = facts.subject(admitted, upstream);
            // The row before the amounts: a process that dies in between leaves both to be found.
            permit.record(&subject.end(end, attempt, facts.traffic, took, settled.as_ref(), counts).encode());
        }
        if counts {
            permit.settle(&settled.map_or(limits::Usage::ANSWERED, |settled| settled.used()));
        } else {
            permit.give_back();
        }
        EndedCall { facts, end, took, usage, charge, settled }
    }
}
