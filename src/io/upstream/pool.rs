//! Connections of one origin: idle ones kept for reuse, new ones made along the origin's addresses in turn.
//!
//! An address that refused three times is left out for ten seconds and then tried by one exchange (`balance/health`).
//! A connection goes back only after its answer was read to the end.

use super::counters::UpstreamCounters;
use super::outgoing::Outgoing;
use super::resolve::Resolver;
use super::tls::Tls;
use aigw_core::balance::Origin;
use aigw_core::balance::health::Health;
use aigw_core::settle::Failure;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A connection ready for one request.
pub(super) type Sender = SendRequest<Outgoing>;

/// Idle connections kept per origin; more are closed when they come back.
const MAX_IDLE: usize = 1024;
/// An idle connection older than this is closed rather than used: most servers close theirs between 5 and 75 s.
const IDLE_FOR: Duration = Duration::from_secs(55);
/// Heads of answers larger than this are garbage.
const MAX_HEAD: usize = 256 * 1024;

pub(super) struct Pool {
    origin: Arc<Origin>,
    idle: RefCell<Vec<(Sender, Instant)>>,
    health: RefCell<HashMap<SocketAddr, Arc<Health>>>,
    born: Instant,
}

impl Pool {
    pub(super) fn new(origin: Arc<Origin>) -> Self {
        Self { origin, idle: RefCell::default(), health: RefCell::default(), born: Instant::now() }
    }

    /// An idle connection that still looks open, if there is one.
    pub(super) fn idle(&self) -> Option<Sender> {
        let mut idle = self.idle.borrow_mut();
        while let Some((sender, since)) = idle.pop() {
            if !sender.is_closed() && sender.is_ready() && since.elapsed() < IDLE_FOR {
                return Some(sender);
            }
        }
        None
    }

    /// Take a connection back whose answer was read whole.
    pub(super) fn give_back(&self, sender: Sender) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push((sender, Instant::now()));
        }
    }

    /// Closes connections that were idle for too long, and forgets addresses without a failure. False when the pool is
    /// empty: origins come and go with the configuration, and addresses with their names.
    pub(super) fn sweep(&self) -> bool {
        let (mut idle, mut health) = (self.idle.borrow_mut(), self.health.borrow_mut());
        idle.retain(|(sender, since)| !sender.is_closed() && since.elapsed() < IDLE_FOR);
        health.retain(|_, health| Arc::strong_count(health) > 1 || !health.is_well());
        !idle.is_empty() || !health.is_empty()
    }

    /// Connects, address by address, within `limit` for all of them together. Each has an equal share of the remaining time,
    /// so a silent one does not keep the others from being tried.
    pub(super) async fn connect(
        &self,
        resolver: &Resolver,
        tls: &Tls,
        limit: Duration,
        counters: &UpstreamCounters,
    ) -> Result<Sender, Failure> {
        let by = Instant::now() + limit;
        let found = tokio::time::timeout_at(by, resolver.addresses(&self.origin)).await;
        let addresses = found.map_err(|_| Failure::ConnectTimeout)?;
        let mut failure = if addresses.is_empty() { Failure::Unresolved } else { Failure::Out };
        for (address, others) in addresses.iter().copied().zip((0..addresses.len()).rev()) {
            let health = Arc::clone(self.health.borrow_mut().entry(address).or_default());
            // An attempt that is dropped without a result (the client went away) says nothing about the address.
            let Ok(attempt) = health.attempt(self.born.elapsed()) else { continue };
            let left = by.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(others + 1).unwrap_or(u32::MAX);
            let connected = tokio::time::timeout(share, self.connect_one(address, tls)).await;
            match connected.unwrap_or(Err(Failure::ConnectTimeout)) {
                Ok(sender) => {
                    attempt.succeeded();
                    counters.connects.fetch_add(1, Ordering::Relaxed);
                    return Ok(sender);
                }
                Err(why) => {
                    counters.connect_failures.fetch_add(1, Ordering::Relaxed);
                    attempt.failed(self.born.elapsed());
                    failure = why;
                }
            }
        }
        Err(failure)
    }

    async fn connect_one(&self, address: SocketAddr, tls: &Tls) -> Result<Sender, Failure> {
        let stream = TcpStream::connect(address).await.map_err(|error| connect_failure(&error))?;
        let _ = stream.set_nodelay(true);
        if !self.origin.tls {
            return greet(stream).await;
        }
        let name = ServerName::try_from(self.origin.host.clone()).map_err(|_| Failure::Tls)?;
        let connector = tls.connector(self.origin.verify).map_err(|_| Failure::Internal)?;
        greet(connector.connect(name, stream).await.map_err(|_| Failure::Tls)?).await
    }
}

async fn greet(stream: impl AsyncRead + AsyncWrite + Unpin + 'static) -> Result<Sender, Failure> {
    let (sender, connection) =
        Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await.map_err(|_| Failure::Reset)?;
    // The sender reports the connection's errors to the call.
    tokio::task::spawn_local(async move {
        let _ = connection.await;
    });
    Ok(sender)
}

fn connect_failure(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::TimedOut => Failure::ConnectTimeout,
        _ => Failure::Refused,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::net::{TcpListener, TcpSocket};
    use tokio::task::LocalSet;

    #[test]
    fn a_silent_address_does_not_stand_before_the_others() -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let silent = TcpSocket::new_v4()?;
            silent.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            let silent = silent.listen(1)?;
            let mut waiting = Vec::new(); // as many as it takes until nobody is answered any more
            let soon = Duration::from_millis(200);
            while let Ok(stream) = tokio::time::timeout(soon, TcpStream::connect(silent.local_addr()?)).await {
                waiting.push(stream?);
            }
            let other = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
            let origin = Origin { tls: false, verify: true, host: "two.test".into(), port: 80, settings: None };
            let resolver = Resolver::knowing(&origin, vec![silent.local_addr()?, other.local_addr()?]);
            let pool = Pool::new(Arc::new(origin));
            let limit = Duration::from_secs(3);
            let made = pool.connect(&resolver, &Tls::default(), limit, &UpstreamCounters::default()).await;
            assert!(made.is_ok(), "the silent one had all of it: {:?}", made.err());
            Ok(())
        })
    }

    #[tokio::test]
    async fn pool_remembers_failed_targets_only() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Origin { tls: false, verify: true, host: "127.0.0.1".to_owned(), port, settings: None };
        let (pool, counters) = (Pool::new(Arc::new(origin)), UpstreamCounters::default());
        let (resolver, tls, second) = (Resolver::default(), Tls::default(), Duration::from_secs(20));
        let tasks = tokio::task::LocalSet::new();
        assert!(!pool.sweep());
        let made = tasks.run_until(pool.connect(&resolver, &tls, second, &counters)).await;
        assert!(made.is_ok() && !pool.sweep(), "the connection is its exchange's");
        drop(listener);
        assert!(tasks.run_until(pool.connect(&resolver, &tls, second, &counters)).await.is_err());
        assert!(pool.sweep(), "a failure counts until the address is found well");
    }
}
