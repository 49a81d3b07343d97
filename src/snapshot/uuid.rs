//! An entity id: 16 bytes in files, 36 characters in headers.

use std::fmt;

/// A UUID. Its text costs no allocation: see [`Uuid::text`].
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Uuid([u8; 16]);

/// The text of a [`Uuid`], on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UuidText([u8; 36]);

impl Uuid {
    /// Reads `8-4-4-4-12` hex digits of either case.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() != 36 || [8, 13, 18, 23].iter().any(|&at| bytes[at] != b'-') {
            return None;
        }
        let mut digits = bytes.iter().filter(|&&b| b != b'-').map(|&b| char::from(b).to_digit(16));
        let mut out = [0; 16];
        for byte in &mut out {
            let pair = digits.next()?? << 4 | digits.next()??;
            *byte = u8::try_from(pair).ok()?;
        }
        digits.next().is_none().then_some(Self(out))
    }

    /// From its bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The lower-case text.
    pub fn text(&self) -> UuidText {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut out = [b'-'; 36];
        let mut at = 0;
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                at += 1;
            }
            out[at] = HEX[usize::from(byte >> 4)];
            out[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        UuidText(out)
    }
}

impl UuidText {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ASCII was ever put in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text().as_str())
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_the_canonical_shape() {
        for bad in [
            "",
            "0",
            "00000000-0000-0000-0000-00000000000g",
            "000000000000-0000-0000-0000-00000000",
            "é0000000-0000-0000-0000-0000000000",
        ] {
            assert_eq!(Uuid::parse(bad), None, "{bad}");
        }
        // A dash moved into the digits keeps the length but is no UUID.
        assert_eq!(Uuid::parse("0000000--0000-0000-0000-000000000000"), None);
    }

    proptest! {
        #[test]
        fn text_comes_back(bytes in any::<[u8; 16]>()) {
            let id = Uuid::from_bytes(bytes);
            prop_assert_eq!(Uuid::parse(id.text().as_str()), Some(id));
            prop_assert_eq!(Uuid::parse(&id.to_string().to_uppercase()), Some(id));
        }
    }
}
