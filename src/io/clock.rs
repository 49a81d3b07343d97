//! The real clocks. The only file of the project that reads them for decisions.
//!
//! Wall time is read exactly (not the coarse clock): a window ends on its second.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aigw_core::clock::Clock;

/// The machine's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// Monotonic time counts from now.
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

/// Milliseconds of the machine's monotonic clock, the same for all processes. It stands still while the machine is suspended.
pub fn machine_millis() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds * 1_000 + nanos / 1_000_000
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn unix_nanos(&self) -> u64 {
        // A clock before 1970 reads as 1970: windows never move backwards.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }
}
