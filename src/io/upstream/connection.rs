//! One connection to an upstream, its bound on interim answers, and the watch over all of them for hosts that vanished.
//!
//! The kernel asks a silent peer every few seconds whether it is there (keep-alive), and ends the connection when nobody answers.
//! It does not ask while sent bytes wait for their acknowledgement, so the watch looks at those itself. `TCP_USER_TIMEOUT` would
//! do that, too, but also cuts a host that is alive and takes no bytes for a while (a closed window); the watch does not.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use aigw_core::settle::Failure;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::net::sockopt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::outgoing::Outgoing;
use crate::socket::{Unacknowledged, bound_received_ahead, unacknowledged};

/// Heads of answers larger than this are garbage.
const MAX_HEAD: usize = 256 * 1024;
/// Most bytes of one read: one less than a power of two, for the library doubles its next buffer behind a read that filled a power of two,
/// and a piece of an answer holds the whole buffer that it came in.
const READ: usize = 16 * 1024 - 1;
/// Bytes that the kernel may receive ahead of the gateway. By itself it would take megabytes for each answer whose client does not read.
const RECEIVED_AHEAD: usize = 256 * 1024;
/// The kernel is bounded from the first answer on that is longer. A stream that comes through a bounded socket takes a third
/// more reads, and costs 12 % more. The kernel's own first bound holds until here.
const UNBOUNDED: u64 = 64 * 1024;
/// A peer that sends nothing is asked after `IDLE`, then every `INTERVAL`; without `PROBES` answers in a row it is gone: 25 s.
const IDLE: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_secs(5);
const PROBES: u32 = 3;
/// A peer that acknowledges nothing of the sent bytes for so long is gone. With one look every 5 s: within 25 s.
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// Most bytes that an upstream may send before the head of its answer is here: interim answers (1xx), the head itself, and the begin of
/// the body, up to three reads of it.
const MOST_BEFORE_ANSWER: u64 = (MAX_HEAD + 3 * READ) as u64;

/// A connection that is ready for one request.
pub(super) struct Connection {
    pub(super) sender: SendRequest<Outgoing>,
    /// The peer: an address of the upstream's name, or of the proxy.
    pub(super) peer: SocketAddr,
    vanished: Rc<Cell<bool>>,
    awaited: Rc<Awaited>,
}

/// The wait for an answer and for its head.
#[derive(Debug, Default)]
struct Awaited {
    /// Bytes that may still come before it; `None`: no head is awaited.
    left: Cell<Option<u64>>,
    /// More came.
    flooded: Cell<bool>,
    /// Bytes that came since the request was sent.
    came: Cell<u64>,
}

/// The memory of one bounded read. All connections of a thread share it: to clear a part of the library's own, larger buffer before each read
/// would cost more than to copy the few bytes that come.
type Part = Rc<RefCell<Vec<u8>>>;

/// A stream of bounded reads that ends when an upstream sends too much before its answer. The library reads interim answers without an end, and
/// without letting other calls go on.
struct Bounded<S> {
    stream: S,
    socket: RawFd,
    /// The kernel receives a bounded number of bytes ahead by now.
    is_capped: bool,
    part: Part,
    awaited: Rc<Awaited>,
}

impl<S> Bounded<S> {
    /// So many bytes came.
    fn note(&mut self, bytes: u64) {
        let came = self.awaited.came.get().saturating_add(bytes);
        self.awaited.came.set(came);
        if came > UNBOUNDED && !self.is_capped {
            self.is_capped = true;
            bound_received_ahead(self.socket, RECEIVED_AHEAD);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = buffer.filled().len();
        let read = if buffer.remaining() <= READ {
            ready!(Pin::new(&mut self.stream).poll_read(context, buffer))
        } else {
            let own = &mut *self;
            let mut part = own.part.borrow_mut();
            part.resize(READ, 0);
            let mut part = ReadBuf::new(&mut part);
            let read = ready!(Pin::new(&mut own.stream).poll_read(context, &mut part));
            buffer.put_slice(part.filled());
            read
        };
        let more = (buffer.filled().len() - before) as u64;
        self.note(more);
        if let Some(left) = self.awaited.left.get() {
            self.awaited.left.set(Some(left.saturating_sub(more)));
            if more > left {
                self.awaited.flooded.set(true);
                return Poll::Ready(Err(std::io::Error::other("too many interim answers")));
            }
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

impl Connection {
    /// A request is sent next: the head of its answer is awaited.
    pub(super) fn await_head(&self) {
        self.awaited.left.set(Some(MOST_BEFORE_ANSWER));
        self.awaited.came.set(0);
    }

    /// The head is here.
    pub(super) fn has_head(&self) {
        self.awaited.left.set(None);
    }

    /// Whether another request may be sent.
    pub(super) fn is_ready(&self) -> bool {
        !self.sender.is_closed() && self.sender.is_ready()
    }

    /// Why the gateway itself ended the connection: the peer's host acknowledges nothing any more, or the upstream sent too much
    /// before its answer.
    pub(super) fn failure(&self) -> Option<Failure> {
        let flooded = self.awaited.flooded.get().then_some(Failure::Garbage);
        self.vanished.get().then_some(Failure::Vanished).or(flooded)
    }
}

/// The connections of one pool, idle and busy.
#[derive(Default)]
pub(super) struct Watch {
    all: RefCell<Vec<Watched>>,
    part: Part,
}

struct Watched {
    descriptor: RawFd,
    task: AbortHandle,
    vanished: Rc<Cell<bool>>,
    /// The bytes that were acknowledged at the first look at bytes that are not, and its time.
    waiting: Cell<Option<(u64, Instant)>>,
}

impl Watch {
    /// Speaks HTTP over the stream, whose socket is `descriptor`, and watches it.
    pub(super) async fn speak(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
        descriptor: RawFd,
        peer: SocketAddr,
    ) -> hyper::Result<Connection> {
        let awaited = Rc::<Awaited>::default();
        let (part, own) = (Rc::clone(&self.part), Rc::clone(&awaited));
        let stream = Bounded { stream, socket: descriptor, is_capped: false, part, awaited: own };
        let (sender, connection) = Builder::new().max_buf_size(MAX_HEAD).handshake(TokioIo::new(stream)).await?;
        // The sender reports the connection's errors to the call.
        let task = tokio::task::spawn_local(async move {
            let _ = connection.await;
        });
        let vanished = Rc::new(Cell::new(false));
        let watched =
            Watched { descriptor, task: task.abort_handle(), vanished: Rc::clone(&vanished), waiting: Cell::new(None) };
        self.all.borrow_mut().push(watched);
        Ok(Connection { sender, peer, vanished, awaited })
    }

    /// Ends the connections whose peers are gone, and forgets those that have ended. True while there are any.
    pub(super) fn look(&self) -> bool {
        let mut all = self.all.borrow_mut();
        // A task that has not finished owns its stream, so the descriptor is still the stream's.
        all.retain(|one| !one.task.is_finished());
        for one in all.iter() {
            if one.is_gone(Instant::now()) {
                one.vanished.set(true);
                one.task.abort();
            }
        }
        !all.is_empty()
    }
}

impl Watched {
    fn is_gone(&self, now: Instant) -> bool {
        let Some(Unacknowledged { acknowledged, silence }) = unacknowledged(self.descriptor) else {
            self.waiting.set(None);
            return false;
        };
        match self.waiting.get() {
            // A closed window is told by acknowledgements without progress: the silence is short then.
            Some((before, since)) if before == acknowledged => {
                now - since >= UNACKNOWLEDGED && silence >= UNACKNOWLEDGED
            }
            _ => {
                self.waiting.set(Some((acknowledged, now)));
                false
            }
        }
    }
}

/// Sets the socket's options: no delay of small pieces, keep-alive. A socket without them still works.
pub(super) fn prepare(stream: &TcpStream) -> RawFd {
    let _ = stream.set_nodelay(true);
    let _ = sockopt::set_socket_keepalive(stream, true);
    let _ = sockopt::set_tcp_keepidle(stream, IDLE);
    let _ = sockopt::set_tcp_keepintvl(stream, INTERVAL);
    let _ = sockopt::set_tcp_keepcnt(stream, PROBES);
    stream.as_raw_fd()
}
