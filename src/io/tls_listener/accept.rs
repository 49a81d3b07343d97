//! Accepts the clients of the TLS address, and bounds their handshakes.
//!
//! In: a listening socket. Out: one task for each client: handshake, then relay. The number of connections is bounded, and the number and
//! time of handshakes. Of too many handshakes the oldest ends, so clients that never finish one cannot keep others out. A panic costs one
//! connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aigw_core::request::{ClientConnection, Listens};
use aigw_core::telemetry::handshakes::Handshake;
use rustls::server::Acceptor;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::Host;
use super::carried::Carried;
use super::relay::{Left, linger, relay};
use crate::socket::{self, Unread};

/// A handshake must be whole within this.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Most handshakes at once: each holds about 10 KiB.
const HANDSHAKES: usize = 1024;
/// Most connections at once, as at the plaintext address (`serve/server.py`).
const CONNECTIONS: usize = 16_384;
/// Pause after a failed accept: files that other connections hold become free.
const PAUSE: Duration = Duration::from_millis(50);
/// Bytes of each buffer of a connection: of the kernel's on our side of loopback, and of sealed records. Clients that do not read fill them.
const BUFFER: u32 = 32 * 1024;

/// Ends a listener: it accepts no more, and its connections go on.
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// Accept no more.
    pub fn stop(&self) {
        self.0.notify_one();
    }
}

/// The TLS address of one worker, ready to serve.
pub struct Listener<H> {
    runtime: Runtime,
    socket: TcpListener,
    clients: Clients<H>,
    stop: Stop,
}

impl<H: Host> Listener<H> {
    /// `socket` listens. `server`: the loopback address that requests are carried to. Fails where the system has no files for it.
    pub fn new(
        socket: StdListener,
        server: SocketAddr,
        host: Arc<H>,
        carried: Arc<Carried>,
    ) -> io::Result<(Self, Stop)> {
        socket.set_nonblocking(true)?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let inside = runtime.enter();
        let socket = TcpListener::from_std(socket)?;
        drop(inside);
        socket::tls_is_at(socket.local_addr()?.port(), server.port());
        let (room, handshakes) = (Arc::new(Semaphore::new(CONNECTIONS)), RefCell::default());
        let (clients, stop) = (Clients { server, host, carried, room, handshakes }, Stop::default());
        Ok((Self { runtime, socket, clients, stop: stop.clone() }, stop))
    }

    /// Serves for the rest of the process, on this thread.
    pub fn run(self) -> Infallible {
        let Self { runtime, socket, clients, stop } = self;
        LocalSet::new().block_on(&runtime, async {
            let clients = Rc::new(clients);
            tokio::select! {
                biased;
                () = stop.0.notified() => {}
                () = clients.accept(&socket) => {}
            }
            drop(socket);
            std::future::pending().await
        })
    }
}

/// The clients of a listener.
struct Clients<H> {
    server: SocketAddr,
    host: Arc<H>,
    carried: Arc<Carried>,
    room: Arc<Semaphore>,
    /// Handshakes, oldest first; those that have ended are swept when there are too many.
    handshakes: RefCell<VecDeque<AbortHandle>>,
}

impl<H: Host> Clients<H> {
    async fn accept(self: &Rc<Self>, listener: &TcpListener) {
        loop {
            let Ok(room) = Arc::clone(&self.room).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((socket, client)) => {
                    let (own, open) = (Rc::clone(self), Open::new(&self.host, room));
                    let task = spawn_local(async move {
                        let _guard = Guard(Arc::clone(&own.host));
                        let Some(stream) = own.shake(socket).await else { return };
                        // A task of its own: it must not end as the oldest handshake does.
                        let relays = Rc::clone(&own);
                        spawn_local(async move {
                            let (_guard, _open) = (Guard(Arc::clone(&relays.host)), open);
                            relays.carry(stream, client).await;
                        });
                    });
                    self.bound(task.abort_handle());
                }
                // The client has left, or there is no file for it.
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Adds a handshake; ends the oldest when there are too many.
    fn bound(&self, handshake: AbortHandle) {
        let mut handshakes = self.handshakes.borrow_mut();
        handshakes.push_back(handshake);
        if handshakes.len() <= HANDSHAKES {
            return;
        }
        handshakes.retain(|handshake| !handshake.is_finished());
        if handshakes.len() > HANDSHAKES
            && let Some(oldest) = handshakes.pop_front()
        {
            oldest.abort();
            self.host.handshake(Handshake::Displaced);
        }
    }

    /// The handshake with a client, counted; `None` when it failed.
    async fn shake(&self, socket: TcpStream) -> Option<TlsStream<TcpStream>> {
        let shaken = timeout(HANDSHAKE, self.handshake(socket)).await.unwrap_or(Err(Handshake::TimedOut));
        self.host.handshake(shaken.as_ref().map_or_else(|failed| *failed, |_| Handshake::Done));
        shaken.ok()
    }

    async fn handshake(&self, socket: TcpStream) -> Result<TlsStream<TcpStream>, Handshake> {
        let greeted = LazyConfigAcceptor::new(Acceptor::default(), socket).await.map_err(|_| Handshake::Failed)?;
        let answer = self.host.certificates().answer(&greeted.client_hello());
        match answer {
            Ok(config) => {
                let bounded =
                    greeted.into_stream_with(config, |session| session.set_buffer_limit(Some(BUFFER as usize)));
                bounded.await.map_err(|_| Handshake::Failed)
            }
            Err(alert) => {
                let mut socket = greeted.io;
                // A record of type alert (21) of TLS 1.2, as all versions write it in plain text, of 2 bytes: fatal (2), alert.
                let _ = socket.write_all(&[21, 3, 3, 0, 2, 2, alert]).await;
                let _ = socket.shutdown().await;
                Err(Handshake::NoCertificate)
            }
        }
    }

    /// Carries the bytes of a client to the server and back.
    async fn carry(&self, mut stream: TlsStream<TcpStream>, client: SocketAddr) {
        let Ok(mut server) = self.connect().await else {
            self.host.handshake(Handshake::Lost);
            return;
        };
        let Ok(own) = server.local_addr() else { return };
        let noted = self.carried.note(own, client);
        match relay(&mut stream, &mut server, noted.torn()).await {
            Left::Told => linger(&mut stream).await,
            Left::Deaf => {
                let _ = socket::cut(ClientConnection::new(client, Listens::Tls), Unread::Dropped);
            }
            Left::Gone => {}
        }
        drop(stream);
        // The server may have bytes of the client yet, and must know whose they are until it has read them.
        let _ = server.shutdown().await;
        linger(&mut server).await;
        drop(noted);
        drop(server);
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(BUFFER)?;
        socket.set_send_buffer_size(BUFFER)?;
        socket.set_nodelay(true)?;
        socket.connect(self.server).await
    }
}

/// A connection that is open: it has one of the places, and is counted.
struct Open<H: Host> {
    host: Arc<H>,
    _room: OwnedSemaphorePermit,
}

impl<H: Host> Open<H> {
    fn new(host: &Arc<H>, room: OwnedSemaphorePermit) -> Self {
        host.connections().fetch_add(1, Ordering::Relaxed);
        Self { host: Arc::clone(host), _room: room }
    }
}

impl<H: Host> Drop for Open<H> {
    fn drop(&mut self) {
        self.host.connections().fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a panic of the task that holds it.
struct Guard<H: Host>(Arc<H>);

impl<H: Host> Drop for Guard<H> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.panicked();
        }
    }
}
