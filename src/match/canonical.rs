//! One canonical form of the request path: the matched path is the forwarded path.
//!
//! In: the percent-decoded path from the server (the raw one is not available). Out: a [`CanonicalPath`], the proof that the
//! path has exactly one reading, or the reason why not; and [`encode`], its form on the wire.
//! Invariant: no dot segment, empty segment, backslash, control character or U+FFFD passes, so every upstream reads the path
//! as the router did. A path that would need a repair is refused.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Why a path is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// The path is empty.
    #[error("the path is empty; send at least \"/\"")]
    Empty,
    /// Absolute-form leftovers, `*`, and the like.
    #[error("the path does not start with \"/\"")]
    NotAbsolute,
    /// `.` or `..` as a segment, also with parameters (`..;x`), which some servers read as `..`.
    #[error("the path holds a \".\" or \"..\" segment; send the resolved path")]
    DotSegment,
    /// `//`.
    #[error("the path holds an empty segment (\"//\"); send single slashes")]
    EmptySegment,
    /// `\`, which some servers read as `/`.
    #[error("the path holds a backslash")]
    Backslash,
    /// NUL, other C0 and C1 controls, DEL.
    #[error("the path holds a control character")]
    Control,
    /// Bytes that were not UTF-8 (the server replaced them by U+FFFD).
    #[error("the path is not valid UTF-8")]
    NotUtf8,
}

/// A path with exactly one reading. Only [`CanonicalPath::new`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CanonicalPath<'a>(&'a str);

impl<'a> CanonicalPath<'a> {
    /// Checks the percent-decoded path.
    pub fn new(path: &'a str) -> Result<Self, BadPath> {
        if path.is_empty() {
            return Err(BadPath::Empty);
        }
        if !path.starts_with('/') {
            return Err(BadPath::NotAbsolute);
        }
        let mut ascii = true;
        let mut previous = 0;
        let mut suspicious = false;
        for byte in path.bytes() {
            match byte {
                b'\\' => return Err(BadPath::Backslash),
                0..=0x1f | 0x7f => return Err(BadPath::Control),
                b'/' if previous == b'/' => return Err(BadPath::EmptySegment),
                // Only a segment that begins with a dot can be a dot segment.
                b'.' if previous == b'/' => suspicious = true,
                0x80.. => ascii = false,
                _ => {}
            }
            previous = byte;
        }
        if suspicious && path.split('/').any(is_dot_segment) {
            return Err(BadPath::DotSegment);
        }
        if !ascii {
            non_ascii(path)?;
        }
        Ok(Self(path))
    }

    /// The path as it was matched, percent-decoded.
    pub const fn as_str(self) -> &'a str {
        self.0
    }
}

/// True for `.` and `..`, also when path parameters follow.
pub(crate) fn is_dot_segment(segment: &str) -> bool {
    matches!(segment.split(';').next(), Some("." | ".."))
}

fn non_ascii(path: &str) -> Result<(), BadPath> {
    for c in path.chars() {
        if c == char::REPLACEMENT_CHARACTER {
            return Err(BadPath::NotUtf8);
        }
        if c.is_control() {
            return Err(BadPath::Control);
        }
    }
    Ok(())
}

/// Every byte except RFC 3986's `pchar` (without its escapes) and `/`.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'!')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b';')
    .remove(b'=')
    .remove(b':')
    .remove(b'@')
    .remove(b'/');

/// The path on the wire: `pchar` and `/` stay, every other byte (a literal `%` too) becomes `%XX` in upper case.
/// Borrows when nothing changes.
pub fn encode(path: &str) -> Cow<'_, str> {
    utf8_percent_encode(path, ESCAPED).into()
}

/// Appends the encoded form of `path`.
pub(crate) fn encode_into(out: &mut String, path: &str) {
    out.extend(utf8_percent_encode(path, ESCAPED));
}

/// Percent-decodes text; escapes that are not two hex digits stay unchanged.
pub(crate) fn decode(text: &str) -> Cow<'_, [u8]> {
    percent_decode_str(text).into()
}

/// One name or value of a query: percent-decoded, `+` is a space.
pub(crate) fn decode_argument(raw: &str) -> Cow<'_, [u8]> {
    if raw.contains('+') {
        let spaced = raw.replace('+', " ");
        return Cow::Owned(decode(&spaced).into_owned());
    }
    decode(raw)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_with_two_readings_are_refused() {
        for (path, reason) in [
            ("", BadPath::Empty),
            ("*", BadPath::NotAbsolute),
            ("http://a/b", BadPath::NotAbsolute),
            ("/.", BadPath::DotSegment),
            ("/..", BadPath::DotSegment),
            ("/a/../b", BadPath::DotSegment),
            ("/a/./b", BadPath::DotSegment),
            ("/a/..;x/b", BadPath::DotSegment),
            ("/a/.;/b", BadPath::DotSegment),
            ("//a", BadPath::EmptySegment),
            ("/a//", BadPath::EmptySegment),
            ("/a\\b", BadPath::Backslash),
            ("/a\0", BadPath::Control),
            ("/a\r\nb", BadPath::Control),
            ("/a\u{7f}", BadPath::Control),
            ("/a\u{85}", BadPath::Control),
            ("/a\u{fffd}", BadPath::NotUtf8),
        ] {
            assert_eq!(CanonicalPath::new(path), Err(reason), "{path:?}");
        }
        for path in ["/", "/a", "/a/", "/.well-known/x", "/...", "/a..", "/..a", "/a;x=..", "/%2e%2e/", "/é/漢", "/a b"]
        {
            assert_eq!(CanonicalPath::new(path).unwrap().as_str(), path);
        }
    }

    #[test]
    fn encoding_is_exact() {
        for (path, wire) in
            [("/a b", "/a%20b"), ("/100%", "/100%25"), ("/%2e", "/%252e"), ("/é", "/%C3%A9"), ("/a?b#c", "/a%3Fb%23c")]
        {
            assert_eq!(encode(path), wire);
        }
        assert!(matches!(encode("/a/b-c_d.e~f!$&'()*+,;=:@"), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn encoding_comes_back(path in "/[ -~é漢%]{0,40}") {
            let wire = encode(&path).into_owned();
            let back = decode(&wire).into_owned();
            prop_assert_eq!(back, path.as_bytes());
            let plain = b"-._~!$&'()*+,;=:@/%";
            prop_assert!(wire.bytes().all(|b| b.is_ascii_alphanumeric() || plain.contains(&b)));
        }

        #[test]
        fn accepted_paths_have_no_second_reading(path in "[/.;a\\\\%]{0,12}") {
            if CanonicalPath::new(&path).is_ok() {
                prop_assert!(!path.contains("//") && !path.contains('\\') && path.starts_with('/'));
                for segment in path.split('/') {
                    prop_assert!(segment != "." && segment != "..");
                }
            }
        }
    }
}
