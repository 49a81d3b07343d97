//! Whose key it is.
//!
//! In: what the caller presented, the keys of the snapshot, the time. Out: a [`Caller`], or a refusal.
//! Invariant: an unknown, an expired and an orphaned key look the same to the caller (`Unauthorized`), in text and in
//! the work that was done. The anonymous consumer stands in for every failure when one is configured, as in Kong.

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::credential::{Presented, Request, presented};
use crate::denial::{Reason, Refused};
use crate::snapshot::{Anonymous, Consumer, Credential, Digest, KeyAuth, Keys};

/// HMAC-SHA-256 under the gateway's secret, its key schedule computed once.
#[derive(Clone)]
pub struct KeyHasher(Hmac<Sha256>);

impl KeyHasher {
    /// From the secret (`DATA/secret`).
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut block = [0; 64];
        block[..32].copy_from_slice(secret);
        // A key of one block is used as it is; shorter ones are padded with zeros (RFC 2104), so this is the same HMAC.
        Self(Hmac::new(&block.into()))
    }

    /// The digest of a key.
    pub fn digest(&self, key: &[u8]) -> Digest {
        let mut mac = self.0.clone();
        mac.update(key);
        Digest::new(mac.finalize().into_bytes().into())
    }
}

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher(..)")
    }
}

/// Who calls. Borrowed from the snapshot; look it up again by `consumer.n` where a borrow cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'s> {
    /// `None` only where authentication was skipped (preflight).
    pub consumer: Option<Consumer<'s>>,
    /// `None` for the anonymous consumer and where authentication was skipped.
    pub credential: Option<Credential>,
    /// The anonymous consumer stands in: `X-Anonymous-Consumer: true`.
    pub anonymous: bool,
}

impl Caller<'_> {
    /// A caller on a route that asks for no key.
    pub const NOBODY: Caller<'static> = Caller { consumer: None, credential: None, anonymous: false };
}

/// Authenticates a request. `now` is unix seconds. A refusal with [`crate::denial::Extra::Challenge`] carries
/// `WWW-Authenticate: <auth.challenge>`.
pub fn identify<'s>(
    auth: &KeyAuth,
    hasher: &KeyHasher,
    keys: &'s Keys,
    request: &Request<'_>,
    now: u64,
) -> Result<Caller<'s>, Refused> {
    if !auth.run_on_preflight && request.method == "OPTIONS" {
        return Ok(Caller::NOBODY);
    }
    let refused = match presented(auth, request) {
        Presented::None => Reason::NoApiKey,
        Presented::Duplicate => Reason::DuplicateApiKey,
        Presented::Key(key) => match keys.find(&hasher.digest(&key)) {
            Some((credential, consumer)) if !credential.expired(now) => {
                return Ok(Caller { consumer: Some(consumer), credential: Some(credential), anonymous: false });
            }
            _ => Reason::InvalidApiKey,
        },
    };
    match &auth.anonymous {
        Anonymous::Refused => Err(refused.into()),
        Anonymous::Missing(text) => Err(anonymous_missing(text)),
        Anonymous::Consumer(n) => match keys.consumer(*n) {
            Some(consumer) => Ok(Caller { consumer: Some(consumer), credential: None, anonymous: true }),
            None => Err(anonymous_missing(&n.to_string())),
        },
    }
}

fn anonymous_missing(text: &str) -> Refused {
    Refused::because(Reason::AnonymousMissing, format!("anonymous consumer {text} is configured but doesn't exist"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::identify::credential::tests::auth;
    use crate::snapshot::{KeysBuilder, NewConsumer, Uuid};
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

    fn call(auth: &KeyAuth, method: &str, key: Option<&str>, now: u64) -> Result<(Option<u32>, bool), Refused> {
        let headers: Vec<_> = key.map(|k| ("apikey", k)).into_iter().collect();
        let request = Request { method, headers: &headers, query: "" };
        identify(auth, &hasher(), &keys(), &request, now).map(|c| (c.consumer.map(|c| c.n), c.anonymous))
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
