//! Connections of one origin: idle ones kept for reuse, new ones made along the origin's addresses in turn.
//!
//! In: a call that needs a connection. Out: one that is ready. With several addresses each call goes to the next one, over an idle
//! connection or a new one. An address that refused three times is left out for ten seconds and then tried again
//! (`balance/health`), by a call or in the background. A connection goes back only after its answer was read to the end, and while
//! its address is still one of the name's.

use super::connection::{Connection, Watch};
use super::dial::{Stream, dial};
use super::fault::Fault;
use super::means::Means;
use super::notice::label;
use super::outage::Outage;
use super::proxy::Proxy;
use super::resolve::{Addresses, Refreshed};
use aigw_core::balance::health::Attempt;
use aigw_core::balance::{ConnectFault, Origin, Reach};
use aigw_core::settle::Failure;
use http::HeaderValue;
use std::cell::{Cell, OnceCell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

/// Idle connections kept per origin; more are closed when they come back.
const MAX_IDLE: usize = 1024;
/// An idle connection older than this is closed rather than used: most servers close theirs between 5 and 75 s.
const IDLE_FOR: Duration = Duration::from_secs(55);
/// A pool without connections is kept for so long after its last use: the addresses of its name stay known.
const UNUSED_FOR: Duration = Duration::from_mins(1);
/// Bound of a connect while a connection to another address is ready: then that one is used.
const SOON: Duration = Duration::from_millis(250);
/// Bound of a connect that no call waits for.
const PROBE: Duration = Duration::from_secs(10);

pub(super) struct Pool {
    origin: Arc<Origin>,
    proxy: Option<Proxy>,
    addresses: Addresses,
    outage: Outage,
    watch: Watch,
    connector: OnceCell<TlsConnector>,
    idle: RefCell<Vec<(Connection, Instant)>>,
    used: Cell<Instant>,
    probing: Cell<bool>,
}

impl Pool {
    /// `reach`: the addresses that the origin may have.
    pub(super) fn new(origin: Arc<Origin>, proxy: Option<Proxy>, reach: Rc<Reach>) -> Self {
        let addresses = match &proxy {
            None => Addresses::new(&origin.host, origin.port, Some(reach)),
            // The proxy resolves the upstream's name.
            Some(proxy) => Addresses::new(&proxy.host, proxy.port, None),
        };
        Self {
            outage: Outage::new(label(&origin)),
            origin,
            proxy,
            addresses,
            watch: Watch::default(),
            connector: OnceCell::new(),
            idle: RefCell::default(),
            used: Cell::new(Instant::now()),
            probing: Cell::new(false),
        }
    }

    /// The scheme and address before the path of each request, and the credentials beside it, for a proxy that reads requests;
    /// `None` without such a proxy.
    pub(super) fn whole_url(&self) -> Option<(String, Option<&HeaderValue>)> {
        let proxy = self.whole_url_proxy()?;
        Some((format!("http://{}", label(&self.origin)), proxy.authorization.as_ref()))
    }

    /// The proxy that reads each request; `None` without one, or behind a tunnel.
    pub(super) fn whole_url_proxy(&self) -> Option<&Proxy> {
        self.proxy.as_ref().filter(|_| !self.origin.tls)
    }

    /// A connection that is ready, within `limit`; true when it was idle.
    pub(super) async fn take(
        self: &Rc<Self>,
        means: &Rc<Means>,
        limit: Duration,
    ) -> Result<(Connection, bool), Failure> {
        if self.addresses.is_single()
            && let Some(idle) = self.idle(|_| true)
        {
            return Ok((idle, true));
        }
        let by = Instant::now() + limit;
        let all = self.find(means, by).await?;
        let first = self.addresses.turn(all.len());
        let mut failure = Failure::Out;
        for step in 0..all.len() {
            let address = all[(first + step) % all.len()];
            if let Some(idle) = self.idle(|peer| peer == address) {
                return Ok((idle, true));
            }
            let Ok(attempt) = self.outage.attempt(address) else { continue };
            // An equal share of the remaining time for each address: a silent one must not keep the others from being tried.
            let share =
                by.saturating_duration_since(Instant::now()) / u32::try_from(all.len() - step).unwrap_or(u32::MAX);
            // In a box: it has kilobytes, and most calls find a connection.
            let connecting = Box::pin(Rc::clone(self).connect(Rc::clone(means), address, attempt, share));
            let has_other = all.len() > 1 && !self.idle.borrow().is_empty();
            let made = if has_other {
                self.soon(spawn_local(connecting)).await
            } else {
                connecting.await.map(|made| (made, false))
            };
            match made {
                Ok(ready) => return Ok(ready),
                Err(why) => failure = why,
            }
        }
        Err(failure)
    }

    /// The server refused a new connection to `address` behind its greeting.
    pub(super) fn refused(&self, address: SocketAddr, fault: Fault, means: &Means) -> Failure {
        let kind = fault.kind;
        means.counters.connect_failures.fetch_add(1, Ordering::Relaxed);
        self.outage.refused(address, fault, &*means.tell);
        kind.into()
    }

    /// Take a connection back whose answer was read whole.
    pub(super) fn give_back(&self, connection: Connection) {
        let now = Instant::now();
        self.used.set(now);
        if connection.sender.is_closed() || !self.addresses.has(connection.peer) {
            return;
        }
        let mut idle = self.idle.borrow_mut();
        if idle.len() < MAX_IDLE {
            idle.push((connection, now));
        }
    }

    /// Looks after the pool, without a call. `uses`: whether the configuration has the origin. False when the pool is not needed
    /// any more: origins come and go with the configuration.
    pub(super) fn tend(self: &Rc<Self>, means: &Rc<Means>, uses: impl Fn(&Origin) -> bool) -> bool {
        let watched = self.watch.look();
        self.idle.borrow_mut().retain(|(connection, since)| connection.is_ready() && since.elapsed() < IDLE_FOR);
        self.outage.sweep(&self.addresses.known());
        let ailing = self.outage.has_any();
        if !watched && Rc::strong_count(self) == 1 {
            let over = if ailing { !uses(&self.origin) } else { self.used.get().elapsed() >= UNUSED_FOR };
            if over {
                self.outage.forget(&*means.tell);
                return false;
            }
        }
        if self.addresses.is_due() {
            spawn_local(Rc::clone(self).refresh(Rc::clone(means)));
        }
        if ailing && !self.probing.replace(true) {
            spawn_local(Rc::clone(self).probe(Rc::clone(means)));
        }
        true
    }

    /// An idle connection to a peer that `fits`, if there is one.
    fn idle(&self, fits: impl Fn(SocketAddr) -> bool) -> Option<Connection> {
        let mut idle = self.idle.borrow_mut();
        while let Some(at) = idle.iter().rposition(|(connection, _)| fits(connection.peer)) {
            let (connection, since) = idle.remove(at);
            if connection.is_ready() && since.elapsed() < IDLE_FOR {
                return Some(connection);
            }
        }
        None
    }

    async fn find(&self, means: &Means, by: Instant) -> Result<Rc<[SocketAddr]>, Failure> {
        let found = timeout_at(by, self.addresses.find(&*means.lookup)).await;
        let barred = self.tell_barred(means);
        let unresolved = |error: String| Fault::new(ConnectFault::Unresolved, error);
        let (fault, failure) = match found {
            Ok(Ok(all)) if !all.is_empty() => return Ok(all),
            Ok(Ok(_)) => match barred {
                Some(fault) => (fault, Failure::Forbidden),
                None => (unresolved("the name has no address".into()), Failure::Unresolved),
            },
            Ok(Err(error)) => (unresolved(error.to_string()), Failure::Unresolved),
            Err(_) => (unresolved("the resolver does not answer".into()), Failure::ConnectTimeout),
        };
        self.outage.nameless(fault, &*means.tell);
        Err(failure)
    }

    /// Tells of the forbidden addresses in the resolver's last answer, once for each answer.
    fn tell_barred(&self, means: &Means) -> Option<Fault> {
        let addresses = self.addresses.take_barred()?;
        means.counters.forbidden.fetch_add(1, Ordering::Relaxed);
        self.outage.barred(&addresses, &*means.tell);
        Some(Fault::new(ConnectFault::Forbidden, format!("no upstream may have its addresses: {addresses}")))
    }

    /// The connection that `connecting` makes, or an idle one to another address if that takes longer than [`SOON`].
    async fn soon(
        self: &Rc<Self>,
        mut connecting: JoinHandle<Result<Connection, Failure>>,
    ) -> Result<(Connection, bool), Failure> {
        if let Ok(made) = timeout(SOON, &mut connecting).await {
            return made.unwrap_or(Err(Failure::Internal)).map(|made| (made, false));
        }
        let Some(other) = self.idle(|_| true) else {
            return connecting.await.unwrap_or(Err(Failure::Internal)).map(|made| (made, false));
        };
        let pool = Rc::clone(self);
        spawn_local(async move {
            if let Ok(Ok(made)) = connecting.await {
                pool.give_back(made);
            }
        });
        Ok((other, true))
    }

    async fn connect(
        self: Rc<Self>,
        means: Rc<Means>,
        address: SocketAddr,
        attempt: Attempt,
        limit: Duration,
    ) -> Result<Connection, Failure> {
        let connected = match timeout(limit, self.greet(&means, address)).await {
            Ok(made) => made,
            Err(_) => Err(Fault::new(ConnectFault::TimedOut, format!("no connection within {limit:.1?}"))),
        };
        match connected {
            Ok(connection) => {
                self.outage.succeeded(attempt, address, &*means.tell);
                means.counters.connects.fetch_add(1, Ordering::Relaxed);
                Ok(connection)
            }
            Err(fault) => {
                let kind = fault.kind;
                self.outage.failed(attempt, address, fault, &self.addresses.known(), &*means.tell);
                means.counters.connect_failures.fetch_add(1, Ordering::Relaxed);
                Err(kind.into())
            }
        }
    }

    async fn greet(&self, means: &Means, address: SocketAddr) -> Result<Connection, Fault> {
        let tls = if self.origin.tls { Some(self.connector(means)?) } else { None };
        let (stream, socket) = dial(&self.origin, address, self.proxy.as_ref(), tls).await?;
        let greeted = match stream {
            Stream::Plain(stream) => self.watch.speak(stream, socket, address).await,
            Stream::Tls(stream) => self.watch.speak(*stream, socket, address).await,
        };
        greeted.map_err(|error| Fault::new(ConnectFault::Refused, error.to_string()))
    }

    fn connector(&self, means: &Means) -> Result<&TlsConnector, Fault> {
        if let Some(made) = self.connector.get() {
            return Ok(made);
        }
        let made = means.tls.connector(&self.origin, &*means.tell)?;
        Ok(self.connector.get_or_init(|| made))
    }

    async fn refresh(self: Rc<Self>, means: Rc<Means>) {
        let refreshed = self.addresses.refresh(&*means.lookup).await;
        if let Some(fault) = self.tell_barred(&means)
            && self.addresses.known().is_empty()
        {
            self.outage.nameless(fault, &*means.tell);
        }
        match refreshed {
            Refreshed::Same => {}
            Refreshed::Changed => {
                self.idle.borrow_mut().retain(|(connection, _)| self.addresses.has(connection.peer));
            }
            Refreshed::Failed(error) if self.addresses.known().is_empty() => {
                self.outage.nameless(Fault::new(ConnectFault::Unresolved, error), &*means.tell);
            }
            Refreshed::Failed(error) => self.outage.name_lost(error, &*means.tell),
        }
    }

    /// Tries the addresses that are out and may be tried again: an upstream that nobody calls comes back, too.
    async fn probe(self: Rc<Self>, means: Rc<Means>) {
        let all = self.addresses.known();
        for address in all.iter().copied().filter(|address| self.outage.is_out(*address)) {
            let Ok(attempt) = self.outage.attempt(address) else { continue };
            if let Ok(made) = Rc::clone(&self).connect(Rc::clone(&means), address, attempt, PROBE).await {
                self.give_back(made);
            }
        }
        self.probing.set(false);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::notice::Notice;
    use super::super::outgoing::Outgoing;
    use super::super::resolve::tests::Fake;
    use super::super::shared::Shared;
    use super::*;
    use http::Request;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpSocket, TcpStream};
    use tokio::task::LocalSet;

    const LIMIT: Duration = Duration::from_secs(20);

    fn origin(host: &str, port: u16) -> Arc<Origin> {
        Arc::new(Origin { tls: false, verify: true, host: host.into(), port, settings: None })
    }

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        LocalSet::new().block_on(&runtime, test)
    }

    type Heard = Rc<RefCell<Vec<Notice>>>;

    /// A thread's shared state with a resolver that knows these addresses, and the notices that it gave.
    fn shared(addresses: &[SocketAddr]) -> (Rc<Shared>, Rc<Fake>, Heard) {
        let (fake, heard) = (Rc::new(Fake::new(addresses)), Heard::default());
        let notices = Rc::clone(&heard);
        let shared = Shared::of_test(fake.clone(), move |notice| notices.borrow_mut().push(notice));
        (Rc::new(shared), fake, heard)
    }

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    /// Answers each request on each connection with an empty 200.
    fn serve(listener: TcpListener) {
        spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                spawn_local(async move {
                    let mut bytes = [0; 4096];
                    while stream.read(&mut bytes).await.is_ok_and(|count| count > 0) {
                        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                    }
                });
            }
        });
    }

    /// One call; returns the peer that answered.
    async fn call(pool: &Rc<Pool>, shared: &Rc<Shared>) -> Result<SocketAddr, Failure> {
        let (mut connection, _) = pool.take(&shared.means, LIMIT).await?;
        let answer = connection.sender.send_request(Request::new(Outgoing::new(bytes::Bytes::new()))).await;
        drop(answer.map_err(|_| Failure::Reset)?);
        // The answer has no body: the connection is ready once its task has read the head.
        while !connection.is_ready() && !connection.sender.is_closed() {
            tokio::task::yield_now().await;
        }
        let peer = connection.peer;
        pool.give_back(connection);
        Ok(peer)
    }

    #[test]
    fn silent_address_does_not_stand_before_the_others() {
        run(async {
            let silent = TcpSocket::new_v4().unwrap();
            silent.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
            let silent = silent.listen(1).unwrap();
            let mut waiting = Vec::new(); // as many as it takes until nobody is answered any more
            let soon = Duration::from_millis(200);
            while let Ok(stream) = timeout(soon, TcpStream::connect(silent.local_addr().unwrap())).await {
                waiting.push(stream.unwrap());
            }
            let (_other, address) = listener().await;
            let (shared, ..) = shared(&[silent.local_addr().unwrap(), address]);
            let pool = shared.pool(&origin("two.test", 80));
            let made = pool.take(&shared.means, Duration::from_secs(3)).await;
            assert_eq!(made.map(|(connection, _)| connection.peer), Ok(address));
        });
    }

    #[test]
    fn addresses_are_taken_in_turn_and_a_dead_one_is_passed_over() {
        run(async {
            let ((one, first), (two, second), (dead, third)) = (listener().await, listener().await, listener().await);
            serve(one);
            serve(two);
            let (shared, _, heard) = shared(&[first, second, third]);
            let pool = shared.pool(&origin("three.test", 80));
            drop(dead);
            let mut counts = std::collections::HashMap::<_, u32>::new();
            for _ in 0..30 {
                *counts.entry(call(&pool, &shared).await.unwrap()).or_default() += 1;
            }
            assert!(counts[&first] >= 10 && counts[&second] >= 10 && counts.len() == 2, "{counts:?}");
            assert_eq!(shared.means.counters.connects.load(Ordering::Relaxed), 2);
            let notices = heard.take();
            assert!(
                matches!(&notices[..], [Notice::AddressDown { address, fault: ConnectFault::Refused, .. }] if *address == third),
                "{notices:?}"
            );
        });
    }

    #[test]
    fn connections_to_an_address_that_left_its_name_are_retired() {
        run(async {
            let ((one, first), (two, second)) = (listener().await, listener().await);
            serve(one);
            serve(two);
            let (shared, fake, heard) = shared(&[first]);
            let pool = shared.pool(&origin("moving.test", 80));
            let busy = pool.take(&shared.means, LIMIT).await.unwrap().0;
            assert_eq!(call(&pool, &shared).await, Ok(first));
            *fake.0.borrow_mut() = Err("no resolver".into());
            Rc::clone(&pool).refresh(Rc::clone(&shared.means)).await;
            assert_eq!(call(&pool, &shared).await, Ok(first));
            *fake.0.borrow_mut() = Ok(vec![second]);
            Rc::clone(&pool).refresh(Rc::clone(&shared.means)).await;
            assert!(pool.idle.borrow().is_empty());
            pool.give_back(busy);
            assert!(pool.idle.borrow().is_empty());
            assert_eq!(call(&pool, &shared).await, Ok(second));
            assert!(matches!(&heard.take()[..], [Notice::NameLost { .. }]));
        });
    }

    #[test]
    fn upstream_is_told_down_once_and_up_once_without_a_call() {
        run(async {
            let (dead, address) = listener().await;
            let (shared, _, heard) = shared(&[]);
            let pool = shared.pool(&origin("127.0.0.1", address.port()));
            drop(dead);
            for _ in 0..5 {
                assert!(call(&pool, &shared).await.is_err());
            }
            let upstream = address.to_string();
            let notices = heard.take();
            assert!(
                matches!(&notices[..], [Notice::Down { upstream: told, fault: ConnectFault::Refused, .. }] if *told == upstream),
                "{notices:?}"
            );
            assert!(pool.tend(&shared.means, |_| true) && pool.idle(|_| true).is_none());
            serve(TcpListener::bind(address).await.unwrap());
            tokio::time::pause();
            for _ in 0..15 {
                assert!(pool.tend(&shared.means, |_| true));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            assert_eq!(heard.take(), [Notice::Up { upstream }]);
            assert!(call(&pool, &shared).await.is_ok());
        });
    }

    #[test]
    fn name_without_address_is_told_and_forgotten_with_the_configuration() {
        run(async {
            let (shared, ..) = shared(&[]);
            let pool = shared.pool(&origin("nowhere.test", 80));
            for _ in 0..3 {
                assert_eq!(call(&pool, &shared).await, Err(Failure::Unresolved));
            }
            let weak = Rc::downgrade(&pool);
            drop(pool);
            shared.tend();
            assert!(weak.upgrade().is_none(), "the observer of the test uses no origin");
        });
    }
}
