//! The addresses of one upstream that cannot be connected to, and the notices about them.
//!
//! In: the results of connects. Out: whether an address may be tried (`balance/health`), and one notice when the upstream goes
//! down (every address out, or a name without one that may be called, three times in a row), one when it is up again; the same for one address
//! of several. A fault that needs its words to be understood (TLS, a proxy) is told at once, then once a minute.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use aigw_core::balance::ConnectFault;
use aigw_core::balance::health::{Attempt, FAILURES, Health, Out};
use tokio::time::Instant;

use super::fault::{Fault, Tell};
use super::notice::Notice;

/// Interval at which the same fault of an upstream is told again.
const AGAIN: Duration = Duration::from_mins(1);

/// The health of one upstream.
pub(super) struct Outage {
    upstream: String,
    born: Instant,
    health: RefCell<HashMap<SocketAddr, Arc<Health>>>,
    unresolved: Cell<u64>,
    down: Cell<bool>,
    /// The last fault that was told with its words.
    told: RefCell<Option<(Instant, String)>>,
    /// The last one behind a greeting: connects that succeed do not end it.
    refused: RefCell<Option<(Instant, String)>>,
    /// The forbidden addresses that were told last.
    barred: RefCell<Option<(Instant, String)>>,
}

impl Outage {
    pub(super) fn new(upstream: String) -> Self {
        Self {
            upstream,
            born: Instant::now(),
            health: RefCell::default(),
            unresolved: Cell::new(0),
            down: Cell::new(false),
            told: RefCell::default(),
            refused: RefCell::default(),
            barred: RefCell::default(),
        }
    }

    /// Asks whether to try this address now. An attempt that is dropped without a result says nothing about the address.
    pub(super) fn attempt(&self, address: SocketAddr) -> Result<Attempt, Out> {
        let health = Arc::clone(self.health.borrow_mut().entry(address).or_default());
        health.attempt(self.born.elapsed())
    }

    /// Whether an address is out, or the whole upstream.
    pub(super) fn has_any(&self) -> bool {
        self.down.get() || self.health.borrow().values().any(|health| health.is_out())
    }

    /// Whether this address is out; of an upstream that is down for another reason (its name had no address), each one.
    pub(super) fn is_out(&self, address: SocketAddr) -> bool {
        match self.health.borrow().get(&address) {
            Some(health) => health.is_out(),
            None => self.down.get(),
        }
    }

    /// The attempt has connected.
    pub(super) fn succeeded(&self, attempt: Attempt, address: SocketAddr, tell: &Tell) {
        let was_out = attempt.succeeded();
        self.unresolved.set(0);
        self.told.take();
        if self.down.replace(false) {
            tell(Notice::Up { upstream: self.upstream.clone() });
        } else if was_out {
            tell(Notice::AddressUp { upstream: self.upstream.clone(), address });
        }
    }

    /// The attempt has failed. `all`: the addresses of the upstream.
    pub(super) fn failed(&self, attempt: Attempt, address: SocketAddr, fault: Fault, all: &[SocketAddr], tell: &Tell) {
        let goes_out = attempt.failed(self.born.elapsed());
        let Fault { kind, error } = fault;
        let upstream = self.upstream.clone();
        if goes_out && !self.down.get() {
            let health = self.health.borrow();
            if all.iter().all(|one| health.get(one).is_some_and(|health| health.is_out())) {
                self.down.set(true);
                return tell(Notice::Down { upstream, fault: kind, error });
            }
            return tell(Notice::AddressDown { upstream, address, fault: kind, error });
        }
        if matches!(kind, ConnectFault::Tls | ConnectFault::Proxy) && is_news(&self.told, &error) {
            tell(Notice::Failed { upstream, address, fault: kind, error });
        }
    }

    /// The server refused a connection that had succeeded.
    pub(super) fn refused(&self, address: SocketAddr, fault: Fault, tell: &Tell) {
        let Fault { kind, error } = fault;
        if is_news(&self.refused, &error) {
            tell(Notice::Failed { upstream: self.upstream.clone(), address, fault: kind, error });
        }
    }

    /// The upstream's name has no address, or none that may be called.
    pub(super) fn nameless(&self, fault: Fault, tell: &Tell) {
        let Fault { kind, error } = fault;
        self.unresolved.set(self.unresolved.get() + 1);
        if self.unresolved.get() >= FAILURES && !self.down.replace(true) {
            tell(Notice::Down { upstream: self.upstream.clone(), fault: kind, error });
        }
    }

    /// The name was not resolved again; its last addresses stay in use.
    pub(super) fn name_lost(&self, error: String, tell: &Tell) {
        if is_news(&self.told, &error) {
            tell(Notice::NameLost { upstream: self.upstream.clone(), error });
        }
    }

    /// The upstream's name has these forbidden addresses.
    pub(super) fn barred(&self, addresses: &str, tell: &Tell) {
        if is_news(&self.barred, addresses) {
            tell(Notice::Barred { upstream: self.upstream.clone(), addresses: addresses.to_owned() });
        }
    }

    /// The upstream left the configuration.
    pub(super) fn forget(&self, tell: &Tell) {
        if self.down.replace(false) {
            tell(Notice::Forgotten { upstream: self.upstream.clone() });
        }
    }

    /// Forgets addresses without a failure, and those that are not the upstream's any more. `all`: its addresses.
    pub(super) fn sweep(&self, all: &[SocketAddr]) {
        let kept = |address: &SocketAddr, health: &Arc<Health>| {
            Arc::strong_count(health) > 1 || (!health.is_well() && all.contains(address))
        };
        self.health.borrow_mut().retain(|address, health| kept(address, health));
    }
}

/// Whether a fault was not told within [`AGAIN`]; then it is told now.
fn is_news(told: &RefCell<Option<(Instant, String)>>, error: &str) -> bool {
    let mut told = told.borrow_mut();
    let news = told.as_ref().is_none_or(|(at, text)| text != error || at.elapsed() >= AGAIN);
    if news {
        *told = Some((Instant::now(), error.to_owned()));
    }
    news
}
