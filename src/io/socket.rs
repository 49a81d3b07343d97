//! Finds a client's socket by its connection's addresses among this process's files. The server's interface gives no handle to it, but only the
//! socket shows how much a client has read, and only closing it ends a chunked answer uncleanly.
//!
//! In: a connection of this process. Out: a duplicate descriptor, checked to belong to it; the
//! original may close at any time without harm. One of the places where `unsafe` is allowed (borrowing a descriptor by
//! number, reading `tcp_info`).
#![allow(unsafe_code)]

use aigw_core::request::{ClientConnection, Listens};
use rustix::fd::{BorrowedFd, OwnedFd};
use rustix::net::{Shutdown, getpeername, getsockname, shutdown, sockopt};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Measures how far a client is behind the bytes pushed to it.
#[derive(Debug)]
pub struct Reader {
    socket: OwnedFd,
    /// Bytes of the connection that the kernel took before this answer's first byte: at least so many.
    base: u64,
}

/// How far a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Bytes of the answer that wait in this process.
    pub waiting: u64,
    /// Bytes of the connection that the client's kernel has acknowledged.
    pub read: u64,
}

impl Reader {
    /// Find a client's connection, `sent` bytes into an answer. `None` if it has closed.
    #[must_use]
    pub fn find(client: ClientConnection, sent: u64) -> Option<Self> {
        let socket = find(client)?;
        let (acked, queued) = progress(&socket)?;
        // The bytes that the server still buffers at this first look are unknown, at most `sent`. They count as taken, so the
        // gateway reads ahead by that much, until the client has caught up once.
        Some(Self { socket, base: (acked + queued).saturating_sub(sent) })
    }

    /// Looks at the client. `sent`: the bytes pushed for this answer, in all. A connection that is gone waits for nothing.
    #[must_use]
    pub fn look(&mut self, sent: u64) -> Look {
        let Some((read, queued)) = progress(&self.socket) else { return Look { waiting: 0, read: u64::MAX } };
        let taken = read + queued;
        // The kernel cannot have more of this answer than was pushed: the rest is framing, of TLS and of chunks.
        self.base = self.base.max(taken.saturating_sub(sent));
        Look { waiting: sent.saturating_sub(taken - self.base), read }
    }

    /// Bytes pushed for this answer (`sent` in all) that the client's kernel has not acknowledged. 0 when unknown.
    #[must_use]
    pub fn behind(&self, sent: u64) -> u64 {
        match progress(&self.socket) {
            Some((acked, _)) => sent.saturating_sub(acked.saturating_sub(self.base)),
            None => 0,
        }
    }
}

/// A duplicate of the listening socket with this number, which the caller keeps open meanwhile.
pub fn listener(number: RawFd) -> std::io::Result<std::net::TcpListener> {
    if number < 0 {
        return Err(std::io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not -1, its file stays open for this call, and is only duplicated.
    let socket = unsafe { BorrowedFd::borrow_raw(number) };
    Ok(rustix::io::fcntl_dupfd_cloexec(socket, 0)?.into())
}

/// The flow of one connection that this process accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// The client's connection.
    pub client: ClientConnection,
    /// Bytes that came over the connection's life.
    pub received: u64,
    /// Bytes that the client's kernel acknowledged.
    pub acked: u64,
    /// Time since bytes came.
    pub quiet: Duration,
    /// Time since bytes were sent.
    pub unanswered: Duration,
    /// Bytes were sent: the times alone cannot tell it of a connection whose first bytes came with its handshake.
    pub answered: bool,
    /// Bytes of an answer wait for the client.
    pub sending: bool,
}

/// The flows of all connections at these local ports, but for those that this process has ended. One system call for each file of this process, two for each socket.
#[must_use]
pub fn flows(ports: &[u16]) -> Vec<Flow> {
    let mut found = Vec::new();
    for number in open_files().unwrap_or_default() {
        // SAFETY: as in `duplicate`: the descriptor may close or be reused meanwhile, and only facts about a socket are asked of it.
        let socket = unsafe { BorrowedFd::borrow_raw(number) };
        if local_port(socket).is_some_and(|port| ports.contains(&port))
            && let Some(client) = client_of(socket)
            && let Some(flow) = flow(socket, client)
        {
            found.push(flow);
        }
    }
    found
}

/// Time since the last bytes of a client came, none while bytes of it are unread; `None` when its connection has closed.
#[must_use]
pub fn quiet(client: ClientConnection) -> Option<Duration> {
    let socket = find(client)?;
    // A worker that stood still, or waits for its turn, has not read the bytes that came meanwhile.
    if rustix::io::ioctl_fionread(&socket).is_ok_and(|unread| unread > 0) {
        return Some(Duration::ZERO);
    }
    Some(flow(rustix::fd::AsFd::as_fd(&socket), client)?.quiet)
}

fn flow(socket: BorrowedFd<'_>, client: ClientConnection) -> Option<Flow> {
    // Offsets in `struct tcp_info`: the state, packets without acknowledgement, milliseconds since the last send and the last receipt, bytes over
    // the connection's life, bytes that are not sent yet, packets with bytes that were sent.
    const STATE: usize = 0;
    const UNACKED: usize = 24;
    const LAST_SENT: usize = 44;
    const LAST_RECEIVED: usize = 52;
    const ACKED: usize = 120;
    const RECEIVED: usize = 128;
    const UNSENT: usize = 144;
    const SENT: usize = 156;
    // TCP_ESTABLISHED, and TCP_CLOSE_WAIT: the client has ended its side.
    const OPEN: [u8; 2] = [1, 8];
    let info = info(socket.as_raw_fd(), SENT + 4)?;
    if !OPEN.contains(&info[STATE]) {
        return None;
    }
    let since =
        |at: usize| Some(Duration::from_millis(u64::from(u32::from_ne_bytes(info[at..at + 4].try_into().ok()?))));
    let bytes = |at: usize| Some(u64::from_ne_bytes(info[at..at + 8].try_into().ok()?));
    Some(Flow {
        client,
        received: bytes(RECEIVED)?,
        acked: bytes(ACKED)?,
        quiet: since(LAST_RECEIVED)?,
        unanswered: since(LAST_SENT)?,
        answered: info[SENT..SENT + 4] != [0; 4],
        sending: info[UNACKED..UNACKED + 4] != [0; 4] || info[UNSENT..UNSENT + 4] != [0; 4],
    })
}

/// The lot of the bytes that a client whose connection is cut has not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The kernel goes on sending them.
    Sent,
    /// The kernel drops them: the client took nothing for its whole time.
    Dropped,
}

/// End a client's connection at once, so that it sees a cut instead of a clean end. True if it was found. The kernel would hold the bytes of a
/// client that takes nothing, some hundred KB, for minutes: it drops them when the socket closes, and the client sees a reset.
#[must_use]
pub fn cut(client: ClientConnection, unread: Unread) -> bool {
    find(client).is_some_and(|socket| {
        if unread == Unread::Dropped {
            let _ = sockopt::set_socket_linger(&socket, Some(Duration::ZERO));
        }
        shutdown(&socket, Shutdown::Both).is_ok()
    })
}

/// The sockets of this process by their clients, as the last walk over its files saw them. A number is a hint: the file may have
/// closed, and another one may have its number.
static SEEN: Mutex<Option<HashMap<ClientConnection, RawFd>>> = Mutex::new(None);

/// The local ports of TLS connections, and of the worker's own that carry their bytes; 0 in a worker without TLS.
static TLS_PORT: AtomicU16 = AtomicU16::new(0);
static PRIVATE_PORT: AtomicU16 = AtomicU16::new(0);

/// From now on connections at these local ports are those of the TLS address, and the worker's own that carry their bytes.
pub(crate) fn tls_is_at(port: u16, private: u16) {
    TLS_PORT.store(port, Ordering::Relaxed);
    PRIVATE_PORT.store(private, Ordering::Relaxed);
}

/// A duplicate of the socket of `client`. A walk over all files costs a microsecond for each, so it notes all clients.
fn find(client: ClientConnection) -> Option<OwnedFd> {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    let seen = seen.get_or_insert_default();
    if let Some(socket) = seen.get(&client).and_then(|number| duplicate(*number, client)) {
        return Some(socket);
    }
    seen.clear();
    for number in open_files()? {
        // SAFETY: as in `duplicate`: only the addresses of its two ends are asked of it.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        if let Some(other) = client_of(borrowed) {
            seen.insert(other, number);
        }
    }
    duplicate(*seen.get(&client)?, client)
}

/// A duplicate of this file, if it is the socket of `client`.
fn duplicate(number: RawFd, client: ClientConnection) -> Option<OwnedFd> {
    // SAFETY: the descriptor may close or be reused by another thread while it is borrowed; only the addresses of its two ends and
    // `dup` are asked of it, which then fail or act on another file, and the duplicate is checked again below.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    if client_of(borrowed) != Some(client) {
        return None;
    }
    let owned = rustix::io::fcntl_dupfd_cloexec(borrowed, 0).ok()?;
    (client_of(rustix::fd::AsFd::as_fd(&owned)) == Some(client)).then_some(owned)
}

/// The numbers of this process's files.
fn open_files() -> Option<Vec<RawFd>> {
    let files = std::fs::read_dir("/proc/self/fd").ok()?;
    Some(files.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// The other end of a socket as a client. Sockets that are no client's have others, which nobody looks for.
fn client_of(socket: BorrowedFd<'_>) -> Option<ClientConnection> {
    let peer = SocketAddr::try_from(getpeername(socket).ok()??).ok()?;
    let (tls, private) = (TLS_PORT.load(Ordering::Relaxed), PRIVATE_PORT.load(Ordering::Relaxed));
    let at = match if tls == 0 { None } else { local_port(socket) } {
        Some(port) if port == tls => Listens::Tls,
        Some(port) if port == private => Listens::Private,
        _ => Listens::Plain,
    };
    Some(ClientConnection::new(peer, at))
}

fn local_port(socket: BorrowedFd<'_>) -> Option<u16> {
    Some(SocketAddr::try_from(getsockname(socket).ok()?).ok()?.port())
}

/// Bytes that wait for their acknowledgement.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unacknowledged {
    /// Bytes acknowledged over the connection's life.
    pub(crate) acknowledged: u64,
    /// Time since the peer acknowledged anything, were it only that it takes no more.
    pub(crate) silence: Duration,
}

/// The state of a socket whose kernel holds bytes that the peer has not acknowledged, sent or not (a host that lost its route
/// sends nothing); `None` when the peer has acknowledged every byte, or for a file that is not a socket. The number must be of
/// an open file of the caller.
pub(crate) fn unacknowledged(socket: RawFd) -> Option<Unacknowledged> {
    /// Offset in `struct tcp_info`: milliseconds since the last acknowledgement.
    const LAST_ACK: usize = 56;
    (queued(socket)? > 0).then_some(())?;
    let info = info(socket, BYTES_ACKED + 8)?;
    let silence = u32::from_ne_bytes(info.get(LAST_ACK..LAST_ACK + 4)?.try_into().ok()?);
    Some(Unacknowledged { acknowledged: bytes_acked(&info)?, silence: Duration::from_millis(u64::from(silence)) })
}

/// Bytes acknowledged over the connection's life, and bytes in the kernel's queue (sent but not acknowledged, or not sent).
fn progress(socket: &OwnedFd) -> Option<(u64, u64)> {
    Some((bytes_acked(&info(socket.as_raw_fd(), BYTES_ACKED + 8)?)?, queued(socket.as_raw_fd())?))
}

/// Bytes in the kernel's queue: sent but not acknowledged, or not sent.
fn queued(socket: RawFd) -> Option<u64> {
    let mut queued: libc::c_int = 0;
    // SAFETY: TIOCOUTQ writes one int through the pointer, which is valid for that. A number that is no open socket is an error.
    let status = unsafe { libc::ioctl(socket, libc::TIOCOUTQ, &raw mut queued) };
    (status == 0).then(|| u64::try_from(queued).unwrap_or(0))
}

/// Lets the kernel receive so many bytes ahead of a socket's reader, at most; it doubles the number for its own records. A socket without the
/// bound still works. The number must be of an open file of the caller.
pub(crate) fn bound_received_ahead(socket: RawFd, bytes: usize) {
    // SAFETY: the number is of an open file of the caller. Only an option of that file is set.
    let borrowed = unsafe { BorrowedFd::borrow_raw(socket) };
    let _ = sockopt::set_socket_recv_buffer_size(borrowed, bytes);
}

/// Offset of `tcpi_bytes_acked` in `struct tcp_info` (since 4.1; the layout only grows).
const BYTES_ACKED: usize = 120;

fn bytes_acked(info: &[u8; 256]) -> Option<u64> {
    Some(u64::from_ne_bytes(info[BYTES_ACKED..BYTES_ACKED + 8].try_into().ok()?))
}

/// The kernel's `struct tcp_info` of a socket, of which at least `least` bytes are known.
fn info(socket: RawFd, least: usize) -> Option<[u8; 256]> {
    let mut info = [0_u8; 256];
    let mut length: libc::socklen_t = 256;
    // SAFETY: `info` is writable for `length` bytes; the kernel writes at most that many and says how many it wrote.
    let status = unsafe {
        libc::getsockopt(socket, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut length)
    };
    (status == 0 && length as usize >= least).then_some(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;
    use tokio::net::{TcpListener, TcpSocket};

    #[tokio::test(flavor = "current_thread")]
    async fn connections_from_one_port_are_told_apart_by_the_address_that_they_call() -> io::Result<()> {
        let mut called = Vec::new();
        for _ in 0..3 {
            called.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        let ports = called.iter().map(|one| Ok(one.local_addr()?.port())).collect::<io::Result<Vec<u16>>>()?;
        tls_is_at(ports[1], ports[2]);
        let (mut from, mut ends) = ("127.0.0.3:0".parse().map_err(io::Error::other)?, Vec::new());
        for listener in &called {
            let client = TcpSocket::new_v4()?;
            client.set_reuseaddr(true)?;
            client.bind(from)?;
            from = client.local_addr()?;
            ends.push(client.connect(listener.local_addr()?).await?);
            ends.push(listener.accept().await?.0);
        }
        for (at, port) in [Listens::Plain, Listens::Tls, Listens::Private].into_iter().zip(ports) {
            let found = find(ClientConnection::new(from, at));
            assert_eq!(found.and_then(|socket| local_port(rustix::fd::AsFd::as_fd(&socket))), Some(port), "{at:?}");
        }
        Ok(())
    }
}
