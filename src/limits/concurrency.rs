//! Kind `concurrency`: calls in flight at once.
//!
//! Field: `calls` (0 lets none pass). A row of lanes for each counter, one lane for each worker (`cells::places`). A place is
//! taken with the other limits of a call and is free again when the call ends, however it ends. Journals name the lane where
//! other kinds name a window.

use serde::Deserialize;
use serde_json::Value;

use super::kind::{BuildError, CounterStanding, Demand, Facts, LimitKind, State, Usage};
use crate::cells::journal::TakenAmount;
use crate::cells::places::{Places, WORDS};
use crate::cells::{CellKey, CellRef, Cells, CounterError};
use crate::units::Moment;

/// The advised wait for a place, in nanoseconds: calls end at any time, and nobody knows which is next.
const SOON: u64 = 500_000_000;

/// Calls at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Concurrency {
    calls: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    calls: u32,
}

impl LimitKind for Concurrency {
    const NAME: &'static str = "concurrency";
    const NUMBER: u8 = 10;
    const WORDS: u32 = WORDS;

    fn build(fields: &Value) -> Result<Self, BuildError> {
        let Fields { calls } = Fields::deserialize(fields).map_err(BuildError::fields)?;
        Ok(Self { calls })
    }

    #[inline]
    fn facts(&self) -> Facts {
        Facts {
            meter: "concurrency",
            sized: false,
            per: None,
            limit: self.calls.into(),
            quota: false,
            refill: SOON,
            headers: None,
        }
    }

    fn describe(&self) -> String {
        match self.calls {
            1 => "1 call at once".into(),
            calls => format!("{calls} calls at once"),
        }
    }

    #[inline]
    fn amount(&self, _: &Demand) -> u64 {
        1
    }

    #[inline]
    fn used(_: TakenAmount, _: &Usage) -> u64 {
        0
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
        let places = places(cells, key)?;
        self.found(state, places.sum(), now);
        Ok(())
    }

    #[inline]
    fn intent(&self, key: CellKey, _: u64, _: &State) -> TakenAmount {
        // The lane is known when a place is taken: until then the journal names no place.
        TakenAmount { cell: cell(key), window: 0, amount: 0 }
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
        let lane = cells.lane();
        note(TakenAmount { cell: cell(key), window: lane, amount });
        let outcome = places(cells, key)?.take(lane, amount, self.calls.into());
        let (Ok(others) | Err(others)) = outcome;
        self.found(state, others, now);
        Ok(outcome.is_ok())
    }

    #[inline]
    fn give_back(cells: &impl Cells, taken: TakenAmount) {
        if let Some(row) = cells.row(taken.cell.column, taken.cell.row) {
            Places::new(row).give_back(taken.window, taken.amount);
        }
    }

    fn charge(_: &impl Cells, _: TakenAmount) {}

    /// Nobody but the dead worker wrote to its lane, and all its calls are over.
    fn reclaim(cells: &impl Cells, taken: TakenAmount) {
        if let Some(row) = cells.row(taken.cell.column, taken.cell.row) {
            Places::new(row).empty(taken.window);
        }
    }

    fn standing(&self, cells: &impl Cells, key: CellKey, _: Moment) -> CounterStanding {
        let taken = places(cells, key).map_or(0, Places::sum);
        CounterStanding { taken, held_in: None, resets_at: None }
    }
}

impl Concurrency {
    #[inline]
    fn found(self, state: &mut State, used: u64, now: Moment) {
        state.used = used;
        let full = used >= u64::from(self.calls);
        state.free_at = if full { Moment(now.0.saturating_add(SOON)) } else { now };
        state.full_at = if used > 0 { Moment(now.0.saturating_add(SOON)) } else { now };
    }
}

#[inline]
fn cell(key: CellKey) -> CellRef {
    let (column, row) = key.dense();
    CellRef { kind: Concurrency::NUMBER, open: false, column, row }
}

#[inline]
fn places(cells: &impl Cells, key: CellKey) -> Result<Places<'_>, CounterError> {
    let CellRef { column, row, .. } = cell(key);
    cells.row(column, row).map(Places::new).ok_or(CounterError::Missing { column, row })
}
