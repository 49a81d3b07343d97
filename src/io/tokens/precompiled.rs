//! The longest replacement in the character map of a `SentencePiece` model.
//!
//! In: a map as base64: the length of a trie, the trie, then replacements, each ended by a zero. Out: bytes of the longest one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// `None`: the text is no map.
pub(super) fn longest(map: &str) -> Option<u64> {
    let bytes = STANDARD.decode(map).ok()?;
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let replacements = rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)?;
    replacements.split(|byte| *byte == 0).map(|one| one.len() as u64).max()
}
