//! Looking at limits, and taking from all of them or none.
//!
//! `take` first looks, so that a refusal costs no write; then journals, then takes in the order of the checks, and
//! gives back what it took when a later one refuses. No allocation, no lock on dense counters, no clock.

use std::sync::Arc;

use super::check::{Check, Refusal, exceeded};
use super::permit::{Permit, give_back};
use crate::cells::journal::{Entry, Held, MAX_CELLS, State};
use crate::cells::open::{Ask, Spot};
use crate::cells::{Busy, CellKey, CellRef, Place};
use crate::limits::{Window, window};
use crate::units::{RequestId, UnixSeconds};

/// What a request takes from a limit on requests.
const ONE: u32 = 1;

/// Admits requests against the counters of one place.
pub struct Admitter<P> {
    place: Arc<P>,
}

impl<P: Place> Admitter<P> {
    /// Over a worker's counters and ring.
    pub fn new(place: Arc<P>) -> Self {
        Self { place }
    }

    /// The counter of an identifier (address, header value, path) in an open column.
    pub fn open_key(&self, column: u32, identifier: &[u8]) -> CellKey {
        self.place.open().key(column, identifier)
    }

    /// Reads every check and takes nothing. Refuses if one is exhausted.
    pub fn peek(&self, checks: &mut [Check], now: UnixSeconds) -> Result<(), Refusal> {
        for check in checks.iter_mut() {
            let (reading, own) = match check.key {
                CellKey::Dense { column, row } => {
                    let own = check.own(now);
                    let word = self.place.dense(column, row).ok_or(Refusal::Missing { column, row })?;
                    (window::peek(word, own).unwrap_or(window::Reading { count: 0, end: own.end }), own)
                }
                CellKey::Open { column, tag } => self.place.open().peek(Ask { column, tag, period: check.period, now }),
            };
            record(check, own, reading);
        }
        exceeded(checks).map_or(Ok(()), |index| Err(Refusal::Exceeded(index)))
    }

    /// Takes one request from every check, or from none. Each check's `used` is what was counted before.
    pub fn take(&self, checks: &mut [Check], now: UnixSeconds, request: RequestId) -> Result<Permit<P>, Refusal> {
        if checks.len() > MAX_CELLS {
            return Err(Refusal::TooMany);
        }
        self.peek(checks, now)?;
        if checks.is_empty() {
            return Ok(Permit::new(Arc::clone(&self.place), None));
        }
        let ring = self.place.ring();
        let entry = ring.begin(now, request, checks.len()).ok_or(Refusal::Full)?;
        for (n, check) in checks.iter().enumerate() {
            // An open counter's word is known only when it is taken: until then the entry names no word, and no amount.
            let (cell, amount) = match check.key {
                CellKey::Dense { column, row } => (CellRef::Dense { column, row }, ONE),
                CellKey::Open { column, .. } => (CellRef::Open { column, index: 0 }, 0),
            };
            ring.write(&entry, n, Held { cell, end: check.window.end, amount });
        }
        ring.step(&entry, State::Intent);
        for n in 0..checks.len() {
            if let Err(refusal) = self.take_one(&entry, n, &mut checks[n], now) {
                give_back(&*self.place, &entry, n);
                // What the others say is only for the headers: a race was lost, so all are read again.
                return Err(match (refusal, self.peek(checks, now)) {
                    (Refusal::Exceeded(_), Err(again)) => again,
                    (refusal, _) => refusal,
                });
            }
        }
        ring.step(&entry, State::Held);
        Ok(Permit::new(Arc::clone(&self.place), Some(entry)))
    }

    fn take_one(&self, entry: &Entry, n: usize, check: &mut Check, now: UnixSeconds) -> Result<(), Refusal> {
        let ring = self.place.ring();
        let (outcome, own, cell) = match check.key {
            CellKey::Dense { column, row } => {
                let own = check.own(now);
                let word = self.place.dense(column, row).ok_or(Refusal::Missing { column, row })?;
                (window::take(word, own, ONE, check.limit), own, CellRef::Dense { column, row })
            }
            CellKey::Open { column, tag } => {
                let cell = |index| CellRef::Open { column, index };
                let intend = |spot: Spot| {
                    ring.write(entry, n, Held { cell: cell(spot.index), end: spot.window.end, amount: ONE });
                };
                let open = self.place.open();
                let (outcome, spot) =
                    open.take(Ask { column, tag, period: check.period, now }, ONE, check.limit, intend)?;
                (outcome, spot.window, cell(spot.index))
            }
        };
        match outcome {
            window::Take::Took(before) => {
                if before.end != own.end {
                    ring.write(entry, n, Held { cell, end: before.end, amount: ONE });
                }
                record(check, own, before);
                Ok(())
            }
            window::Take::Full(reading) => {
                record(check, own, reading);
                Err(Refusal::Exceeded(n))
            }
            window::Take::Moved => Err(Refusal::Busy(Busy)),
        }
    }
}

fn record(check: &mut Check, own: Window, reading: window::Reading) {
    check.used = reading.count;
    check.window = Window { start: own.start, end: reading.end };
}
