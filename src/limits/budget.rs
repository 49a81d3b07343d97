//! Kinds `tokens`, `input_tokens`, `output_tokens` and `spend`: an amount in each fixed window of time, aligned to UTC.
//!
//! Fields: `amount` (tokens, or nano-dollars; 0 lets none pass), `per`. Two words for each counter (`cells::budget`). A call
//! takes an upper bound of its use, may take more on its way, and is settled to the amount that it has used.

use std::marker::PhantomData;

use serde::Deserialize;
use serde_json::Value;

use super::kind::{Amounts, BuildError, CounterStanding, Demand, Facts, LimitKind, State, TOKEN_HEADERS, Usage};
use crate::cells::budget::{BudgetCell, BudgetState, MOST, Take, WORDS};
use crate::cells::journal::TakenAmount;
use crate::cells::{CellKey, CellRef, Cells, CounterError};
use crate::period::Period;
use crate::price::dollars;
use crate::units::{Moment, UnixSeconds};

/// A meter that budgets count.
pub trait Meter: Copy + Eq + std::fmt::Debug {
    /// The name of the kind and of the meter.
    const NAME: &'static str;
    /// The number of the kind in journal entries.
    const NUMBER: u8;
    /// Its headers for OpenAI's clients.
    const HEADERS: Option<[&'static str; 3]> = Some(TOKEN_HEADERS);
    /// It counts money: spent quotas are never waited for.
    const MONEY: bool = false;
    /// Its part of a call's amounts.
    fn of(amounts: &Amounts) -> u64;
    /// An amount as text.
    fn describe(amount: u64) -> String;
}

macro_rules! meters {
    ($( $(#[$doc:meta])* $meter:ident = $name:literal, $number:literal, $words:literal, $of:expr; )+) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $meter;

        impl Meter for $meter {
            const NAME: &'static str = $name;
            const NUMBER: u8 = $number;

            #[inline]
            fn of(amounts: &Amounts) -> u64 {
                $of(amounts)
            }

            fn describe(amount: u64) -> String {
                format!("{amount} {}", $words)
            }
        }
    )+ };
}

meters! {
    /// All tokens of a call.
    AllTokens = "tokens", 3, "tokens", Amounts::tokens;
    /// Tokens of the input.
    InputTokens = "input_tokens", 4, "input tokens", |amounts: &Amounts| amounts.input_tokens;
    /// Tokens of the output.
    OutputTokens = "output_tokens", 5, "output tokens", |amounts: &Amounts| amounts.output_tokens;
}

/// Money, in nano-dollars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spend;

impl Meter for Spend {
    const NAME: &'static str = "spend";
    const NUMBER: u8 = 6;
    const HEADERS: Option<[&'static str; 3]> = None;
    const MONEY: bool = true;

    #[inline]
    fn of(amounts: &Amounts) -> u64 {
        amounts.spend
    }

    fn describe(amount: u64) -> String {
        format!("{} USD", dollars(amount))
    }
}

/// An amount of a meter per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget<M> {
    amount: u64,
    per: Period,
    meter: PhantomData<M>,
}

/// A budget of all tokens.
pub type TokenBudget = Budget<AllTokens>;
/// A budget of input tokens.
pub type InputTokenBudget = Budget<InputTokens>;
/// A budget of output tokens.
pub type OutputTokenBudget = Budget<OutputTokens>;
/// A budget of money.
pub type SpendBudget = Budget<Spend>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    amount: u64,
    per: String,
}

impl<M: Meter> LimitKind for Budget<M> {
    const NAME: &'static str = M::NAME;
    const NUMBER: u8 = M::NUMBER;
    const WORDS: u32 = WORDS;
    const SIZED: bool = true;

    fn build(fields: &Value) -> Result<Self, BuildError> {
        let Fields { amount, per } = Fields::deserialize(fields).map_err(BuildError::fields)?;
        if amount > MOST {
            return Err(BuildError::fields(format!("{}: must be at most {}", M::NAME, M::describe(MOST))));
        }
        Ok(Self { amount, per: per.parse().map_err(BuildError::fields)?, meter: PhantomData })
    }

    #[inline]
    fn facts(&self) -> Facts {
        Facts {
            meter: M::NAME,
            sized: true,
            per: Some(self.per),
            limit: self.amount,
            quota: M::MONEY || self.per.is_day_or_longer(),
            refill: 0,
            headers: M::HEADERS,
        }
    }

    fn describe(&self) -> String {
        format!("{} per {}", M::describe(self.amount), self.per)
    }

    #[inline]
    fn amount(&self, demand: &Demand) -> u64 {
        M::of(&demand.bound)
    }

    #[inline]
    fn used(_: TakenAmount, usage: &Usage) -> u64 {
        M::of(&usage.amounts)
    }

    #[inline]
    fn look(
        &self,
        cells: &impl Cells,
        key: CellKey,
        _: u64,
        now: Moment,
        state: &mut State,
    ) -> Result<(), CounterError> {
        let own = state.own(self.per, now.seconds()).end;
        found(state, cell(cells, key)?.look(own));
        Ok(())
    }

    #[inline]
    fn intent(&self, key: CellKey, amount: u64, state: &State) -> TakenAmount {
        taken::<M>(key, state.end, amount)
    }

    #[inline]
    fn take(
        &self,
        cells: &impl Cells,
        key: CellKey,
        amount: u64,
        now: Moment,
        state: &mut State,
        note: impl Fn(TakenAmount),
    ) -> Result<bool, CounterError> {
        let own = state.own(self.per, now.seconds()).end;
        let (intended, outcome) = (state.end, cell(cells, key)?.take(own, amount, self.amount));
        let (took, before) = match outcome {
            Take::Took(before) => (true, before),
            Take::Full(before) => (false, before),
        };
        if took && before.end != intended {
            note(taken::<M>(key, before.end, amount));
        }
        found(state, before);
        Ok(took)
    }

    #[inline]
    fn give_back(cells: &impl Cells, taken: TakenAmount) {
        if let Some(cell) = named(cells, taken.cell) {
            cell.give_back(UnixSeconds::saturating(taken.window), taken.amount);
        }
    }

    fn charge(cells: &impl Cells, taken: TakenAmount) {
        if let Some(cell) = named(cells, taken.cell) {
            cell.charge(UnixSeconds::saturating(taken.window), taken.amount);
        }
    }

    fn standing(&self, cells: &impl Cells, key: CellKey, now: Moment) -> CounterStanding {
        let seen = cell(cells, key).map(BudgetCell::read).ok().filter(|seen| seen.end > now.seconds());
        match seen {
            None => CounterStanding { taken: 0, held_in: None, resets_at: Some(self.per.window(now.seconds()).end) },
            Some(BudgetState { amount, end }) => CounterStanding {
                taken: amount,
                held_in: Some((taken::<M>(key, end, 0).cell, end.0.into())),
                resets_at: Some(end),
            },
        }
    }
}

#[inline]
fn found(state: &mut State, seen: BudgetState) {
    state.used = seen.amount;
    state.end = seen.end;
    state.free_at = seen.end.into();
    state.full_at = state.free_at;
}

#[inline]
fn cell(cells: &impl Cells, key: CellKey) -> Result<BudgetCell<'_>, CounterError> {
    let (column, row) = key.dense();
    cells.row(column, row).and_then(BudgetCell::new).ok_or(CounterError::Missing { column, row })
}

#[inline]
fn named(cells: &impl Cells, cell: CellRef) -> Option<BudgetCell<'_>> {
    cells.row(cell.column, cell.row).and_then(BudgetCell::new)
}

#[inline]
fn taken<M: Meter>(key: CellKey, end: UnixSeconds, amount: u64) -> TakenAmount {
    let (column, row) = key.dense();
    TakenAmount { cell: CellRef { kind: M::NUMBER, open: false, column, row }, window: end.0.into(), amount }
}
