//! The name of an open counter: a keyed 64-bit hash of (column, identifier).
//!
//! SipHash-1-3 under a random key that never leaves the machine: callers choose their identifiers (addresses, header
//! values), and without the key they cannot choose two that collide. Two identifiers that collide share one count, which is
//! too strict for both. The identifier itself is not kept.

use std::hash::Hasher as _;

use siphasher::sip::SipHasher13;

/// The hash. Never 0, which marks an entry without an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub(super) u64);

/// Two secret words.
#[derive(Clone, Copy)]
pub struct TagKey(pub [u64; 2]);

impl TagKey {
    /// The tag of `identifier` in `column`: `SipHash` of the column (8 bytes, little endian) and the identifier.
    pub fn tag(self, column: u32, identifier: &[u8]) -> Tag {
        let mut hasher = SipHasher13::new_with_keys(self.0[0], self.0[1]);
        hasher.write_u64(u64::from(column));
        hasher.write(identifier);
        Tag(hasher.finish().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tag_equals_the_standard_librarys_hash_under_a_zero_key() {
        let text = b"203.0.113.7, and some more bytes than a block or two";
        for length in 0..text.len() {
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&77_u64.to_le_bytes());
            theirs.write(&text[..length]);
            assert_eq!(TagKey([0, 0]).tag(77, &text[..length]).0, theirs.finish(), "length {length}");
        }
    }

    /// Open areas on disk hold tags: a tag must stay the same number from one version to the next.
    #[test]
    fn tag_equals_the_number_on_disk() {
        let key = TagKey([0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908]);
        for (column, identifier, tag) in [
            (0, &b""[..], 0x5cb9_6f6b_a2a4_fcfc),
            (1, b"10.0.0.1", 0xc2e9_9dc1_4356_528a),
            (u32::MAX, b"2001:db8::1, a consumer", 0x5b26_3e5c_1c42_c3ba),
        ] {
            assert_eq!(key.tag(column, identifier), Tag(tag));
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
