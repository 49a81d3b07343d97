//! The clients behind the connections of the private port.
//!
//! In: the local address of a connection that the listener made to the worker's own server, with the client that it carries. Out: the
//! client of a request that comes from such an address; and the order to tear a client's connection off. A connection that no client is
//! noted for was made by another process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aigw_core::request::{ClientConnection, Listens};
use tokio::sync::Notify;

/// The clients of one worker's TLS address, by the local address of their connection to the worker's server.
#[derive(Debug, Default)]
pub struct Carried(Mutex<HashMap<SocketAddr, Client>>);

#[derive(Debug)]
struct Client {
    peer: SocketAddr,
    torn: Arc<Torn>,
}

/// Whether a client's connection is torn off.
#[derive(Debug, Default)]
pub(super) struct Torn {
    is: AtomicBool,
    bell: Notify,
}

impl Carried {
    /// The client whose bytes come from this address: port *and* host, since another process may bind the same port at 127.0.0.2.
    pub fn client(&self, own: SocketAddr) -> Option<SocketAddr> {
        self.locked().get(&own).map(|client| client.peer)
    }

    /// The number of clients that are noted.
    pub fn open(&self) -> usize {
        self.locked().len()
    }

    /// Ends the connection of a client without a goodbye, behind the bytes that are on their way to it. Returns the address from which
    /// its bytes come, whose connection the caller ends. One look at every client.
    pub fn tear(&self, peer: SocketAddr) -> Option<SocketAddr> {
        let clients = self.locked();
        let (own, client) = clients.iter().find(|(_, client)| client.peer == peer)?;
        client.torn.is.store(true, Ordering::Release);
        client.torn.bell.notify_one();
        Some(*own)
    }

    /// Notes a client until the value is dropped: before the first byte goes to the server, and until the socket at `own` closes.
    pub(super) fn note(self: &Arc<Self>, own: SocketAddr, peer: SocketAddr) -> Noted {
        let torn = Arc::<Torn>::default();
        // As the request names its client: a listener for both families sees IPv4 as IPv6.
        let peer = ClientConnection::new(peer, Listens::Tls).peer;
        self.locked().insert(own, Client { peer, torn: Arc::clone(&torn) });
        Noted { carried: Arc::clone(self), own, torn }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<SocketAddr, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is noted. It must be dropped before the socket: the next connection at its address may be a stranger's.
#[derive(Debug)]
pub(super) struct Noted {
    carried: Arc<Carried>,
    own: SocketAddr,
    torn: Arc<Torn>,
}

impl Noted {
    /// Whether the client's connection is torn off.
    pub(super) fn torn(&self) -> &Torn {
        &self.torn
    }
}

impl Torn {
    /// Whether it is.
    pub(super) fn is(&self) -> bool {
        self.is.load(Ordering::Acquire)
    }

    /// Waits until it is.
    pub(super) async fn wait(&self) {
        self.bell.notified().await;
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.carried.locked().remove(&self.own);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_known_while_it_is_noted() {
        let (carried, client) = (Arc::<Carried>::default(), SocketAddr::from(([192, 0, 2, 1], 4000)));
        let [own, other] = [([127, 0, 0, 1], 7), ([127, 0, 0, 2], 7)].map(SocketAddr::from);
        let noted = carried.note(own, client);
        assert_eq!((carried.open(), carried.client(own), carried.client(other)), (1, Some(client), None));
        assert_eq!((carried.tear(other), noted.torn().is()), (None, false));
        assert_eq!((carried.tear(client), noted.torn().is()), (Some(own), true));
        drop(noted);
        assert_eq!((carried.open(), carried.client(own), carried.tear(client)), (0, None, None));
        let both_families = SocketAddr::from((std::net::Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped(), 4000));
        let noted = carried.note(own, both_families);
        assert_eq!((carried.client(own), carried.tear(client), noted.torn().is()), (Some(client), Some(own), true));
    }
}
