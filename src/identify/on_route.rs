//! The caller of a request on Kong's routes.

use super::credential::Request;
use super::keytable::{Caller, KeyHasher, identify};
use crate::refusal::{Extra, Refusal};
use crate::request::Head;
use crate::snapshot::{KeyAuth, Keys};

/// The caller under a route's key-auth; an empty one on a route without. `headers` are the pairs of the head, `now` unix
/// seconds.
pub fn on_route<'s>(
    auth: Option<&KeyAuth>,
    hasher: &KeyHasher,
    keys: &'s Keys,
    head: &Head,
    headers: &[(&str, &str)],
    now: u64,
) -> Result<Caller<'s>, Refusal> {
    let Some(auth) = auth else { return Ok(Caller::nobody(keys)) };
    let request = Request { method: head.method.as_str(), headers, query: &head.query };
    identify(auth, hasher, keys, &request, now).map_err(|refusal| match refusal.reason.row().extra {
        Extra::Challenge => refusal.with(vec![("www-authenticate", auth.challenge.to_string().into())]),
        _ => refusal,
    })
}
