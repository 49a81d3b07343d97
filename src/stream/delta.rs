//! The text that one chunk of a stream generates, by choice, and the marks that a chunk of the gateway's own repeats.
//!
//! In: the data of an event. Out: a [`Delta`]: for each choice its number, its text and whether it has ended. Text is content,
//! refusal, reasoning, and names and arguments of tool calls; on completions it is `text`. A delta without any of them (the role
//! alone, an empty object) generates nothing. Data that is no chunk generates nothing either.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::tokens::TokenCounter;

/// A chunk as far as counting needs it.
#[derive(Deserialize, Default)]
pub(super) struct Delta<'a> {
    #[serde(borrow)]
    pub(super) id: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) object: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) created: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    choices: Option<Vec<Choice<'a>>>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(default)]
    index: Option<u64>,
    #[serde(borrow)]
    finish_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Members<'a> {
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    refusal: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_content: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_calls: Option<&'a RawValue>,
    #[serde(borrow)]
    function_call: Option<&'a RawValue>,
}

/// One choice of a chunk.
pub(super) struct Part<'a> {
    pub(super) index: u64,
    /// The texts that it adds, in order; an empty one is left out.
    pub(super) texts: Vec<Cow<'a, str>>,
    /// It names a reason to finish.
    pub(super) finished: bool,
}

impl<'a> Delta<'a> {
    /// Reads the data of an event.
    pub(super) fn read(data: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(data).ok()
    }

    /// Its choices.
    pub(super) fn parts(&self) -> impl Iterator<Item = Part<'a>> {
        self.choices.iter().flatten().enumerate().map(|(n, choice)| {
            let finished = choice.finish_reason.is_some_and(|reason| reason.get() != "null");
            Part { index: choice.index.unwrap_or(n as u64), texts: texts_of(choice.text, choice.delta), finished }
        })
    }
}

/// A whole answer as far as counting needs it.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    choices: Vec<Answered<'a>>,
}

#[derive(Deserialize)]
struct Answered<'a> {
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    message: Option<&'a RawValue>,
}

/// The texts of each choice of a whole answer; `None` for data without choices.
pub(super) fn of_document<'a>(data: &'a [u8]) -> Option<Vec<Vec<Cow<'a, str>>>> {
    let document: Document<'a> = serde_json::from_slice(data).ok()?;
    let texts = |choice: &Answered<'a>| texts_of(choice.text, choice.message);
    Some(document.choices.iter().map(texts).collect()).filter(|choices: &Vec<_>| !choices.is_empty())
}

/// The tokens of the texts of one choice: at least one where there is any text.
pub(super) fn tokens(texts: &[Cow<'_, str>], counter: &dyn TokenCounter) -> u64 {
    let sum = texts.iter().map(|text| counter.count(text)).sum::<u64>();
    sum.max(u64::from(!texts.is_empty()))
}

/// The texts of one choice. `said`: its `delta` or its `message`.
fn texts_of<'a>(text: Option<&'a RawValue>, said: Option<&'a RawValue>) -> Vec<Cow<'a, str>> {
    let mut texts = Vec::new();
    if let Some(text) = text {
        collect(text, &mut texts);
    }
    if let Some(said) = said {
        of_members(said, &mut texts);
    }
    texts
}

/// The texts of a `delta` or a `message`.
fn of_members<'a>(delta: &'a RawValue, texts: &mut Vec<Cow<'a, str>>) {
    let Ok(members) = serde_json::from_str::<Members<'a>>(delta.get()) else { return };
    let Members { content, refusal, reasoning_content, reasoning, tool_calls, function_call } = members;
    // Servers that send both names of reasoning say the same text twice.
    let thought = reasoning_content.filter(|text| !matches!(text.get(), "null" | "\"\"")).or(reasoning);
    for member in [content, refusal, thought, tool_calls, function_call].into_iter().flatten() {
        collect(member, texts);
    }
}

/// Adds the strings of a value, except those that name types and ids.
fn collect<'a>(value: &'a RawValue, texts: &mut Vec<Cow<'a, str>>) {
    let json = value.get();
    match json.as_bytes().first() {
        Some(b'"') => {
            if let Ok(Text(text)) = serde_json::from_str::<Text<'a>>(json)
                && !text.is_empty()
            {
                texts.push(text);
            }
        }
        Some(b'[' | b'{') => {
            if let Ok(value) = serde_json::from_str(json) {
                nested(&value, texts);
            }
        }
        _ => {}
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// Depth is bounded: the parser refuses more than 128 levels.
fn nested(value: &serde_json::Value, texts: &mut Vec<Cow<'_, str>>) {
    match value {
        serde_json::Value::String(text) if !text.is_empty() => texts.push(Cow::Owned(text.clone())),
        serde_json::Value::Array(values) => values.iter().for_each(|value| nested(value, texts)),
        serde_json::Value::Object(members) => {
            let said = members.iter().filter(|(name, _)| !matches!(name.as_str(), "type" | "id" | "index"));
            said.for_each(|(_, value)| nested(value, texts));
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(data: &str) -> Vec<(u64, String, bool)> {
        let delta = Delta::read(data.as_bytes());
        let parts = delta.iter().flat_map(Delta::parts);
        parts.map(|part| (part.index, part.texts.join("|"), part.finished)).collect()
    }

    #[test]
    fn delta_yields_text_of_every_kind() {
        for (delta, wanted) in [
            (r#"{"content":"hi\n"}"#, "hi\n"),
            (r#"{"role":"assistant","content":""}"#, ""),
            (r#"{"role":"assistant","content":null}"#, ""),
            ("{}", ""),
            ("null", ""),
            (r#"{"reasoning_content":"so","content":null}"#, "so"),
            (r#"{"reasoning":"so","reasoning_content":"so"}"#, "so"),
            (r#"{"reasoning":"so","reasoning_content":""}"#, "so"),
            (r#"{"refusal":"no"}"#, "no"),
            (r#"{"content":[{"type":"thinking","thinking":[{"type":"text","text":"so"}]}]}"#, "so"),
            (
                r#"{"tool_calls":[{"index":0,"id":"call_1","type":"function","function":{"name":"get","arguments":""}}]}"#,
                "get",
            ),
            (r#"{"tool_calls":[{"index":0,"function":{"arguments":"{\"a\":"}}]}"#, "{\"a\":"),
            (r#"{"function_call":{"arguments":"1}"}}"#, "1}"),
        ] {
            let chunk = format!(r#"{{"choices":[{{"index":3,"delta":{delta},"finish_reason":null}}]}}"#);
            assert_eq!(read(&chunk), [(3, wanted.to_owned(), false)], "{delta}");
        }
    }

    #[test]
    fn chunk_yields_each_choice() {
        let chat = r#"{"choices":[{"delta":{"content":"a"}},{"delta":{"content":"b"},"finish_reason":"stop"}]}"#;
        assert_eq!(read(chat), [(0, "a".into(), false), (1, "b".into(), true)]);
        let text = r#"{"choices":[{"index":1,"text":"a","logprobs":null,"finish_reason":"length"}]}"#;
        assert_eq!(read(text), [(1, "a".into(), true)]);
        for none in ["[DONE]", "", "[]", "{}", r#"{"choices":null}"#, r#"{"choices":[]}"#, r#"{"choices":5}"#] {
            assert!(read(none).is_empty(), "{none}");
        }
    }
}
