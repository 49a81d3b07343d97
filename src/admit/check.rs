//! One limit as it applies to one request, and why a request is refused.
//!
//! The caller makes a `Check` for each limit; `peek` and `take` write into it what they found, so that headers can
//! be made for every limit, whatever came of the request. A shadow check is counted and never refuses.

use crate::cells::{Busy, CellKey};
use crate::limits::{Period, Rate, Window};
use crate::units::{Moment, UnixSeconds};

/// A limit, the counter it is held in, and what was found there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// Requests allowed in a window; of a bucket its size.
    pub limit: u32,
    /// The window's length.
    pub period: Period,
    /// The counter.
    pub key: CellKey,
    /// Set for a bucket, which refills steadily; `None` for a fixed window.
    pub rate: Option<Rate>,
    /// What is counted on its own, as it is named to a client.
    pub scope: &'static str,
    /// Counted, never refused.
    pub shadow: bool,
    /// Left out of the headers.
    pub hidden: bool,
    /// Out: requests counted in the window, without this one.
    pub used: u32,
    /// Out: the window that counts. Its end may be later than the clock says if the clock was set back. Of a bucket: from
    /// now until one more request passes.
    pub window: Window,
    /// Out: when one more request passes, if this check is exhausted.
    pub free_at: Moment,
    /// Out: when nothing of it is used any more.
    pub full_at: Moment,
    /// The window of the clock, kept between the look and the taking: a calendar month is dear to work out.
    own: Window,
}

impl Check {
    /// A check of `limit` requests per `period`, held in the counter `key`.
    pub fn new(limit: u32, period: Period, key: CellKey) -> Self {
        Self {
            limit,
            period,
            key,
            rate: None,
            scope: "",
            shadow: false,
            hidden: false,
            used: 0,
            window: Window::default(),
            free_at: Moment::default(),
            full_at: Moment::default(),
            own: Window::default(),
        }
    }

    /// A bucket, held in the row of a column of its own.
    pub fn bucket(rate: Rate, period: Period, key: CellKey) -> Self {
        Self { rate: Some(rate), ..Self::new(rate.burst(), period, key) }
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

    /// True when it is exhausted and refuses for it.
    pub fn refuses(&self) -> bool {
        self.exhausted() && !self.shadow
    }

    /// Whole seconds, rounded up, until one more request passes.
    pub fn resets_in(&self, now: impl Into<Moment>) -> u32 {
        let wait = self.wait(now);
        u32::try_from(wait.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
    }

    /// Nanoseconds until one more request passes.
    pub fn wait(&self, now: impl Into<Moment>) -> u64 {
        self.free_at.since(now.into())
    }

    /// Requests per period, as configured.
    pub fn requests(&self) -> u32 {
        self.rate.map_or(self.limit, Rate::requests)
    }

    /// The limit in words, as it is named to a client.
    pub fn words(&self) -> String {
        let requests = self.requests();
        match self.rate {
            Some(rate) => format!("{requests} requests per {} (burst {})", self.period, rate.burst()),
            None => format!("{requests} requests per {}", self.period),
        }
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
    let exhausted = checks.iter().enumerate().filter(|(_, check)| check.refuses());
    exhausted.max_by_key(|(_, check)| check.free_at).map(|(index, _)| index)
}
