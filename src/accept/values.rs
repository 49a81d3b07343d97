//! The members of a body, one at a time, and their values: text, switch, count, format.
//!
//! In: a member of the body, JSON already. Out: its value, or the refusal that names it. Null counts as absent wherever
//! OpenAI says so.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer as _;
use serde::de::{Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::spelling::in_another_case;
use crate::refusal::{Reason, Refusal};

/// A larger cap or count is refused: no model has as many tokens.
const MAX_COUNT: u64 = (1 << 31) - 1;

/// A member's name: borrowed, unless it has escapes.
#[derive(serde::Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

/// A refusal of a body for one of its members.
pub(super) fn refused(param: impl Into<Cow<'static, str>>, message: String) -> Refusal {
    Refusal::because(Reason::InvalidRequest, message).about(param)
}

/// `name` is not one of ours, and some upstream may read it as one.
pub(super) fn misspelt(within: &str, name: &str, known: &str) -> Refusal {
    refused(format!("{within}{name}"), format!("'{within}{name}' is no parameter: write it as '{within}{known}'"))
}

/// The member occurs twice: two readers could each take another value.
pub(super) fn twice(param: &'static str, what: &str) -> Refusal {
    refused(param, format!("'{what}' is given more than once"))
}

/// A member that is there and not null.
pub(super) fn set(raw: Option<&RawValue>) -> Option<&RawValue> {
    raw.filter(|raw| raw.get() != "null")
}

/// A list or object that is not empty.
pub(super) fn filled(raw: Option<&RawValue>) -> bool {
    set(raw).is_some_and(|raw| raw.get().len() > 1 && !raw.get()[1..].trim_start().starts_with([']', '}']))
}

/// The fault that ended the walk over an object's members.
pub(super) enum MemberFault<E> {
    /// `take` refused a member.
    Refused(E),
    /// The text is not an object, or not JSON.
    Broken(serde_json::Error),
}

/// Hands the members of an object to `take`, repeated ones repeatedly, until it refuses one.
pub(super) fn each_member<'a, E>(
    object: &'a str,
    take: impl FnMut(&str, &'a RawValue) -> Result<(), E>,
) -> Result<(), MemberFault<E>> {
    struct Members<F, E> {
        take: F,
        refused: Option<E>,
    }

    impl<'a, E, F: FnMut(&str, &'a RawValue) -> Result<(), E>> Visitor<'a> for &mut Members<F, E> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<(), A::Error> {
            while let Some(Name(name)) = map.next_key()? {
                if let Err(refused) = (self.take)(&name, map.next_value()?) {
                    self.refused = Some(refused);
                    return Err(A::Error::custom("a member was refused"));
                }
            }
            Ok(())
        }
    }

    let mut members = Members { take, refused: None };
    let mut json = serde_json::Deserializer::from_str(object);
    let read = json.deserialize_map(&mut members).and_then(|()| json.end());
    match members.refused {
        Some(refused) => Err(MemberFault::Refused(refused)),
        None => read.map_err(MemberFault::Broken),
    }
}

/// Hands the elements of a list to `take`; false: not a list, or not JSON.
pub(super) fn each_element<'a>(list: &'a str, take: impl FnMut(&'a RawValue)) -> bool {
    struct Elements<F>(F);

    impl<'a, F: FnMut(&'a RawValue)> Visitor<'a> for Elements<F> {
        type Value = ();

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'a>>(mut self, mut list: A) -> Result<(), A::Error> {
            while let Some(one) = list.next_element()? {
                (self.0)(one);
            }
            Ok(())
        }
    }

    serde_json::Deserializer::from_str(list).deserialize_seq(Elements(take)).is_ok()
}

/// Whether every reader takes the value for `text`.
pub(super) fn is_text_format(raw: &RawValue) -> bool {
    let mut text = None;
    let read = each_member(raw.get(), |name, value| {
        if name == "type" && text.is_none() {
            text = Some(string(value).is_some_and(|kind| kind == "text"));
        } else if name == "type" || in_another_case(name, &["type"]).is_some() {
            return Err(());
        }
        Ok(())
    });
    read.is_ok() && text == Some(true)
}

pub(super) fn string(raw: &RawValue) -> Option<String> {
    serde_json::from_str::<String>(raw.get()).ok()
}

pub(super) fn boolean(name: &'static str, raw: Option<&RawValue>) -> Result<bool, Refusal> {
    match raw.map(RawValue::get) {
        None | Some("null" | "false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(refused(name, format!("'{name}' must be true or false"))),
    }
}

/// A whole number from 1.
pub(super) fn count(name: &'static str, raw: Option<&RawValue>) -> Result<Option<u32>, Refusal> {
    let Some(raw) = set(raw) else { return Ok(None) };
    let number = raw.get().parse::<u64>().ok().filter(|n| (1..=MAX_COUNT).contains(n));
    match number.and_then(|n| u32::try_from(n).ok()) {
        Some(n) => Ok(Some(n)),
        None => Err(refused(name, format!("'{name}' must be a whole number from 1 to {MAX_COUNT}"))),
    }
}

/// The number of prompts in a member: a string or a list of tokens is one, a list of these as many as it has. `None`:
/// another value.
pub(super) fn prompts(raw: &RawValue) -> Option<u32> {
    let text = raw.get();
    if text.starts_with('"') || is_tokens(text) {
        return Some(1);
    }
    let mut several = Several::default();
    let listed =
        text.starts_with('[') && serde_json::Deserializer::from_str(text).deserialize_seq(&mut several).is_ok();
    Some(several.count).filter(|count| listed && *count > 0)
}

/// Whether the value is a list of whole numbers and not empty. It is JSON already, so its characters decide.
fn is_tokens(text: &str) -> bool {
    let inner = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or_default();
    let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b',' | b' ' | b'\t' | b'\r' | b'\n');
    inner.bytes().all(plain) && inner.bytes().any(|byte| byte.is_ascii_digit())
}

/// Counts the elements of a list of strings, or of a list of token lists; a mixed list is refused.
#[derive(Default)]
struct Several {
    count: u32,
    texts: bool,
}

impl<'a> Visitor<'a> for &mut Several {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of prompts")
    }

    fn visit_seq<A: SeqAccess<'a>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(one) = list.next_element::<&RawValue>()? {
            let text = one.get().starts_with('"');
            if (self.count > 0 && text != self.texts) || !(text || is_tokens(one.get())) {
                return Err(A::Error::custom("another kind"));
            }
            self.texts = text;
            self.count = self.count.saturating_add(1);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn prompts_are_counted() {
        let count = |json: &str| prompts(serde_json::from_str(json).unwrap());
        for (json, wanted) in [
            ("\"a\"", Some(1)),
            ("[\"a\"]", Some(1)),
            ("[ \"a\" , \"b,c\", \"\\ud800\" ]", Some(3)),
            ("[1, 2,\n3]", Some(1)),
            ("[[1,2],[3]]", Some(2)),
            ("[]", None),
            ("[[]]", None),
            ("[[1],[]]", None),
            ("[\"a\",1]", None),
            ("[\"a\",[1]]", None),
            ("[[1],2]", None),
            ("[[[1]]]", None),
            ("[1.5]", None),
            ("[-1]", None),
            ("[null]", None),
            ("[{}]", None),
            ("{}", None),
            ("5", None),
            ("true", None),
        ] {
            assert_eq!(count(json), wanted, "{json}");
        }
    }

    #[test]
    fn a_format_is_text_when_every_reader_says_so() {
        let is_text = |json: &str| is_text_format(serde_json::from_str(json).unwrap());
        assert!(is_text("{\"type\":\"text\",\"x\":1}"));
        for json in [
            "{}",
            "\"text\"",
            "{\"type\":\"json_object\"}",
            "{\"type\":\"text\",\"Type\":\"json_object\"}",
            "{\"type\":\"text\",\"type\":\"json_object\"}",
            "{\"type\":\"json_object\",\"type\":\"text\"}",
        ] {
            assert!(!is_text(json), "{json}");
        }
    }
}
