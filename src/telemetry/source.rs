//! The author of an answer, as metrics and the access log name it.

/// The author of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// Passed on from an upstream.
    Service,
    /// The gateway's own.
    Exit,
}
