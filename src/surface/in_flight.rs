//! The part of one call in its tier's gauges: one call in flight, and the amounts that its budgets hold.
//!
//! In: an admitted request; each change of the amounts that its budgets hold. Out: words in the lane of this worker. A value's drop takes its part
//! back, so every end of a call does.

use std::sync::Arc;

use crate::cells::CounterSpace;
use crate::cells::atomic::AtomicU64;
use crate::limits::Amounts;
use crate::telemetry::budgets::{self, IN_FLIGHT, IN_FLIGHT_WORDS};

/// A call in its tier's gauges.
pub(super) struct InFlight<P: CounterSpace> {
    space: Arc<P>,
    /// First word of the tier's run; `None`: the caller has no tier.
    first: Option<u32>,
    held: Amounts,
}

impl<P: CounterSpace> InFlight<P> {
    /// Adds a call of the tier with this row number, which holds `held`.
    pub(super) fn enter(space: &Arc<P>, tier: Option<u32>, held: Option<Amounts>) -> Self {
        let (first, held) = (tier.map(|n| n.saturating_mul(IN_FLIGHT_WORDS)), held.unwrap_or_default());
        let entered = Self { space: Arc::clone(space), first, held };
        if let Some(first) = first {
            budgets::enter(&entered.run(first), entered.space.lane(), &held);
        }
        entered
    }

    /// The call holds more.
    pub(super) fn hold(&mut self, more: &Amounts) {
        self.held = self.held.plus(more);
        if let Some(first) = self.first {
            budgets::hold(&self.run(first), self.space.lane(), more);
        }
    }

    /// The call holds less.
    pub(super) fn release(&mut self, less: &Amounts) {
        self.held = self.held.minus(less);
        if let Some(first) = self.first {
            budgets::release(&self.run(first), self.space.lane(), less);
        }
    }

    fn run<'a>(&'a self, first: u32) -> impl Fn(u32) -> Option<&'a AtomicU64> + use<'a, P> {
        move |at| self.space.dense(IN_FLIGHT.0, first.saturating_add(at))
    }
}

impl<P: CounterSpace> Drop for InFlight<P> {
    fn drop(&mut self) {
        if let Some(first) = self.first {
            budgets::leave(&self.run(first), self.space.lane(), &self.held);
        }
    }
}
