//! One limit as it applies to one request, and why a request is refused.
//!
//! The caller makes a `Check` for each limit; `peek` and `take` write into it what they found, so that headers can
//! be made for every limit, whatever came of the request.

use crate::cells::{Busy, CellKey};
use crate::limits::{Period, Window};
use crate::units::UnixSeconds;

/// A limit, the counter it is held in, and what was found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Requests allowed in a window.
    pub limit: u32,
    /// The window's length.
    pub period: Period,
    /// The counter.
    pub key: CellKey,
    /// Out: requests counted in the window, without this one.
    pub used: u32,
    /// Out: the window that counts. Its end may be later than the clock says if the clock was set back.
    pub window: Window,
    /// The window of the clock, kept between the look and the taking: a calendar month is dear to work out.
    own: Window,
}

impl Check {
    /// A check of `limit` requests per `period`, held in the counter `key`.
    pub fn new(limit: u32, period: Period, key: CellKey) -> Self {
        Self { limit, period, key, used: 0, window: Window::default(), own: Window::default() }
    }

    /// The period's window at `now`.
    pub(super) fn own(&mut self, now: UnixSeconds) -> Window {
        if now < self.own.start || now >= self.own.end {
            self.own = self.period.window(now);
        }
        self.own
    }

    /// True when one more request would pass the limit.
    pub fn exhausted(&self) -> bool {
        self.used >= self.limit
    }

    /// Seconds until the window ends.
    pub fn resets_in(&self, now: UnixSeconds) -> u32 {
        self.window.end.since(now)
    }
}

/// Why nothing was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A limit is exhausted: the index of the check that resets last among those that are.
    #[error("limit {0} is exhausted")]
    Exceeded(usize),
    /// This worker holds as many permits as its journal has room for.
    #[error("too many requests in flight in this worker")]
    Full,
    /// The counters of open scopes could not be reached in time.
    #[error(transparent)]
    Busy(#[from] Busy),
    /// The snapshot names a counter that no file has: a fault of ours.
    #[error("no counter for column {column}, row {row}")]
    Missing {
        /// Column number.
        column: u32,
        /// Row number.
        row: u32,
    },
    /// More limits than a permit can hold: a fault of ours.
    #[error("more than 29 limits on one request")]
    TooMany,
}

/// The exhausted check that resets last.
pub(super) fn exceeded(checks: &[Check]) -> Option<usize> {
    let exhausted = checks.iter().enumerate().filter(|(_, check)| check.exhausted());
    exhausted.max_by_key(|(_, check)| check.window.end).map(|(index, _)| index)
}
