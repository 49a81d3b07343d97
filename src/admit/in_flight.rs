//! Whether only calls in flight stand in the way of a request: they give back the part of a budget that they do not use.
//!
//! In: a check that refused. Out: the amount that calls in flight of all workers hold in its window, and an early time where that
//! alone refuses. Asked for refusals only. Journals tell the amounts. A settled amount that leaves no room is kept for a second, in
//! which the journals are not read again: a refusal by a spent budget stays cheap. A call that takes more meanwhile is in the counter
//! before it is in the journal, so an amount that was read just then is too high, and must not be believed for long.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::check::Check;
use super::needs;
use crate::cells::{CellRef, CounterSpace};
use crate::limits::Times;
use crate::units::Moment;

/// Nanoseconds until a request that only calls in flight hold up is worth another try: calls of models take seconds, and half a
/// second is the first wait of OpenAI's clients.
const SOON: u64 = 500_000_000;
/// Windows that are kept: a megabyte.
const KEPT: usize = 10_000;
/// Looks at a counter that changes while the journals are read.
const LOOKS: usize = 3;

/// Nanoseconds for which a settled amount is kept.
const BELIEVED: u64 = 1_000_000_000;

/// The settled amounts that left no room, with the times at which they were read, by counter and window.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashMap<(CellRef, u64), (u64, Moment)>>);

impl InFlight {
    /// Notes the amount that calls in flight hold. A check that they alone refuse may pass as soon as one of them ends.
    #[cold]
    pub(super) fn note<S: CounterSpace>(&self, space: &S, check: &mut Check, now: Times) {
        check.state.held = if needs::is_budget(&check.facts()) { self.held(space, check, now) } else { 0 };
        if check.is_held() {
            check.state.free_at = Moment(now.wall().0.saturating_add(SOON));
        }
    }

    fn held<S: CounterSpace>(&self, space: &S, check: &Check, now: Times) -> u64 {
        let room = check.facts().limit.saturating_sub(check.amount.max(1));
        let mut held = 0;
        for _ in 0..LOOKS {
            let standing = check.limit.standing(space, check.key, now);
            let Some(place) = standing.held_in else { return 0 };
            if self.kept(place, now.wall()).is_some_and(|settled| settled > room) {
                return 0;
            }
            held = space.held(place.0, place.1).min(standing.taken);
            if check.limit.standing(space, check.key, now) == standing {
                let settled = standing.taken - held;
                if settled > room {
                    self.keep(place, settled, now.wall());
                }
                return held;
            }
        }
        held
    }

    fn kept(&self, place: (CellRef, u64), now: Moment) -> Option<u64> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(&place).filter(|(_, read)| now.since(*read) < BELIEVED).map(|(settled, _)| *settled)
    }

    fn keep(&self, place: (CellRef, u64), settled: u64, now: Moment) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(place, (settled, now));
    }
}
