//! A credential: the digest of its key, its numbers, its expiry.
//!
//! Digests are compared over all 32 bytes in constant time. The key itself never comes here, only its HMAC.

use std::fmt;
use std::hash::{Hash, Hasher};

use subtle::ConstantTimeEq as _;

use crate::snapshot::uuid::Uuid;

/// HMAC-SHA-256 of a key. Equality takes the same time wherever two digests differ.
#[derive(Clone, Copy)]
pub struct Digest([u8; 32]);

impl Digest {
    /// From its bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// From exactly 32 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// A uniformly distributed word, made of the bytes that the base's fingerprint does not use. All of them count, so that
    /// digests that a test made up (`000...1`, `000...2`) do not meet in one slot.
    pub(super) fn word(&self) -> u64 {
        let (words, _) = self.0.as_chunks::<8>();
        let all = [0, 2, 3].into_iter().fold(0, |all, at| all ^ u64::from_le_bytes(words[at]));
        (all ^ all >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl PartialEq for Digest {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Digest {}

impl Hash for Digest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.word());
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(..)")
    }
}

/// A credential without its digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Credential {
    /// Row number.
    pub n: u32,
    /// Entity id: `X-Credential-Identifier`.
    pub id: Uuid,
    /// Row number of its consumer.
    pub consumer: u32,
    /// Unix seconds from which it is no longer valid; 0: never expires.
    pub expires_at: u64,
}

/// The highest row number of a credential.
pub const MAX_CREDENTIAL: u32 = CHANGED - 1;

/// In [`Found::credential`]: the rest is a row number in the changes, not a position in the base.
pub(crate) const CHANGED: u32 = 1 << 31;

/// Where a key was found, in three words. Valid only with the keys that returned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Row number of the consumer.
    pub consumer: u32,
    /// Position of the credential in the base, or its row number with [`CHANGED`] set.
    pub credential: u32,
    /// Position of the consumer's class in the base; `OWN_CLASS`: look the consumer up by its number.
    pub class: u32,
}
