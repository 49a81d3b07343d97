//! The amounts that the limits of tiers have counted in their windows of now or later, for comparing them with the ledger.
//!
//! In: the tiers and models in force, the cells, the workers' journals. Out: one [`Counted`] for each counter that is not 0. Calls end while
//! they are read, so the amount that calls hold is an upper bound: each call of a journal read before the counters or after them. The
//! settled part is at least the whole without it. Limits with a burst have no window, places of calls in flight no sum: both are left out.

use std::collections::HashMap;

use crate::cells::atomic::AtomicU64;
use crate::cells::{CellKey, CellRef, Cells, journal};
use crate::limits::{Limit, Times};
use crate::period::{Period, Window};
use crate::snapshot::{Offer, Subject};
use crate::units::{Moment, RequestId, UnixSeconds};

/// A counter of a tier's limit, with the amounts of its window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Number of its column.
    pub column: u32,
    /// Row number of the consumer, or of the credential.
    pub row: u32,
    /// Settled, and held by calls in flight.
    pub taken: u64,
    /// Most that calls in flight hold of it.
    pub held: u64,
    /// The window that it counts in: that of now, or a later one, which a clock that ran ahead has opened.
    pub window: Window,
}

/// A column of a tier's limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CountedColumn {
    /// Its number.
    pub number: u32,
    /// The meter: `tokens`.
    pub meter: &'static str,
    /// The period as configured.
    pub per: String,
    /// `consumer`, `credential` or `model`.
    pub scope: &'static str,
    /// Row number of the model; 0: of all.
    pub model: u32,
    /// The window of now.
    pub window: Window,
    /// Its limit is in shadow mode, and takes nothing once it is spent.
    pub shadow: bool,
    limit: Limit,
    period: Period,
}

impl CountedColumn {
    /// Its window with this end.
    fn until(&self, end: UnixSeconds) -> Option<Window> {
        let window = self.period.window(UnixSeconds(end.0.checked_sub(1)?));
        (window.end == end).then_some(window)
    }
}

/// The columns of all tiers' limits that count in windows. After a step of the wall clock only those of a day or longer: entries have
/// the wall clock's times, and shorter windows do not follow it.
pub fn columns(offer: &Offer, now: impl Into<Times>) -> Vec<CountedColumn> {
    let times = now.into();
    let now = times.wall();
    let mut found = Vec::<CountedColumn>::new();
    for limit in offer.tiers.iter().flat_map(|tier| &tier.limits) {
        let facts = limit.limit.facts();
        let (Some(per), 0) = (facts.per, facts.refill) else { continue };
        if times.is_stepped() && !per.is_day_or_longer() {
            continue;
        }
        let models = offer.models.iter().map(|model| model.n);
        let of: Vec<u32> = match limit.subject {
            Subject::Ip => continue,
            Subject::Model => models.collect(),
            Subject::Consumer | Subject::Credential => vec![0],
        };
        for (&number, model) in limit.columns.iter().zip(of) {
            if found.iter().all(|known| known.number != number) {
                let (meter, scope, window) = (facts.meter, limit.subject.name(), per.window(now.seconds()));
                found.push(CountedColumn {
                    number,
                    meter,
                    per: per.to_string(),
                    scope,
                    model,
                    window,
                    shadow: limit.shadow,
                    limit: limit.limit,
                    period: per,
                });
            }
        }
    }
    found
}

/// Every counter of the columns that is not 0. `rings` are the journals of all workers.
pub fn read(cells: &impl Cells, rings: &[&[AtomicU64]], columns: &[CountedColumn], now: Moment) -> Vec<Counted> {
    let (mut held, now) = (HashMap::new(), Times::new(now, cells.steady(now)));
    note(rings, &mut held);
    let mut found = Vec::new();
    for column in columns {
        let rows = (0..).take_while(|row| cells.dense(column.number, *row).is_some());
        for row in rows {
            let key = CellKey::Dense { column: column.number, row };
            let standing = column.limit.standing(cells, key, now);
            if let Some(window) = standing.resets_at.filter(|_| standing.taken > 0).and_then(|end| column.until(end)) {
                let counted = Counted { column: column.number, row, taken: standing.taken, held: 0, window };
                found.push((counted, standing.held_in));
            }
        }
    }
    note(rings, &mut held);
    let mut sums = HashMap::<(CellRef, u64), u64>::new();
    for ((cell, window, _), amount) in held {
        let sum = sums.entry((cell, window)).or_default();
        *sum = sum.saturating_add(amount);
    }
    let with_held = |(counted, held_in): (Counted, Option<(CellRef, u64)>)| {
        let held = held_in.and_then(|at| sums.get(&at)).copied().unwrap_or(0);
        Counted { held: held.min(counted.taken), ..counted }
    };
    found.into_iter().map(with_held).collect()
}

/// Notes the largest amount that each call was seen to hold of each counter.
fn note(rings: &[&[AtomicU64]], held: &mut HashMap<(CellRef, u64, RequestId), u64>) {
    for permit in rings.iter().flat_map(|ring| journal::open_permits(ring)) {
        for taken in permit.held {
            let known = held.entry((taken.cell, taken.window, permit.request)).or_default();
            *known = taken.amount.max(*known);
        }
    }
}
