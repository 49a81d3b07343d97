//! The clients behind the connections of the private port.
//!
//! In: the local port of a connection that the listener made to the worker's own server, with the client that it carries. Out: the
//! client of a request that comes from such a port. A connection that no client is noted for was made by another process.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The clients of one worker's TLS address, by the port of their connection to the worker's server.
#[derive(Debug, Default)]
pub struct Carried(Mutex<HashMap<u16, SocketAddr>>);

impl Carried {
    /// The client whose bytes come from this local port.
    pub fn client(&self, port: u16) -> Option<SocketAddr> {
        self.locked().get(&port).copied()
    }

    /// The number of clients that are noted.
    pub fn open(&self) -> usize {
        self.locked().len()
    }

    /// Notes a client until the value is dropped: before the first byte goes to the server, and until the socket at `port` closes.
    pub(super) fn note(self: &Arc<Self>, port: u16, client: SocketAddr) -> Noted {
        self.locked().insert(port, client);
        Noted { carried: Arc::clone(self), port }
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<u16, SocketAddr>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that is noted. It must be dropped before the socket: the next connection at its port may be a stranger's.
#[derive(Debug)]
pub(super) struct Noted {
    carried: Arc<Carried>,
    port: u16,
}

impl Drop for Noted {
    fn drop(&mut self) {
        self.carried.locked().remove(&self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn client_is_known_while_it_is_noted() {
        let (carried, client) = (Arc::<Carried>::default(), SocketAddr::from(([192, 0, 2, 1], 4000)));
        let noted = carried.note(7, client);
        assert_eq!((carried.open(), carried.client(7), carried.client(8)), (1, Some(client), None));
        drop(noted);
        assert_eq!((carried.open(), carried.client(7)), (0, None));
    }
}
