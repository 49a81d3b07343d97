//! Why a snapshot is refused. A worker that meets one keeps the snapshot it has and reports the text.

use core::fmt;

use crate::r#match::RuleError;

/// The part of a policy that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// An entity, by its number.
    Entity(&'static str, u32),
    /// An item of a list, by its position from 0.
    Item(&'static str, usize),
    /// The policy as a whole.
    Whole,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Entity(kind, n) => write!(f, "{kind} {n}"),
            Self::Item(list, index) => write!(f, "{list} at index {index}"),
            Self::Whole => f.write_str("the policy"),
        }
    }
}

/// A snapshot file that cannot be taken into force.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The first line of a policy file is not ours.
    #[error("policy file: the header is not \"aigw-policy 3 <sha256>\"; it was written by another version")]
    Header,
    /// Damaged or half-written.
    #[error("policy file: its content does not have the hash its header names; publish again")]
    Hash,
    /// Not the JSON this version knows.
    #[error("policy file: {0}")]
    Json(#[from] serde_json::Error),
    /// Two entities of one kind share a number.
    #[error("policy: {0} appears twice")]
    Twice(Part),
    /// A reference that leads nowhere.
    #[error("policy: {from} refers to {kind} {to}, which does not exist")]
    Dangling {
        /// The part that refers.
        from: Part,
        /// service, `key_auth`, profile, column
        kind: &'static str,
        /// The missing number.
        to: u64,
    },
    /// A value outside its range.
    #[error("policy: {at}: {why}")]
    Value {
        /// The part that has the value.
        at: Part,
        /// The fault, and a value that would be right.
        why: String,
    },
    /// A route's condition that cannot be compiled.
    #[error("policy: {at}: {source}")]
    Rule {
        /// The route.
        at: Part,
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
        /// The fault.
        why: &'static str,
    },
    /// A record that cannot be written.
    #[error("{kind} {n}: {why}")]
    Record {
        /// consumer, credential
        kind: &'static str,
        /// Its number.
        n: u32,
        /// The fault.
        why: &'static str,
    },
}

impl SnapshotError {
    /// The entity at fault, as kind and number, and the reason without it; `None` where no entity is at fault.
    #[must_use]
    pub fn entity(&self) -> Option<(&'static str, u32, String)> {
        let (at, why) = match self {
            Self::Twice(at) => (at, "appears twice".to_owned()),
            Self::Dangling { from, kind, to } => (from, format!("refers to {kind} {to}, which does not exist")),
            Self::Value { at, why } => (at, why.clone()),
            Self::Rule { at, source } => (at, source.to_string()),
            Self::Record { kind, n, why } => return Some((kind, *n, (*why).to_owned())),
            Self::Header | Self::Hash | Self::Json(_) | Self::Base(_) | Self::Delta { .. } => return None,
        };
        match at {
            Part::Entity(kind, n) => Some((kind, *n, why)),
            Part::Item(..) | Part::Whole => None,
        }
    }
}
