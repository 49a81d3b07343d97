//! Why a snapshot is refused. A worker that meets one keeps the snapshot it has and reports the text.

use crate::r#match::RuleError;

/// A snapshot file that cannot be taken into force.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The first line of a policy file is not ours.
    #[error("policy file: the header is not \"aigw-policy 2 <sha256>\"; it was written by another version")]
    Header,
    /// Damaged or half-written.
    #[error("policy file: its content does not have the hash its header names; publish again")]
    Hash,
    /// Not the JSON this version knows.
    #[error("policy file: {0}")]
    Json(#[from] serde_json::Error),
    /// Two entities of one kind share a number.
    #[error("policy: {kind} {n} appears twice")]
    Twice {
        /// service, route, column
        kind: &'static str,
        /// The number.
        n: u32,
    },
    /// A reference to what is not there.
    #[error("policy: {from} refers to {kind} {to}, which does not exist")]
    Dangling {
        /// Who refers.
        from: String,
        /// service, `key_auth`, profile, column
        kind: &'static str,
        /// The missing number.
        to: u64,
    },
    /// A value outside its range.
    #[error("policy: {at}: {why}")]
    Value {
        /// Where.
        at: String,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// A route's condition that cannot be compiled.
    #[error("policy: route {route}: {source}")]
    Rule {
        /// Its number.
        route: u32,
        /// The condition's own error.
        source: RuleError,
    },
    /// A base file that is not whole.
    #[error("keys base: {0}; publish a new base")]
    Base(&'static str),
    /// A delta file that is not whole.
    #[error("keys delta: {why} at byte {at}; publish a new base")]
    Delta {
        /// Byte offset in the file.
        at: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A record that cannot be written.
    #[error("{kind} {n}: {why}")]
    Record {
        /// consumer, credential
        kind: &'static str,
        /// Its number.
        n: u32,
        /// What is wrong.
        why: &'static str,
    },
}
