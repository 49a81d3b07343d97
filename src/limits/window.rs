//! Kind `window`: a number of requests in each fixed window of time, aligned to UTC.
//!
//! Fields: `requests` (0 lets none pass), `per`. One word for each counter (`cells::counter`), in a row or in the open
//! area. All of it is there again when the window ends.

use serde::Deserialize;
use serde_json::Value;

use super::kind::{BuildError, CounterStanding, Demand, Facts, LimitKind, REQUEST_HEADERS, State, Usage};
use crate::cells::counter::{self, WindowState};
use crate::cells::journal::TakenAmount;
use crate::cells::open::Ask;
use crate::cells::{Busy, CellKey, CellRef, Cells, CounterError};
use crate::period::Period;
use crate::units::{Moment, UnixSeconds};

/// Requests per window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FixedWindow {
    requests: u32,
    per: Period,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    requests: u32,
    per: String,
}

impl LimitKind for FixedWindow {
    const NAME: &'static str = "window";
    const NUMBER: u8 = 1;
    const NOT_OPEN: Option<&'static str> = None;

    fn build(fields: &Value) -> Result<Self, BuildError> {
        let Fields { requests, per } = Fields::deserialize(fields).map_err(BuildError::fields)?;
        Ok(Self { requests, per: per.parse().map_err(BuildError::fields)? })
    }

    #[inline]
    fn facts(&self) -> Facts {
        Facts {
            meter: "requests",
            sized: false,
            per: Some(self.per),
            limit: self.requests.into(),
            quota: self.per.is_day_or_longer(),
            refill: 0,
            headers: Some(REQUEST_HEADERS),
        }
    }

    fn describe(&self) -> String {
        format!("{} requests per {}", self.requests, self.per)
    }

    #[inline]
    fn amount(&self, _: &Demand) -> u64 {
        1
    }

    #[inline]
    fn used(_: TakenAmount, usage: &Usage) -> u64 {
        usage.requests
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
        match key {
            CellKey::Dense { column, row } => {
                let own = state.own(self.per, now.seconds());
                let word = cells.dense(column, row).ok_or(CounterError::Missing { column, row })?;
                found(state, counter::look(word, own).unwrap_or(WindowState::unused(own)));
            }
            CellKey::Open { column, tag } => {
                let ask = Ask { column, tag, period: self.per, now: now.seconds() };
                let (seen, own) = cells.open().look(ask);
                state.own = own;
                found(state, seen);
            }
        }
        Ok(())
    }

    #[inline]
    fn intent(&self, key: CellKey, amount: u64, state: &State) -> TakenAmount {
        match key {
            CellKey::Dense { column, row } => taken(dense(column, row), state.end, amount),
            // The word in the open area is known only when it is taken: until then the journal names no amount.
            CellKey::Open { column, .. } => taken(open(column, 0), state.end, 0),
        }
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
        let (outcome, end, cell) = match key {
            CellKey::Dense { column, row } => {
                let own = state.own(self.per, now.seconds());
                let word = cells.dense(column, row).ok_or(CounterError::Missing { column, row })?;
                (counter::take(word, own, amount, self.requests), state.end, dense(column, row))
            }
            CellKey::Open { column, tag } => {
                let ask = Ask { column, tag, period: self.per, now: now.seconds() };
                let (outcome, spot) = cells.open().take(ask, amount, self.requests, |spot| {
                    note(taken(open(column, spot.index), spot.window.end, amount));
                })?;
                state.own = spot.window;
                (outcome, spot.window.end, open(column, spot.index))
            }
        };
        match outcome {
            counter::Take::Took(before) => {
                if before.end != end {
                    note(taken(cell, before.end, amount));
                }
                found(state, before);
                Ok(true)
            }
            counter::Take::Full(seen) => {
                found(state, seen);
                Ok(false)
            }
            counter::Take::Moved => Err(Busy.into()),
        }
    }

    #[inline]
    fn give_back(cells: &impl Cells, taken: TakenAmount) {
        if let Some(word) = cells.word(taken.cell) {
            counter::give_back(word, UnixSeconds::saturating(taken.window), taken.amount);
        }
    }

    fn charge(cells: &impl Cells, taken: TakenAmount) {
        if let Some(word) = cells.word(taken.cell) {
            counter::charge(word, UnixSeconds::saturating(taken.window), taken.amount);
        }
    }

    fn standing(&self, cells: &impl Cells, key: CellKey, now: Moment) -> CounterStanding {
        let (seen, cell) = match key {
            CellKey::Dense { column, row } => {
                let word = cells.dense(column, row);
                (
                    word.map(|word| counter::unpack(word.load(crate::cells::atomic::Ordering::Acquire))),
                    dense(column, row),
                )
            }
            CellKey::Open { column, tag } => {
                let ask = Ask { column, tag, period: self.per, now: now.seconds() };
                (Some(cells.open().look(ask).0), open(column, 0))
            }
        };
        let Some(WindowState { count, end }) = seen.filter(|seen| seen.end > now.seconds()) else {
            let resets_at = Some(self.per.window(now.seconds()).end);
            return CounterStanding { taken: 0, held_in: None, resets_at };
        };
        CounterStanding {
            taken: count.into(),
            held_in: (!cell.open).then_some((cell, end.0.into())),
            resets_at: Some(end),
        }
    }
}

#[inline]
fn found(state: &mut State, seen: WindowState) {
    state.used = seen.count.into();
    state.end = seen.end;
    state.free_at = seen.end.into();
    state.full_at = state.free_at;
}

fn dense(column: u32, row: u32) -> CellRef {
    CellRef { kind: FixedWindow::NUMBER, open: false, column, row }
}

fn open(column: u32, index: u32) -> CellRef {
    CellRef { kind: FixedWindow::NUMBER, open: true, column, row: index }
}

fn taken(cell: CellRef, end: UnixSeconds, amount: u64) -> TakenAmount {
    TakenAmount { cell, window: end.0.into(), amount }
}
