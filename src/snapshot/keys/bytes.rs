//! Numbers and texts in the key files: little-endian numbers, texts of at most 65,534 bytes.
//!
//! Every read is bounds-checked: bytes that end too early read as `None`.

use crate::snapshot::error::SnapshotError;

/// The length of an absent text.
const NONE: u16 = u16::MAX;

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Takes a text of this length off the front; the outer `None` is "no record".
#[allow(clippy::option_option)]
pub(super) fn text<'s>(rest: &mut &'s [u8], len: u16) -> Option<Option<&'s str>> {
    if len == NONE {
        return Some(None);
    }
    let (text, after) = rest.split_at_checked(usize::from(len))?;
    *rest = after;
    Some(Some(std::str::from_utf8(text).ok()?))
}

/// The length of a text as it is written.
pub(super) fn length(n: u32, text: Option<&str>) -> Result<u16, SnapshotError> {
    let Some(text) = text else { return Ok(NONE) };
    let why = "a name is longer than 65534 bytes";
    let fits = u16::try_from(text.len()).ok().filter(|&len| len != NONE);
    fits.ok_or(SnapshotError::Record { kind: "consumer", n, why })
}
