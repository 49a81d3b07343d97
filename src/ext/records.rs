//! Records of consumers and credentials: Python's tuples, in the order of the stub, as values of the snapshot.

use aigw_core::snapshot::{Credential, Digest, NewConsumer, Ref, Uuid, parse_uuid};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};

use crate::errors::value_error;

/// (n, id, username, custom id, [(route n or 0, service n or 0, kind, profile)], tier n or 0, [group])
pub(crate) type ConsumerTuple =
    (u32, PyBackedStr, Option<PyBackedStr>, Option<PyBackedStr>, Vec<(u32, u32, u32, u32)>, u32, Vec<PyBackedStr>);
/// (n, id, consumer n, hmac, `expires_at`)
pub(crate) type CredentialTuple = (u32, PyBackedStr, u32, PyBackedBytes, u64);

pub(crate) fn uuid(what: &str, text: &str) -> PyResult<Uuid> {
    parse_uuid(text).ok_or_else(|| value_error(format!("{what}: {text:?} is not a UUID")))
}

pub(crate) fn refs(tuples: &[(u32, u32, u32, u32)]) -> Vec<Ref> {
    tuples.iter().map(|&(route, service, kind, profile)| Ref { route, service, kind, profile }).collect()
}

pub(crate) fn groups(names: &[PyBackedStr]) -> Vec<&str> {
    names.iter().map(|name| &**name).collect()
}

pub(crate) fn consumer<'a>(
    tuple: &'a ConsumerTuple,
    refs: &'a [Ref],
    groups: &'a [&'a str],
) -> PyResult<NewConsumer<'a>> {
    let (n, id, username, custom_id, _, tier, _) = tuple;
    let id = uuid("consumer", id)?;
    let (username, custom_id) = (username.as_deref(), custom_id.as_deref());
    Ok(NewConsumer { n: *n, id, username, custom_id, refs, tier: *tier, groups })
}

pub(crate) fn with_consumer(tuple: &ConsumerTuple, take: impl FnOnce(NewConsumer<'_>) -> PyResult<()>) -> PyResult<()> {
    take(consumer(tuple, &refs(&tuple.4), &groups(&tuple.6))?)
}

pub(crate) fn credential((n, id, consumer, hmac, expires_at): &CredentialTuple) -> PyResult<(Credential, Digest)> {
    let id = uuid("credential", id)?;
    Ok((Credential { n: *n, id, consumer: *consumer, expires_at: *expires_at }, digest(*n, hmac)?))
}

/// The HMAC of credential `n`.
pub(crate) fn digest(n: u32, hmac: &[u8]) -> PyResult<Digest> {
    Digest::from_slice(hmac).ok_or_else(|| value_error(format!("credential {n}: its hmac is not 32 bytes")))
}
