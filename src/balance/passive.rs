//! Passive health of a service's target, from its answers and its failures.
//!
//! In: the bounds of its upstream, the end of each attempt, the moment. Out: whether the target is out. The failures of one kind in a row that
//! reach their bound take it out for ten seconds; then requests try it again, and one more failure takes it out again. A success ends all
//! counts. Connects have bounds of their own beside these (`health`). Threads may write at the same time: a count that is lost delays
//! the bound by one failure.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::snapshot::Passive;
use crate::units::Moment;

/// How long a target stays out.
pub const OUT: Duration = Duration::from_secs(10);

/// The loss of an attempt without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lost {
    /// No connection, or a broken one.
    Connection,
    /// A wait that was too long.
    Wait,
}

/// The state of one target in one worker.
#[derive(Debug, Default)]
pub struct TargetHealth {
    http: AtomicU32,
    tcp: AtomicU32,
    timeouts: AtomicU32,
    out_until: AtomicU64,
}

impl TargetHealth {
    /// Whether the target is out.
    pub fn is_out(&self, now: Moment) -> bool {
        now.0 < self.out_until.load(Ordering::Relaxed)
    }

    /// The target has answered.
    pub fn answered(&self, bounds: &Passive, status: u16, now: Moment) {
        if bounds.http_failures > 0 && bounds.http_statuses.contains(&status) {
            self.count(&self.http, bounds.http_failures, now);
        } else {
            for count in [&self.http, &self.tcp, &self.timeouts] {
                count.store(0, Ordering::Relaxed);
            }
            self.out_until.store(0, Ordering::Relaxed);
        }
    }

    /// The attempt was lost.
    pub fn lost(&self, bounds: &Passive, lost: Lost, now: Moment) {
        match lost {
            Lost::Wait => self.count(&self.timeouts, bounds.timeouts, now),
            Lost::Connection => self.count(&self.tcp, bounds.tcp_failures, now),
        }
    }

    fn count(&self, count: &AtomicU32, bound: u32, now: Moment) {
        let failures = count.load(Ordering::Relaxed).saturating_add(1);
        count.store(failures, Ordering::Relaxed);
        if bound > 0 && failures >= bound {
            let nanoseconds = u64::try_from(OUT.as_nanos()).unwrap_or(u64::MAX);
            self.out_until.store(now.0.saturating_add(nanoseconds), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn bounds() -> Passive {
        Passive { http_failures: 2, http_statuses: [500, 503].into(), tcp_failures: 3, timeouts: 1 }
    }

    #[test]
    fn failures_in_a_row_take_a_target_out_for_ten_seconds() {
        let (health, now) = (TargetHealth::default(), Moment(50 * SECOND));
        health.answered(&bounds(), 503, now);
        health.answered(&bounds(), 200, now);
        health.answered(&bounds(), 500, now);
        assert!(!health.is_out(now));
        health.answered(&bounds(), 500, now);
        assert!(health.is_out(now) && health.is_out(Moment(59 * SECOND)) && !health.is_out(Moment(60 * SECOND)));
        health.answered(&bounds(), 503, Moment(61 * SECOND));
        assert!(health.is_out(Moment(70 * SECOND)), "one more failure takes it out again");
        health.answered(&bounds(), 404, Moment(70 * SECOND));
        assert!(!health.is_out(Moment(70 * SECOND)));
    }

    #[test]
    fn each_kind_of_failure_has_its_own_bound() {
        let (health, now) = (TargetHealth::default(), Moment(SECOND));
        for _ in 0..2 {
            health.lost(&bounds(), Lost::Connection, now);
        }
        assert!(!health.is_out(now));
        health.lost(&bounds(), Lost::Connection, now);
        assert!(health.is_out(now));
        let slow = TargetHealth::default();
        slow.lost(&bounds(), Lost::Wait, now);
        assert!(slow.is_out(now));
        let off = TargetHealth::default();
        for _ in 0..9 {
            off.lost(&Passive::default(), Lost::Connection, now);
            off.answered(&Passive::default(), 500, now);
        }
        assert!(!off.is_out(now), "bounds of 0 are off");
    }
}
