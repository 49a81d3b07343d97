//! Stage `match`: host, method, canonical path and headers -> a route.
//!
//! [`canonical`] proves that a path has one reading, [`Router`] picks the route, [`upstream_path`] writes the path that
//! is sent upstream. Nothing here knows about identity, limits or configuration files.

pub mod canonical;
mod host;
pub mod router;
mod rule;
mod trie;
pub mod upstream_path;

pub use canonical::{BadPath, CanonicalPath};
pub use host::Authority;
pub use router::{Matched, Query, Router};
pub use rule::{HostRule, PathRule, RouteRule, RuleError, ValueRule};
