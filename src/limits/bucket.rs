//! Kind `bucket`: a burst of requests at once, which come back steadily over a period.
//!
//! Fields: `requests`, `per` (of a fixed length), `burst` (the bucket's size). One word for each counter, in a row of a
//! column whose rows are all buckets; `gcra` has the arithmetic. A bucket has no window: refunds go to the bucket as it is.

use serde::Deserialize;
use serde_json::Value;

use super::gcra::{BucketCell, BucketState, Rate, Take};
use super::kind::{BuildError, CounterStanding, Demand, Facts, LimitKind, REQUEST_HEADERS, State, Usage};
use crate::cells::journal::TakenAmount;
use crate::cells::{CellKey, CellRef, Cells, CounterError};
use crate::period::Period;
use crate::units::Moment;

/// Seconds until an empty bucket is full: as long as the longest period.
const MAX_REFILL_S: u64 = 366 * 86_400;

/// A burst that refills at a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RefillBucket {
    rate: Rate,
    /// Requests per period, as configured.
    requests: u32,
    per: Period,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fields {
    requests: u32,
    per: String,
    burst: u32,
}

impl LimitKind for RefillBucket {
    const NAME: &'static str = "bucket";
    const NUMBER: u8 = 2;
    const NOT_OPEN: Option<&'static str> = Some("burst: with scope ip not supported in this version");

    fn build(fields: &Value) -> Result<Self, BuildError> {
        let Fields { requests, per, burst } = Fields::deserialize(fields).map_err(BuildError::fields)?;
        let per: Period = per.parse().map_err(BuildError::fields)?;
        let seconds = per.seconds().filter(|_| requests > 0);
        let seconds =
            seconds.ok_or_else(|| BuildError::fields("burst: needs a period of fixed length, and requests above 0"))?;
        if u64::from(burst) * u64::from(seconds) > MAX_REFILL_S * u64::from(requests) {
            return Err(BuildError::fields("burst: would take more than 366 days to come back at this rate: lower it"));
        }
        let rate = Rate::new(requests, seconds, burst).ok_or_else(|| BuildError::fields("burst: must be above 0"))?;
        Ok(Self { rate, requests, per })
    }

    #[inline]
    fn facts(&self) -> Facts {
        Facts {
            meter: "requests",
            per: Some(self.per),
            limit: self.rate.burst().into(),
            quota: false,
            refill: self.rate.cost(),
            headers: Some(REQUEST_HEADERS),
        }
    }

    fn describe(&self) -> String {
        format!("{} requests per {} (burst {})", self.requests, self.per, self.rate.burst())
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
        amount: u64,
        now: Moment,
        state: &mut State,
    ) -> Result<(), CounterError> {
        found(state, cell(cells, key)?.look(self.rate, amount, now));
        Ok(())
    }

    #[inline]
    fn intent(&self, key: CellKey, amount: u64, _: &State) -> TakenAmount {
        let (column, row) = key.dense();
        TakenAmount { cell: CellRef { kind: Self::NUMBER, open: false, column, row }, window: 0, amount }
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
            held_in: None,
            resets_at: Some(state.map_or(now.seconds(), |state| state.full_at.seconds_up())),
        }
    }
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
