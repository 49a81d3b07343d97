//! The two times of a moment: the wall clock, and a clock that steps of the wall clock do not move.
//!
//! In: both, as the owner of the counters reads them. Out: the one that a limit counts by. Windows of a day or longer follow UTC, as
//! calendars and bills do. Shorter windows and buckets follow the steady clock: a wall clock that is set forward or back neither
//! renews them nor holds them, so their exactness needs no assumption about it. The counters of identifiers follow the steady clock
//! alone, whatever their period: one area has one time. Moments for people are those of the wall clock again.

use super::kind::{CounterStanding, Facts, State};
use crate::cells::CellKey;
use crate::period::Period;
use crate::units::{Moment, UnixSeconds};

/// A difference below this is the time between two readings, and no step: 100 ms.
const READING: u64 = 100_000_000;
const NANOS: u64 = 1_000_000_000;

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Times {
    wall: Moment,
    steady: Moment,
}

impl From<Moment> for Times {
    /// Where no step is known of.
    fn from(now: Moment) -> Self {
        Self { wall: now, steady: now }
    }
}

impl From<UnixSeconds> for Times {
    fn from(now: UnixSeconds) -> Self {
        Moment::from(now).into()
    }
}

impl Times {
    /// The same moment on the wall clock and on the steady one.
    #[inline]
    pub fn new(wall: Moment, steady: Moment) -> Self {
        Self { wall, steady }
    }

    /// The wall clock.
    #[inline]
    pub fn wall(self) -> Moment {
        self.wall
    }

    /// Whether the wall clock was set since the two agreed.
    pub fn is_stepped(self) -> bool {
        self.wall.0.abs_diff(self.steady.0) >= READING
    }

    /// The time that a limit counts by in this counter.
    #[inline]
    pub(super) fn of(self, facts: &Facts, key: CellKey) -> Moment {
        let calendar = facts.refill == 0 && facts.per.is_some_and(Period::is_day_or_longer);
        if calendar && matches!(key, CellKey::Dense { .. }) { self.wall } else { self.steady }
    }

    /// Makes the moments of a state, counted by `at`, those of the wall clock.
    #[inline]
    pub(super) fn show(self, at: Moment, state: &mut State) {
        if self.is_off(at) {
            state.free_at = self.shown(at, state.free_at);
            state.full_at = self.shown(at, state.full_at);
        }
    }

    /// The same for a counter's use.
    pub(super) fn show_standing(self, at: Moment, standing: CounterStanding) -> CounterStanding {
        let shown = |end: UnixSeconds| Moment(self.shown(at, end.into()).0.saturating_add(NANOS / 2)).seconds();
        let resets_at = if self.is_off(at) { standing.resets_at.map(shown) } else { standing.resets_at };
        CounterStanding { resets_at, ..standing }
    }

    #[inline]
    fn is_off(self, at: Moment) -> bool {
        self.wall.0.abs_diff(at.0) >= READING
    }

    fn shown(self, at: Moment, moment: Moment) -> Moment {
        Moment(self.wall.0.saturating_add(moment.0.saturating_sub(at.0)).saturating_sub(at.0.saturating_sub(moment.0)))
    }
}
