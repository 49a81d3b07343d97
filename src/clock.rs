//! Time is an argument in the core. The trait has two implementations: the real clocks (in `aigw-io`), and a manual clock
//! here for tests. Nothing in this crate reads a real clock.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;

use crate::units::{Moment, UnixSeconds};

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// A source of time. Wall time may step in both directions, monotonic time only goes on.
pub trait Clock: Send + Sync {
    /// Wall time in nanoseconds since the Unix epoch (UTC).
    fn unix_nanos(&self) -> u64;

    /// Time since some fixed moment of this process.
    fn monotonic(&self) -> Duration;

    /// Wall time in the unit of limits.
    fn moment(&self) -> Moment {
        Moment(self.unix_nanos())
    }

    /// Wall time in whole seconds, the unit of windows.
    fn now(&self) -> UnixSeconds {
        UnixSeconds::saturating(self.unix_nanos() / NANOS_PER_SECOND)
    }
}

/// A clock that a test moves; shared by threads.
#[derive(Debug, Default)]
pub struct FakeClock {
    wall: AtomicU64,
    monotonic: AtomicU64,
}

impl FakeClock {
    /// A clock standing at `now`.
    pub fn at(now: UnixSeconds) -> Self {
        let clock = Self::default();
        clock.step_to(now);
        clock
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.wall.fetch_add(nanos, Ordering::SeqCst);
        self.monotonic.fetch_add(nanos, Ordering::SeqCst);
    }

    /// Sets the wall clock, forwards or back, as an operator or NTP does. Monotonic time does not move.
    pub fn step_to(&self, now: UnixSeconds) {
        self.wall.store(u64::from(now.0) * NANOS_PER_SECOND, Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn unix_nanos(&self) -> u64 {
        self.wall.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_moves_wall_time_only() {
        let clock = FakeClock::at(UnixSeconds(100));
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(clock.now(), UnixSeconds(102));
        clock.step_to(UnixSeconds(50));
        assert_eq!((clock.now(), clock.monotonic()), (UnixSeconds(50), Duration::from_millis(2_500)));
    }
}
