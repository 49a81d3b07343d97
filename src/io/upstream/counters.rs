//! Counters of the upstream thread, taken over by the worker's metrics at each beat.

use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::telemetry::Counter;

/// Events of the upstream thread since the last [`take`](UpstreamCounters::take).
#[derive(Debug, Default)]
pub struct UpstreamCounters {
    /// New connections made.
    pub connects: AtomicU64,
    /// Connect attempts that failed.
    pub connect_failures: AtomicU64,
    /// Requests sent on a pooled connection.
    pub reused: AtomicU64,
    /// Answers of a resolver with an address that no upstream may have.
    pub forbidden: AtomicU64,
    /// Tries at another upstream.
    pub failovers: AtomicU64,
    /// Calls whose client did not read the answer.
    pub stalled: AtomicU64,
    /// Tasks that panicked: a call's, which then failed, or one of the thread's own, which went on.
    pub panics: AtomicU64,
}

impl UpstreamCounters {
    /// Hand over the counts since the last call.
    pub fn take(&self, count: impl Fn(Counter, u64)) {
        for (own, what) in [
            (&self.connects, Counter::UpstreamConnect),
            (&self.connect_failures, Counter::UpstreamConnectFailed),
            (&self.reused, Counter::UpstreamReused),
            (&self.forbidden, Counter::UpstreamForbidden),
            (&self.failovers, Counter::Failover),
            (&self.stalled, Counter::ClientStalled),
            (&self.panics, Counter::Panic),
        ] {
            if own.load(Ordering::Relaxed) > 0 {
                count(what, own.swap(0, Ordering::Relaxed));
            }
        }
    }
}
