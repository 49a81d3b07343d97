//! The pools, resolver and counters that all tasks of the upstream thread share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::counters::UpstreamCounters;
use super::pool::Pool;
use super::resolve::Resolver;
use super::tls::Tls;
use aigw_core::balance::Origin;

/// The state that the tasks of the upstream thread share.
pub(super) struct Shared {
    pools: RefCell<HashMap<Arc<Origin>, Rc<Pool>>>,
    pub(super) resolver: Resolver,
    pub(super) tls: Tls,
    pub(super) counters: Arc<UpstreamCounters>,
    swept: Cell<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(counters: Arc<UpstreamCounters>) -> Self {
        Self {
            pools: RefCell::default(),
            resolver: Resolver::default(),
            tls: Tls::default(),
            counters,
            swept: Cell::new(None),
        }
    }

    /// Does the work and survives its panic: a task that ends would leave all calls without its work.
    pub(super) fn survive(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn pool(&self, origin: &Arc<Origin>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(origin) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool::new(Arc::clone(origin)));
        pools.insert(Arc::clone(origin), Rc::clone(&pool));
        pool
    }

    pub(super) fn sweep(&self) {
        let now = Instant::now();
        if self.swept.get().is_none_or(|last| now - last > Duration::from_secs(5)) {
            self.swept.set(Some(now));
            self.pools.borrow_mut().retain(|_, pool| pool.sweep() || Rc::strong_count(pool) > 1);
            self.resolver.sweep();
        }
    }
}
