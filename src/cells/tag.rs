//! The name of an open counter: a keyed 64-bit hash of (column, identifier).
//!
//! SipHash-1-3 under a random key that never leaves the machine: callers choose their identifiers (addresses,
//! header values), and without the key they cannot choose two that meet. If two ever do, they share one count,
//! which is too strict for both and too loose for none. The identifier itself is not kept.

/// The hash. Never 0, which marks an entry without an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tag(pub(super) u64);

/// Two secret words.
#[derive(Clone, Copy)]
pub struct TagKey(pub [u64; 2]);

impl TagKey {
    /// The tag of `identifier` in `column`.
    pub fn tag(self, column: u32, identifier: &[u8]) -> Tag {
        Tag(self.sip13(u64::from(column), identifier).max(1))
    }

    /// SipHash-1-3 of `first` (8 bytes, little endian) followed by `rest`.
    fn sip13(self, first: u64, rest: &[u8]) -> u64 {
        let [k0, k1] = self.0;
        let mut state = State([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ]);
        state.absorb(first);
        let (blocks, tail) = rest.as_chunks::<8>();
        for block in blocks {
            state.absorb(u64::from_le_bytes(*block));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        let length = (rest.len() as u64 + 8) << 56;
        state.absorb(u64::from_le_bytes(last) | length);
        state.0[2] ^= 0xff;
        for _ in 0..3 {
            state.round();
        }
        state.0.into_iter().fold(0, |all, word| all ^ word)
    }
}

struct State([u64; 4]);

impl State {
    #[inline]
    fn absorb(&mut self, block: u64) {
        self.0[3] ^= block;
        self.round();
        self.0[0] ^= block;
    }

    #[inline]
    fn round(&mut self) {
        let [a, b, c, d] = &mut self.0;
        *a = a.wrapping_add(*b);
        *c = c.wrapping_add(*d);
        *b = b.rotate_left(13) ^ *a;
        *d = d.rotate_left(16) ^ *c;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*b);
        *a = a.wrapping_add(*d);
        *b = b.rotate_left(17) ^ *c;
        *d = d.rotate_left(21) ^ *a;
        *c = c.rotate_left(32);
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
            assert_eq!(TagKey([0, 0]).sip13(77, &text[..length]), theirs.finish(), "length {length}");
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
