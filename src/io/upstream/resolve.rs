//! Names to addresses, remembered briefly. Literal addresses never leave this module; names go to the system's resolver on
//! a blocking thread of the runtime, so that a slow one holds up its own exchanges only.

use aigw_core::balance::Origin;
use std::cell::RefCell;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// An answer is used for this long: fleets move by DNS.
const TTL: Duration = Duration::from_secs(5);

/// The time of a question, and its answer.
type Found = (Instant, Vec<SocketAddr>);

#[derive(Debug, Default)]
pub(super) struct Resolver {
    known: RefCell<HashMap<(String, u16), Found>>,
}

impl Resolver {
    /// A resolver that knows a name already.
    #[cfg(test)]
    pub(super) fn knowing(origin: &Origin, addresses: Vec<SocketAddr>) -> Self {
        let known = HashMap::from([((origin.host.clone(), origin.port), (Instant::now(), addresses))]);
        Self { known: RefCell::new(known) }
    }

    /// The origin's addresses in the resolver's order; empty when the name has none.
    pub(super) async fn addresses(&self, origin: &Origin) -> Vec<SocketAddr> {
        if let Ok(ip) = origin.host.parse::<IpAddr>() {
            return vec![SocketAddr::new(ip, origin.port)];
        }
        let key = (origin.host.clone(), origin.port);
        if let Some((at, found)) = self.known.borrow().get(&key)
            && at.elapsed() < TTL
        {
            return found.clone();
        }
        let found: Vec<SocketAddr> = match tokio::net::lookup_host((origin.host.as_str(), origin.port)).await {
            Ok(addresses) => addresses.collect(),
            Err(_) => Vec::new(),
        };
        if !found.is_empty() {
            self.known.borrow_mut().insert(key, (Instant::now(), found.clone()));
        }
        found
    }

    /// Forgets answers that are too old.
    pub(super) fn sweep(&self) {
        self.known.borrow_mut().retain(|_, (at, _)| at.elapsed() < TTL);
    }
}
