//! The one attempt of a request on Kong's routes.
//!
//! In: a head, its route, its service, its caller. Out: path and query ([`target`], which may refuse), then the whole attempt.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::Attempt;
use super::headers::{self, Bound, Identity};
use crate::balance::RouteTarget;
use crate::identify::hidden_query;
use crate::r#match::CanonicalPath;
use crate::r#match::upstream_path::upstream_path;
use crate::refusal::Reason;
use crate::request::Head;
use crate::snapshot::{KeyAuth, Route, Service};

/// Path and query of the request that goes upstream. `covered`: bytes of the path that the route matched. `hide`: the
/// key-auth whose keys are taken out of the query.
pub fn target(
    head: &Head,
    route: &Route,
    service: &Service,
    covered: usize,
    hide: Option<&KeyAuth>,
) -> Result<String, Reason> {
    let path = CanonicalPath::new(&head.path).map_err(|_| Reason::BadPath)?;
    let path = upstream_path(service.path.as_deref(), path, covered, route.strip_path).map_err(|_| Reason::BadPath)?;
    let query = hide.map_or(Cow::Borrowed(&*head.query), |auth| hidden_query(auth, &head.query));
    Ok(if query.is_empty() { path.into_owned() } else { format!("{path}?{query}") })
}

/// The attempt. `path` is [`target`]'s.
pub fn attempt(
    head: &Head,
    route: &Route,
    to: &RouteTarget,
    path: String,
    caller: (Option<&Identity>, Option<&KeyAuth>),
    covered: usize,
    body: Bytes,
) -> Attempt {
    let (identity, hide) = caller;
    let hide = hide.map_or(&[][..], |auth| &*auth.header_names);
    let stripped = (route.strip_path && covered > 1).then(|| head.path.get(..covered)).flatten();
    let host = if route.preserve_host { head.host() } else { &to.host };
    let headers = headers::kong(head, Bound { host, stripped, identity, hide });
    Attempt { upstream: None, origin: Arc::clone(&to.origin), target: path, headers, body }
}
