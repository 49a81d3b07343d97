//! The tokens of a body's input: exact by a vocabulary, or bounded by its bytes.
//!
//! In: the endpoint, the body that [`openai::read`](super::openai::read) has accepted (JSON of bounded depth), and a count of texts. Out:
//! the tokens that the model reads, at most: the texts, the chat template's overhead, and the bounds of images, audio and files. Text of
//! messages counts as the model sees it; tools, schemas and members that the gateway does not know count as they are
//! written. `n` and `best_of` do not multiply the input, for the upstream reads it once. Linear, without recursion.

use std::borrow::Cow;

use memchr::memchr;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::openai::Endpoint;
use super::values::{each_element, each_member};

/// Members beside the messages that chat templates write into the prompt.
const PROMPTING: &[&str] = &[
    "tools",
    "functions",
    "tool_choice",
    "function_call",
    "response_format",
    "documents",
    "prediction",
    "chat_template_kwargs",
    "chat_template",
    "guided_json",
    "guided_grammar",
    "guided_regex",
    "guided_choice",
    "structured_outputs",
];

/// How a model's input is counted.
pub struct Measure<'a> {
    /// The tokens of a text.
    pub text: &'a dyn Fn(&str) -> u64,
    /// Tokens that the chat template adds to each message.
    pub per_message: u32,
    /// Tokens that the chat template adds to each request.
    pub per_request: u32,
    /// The most tokens of one image.
    pub image: u32,
    /// The most tokens of one piece of audio.
    pub audio: u32,
    /// The most tokens of one file.
    pub file: u32,
}

/// A string, with its escapes resolved.
#[derive(Deserialize)]
struct Plain<'a>(#[serde(borrow)] Cow<'a, str>);

/// The input tokens of a body. Text that is not JSON counts as it is written.
pub fn input(measure: &Measure<'_>, endpoint: Endpoint, body: &str) -> u64 {
    let mut sum = match endpoint {
        Endpoint::Chat => u64::from(measure.per_request),
        Endpoint::Completions | Endpoint::Embeddings => 0,
    };
    let walked = members(body, |name, value| {
        sum = sum.saturating_add(match (endpoint, name) {
            (Endpoint::Chat, "messages") => {
                each(value, |message| measure.message(message)).unwrap_or_else(|| measure.raw(value))
            }
            (Endpoint::Chat, name) if PROMPTING.contains(&name) => measure.raw(value),
            (Endpoint::Completions, "prompt") | (Endpoint::Embeddings, "input") => measure.prompt(value),
            (Endpoint::Completions, "suffix") => measure.value(value),
            _ => 0,
        });
    });
    if walked { sum } else { sum.saturating_add((measure.text)(body)) }
}

impl Measure<'_> {
    /// One message.
    fn message(&self, message: &RawValue) -> u64 {
        let mut sum = u64::from(self.per_message);
        let walked = members(message.get(), |name, value| {
            sum = sum.saturating_add(match name {
                "content" => self.content(value),
                // A name costs one token more than its text: it stands apart from the role.
                "name" => self.value(value).saturating_add(1),
                _ => self.value(value),
            });
        });
        if walked { sum } else { sum.saturating_add(self.value(message)) }
    }

    /// A message's content: a text, or parts.
    fn content(&self, content: &RawValue) -> u64 {
        each(content, |part| self.part(part)).unwrap_or_else(|| self.value(content))
    }

    /// One part of a content. Its type and its members both tell its medium, for upstreams look at either.
    fn part(&self, part: &RawValue) -> u64 {
        let (mut texts, mut media) = (0_u64, Media::default());
        let walked = members(part.get(), |name, value| match Medium::of(name) {
            Some(medium) => media.add(medium),
            None if name == "type" => {
                if let Some(medium) = string(value).as_deref().and_then(Medium::of) {
                    media.add(medium);
                }
            }
            None => texts = texts.saturating_add(self.value(value)),
        });
        if walked { texts.saturating_add(media.bound(self)) } else { self.value(part) }
    }

    /// Prompts of completions or embeddings: a text, token numbers, or a list of either.
    fn prompt(&self, prompt: &RawValue) -> u64 {
        if let Some(numbers) = numbers(prompt.get()) {
            return numbers;
        }
        let one = |prompt: &RawValue| numbers(prompt.get()).unwrap_or_else(|| self.value(prompt));
        each(prompt, one).unwrap_or_else(|| self.value(prompt))
    }

    /// A string as the model sees it; null as nothing; any other value as it is written.
    fn value(&self, value: &RawValue) -> u64 {
        match string(value) {
            Some(text) => (self.text)(&text),
            None => self.raw(value),
        }
    }

    /// A value as it is written.
    fn raw(&self, value: &RawValue) -> u64 {
        if value.get() == "null" { 0 } else { (self.text)(value.get()) }
    }
}

/// A medium other than text.
#[derive(Clone, Copy)]
enum Medium {
    Image,
    Audio,
    File,
    /// One that has no bound of its own: the largest one is taken.
    Else,
}

impl Medium {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "image_url" | "image" | "input_image" | "image_file" => Self::Image,
            "input_audio" | "audio_url" | "audio" => Self::Audio,
            "file" | "input_file" => Self::File,
            "video_url" | "video" | "input_video" => Self::Else,
            _ => return None,
        })
    }
}

/// The media of one part, each once.
#[derive(Default)]
struct Media([bool; 4]);

impl Media {
    fn add(&mut self, medium: Medium) {
        self.0[medium as usize] = true;
    }

    fn bound(&self, measure: &Measure<'_>) -> u64 {
        let Measure { image, audio, file, .. } = *measure;
        let most = [image, audio, file, image.max(audio).max(file)];
        self.0.iter().zip(most).filter(|(there, _)| **there).map(|(_, most)| u64::from(most)).sum()
    }
}

fn string(value: &RawValue) -> Option<Cow<'_, str>> {
    let text = value.get();
    let inner = text.strip_prefix('"')?;
    // Without an escape it is read already.
    if let Some(plain) = inner.strip_suffix('"').filter(|plain| memchr(b'\\', plain.as_bytes()).is_none()) {
        return Some(Cow::Borrowed(plain));
    }
    // Half a surrogate pair is no text: such a string counts as it is written.
    serde_json::from_str::<Plain<'_>>(text).ok().map(|Plain(text)| text)
}

/// The count of a list of whole numbers; `None`: another value.
fn numbers(text: &str) -> Option<u64> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?;
    let plain = |byte: u8| matches!(byte, b'0'..=b'9' | b'-' | b',' | b' ' | b'\t' | b'\r' | b'\n');
    let some = inner.bytes().any(|byte| byte.is_ascii_digit());
    (some && inner.bytes().all(plain)).then(|| 1 + inner.bytes().filter(|byte| *byte == b',').count() as u64)
}

/// Hands the members of an object to `take`; false: not an object.
fn members<'a>(object: &'a str, mut take: impl FnMut(&str, &'a RawValue)) -> bool {
    let taken = |name: &str, value: &'a RawValue| -> Result<(), ()> {
        take(name, value);
        Ok(())
    };
    each_member(object, taken).is_ok()
}

/// The sum over the elements of a list; `None`: not a list.
fn each(list: &RawValue, mut count: impl FnMut(&RawValue) -> u64) -> Option<u64> {
    if !list.get().starts_with('[') {
        return None;
    }
    let mut sum = 0_u64;
    let walked = each_element(list.get(), |one| sum = sum.saturating_add(count(one)));
    walked.then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words of a text: a count that tells decoded text from written text.
    fn words(text: &str) -> u64 {
        text.split_whitespace().count() as u64
    }

    fn measured(endpoint: Endpoint, body: &str, text: &dyn Fn(&str) -> u64) -> u64 {
        let measure =
            Measure { text, per_message: 10, per_request: 1000, image: 100_000, audio: 200_000, file: 300_000 };
        input(&measure, endpoint, body)
    }

    fn chat(members: &str) -> u64 {
        measured(Endpoint::Chat, &format!("{{\"model\":\"m n\",\"user\":\"a b c\",{members}}}"), &words)
    }

    #[test]
    fn chat_counts_messages_with_their_template() {
        for (messages, wanted) in [
            (r#"{"role":"user","content":"a\u0020b\nc"}"#, 1014),
            (r#"{"role":"user","content":null}"#, 1011),
            (r#"{"role":"user","name":"x","content":"a"}"#, 1014),
            (r#"{"role":"user","content":"a"},{"role":"user","content":"a b"}"#, 1025),
            (r#"{"role":"tool","tool_call_id":"t","content":[{"type":"text","text":"a b"}]}"#, 1014),
            (r#"{"role":"assistant","tool_calls":[{"x": "a b"}]}"#, 1014),
            (r#"{"content":"\ud800 a"}"#, 1012),
            ("5", 1011),
            (r#""a b""#, 1012),
        ] {
            assert_eq!(chat(&format!("\"messages\":[{messages}]")), wanted, "{messages}");
        }
    }

    #[test]
    fn chat_bounds_parts_of_other_media() {
        for (part, wanted) in [
            (r#"{"type":"image_url","image_url":{"url":"data:a b c d"}}"#, 100_000),
            (r#"{"image_url":"x y z"}"#, 100_000),
            (r#"{"type":"im\u0061ge_url"}"#, 100_000),
            (r#"{"type":"input_audio","input_audio":{"data":"x"}}"#, 200_000),
            (r#"{"type":"file","file":{"file_data":"x"}}"#, 300_000),
            (r#"{"type":"video_url","video_url":{"url":"x"}}"#, 300_000),
            (r#"{"type":"text","text":"a b","image_url":"x"}"#, 100_002),
            (r#"{"type":"later","text":"a b","extra":"c"}"#, 3),
        ] {
            assert_eq!(chat(&format!("\"messages\":[{{\"content\":[{part}]}}]")), 1010 + wanted, "{part}");
        }
    }

    #[test]
    fn chat_counts_tools_and_schemas_as_written() {
        let empty = chat("\"messages\":[{}],\"tools\":null");
        assert_eq!(empty, 1010);
        for name in ["tools", "functions", "response_format", "documents"] {
            assert_eq!(chat(&format!("\"messages\":[{{}}],\"{name}\":[ {{\"a\": \"b c\"}} ]")), empty + 5, "{name}");
        }
        assert_eq!(chat("\"messages\":[{}],\"n\":7,\"best_of\":9,\"metadata\":\"a b c\""), empty);
    }

    #[test]
    fn prompts_count_texts_and_token_numbers() {
        for (prompt, wanted) in
            [("\"a b\"", 2), ("[1,2,\n3]", 3), ("[\"a b\",\"c\"]", 3), ("[[1,2],[3]]", 3), ("null", 0), ("[]", 0)]
        {
            for (endpoint, name) in [(Endpoint::Completions, "prompt"), (Endpoint::Embeddings, "input")] {
                let body = format!("{{\"model\":\"m\",\"n\":5,\"{name}\":{prompt}}}");
                assert_eq!(measured(endpoint, &body, &words), wanted, "{body}");
            }
        }
        assert_eq!(measured(Endpoint::Completions, r#"{"prompt":"a","suffix":"b c"}"#, &words), 3);
    }

    #[test]
    fn bodies_of_many_messages_and_of_deep_brackets_are_counted() {
        let many = vec![r#"{"role":"user","content":"a"}"#; 100_000].join(",");
        assert_eq!(chat(&format!("\"messages\":[{many}]")), 1000 + 12 * 100_000);
        let deep = format!("\"messages\":[{{\"content\":[{}{}]}}]", "[".repeat(120), "]".repeat(120));
        assert_eq!(chat(&deep), 1011);
        assert_eq!(measured(Endpoint::Chat, "no json", &words), 1002);
    }

    proptest! {
        #[test]
        fn a_bound_by_bytes_is_never_below_a_count(text in "\\PC{0,30}", endpoint in 0_usize..3) {
            let text = serde_json::Value::from(text);
            let endpoint = [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings][endpoint];
            let body = format!(
                "{{\"messages\":[{{\"content\":{text}}},{{\"content\":[{{\"text\":{text}}}]}}],\"prompt\":[{text}],\"input\":{text},\"tools\":{text}}}"
            );
            let bound = measured(endpoint, &body, &|text| text.len() as u64);
            prop_assert!(bound >= measured(endpoint, &body, &words));
        }
    }
}
