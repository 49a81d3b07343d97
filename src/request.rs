//! The values of a request that every stage may read: its head, and an answer that the gateway makes.
//!
//! In: method, decoded path, query, header pairs in order, peer. Out: a [`Head`]. Nothing here judges: `accept` does.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;
use http::Method;

use crate::units::RequestId;

/// A header that the gateway writes: lower-case name, value.
pub type Header = (&'static str, Cow<'static, str>);

/// Header pairs in the order they came, in one allocation: names lower-case, values as text.
#[derive(Debug, Default)]
pub struct Headers {
    text: String,
    spans: Vec<(u32, u32, u32)>,
}

impl Headers {
    /// Room for `count` headers.
    #[must_use]
    pub fn with_capacity(count: usize) -> Self {
        Self { text: String::with_capacity(count * 40), spans: Vec::with_capacity(count) }
    }

    /// Append a pair.
    #[allow(clippy::cast_possible_truncation)] // heads above 4 GiB do not exist: the server's buffer ends at 64 KiB
    pub fn push(&mut self, name: &str, value: &str) {
        let start = self.text.len() as u32;
        self.text.push_str(name);
        let middle = self.text.len() as u32;
        self.text.push_str(value);
        self.spans.push((start, middle, self.text.len() as u32));
    }

    /// The pairs, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        self.spans.iter().map(|&(start, middle, end)| {
            (&self.text[start as usize..middle as usize], &self.text[middle as usize..end as usize])
        })
    }

    /// The first value of a lower-case name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.iter().find(|&(own, _)| own == name).map(|(_, value)| value)
    }

    /// The number of headers, and of their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.spans.len(), self.text.len())
    }
}

/// The length of a request's body, as its head declares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// No body, or a length of zero.
    None,
    /// `Content-Length`.
    Known(u64),
    /// Chunked.
    Chunked,
}

/// An address of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Listens {
    /// For clients without TLS.
    Plain,
    /// For clients with TLS.
    Tls,
    /// For the worker's own connections, which carry the bytes of the clients with TLS.
    Private,
}

/// A client's connection, by facts that no two connections of one worker share: one address of a client may call each of the worker's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientConnection {
    /// The client's address; IPv4 never as IPv6.
    pub peer: SocketAddr,
    /// The worker's address that it called.
    pub at: Listens,
}

impl ClientConnection {
    /// IPv4-mapped IPv6 and IPv4 are the same peer; scope ids do not matter.
    #[must_use]
    pub fn new(peer: SocketAddr, at: Listens) -> Self {
        let peer = match peer.ip() {
            IpAddr::V4(_) => peer,
            IpAddr::V6(ip) => SocketAddr::new(ip.to_canonical(), peer.port()),
        };
        Self { peer, at }
    }
}

/// The wire format of a request and of its answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// Kong's: services and routes.
    Kong,
    /// OpenAI's: `/v1`.
    OpenAi,
}

/// A request's head.
#[derive(Debug)]
pub struct Head {
    /// The moment of arrival.
    pub arrived: Instant,
    /// The id that the gateway gave the request.
    pub id: RequestId,
    /// The same id for clients and upstreams: 32 hex digits.
    pub request_id: String,
    /// The method.
    pub method: Method,
    /// The path, percent-decoded by the server.
    pub path: String,
    /// The raw query without its `?`; empty for none.
    pub query: String,
    /// The client's headers.
    pub headers: Headers,
    /// The body's length; `None` until `accept` has judged the head.
    pub length: BodyLength,
    /// Kong's until `surface` has looked at the path.
    pub surface: Surface,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// It came over TLS.
    pub tls: bool,
    /// It came as HTTP/1.0.
    pub http10: bool,
    /// The client ends the connection after the answer; known once `accept` has judged the head.
    pub closes: bool,
    /// How often a gateway passed it on before; known once `accept` has judged the head.
    pub passes: u8,
    /// The authority of an absolute-form target.
    pub authority: Option<String>,
}

impl Head {
    /// The `Host` header (an absolute-form target was checked to agree with it).
    #[must_use]
    pub fn host(&self) -> &str {
        self.headers.get("host").unwrap_or("")
    }

    /// The client's connection, by which its socket is found; `None` when the server does not know it.
    #[must_use]
    pub fn connection(&self) -> Option<ClientConnection> {
        let at = if self.tls { Listens::Tls } else { Listens::Plain };
        Some(ClientConnection::new(self.peer?, at))
    }

    /// Whether the client may wait for `100 Continue` before it sends its body (RFC 9110, section 10.1.1).
    #[must_use]
    pub fn expects_continue(&self) -> bool {
        self.headers.get("expect").is_some()
    }

    /// The client's IP address as text; empty when the server does not know it.
    #[must_use]
    pub fn address(&self) -> String {
        self.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default()
    }
}

/// An answer of the gateway's own.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The headers, except those that frame the body.
    pub headers: Vec<Header>,
    /// The body.
    pub body: Bytes,
    /// Close the connection after this answer.
    pub close: bool,
}
