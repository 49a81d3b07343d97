//! A consumer as bytes: one encoding, in the base and in the delta.
//!
//! ```text
//! n 4, class / 8 4, username length 2, custom_id length 2 (65535: none), id 16, username, custom_id
//! ```
//! The class is a position in the base; 4294967295 says that the class stands behind the names.
//! In: a [`NewConsumer`]. Out: bytes; and from bytes a [`Consumer`] that borrows them. Invariant: [`Record::read`] returns
//! the values that [`encode`] wrote; other bytes read as `None`.

use super::bytes::{length, text, u16_at, u32_at};
use super::class::{self, Class, Groups, Refs};
use super::consumer::NewConsumer;
use crate::snapshot::error::SnapshotError;
use crate::snapshot::uuid::Uuid;

const FIXED: usize = 28;
/// The class stands behind the names.
pub(crate) const OWN_CLASS: u32 = u32::MAX;

/// A consumer, borrowed from the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumer<'s> {
    /// Row number.
    pub n: u32,
    /// Its own plugin instances.
    pub refs: Refs<'s>,
    /// Row number of its tier, 0 for none.
    pub tier: u32,
    /// Its groups.
    pub groups: Groups<'s>,
}

/// The names of a consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Names<'s> {
    /// Entity id: `X-Consumer-ID`.
    pub id: Uuid,
    /// `X-Consumer-Username`.
    pub username: Option<&'s str>,
    /// `X-Consumer-Custom-ID`.
    pub custom_id: Option<&'s str>,
}

/// The head of a record, and its bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Record<'s> {
    pub n: u32,
    /// Position of its class, or [`OWN_CLASS`].
    pub class: u32,
    bytes: &'s [u8],
}

impl<'s> Consumer<'s> {
    pub(super) const fn new(n: u32, Class { tier, refs, groups }: Class<'s>) -> Self {
        Self { n, refs, tier, groups }
    }
}

impl<'s> Record<'s> {
    /// Reads the head of the record at the start of `bytes`.
    #[inline]
    pub(super) fn read(bytes: &'s [u8]) -> Option<Self> {
        Some(Self { n: u32_at(bytes, 0)?, class: u32_at(bytes, 4)?, bytes })
    }

    pub(super) fn names(&self) -> Option<Names<'s>> {
        self.split().map(|(names, _)| names)
    }

    /// The class behind the names; `None` when the record names a position in the base.
    pub(super) fn own_class(&self) -> Option<Class<'s>> {
        if self.class != OWN_CLASS {
            return None;
        }
        Class::read(self.split()?.1)
    }

    fn split(&self) -> Option<(Names<'s>, &'s [u8])> {
        let (fixed, mut rest) = self.bytes.split_at_checked(FIXED)?;
        let id = Uuid::from_bytes(*fixed[12..].first_chunk()?);
        let username = text(&mut rest, u16_at(fixed, 8)?)?;
        let custom_id = text(&mut rest, u16_at(fixed, 10)?)?;
        Some((Names { id, username, custom_id }, rest))
    }
}

/// Appends the record. `class` is the position of its class in the base; `None` appends the class as well.
pub(super) fn encode(consumer: &NewConsumer<'_>, class: Option<u32>, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
    let NewConsumer { n, id, username, custom_id, refs: _, tier: _, groups: _ } = *consumer;
    if n == 0 {
        return Err(SnapshotError::Record { kind: "consumer", n, why: "n starts at 1" });
    }
    let lengths = [length(n, username)?, length(n, custom_id)?];
    out.extend_from_slice(&n.to_le_bytes());
    out.extend_from_slice(&class.unwrap_or(OWN_CLASS).to_le_bytes());
    for length in lengths {
        out.extend_from_slice(&length.to_le_bytes());
    }
    out.extend_from_slice(id.as_bytes());
    for text in [username, custom_id].into_iter().flatten() {
        out.extend_from_slice(text.as_bytes());
    }
    if class.is_none() {
        class::encode(consumer, out)?;
    }
    Ok(())
}
