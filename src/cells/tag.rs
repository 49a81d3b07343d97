//! The name of an open counter: a keyed 64-bit hash of (column, identifier).
//!
//! SipHash-1-3 under a random key that never leaves the machine: callers choose their identifiers (addresses,
//! header values), and without the key they cannot choose two that meet. If two ever do, they share one count,
//! which is too strict for both and too loose for none. The identifier itself is not kept.

use crate::sip;

/// The hash. Never 0, which marks an entry without an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub(super) u64);

/// Two secret words.
#[derive(Clone, Copy)]
pub struct TagKey(pub [u64; 2]);

impl TagKey {
    /// The tag of `identifier` in `column`.
    pub fn tag(self, column: u32, identifier: &[u8]) -> Tag {
        Tag(sip::word::<1, 3>(self.0, u64::from(column), identifier).max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hasher;

    #[test]
    fn agrees_with_the_standard_library_under_its_zero_key() {
        let text = b"203.0.113.7, and some more bytes than a block or two";
        for length in 0..text.len() {
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&77_u64.to_le_bytes());
            theirs.write(&text[..length]);
            assert_eq!(sip::word::<1, 3>([0, 0], 77, &text[..length]), theirs.finish(), "length {length}");
        }
    }

    #[test]
    fn depends_on_key_column_and_identifier() {
        let tags = [
            TagKey([1, 2]).tag(3, b"a"),
            TagKey([1, 3]).tag(3, b"a"),
            TagKey([2, 2]).tag(3, b"a"),
            TagKey([1, 2]).tag(4, b"a"),
            TagKey([1, 2]).tag(3, b"a\0"),
        ];
        assert_eq!(tags.iter().collect::<std::collections::HashSet<_>>().len(), tags.len());
    }
}
