//! A request on its way to an upstream: where to, with which bounds, and where else if that fails.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method};

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
