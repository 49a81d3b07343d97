//! The faults that leave a call without a whole answer of an upstream.
//!
//! In: a [`Failure`] from the upstream client, and how far a shutdown has come. Out: the [`Reason`] of the refusal that the
//! client gets, the error type of metrics, and whether the client itself ended the call.

use crate::balance::ConnectFault;
use crate::balance::passive::Lost;
use crate::refusal::Reason;
use crate::telemetry::ErrorType;

/// How far the shutdown of a worker has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shutdown {
    /// Every answer closes its connection.
    pub draining: bool,
    /// Calls in flight are cut.
    pub cutting: bool,
}

/// The fault that ended a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The address refused the connection.
    Refused,
    /// No way to the address.
    Unreachable,
    /// The proxy of the environment refused, or could not be reached.
    Proxy,
    /// The name has no address.
    Unresolved,
    /// Each address of the name is one that no upstream may have.
    Forbidden,
    /// The address is out after failed connects.
    Out,
    /// TLS handshake or certificate.
    Tls,
    /// No connection within the bound.
    ConnectTimeout,
    /// The connection ended before a whole head.
    Reset,
    /// The upstream's host acknowledges nothing any more.
    Vanished,
    /// The answer is not HTTP.
    Garbage,
    /// The answer's content coding is unknown or broken, or its content outgrows the bounds.
    Encoding,
    /// No head within the bound.
    FirstByteTimeout,
    /// The whole call took too long.
    TotalTimeout,
    /// The upstream cut the body.
    CutShort,
    /// Nothing of the body came within the bound between two reads.
    BetweenTimeout,
    /// The answer outgrew its cap.
    TooLarge,
    /// A model's upstream answered with a redirect.
    Redirected,
    /// A model's upstream refused the fleet's own key.
    Unauthorized,
    /// The client read too little of its answer for too long.
    ClientStalled,
    /// The call was cancelled: its client left, or a shutdown cuts it.
    Cancelled,
    /// A defect of the gateway.
    Internal,
}

impl Failure {
    /// Nothing was sent, so no upstream can have acted on the request.
    pub fn is_before_sending(self) -> bool {
        matches!(
            self,
            Self::Refused
                | Self::Unreachable
                | Self::Proxy
                | Self::Unresolved
                | Self::Forbidden
                | Self::Out
                | Self::Tls
                | Self::ConnectTimeout
        )
    }

    /// The loss of an attempt that a target's health counts; `None`: it says nothing about the target.
    pub fn lost(self) -> Option<Lost> {
        match self {
            Self::ConnectTimeout | Self::FirstByteTimeout => Some(Lost::Wait),
            Self::Refused | Self::Unreachable | Self::Unresolved | Self::Out | Self::Tls | Self::Reset => {
                Some(Lost::Connection)
            }
            _ => None,
        }
    }

    /// An upstream failed, not the client or the gateway.
    pub fn is_upstreams(self) -> bool {
        !matches!(self, Self::Cancelled | Self::ClientStalled | Self::Internal)
    }

    /// The client left by itself, or did not read its answer. `cutting`: a shutdown cuts the calls in flight.
    pub fn is_clients(self, cutting: bool) -> bool {
        match self {
            Self::Cancelled => !cutting,
            Self::ClientStalled => true,
            _ => false,
        }
    }

    /// The client takes no more bytes of its answer.
    pub fn is_deaf(self) -> bool {
        matches!(self, Self::Cancelled | Self::ClientStalled)
    }

    /// The error type of metrics and of the access log.
    pub fn error_type(self, cutting: bool) -> ErrorType {
        match self {
            Self::ClientStalled => ErrorType::CLIENT_STALLED,
            _ => ErrorType::of_reason(self.reason(cutting)),
        }
    }

    /// The reason of the refusal that stands for the answer.
    pub fn reason(self, cutting: bool) -> Reason {
        match self {
            Self::Refused => Reason::UpstreamRefused,
            Self::Unreachable => Reason::UpstreamUnreachable,
            Self::Proxy => Reason::UpstreamProxy,
            Self::Unresolved => Reason::UpstreamUnresolved,
            Self::Forbidden => Reason::UpstreamForbidden,
            Self::Out => Reason::UpstreamOut,
            Self::Tls => Reason::UpstreamTls,
            Self::ConnectTimeout => Reason::UpstreamConnectTimeout,
            Self::Vanished => Reason::UpstreamVanished,
            Self::Encoding => Reason::UpstreamEncoding,
            Self::Garbage | Self::TooLarge => Reason::UpstreamGarbage,
            Self::Redirected => Reason::UpstreamRedirect,
            Self::Unauthorized => Reason::UpstreamAuth,
            Self::FirstByteTimeout | Self::TotalTimeout | Self::BetweenTimeout => Reason::UpstreamTimeout,
            Self::Reset | Self::CutShort => Reason::UpstreamReset,
            Self::Cancelled if cutting => Reason::Drained,
            // A client stalls behind the head of its answer, so no refusal follows.
            Self::Cancelled | Self::ClientStalled => Reason::ClientGone,
            Self::Internal => Reason::Internal,
        }
    }
}

impl From<ConnectFault> for Failure {
    fn from(fault: ConnectFault) -> Self {
        match fault {
            ConnectFault::Refused => Self::Refused,
            ConnectFault::Unreachable => Self::Unreachable,
            ConnectFault::Unresolved => Self::Unresolved,
            ConnectFault::Forbidden => Self::Forbidden,
            ConnectFault::TimedOut => Self::ConnectTimeout,
            ConnectFault::Tls => Self::Tls,
            ConnectFault::Proxy => Self::Proxy,
        }
    }
}
