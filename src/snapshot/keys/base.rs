//! The bytes of a key base: its layout, and reads without copies and without panics.
//!
//! ```text
//! header 128 | classes | each consumer: its credentials 64 each, its record | consumer index 8 each | slots 8 each
//! credential: hmac 32, id 16, n 4, consumer record / 8 4, expires 8
//! index:      consumer n 4, record / 8 4, ascending by n          slot: fingerprint 4, credential / 8 + 1 4
//! ```
//! Classes, credentials and records are 8-aligned; their positions count from the end of the header. A credential stands
//! right before its consumer's record, so a random key costs two trips to memory: its slot, and the lines with both.
//! Numbers are little-endian. Invariant: [`Base::open`] checks the header's own hash and that all regions fill the file
//! exactly; every later read is bounds-checked, and a failed read is "not found": the caller is refused.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::bytes::{u32_at, u64_at};
use super::class::Class;
use super::credential::Digest;
use super::record::Record;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::uuid::Uuid;

pub(super) const MAGIC: &[u8; 8] = b"AIGWKEYS";
pub(super) const VERSION: u64 = 4;
pub(super) const HEADER: usize = 128;
pub(super) const CREDENTIAL: usize = 64;
pub(super) const INDEX: usize = 8;
pub(super) const SLOT: usize = 8;

/// Bytes that do not change: a mapping, or memory.
pub type Bytes = Arc<dyn AsRef<[u8]> + Send + Sync>;

/// The fields of a header, in file order after the magic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub number: u64,
    pub consumers: u64,
    pub credentials: u64,
    pub slots: u64,
    pub bodies_len: u64,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        out[..8].copy_from_slice(MAGIC);
        let fields = [VERSION, self.number, self.consumers, self.credentials, self.slots, self.bodies_len];
        for (at, field) in (8..).step_by(8).zip(fields) {
            out[at..at + 8].copy_from_slice(&field.to_le_bytes());
        }
        let hash = Sha256::digest(&out[..56]);
        out[56..88].copy_from_slice(&hash);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let header = bytes.get(..HEADER).ok_or(SnapshotError::Base("shorter than its header"))?;
        if &header[..8] != MAGIC {
            return Err(SnapshotError::Base("not a key base"));
        }
        if header[56..88] != *Sha256::digest(&header[..56]) {
            return Err(SnapshotError::Base("damaged header"));
        }
        let field = |index: usize| u64_at(header, 8 + index * 8).unwrap_or(0);
        if field(0) != VERSION {
            return Err(SnapshotError::Base("written by another version"));
        }
        Ok(Self { number: field(1), consumers: field(2), credentials: field(3), slots: field(4), bodies_len: field(5) })
    }
}

/// A key base over borrowed bytes.
#[derive(Clone)]
pub(super) struct Base {
    bytes: Bytes,
    number: u64,
    consumers: usize,
    credentials: usize,
    slots: usize,
    index_at: usize,
    slots_at: usize,
}

/// A credential as the base holds it.
pub(super) struct BaseCredential {
    pub n: u32,
    pub id: Uuid,
    pub expires_at: u64,
    /// Position of its consumer's record.
    pub record: u32,
}

impl Base {
    pub(super) fn open(bytes: Bytes) -> Result<Self, SnapshotError> {
        let file: &[u8] = (*bytes).as_ref();
        let header = Header::decode(file)?;
        let broken = || SnapshotError::Base("its regions do not fit its length");
        let size = |n: u64| usize::try_from(n).map_err(|_| broken());
        let (consumers, credentials) = (size(header.consumers)?, size(header.credentials)?);
        let (slots, bodies_len) = (size(header.slots)?, size(header.bodies_len)?);
        let region = |at: usize, count: usize, each: usize| {
            count.checked_mul(each).and_then(|len| at.checked_add(len)).ok_or_else(broken)
        };
        let index_at = region(HEADER, bodies_len, 1)?;
        let slots_at = region(index_at, consumers, INDEX)?;
        if region(slots_at, slots, SLOT)? != file.len() || slots <= credentials {
            return Err(broken());
        }
        Ok(Self { bytes, number: header.number, consumers, credentials, slots, index_at, slots_at })
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    fn file(&self) -> &[u8] {
        (*self.bytes).as_ref()
    }

    /// The credential with exactly this digest, and its position.
    pub(super) fn find(&self, digest: &Digest) -> Option<(u32, BaseCredential)> {
        let file = self.file();
        let mut slot = home(digest, self.slots);
        let wanted = fingerprint(digest);
        // There are more slots than credentials, so an empty one ends every probe.
        for _ in 0..self.slots {
            let at = self.slots_at + slot * SLOT;
            let position = u32_at(file, at + 4)?.checked_sub(1)?;
            if u32_at(file, at)? == wanted && Digest::from_slice(self.body(position)?.get(..32)?)? == *digest {
                return Some((position, self.credential(position)?));
            }
            slot = if slot + 1 == self.slots { 0 } else { slot + 1 };
        }
        None
    }

    /// The credential at this position.
    pub(super) fn credential(&self, position: u32) -> Option<BaseCredential> {
        let bytes: &[u8; CREDENTIAL] = self.body(position)?.first_chunk()?;
        Some(BaseCredential {
            n: u32_at(bytes, 48)?,
            id: Uuid::from_bytes(*bytes[32..].first_chunk()?),
            expires_at: u64_at(bytes, 56)?,
            record: u32_at(bytes, 52)?,
        })
    }

    /// The class at this position.
    #[inline]
    pub(super) fn class(&self, position: u32) -> Option<Class<'_>> {
        Class::read(self.body(position)?)
    }

    /// The consumer record at this position.
    #[inline]
    pub(super) fn record(&self, position: u32) -> Option<Record<'_>> {
        Record::read(self.body(position)?)
    }

    /// The bytes from a position on; class, credential and record know their own lengths.
    #[inline]
    fn body(&self, position: u32) -> Option<&[u8]> {
        self.file().get(HEADER + position as usize * 8..self.index_at)
    }

    /// The record of consumer `n`. Numbers are dense, so its index is `n - first` less the holes before it.
    pub(super) fn consumer(&self, n: u32) -> Option<Record<'_>> {
        let file = self.file();
        let number = |index: usize| u32_at(file, self.index_at + index * INDEX);
        let first = number(0).filter(|_| self.consumers > 0)?;
        let mut high = (n.checked_sub(first)? as usize).min(self.consumers - 1);
        let mut low = 0;
        if number(high)? != n {
            while low < high {
                let middle = low + (high - low) / 2;
                if number(middle)? < n { low = middle + 1 } else { high = middle }
            }
            if number(high)? != n {
                return None;
            }
        }
        self.record(u32_at(file, self.index_at + high * INDEX + 4)?)
    }
}

impl fmt::Debug for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Base({}: {} consumers, {} credentials)", self.number, self.consumers, self.credentials)
    }
}

/// Slots for so many credentials: load 5/8, and always one empty.
pub(super) const fn slots_for(credentials: usize) -> usize {
    credentials + credentials * 3 / 5 + 1
}

/// The slot where the probe for this digest starts: the high bits scaled to the number of slots.
pub(super) fn home(digest: &Digest, slots: usize) -> usize {
    let scaled = (u128::from(digest.word()) * slots as u128) >> 64;
    // The product of a u64 and `slots`, shifted by 64, is below `slots`.
    usize::try_from(scaled).unwrap_or(0)
}

/// Bits of the digest that do not choose the slot.
pub(super) fn fingerprint(digest: &Digest) -> u32 {
    u32_at(digest.as_bytes(), 8).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_spreads_made_up_digests() {
        let (count, slots) = (10_000_u64, slots_for(10_000));
        let made_up = |n: u64, at: usize| {
            let mut bytes = [0; 32];
            bytes[at..at + 8].copy_from_slice(&n.to_be_bytes());
            home(&Digest::new(bytes), slots)
        };
        for at in [0, 16, 24] {
            let homes: std::collections::HashSet<_> = (0..count).map(|n| made_up(n, at)).collect();
            assert!(homes.len() > 4_000, "{at}: {}", homes.len());
        }
    }
}
