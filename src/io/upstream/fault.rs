//! A connect that failed, with its words, and the way of a notice to the worker.

use aigw_core::balance::ConnectFault;

use super::notice::Notice;

/// Hands notices to the worker.
pub(super) type Tell = dyn Fn(Notice);

/// A connect that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: ConnectFault,
    /// Words for the log.
    pub(super) error: String,
}

impl Fault {
    pub(super) fn new(kind: ConnectFault, error: impl Into<String>) -> Self {
        Self { kind, error: error.into() }
    }
}
