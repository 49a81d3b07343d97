//! Accept: a request's head as the server hands it over, copied once, with its framing judged before anything else.
//!
//! In: method, decoded path, query, header pairs in order, peer. Out: an [`Arrival`], or the reason why its framing is
//! refused. Nothing a client sent is trusted because of where it stands. It reads no body.

use aigw_core::denial::Reason;
use bytes::Bytes;
use http::Method;
use std::borrow::Cow;
use std::net::SocketAddr;
use std::time::Instant;

/// More header bytes than this are refused with 431 (names and values together).
pub const MAX_HEADER_BYTES: usize = 32 * 1024;
/// More headers than this are refused with 431.
pub const MAX_HEADERS: usize = 100;

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

    /// How many headers there are, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.spans.len(), self.text.len())
    }
}

/// What a request says of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// None, or a length of zero.
    None,
    /// `Content-Length`.
    Known(u64),
    /// Chunked.
    Chunked,
}

/// In whose words a client is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Surface {
    /// Kong's: services and routes.
    Kong,
    /// OpenAI's: `/v1`.
    OpenAi,
}

/// A request's head.
#[derive(Debug)]
pub struct Arrival {
    /// When it arrived.
    pub at: Instant,
    /// Made by the gateway: 32 hex digits.
    pub request_id: String,
    /// The method.
    pub method: Method,
    /// The path, percent-decoded by the server.
    pub path: String,
    /// The raw query without its `?`; empty for none.
    pub query: String,
    /// The headers.
    pub headers: Headers,
    /// The body's framing.
    pub length: BodyLength,
    /// Found out before anything is refused.
    pub surface: Surface,
    /// The client's address.
    pub peer: Option<SocketAddr>,
    /// It came over TLS.
    pub tls: bool,
    /// It came as HTTP/1.0.
    pub http10: bool,
    /// The authority of an absolute-form target.
    pub authority: Option<String>,
}

impl Arrival {
    /// The `Host` header (an absolute-form target was checked to agree with it).
    #[must_use]
    pub fn host(&self) -> &str {
        self.headers.get("host").unwrap_or("")
    }

    /// Judge what the server lets through: one `Host`, one framing, methods that make sense here, bounded headers.
    pub fn check(&mut self) -> Result<(), Reason> {
        let (count, bytes) = self.headers.size();
        if count > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
            return Err(Reason::HeadersTooLarge);
        }
        if self.method == Method::CONNECT || self.method == Method::TRACE {
            return Err(Reason::MethodRefused);
        }
        let (mut hosts, mut lengths, mut codings) = (0, 0, 0);
        let mut length = BodyLength::None;
        for (name, value) in self.headers.iter() {
            match name {
                "host" => hosts += 1,
                "content-length" => {
                    lengths += 1;
                    match value.parse::<u64>() {
                        Ok(0) => {}
                        Ok(n) => length = BodyLength::Known(n),
                        Err(_) => return Err(Reason::BadFraming),
                    }
                }
                "transfer-encoding" => {
                    codings += 1;
                    if !value.eq_ignore_ascii_case("chunked") {
                        return Err(Reason::BadFraming);
                    }
                    length = BodyLength::Chunked;
                }
                _ => {}
            }
        }
        if hosts > 1 || (hosts == 0 && !self.http10) {
            return Err(Reason::BadHost);
        }
        if let (Some(authority), Some(host)) = (&self.authority, self.headers.get("host"))
            && !authority.eq_ignore_ascii_case(host)
        {
            return Err(Reason::BadHost);
        }
        if lengths > 1 || codings > 1 || (lengths > 0 && codings > 0) {
            return Err(Reason::BadFraming);
        }
        self.length = length;
        Ok(())
    }
}

/// An answer of the gateway's own.
#[derive(Debug, Clone)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers besides those every answer carries.
    pub headers: Vec<(&'static str, Cow<'static, str>)>,
    /// The body.
    pub body: Bytes,
    /// Close the connection after it.
    pub close: bool,
}
