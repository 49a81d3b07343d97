//! Checks one string of a policy (path, host, header value), so an editor of the configuration gets the error early.
//!
//! In: a string and its field. Out: the reason why a policy with it would be refused. Invariant: the check uses the same parsers as
//! the compilation of the policy.

use super::checks::{PATH, address_path};
use crate::r#match::{HostRule, PathRule, RuleError, ValueRule};

/// The field of a string.
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
    /// The reason why a policy with this string would be refused, or `None`.
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
