//! The steady clock of a gateway: all of its processes read the same, and steps of the wall clock do not move it.
//!
//! In: two words of a shared file, and the machine's clock of the time since its start, which runs on while it is suspended. Out: the
//! wall clock's time of the gateway's start, and the time since. The first start after the machine's sets the words. A later
//! start of the gateway takes over a wall clock that is ahead. It leaves a wall clock that is behind alone, so windows do not restart.

use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::clock::Clock as _;
use aigw_core::limits::Times;
use aigw_core::units::Moment;
use rustix::time::{ClockId, clock_gettime};

use crate::clock::SystemClock;

/// Reads the clock; `words`: the machine's start, and the wall clock's nanoseconds at that start.
#[inline]
pub(super) fn now(words: Option<&[AtomicU64; 2]>, boot: u64) -> Option<Moment> {
    let [of, start] = words?;
    if boot == 0 || of.load(Ordering::Acquire) != boot {
        return None;
    }
    Some(Moment(start.load(Ordering::Relaxed).saturating_add(since_start())))
}

/// A moment of the wall clock on this one, for readers who do not take.
pub(super) fn of(words: Option<&[AtomicU64; 2]>, boot: u64, moment: Moment) -> Moment {
    let Some(steady) = now(words, boot) else { return moment };
    let wall = SystemClock::new().moment();
    if !Times::new(wall, steady).is_stepped() {
        return moment;
    }
    Moment(moment.0.saturating_add(steady.0).saturating_sub(wall.0))
}

/// Sets the clock where the machine has restarted since, or `begin`s: then to a wall clock that is ahead.
pub(super) fn set(words: Option<&[AtomicU64; 2]>, boot: u64, begin: bool) {
    let Some([of, start]) = words else { return };
    let begun = SystemClock::new().moment().0.saturating_sub(since_start());
    if of.load(Ordering::Acquire) != boot {
        start.store(begun, Ordering::Relaxed);
        of.store(boot, Ordering::Release);
    } else if begin {
        start.fetch_max(begun, Ordering::Relaxed);
    }
}

fn since_start() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u64::try_from(now.tv_nsec).unwrap_or(0));
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: u64 = 7;
    const READING: u64 = 100_000_000;

    #[test]
    fn clock_goes_on_and_takes_over_a_wall_clock_that_is_ahead() {
        let words = [AtomicU64::new(0), AtomicU64::new(0)];
        assert_eq!(now(Some(&words), BOOT), None);
        set(Some(&words), BOOT, false);
        let wall = || SystemClock::new().moment().0;
        let (first, second) = (now(Some(&words), BOOT), now(Some(&words), BOOT));
        assert!(first <= second && first.is_some_and(|one| one.0.abs_diff(wall()) < READING));
        assert_eq!(of(Some(&words), BOOT, Moment(5)), Moment(5));
        // The wall clock was an hour ahead when the gateway started, and is right again.
        let hour = 3_600_000_000_000;
        words[1].fetch_add(hour, Ordering::Relaxed);
        set(Some(&words), BOOT, true);
        assert!(now(Some(&words), BOOT).is_some_and(|one| one.0.abs_diff(wall() + hour) < READING));
        assert!(of(Some(&words), BOOT, Moment(5)).0.abs_diff(hour) < READING);
        // It was an hour behind.
        words[1].fetch_sub(2 * hour, Ordering::Relaxed);
        set(Some(&words), BOOT, false);
        assert!(now(Some(&words), BOOT).is_some_and(|one| one.0.abs_diff(wall() - hour) < READING));
        set(Some(&words), BOOT, true);
        assert!(now(Some(&words), BOOT).is_some_and(|one| one.0.abs_diff(wall()) < READING));
        assert_eq!((now(Some(&words), BOOT + 1), now(Some(&words), 0), now(None, BOOT)), (None, None, None));
    }
}
