//! The means by which all pools make connections: resolver, proxies, TLS; and where they count and tell.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use aigw_core::balance::Reach;

use super::counters::UpstreamCounters;
use super::fault::Tell;
use super::notice::Notice;
use super::proxy::Proxies;
use super::resolve::{Lookup, System};
use super::tls::Tls;

/// The means of all pools.
pub(super) struct Means {
    pub(super) lookup: Rc<dyn Lookup>,
    /// The addresses that upstreams may have.
    pub(super) reach: Rc<Reach>,
    pub(super) proxies: Proxies,
    pub(super) tls: Tls,
    pub(super) counters: Arc<UpstreamCounters>,
    pub(super) tell: Box<Tell>,
}

impl Means {
    pub(super) fn new(counters: Arc<UpstreamCounters>, reach: Reach, tell: impl Fn(Notice) + 'static) -> Self {
        Self {
            reach: Rc::new(reach),
            lookup: Rc::new(System),
            proxies: Proxies::default(),
            tls: Tls::default(),
            counters,
            tell: Box::new(once_per_upstream(tell)),
        }
    }

    /// With this resolver, without a proxy.
    #[cfg(test)]
    pub(super) fn of_test(lookup: Rc<dyn Lookup>, tell: impl Fn(Notice) + 'static) -> Self {
        Self { lookup, proxies: Proxies::none(), ..Self::new(Arc::default(), Reach::default(), tell) }
    }
}

/// Several origins may have one address (other TLS settings): the first that is down, and the last that is up, are told.
fn once_per_upstream(tell: impl Fn(Notice)) -> impl Fn(Notice) {
    let down: RefCell<HashMap<String, usize>> = RefCell::default();
    move |notice| {
        let passes = match &notice {
            Notice::Down { upstream, .. } => {
                let mut down = down.borrow_mut();
                let count = down.entry(upstream.clone()).or_default();
                *count += 1;
                *count == 1
            }
            Notice::Up { upstream } | Notice::Forgotten { upstream } => {
                let mut down = down.borrow_mut();
                let left = down.get(upstream).map_or(0, |count| count - 1);
                if left == 0 {
                    down.remove(upstream);
                } else {
                    down.insert(upstream.clone(), left);
                }
                left == 0
            }
            _ => true,
        };
        if passes {
            tell(notice);
        }
    }
}
