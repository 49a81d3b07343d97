//! An upstream's answer as events, or the failure in its place.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

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

impl Failure {
    /// Nothing was sent: the request cannot have been acted upon.
    pub(super) fn is_before_sending(self) -> bool {
        matches!(self, Self::Refused | Self::Unresolved | Self::Out | Self::Tls | Self::ConnectTimeout)
    }
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
