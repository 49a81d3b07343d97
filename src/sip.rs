//! `SipHash`: a keyed hash for what callers choose (addresses, keys), so that they cannot choose two that meet.
//!
//! In: two secret words, bytes. Out: 64 or 128 bits that say nothing of the bytes to whoever does not have the words. `C`
//! and `D` are its rounds: 1 and 3 where it is used here, 2 and 4 in the published examples.

/// `SipHash` of `first` (8 bytes, little endian) followed by `rest`.
pub(crate) fn word<const C: usize, const D: usize>(key: [u64; 2], first: u64, rest: &[u8]) -> u64 {
    let mut state = State::<C>::new(key);
    state.absorb(first);
    state.absorb_all(rest, 8);
    state.0[2] ^= 0xff;
    state.finish::<D>()
}

/// SipHash-128 of `bytes`.
#[inline]
pub(crate) fn words<const C: usize, const D: usize>(key: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let mut state = State::<C>::new(key);
    state.0[1] ^= 0xee;
    state.absorb_all(bytes, 0);
    state.0[2] ^= 0xee;
    let low = state.finish::<D>();
    state.0[1] ^= 0xdd;
    [low, state.finish::<D>()]
}

struct State<const C: usize>([u64; 4]);

impl<const C: usize> State<C> {
    fn new([k0, k1]: [u64; 2]) -> Self {
        Self([
            k0 ^ 0x736f_6d65_7073_6575,
            k1 ^ 0x646f_7261_6e64_6f6d,
            k0 ^ 0x6c79_6765_6e65_7261,
            k1 ^ 0x7465_6462_7974_6573,
        ])
    }

    /// All of `bytes`, then how many they are, with `before` that came before them.
    #[inline]
    fn absorb_all(&mut self, bytes: &[u8], before: u64) {
        let (blocks, tail) = bytes.as_chunks::<8>();
        for block in blocks {
            self.absorb(u64::from_le_bytes(*block));
        }
        let mut last = [0; 8];
        last[..tail.len()].copy_from_slice(tail);
        self.absorb(u64::from_le_bytes(last) | (bytes.len() as u64).wrapping_add(before) << 56);
    }

    #[inline]
    fn absorb(&mut self, block: u64) {
        self.0[3] ^= block;
        for _ in 0..C {
            self.round();
        }
        self.0[0] ^= block;
    }

    #[inline]
    fn finish<const D: usize>(&mut self) -> u64 {
        for _ in 0..D {
            self.round();
        }
        self.0.into_iter().fold(0, |all, word| all ^ word)
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

    /// The examples of `SipHash`'s authors: key 00 01 .. 0f, inputs 00 01 02 ..
    const KEY: [u64; 2] = [0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908];

    #[test]
    fn it_is_the_published_function() {
        let input: Vec<u8> = (0..15).collect();
        assert_eq!(word::<2, 4>(KEY, 0x0706_0504_0302_0100, &input[8..]), 0xa129_ca61_49be_45e5);
        let [low, high] = words::<2, 4>(KEY, &[]).map(u64::to_le_bytes);
        assert_eq!(low, [0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6]);
        assert_eq!(high, [0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93]);
    }

    #[test]
    fn the_length_and_every_byte_count() {
        let all: Vec<[u64; 2]> = (0..40).map(|n| words::<1, 3>(KEY, &vec![0; n])).collect();
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| other != one));
            for at in 0..n {
                let mut bytes = vec![0; n];
                bytes[at] = 1;
                assert_ne!(words::<1, 3>(KEY, &bytes), *one);
            }
        }
    }
}
