//! How long the head of an answer waits for its body.
//!
//! An answer that breaks off before its head went on becomes a refusal; one that breaks off later can only be cut. A head
//! therefore waits as long as the answer may be a small one: to the end of a body that is useless in part, for a moment with
//! others. It goes on at the first sign of a stream: blanks that keep a long answer alive, or a line of events.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::form::{self, Form};

/// Answers up to this many bytes are collected and passed on as one piece: 64 KiB, which one read of a socket can hold.
pub const SMALL: u64 = 64 * 1024;
/// A document of unknown length that takes longer may be a stream after all (a watch): it goes on as it comes.
const DOCUMENT: Duration = Duration::from_millis(250);
/// Any other answer of unknown length goes on as it comes after this: a break that follows its head at once is still seen.
const MOMENT: Duration = Duration::from_millis(5);

/// The longest wait of a head; `None`: it goes on at once. `length`: the body's, where the upstream named it. `whole`: a
/// part of the answer is useless to the client.
pub fn patience(headers: &HeaderMap<HeaderValue>, length: Option<u64>, whole: bool) -> Option<Duration> {
    let media = form::media_type(headers);
    if form::is_events(media) || length.is_some_and(|length| length > SMALL) {
        None
    } else if length.is_some() || whole {
        Some(Duration::MAX)
    } else if form::is_json(media) {
        Some(DOCUMENT)
    } else {
        Some(MOMENT)
    }
}

/// Whether the `held` bytes end the wait of a head that waits for a body of this length.
pub fn is_over(held: &[u8], length: Option<u64>, whole: bool) -> bool {
    match form::of_bytes(held) {
        // A length is known at the start: it leaves no room for blanks that come with time.
        None => length.is_none() && !held.is_empty(),
        Some(Form::Events) => !whole,
        Some(Form::Document) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::CONTENT_TYPE;

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

    #[test]
    fn head_goes_on_at_first_sign_of_stream() {
        for (held, length, whole, over) in [
            ("", None, true, false),
            ("\n", None, true, true),
            (" \r\n", None, false, true),
            ("\n", Some(5), true, false),
            ("\n{\"a\"", None, true, false),
            ("data: {", None, false, true),
            ("data: {", None, true, false),
            ("{", None, false, false),
        ] {
            assert_eq!(is_over(held.as_bytes(), length, whole), over, "{held:?} {length:?} {whole}");
        }
    }
}
