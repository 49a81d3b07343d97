//! A body on `/v1` before its words are read: decoded, without a byte order mark, with the model that its path names.
//!
//! In: the bytes of a whole body. Out: the bytes that are read, and sent upstream. A body that needs no change is not copied.

use bytes::Bytes;

use super::values::each_member;
use crate::coding::{Coding, DecodeFault};
use crate::json_scan::JsonScan;
use crate::refusal::{Reason, Refusal, openai};

/// U+FEFF in UTF-8. JSON has no such mark (RFC 8259 s.8.1), and some editors and clients put one in front of it.
const MARK: &[u8] = b"\xef\xbb\xbf";

/// The plain body, of at most `most` bytes.
pub fn plain(body: Bytes, coding: Option<Coding>, most: u64) -> Result<Bytes, Refusal> {
    let body = match coding {
        Some(coding) if !body.is_empty() => {
            let decoded = coding.decode(&body, most).map_err(|fault| refused(fault, coding, most))?;
            Bytes::from(decoded)
        }
        _ => body,
    };
    Ok(if body.starts_with(MARK) { body.slice(MARK.len()..) } else { body })
}

/// Refuses a body with more than `most` members and elements: each costs more than its bytes.
pub fn judge_members(body: &[u8], most: u64) -> Result<(), Refusal> {
    // A member has two bytes at least, so most bodies need no count.
    if (body.len() as u64) < most.saturating_mul(2) || JsonScan::default().commas(body) < most {
        return Ok(());
    }
    let message = format!(
        "The body has more than {most} members and elements: send fewer in one request. The operator of this API can raise the bound (AIGW_MAX_BODY_MEMBERS)."
    );
    Err(Refusal::because(Reason::InvalidRequest, message))
}

fn refused(fault: DecodeFault, coding: Coding, most: u64) -> Refusal {
    match fault {
        DecodeFault::TooLarge => openai::too_large_decoded(most),
        DecodeFault::Broken => Refusal::because(
            Reason::InvalidRequest,
            format!("The body cannot be decoded: its Content-Encoding says '{}', and its bytes do not.", coding.name()),
        ),
    }
}

/// The body of a request whose path names a model, or none.
pub fn of_deployment(body: Bytes, model: Option<&str>) -> Bytes {
    match model {
        Some(model) => with_model(body, model),
        None => body,
    }
}

/// The body with this model: the name in the path of Azure's dialect wins over the body's, which may lack one. A body that
/// cannot be read stays: the next step names its fault.
fn with_model(body: Bytes, model: &str) -> Bytes {
    let Ok(text) = std::str::from_utf8(&body) else { return body };
    let (mut named, mut empty) = (None, true);
    let read = each_member(text, |name, value| {
        empty = false;
        if name == "model" && named.is_none() {
            named = Some(value.get());
        }
        Ok::<(), ()>(())
    });
    let Some(open) = text.find('{').filter(|_| read.is_ok()) else { return body };
    let quoted = serde_json::Value::from(model).to_string();
    let made = match named {
        Some(value) if value == quoted => return body,
        Some(value) => {
            let start = (value.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
            [&text[..start], &quoted, &text[start + value.len()..]].concat()
        }
        None => {
            let comma = if empty { "" } else { "," };
            [&text[..=open], "\"model\":", &quoted, comma, &text[open + 1..]].concat()
        }
    };
    made.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn model_of_the_path_is_written_into_the_body() {
        for (body, wanted) in [
            (r#"{"messages":[1]}"#, r#"{"model":"a/\"b\"","messages":[1]}"#),
            (r" { } ", r#" {"model":"a/\"b\"" } "#),
            (r#"{"x":{"model":1}, "model" : "z" }"#, r#"{"x":{"model":1}, "model" : "a/\"b\"" }"#),
            (r#"{"model":null}"#, r#"{"model":"a/\"b\""}"#),
            (r#"{"model":{"a":[1]}}"#, r#"{"model":"a/\"b\""}"#),
            (r#"{"model":"a/\"b\""}"#, r#"{"model":"a/\"b\""}"#),
            ("[1]", "[1]"),
            ("{", "{"),
            ("", ""),
        ] {
            assert_eq!(with_model(Bytes::from(body), "a/\"b\""), wanted, "{body}");
        }
    }

    #[test]
    fn members_are_counted_outside_of_texts() {
        for (body, passes) in [
            ("[1,2,3,4]", true),
            ("[1,2,3,4,5]", false),
            ("{\"a\":[1,2],\"b\":{\"c\":[3,4,5]}}", false),
            ("[\"a,b,c,d,e,f\",2,3]", true),
            ("[\"\\\",,,,,,\",2]", true),
        ] {
            assert_eq!(judge_members(body.as_bytes(), 4).is_ok(), passes, "{body}");
        }
    }

    #[test]
    fn mark_in_front_is_removed_once() {
        assert_eq!(plain(Bytes::from("\u{feff}{}"), None, 10), Ok(Bytes::from("{}")));
        assert_eq!(plain(Bytes::from("\u{feff}\u{feff}{}"), None, 10), Ok(Bytes::from("\u{feff}{}")));
        assert_eq!(plain(Bytes::from("{}"), None, 1), Ok(Bytes::from("{}")));
    }

    #[test]
    fn decoded_body_is_refused_with_its_reason() {
        let reason =
            |body: &'static [u8]| plain(Bytes::from(body), Some(Coding::Gzip), 10).map_err(|refusal| refusal.reason);
        assert_eq!(reason(b"{}"), Err(Reason::InvalidRequest));
        assert_eq!(reason(b""), Ok(Bytes::new()));
    }
}
