//! Ends the connections of clients that do nothing: see `aigw_io::idle`, which finds them. Gives freed memory back (`memory`).
//!
//! In: the ports that clients call. Out: connections cut, those in a head or behind an unread answer counted. A client with a request in flight is never cut here: body, upstream and
//! stream have bounds of their own.

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use aigw_core::telemetry::Counter;
use aigw_io::idle::{INTERVAL, Idle, Lacks, Overdue};
use aigw_io::socket::{self, Unread};

use super::{Exchange, Shared};
use crate::memory::{self, Freed};

/// Looks at all connections for ever, on a thread of its own: with ten thousand of them a look takes tens of milliseconds.
pub(crate) fn watch(shared: &Shared<Exchange>, ports: &[u16], most: Duration) {
    let (mut idle, mut freed) = (Idle::new(most), Freed::new());
    loop {
        std::thread::sleep(INTERVAL);
        let looked = catch_unwind(AssertUnwindSafe(|| {
            if freed.is_due(shared.worker.room(), Instant::now()) {
                memory::give_back_own();
                memory::give_back_system();
            }
            let overdue = idle.look(&socket::flows(ports), Instant::now());
            end(shared, &overdue);
        }));
        if looked.is_err() {
            shared.worker.recorder().panic();
        }
    }
}

fn end(shared: &Shared<Exchange>, overdue: &[Overdue]) {
    if overdue.is_empty() {
        return;
    }
    let busy: HashSet<_> = shared.in_flight.map(|exchange| exchange.get().head.connection());
    for Overdue { client, lacks } in overdue.iter().filter(|overdue| !busy.contains(&Some(overdue.client))) {
        let (counter, unread) = match lacks {
            Lacks::Head => (Some(Counter::HeadTimeout), Unread::Sent),
            Lacks::Reading => (Some(Counter::ClientStalled), Unread::Dropped),
            Lacks::Request => (None, Unread::Sent),
        };
        if socket::cut(*client, unread)
            && let Some(counter) = counter
        {
            shared.worker.recorder().count(counter, 1);
        }
    }
}
