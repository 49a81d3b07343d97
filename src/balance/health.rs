//! Passive health of one upstream address, from the results of its connects.
//!
//! Three connect failures in a row take the address out for ten seconds; then one attempt at a time may probe it, and
//! its success brings the address back, its failure takes it out for ten more. One word, shared by threads; time is
//! an argument. Answers do not count: an address that answers 500 is reachable.

use core::sync::atomic::{AtomicU64, Ordering};
use core::time::Duration;
use std::sync::Arc;

/// Connect failures in a row that take an address out.
pub const FAILURES: u64 = 3;
/// Milliseconds that an address stays out.
pub const OUT: Duration = Duration::from_secs(10);

// The word: failures in a row (low byte) | a probe is under way (bit 8) | out until, in milliseconds (the rest).
const FAILED: u64 = 0xff;
const PROBING: u64 = 1 << 8;
const UNTIL: u32 = 9;

/// The state of one address. Times are of one monotonic clock.
#[derive(Debug, Default)]
pub struct Health {
    word: AtomicU64,
}

/// The address is out: the time until it may be probed; zero while a probe is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("out after {FAILURES} failures to connect")]
pub struct Out {
    /// Time until the next probe.
    pub retry_in: Duration,
}

/// One attempt to connect. Report its result: a dropped attempt counts as nothing and lets another one probe.
#[must_use]
pub struct Attempt {
    health: Arc<Health>,
    probe: bool,
}

impl Health {
    /// Asks whether to try this address now.
    pub fn attempt(self: &Arc<Self>, now: Duration) -> Result<Attempt, Out> {
        let mut probe = false;
        let asked = self.word.try_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            probe = word & FAILED >= FAILURES;
            let may = !probe || (word & PROBING == 0 && millis(now) >= word >> UNTIL);
            may.then_some(if probe { word | PROBING } else { word })
        });
        match asked {
            Ok(_) => Ok(Attempt { health: Arc::clone(self), probe }),
            Err(word) => Err(Out { retry_in: Duration::from_millis((word >> UNTIL).saturating_sub(millis(now))) }),
        }
    }

    /// Whether no recent connect failed.
    pub fn is_well(&self) -> bool {
        self.word.load(Ordering::Acquire) == 0
    }

    /// Whether the last three connects failed: the address stays out until a probe succeeds.
    pub fn is_out(&self) -> bool {
        self.word.load(Ordering::Acquire) & FAILED >= FAILURES
    }
}

impl Attempt {
    /// Connected: the address is in again. True when it was out.
    pub fn succeeded(mut self) -> bool {
        self.probe = false;
        self.health.word.swap(0, Ordering::AcqRel) & FAILED >= FAILURES
    }

    /// Could not connect. True when this failure takes the address out. An attempt that began before the address went out
    /// does not extend the time.
    pub fn failed(mut self, now: Duration) -> bool {
        let probe = core::mem::take(&mut self.probe);
        let until = millis(now + OUT) << UNTIL;
        let before = self.health.word.try_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let failures = word & FAILED;
            if failures >= FAILURES {
                return probe.then_some(until | FAILURES);
            }
            Some(if failures + 1 == FAILURES { until | FAILURES } else { failures + 1 })
        });
        before.is_ok_and(|word| (word & FAILED) + 1 == FAILURES)
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.probe {
            self.health.word.fetch_and(!PROBING, Ordering::AcqRel);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(u64::MAX >> UNTIL)
}
