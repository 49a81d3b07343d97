//! The caller that a key belongs to.
//!
//! In: the key of a request, the keys of the snapshot, the time. Out: a [`Caller`], or a refusal.
//! Invariant: an unknown, an expired and an orphaned key look the same to the caller (`Unauthorized`), in the answer and in
//! the work done. The anonymous consumer stands in for every failure when one is configured, as in Kong.

use hmac::KeyInit as _;
use hmac::block_api::HmacCore;
use hmac::digest::Output;
use hmac::digest::block_api::{Buffer, FixedOutputCore as _, UpdateCore as _};
use sha2::Sha256;

use super::credential::{Presented, Request, presented};
use super::recent::Recent;
use crate::refusal::{Reason, Refusal};
use crate::snapshot::{Anonymous, Consumer, Credential, Digest, Found, KeyAuth, Keys, Names, SnapshotError};

/// HMAC-SHA-256 under the gateway's secret, with its key schedule computed once, and the recently presented keys.
pub struct KeyHasher {
    /// The states after the padded secret. `Hmac`, which also carries a buffer for text that comes in pieces, costs a
    /// third more (docs/decisions/008-written-by-hand.md).
    keyed: HmacCore<Sha256>,
    recent: Recent,
}

impl KeyHasher {
    /// From the secret (`DATA/secret`).
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut block = [0; 64];
        block[..secret.len()].copy_from_slice(secret);
        // A key of a whole block: HMAC pads a shorter one with zeros.
        let keyed = HmacCore::new(&block.into());
        let seed = digest(&keyed, b"the keys of a moment ago");
        let (words, _) = seed.as_bytes().as_chunks::<8>();
        let recent = Recent::new([u64::from_le_bytes(words[0]), u64::from_le_bytes(words[1])]);
        Self { keyed, recent }
    }

    /// The digest of a key.
    pub fn digest(&self, key: &[u8]) -> Digest {
        digest(&self.keyed, key)
    }

    /// The holder of the key, if the key is valid at `now` (unix seconds).
    pub fn caller<'s>(&self, keys: &'s Keys, key: &[u8], now: u64) -> Option<Caller<'s>> {
        let mark = self.recent.mark(keys, key);
        if let Some(found) = self.recent.get(mark)
            && let Some(consumer) = keys.holder(&found)
        {
            return Some(Caller::holder(keys, consumer, found));
        }
        // Every refused key comes this way, so that each costs the same work.
        let (found, expires_at) = keys.locate(&self.digest(key))?;
        let consumer = keys.holder(&found)?;
        match expires_at {
            0 => self.recent.put(mark, &found),
            end if now >= end => return None,
            _ => {}
        }
        Some(Caller::holder(keys, consumer, found))
    }
}

fn digest(keyed: &HmacCore<Sha256>, key: &[u8]) -> Digest {
    let mut hmac = keyed.clone();
    let mut buffer = Buffer::<HmacCore<Sha256>>::default();
    buffer.digest_blocks(key, |blocks| hmac.update_blocks(blocks));
    let mut out = Output::<HmacCore<Sha256>>::default();
    hmac.finalize_fixed_core(&mut buffer, &mut out);
    Digest::new(out.into())
}

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher(..)")
    }
}

/// The caller, borrowed from the snapshot. The facts that decide about the request are at hand; names are read on demand.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'s> {
    /// `None` only on a request that needed no key (no authentication, preflight).
    pub consumer: Option<Consumer<'s>>,
    keys: &'s Keys,
    /// `None` for the anonymous consumer, and without a consumer.
    found: Option<Found>,
}

impl<'s> Caller<'s> {
    /// A caller on a route that asks for no key.
    pub const fn nobody(keys: &'s Keys) -> Self {
        Self { consumer: None, keys, found: None }
    }

    const fn holder(keys: &'s Keys, consumer: Consumer<'s>, found: Found) -> Self {
        Self { consumer: Some(consumer), keys, found: Some(found) }
    }

    /// The consumer's names; `None` without a consumer. An error when the snapshot's bytes are damaged.
    pub fn names(&self) -> Result<Option<Names<'s>>, SnapshotError> {
        let Some(consumer) = self.consumer else { return Ok(None) };
        let names = match &self.found {
            Some(found) => self.keys.holder_names(found),
            None => self.keys.names(consumer.n),
        };
        names.ok_or(DAMAGED).map(Some)
    }

    /// The credential of the request; `None` for the anonymous consumer, and without a consumer. Errors as in
    /// [`Caller::names`].
    pub fn credential(&self) -> Result<Option<Credential>, SnapshotError> {
        let Some(found) = &self.found else { return Ok(None) };
        self.keys.credential(found).ok_or(DAMAGED).map(Some)
    }
}

const DAMAGED: SnapshotError = SnapshotError::Base("a consumer is damaged");

/// Authenticates a request. `now` is unix seconds. A refusal with [`crate::refusal::Extra::Challenge`] carries
/// `WWW-Authenticate: <auth.challenge>`.
pub fn identify<'s>(
    auth: &KeyAuth,
    hasher: &KeyHasher,
    keys: &'s Keys,
    request: &Request<'_>,
    now: u64,
) -> Result<Caller<'s>, Refusal> {
    if !auth.run_on_preflight && request.method == "OPTIONS" {
        return Ok(Caller::nobody(keys));
    }
    let refused = match presented(auth, request) {
        Presented::None => Reason::NoApiKey,
        Presented::Duplicate => Reason::DuplicateApiKey,
        Presented::Key(key) => match hasher.caller(keys, &key, now) {
            Some(caller) => return Ok(caller),
            None => Reason::InvalidApiKey,
        },
    };
    match &auth.anonymous {
        Anonymous::Refused => Err(refused.into()),
        Anonymous::Missing(text) => Err(anonymous_missing(text)),
        Anonymous::Consumer(n) => match keys.consumer(*n) {
            Some(consumer) => Ok(Caller { consumer: Some(consumer), ..Caller::nobody(keys) }),
            None => Err(anonymous_missing(&n.to_string())),
        },
    }
}

fn anonymous_missing(text: &str) -> Refusal {
    Refusal::because(Reason::AnonymousMissing, format!("anonymous consumer {text} is configured but doesn't exist"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identify::credential::tests::auth;
    use crate::snapshot::{KeysBuilder, NewConsumer, Uuid, delta};
    use hmac::{Hmac, Mac as _};
    use proptest::prelude::*;
    use std::sync::Arc;

    fn hasher() -> KeyHasher {
        KeyHasher::new(&[7; 32])
    }

    fn keys() -> Keys {
        let mut builder = KeysBuilder::new();
        let id = Uuid::from_bytes([1; 16]);
        for (n, name) in [(1, "alice"), (2, "guest")] {
            builder
                .consumer(&NewConsumer {
                    n,
                    id,
                    username: Some(name),
                    custom_id: None,
                    refs: &[],
                    tier: 0,
                    groups: &[],
                })
                .unwrap();
        }
        let credential = |n, expires_at| Credential { n, id, consumer: 1, expires_at };
        builder.credential(credential(1, 0), hasher().digest(b"forever"));
        builder.credential(credential(2, 100), hasher().digest(b"until-100"));
        Keys::open(Arc::new(builder.finish(1).unwrap())).unwrap()
    }

    /// The caller, and whether the anonymous consumer stands in for it.
    fn call(auth: &KeyAuth, method: &str, key: Option<&str>, now: u64) -> Result<(Option<u32>, bool), Refusal> {
        let headers: Vec<_> = key.map(|k| ("apikey", k)).into_iter().collect();
        let request = Request { method, headers: &headers, query: "" };
        identify(auth, &hasher(), &keys(), &request, now)
            .map(|c| (c.consumer.map(|c| c.n), c.consumer.is_some() && c.credential().unwrap().is_none()))
    }

    #[test]
    fn known_keys_pass_and_others_look_alike() {
        let auth = auth(&["apikey"]);
        assert_eq!(call(&auth, "GET", Some("forever"), 1_000), Ok((Some(1), false)));
        assert_eq!(call(&auth, "GET", Some("until-100"), 99), Ok((Some(1), false)));
        assert_eq!(call(&auth, "GET", Some("until-100"), 100), Err(Reason::InvalidApiKey.into()));
        assert_eq!(call(&auth, "GET", Some("other"), 0), Err(Reason::InvalidApiKey.into()));
        assert_eq!(call(&auth, "GET", None, 0), Err(Reason::NoApiKey.into()));
    }

    #[test]
    fn a_recent_key_is_judged_by_the_keys_in_force() {
        let (auth, hasher, old) = (auth(&["apikey"]), hasher(), keys());
        let call = |keys: &Keys, key: &str, now| {
            let request = Request { method: "GET", headers: &[("apikey", key)], query: "" };
            identify(&auth, &hasher, keys, &request, now).map(|caller| caller.credential().unwrap().map(|c| c.n))
        };
        let unknown = Err(Reason::InvalidApiKey.into());
        for _ in 0..3 {
            assert_eq!(call(&old, "forever", 99), Ok(Some(1)));
            assert_eq!(call(&old, "until-100", 99), Ok(Some(2)));
            assert_eq!(call(&old, "until-100", 100), unknown);
            assert_eq!(call(&old, "other", 99), unknown);
        }
        let mut new = old.clone();
        let mut changes = delta::header(1).to_vec();
        let consumer = NewConsumer {
            n: 1,
            id: Uuid::from_bytes([1; 16]),
            username: Some("alice's new name"),
            custom_id: None,
            refs: &[],
            tier: 0,
            groups: &[],
        };
        delta::encode(&delta::Change::Consumer(consumer), &mut changes).unwrap();
        delta::encode(&delta::Change::CredentialGone(2), &mut changes).unwrap();
        new.apply(&changes).unwrap();
        for _ in 0..3 {
            assert_eq!(call(&new, "until-100", 99), unknown);
            let request = Request { method: "GET", headers: &[("apikey", "forever")], query: "" };
            let caller = identify(&auth, &hasher, &new, &request, 0).unwrap();
            assert_eq!(caller.names().unwrap().unwrap().username, Some("alice's new name"));
            // A request that still holds the keys of before is judged by those.
            assert_eq!(call(&old, "until-100", 99), Ok(Some(2)));
        }
    }

    #[test]
    fn preflight_passes_only_when_configured() {
        let mut auth = auth(&["apikey"]);
        assert_eq!(call(&auth, "OPTIONS", None, 0), Err(Reason::NoApiKey.into()));
        auth.run_on_preflight = false;
        assert_eq!(call(&auth, "OPTIONS", None, 0), Ok((None, false)));
        assert_eq!(call(&auth, "GET", None, 0), Err(Reason::NoApiKey.into()));
    }

    #[test]
    fn anonymous_stands_in_for_every_failure() {
        let mut auth = auth(&["apikey"]);
        auth.anonymous = Anonymous::Consumer(2);
        for key in [None, Some("other"), Some("until-100")] {
            assert_eq!(call(&auth, "GET", key, 100), Ok((Some(2), true)));
        }
        assert_eq!(call(&auth, "GET", Some("forever"), 100), Ok((Some(1), false)));
        for (anonymous, text) in [(Anonymous::Consumer(9), "9"), (Anonymous::Missing("ghost".into()), "ghost")] {
            auth.anonymous = anonymous;
            let refused = call(&auth, "GET", None, 0).unwrap_err();
            assert_eq!(refused.reason, Reason::AnonymousMissing);
            assert_eq!(refused.message(), format!("anonymous consumer {text} is configured but doesn't exist"));
        }
    }

    /// Key bases on disk hold digests: these come from another implementation (Python's `hmac`).
    #[test]
    fn digest_equals_the_bytes_on_disk() {
        for (length, digest) in [
            (0, "9dac6a74401b46ed9b489d0e19d68d1b13cc6b5090352fdcfa5bd74df4e69d87"),
            (55, "de4bbd58751954b3dc84e89d2f6974c10c667d7168c9ab14aa3a4302f220778a"),
            (64, "abe51e3cdfea363c26f0f43df0ae941eacb4c5eadfb2e56d4a6d6fef12e48b97"),
            (200, "d68131113e849ab6b4bdce93d54c88cfc01c98fe7aaa12f2b15f9417a2ded6a3"),
        ] {
            let made = hasher().digest(&vec![b'k'; length]);
            assert_eq!(base16ct::lower::encode_string(made.as_bytes()), digest, "length {length}");
        }
    }

    proptest! {
        #[test]
        fn digests_are_hmac_sha256(secret in any::<[u8; 32]>(), key in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut mac = Hmac::<Sha256>::new_from_slice(&secret).unwrap();
            mac.update(&key);
            let wanted: [u8; 32] = mac.finalize().into_bytes().into();
            prop_assert_eq!(*KeyHasher::new(&secret).digest(&key).as_bytes(), wanted);
        }
    }
}
