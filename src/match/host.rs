//! The host and port of a request, split once: the host in lower case.
//!
//! In: the `Host` header. Out: an [`Authority`], or `None` when it is malformed (the caller refuses with `bad_host`).
//! Invariant: the host is lower case, without a trailing dot, and holds no character that a second reader could split at.

use std::borrow::Cow;

/// Host and port of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Lower-case name or address (IPv6 in brackets), without a trailing dot.
    pub host: Cow<'a, str>,
    /// The port, when the client named one.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Reads a `Host` value; `None` when it is not `host[:port]`.
    pub fn parse(value: &'a str) -> Option<Self> {
        let name_end =
            if value.starts_with('[') { value.find(']')? + 1 } else { value.find(':').unwrap_or(value.len()) };
        let (name, rest) = value.split_at(name_end);
        let digits = if rest.is_empty() { "" } else { rest.strip_prefix(':')? };
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let port = if digits.is_empty() { None } else { Some(digits.parse().ok()?) };
        let name = name.strip_suffix('.').unwrap_or(name);
        if name.is_empty() || !name.bytes().all(is_host_byte) {
            return None;
        }
        let host = if name.bytes().any(|b| b.is_ascii_uppercase()) {
            Cow::Owned(name.to_ascii_lowercase())
        } else {
            Cow::Borrowed(name)
        };
        Some(Self { host, port })
    }
}

const fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'[' | b']' | b':')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn hosts_are_split_and_lowered() {
        for (value, host, port) in [
            ("Example.COM", "example.com", None),
            ("example.com.:8080", "example.com", Some(8080)),
            ("[::1]:80", "[::1]", Some(80)),
            ("127.0.0.1:", "127.0.0.1", None),
        ] {
            let authority = Authority::parse(value).unwrap();
            assert_eq!((authority.host.as_ref(), authority.port), (host, port), "{value}");
        }
        for value in ["", ":80", "a b", "a/b", "a@b", "a:x", "a:70000", "[::1", "[::1]x", "a,b", "é"] {
            assert_eq!(Authority::parse(value), None, "{value}");
        }
    }
}
