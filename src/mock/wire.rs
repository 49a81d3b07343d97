//! OpenAI's JSON, as far as the mock reads and writes it.
//!
//! Pure: text in, text out, without timing. It reads leniently: a mock must not be stricter than the original.

use super::paced::Event;
use super::stats::Usage;
use bytes::Bytes;
use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The parts of a request that change the answer.
#[derive(Debug, Default, Deserialize)]
pub struct Asked<'a> {
    /// The model's name, repeated in the answer.
    #[serde(borrow, default)]
    pub model: Cow<'a, str>,
    #[serde(default)]
    stream: Option<bool>,
    #[serde(default)]
    stream_options: Option<StreamOptions>,
    #[serde(default)]
    max_tokens: Option<u64>,
    #[serde(default)]
    max_completion_tokens: Option<u64>,
    #[serde(borrow, default)]
    input: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: Option<bool>,
}

/// The three families of endpoints, which differ in the shape of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/v1/chat/completions`
    Chat,
    /// `/v1/completions`
    Text,
    /// `/v1/embeddings`
    Embeddings,
}

const CREATED: u64 = 1_700_000_000; // fixed, so that equal requests get equal answers

impl<'a> Asked<'a> {
    /// Read a body; a body without such an object has default values.
    pub fn read(body: &'a [u8]) -> Self {
        serde_json::from_slice(body).unwrap_or_default()
    }

    /// Whether an event stream was asked for instead of one object.
    pub fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether a usage chunk was asked for.
    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// The number of embeddings asked for: the length of a list of texts or of token lists, else 1.
    fn inputs(&self) -> usize {
        let listed = self.input.and_then(|input| serde_json::from_str::<Vec<&RawValue>>(input.get()).ok());
        listed.filter(|list| list.iter().all(|one| one.get().starts_with(['"', '[']))).map_or(1, |list| list.len())
    }

    /// Output tokens of the answer: `usual`, unless the request's cap is lower.
    pub fn output_tokens(&self, usual: u64) -> u64 {
        let cap = self.max_completion_tokens.or(self.max_tokens).unwrap_or(u64::MAX);
        usual.min(cap)
    }
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default() // writing a &str to a String cannot fail
}

fn usage_json(usage: Usage) -> String {
    let Usage { prompt, cached, completion, reasoning } = usage;
    let part = |n: u64, of: &str, name: &str| {
        if n > 0 { format!(",\"{of}_tokens_details\":{{\"{name}\":{n}}}") } else { String::new() }
    };
    let details = part(cached, "prompt", "cached_tokens") + &part(reasoning, "completion", "reasoning_tokens");
    let total = prompt.saturating_add(completion);
    format!("{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total}{details}}}")
}

/// An error in a model server's form.
pub fn error(status: StatusCode) -> String {
    let message = quoted(&format!("mock: {}", status.canonical_reason().unwrap_or("error")));
    format!(
        "{{\"error\":{{\"message\":{message},\"type\":\"server_error\",\"param\":null,\"code\":\"mock_{}\"}}}}",
        status.as_u16()
    )
}

/// A whole answer; `with_usage` false leaves the usage object out.
pub fn answer(endpoint: Endpoint, asked: &Asked<'_>, usage: Usage, with_usage: bool) -> String {
    let model = quoted(&asked.model);
    let text = "token ".repeat(usize::try_from(usage.completion - usage.reasoning).unwrap_or(0).min(65_536));
    let text = text.trim_end();
    let finish = if usage.completion < asked.output_tokens(u64::MAX) { "stop" } else { "length" };
    let body = match endpoint {
        Endpoint::Chat => format!(
            "\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion\",\"created\":{CREATED},\"model\":{model},\"choices\":[{{\"index\":0,\"message\":{{\"role\":\"assistant\",\"content\":\"{text}\"}},\"logprobs\":null,\"finish_reason\":\"{finish}\"}}]"
        ),
        Endpoint::Text => format!(
            "\"id\":\"cmpl-mock\",\"object\":\"text_completion\",\"created\":{CREATED},\"model\":{model},\"choices\":[{{\"index\":0,\"text\":\"{text}\",\"logprobs\":null,\"finish_reason\":\"{finish}\"}}]"
        ),
        Endpoint::Embeddings => {
            let one = |n| format!("{{\"object\":\"embedding\",\"index\":{n},\"embedding\":[0.5,-0.5,0.5,-0.5]}}");
            let all = (0..asked.inputs()).map(one).collect::<Vec<_>>().join(",");
            format!("\"object\":\"list\",\"model\":{model},\"data\":[{all}]")
        }
    };
    if with_usage { format!("{{{body},\"usage\":{}}}", usage_json(usage)) } else { format!("{{{body}}}") }
}

/// The models this mock claims to run.
pub fn models() -> &'static str {
    "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"aigw\"}]}"
}

/// A stream's events in order: role (chat), one per token, finish, usage if asked, `[DONE]`.
pub fn events(endpoint: Endpoint, asked: &Asked<'_>, usage: Usage, with_usage: bool) -> Vec<Event> {
    let model = quoted(&asked.model);
    let (id, object) = match endpoint {
        Endpoint::Text => ("cmpl-mock", "text_completion"),
        Endpoint::Chat | Endpoint::Embeddings => ("chatcmpl-mock", "chat.completion.chunk"),
    };
    let chunk = |choices: &str, extra: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"{id}\",\"object\":\"{object}\",\"created\":{CREATED},\"model\":{model},\"choices\":[{choices}]{extra}}}\n\n"
        ))
    };
    let finish = if usage.completion < asked.output_tokens(u64::MAX) { "stop" } else { "length" };
    let (first, content, last) = if endpoint == Endpoint::Text {
        (
            None,
            "{\"index\":0,\"text\":\"token \",\"finish_reason\":null}".to_owned(),
            format!("{{\"index\":0,\"text\":\"\",\"finish_reason\":\"{finish}\"}}"),
        )
    } else {
        (
            Some("{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":null}"),
            "{\"index\":0,\"delta\":{\"content\":\"token \"},\"finish_reason\":null}".to_owned(),
            format!("{{\"index\":0,\"delta\":{{}},\"finish_reason\":\"{finish}\"}}"),
        )
    };
    let content = chunk(&content, "");
    let mut events: Vec<Event> = first.map(|role| Event::new(chunk(role, ""), 0)).into_iter().collect();
    events.extend((usage.reasoning..usage.completion).map(|_| Event::new(content.clone(), 1)));
    events.push(Event::new(chunk(&last, ""), 0));
    if with_usage {
        let event = Event::new(chunk("", &format!(",\"usage\":{}", usage_json(usage))), 0);
        events.push(Event { usage: Some(usage), ..event });
    }
    events.push(Event::new(Bytes::from_static(b"data: [DONE]\n\n"), 0));
    events
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn usage(prompt: u64, completion: u64) -> Usage {
        Usage { prompt, cached: 2, completion, reasoning: 1 }
    }

    #[test]
    fn answer_is_json_and_repeats_the_model() {
        let asked = Asked::read(br#"{"model":"a\"b","max_tokens":3}"#);
        for endpoint in [Endpoint::Chat, Endpoint::Text, Endpoint::Embeddings] {
            let value: Value =
                serde_json::from_str(&answer(endpoint, &asked, usage(7, asked.output_tokens(5)), true)).unwrap();
            assert_eq!(value["model"], "a\"b");
            assert_eq!(value["usage"]["total_tokens"], 10);
            assert_eq!(value["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
        }
    }

    #[test]
    fn stream_has_usage_only_when_asked() {
        let plain = Asked::read(br#"{"model":"m","stream":true}"#);
        let events = events(Endpoint::Chat, &plain, usage(4, 3), plain.include_usage());
        assert_eq!(events.len(), 5); // role, 2 tokens that are said, finish, [DONE]
        assert_eq!(events.iter().map(|event| event.tokens).sum::<u64>(), 2);
        for event in &events[..4] {
            let text = std::str::from_utf8(&event.bytes).unwrap();
            let value: Value = serde_json::from_str(text.strip_prefix("data: ").unwrap().trim()).unwrap();
            assert!(value.get("usage").is_none());
        }
        let asked = Asked::read(br#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#);
        assert!(asked.include_usage());
    }

    #[test]
    fn answer_has_an_embedding_for_each_input() {
        for (input, wanted) in
            [("\"a\"", 1), ("[1,2,3]", 1), ("[\"a\", \"b\"]", 2), ("[[1], [2], [3]]", 3), ("null", 1)]
        {
            let body = format!("{{\"model\":\"m\",\"input\":{input}}}");
            let text = answer(Endpoint::Embeddings, &Asked::read(body.as_bytes()), usage(7, 1), true);
            let value: Value = serde_json::from_str(&text).unwrap();
            let places: Vec<_> = value["data"].as_array().unwrap().iter().map(|one| one["index"].as_u64()).collect();
            assert_eq!(places, (0..wanted).map(Some).collect::<Vec<_>>(), "{input}");
        }
    }

    #[test]
    fn read_takes_null_as_absent() {
        let asked =
            Asked::read(br#"{"model":"m","stream":null,"stream_options":{"include_usage":null},"max_tokens":null}"#);
        assert_eq!((&*asked.model, asked.stream(), asked.include_usage()), ("m", false, false));
    }

    #[test]
    fn read_takes_other_bodies_as_empty() {
        assert!(!Asked::read(b"\xff\x00").stream());
        assert_eq!(Asked::read(b"[]").model, "");
    }
}
