//! Stage `match`: host, method, canonical path and headers -> a route, or an operation under `/v1`.
//!
//! [`canonical`] proves that a path has one reading, [`Router`] picks the route, [`operation`] names the operation, [`probe`] the
//! question of a load balancer,
//! [`ServerNames`] finds the certificate of a handshake, [`upstream_path`] writes the path that is sent upstream. This stage does not know identity or limits.

pub mod canonical;
mod host;
pub mod operation;
pub mod probe;
pub mod router;
mod rule;
mod server_name;
pub mod tls;
mod trie;
pub mod upstream_path;

use std::borrow::Cow;

use crate::refusal::Reason;
use crate::request::Head;
pub use canonical::{BadPath, CanonicalPath};
pub use host::Authority;
pub use operation::Operation;
pub use router::{Matched, Query, Router};
pub(crate) use rule::regex;
pub use rule::{HostRule, PathRule, RouteRule, RuleError, ValueRule};
pub use server_name::{ServerNameError, ServerNames};

/// The route of a request. `headers` are the pairs of its head.
pub fn route(router: &Router, head: &Head, headers: &[(&str, &str)]) -> Result<Matched, Reason> {
    let path = CanonicalPath::new(&head.path).map_err(|_| Reason::BadPath)?;
    let authority = match head.host() {
        "" => Authority { host: Cow::Borrowed(""), port: None },
        host => Authority::parse(host).ok_or(Reason::BadHost)?,
    };
    let query = Query { method: head.method.as_str(), authority: &authority, tls: head.tls, path, headers };
    router.find(&query).ok_or(Reason::NoRoute)
}
