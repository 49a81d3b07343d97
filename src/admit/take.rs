//! Looking at limits, and taking from all of them or none.
//!
//! `take` first looks, so that a refusal costs no write; then journals, then takes in the order of the checks, and
//! gives back what it took when a later one refuses. A shadow check that is full is passed by: it holds nothing.
//! No allocation, no lock on dense counters, no clock.

use std::sync::Arc;

use super::check::{Check, Refusal, exceeded};
use super::permit::{Permit, give_back};
use crate::cells::journal::{Entry, Held, MAX_CELLS, State};
use crate::cells::open::{Ask, Spot};
use crate::cells::{Busy, CellKey, CellRef, Place};
use crate::limits::{Window, rate, window};
use crate::units::{Moment, RequestId, UnixSeconds};

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
    pub fn peek(&self, checks: &mut [Check], now: impl Into<Moment>) -> Result<(), Refusal> {
        let now = now.into();
        for check in checks.iter_mut() {
            match (check.key, check.rate) {
                (CellKey::Dense { column, row }, None) => {
                    let own = check.own(now.seconds());
                    let word = self.place.dense(column, row).ok_or(Refusal::Missing { column, row })?;
                    let found = window::peek(word, own).unwrap_or(window::Reading { count: 0, end: own.end });
                    record(check, own, found);
                }
                (CellKey::Dense { column, row }, Some(rate)) => {
                    let bucket = self.place.bucket(column, row).ok_or(Refusal::Missing { column, row })?;
                    record_rate(check, now, bucket.peek(rate, now));
                }
                (CellKey::Open { column, tag }, _) => {
                    let ask = Ask { column, tag, period: check.period, now: now.seconds() };
                    let (found, own) = self.place.open().peek(ask);
                    record(check, own, found);
                }
            }
        }
        exceeded(checks).map_or(Ok(()), |index| Err(Refusal::Exceeded(index)))
    }

    /// Takes one request from every check, or from none. Each check's `used` is what was counted before.
    pub fn take(&self, checks: &mut [Check], now: impl Into<Moment>, request: RequestId) -> Result<Permit<P>, Refusal> {
        let now = now.into();
        if checks.len() > MAX_CELLS {
            return Err(Refusal::TooMany);
        }
        self.peek(checks, now)?;
        if checks.is_empty() {
            return Ok(Permit::new(Arc::clone(&self.place), None));
        }
        let ring = self.place.ring();
        let entry = ring.begin(now.seconds(), request, checks.len()).ok_or(Refusal::Full)?;
        for (n, check) in checks.iter().enumerate() {
            ring.write(&entry, n, intent(check));
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

    fn take_one(&self, entry: &Entry, n: usize, check: &mut Check, now: Moment) -> Result<(), Refusal> {
        let ring = self.place.ring();
        let (outcome, own, cell) = match check.key {
            CellKey::Dense { column, row } => {
                if let Some(rate) = check.rate {
                    let bucket = self.place.bucket(column, row).ok_or(Refusal::Missing { column, row })?;
                    return match bucket.take(rate, now) {
                        rate::Take::Took(before) => {
                            record_rate(check, now, before);
                            Ok(())
                        }
                        rate::Take::Full(reading) => {
                            record_rate(check, now, reading);
                            self.full(entry, n, check)
                        }
                    };
                }
                let word = self.place.dense(column, row).ok_or(Refusal::Missing { column, row })?;
                let own = check.own(now.seconds());
                (window::take(word, own, ONE, check.limit), own, CellRef::Dense { column, row })
            }
            CellKey::Open { column, tag } => {
                let cell = |index| CellRef::Open { column, index };
                let intend = |spot: Spot| {
                    ring.write(entry, n, Held { cell: cell(spot.index), end: spot.window.end, amount: ONE });
                };
                let ask = Ask { column, tag, period: check.period, now: now.seconds() };
                let (outcome, spot) = self.place.open().take(ask, ONE, check.limit, intend)?;
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
                self.full(entry, n, check)
            }
            window::Take::Moved => Err(Refusal::Busy(Busy)),
        }
    }

    /// Nothing was taken: a refusal, or, in shadow, a permit that holds nothing of it.
    fn full(&self, entry: &Entry, n: usize, check: &Check) -> Result<(), Refusal> {
        if !check.shadow {
            return Err(Refusal::Exceeded(n));
        }
        self.place.ring().write(entry, n, Held { amount: 0, ..intent(check) });
        Ok(())
    }
}

/// What is written before a counter is touched.
fn intent(check: &Check) -> Held {
    match (check.key, check.rate) {
        (CellKey::Dense { column, row }, None) => {
            Held { cell: CellRef::Dense { column, row }, end: check.window.end, amount: ONE }
        }
        (CellKey::Dense { column, row }, Some(_)) => {
            Held { cell: CellRef::Rate { column, row }, end: UnixSeconds::default(), amount: ONE }
        }
        // An open counter's word is known only when it is taken: until then the entry names no word, and no amount.
        (CellKey::Open { column, .. }, _) => {
            Held { cell: CellRef::Open { column, index: 0 }, end: check.window.end, amount: 0 }
        }
    }
}

fn record(check: &mut Check, own: Window, reading: window::Reading) {
    check.used = reading.count;
    check.window = Window { start: own.start, end: reading.end };
    check.free_at = reading.end.into();
    check.full_at = check.free_at;
}

fn record_rate(check: &mut Check, now: Moment, reading: rate::Reading) {
    check.used = reading.used;
    check.free_at = reading.free_at;
    check.full_at = reading.full_at;
    check.window = Window { start: now.seconds(), end: reading.free_at.seconds_up() };
}
