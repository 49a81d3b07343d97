//! How a request ended, and whether it counts.
//!
//! In: the [`Outcome`] of a call, the [`Verdict`] on its answer. Out: whether its permit is settled, or given back.

use super::Verdict;
use crate::refusal::Reason;
use crate::telemetry::ErrorType;

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was passed on.
    Completed,
    /// The client left first.
    ClientCut,
    /// A budget of the caller ended the stream.
    LimitCut,
    /// The upstream stopped in the middle of its answer.
    UpstreamCut,
    /// No answer came from an upstream; on `/v1` also: its answer is an error.
    UpstreamError,
    /// The gateway refused the request.
    Refused,
}

impl Outcome {
    /// The outcome's name in the access log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientCut => "client_cut",
            Self::LimitCut => "limit_cut",
            Self::UpstreamCut => "upstream_cut",
            Self::UpstreamError => "upstream_error",
            Self::Refused => "refused",
        }
    }

    /// Whether a request that ended so counts. `sent`: the first byte of its last attempt went upstream.
    pub fn counts(self, verdict: Verdict, sent: bool) -> bool {
        match self {
            Self::Completed | Self::LimitCut | Self::UpstreamCut => verdict != Verdict::Fleets,
            // The upstream may have worked: a client that hangs up early still pays for it.
            Self::ClientCut => sent && verdict != Verdict::Fleets,
            Self::UpstreamError => verdict == Verdict::Error,
            Self::Refused => false,
        }
    }
}

/// The end of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// How it ended.
    pub outcome: Outcome,
    /// The refusal, when the answer is one.
    pub reason: Option<Reason>,
    /// Why it failed; `None` for a request that was answered well.
    pub error: Option<ErrorType>,
    /// The status of the answer; 0 when there was none.
    pub status: u16,
    /// Bytes of the answer's body.
    pub egress: u64,
}

impl End {
    /// The end of a request that the gateway answered itself.
    pub fn answered(status: u16, bytes: usize, reason: Option<Reason>) -> Self {
        let outcome = if reason.is_some() { Outcome::Refused } else { Outcome::Completed };
        Self { outcome, reason, error: reason.map(ErrorType::of_reason), status, egress: bytes as u64 }
    }
}
