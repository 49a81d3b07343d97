//! How long the head of an answer waits for its body.
//!
//! An answer that breaks off before its head went on becomes a refusal; one that breaks off later can only be cut. A head
//! therefore waits as long as the answer may be a small one: to the end of a body that is useless in part, for a moment with
//! others.

use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue};

use super::head::is_events;

/// Answers up to this many bytes are collected and passed on as one piece: 64 KiB, which one read of a socket can hold.
pub const SMALL: u64 = 64 * 1024;
/// A document of unknown length that takes longer may be a stream after all (a watch): it goes on as it comes.
const DOCUMENT: Duration = Duration::from_millis(250);
/// Any other answer of unknown length goes on as it comes after this: a break that follows its head at once is still seen.
const MOMENT: Duration = Duration::from_millis(5);

/// The longest wait of a head; `None`: it goes on at once. `length`: the body's, where the upstream named it. `whole`: a
/// part of the answer is useless to the client.
pub fn patience(headers: &HeaderMap<HeaderValue>, length: Option<u64>, whole: bool) -> Option<Duration> {
    let media = headers.get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    if is_events(headers) || length.is_some_and(|length| length > SMALL) {
        None
    } else if length.is_some() || whole {
        Some(Duration::MAX)
    } else if is_document(media) {
        Some(DOCUMENT)
    } else {
        Some(MOMENT)
    }
}

/// Whether a part of an answer of this media type is useless: one JSON text.
fn is_document(media: &[u8]) -> bool {
    let media = media.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    media.eq_ignore_ascii_case(b"application/json")
        || media.len().checked_sub(5).is_some_and(|at| media[at..].eq_ignore_ascii_case(b"+json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn head_waits_as_long_as_answer_may_be_small() {
        for (media, length, whole, wanted) in [
            ("text/event-stream; charset=utf-8", None, true, None),
            ("Text/Event-Stream", None, true, None),
            ("application/json", Some(SMALL + 1), true, None),
            ("text/html", Some(SMALL), false, Some(Duration::MAX)),
            ("text/html", None, true, Some(Duration::MAX)),
            ("application/json", None, false, Some(DOCUMENT)),
            ("Application/Problem+JSON ; charset=utf-8", None, false, Some(DOCUMENT)),
            ("application/x-ndjson", None, false, Some(MOMENT)),
            ("", None, false, Some(MOMENT)),
        ] {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(media))]);
            assert_eq!(patience(&headers, length, whole), wanted, "{media} {length:?} {whole}");
        }
    }
}
