//! Texts of a policy that are more than text, by themselves: so that who writes one is told at once what is wrong with it.
//!
//! In: a text and where it stands. Out: why a policy with it would be refused. Invariant: it is read here by what reads it
//! when the policy is compiled.

use super::checks::{PATH, address_path};
use crate::r#match::{HostRule, PathRule, RuleError, ValueRule};

/// Where a text stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Text {
    /// A route's path, or `~` and a regular expression.
    Path,
    /// A route's host.
    Host,
    /// A wanted value of a header, or `~*` and a regular expression.
    Header,
    /// The path of an address that is called.
    AddressPath,
}

impl Text {
    /// Why a policy with this text would be refused, or nothing.
    pub fn wrong(self, text: &str) -> Option<String> {
        let error = match self {
            Self::Path => PathRule::parse(text).err(),
            Self::Host => HostRule::parse(text).err(),
            Self::Header => ValueRule::parse(text).err(),
            Self::AddressPath => return (!address_path(text)).then(|| PATH.to_owned()),
        }?;
        Some(match error {
            RuleError::Regex { why, .. } => why,
            other => other.to_string(),
        })
    }
}
