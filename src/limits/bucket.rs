//! Kinds `bucket` and `<meter>_bucket`: a burst of requests or tokens at once, which come back steadily over a period.
//!
//! Fields: `requests` or `amount`, `per` (of a fixed length), `burst` (the bucket's size). One word for each counter, in a row of
//! a column whose rows are all buckets; `gcra` has the arithmetic. A bucket has no window: the rest of a reservation goes back to
//! the bucket as it is, up to its size, and a call that used more than it took makes the next ones wait longer.

use std::marker::PhantomData;

use serde::Deserialize;
use serde_json::Value;

use super::budget::{AllTokens, InputTokens, Meter, OutputTokens};
use super::gcra::{BucketCell, BucketState, Rate, Take};
use super::kind::{
    BuildError, CounterStanding, Demand, Facts, IP_COUNTS_REQUESTS, LimitKind, REQUEST_HEADERS, State, Usage,
};
use crate::cells::journal::TakenAmount;
use crate::cells::{CellKey, CellRef, Cells, CounterError};
use crate::period::Period;
use crate::units::Moment;

/// Seconds until an empty bucket is full: as long as the longest period.
const MAX_REFILL_S: u128 = 366 * 86_400;

/// A meter that buckets count.
pub trait Counted: Copy + Eq + std::fmt::Debug {
    /// The name of the kind.
    const KIND: &'static str;
    /// The number of the kind in journal entries.
    const NUMBER: u8;
    /// The name of the meter.
    const METER: &'static str;
    /// Its headers for OpenAI's clients.
    const HEADERS: Option<[&'static str; 3]>;
    /// Calls take amounts of different sizes, which change on their way.
    const SIZED: bool;
    /// The rate of an amount per seconds.
    fn rate(amount: u64, seconds: u32, burst: u64) -> Option<Rate>;
    /// The amount that a call takes.
    fn bound(demand: &Demand) -> u64;
    /// The amount that a call has used.
    fn used(usage: &Usage) -> u64;
    /// An amount as text.
    fn describe(amount: u64) -> String;
}

/// Requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requests;

impl Counted for Requests {
    const KIND: &'static str = "bucket";
    const NUMBER: u8 = 2;
    const METER: &'static str = "requests";
    const HEADERS: Option<[&'static str; 3]> = Some(REQUEST_HEADERS);
    const SIZED: bool = false;

    fn rate(amount: u64, seconds: u32, burst: u64) -> Option<Rate> {
        Rate::new(u32::try_from(amount).ok()?, seconds, u32::try_from(burst).ok()?)
    }

    #[inline]
    fn bound(_: &Demand) -> u64 {
        1
    }

    #[inline]
    fn used(usage: &Usage) -> u64 {
        usage.requests
    }

    fn describe(amount: u64) -> String {
        format!("{amount} requests")
    }
}

macro_rules! tokens {
    ($( $meter:ident = $kind:literal, $number:literal; )+) => { $(
        impl Counted for $meter {
            const KIND: &'static str = $kind;
            const NUMBER: u8 = $number;
            const METER: &'static str = <Self as Meter>::NAME;
            const HEADERS: Option<[&'static str; 3]> = <Self as Meter>::HEADERS;
            const SIZED: bool = true;

            fn rate(amount: u64, seconds: u32, burst: u64) -> Option<Rate> {
                Rate::of_tokens(amount, seconds, burst)
            }

            #[inline]
            fn bound(demand: &Demand) -> u64 {
                Self::of(&demand.bound)
            }

            #[inline]
            fn used(usage: &Usage) -> u64 {
                Self::of(&usage.amounts)
            }

            fn describe(amount: u64) -> String {
                <Self as Meter>::describe(amount)
            }
        }
    )+ };
}

tokens! {
    AllTokens = "tokens_bucket", 7;
    InputTokens = "input_tokens_bucket", 8;
    OutputTokens = "output_tokens_bucket", 9;
}

/// A burst that refills at a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bucket<M> {
    rate: Rate,
    /// Units per period, as configured.
    amount: u64,
    per: Period,
    meter: PhantomData<M>,
}

/// A bucket of requests.
pub type RefillBucket = Bucket<Requests>;
/// A bucket of all tokens.
pub type TokenBucket = Bucket<AllTokens>;
/// A bucket of input tokens.
pub type InputTokenBucket = Bucket<InputTokens>;
/// A bucket of output tokens.
pub type OutputTokenBucket = Bucket<OutputTokens>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    #[serde(alias = "requests")]
    amount: u64,
    per: String,
    burst: u64,
}

impl<M: Counted> LimitKind for Bucket<M> {
    const NAME: &'static str = M::KIND;
    const NUMBER: u8 = M::NUMBER;
    const SIZED: bool = M::SIZED;
    const NOT_OPEN: Option<&'static str> = Some(if M::SIZED {
        IP_COUNTS_REQUESTS
    } else {
        "burst: a limit by address has none: leave it out, or write scope: consumer, credential or model"
    });

    fn build(fields: &Value) -> Result<Self, BuildError> {
        let Fields { amount, per, burst } = Fields::deserialize(fields).map_err(BuildError::fields)?;
        let per: Period = per.parse().map_err(BuildError::fields)?;
        let seconds = per.seconds().filter(|_| amount > 0);
        let seconds = seconds.ok_or_else(|| {
            BuildError::fields(format!("burst: needs a period of fixed length, and {} above 0", M::METER))
        })?;
        if u128::from(burst) * u128::from(seconds) > MAX_REFILL_S * u128::from(amount) {
            return Err(BuildError::fields("burst: would take more than 366 days to come back at this rate: lower it"));
        }
        if burst == 0 {
            return Err(BuildError::fields("burst: must be above 0"));
        }
        let rate = M::rate(amount, seconds, burst).ok_or_else(|| {
            BuildError::fields(
                "burst: at most 15625000 tokens can come back in a second: lower the amount, or leave burst out",
            )
        })?;
        Ok(Self { rate, amount, per, meter: PhantomData })
    }

    #[inline]
    fn facts(&self) -> Facts {
        Facts {
            meter: M::METER,
            sized: M::SIZED,
            per: Some(self.per),
            limit: self.rate.burst(),
            quota: false,
            refill: self.rate.cost(),
            headers: M::HEADERS,
        }
    }

    fn describe(&self) -> String {
        format!("{} per {} (burst {})", M::describe(self.amount), self.per, self.rate.burst())
    }

    #[inline]
    fn amount(&self, demand: &Demand) -> u64 {
        M::bound(demand)
    }

    #[inline]
    fn used(_: TakenAmount, usage: &Usage) -> u64 {
        M::used(usage)
    }

    #[inline]
    fn look(
        &self,
        cells: &impl Cells,
        key: CellKey,
        amount: u64,
        now: Moment,
        state: &mut State,
    ) -> Result<(), CounterError> {
        found(state, cell(cells, key)?.look(self.rate, amount, now));
        Ok(())
    }

    #[inline]
    fn intent(&self, key: CellKey, amount: u64, _: &State) -> TakenAmount {
        taken::<M>(key, amount)
    }

    #[inline]
    fn take(
        &self,
        cells: &impl Cells,
        key: CellKey,
        amount: u64,
        now: Moment,
        state: &mut State,
        _: impl Fn(TakenAmount),
    ) -> Result<bool, CounterError> {
        let (took, before) = match cell(cells, key)?.take(self.rate, amount, now) {
            Take::Took(before) => (true, before),
            Take::Full(before) => (false, before),
        };
        found(state, before);
        Ok(took)
    }

    #[inline]
    fn give_back(cells: &impl Cells, taken: TakenAmount) {
        let CellRef { column, row, .. } = taken.cell;
        if let Ok(bucket) = cell(cells, CellKey::Dense { column, row }) {
            bucket.give_back(taken.amount);
        }
    }

    fn charge(cells: &impl Cells, taken: TakenAmount) {
        let CellRef { column, row, .. } = taken.cell;
        if let Ok(bucket) = cell(cells, CellKey::Dense { column, row }) {
            bucket.charge(taken.amount);
        }
    }

    fn standing(&self, cells: &impl Cells, key: CellKey, now: Moment) -> CounterStanding {
        let state = cell(cells, key).ok().map(|bucket| bucket.read(self.rate, now)).filter(|state| state.used > 0);
        CounterStanding {
            taken: state.map_or(0, |state| state.used),
            // Requests in flight come back like those that are over.
            held_in: M::SIZED.then(|| (taken::<M>(key, 0).cell, 0)),
            resets_at: Some(state.map_or(now.seconds(), |state| state.full_at.seconds_up())),
        }
    }
}

#[inline]
fn taken<M: Counted>(key: CellKey, amount: u64) -> TakenAmount {
    let (column, row) = key.dense();
    TakenAmount { cell: CellRef { kind: M::NUMBER, open: false, column, row }, window: 0, amount }
}

#[inline]
fn cell(cells: &impl Cells, key: CellKey) -> Result<BucketCell<'_>, CounterError> {
    let (column, row) = key.dense();
    let word = cells.dense(column, row).ok_or(CounterError::Missing { column, row })?;
    Ok(BucketCell::new(word, cells.column(column)))
}

#[inline]
fn found(state: &mut State, seen: BucketState) {
    state.used = seen.used;
    state.free_at = seen.free_at;
    state.full_at = seen.full_at;
}
