//! The form of an answer: one document or a stream of events.
//!
//! In: the wishes of the caller, the type that the upstream names, the first bytes. Out: the form. `text/event-stream` is believed
//! unless a JSON text follows. To a caller that asked for a stream, an answer with another type may still be one: no JSON text and no page begins
//! like a line of events, so the first byte that is no blank decides, whatever the type says.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

/// The names of an event's fields with their colons, and the start of a comment.
const STARTS: [&[u8]; 5] = [b"data:", b"event:", b"id:", b"retry:", b":"];

/// The form of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Events.
    Events,
    /// One text, mostly JSON.
    Document,
}

/// The number of blanks, and of bytes of a byte order mark, at the start.
pub fn blanks(bytes: &[u8]) -> usize {
    let is_blank = |byte: &u8| byte.is_ascii_whitespace() || b"\xEF\xBB\xBF".contains(byte);
    bytes.iter().position(|byte| !is_blank(byte)).unwrap_or(bytes.len())
}

/// The form of an answer with the type of events, by its first bytes; `None` for blanks and a byte order mark. A JSON text is a
/// document all the same: no field of an event begins like one.
pub fn of_labelled(bytes: &[u8]) -> Option<Form> {
    let first = bytes.get(blanks(bytes))?;
    Some(if b"{[".contains(first) { Form::Document } else { Form::Events })
}

/// The form that bytes at the start of an answer show; `None` for blanks and a byte order mark.
pub fn of_bytes(bytes: &[u8]) -> Option<Form> {
    let rest = bytes.get(blanks(bytes)..).filter(|rest| !rest.is_empty())?;
    let is_start = |start: &[u8]| rest.starts_with(start) || start.starts_with(rest);
    Some(if STARTS.into_iter().any(is_start) { Form::Events } else { Form::Document })
}

/// The media type of an answer, without parameters; empty without one.
pub fn media_type(headers: &HeaderMap<HeaderValue>) -> &[u8] {
    let media = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether a type is that of events.
pub fn is_events(media: &[u8]) -> bool {
    media.eq_ignore_ascii_case(b"text/event-stream")
}

/// Whether a type is that of one JSON text.
pub fn is_json(media: &[u8]) -> bool {
    media.eq_ignore_ascii_case(b"application/json")
        || media.len().checked_sub(5).is_some_and(|at| media[at..].eq_ignore_ascii_case(b"+json"))
}

/// Whether a type fits any bytes: no type, bytes, plain text.
pub fn says_nothing(media: &[u8]) -> bool {
    [&b""[..], b"text/plain", b"application/octet-stream", b"binary/octet-stream"]
        .iter()
        .any(|one| media.eq_ignore_ascii_case(one))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_show_the_form() {
        for (bytes, form) in [
            ("", None),
            (" \r\n\n\t", None),
            ("\u{feff}", None),
            ("data: {}", Some(Form::Events)),
            ("\u{feff}\n\ndata:{}", Some(Form::Events)),
            ("d", Some(Form::Events)),
            ("event: x", Some(Form::Events)),
            ("id:1", Some(Form::Events)),
            ("retry: 5", Some(Form::Events)),
            (": ping", Some(Form::Events)),
            ("{\"data:\":1}", Some(Form::Document)),
            ("\n[1]", Some(Form::Document)),
            ("\u{feff} {", Some(Form::Document)),
            ("dear", Some(Form::Document)),
            ("<html>", Some(Form::Document)),
        ] {
            assert_eq!(of_bytes(bytes.as_bytes()), form, "{bytes}");
        }
    }

    #[test]
    fn document_with_the_type_of_events_is_a_document() {
        for (bytes, form) in [
            ("", None),
            ("\u{feff}\n", None),
            ("{\"usage\":", Some(Form::Document)),
            ("\n\u{feff} [", Some(Form::Document)),
            ("data: {", Some(Form::Events)),
            ("unknown: field", Some(Form::Events)),
            (": {", Some(Form::Events)),
        ] {
            assert_eq!(of_labelled(bytes.as_bytes()), form, "{bytes}");
        }
    }

    #[test]
    fn type_is_read_without_its_parameters() {
        let media = |text: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(text))]);
            let media = media_type(&headers);
            [is_events(media), is_json(media), says_nothing(media)]
        };
        assert_eq!(media("Text/Event-Stream ; charset=utf-8"), [true, false, false]);
        assert_eq!(media("text/event-streams"), [false, false, false]);
        assert_eq!(media("application/problem+JSON;x"), [false, true, false]);
        assert_eq!(media("text/plain; charset=utf-8"), [false, false, true]);
        assert_eq!(media("application/x-ndjson"), [false, false, false]);
        assert!(says_nothing(media_type(&HeaderMap::new())));
    }
}
