//! A consumer as bytes: one encoding, in the base and in the delta.
//!
//! ```text
//! n 4, username length 2, custom_id length 2 (65535: none), refs 2, padding 2, id 16, username, custom_id, refs 12 each
//! ```
//! In: a [`NewConsumer`]. Out: bytes; and from bytes a [`Consumer`] that borrows them. Invariant: what [`encode`] wrote,
//! [`Consumer::read`] reads back; bytes that are no record read as `None`.

use super::layout::{u16_at, u32_at};
use super::{SnapshotError, Uuid};

const FIXED: usize = 28;
const REF: usize = 12;
const NONE: u16 = u16::MAX;

/// A plugin instance of the consumer's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ref {
    /// Row number of the route it is bound to, or 0.
    pub route: u32,
    /// Row number of the service it is bound to, or 0.
    pub service: u32,
    /// Index of the rate-limiting profile.
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
}

/// The plugin instances of one consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refs<'s>(&'s [u8]);

impl<'s> Consumer<'s> {
    /// Reads the record that `bytes` begin with.
    pub(super) fn read(bytes: &'s [u8]) -> Option<Self> {
        let fixed = bytes.get(..FIXED)?;
        let id = Uuid::from_bytes(*fixed[12..].first_chunk()?);
        let mut rest = &bytes[FIXED..];
        let username = text(&mut rest, u16_at(fixed, 4)?)?;
        let custom_id = text(&mut rest, u16_at(fixed, 6)?)?;
        let refs = Refs(rest.get(..usize::from(u16_at(fixed, 8)?) * REF)?);
        Some(Self { n: u32_at(fixed, 0)?, id, username, custom_id, refs })
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
            Ref { route: field(0), service: field(4), profile: field(8) }
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
    out.extend_from_slice(&refs.to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(consumer.id.as_bytes());
    for text in [consumer.username, consumer.custom_id].into_iter().flatten() {
        out.extend_from_slice(text.as_bytes());
    }
    for Ref { route, service, profile } in consumer.refs {
        for field in [route, service, profile] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    Ok(())
}
