//! The part of a consumer that decides about its requests, as bytes: tier, own plugin instances, groups.
//!
//! ```text
//! tier 4, refs 2, groups 2, refs 16 each, groups (length 2, name)
//! ```
//! In a base all consumers with the same tier, instances and groups share one class, so the decisions for a hundred thousand
//! consumers read a few lines of memory. Invariant: [`Class::read`] returns the values that [`encode`] wrote; other bytes
//! read as `None`.

use super::bytes::{length, text, u16_at, u32_at};
use super::consumer::{NewConsumer, Ref};
use crate::snapshot::error::SnapshotError;

const FIXED: usize = 8;
const REF: usize = 16;

/// The values that consumers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Class<'s> {
    pub tier: u32,
    pub refs: Refs<'s>,
    pub groups: Groups<'s>,
}

/// The plugin instances of one consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refs<'s>(&'s [u8]);

/// The groups of one consumer: their count, then their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups<'s>(u16, &'s [u8]);

impl<'s> Class<'s> {
    /// Reads the class at the start of `bytes`.
    #[inline]
    pub(super) fn read(bytes: &'s [u8]) -> Option<Self> {
        let (fixed, rest) = bytes.split_at_checked(FIXED)?;
        let (refs, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 4)?) * REF)?;
        Some(Self { tier: u32_at(fixed, 0)?, refs: Refs(refs), groups: Groups(u16_at(fixed, 6)?, rest) })
    }
}

impl<'s> Refs<'s> {
    /// No instances.
    pub const fn empty() -> Self {
        Self(&[])
    }

    /// The instances in the order of the write.
    pub fn iter(self) -> impl Iterator<Item = Ref> + 's {
        let (records, _) = self.0.as_chunks::<REF>();
        records.iter().map(|record| {
            let field = |at| u32_at(record, at).unwrap_or(0);
            Ref { route: field(0), service: field(4), kind: field(8), profile: field(12) }
        })
    }
}

impl<'s> Groups<'s> {
    /// No groups.
    pub const fn none() -> Self {
        Self(0, &[])
    }

    /// The groups in the order of the write. Damaged bytes end the iteration.
    pub fn iter(self) -> impl Iterator<Item = &'s str> {
        let mut rest = self.1;
        (0..self.0).map_while(move |_| {
            let length = u16_at(rest, 0)?;
            rest = rest.get(2..)?;
            text(&mut rest, length)?
        })
    }
}

/// Appends the class of a consumer.
pub(super) fn encode(consumer: &NewConsumer<'_>, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
    let refuse = |why| SnapshotError::Record { kind: "consumer", n: consumer.n, why };
    let refs = u16::try_from(consumer.refs.len()).map_err(|_| refuse("more than 65535 plugin instances"))?;
    let groups = u16::try_from(consumer.groups.len()).map_err(|_| refuse("more than 65535 groups"))?;
    let lengths = consumer.groups.iter().map(|group| length(consumer.n, Some(group))).collect::<Result<Vec<_>, _>>()?;
    out.extend_from_slice(&consumer.tier.to_le_bytes());
    out.extend_from_slice(&refs.to_le_bytes());
    out.extend_from_slice(&groups.to_le_bytes());
    for Ref { route, service, kind, profile } in consumer.refs {
        for field in [route, service, kind, profile] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    for (group, length) in consumer.groups.iter().zip(lengths) {
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(group.as_bytes());
    }
    Ok(())
}
