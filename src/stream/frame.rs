//! The bytes around the text of a chunk: most chunks of a stream repeat them, and differ in their text alone.
//!
//! In: the data of a chunk that was read, and its one text. Out: for data with the same bytes around it, the text in between,
//! without reading JSON again. A text without quotes, backslashes and control characters is one JSON string, so such data has
//! the members of the chunk before, and only the text is another.

/// The bytes before and behind the text; both have a byte, or there is no chunk yet.
#[derive(Default)]
pub(super) struct Frame {
    before: Vec<u8>,
    behind: Vec<u8>,
}

impl Frame {
    /// The text of data that has these bytes around it; not an empty one.
    pub(super) fn text<'a>(&self, data: &'a [u8]) -> Option<&'a str> {
        let rest = data.strip_prefix(&*self.before)?;
        let text = rest.strip_suffix(&*self.behind).filter(|text| !text.is_empty() && !self.before.is_empty())?;
        let plain = text.iter().all(|byte| !matches!(byte, b'"' | b'\\' | ..b' '));
        if plain { str::from_utf8(text).ok() } else { None }
    }

    /// Remembers the bytes around `text`, where it is a part of `data` and a whole JSON string.
    pub(super) fn remember(&mut self, data: &[u8], text: &str) {
        let start = (text.as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
        let Some((before, rest)) = data.split_at_checked(start) else { return };
        let Some(behind) = rest.strip_prefix(text.as_bytes()) else { return };
        if before.ends_with(b"\"") && behind.starts_with(b"\"") {
            (self.before, self.behind) = (before.into(), behind.into());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frame_finds_the_text_of_chunks_that_differ_in_it_alone() {
        let data = br#"{"id":"a","choices":[{"delta":{"content":"hi"}}]}"#;
        let mut frame = Frame::default();
        assert_eq!(frame.text(data), None);
        frame.remember(data, "hi");
        assert_eq!(frame.text(data), None, "that text lies elsewhere");
        let at = data.windows(4).position(|four| four == b"\"hi\"").unwrap() + 1;
        frame.remember(data, str::from_utf8(&data[at..at + 2]).unwrap());
        let text = |text: &[u8]| {
            let made = [&data[..at], text, &data[at + 2..]].concat();
            frame.text(&made).map(str::to_owned)
        };
        assert_eq!(text(b"hi").as_deref(), Some("hi"));
        assert_eq!(text(" größer".as_bytes()).as_deref(), Some(" größer"));
        for other in [&b""[..], b"\"", b"a\",\"b\":\"c", b"\\n", b"\n", b"\x1f", b"\xff"] {
            assert_eq!(text(other), None, "{other:?}");
        }
        assert_eq!(frame.text(br#"{"id":"b","choices":[{"delta":{"content":"hi"}}]}"#), None);
        assert_eq!(frame.text(&data[..data.len() - 1]), None);
        assert_eq!(frame.text(b"[DONE]"), None);
    }
}
