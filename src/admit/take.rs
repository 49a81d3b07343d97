//! Looking at limits, and taking from all of them or none.
//!
//! `take` first looks, so that a refusal costs no write; then journals, then takes in the order of the checks, and
//! gives back the amounts it took when a later check refuses. A full shadow check is passed by: it holds nothing.
//! A request whose rows have no room in the ledger is refused before it takes anything. No allocation, no lock on dense counters, no clock. The kind of a limit decides how it counts.

use std::hint;
use std::sync::Arc;

use super::check::{Check, NotTaken, refusal};
use super::in_flight::InFlight;
use super::permit::{Permit, give_back};
use crate::cells::journal::{Entry, MAX_CELLS, State, TakenAmount};
use crate::cells::{CellKey, CounterSpace};
use crate::limits::{Demand, Times};
use crate::units::{Moment, RequestId};

/// Admits requests against the counters of one gateway.
pub struct Admitter<S> {
    space: Arc<S>,
    in_flight: InFlight,
}

impl<S: CounterSpace> Admitter<S> {
    /// Over a worker's counters and ring.
    pub fn new(space: Arc<S>) -> Self {
        Self { space, in_flight: InFlight::default() }
    }

    /// The counter of an identifier (address, header value, path) in an open column.
    pub fn open_key(&self, column: u32, identifier: &[u8]) -> CellKey {
        self.space.open().key(column, identifier)
    }

    /// Reads every check and takes nothing. Refuses if one is exhausted.
    pub fn peek(&self, checks: &mut [Check], demand: &Demand, now: impl Into<Moment>) -> Result<(), NotTaken> {
        self.peek_at(checks, demand, self.times(now.into()))
    }

    /// The moment on the clocks that limits count by.
    #[inline]
    fn times(&self, now: Moment) -> Times {
        Times::new(now, self.space.steady(now))
    }

    #[inline]
    fn peek_at(&self, checks: &mut [Check], demand: &Demand, now: Times) -> Result<(), NotTaken> {
        self.fetch(checks);
        let (mut refuses, shadow) = (false, demand.in_shadow());
        for check in checks.iter_mut() {
            let own = if check.shadow { &shadow } else { demand };
            let peeked = check.limit.peek(&*self.space, check.key, own, now, &mut check.state)?;
            check.amount = peeked.amount;
            refuses |= check.refuses_by(peeked);
        }
        if refuses { Err(self.refusal(checks, now)) } else { Ok(()) }
    }

    /// Asks memory for all counters at once. A look is about 100 instructions: the processor would wait for one or two counters
    /// before it asks for the next, and a trip to memory costs 140 ns and more (benches/results/README.md).
    #[inline]
    fn fetch(&self, checks: &[Check]) {
        let ends = |key: CellKey| self.space.ends(key);
        hint::black_box(checks.iter().fold(0, |words, check| words ^ ends(check.key)));
    }

    /// Why the checks refuse. A budget that only calls in flight fill may pass as soon as one of them ends.
    #[cold]
    fn refusal(&self, checks: &mut [Check], now: Times) -> NotTaken {
        checks
            .iter_mut()
            .filter(|check| check.refuses())
            .for_each(|check| self.in_flight.note(&*self.space, check, now));
        refusal(checks)
    }

    /// Takes the request's amounts from every check, or from none. Each check's state is the one before.
    pub fn take(
        &self,
        checks: &mut [Check],
        demand: &Demand,
        now: impl Into<Moment>,
        request: RequestId,
    ) -> Result<Permit<S>, NotTaken> {
        let now = self.times(now.into());
        if checks.len() > MAX_CELLS {
            return Err(NotTaken::TooMany);
        }
        self.peek_at(checks, demand, now)?;
        if !self.space.claim(demand.rows) {
            return Err(NotTaken::NoLedger);
        }
        self.take_all(checks, demand, now, request)
            .map(|entry| Permit::new(Arc::clone(&self.space), entry, demand.rows))
            .inspect_err(|_| self.space.release(demand.rows))
    }

    /// Journals the amounts of the checks, then takes them.
    #[inline]
    fn take_all(
        &self,
        checks: &mut [Check],
        demand: &Demand,
        now: Times,
        request: RequestId,
    ) -> Result<Entry, NotTaken> {
        let ring = self.space.ring();
        let entry = ring.begin(now.wall().seconds(), request, checks.len()).ok_or(NotTaken::Full)?;
        ring.write_all(&entry, checks.iter().map(|check| check.limit.intent(check.key, check.amount, &check.state)));
        ring.step(&entry, State::Intent);
        for (n, check) in checks.iter_mut().enumerate() {
            if let Err(refusal) = self.take_one(&entry, n, check, now) {
                give_back(&*self.space, &entry, n);
                return Err(self.overtaken(checks, demand, now, refusal));
            }
        }
        ring.step(&entry, State::Held);
        Ok(entry)
    }

    /// Another request was faster: all checks are read again, so that the headers show the counters after it.
    #[cold]
    fn overtaken(&self, checks: &mut [Check], demand: &Demand, now: Times, refusal: NotTaken) -> NotTaken {
        match (refusal, self.peek_at(checks, demand, now)) {
            (NotTaken::Exceeded(_), Err(again)) => again,
            (NotTaken::Exceeded(n), Ok(())) => {
                // A call in flight had the room, and has given it back meanwhile.
                self.in_flight.note(&*self.space, &mut checks[n], now);
                NotTaken::Exceeded(n)
            }
            (refusal, _) => refusal,
        }
    }

    #[inline]
    fn take_one(&self, entry: &Entry, n: usize, check: &mut Check, now: Times) -> Result<(), NotTaken> {
        let ring = self.space.ring();
        let note = |taken: TakenAmount| ring.write(entry, n, taken);
        if check.limit.take(&*self.space, check.key, check.amount, now, &mut check.state, note)? {
            return Ok(());
        }
        if !check.shadow {
            return Err(NotTaken::Exceeded(n));
        }
        ring.write(entry, n, TakenAmount::NOTHING);
        Ok(())
    }
}
