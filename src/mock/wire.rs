//! The bodies of OpenAI's API as the mock writes them.
//!
//! In: the request and the content of its answer. Out: text. Pure, without timing.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::StatusCode;

use super::asked::{Asked, Encoding, Wrong};
use super::paced::Event;
use super::said::{Content, Said};
use super::stats::Usage;

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
const MAX_WORDS: usize = 65_536; // of a whole answer, whose text is in memory

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_default() // writing a &str to a String cannot fail
}

fn usage_json(usage: Usage) -> String {
    let Usage { prompt, cached, audio, completion, reasoning } = usage;
    let part = |of: &str, counts: &[(&str, u64)]| {
        let known = counts.iter().filter(|(_, n)| *n > 0).map(|(name, n)| format!("\"{name}\":{n}"));
        let known = known.collect::<Vec<_>>().join(",");
        if known.is_empty() { known } else { format!(",\"{of}_tokens_details\":{{{known}}}") }
    };
    let details = part("prompt", &[("cached_tokens", cached), ("audio_tokens", audio)])
        + &part("completion", &[("reasoning_tokens", reasoning)]);
    let total = prompt.saturating_add(completion);
    format!("{{\"prompt_tokens\":{prompt},\"completion_tokens\":{completion},\"total_tokens\":{total}{details}}}")
}

/// An error in a model server's form.
pub fn error(status: StatusCode) -> String {
    let kind = match status.as_u16() {
        403 => "permission_error",
        429 => "requests",
        400..500 => "invalid_request_error",
        _ => "server_error",
    };
    let message = quoted(&format!("mock: {}", status.canonical_reason().unwrap_or("error")));
    format!(
        "{{\"error\":{{\"message\":{message},\"type\":\"{kind}\",\"param\":null,\"code\":\"mock_{}\"}}}}",
        status.as_u16()
    )
}

/// The body of a 400.
pub fn refusal(wrong: &Wrong) -> String {
    let (message, param) = (quoted(&wrong.message), wrong.param.map_or_else(|| "null".to_owned(), quoted));
    format!(
        "{{\"error\":{{\"message\":{message},\"type\":\"invalid_request_error\",\"param\":{param},\"code\":null}}}}"
    )
}

/// A whole answer of a chat or a completion; `with_usage` false leaves the usage object out.
pub fn answer(endpoint: Endpoint, asked: &Asked<'_>, said: &Said, usage: Usage, with_usage: bool) -> String {
    let finish = said.finish();
    let (id, object) =
        if endpoint == Endpoint::Text { ("cmpl", "text_completion") } else { ("chatcmpl", "chat.completion") };
    let content = if endpoint == Endpoint::Text { format!("\"text\":{}", quoted(&text(said))) } else { message(said) };
    let choices = (0..asked.choices())
        .map(|index| format!("{{\"index\":{index},{content},\"logprobs\":null,\"finish_reason\":\"{finish}\"}}"));
    let choices = choices.collect::<Vec<_>>().join(",");
    let model = quoted(&asked.model);
    let served = served(asked);
    let usage = if with_usage { format!(",\"usage\":{}", usage_json(usage)) } else { String::new() };
    format!(
        "{{\"id\":\"{id}-mock\",\"object\":\"{object}\",\"created\":{CREATED},\"model\":{model}{served},\"choices\":[{choices}]{usage}}}"
    )
}

fn text(said: &Said) -> String {
    match &said.content {
        Content::Words(count) => {
            let count = usize::try_from(*count).unwrap_or(MAX_WORDS).min(MAX_WORDS);
            "token ".repeat(count).trim_end().to_owned()
        }
        Content::Text(pieces) => pieces.concat(),
        Content::Call { .. } => String::new(),
    }
}

fn message(said: &Said) -> String {
    let Content::Call { id, name, arguments } = &said.content else {
        return format!("\"message\":{{\"role\":\"assistant\",\"content\":{}}}", quoted(&text(said)));
    };
    let (name, arguments) = (quoted(name), quoted(&arguments.concat()));
    format!(
        "\"message\":{{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{{\"id\":\"{id}\",\"type\":\"function\",\"function\":{{\"name\":{name},\"arguments\":{arguments}}}}}]}}"
    )
}

/// The member of the service tier: the one that the caller asks for.
fn served(asked: &Asked<'_>) -> String {
    asked.service_tier.as_deref().map_or_else(String::new, |tier| format!(",\"service_tier\":{}", quoted(tier)))
}

/// The embeddings of all inputs: vectors of length 1, all equal.
pub fn embeddings(asked: &Asked<'_>, usage: Usage, with_usage: bool) -> String {
    #[allow(clippy::cast_precision_loss)] // at most 16,384 numbers
    let size = 1.0 / (asked.dimensions() as f32).sqrt();
    let numbers = (0..asked.dimensions()).map(|place| if place % 2 == 0 { size } else { -size });
    let vector = match asked.encoding() {
        Encoding::Float => format!("[{}]", numbers.map(|number| number.to_string()).collect::<Vec<_>>().join(",")),
        Encoding::Base64 => quoted(&STANDARD.encode(numbers.flat_map(f32::to_le_bytes).collect::<Vec<_>>())),
    };
    let one = |index| format!("{{\"object\":\"embedding\",\"index\":{index},\"embedding\":{vector}}}");
    let all = (0..asked.inputs()).map(one).collect::<Vec<_>>().join(",");
    let model = quoted(&asked.model);
    let usage = if with_usage { format!(",\"usage\":{}", usage_json(usage)) } else { String::new() };
    format!("{{\"object\":\"list\",\"model\":{model},\"data\":[{all}]{usage}}}")
}

/// One model in a model server's form.
pub fn model(name: &str) -> String {
    format!("{{\"id\":{},\"object\":\"model\",\"created\":{CREATED},\"owned_by\":\"aigw\"}}", quoted(name))
}

/// The models this mock claims to run.
pub fn models() -> String {
    format!("{{\"object\":\"list\",\"data\":[{}]}}", model("mock"))
}

/// A stream's events in order: the roles (chat), one event per token and choice in turn, the ends, usage if asked, `[DONE]`.
pub fn events(endpoint: Endpoint, asked: &Asked<'_>, said: &Said, usage: Usage, with_usage: bool) -> Vec<Event> {
    let (model, served) = (quoted(&asked.model), served(asked));
    let (id, object) = match endpoint {
        Endpoint::Text => ("cmpl-mock", "text_completion"),
        Endpoint::Chat | Endpoint::Embeddings => ("chatcmpl-mock", "chat.completion.chunk"),
    };
    let chunk = |choices: &str, extra: &str| {
        Bytes::from(format!(
            "data: {{\"id\":\"{id}\",\"object\":\"{object}\",\"created\":{CREATED},\"model\":{model}{served},\"choices\":[{choices}]{extra}}}\n\n"
        ))
    };
    let each = |content: &str, finish: Option<&str>| -> Vec<Bytes> {
        let finish = finish.map_or_else(|| "null".to_owned(), quoted);
        let one = |index| chunk(&format!("{{\"index\":{index},{content},\"finish_reason\":{finish}}}"), "");
        (0..asked.choices()).map(one).collect()
    };
    let deltas = Deltas { of_chat: endpoint != Endpoint::Text, said };
    let mut events: Vec<Event> = Vec::new();
    let mut push = |chunks: &[Bytes], tokens| events.extend(chunks.iter().map(|one| Event::new(one.clone(), tokens)));
    if let Some(role) = deltas.role() {
        push(&each(role, None), 0);
    }
    if let Content::Words(count) = said.content {
        let word = each(&deltas.text(" token"), None);
        (0..count).for_each(|_| push(&word, 1));
    } else {
        deltas.pieces().iter().for_each(|piece| push(&each(piece, None), 1));
    }
    push(&each(deltas.end(), Some(said.finish())), 0);
    if with_usage {
        let event = Event::new(chunk("", &format!(",\"usage\":{}", usage_json(usage))), 0);
        events.push(Event { usage: Some(usage), ..event });
    }
    events.push(Event::new(Bytes::from_static(b"data: [DONE]\n\n"), 0));
    events
}

/// The members of a choice in a stream's events, next to `index` and `finish_reason`.
struct Deltas<'a> {
    of_chat: bool,
    said: &'a Said,
}

impl Deltas<'_> {
    fn role(&self) -> Option<&'static str> {
        let role = match self.said.content {
            Content::Call { .. } => "\"delta\":{\"role\":\"assistant\",\"content\":null}",
            Content::Words(_) | Content::Text(_) => "\"delta\":{\"role\":\"assistant\",\"content\":\"\"}",
        };
        self.of_chat.then_some(role)
    }

    fn text(&self, piece: &str) -> String {
        let piece = quoted(piece);
        if self.of_chat { format!("\"delta\":{{\"content\":{piece}}}") } else { format!("\"text\":{piece}") }
    }

    /// One for each token of a JSON text or of a call.
    fn pieces(&self) -> Vec<String> {
        let call = |members: &str| format!("\"delta\":{{\"tool_calls\":[{{\"index\":0,{members}}}]}}");
        match &self.said.content {
            Content::Words(_) => Vec::new(),
            Content::Text(pieces) => pieces.iter().map(|piece| self.text(piece)).collect(),
            Content::Call { id, name, arguments } => {
                let name = quoted(name);
                let first = format!(
                    "\"id\":\"{id}\",\"type\":\"function\",\"function\":{{\"name\":{name},\"arguments\":\"\"}}"
                );
                let rest = arguments.iter().map(|piece| format!("\"function\":{{\"arguments\":{}}}", quoted(piece)));
                [first].into_iter().chain(rest).map(|members| call(&members)).collect()
            }
        }
    }

    fn end(&self) -> &'static str {
        if self.of_chat { "\"delta\":{}" } else { "\"text\":\"\"" }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{"type":"integer"}},"required":["a"]}}}]"#;

    fn usage(prompt: u64, completion: u64) -> Usage {
        Usage { prompt, cached: 2, audio: 0, completion, reasoning: 1 }
    }

    fn asked(text: &str) -> Asked<'_> {
        Asked::read(text.as_bytes()).unwrap()
    }

    /// The data of all events but `[DONE]`.
    fn data(events: &[Event]) -> Vec<Value> {
        let text = |event: &Event| String::from_utf8(event.bytes.to_vec()).unwrap();
        let all = events.iter().map(text).map(|one| one.strip_prefix("data: ").unwrap().trim().to_owned());
        all.filter(|one| one != "[DONE]").map(|one| serde_json::from_str(&one).unwrap()).collect()
    }

    #[test]
    fn answer_is_json_and_repeats_the_model() {
        let asked = asked(r#"{"model":"a\"b","max_tokens":3,"n":2}"#);
        let said = Said::words(&asked, 5, 1);
        for endpoint in [Endpoint::Chat, Endpoint::Text] {
            let value: Value = serde_json::from_str(&answer(endpoint, &asked, &said, usage(7, 6), true)).unwrap();
            assert_eq!(value["model"], "a\"b");
            assert_eq!(value["usage"]["total_tokens"], 13);
            assert_eq!(value["usage"]["prompt_tokens_details"]["cached_tokens"], 2);
            assert_eq!(value["choices"][1]["index"], 1);
            assert_eq!(value["choices"][1]["finish_reason"], "length");
        }
    }

    #[test]
    fn answer_has_the_call_of_a_tool() {
        let body = format!("{{{TOOLS}}}");
        let asked = asked(&body);
        let said = Said::chat(&asked, 16, 0).unwrap();
        let value: Value = serde_json::from_str(&answer(Endpoint::Chat, &asked, &said, usage(7, 3), true)).unwrap();
        let choice = &value["choices"][0];
        let function = json!({"name": "f", "arguments": "{\"a\":1}"});
        let call = json!({"id": "call_mock_0", "type": "function", "function": function});
        assert_eq!(choice["message"], json!({"role": "assistant", "content": null, "tool_calls": [call]}));
        assert_eq!(choice["finish_reason"], "tool_calls");
    }

    #[test]
    fn answer_names_the_service_tier_that_was_asked_for() {
        let asked = asked(r#"{"model":"m","service_tier":"flex"}"#);
        let said = Said::words(&asked, 3, 0);
        let used = Usage { audio: 4, ..usage(7, 6) };
        let whole: Value = serde_json::from_str(&answer(Endpoint::Chat, &asked, &said, used, true)).unwrap();
        assert_eq!(
            (&whole["service_tier"], &whole["usage"]["prompt_tokens_details"]["audio_tokens"]),
            (&json!("flex"), &json!(4))
        );
        let events = events(Endpoint::Chat, &asked, &said, used, true);
        assert!(data(&events).iter().all(|one| one["service_tier"] == "flex"));
    }

    #[test]
    fn stream_has_usage_only_when_asked() {
        let plain = asked(r#"{"model":"m","stream":true}"#);
        let said = Said::words(&plain, 2, 1);
        let events = events(Endpoint::Chat, &plain, &said, usage(4, 3), plain.include_usage());
        assert_eq!(events.len(), 5); // role, 2 tokens that are said, finish, [DONE]
        assert_eq!(events.iter().map(|event| event.tokens).sum::<u64>(), 2);
        assert!(data(&events).iter().all(|one| one.get("usage").is_none()));
        assert!(asked(r#"{"model":"m","stream":true,"stream_options":{"include_usage":true}}"#).include_usage());
    }

    #[test]
    fn stream_has_the_call_in_pieces() {
        let body = format!("{{{TOOLS},\"n\":2}}");
        let asked = asked(&body);
        let said = Said::chat(&asked, 16, 0).unwrap();
        let events = events(Endpoint::Chat, &asked, &said, usage(7, 6), true);
        assert_eq!(events.iter().map(|event| event.tokens).sum::<u64>(), 6);
        let all = data(&events);
        for choice in [0, 1] {
            let own: Vec<_> = all.iter().map(|one| &one["choices"][0]).filter(|one| one["index"] == choice).collect();
            let calls: Vec<_> =
                own.iter().map(|one| &one["delta"]["tool_calls"][0]).filter(|one| !one.is_null()).collect();
            assert_eq!((&calls[0]["id"], &calls[0]["function"]["name"]), (&json!("call_mock_0"), &json!("f")));
            let text: String = calls.iter().filter_map(|one| one["function"]["arguments"].as_str()).collect();
            assert_eq!(text, "{\"a\":1}");
            assert_eq!(own.last().unwrap()["finish_reason"], "tool_calls");
        }
        assert_eq!(all.last().unwrap()["choices"], json!([]));
    }

    #[test]
    fn embeddings_answer_each_input() {
        for (input, wanted) in
            [("\"a\"", 1), ("[1,2,3]", 1), ("[\"a\", \"b\"]", 2), ("[[1], [2], [3]]", 3), ("null", 1)]
        {
            let body = format!("{{\"model\":\"m\",\"input\":{input}}}");
            let value: Value = serde_json::from_str(&embeddings(&asked(&body), usage(7, 0), true)).unwrap();
            let places: Vec<_> = value["data"].as_array().unwrap().iter().map(|one| one["index"].as_u64()).collect();
            assert_eq!(places, (0..wanted).map(Some).collect::<Vec<_>>(), "{input}");
            assert_eq!(value["data"][0]["embedding"], json!([0.5, -0.5, 0.5, -0.5]));
        }
    }

    #[test]
    fn embeddings_are_base64_of_little_endian_floats() {
        let asked = asked(r#"{"input":"a","encoding_format":"base64","dimensions":1}"#);
        let value: Value = serde_json::from_str(&embeddings(&asked, usage(7, 0), false)).unwrap();
        assert_eq!(value["data"][0]["embedding"], "AACAPw=="); // 1.0: 00 00 80 3f
    }

    #[test]
    fn refusal_names_the_member() {
        let wrong = Asked::read(br#"{"n":0}"#).unwrap_err();
        let value: Value = serde_json::from_str(&refusal(&wrong)).unwrap();
        assert_eq!((&value["error"]["type"], &value["error"]["param"]), (&json!("invalid_request_error"), &json!("n")));
    }
}
