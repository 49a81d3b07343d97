//! The caller of a request on `/v1`: its key, its consumer, its tier.
//!
//! In: a head, the keys of the snapshot, the time. Out: a [`KeyHolder`], or a refusal. An unknown, an expired and an orphaned
//! key look the same.

use super::credential::{Presented, bearer};
use super::keytable::KeyHasher;
use crate::refusal::{Reason, Refusal, openai};
use crate::request::Head;
use crate::snapshot::{Keys, Uuid};

/// The caller of a request on `/v1`. Every caller there has a key.
#[derive(Debug, Clone, Copy)]
pub struct KeyHolder {
    /// The consumer's id.
    pub id: Uuid,
    /// The consumer's row number.
    pub consumer: u32,
    /// The credential's row number.
    pub credential: u32,
    /// The credential's id.
    pub credential_id: Uuid,
    /// Row number of the consumer's tier; 0: the default tier.
    pub tier: u32,
}

/// The caller of a request. `now` is unix seconds.
pub fn key_holder(hasher: &KeyHasher, keys: &Keys, head: &Head, now: u64) -> Result<KeyHolder, Refusal> {
    let key = match bearer(head.headers.iter()) {
        Presented::Key(key) => key,
        Presented::None => return Err(openai::unauthorized(Reason::NoApiKey)),
        Presented::Duplicate => return Err(openai::unauthorized(Reason::DuplicateApiKey)),
    };
    let known = || {
        let caller = hasher.caller(keys, &key, now)?;
        let (consumer, credential, names) = (caller.consumer?, caller.credential().ok()??, caller.names().ok()??);
        let (id, tier) = (names.id, consumer.tier);
        Some(KeyHolder { id, consumer: consumer.n, credential: credential.n, credential_id: credential.id, tier })
    };
    known().ok_or_else(|| openai::unauthorized(Reason::InvalidApiKey))
}
