//! An entity's id: 16 bytes in files, 36 characters in the store and in headers.

pub use ::uuid::Uuid;

/// Reads `8-4-4-4-12` hex digits of either case. `Uuid::try_parse` alone would also read braces, `urn:uuid:` and 32 digits
/// without dashes.
pub fn parse_uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parse_uuid_takes_the_canonical_shape_only() {
        for bad in [
            "",
            "0",
            "00000000-0000-0000-0000-00000000000g",
            "000000000000-0000-0000-0000-00000000",
            "é0000000-0000-0000-0000-0000000000",
            "00000000000000000000000000000000",
            "{00000000-0000-0000-0000-000000000000}",
            "urn:uuid:00000000-0000-0000-0000-000000000000",
            // A dash among the digits keeps the length.
            "0000000--0000-0000-0000-000000000000",
        ] {
            assert_eq!(parse_uuid(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn text_comes_back(bytes in any::<[u8; 16]>()) {
            let id = Uuid::from_bytes(bytes);
            let mut buffer = Uuid::encode_buffer();
            let text = id.hyphenated().encode_lower(&mut buffer);
            prop_assert_eq!(&*text, id.to_string());
            prop_assert_eq!(parse_uuid(text), Some(id));
            prop_assert_eq!(parse_uuid(&text.to_uppercase()), Some(id));
        }

        #[test]
        fn parse_uuid_takes_nothing_but_digits_and_four_dashes(text in "[0-9a-fA-F{}:n-]{36}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}") {
            let shape = |(at, byte): (usize, u8)| if matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() };
            prop_assert_eq!(parse_uuid(&text).is_some(), text.bytes().enumerate().all(shape));
        }
    }
}
