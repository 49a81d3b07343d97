//! A key's digest -> its credential and consumer, from a base under its delta.
//!
//! In: a base file's bytes, then delta bytes as they are published. Invariant: the delta wins over the base, and a
//! credential that the delta deleted stays hidden. Digests are compared over all 32 bytes in constant time. Keys never come
//! here, only their HMACs. The caller checks expiry: this module reads no clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::base::{Base, Bytes};
use super::class::Class;
use super::credential::{CHANGED, Credential, Digest, Found};
use super::delta::{self, Read};
use super::overlay::Overlay;
use super::record::{Consumer, Names, OWN_CLASS, Record};
use crate::snapshot::error::SnapshotError;

/// The next number for a content of [`Keys`]; 0 stands for empty keys.
static CONTENTS: AtomicU64 = AtomicU64::new(1);

/// All consumers and credentials of one generation. A clone is cheap and independent.
#[derive(Debug, Clone)]
pub struct Keys {
    /// A number that changes with every change; a clone keeps it.
    content: u64,
    base: Option<Base>,
    /// Bytes of the delta applied so far, header included.
    applied: usize,
    /// One consumer record by row number; `None`: deleted.
    consumers: Overlay<u32, Option<Arc<[u8]>>>,
    credentials: Overlay<Digest, Credential>,
    /// The digest of each changed credential by row number; `None`: deleted. The base's credential of that number is hidden.
    digests: Overlay<u32, Option<Digest>>,
}

impl Keys {
    /// Keys without consumers.
    pub const fn empty() -> Self {
        Self {
            content: 0,
            base: None,
            applied: 0,
            consumers: Overlay::new(),
            credentials: Overlay::new(),
            digests: Overlay::new(),
        }
    }

    /// A base without changes.
    pub fn open(base: Bytes) -> Result<Self, SnapshotError> {
        Ok(Self { content: next_content(), base: Some(Base::open(base)?), ..Self::empty() })
    }

    /// The number of the base; 0 without one.
    pub fn base_number(&self) -> u64 {
        self.base.as_ref().map_or(0, Base::number)
    }

    /// Bytes of the delta (header included) that are in force; the next [`Keys::apply`] starts there.
    pub const fn applied(&self) -> usize {
        self.applied
    }

    /// Applies the next bytes of the delta file: `bytes` are the file from offset [`Keys::applied`] to the published
    /// length. An error leaves `self` half-changed: apply to a clone, and drop the clone on an error.
    pub fn apply(&mut self, bytes: &[u8]) -> Result<(), SnapshotError> {
        self.content = next_content();
        let mut body = bytes;
        let mut at = self.applied;
        if at == 0 {
            delta::check_header(bytes, self.base_number())?;
            body = &bytes[delta::HEADER..];
            at = delta::HEADER;
        }
        for record in delta::records(body, at) {
            self.take(&record?);
        }
        self.applied += bytes.len();
        Ok(())
    }

    fn take(&mut self, change: &Read<'_>) {
        match *change {
            Read::Consumer(n, bytes) => {
                self.consumers.insert(n, Some(bytes.into()));
            }
            Read::ConsumerGone(n) => {
                self.consumers.insert(n, None);
            }
            Read::Credential(credential, digest) => {
                self.forget(credential.n, Some(digest));
                self.credentials.insert(digest, credential);
            }
            Read::CredentialGone(n) => self.forget(n, None),
        }
    }

    /// Credential `n` now has `digest`. Its earlier digest stops working, unless another credential has it now.
    fn forget(&mut self, n: u32, digest: Option<Digest>) {
        if let Some(Some(old)) = self.digests.insert(n, digest)
            && self.credentials.get(&old).is_some_and(|c| c.n == n)
        {
            self.credentials.remove(&old);
        }
    }

    /// A number that only keys with exactly this content have, in this process; 0 for empty keys.
    pub(crate) const fn content(&self) -> u64 {
        self.content
    }

    /// The credential with this digest, and its consumer. `None`: unknown, deleted, or without a consumer.
    pub fn find(&self, digest: &Digest) -> Option<(Credential, Consumer<'_>)> {
        let (found, _) = self.locate(digest)?;
        Some((self.credential(&found)?, self.holder(&found)?))
    }

    /// Where the key with this digest is found, and its expiry in unix seconds (0: never).
    pub(crate) fn locate(&self, digest: &Digest) -> Option<(Found, u64)> {
        if let Some(&Credential { n, consumer, expires_at, .. }) = self.credentials.get(digest) {
            let class = match self.consumers.get(&consumer) {
                Some(changed) => changed.as_ref().map(|_| OWN_CLASS)?,
                None => self.base.as_ref()?.consumer(consumer)?.class,
            };
            return Some((Found { consumer, credential: n | CHANGED, class }, expires_at));
        }
        let base = self.base.as_ref()?;
        let (position, credential) = base.find(digest)?;
        if self.digests.get(&credential.n).is_some() {
            return None;
        }
        let Record { n, class, .. } = base.record(credential.record)?;
        let class = match self.consumers.get(&n) {
            Some(changed) => changed.as_ref().map(|_| OWN_CLASS)?,
            None => class,
        };
        Some((Found { consumer: n, credential: position, class }, credential.expires_at))
    }

    /// The consumer of a `found` that keys with this content returned.
    #[inline]
    pub(crate) fn holder(&self, found: &Found) -> Option<Consumer<'_>> {
        if found.class == OWN_CLASS {
            return self.consumer(found.consumer);
        }
        Some(Consumer::new(found.consumer, self.class(found.class)?))
    }

    /// The credential of a `found` that keys with this content returned.
    pub(crate) fn credential(&self, found: &Found) -> Option<Credential> {
        if found.credential & CHANGED != 0 {
            let digest = self.digests.get(&(found.credential & !CHANGED))?.as_ref()?;
            return self.credentials.get(digest).copied();
        }
        let kept = self.base.as_ref()?.credential(found.credential)?;
        Some(Credential { n: kept.n, id: kept.id, consumer: found.consumer, expires_at: kept.expires_at })
    }

    /// The consumer's names of a `found` that keys with this content returned.
    pub(crate) fn holder_names(&self, found: &Found) -> Option<Names<'_>> {
        if found.class == OWN_CLASS || found.credential & CHANGED != 0 {
            return self.names(found.consumer);
        }
        let base = self.base.as_ref()?;
        base.record(base.credential(found.credential)?.record)?.names()
    }

    /// Consumer `n`.
    pub fn consumer(&self, n: u32) -> Option<Consumer<'_>> {
        let record = self.record(n)?;
        let class = if record.class == OWN_CLASS { record.own_class()? } else { self.class(record.class)? };
        Some(Consumer::new(n, class))
    }

    /// The names of consumer `n`.
    pub fn names(&self, n: u32) -> Option<Names<'_>> {
        self.record(n)?.names()
    }

    fn record(&self, n: u32) -> Option<Record<'_>> {
        match self.consumers.get(&n) {
            Some(changed) => Record::read(changed.as_deref()?),
            None => self.base.as_ref()?.consumer(n),
        }
    }

    fn class(&self, class: u32) -> Option<Class<'_>> {
        self.base.as_ref()?.class(class)
    }
}

fn next_content() -> u64 {
    CONTENTS.fetch_add(1, Ordering::Relaxed)
}
