//! Limit kinds, one file each: a limit is a bound on one meter, held in one counter for each consumer, key, model or address.
//!
//! In: the fields of a limit as the configuration has them. Out: a [`Limit`] that looks, takes, gives back and settles in
//! counters, and its [`Facts`] for people. A kind implements [`LimitKind`] and has one line in the registry below; calls
//! go through an enum, so the hot path has no virtual call. Everything outside this folder knows limits by this
//! page and `kind`.
//! A kind decides about its own counter only: `admit` takes all or nothing over several limits.

pub mod bucket;
pub mod budget;
pub mod concurrency;
pub mod gcra;
mod kind;
pub mod times;
pub mod window;

use serde_json::Value;

use crate::cells::journal::TakenAmount;
use crate::cells::{CellKey, Cells, CounterError};
pub use crate::period::{Period, Window};
use bucket::{InputTokenBucket, OutputTokenBucket, RefillBucket, TokenBucket};
use budget::{InputTokenBudget, OutputTokenBudget, SpendBudget, TokenBudget};
use concurrency::Concurrency;
pub(crate) use kind::Peeked;
pub use kind::{Amounts, BuildError, CounterStanding, Demand, Facts, LimitKind, More, State, Usage};
pub use times::Times;
use window::FixedWindow;

/// A kind's entry in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KindRow {
    /// Its name in the policy.
    pub name: &'static str,
    /// Its number in journal entries.
    pub number: u8,
    /// Words of a row in its columns.
    pub words: u32,
}

/// Why workers would refuse a limit with these fields (a JSON object), or `None`. `open`: it has a counter for each address.
pub fn wrong(kind: &str, fields: &[u8], open: bool) -> Option<String> {
    match Limit::build(kind, &serde_json::from_slice(fields).unwrap_or_default()) {
        Err(error) => Some(error.to_string()),
        Ok(limit) => limit.not_open().filter(|_| open).map(str::to_owned),
    }
}

/// Makes the enum of all kinds and its dispatch from one line.
macro_rules! limits {
    ($( $kind:ident ),+) => {
        /// A limit as requests read it: its kind, and its numbers.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Limit { $(
            #[doc = concat!("A limit of the kind `", stringify!($kind), "`.")]
            $kind($kind),
        )+ }

        /// Every kind.
        pub const KINDS: &[KindRow] =
            &[ $( KindRow { name: $kind::NAME, number: $kind::NUMBER, words: $kind::WORDS }, )+ ];

        impl Limit {
            /// A limit of the kind with this name, from the fields of the configuration.
            pub fn build(kind: &str, fields: &Value) -> Result<Self, BuildError> {
                match kind {
                    $( $kind::NAME => $kind::build(fields).map(Self::$kind), )+
                    _ => Err(BuildError::Unknown(kind.to_owned())),
                }
            }

            /// Why its counters cannot be in the open area; `None`: they can.
            pub fn not_open(&self) -> Option<&'static str> {
                match self { $( Self::$kind(_) => $kind::NOT_OPEN, )+ }
            }

            /// Numbers and names for people.
            #[inline]
            pub fn facts(&self) -> Facts {
                match self { $( Self::$kind(limit) => limit.facts(), )+ }
            }

            /// The limit as text, as clients read it: `100 requests per day`.
            pub fn describe(&self) -> String {
                match self { $( Self::$kind(limit) => limit.describe(), )+ }
            }

            /// The counter's use at `now`, for people.
            pub fn standing(&self, cells: &impl Cells, key: CellKey, now: Times) -> CounterStanding {
                let at = now.of(&self.facts(), key);
                now.show_standing(at, match self { $( Self::$kind(limit) => limit.standing(cells, key, at), )+ })
            }

            /// Reads the counter for a call that demands so much, and takes nothing.
            #[inline]
            pub(crate) fn peek(
                &self,
                cells: &impl Cells,
                key: CellKey,
                demand: &Demand,
                now: Times,
                state: &mut State,
            ) -> Result<Peeked, CounterError> {
                let at = now.of(&self.facts(), key);
                let peeked = match self { $( Self::$kind(limit) => Peeked::by(limit, cells, key, demand, at, state), )+ }?;
                now.show(at, state);
                Ok(peeked)
            }

            #[inline]
            pub(crate) fn amount(&self, demand: &Demand) -> u64 {
                match self { $( Self::$kind(limit) => limit.amount(demand), )+ }
            }

            #[inline]
            pub(crate) fn look(
                &self,
                cells: &impl Cells,
                key: CellKey,
                amount: u64,
                now: Times,
                state: &mut State,
            ) -> Result<(), CounterError> {
                let at = now.of(&self.facts(), key);
                match self { $( Self::$kind(limit) => limit.look(cells, key, amount, at, state), )+ }?;
                now.show(at, state);
                Ok(())
            }

            #[inline]
            pub(crate) fn intent(&self, key: CellKey, amount: u64, state: &State) -> TakenAmount {
                match self { $( Self::$kind(limit) => limit.intent(key, amount, state), )+ }
            }

            #[inline]
            pub(crate) fn take(
                &self,
                cells: &impl Cells,
                key: CellKey,
                amount: u64,
                now: Times,
                state: &mut State,
                note: impl Fn(TakenAmount),
            ) -> Result<bool, CounterError> {
                let at = now.of(&self.facts(), key);
                let took = match self { $( Self::$kind(limit) => limit.take(cells, key, amount, at, state, note), )+ }?;
                now.show(at, state);
                Ok(took)
            }
        }

        impl Limit {
            /// Takes more for a call on its way.
            #[inline]
            pub(crate) fn extend(
                &self,
                cells: &impl Cells,
                key: CellKey,
                more: &Amounts,
                now: Times,
                state: &mut State,
            ) -> Result<More, CounterError> {
                let at = now.of(&self.facts(), key);
                match self { $( Self::$kind(limit) => limit.extend(cells, key, more, at, state), )+ }
            }
        }

        /// Gives an amount back. A kind that this version does not know keeps it: doubt counts as taken.
        pub(crate) fn give_back(cells: &impl Cells, taken: TakenAmount) {
            match taken.cell.kind {
                _ if taken.amount == 0 => {}
                $( $kind::NUMBER => $kind::give_back(cells, taken), )+
                _ => {}
            }
        }

        /// Ends the part of a dead worker's call that is sure to be over.
        pub(crate) fn reclaim(cells: &impl Cells, taken: TakenAmount) {
            match taken.cell.kind {
                _ if taken.amount == 0 => {}
                $( $kind::NUMBER => $kind::reclaim(cells, taken), )+
                _ => {}
            }
        }

        /// The amount that a call has used of an amount taken for it.
        #[inline]
        pub(crate) fn used(taken: TakenAmount, usage: &Usage) -> u64 {
            match taken.cell.kind {
                $( $kind::NUMBER => $kind::used(taken, usage), )+
                _ => taken.amount,
            }
        }

        /// Replaces an amount taken by the amount used.
        pub(crate) fn settle(cells: &impl Cells, taken: TakenAmount, used: u64) {
            match taken.cell.kind {
                $( $kind::NUMBER => $kind::settle(cells, taken, used), )+
                _ => {}
            }
        }
    };
}

limits! {
    FixedWindow, RefillBucket, TokenBudget, InputTokenBudget, OutputTokenBudget, SpendBudget, TokenBucket, InputTokenBucket,
    OutputTokenBucket, Concurrency
}

/// Two kinds with one number would give back to each other's counters.
const _: () = {
    let mut at = 0;
    while at < KINDS.len() {
        let mut other = at + 1;
        while other < KINDS.len() {
            assert!(KINDS[at].number != KINDS[other].number, "each kind has a number of its own");
            other += 1;
        }
        at += 1;
    }
};
