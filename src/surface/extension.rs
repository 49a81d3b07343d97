//! The way of a stream to more tokens of its budgets.
//!
//! In: the parts of a call that hold its amounts, and a request of its gauge for more. Out: the tokens, taken from all budgets by the
//! limits in force now, or the check that refuses; at the boundary the end of the stream as its caller reads it.

use std::sync::Arc;

use super::in_flight::InFlight;
use crate::admit::{Check, Permit, refused, tier};
use crate::cells::CounterSpace;
use crate::in_force::InForce;
use crate::price::{Classes, ServiceTier};
use crate::settle::{Charge, Known};
use crate::snapshot::Tier;
use crate::stream::gauge::{Ending, More};
use crate::units::Moment;

/// Tells the configuration in force now: a stream reads it whenever it needs more tokens.
pub type Current<'a> = dyn Fn() -> Arc<InForce> + 'a;

/// The way of a stream to more tokens.
pub(super) struct Extension<'a, P: CounterSpace> {
    pub(super) permit: &'a mut Permit<P>,
    /// Their limits become those in force.
    pub(super) checks: &'a mut [Check],
    pub(super) charge: &'a mut Charge,
    pub(super) in_flight: &'a mut InFlight<P>,
    /// The configuration that admitted the call.
    pub(super) admitted_by: &'a InForce,
    pub(super) current: &'a Current<'a>,
    /// The caller's tier at admission.
    pub(super) tier: Option<&'a Tier>,
    pub(super) now: Moment,
    /// Index of the check that refused last.
    pub(super) refused: Option<usize>,
}

impl<P: CounterSpace> Extension<'_, P> {
    /// Renews the limits of the checks when the policy has changed since admission. A call whose tier is gone keeps the last ones.
    fn renew(&mut self) {
        let (now, tier) = ((self.current)(), self.tier.map(|tier| tier.n));
        if Arc::ptr_eq(&now.snapshot.policy, &self.admitted_by.snapshot.policy) {
            return;
        }
        if let Some((_, tier)) = tier.and_then(|n| now.offer().tier(n)) {
            tier::renew(tier, self.checks);
        }
    }

    /// Takes so many more output tokens. The error is the index of the check that refuses.
    fn take(&mut self, tokens: u64) -> Result<(), usize> {
        let more = self.charge.step(tokens);
        self.permit.extend(self.checks, &more, self.now)?;
        self.charge.took(&more);
        self.in_flight.hold(&more);
        Ok(())
    }

    /// Gives back the part of a bounded input that its count does not need. False: the count needs all of it.
    fn tighten(&mut self) -> bool {
        let Some(less) = self.charge.tighten() else { return false };
        // First the note: a note of more than the permit holds would be a row of more.
        if let Some(so_far) = self.charge.noted() {
            self.permit.progress(&so_far);
        }
        self.permit.shrink(&less);
        self.in_flight.release(&less);
        true
    }
}

impl<P: CounterSpace> More for Extension<'_, P> {
    fn more(&mut self, tokens: u64) -> bool {
        self.renew();
        let mut took = self.take(tokens);
        if took.is_err() && self.tighten() {
            took = self.take(tokens);
        }
        if let Err(check) = took {
            self.charge.refused();
            self.refused = Some(check);
        }
        took.is_ok()
    }

    fn counted(&mut self, output: u64) {
        self.permit.progress(&self.charge.note(output));
    }

    fn end(&self, usage: Option<Classes>, service: ServiceTier, output: u64) -> Ending {
        let counted = Some(output);
        let settled = self.charge.settle(Known { usage, counted, service, error: false, cut: true, bound: true });
        let check = self.refused.and_then(|check| self.checks.get(check));
        let tier = self.tier.map(|tier| &*tier.name);
        let limit = check.map(|check| refused::cut(&self.permit.look(check, self.now), tier, self.now));
        Ending { limit: limit.unwrap_or_else(|| "{}".to_owned()), usage: settled.classes, price: settled.price }
    }
}
