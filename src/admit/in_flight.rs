//! Whether only calls in flight stand in the way of a request: they give back the part of a budget that they do not use.
//!
//! In: a check that refused. Out: the amount that calls in flight of all workers hold in its window, and an early time where that
//! alone refuses. Asked for refusals only. Journals tell the amounts. The settled amount of a window never falls, so one that leaves
//! no room is kept, and the journals are not read again: a refusal by a spent budget stays cheap.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::check::Check;
use super::needs;
use crate::cells::{CellRef, CounterSpace};
use crate::units::Moment;

/// Nanoseconds until a request that only calls in flight hold up is worth another try: calls of models take seconds, and half a
/// second is the first wait of OpenAI's clients.
const SOON: u64 = 500_000_000;
/// Windows that are kept: a megabyte.
const KEPT: usize = 10_000;
/// Looks at a counter that changes while the journals are read.
const LOOKS: usize = 3;

/// The settled amounts that left no room, by counter and window.
#[derive(Debug, Default)]
pub(super) struct InFlight(Mutex<HashMap<(CellRef, u64), u64>>);

impl InFlight {
    /// Notes the amount that calls in flight hold. A check that they alone refuse may pass as soon as one of them ends.
    #[cold]
    pub(super) fn note<S: CounterSpace>(&self, space: &S, check: &mut Check, now: Moment) {
        check.state.held = if needs::is_budget(&check.facts()) { self.held(space, check, now) } else { 0 };
        if check.is_held() {
            check.state.free_at = Moment(now.0.saturating_add(SOON));
        }
    }

    fn held<S: CounterSpace>(&self, space: &S, check: &Check, now: Moment) -> u64 {
        let room = check.facts().limit.saturating_sub(check.amount.max(1));
        let mut held = 0;
        for _ in 0..LOOKS {
            let standing = check.limit.standing(space, check.key, now);
            let Some(place) = standing.held_in else { return 0 };
            if self.kept(place).is_some_and(|settled| settled > room) {
                return 0;
            }
            held = space.held(place.0, place.1).min(standing.taken);
            if check.limit.standing(space, check.key, now) == standing {
                let settled = standing.taken - held;
                if settled > room {
                    self.keep(place, settled);
                }
                return held;
            }
        }
        held
    }

    fn kept(&self, place: (CellRef, u64)) -> Option<u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&place).copied()
    }

    fn keep(&self, place: (CellRef, u64), settled: u64) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.clear();
        }
        kept.insert(place, settled);
    }
}
