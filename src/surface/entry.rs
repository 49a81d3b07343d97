//! The rows of a call in the ledger: the draft before it is sent, one for each answered attempt, and the one of its end.
//!
//! In: the facts of a call. Out: an [`Entry`]. An attempt without an answer has a row only when the call counts: nobody pays for it
//! otherwise.

use std::time::Duration;

use crate::entry::{Ended, Entry, TokenSource};
use crate::in_force::InForce;
use crate::price::{Classes, Prices};
use crate::request::Head;
use crate::settle::{Charge, End, LogContext, Settled, Traffic, UsageSource};
use crate::units::Moment;

/// An attempt that an upstream answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Answered {
    /// 1 for the first.
    pub(super) attempt: u32,
    /// Index of the model's upstream.
    pub(super) upstream: Option<usize>,
    /// Status of the answer.
    pub(super) status: u16,
}

/// A call whose rows are written.
pub(super) struct Subject<'a> {
    pub(super) in_force: &'a InForce,
    pub(super) head: &'a Head,
    pub(super) context: LogContext,
    pub(super) admitted: Moment,
    pub(super) stream: bool,
}

impl Subject<'_> {
    /// The row of an attempt that has not ended: the names of the call.
    fn begun(&self) -> Entry {
        let Self { in_force, head, context, admitted, stream } = self;
        let (route, tier) = (context.route(in_force), context.tier(in_force));
        let model = context.model.and_then(|model| in_force.offer().models.get(model));
        let price = tier.filter(|_| model.is_some()).and_then(|tier| tier.price.as_ref());
        let upstream = context
            .model
            .zip(context.upstream)
            .and_then(|(model, upstream)| in_force.offer().upstream_number(model, upstream));
        Entry {
            admitted_at: *admitted,
            request: head.id,
            consumer: context.consumer_n.unwrap_or(0),
            credential: context.credential_n,
            tier: tier.map_or(0, |tier| tier.n),
            limit_set: tier.map_or(0, |tier| tier.limit_set),
            route: route.map_or(0, |route| route.n),
            model: model.map_or(0, |model| model.n),
            upstream: upstream.map_or(0, |row| row.saturating_add(1)),
            service: route.and_then(|route| in_force.policy().service_of(route)).map_or(0, |service| service.n),
            price_version: price.map_or(0, Prices::version),
            cost_version: self.cost().map_or(0, Prices::version),
            // A call that does not count costs nothing, where prices are known.
            price: price.map(|_| 0),
            cost: self.cost().map(|_| 0),
            stream: *stream,
            ..Entry::default()
        }
    }

    /// The row of the call if the gateway dies: its reservation.
    pub(super) fn draft(&self, attempt: u32, charge: Option<&Charge>) -> Entry {
        let begun = Entry { counted: true, attempt: small(attempt.max(1)), ..self.begun() };
        let Some(charge) = charge else { return begun };
        let (held, price) = (charge.held(), charge.price_held());
        let tokens = Classes { input: held.input_tokens, output: held.output_tokens, ..Classes::default() };
        let cost = self.cost().map(|cost| cost.bound(held.input_tokens, held.output_tokens));
        let source = TokenSource::Reserved;
        Entry { source, tokens, price, cost, ..begun }
    }

    /// The row of an attempt whose answer did not count: another one followed.
    pub(super) fn refused(&self, answered: Answered, after: Duration) -> Entry {
        let Answered { attempt, status, .. } = answered;
        let ended = Ended::UpstreamError;
        Entry { status, attempt: small(attempt), ended, ..self.timed(after, None) }
    }

    /// The row of the call's end. `settled`: `None` where its amounts go back, or it has none.
    pub(super) fn end(
        &self,
        end: End,
        attempt: u32,
        traffic: Traffic,
        after: Duration,
        settled: Option<&Settled>,
        counted: bool,
    ) -> Entry {
        let entry = Entry {
            status: end.status,
            attempt: small(attempt.max(1)),
            ended: end.outcome.into(),
            counted,
            last: true,
            ..self.timed(after, traffic.head_after)
        };
        let Some(Settled { classes, source, price, overrun, .. }) = settled else { return entry };
        let told = *source != UsageSource::Reported || !classes.is_empty();
        let source = if told { (*source).into() } else { TokenSource::None };
        let entry = Entry { tokens: *classes, source, price: *price, overrun: *overrun, ..entry };
        Entry { cost: self.cost().map(|cost| entry.worth(cost)), ..entry }
    }

    fn timed(&self, after: Duration, head: Option<Duration>) -> Entry {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let nanos = u64::try_from(after.as_nanos()).unwrap_or(u64::MAX);
        Entry {
            ended_at: Moment(self.admitted.0.saturating_add(nanos)),
            latency: micros(after),
            first_byte: head.map_or(0, micros),
            ..self.begun()
        }
    }

    fn cost(&self) -> Option<&Prices> {
        self.in_force.offer().models.get(self.context.model?)?.cost.as_ref()
    }
}

fn small(attempt: u32) -> u8 {
    u8::try_from(attempt).unwrap_or(u8::MAX)
}
