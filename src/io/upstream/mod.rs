//! The upstream side of an exchange: one thread with a tokio runtime of its own (the server's runtime is not reachable from
//! another extension), pools of connections per origin, deadlines, passive health, and the events that carry an answer back.
//!
//! In: a [`Call`] (a request that admission let through, body whole). Out: [`Event`]s, in order, ending with exactly one
//! `Full`, `End` or `Failed`; events that are ready together are handed over together, so that the caller pays for its
//! interpreter lock once. A request of which a byte may have reached an upstream goes to another only after a whole 429, 502
//! or 503 of the first.

mod answer;
mod client;
mod outgoing;
mod pool;
mod resolve;
mod tls;

use aigw_core::telemetry::Counter;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub(crate) use answer::is_events;
pub use client::{Inbox, Upstream};

/// Where a service lives: what a connection pool is keyed by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Origin {
    /// TLS towards the upstream.
    pub tls: bool,
    /// Check the upstream's certificate; off only where the service says `tls_verify: false`.
    pub verify: bool,
    /// Host name or address literal (IPv6 without brackets).
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// The bounds of one exchange; each answers with a 504 of its own when it passes before the answer's head.
#[derive(Debug, Clone, Copy)]
pub struct Deadlines {
    /// To a connected (and, with TLS, greeted) socket.
    pub connect: Duration,
    /// Between two pieces of a large body that the upstream takes.
    pub write: Duration,
    /// From handing the request over, its body's last piece where that is large, to the answer's head.
    pub first_byte: Duration,
    /// Between two reads of the answer's body; also how long a client may leave sent bytes unread.
    pub between: Duration,
    /// For the whole exchange.
    pub total: Duration,
}

/// One try of a request at one upstream.
#[derive(Debug)]
pub struct Attempt {
    /// Where to.
    pub origin: Arc<Origin>,
    /// Path and query, already encoded.
    pub target: String,
    /// The headers to send, `host` included; framing headers are made here.
    pub headers: HeaderMap<HeaderValue>,
    /// The whole body; empty for none.
    pub body: Bytes,
}

/// The upstreams that are still to be tried, made into attempts when they are.
pub trait Others: Send {
    /// The next one.
    fn next(&mut self) -> Option<Attempt>;
}

/// One admitted request on its way to an upstream.
pub struct Call {
    /// The method as the client sent it.
    pub method: Method,
    /// The first try.
    pub attempt: Attempt,
    /// What comes after it, when it fails in a way that leaves no doubt: no connection, a kept connection seen closed before
    /// anything was written, or a whole 429, 502 or 503.
    pub others: Option<Box<dyn Others>>,
    /// The bounds: `total` for all tries together, the others for each.
    pub deadlines: Deadlines,
    /// The client's address, by which its socket is found when its answer must be paced or cut.
    pub peer: Option<SocketAddr>,
    /// Answers above this many bytes are cut (a runaway stream is a cost).
    pub max_answer: u64,
    /// The client asked for an answer that is of no use in part: a small one is passed on whole or not at all.
    pub whole: bool,
}

/// Why an exchange has no (whole) answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there.
    Refused,
    /// The name has no address.
    Unresolved,
    /// Out of rotation after failed connects.
    Out,
    /// TLS handshake or certificate.
    Tls,
    /// No connection within the bound.
    ConnectTimeout,
    /// The connection went away before a whole head.
    Reset,
    /// What came was not HTTP.
    Garbage,
    /// No head within the bound.
    FirstByteTimeout,
    /// The whole exchange took too long.
    TotalTimeout,
    /// The body stopped: cut by the upstream.
    CutShort,
    /// The body stopped: nothing within the bound between reads.
    BetweenTimeout,
    /// The answer outgrew its cap.
    TooLarge,
    /// The client stopped reading.
    ClientStalled,
    /// The caller cancelled (client gone, or drain deadline).
    Cancelled,
    /// A fault of ours.
    Internal,
}

/// What happens to an exchange, in order.
#[derive(Debug)]
pub enum Event {
    /// A whole small answer at once.
    Full {
        /// Upstream's status.
        status: StatusCode,
        /// Upstream's headers, hop-by-hop ones removed.
        headers: HeaderMap<HeaderValue>,
        /// The body.
        body: Bytes,
    },
    /// The head of an answer whose body follows in pieces.
    Head {
        /// Upstream's status.
        status: StatusCode,
        /// Upstream's headers, hop-by-hop ones removed.
        headers: HeaderMap<HeaderValue>,
    },
    /// A piece of the body.
    Chunk(Bytes),
    /// The body is whole.
    End,
    /// No (whole) answer. Before `Head`: nothing was sent to the client yet.
    Failed(Failure),
}

impl Event {
    /// Nothing follows it.
    #[must_use]
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::End | Self::Failed(_))
    }
}

/// The caller's side of one exchange, held by the upstream thread until the last event.
pub trait Ticket: Send + 'static {
    /// The request's first byte is about to be written: from here on it may have been acted upon.
    fn sending(&self);
    /// How the caller asks to stop.
    fn cancel(&self) -> &Cancel;
    /// An answer's head is about to be handed over; what must not go on is taken out here.
    fn head(&self, status: StatusCode, headers: &mut HeaderMap<HeaderValue>);
    /// A piece of the answer is about to be handed over; what goes on of it.
    fn piece(&self, piece: Bytes) -> Bytes;
    /// The answer is whole: what was held back of it.
    fn rest(&self) -> Bytes;
    /// The answer breaks off: what is still said before it is cut.
    fn last_words(&self, failure: Failure) -> Option<Bytes>;
}

/// A flag with a bell: set from any thread, awaited by the exchange's task.
#[derive(Debug, Default)]
pub struct Cancel {
    set: AtomicBool,
    bell: tokio::sync::Notify,
}

impl Cancel {
    /// Ask the exchange to stop; idempotent.
    pub fn cancel(&self) {
        self.set.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Whether it was asked to.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    async fn wait(&self) {
        while !self.is_set() {
            self.bell.notified().await;
        }
    }
}

/// What happened on the upstream side since it was last [`taken`](UpstreamCounters::take).
#[derive(Debug, Default)]
pub struct UpstreamCounters {
    /// New connections made.
    pub connects: AtomicU64,
    /// Connect attempts that failed.
    pub connect_failures: AtomicU64,
    /// Requests sent on a pooled connection.
    pub reused: AtomicU64,
    /// Tries at another upstream.
    pub failovers: AtomicU64,
    /// Tasks that panicked: an exchange's, which then failed, or one of the thread's own, which went on.
    pub panics: AtomicU64,
}

impl UpstreamCounters {
    /// Hand over what was counted since the last time.
    pub fn take(&self, count: impl Fn(Counter, u64)) {
        for (own, what) in [
            (&self.connects, Counter::UpstreamConnect),
            (&self.connect_failures, Counter::UpstreamConnectFailed),
            (&self.reused, Counter::UpstreamReused),
            (&self.failovers, Counter::Failover),
            (&self.panics, Counter::Panic),
        ] {
            if own.load(Ordering::Relaxed) > 0 {
                count(what, own.swap(0, Ordering::Relaxed));
            }
        }
    }
}
