//! The interface of limit kinds: the trait, and the values that cross it.
//!
//! In: a counter's cells, an amount, the time. Out: the counter's state, a line for the journal, numbers and names for people.
//! Amounts are in units of the limit's meter and have 64 bits, whatever a kind's words can hold.

use std::cell::Cell;

use serde_json::Value;

use crate::cells::journal::TakenAmount;
use crate::cells::{CellKey, CellRef, Cells, CounterError};
use crate::period::{Period, Window};
use crate::units::{Moment, UnixSeconds};

/// Why an address has no limit of another meter than requests.
pub(super) const IP_COUNTS_REQUESTS: &str =
    "scope: an address has a limit on requests alone: write requests, or scope: consumer, credential or model";

/// One kind of limit.
pub trait LimitKind: Copy + Sized {
    /// The name that the control process writes into the policy.
    const NAME: &'static str;
    /// The number in journal entries. Data folders hold it: never changed, never given to another kind.
    const NUMBER: u8;
    /// Words of a row in its columns: 1, 2, 4, 8 or 16. Rows of 16 count calls in flight: they are 0 after a restart of the machine.
    const WORDS: u32 = 1;
    /// Calls take amounts of different sizes, which grow on their way and are settled to the amounts used.
    const SIZED: bool = false;
    /// Why its counters cannot be in the open area; `None`: they can.
    const NOT_OPEN: Option<&'static str> = Some(IP_COUNTS_REQUESTS);

    /// From the fields of the configuration.
    fn build(fields: &Value) -> Result<Self, BuildError>;
    /// Numbers and names for people.
    fn facts(&self) -> Facts;
    /// The limit as text, as clients read it: `100 requests per day`.
    fn describe(&self) -> String;
    /// The amount that a request takes.
    fn amount(&self, demand: &Demand) -> u64;
    /// The amount that a call has used, where `taken` was taken for it.
    fn used(taken: TakenAmount, usage: &Usage) -> u64;

    /// Reads the counter and takes nothing.
    fn look(
        &self,
        cells: &impl Cells,
        key: CellKey,
        amount: u64,
        now: Moment,
        state: &mut State,
    ) -> Result<(), CounterError>;
    /// The journal's line before the counter is touched. `state` is the one of a look.
    fn intent(&self, key: CellKey, amount: u64, state: &State) -> TakenAmount;
    /// Takes the amount if the limit has it, and returns whether it did. `state` becomes the one before the take. `note`
    /// corrects the journal's line, before a counter is touched or when it was met in another window than intended.
    fn take(
        &self,
        cells: &impl Cells,
        key: CellKey,
        amount: u64,
        now: Moment,
        state: &mut State,
        note: impl Fn(TakenAmount),
    ) -> Result<bool, CounterError>;
    /// Gives an amount back to the window that it was taken from.
    fn give_back(cells: &impl Cells, taken: TakenAmount);
    /// Takes an amount that was used already, past the limit if need be.
    fn charge(cells: &impl Cells, taken: TakenAmount);
    /// Replaces the amount taken by the amount used.
    fn settle(cells: &impl Cells, taken: TakenAmount, used: u64) {
        if used < taken.amount {
            Self::give_back(cells, TakenAmount { amount: taken.amount - used, ..taken });
        } else if used > taken.amount {
            Self::charge(cells, TakenAmount { amount: used - taken.amount, ..taken });
        }
    }

    /// Takes more for a call on its way, as far as the kind counts a part of `more`.
    fn extend(
        &self,
        cells: &impl Cells,
        key: CellKey,
        more: &Amounts,
        now: Moment,
        state: &mut State,
    ) -> Result<More, CounterError> {
        let amount = if Self::SIZED { self.amount(&Demand { bound: *more, ..Demand::default() }) } else { 0 };
        if amount == 0 {
            return Ok(More::Nothing);
        }
        let line = Cell::new(self.intent(key, amount, state));
        let took = self.take(cells, key, amount, now, state, |taken| line.set(taken))?;
        Ok(if took { More::Took(line.get()) } else { More::Full })
    }

    /// Ends the part of a dead worker's call that is sure to be over, whatever the call did; nothing for amounts that may be used.
    fn reclaim(_: &impl Cells, _: TakenAmount) {}

    /// The counter's use at `now`, for people. A missing counter is unused.
    fn standing(&self, cells: &impl Cells, key: CellKey, now: Moment) -> CounterStanding;
}

/// A demand next to the limit that it is looked at by. One choice of the kind gives it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peeked {
    /// The amount that the call takes.
    pub amount: u64,
    /// The whole limit.
    pub limit: u64,
    /// Amounts come back on the way.
    pub refills: bool,
}

impl Peeked {
    #[inline]
    pub(super) fn by(
        limit: &impl LimitKind,
        cells: &impl Cells,
        key: CellKey,
        demand: &Demand,
        now: Moment,
        state: &mut State,
    ) -> Result<Self, CounterError> {
        let (amount, facts) = (limit.amount(demand), limit.facts());
        limit.look(cells, key, amount, now, state)?;
        Ok(Self { amount, limit: facts.limit, refills: facts.refill > 0 })
    }
}

/// The outcome of an attempt to take more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// The kind counts nothing of it.
    Nothing,
    /// Taken, in the window that the line names: a later one than the call's first when that is over.
    Took(TakenAmount),
    /// The limit has not so much left; nothing was taken.
    Full,
}

/// Numbers and names of a limit, for headers, pages and metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The meter's name: `requests`.
    pub meter: &'static str,
    /// Calls take amounts of different sizes of it: tokens, money.
    pub sized: bool,
    /// The period; `None` for a bound on so much at once.
    pub per: Option<Period>,
    /// The whole limit: more than this never passes.
    pub limit: u64,
    /// Renewed after a day or later: an exhausted limit is a quota.
    pub quota: bool,
    /// Nanoseconds until an amount of one is there again by itself; 0 where a window's end renews all at once.
    pub refill: u64,
    /// OpenAI's header names for the limit, its remaining amount and its reset; `None`: the meter has no such headers.
    pub headers: Option<[&'static str; 3]>,
}

/// OpenAI's headers for limits on requests.
pub(super) const REQUEST_HEADERS: [&str; 3] =
    ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"];

/// OpenAI's headers for limits on tokens, of the input, of the output, or of both.
pub(super) const TOKEN_HEADERS: [&str; 3] =
    ["x-ratelimit-limit-tokens", "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens"];

/// Amounts of a call, by meter: upper bounds before it, true amounts after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Tokens of the input, cached ones included.
    pub input_tokens: u64,
    /// Tokens of the output, reasoning included.
    pub output_tokens: u64,
    /// Nano-dollars at the tier's prices.
    pub spend: u64,
}

impl Amounts {
    /// Nothing.
    pub const NONE: Self = Self { input_tokens: 0, output_tokens: 0, spend: 0 };

    /// All tokens.
    #[inline]
    pub fn tokens(&self) -> u64 {
        self.input_tokens.saturating_add(self.output_tokens)
    }

    /// Each amount with that of `more`.
    #[must_use]
    pub fn plus(&self, more: &Self) -> Self {
        self.with(more, u64::saturating_add)
    }

    /// Each amount without that of `less`; 0 where that is larger.
    #[must_use]
    pub fn minus(&self, less: &Self) -> Self {
        self.with(less, u64::saturating_sub)
    }

    fn with(&self, other: &Self, of: fn(u64, u64) -> u64) -> Self {
        Self {
            input_tokens: of(self.input_tokens, other.input_tokens),
            output_tokens: of(self.output_tokens, other.output_tokens),
            spend: of(self.spend, other.spend),
        }
    }
}

/// The amounts of a request that limits may count, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Demand {
    /// Bytes of its body.
    pub body: u64,
    /// The most that its call can use, or as much as a stream begins with.
    pub bound: Amounts,
    /// The same if the limits in shadow mode were enforced: they would lower its output cap.
    pub shadow: Amounts,
    /// Most rows that it can have in the ledger: one for each attempt.
    pub rows: u32,
}

impl Demand {
    /// The amounts as a limit in shadow mode sees them.
    pub(crate) fn in_shadow(&self) -> Self {
        Self { bound: self.shadow, ..*self }
    }
}

/// The amounts that a call has used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Requests that count.
    pub requests: u64,
    /// Its tokens and its price.
    pub amounts: Amounts,
}

impl Usage {
    /// One request that an upstream answered, and that used no tokens.
    pub const ANSWERED: Self = Self { requests: 1, amounts: Amounts::NONE };
}

/// The state of a limit's counter, as a look or a take found it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The amount counted, without the request's own.
    pub used: u64,
    /// The part of it that calls in flight hold, where a budget was refused.
    pub held: u64,
    /// When the request's amount passes, if it does not pass now. A window always names its end.
    pub free_at: Moment,
    /// When nothing is counted any more.
    pub full_at: Moment,
    /// The end of the window that counts. It is later than the clock's own window if the clock was set back.
    pub end: UnixSeconds,
    /// The clock's own window, kept between look and take: a calendar month costs 10 ns to compute.
    pub own: Window,
}

impl State {
    /// The clock's own window.
    #[inline]
    pub(super) fn own(&mut self, per: Period, now: UnixSeconds) -> Window {
        if now < self.own.start || now >= self.own.end {
            self.own = per.window(now);
        }
        self.own
    }
}

/// A counter's use, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterStanding {
    /// The amount counted, with what calls in flight hold.
    pub taken: u64,
    /// The cell and window as journals name them, where calls in flight are shown apart; `None` where they are not.
    pub held_in: Option<(CellRef, u64)>,
    /// When the limit is whole again; `None` for a bound on so much at once.
    pub resets_at: Option<UnixSeconds>,
}

/// Why fields do not make a limit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// The name belongs to no kind.
    #[error("this version knows no kind of limit called {0:?}")]
    Unknown(String),
    /// A field is missing, unknown or out of its bounds.
    #[error("{0}")]
    Fields(String),
}

impl BuildError {
    pub(super) fn fields(error: impl std::fmt::Display) -> Self {
        Self::Fields(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_window_follows_the_clock_both_ways() {
        let mut state = State::default();
        for now in [60, 119, 120, 119, 60, 59, 600, 0].map(UnixSeconds) {
            assert_eq!(state.own(Period::Minute, now), Period::Minute.window(now));
        }
    }

    #[test]
    fn amounts_saturate_at_both_ends() {
        let amounts = |input_tokens, output_tokens, spend| Amounts { input_tokens, output_tokens, spend };
        let (one, most) = (amounts(1, 2, 3), amounts(u64::MAX, u64::MAX, u64::MAX));
        assert_eq!((one.tokens(), most.tokens()), (3, u64::MAX));
        assert_eq!((one.plus(&amounts(10, 20, 30)), one.plus(&most)), (amounts(11, 22, 33), most));
        assert_eq!((amounts(10, 20, 30).minus(&one), one.minus(&most)), (amounts(9, 18, 27), Amounts::NONE));
    }
}
