//! Content codings: compressed bytes -> plain bytes, within a bound.
//!
//! In: the value of a `Content-Encoding` header, and a whole compressed body. Out: its plain bytes, or a [`DecodeFault`].
//! Invariant: the output and the working memory are bounded by the caller's `most` and by [`MAX_WINDOW`], whatever a few
//! bytes expand to, and the time is linear in input and bound. A coding that is not listed here is refused by the caller.
//! Sources: RFC 9110 s.8.4.1 (gzip, deflate), RFC 7932 (br), RFC 8878 (zstd).

use std::io::Read;

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;

/// Most bytes of history that a zstd frame may ask for: the 8 MiB that RFC 8878 s.3.1.1.1.2 recommends every decoder takes.
pub const MAX_WINDOW: u64 = 8 * 1024 * 1024;
/// Bytes of one read: brotli's decoder copies its input through a buffer of this size.
const STEP: usize = 4096;

/// A content coding that the gateway reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Coding {
    /// `gzip`, `x-gzip`.
    Gzip,
    /// `deflate`: zlib's format, and the bare one that some clients send under the same name.
    Deflate,
    /// `br`.
    Brotli,
    /// `zstd`.
    Zstd,
}

/// The reason why a body has no plain form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeFault {
    /// It is larger than the bound.
    TooLarge,
    /// It is not of this coding, it is cut, or something follows its end (brotli's decoder ignores that).
    Broken,
}

impl Coding {
    /// The coding of a `Content-Encoding` value; `None` for unknown ones, for lists, and for `identity`.
    pub fn of(value: &str) -> Option<Self> {
        const NAMES: [(&str, Coding); 5] = [
            ("gzip", Coding::Gzip),
            ("x-gzip", Coding::Gzip),
            ("deflate", Coding::Deflate),
            ("br", Coding::Brotli),
            ("zstd", Coding::Zstd),
        ];
        let value = value.trim();
        NAMES.iter().find(|(name, _)| value.eq_ignore_ascii_case(name)).map(|(_, coding)| *coding)
    }

    /// Its name in `Content-Encoding`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Brotli => "br",
            Self::Zstd => "zstd",
        }
    }

    /// The plain form of a whole body, at most `most` bytes.
    pub fn decode(self, body: &[u8], most: u64) -> Result<Vec<u8>, DecodeFault> {
        let mut out = Vec::with_capacity(body.len().saturating_mul(4).min(usize::try_from(most).unwrap_or(usize::MAX)));
        match self {
            Self::Gzip => {
                fill(MultiGzDecoder::new(body), most, &mut out)?;
            }
            Self::Deflate if is_zlib(body) => {
                let mut decoder = ZlibDecoder::new(body);
                fill(&mut decoder, most, &mut out)?;
                ended(decoder.into_inner())?;
            }
            Self::Deflate => {
                let mut decoder = DeflateDecoder::new(body);
                fill(&mut decoder, most, &mut out)?;
                ended(decoder.into_inner())?;
            }
            Self::Brotli => fill(brotli_decompressor::Decompressor::new(body, STEP), most, &mut out)?,
            Self::Zstd => frames(body, most, &mut out)?,
        }
        Ok(out)
    }
}

/// Every frame of a zstd body, one behind the other.
fn frames(mut body: &[u8], most: u64, out: &mut Vec<u8>) -> Result<(), DecodeFault> {
    if body.is_empty() {
        return Err(DecodeFault::Broken);
    }
    while !body.is_empty() {
        let mut decoder =
            StreamingDecoder::new_with_max_window_size(body, MAX_WINDOW).map_err(|_| DecodeFault::Broken)?;
        fill(&mut decoder, most, out)?;
        body = decoder.into_inner();
    }
    Ok(())
}

/// Reads a decoder to its end, one byte beyond the bound at most.
fn fill(decoder: impl Read, most: u64, out: &mut Vec<u8>) -> Result<(), DecodeFault> {
    let left = most.saturating_sub(out.len() as u64);
    decoder.take(left.saturating_add(1)).read_to_end(out).map_err(|_| DecodeFault::Broken)?;
    if out.len() as u64 > most { Err(DecodeFault::TooLarge) } else { Ok(()) }
}

fn ended(rest: &[u8]) -> Result<(), DecodeFault> {
    if rest.is_empty() { Ok(()) } else { Err(DecodeFault::Broken) }
}

/// Whether the body begins with zlib's header (RFC 1950 s.2.2): method 8, and a check sum over both bytes.
fn is_zlib(body: &[u8]) -> bool {
    matches!(body, [first, second, ..] if first & 0x0f == 8 && (u16::from(*first) * 256 + u16::from(*second)) % 31 == 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
    use proptest::prelude::*;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};
    use std::io::Write as _;

    /// `{"model":"small","messages":[{}]}` as `br`, made by Google's encoder 1.1.
    const BROTLI: &[u8] = &[
        0x0b, 0x10, 0x80, 0x7b, 0x22, 0x6d, 0x6f, 0x64, 0x65, 0x6c, 0x22, 0x3a, 0x22, 0x73, 0x6d, 0x61, 0x6c, 0x6c,
        0x22, 0x2c, 0x22, 0x6d, 0x65, 0x73, 0x73, 0x61, 0x67, 0x65, 0x73, 0x22, 0x3a, 0x5b, 0x7b, 0x7d, 0x5d, 0x7d,
        0x03,
    ];
    const PLAIN: &[u8] = br#"{"model":"small","messages":[{}]}"#;

    fn encoded(coding: Coding, plain: &[u8]) -> Vec<u8> {
        match coding {
            Coding::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Brotli => BROTLI.to_vec(),
            Coding::Zstd => compress_to_vec(plain, CompressionLevel::Fastest),
        }
    }

    const ALL: [Coding; 4] = [Coding::Gzip, Coding::Deflate, Coding::Brotli, Coding::Zstd];

    #[test]
    fn coding_decodes_its_bytes_and_holds_its_bound() {
        for coding in ALL {
            let body = encoded(coding, PLAIN);
            let size = PLAIN.len() as u64;
            assert_eq!(coding.decode(&body, size).as_deref(), Ok(PLAIN), "{coding:?}");
            assert_eq!(coding.decode(&body, size - 1), Err(DecodeFault::TooLarge), "{coding:?}");
        }
    }

    #[test]
    fn cut_or_foreign_bytes_are_broken() {
        for coding in ALL {
            let body = encoded(coding, PLAIN);
            assert_eq!(coding.decode(&body[..body.len() / 2], 1000), Err(DecodeFault::Broken), "{coding:?}");
            assert_eq!(coding.decode(PLAIN, 1000), Err(DecodeFault::Broken), "{coding:?}");
            if coding != Coding::Brotli {
                assert_eq!(coding.decode(&[&body[..], b"more"].concat(), 1000), Err(DecodeFault::Broken), "{coding:?}");
            }
            assert_eq!(coding.decode(b"", 1000), Err(DecodeFault::Broken), "{coding:?}");
        }
    }

    #[test]
    fn small_body_cannot_expand_beyond_the_bound() {
        let zeros = vec![0; 4 << 20];
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            let bomb = encoded(coding, &zeros);
            assert!(bomb.len() < zeros.len() / 100);
            assert_eq!(coding.decode(&bomb, 1 << 20), Err(DecodeFault::TooLarge));
        }
    }

    #[test]
    fn deflate_without_zlibs_header_is_read_too() {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(PLAIN).unwrap();
        assert_eq!(Coding::Deflate.decode(&encoder.finish().unwrap(), 1000).as_deref(), Ok(PLAIN));
    }

    #[test]
    fn parts_behind_each_other_are_one_body() {
        for coding in [Coding::Gzip, Coding::Zstd] {
            let both = [encoded(coding, b"one "), encoded(coding, b"two")].concat();
            assert_eq!(coding.decode(&both, 7).as_deref(), Ok(&b"one two"[..]));
            assert_eq!(coding.decode(&both, 6), Err(DecodeFault::TooLarge));
        }
    }

    #[test]
    fn names_are_read_in_any_case() {
        assert_eq!(Coding::of(" GZip "), Some(Coding::Gzip));
        assert_eq!(ALL.map(|coding| Coding::of(coding.name())), ALL.map(Some));
        for other in ["identity", "", "compress", "gzip, gzip", "br,gzip"] {
            assert_eq!(Coding::of(other), None, "{other}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            for coding in ALL {
                if let Ok(plain) = coding.decode(&bytes, 1000) {
                    prop_assert!(plain.len() <= 1000);
                }
            }
        }
    }
}
