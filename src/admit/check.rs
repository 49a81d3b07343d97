//! One limit applied to one request, and why a request is refused.
//!
//! The surface makes a `Check` for each limit; `peek` and `take` write the state they found into it, so that headers can
//! be made for every limit, however the request ends. A shadow check counts and never refuses.

use crate::cells::{Busy, CellKey, CounterError};
use crate::limits::{Facts, Limit, Peeked, State};
use crate::units::{Moment, UnixSeconds};

/// A limit, the counter it is held in, and the state found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The limit.
    pub limit: Limit,
    /// The counter.
    pub key: CellKey,
    /// The amount that the request takes, in units of the limit's meter.
    pub amount: u64,
    /// The scope of the counter, as clients read it.
    pub scope: &'static str,
    /// Counted, never refused.
    pub shadow: bool,
    /// Not shown in the headers.
    pub hidden: bool,
    /// Out: the counter's state, without this request.
    pub state: State,
}

impl Check {
    /// A check of `limit`, held in the counter `key`.
    pub fn new(limit: Limit, key: CellKey) -> Self {
        Self { limit, key, amount: 1, scope: "", shadow: false, hidden: false, state: State::default() }
    }

    /// Numbers and names of the limit.
    #[inline]
    pub fn facts(&self) -> Facts {
        self.limit.facts()
    }

    /// The amount that is left, the request's own included.
    #[inline]
    pub fn left(&self) -> u64 {
        self.facts().limit.saturating_sub(self.state.used)
    }

    /// True when the amount would pass the limit. A request that takes nothing still needs one unit to be left.
    #[inline]
    pub fn exhausted(&self) -> bool {
        self.state.used.saturating_add(self.amount.max(1)) > self.facts().limit
    }

    /// True when it is exhausted and refuses for it. A bucket refills while a call is read, and names its wait by the amount:
    /// it refuses no call of unknown size.
    #[inline]
    pub fn refuses(&self) -> bool {
        self.refuses_by(Peeked { amount: self.amount, limit: self.facts().limit, refills: self.refills() })
    }

    /// As [`Self::refuses`], by a look of just now.
    #[inline]
    pub(super) fn refuses_by(&self, Peeked { amount, limit, refills }: Peeked) -> bool {
        self.state.used.saturating_add(amount.max(1)) > limit && !self.shadow && (amount > 0 || !refills)
    }

    /// True for a bucket: its amounts come back on the way.
    #[inline]
    pub fn refills(&self) -> bool {
        self.facts().refill > 0
    }

    /// True when the amount would pass if no call were in flight. Only known of a check that was refused.
    pub fn is_held(&self) -> bool {
        let Self { amount, state, .. } = self;
        state.held > 0 && state.used.saturating_sub(state.held).saturating_add(*amount.max(&1)) <= self.facts().limit
    }

    /// True when the amount is larger than the whole limit: waiting does not help. A limit of 0 is only exhausted.
    #[inline]
    pub fn never_passes(&self) -> bool {
        self.amount > self.facts().limit.max(1)
    }

    /// Whole seconds, rounded up, until the amount passes.
    pub fn resets_in(&self, now: impl Into<Moment>) -> u32 {
        let wait = self.wait(now);
        u32::try_from(wait.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
    }

    /// The whole second, rounded up, in which the amount passes.
    pub fn resets_at(&self) -> UnixSeconds {
        self.state.free_at.seconds_up()
    }

    /// Nanoseconds until the amount passes.
    pub fn wait(&self, now: impl Into<Moment>) -> u64 {
        self.state.free_at.since(now.into())
    }
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// Not yet: the index of the exhausted check that resets last.
    #[error("limit {0} is exhausted")]
    Exceeded(usize),
    /// Never: the index of a check whose whole limit is smaller than the amount.
    #[error("the request takes more than the whole of limit {0}")]
    Never(usize),
    /// This worker holds as many permits as its journal has room for.
    #[error("too many requests in flight in this worker")]
    Full,
    /// The ledger has no room for its rows.
    #[error("no room in the ledger")]
    NoLedger,
    /// The open area was locked for too long.
    #[error(transparent)]
    Busy(Busy),
    /// The policy names a counter without a file: a defect of the gateway.
    #[error("no counter for column {column}, row {row}")]
    Missing {
        /// Column number.
        column: u32,
        /// Row number.
        row: u32,
    },
    /// More limits than a permit can hold: a defect of the gateway.
    #[error("more than 29 limits on one request")]
    TooMany,
}

impl From<CounterError> for NotTaken {
    fn from(error: CounterError) -> Self {
        match error {
            CounterError::Busy(busy) => Self::Busy(busy),
            CounterError::Missing { column, row } => Self::Missing { column, row },
        }
    }
}

/// The refusal of checks of which one refuses: *never* before *not yet*, and of those the check that resets last.
pub(super) fn refusal(checks: &[Check]) -> NotTaken {
    let refusing = || checks.iter().enumerate().filter(|(_, check)| check.refuses());
    if let Some((index, _)) = refusing().find(|(_, check)| check.never_passes()) {
        return NotTaken::Never(index);
    }
    NotTaken::Exceeded(refusing().max_by_key(|(_, check)| check.state.free_at).map_or(0, |(index, _)| index))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    /// A check of a budget of 10 tokens, in a counter that holds `used`, of which calls in flight hold `held`.
    fn check(amount: u64, used: u64, held: u64) -> Check {
        let limit = Limit::build("tokens", &json!({"amount": 10, "per": "minute"})).unwrap();
        let state = State { used, held, ..State::default() };
        Check { amount, state, ..Check::new(limit, CellKey::Dense { column: 1, row: 1 }) }
    }

    #[test]
    fn check_refuses_from_the_first_unit_above_its_limit() {
        for (amount, used, exhausted) in
            [(0, 9, false), (0, 10, true), (4, 6, false), (5, 6, true), (1, u64::MAX, true)]
        {
            let of = check(amount, used, 0);
            assert_eq!((of.exhausted(), of.refuses()), (exhausted, exhausted), "{amount} after {used}");
            assert!(!Check { shadow: true, ..of }.refuses());
        }
        assert_eq!([check(1, 4, 0).left(), check(1, 10, 0).left(), check(1, 12, 0).left()], [6, 0, 0]);
        assert_eq!([9, 10, 11].map(|amount| check(amount, 0, 0).never_passes()), [false, false, true]);
        let none = Limit::build("tokens", &json!({"amount": 0, "per": "minute"})).unwrap();
        assert_eq!([1, 2].map(|amount| Check { limit: none, ..check(amount, 0, 0) }.never_passes()), [false, true]);
        let bucket = Limit::build("bucket", &json!({"requests": 1, "per": "minute", "burst": 10})).unwrap();
        assert_eq!([0, 1].map(|amount| Check { limit: bucket, ..check(amount, 10, 0) }.refuses()), [false, true]);
    }

    #[test]
    fn check_is_held_where_calls_in_flight_alone_refuse() {
        for (amount, used, held, wanted) in
            [(5, 9, 4, true), (5, 9, 3, false), (0, 10, 1, true), (0, 10, 0, false), (1, 5, 0, false), (1, 3, 9, true)]
        {
            assert_eq!(check(amount, used, held).is_held(), wanted, "{amount} after {used}, {held} held");
        }
    }

    #[test]
    fn limit_that_never_passes_wins_and_then_the_one_that_resets_last() {
        let at = |seconds: u64, of: Check| Check { state: State { free_at: Moment(seconds), ..of.state }, ..of };
        let (full, passes, large) = (check(5, 6, 0), check(1, 0, 0), check(11, 0, 0));
        assert_eq!(refusal(&[at(9, passes), at(1, full), at(3, full), at(2, full)]), NotTaken::Exceeded(2));
        assert_eq!(refusal(&[at(9, passes), at(8, full), at(1, large)]), NotTaken::Never(2));
    }
}
