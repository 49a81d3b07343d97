//! The pools that all tasks of the upstream thread share.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::counters::UpstreamCounters;
use super::means::Means;
#[cfg(test)]
use super::notice::Notice;
use super::observer::CallObserver;
use super::pool::Pool;
#[cfg(test)]
use super::resolve::Lookup;
use aigw_core::balance::{Origin, Reach};

/// Interval at which the pools are looked after.
const TEND: Duration = Duration::from_secs(1);

/// The state that the tasks of the upstream thread share.
pub(super) struct Shared {
    pools: RefCell<HashMap<Arc<Origin>, Rc<Pool>>>,
    pub(super) means: Rc<Means>,
    uses: Box<dyn Fn(&Origin) -> bool>,
    tended: Cell<Option<Instant>>,
}

impl Shared {
    pub(super) fn new(counters: Arc<UpstreamCounters>, reach: Reach, observer: &Arc<impl CallObserver>) -> Self {
        let (teller, user) = (Arc::clone(observer), Arc::clone(observer));
        Self {
            pools: RefCell::default(),
            means: Rc::new(Means::new(counters, reach, move |notice| teller.notice(notice))),
            uses: Box::new(move |origin| user.uses(origin)),
            tended: Cell::new(None),
        }
    }

    /// With this resolver, without a proxy, and of a configuration without an origin.
    #[cfg(test)]
    pub(super) fn of_test(lookup: Rc<dyn Lookup>, tell: impl Fn(Notice) + 'static) -> Self {
        Self {
            pools: RefCell::default(),
            means: Rc::new(Means::of_test(lookup, tell)),
            uses: Box::new(|_| false),
            tended: Cell::new(None),
        }
    }

    /// Does the work and survives its panic: a task that ends would leave all calls without its work.
    pub(super) fn survive(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.means.counters.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn pool(&self, origin: &Arc<Origin>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(origin) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool::new(Arc::clone(origin), self.means.proxies.of(origin), Rc::clone(&self.means.reach)));
        pools.insert(Arc::clone(origin), Rc::clone(&pool));
        pool
    }

    /// Looks after all pools, once a second.
    pub(super) fn tend(&self) {
        let now = Instant::now();
        if self.tended.get().is_none_or(|last| now - last >= TEND) {
            self.tended.set(Some(now));
            self.pools.borrow_mut().retain(|_, pool| pool.tend(&self.means, &*self.uses));
        }
    }
}
