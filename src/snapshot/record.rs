//! A consumer as bytes: one encoding, in the base and in the delta.
//!
//! ```text
//! n 4, username length 2, custom_id length 2 (65535: none), refs 2, groups 2, id 16, tier 4,
//! username, custom_id, refs 16 each, groups (length 2, name)
//! ```
//! In: a [`NewConsumer`]. Out: bytes; and from bytes a [`Consumer`] that borrows them. Invariant: what [`encode`] wrote,
//! [`Consumer::read`] reads back; bytes that are no record read as `None`.

use super::layout::{u16_at, u32_at};
use super::{SnapshotError, Uuid};

const FIXED: usize = 32;
const REF: usize = 16;
const NONE: u16 = u16::MAX;

/// The kinds of plugin that a consumer can have of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PluginKind {
    /// rate-limiting.
    RateLimiting = 0,
    /// request-size-limiting.
    SizeLimiting = 1,
}

/// A plugin instance of the consumer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ref {
    /// Row number of the route it is bound to, or 0.
    pub route: u32,
    /// Row number of the service it is bound to, or 0.
    pub service: u32,
    /// Which list the profile is in ([`PluginKind`]).
    pub kind: u32,
    /// Index of the profile in its kind's list.
    pub profile: u32,
}

/// A consumer to be written.
#[derive(Debug, Clone, Copy)]
pub struct NewConsumer<'a> {
    /// Row number, from 1.
    pub n: u32,
    /// Entity id.
    pub id: Uuid,
    /// Kong's `username`.
    pub username: Option<&'a str>,
    /// Kong's `custom_id`.
    pub custom_id: Option<&'a str>,
    /// Its own plugin instances.
    pub refs: &'a [Ref],
    /// Row number of its tier, 0 for none.
    pub tier: u32,
    /// Names of its groups.
    pub groups: &'a [&'a str],
}

/// A consumer, borrowed from the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Consumer<'s> {
    /// Row number.
    pub n: u32,
    /// Entity id: `X-Consumer-ID`.
    pub id: Uuid,
    /// `X-Consumer-Username`.
    pub username: Option<&'s str>,
    /// `X-Consumer-Custom-ID`.
    pub custom_id: Option<&'s str>,
    /// Its own plugin instances.
    pub refs: Refs<'s>,
    /// Row number of its tier, 0 for none.
    pub tier: u32,
    /// Its groups.
    pub groups: Groups<'s>,
}

/// The plugin instances of one consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refs<'s>(&'s [u8]);

/// The groups of one consumer: so many, then their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups<'s>(u16, &'s [u8]);

impl<'s> Consumer<'s> {
    /// Reads the record that `bytes` begin with.
    pub(super) fn read(bytes: &'s [u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        let id = Uuid::from_bytes(*fixed[12..28].first_chunk()?);
        let mut rest = &bytes[FIXED..];
        let username = text(&mut rest, u16_at(fixed, 4)?)?;
        let custom_id = text(&mut rest, u16_at(fixed, 6)?)?;
        let (refs, rest) = rest.split_at_checked(usize::from(u16_at(fixed, 8)?) * REF)?;
        let groups = Groups(u16_at(fixed, 10)?, rest);
        Some(Self { n: u32_at(fixed, 0)?, id, username, custom_id, refs: Refs(refs), tier: u32_at(fixed, 28)?, groups })
    }
}

/// Takes a text of this length off the front; the outer `None` is "no record".
#[allow(clippy::option_option)]
fn text<'s>(rest: &mut &'s [u8], len: u16) -> Option<Option<&'s str>> {
    if len == NONE {
        return Some(None);
    }
    let (text, after) = rest.split_at_checked(usize::from(len))?;
    *rest = after;
    Some(Some(std::str::from_utf8(text).ok()?))
}

impl<'s> Refs<'s> {
    /// No instances.
    pub const fn empty() -> Self {
        Self(&[])
    }

    /// In the order they were written.
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

    /// In the order they were written. Damaged bytes end it.
    pub fn iter(self) -> impl Iterator<Item = &'s str> {
        let mut rest = self.1;
        (0..self.0).map_while(move |_| {
            let length = u16_at(rest, 0)?;
            rest = rest.get(2..)?;
            text(&mut rest, length)?
        })
    }
}

/// Appends the record.
pub(super) fn encode(consumer: &NewConsumer<'_>, out: &mut Vec<u8>) -> Result<(), SnapshotError> {
    let refuse = |why| SnapshotError::Record { kind: "consumer", n: consumer.n, why };
    let len = |text: Option<&str>| match text {
        None => Ok(NONE),
        Some(text) => {
            u16::try_from(text.len()).ok().filter(|&l| l != NONE).ok_or(refuse("a name is longer than 65534 bytes"))
        }
    };
    if consumer.n == 0 {
        return Err(refuse("n starts at 1"));
    }
    let refs = u16::try_from(consumer.refs.len()).map_err(|_| refuse("more than 65535 plugin instances"))?;
    out.extend_from_slice(&consumer.n.to_le_bytes());
    out.extend_from_slice(&len(consumer.username)?.to_le_bytes());
    out.extend_from_slice(&len(consumer.custom_id)?.to_le_bytes());
    let groups = u16::try_from(consumer.groups.len()).map_err(|_| refuse("more than 65535 groups"))?;
    for group in consumer.groups {
        len(Some(group))?;
    }
    out.extend_from_slice(&refs.to_le_bytes());
    out.extend_from_slice(&groups.to_le_bytes());
    out.extend_from_slice(consumer.id.as_bytes());
    out.extend_from_slice(&consumer.tier.to_le_bytes());
    for text in [consumer.username, consumer.custom_id].into_iter().flatten() {
        out.extend_from_slice(text.as_bytes());
    }
    for Ref { route, service, kind, profile } in consumer.refs {
        for field in [route, service, kind, profile] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    for group in consumer.groups {
        out.extend_from_slice(&len(Some(group))?.to_le_bytes());
        out.extend_from_slice(group.as_bytes());
    }
    Ok(())
}
