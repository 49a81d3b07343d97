//! The deciding words of a body in OpenAI's dialect, each with its position.
//!
//! In: an endpoint and the body's bytes. Out: [`Asked`], or the refusal of the body. Each deciding member (model, caps,
//! choices, streaming, tools) has one type and may occur once: with two, gateway and upstream could each believe another
//! one. A member whose name differs only in the letters' case is refused, because some upstreams ignore case. Everything
//! else is only checked to be JSON of bounded depth, and passes byte for byte.
//! Source: OpenAI's `OpenAPI` description of `/chat/completions`, `/completions`, `/embeddings`.

use std::ops::Range;

use serde_json::value::RawValue;

use super::spelling::in_another_case;
use super::values::{
    MemberFault, boolean, count, each_member, filled, is_text_format, misspelt, prompts, refused, set, string, twice,
};
use crate::json_scan::JsonScan;
use crate::refusal::{Reason, Refusal};

/// Brackets deeper than this are refused: an upstream may parse by recursion.
const MAX_DEPTH: u32 = 128;
/// An endpoint that calls a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`.
    Chat,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/embeddings`.
    Embeddings,
}

impl Endpoint {
    /// The path behind an upstream's base URL.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Chat => "/chat/completions",
            Self::Completions => "/completions",
            Self::Embeddings => "/embeddings",
        }
    }

    /// The member of a body that has its input.
    pub const fn input_member(self) -> &'static str {
        match self {
            Self::Chat => "messages",
            Self::Completions => "prompt",
            Self::Embeddings => "input",
        }
    }

    /// Whether it generates text, which can be capped and streamed.
    pub const fn generates(self) -> bool {
        !matches!(self, Self::Embeddings)
    }
}

/// A member that bounds the output, and its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cap {
    /// Tokens; `None` for null and -1, which mean no cap.
    pub tokens: Option<u32>,
    /// Its value.
    pub at: Range<usize>,
}

/// Whether the caller wants the usage of a stream, and the position of that word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IncludeUsage {
    /// The body has no `stream_options`.
    Absent,
    /// `stream_options` is null, here.
    Null(Range<usize>),
    /// An object without the member: the position behind its brace, and whether it is empty.
    Unsaid(usize, bool),
    /// False (or null), here.
    No(Range<usize>),
    /// True.
    Yes,
}

/// The deciding words of one body.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one for each parameter that tiers gate
pub struct Asked {
    /// Public name of the model.
    pub model: String,
    /// Position of its JSON string, quotes included.
    pub model_at: Range<usize>,
    /// A streamed answer.
    pub stream: bool,
    /// Whether the stream shall report its usage.
    pub include_usage: IncludeUsage,
    /// Position of the value of `stream_options`.
    pub stream_options: Option<Range<usize>>,
    /// `max_tokens`.
    pub max_tokens: Option<Cap>,
    /// `max_completion_tokens`.
    pub max_completion_tokens: Option<Cap>,
    /// Choices that are generated: the larger of `n` and `best_of`, for each prompt.
    pub choices: u32,
    /// Prompts in one call of `/completions`; elsewhere one.
    pub prompts: u32,
    /// Tools or functions.
    pub tools: bool,
    /// Log probabilities.
    pub logprobs: bool,
    /// An output format other than text.
    pub response_format: bool,
    /// `reasoning_effort`.
    pub reasoning_effort: bool,
    /// The call asks the model to reason: by `reasoning_effort` other than "none", or by `reasoning` (`OpenRouter`).
    pub reasons: bool,
    /// Position behind the body's opening brace.
    pub open: usize,
}

/// Reads a body. `param` of the refusal names the member at fault.
pub fn read(endpoint: Endpoint, body: &[u8]) -> Result<Asked, Refusal> {
    let Ok(text) = std::str::from_utf8(body) else { return Err(invalid_json("it is not UTF-8")) };
    if JsonScan::default().pass(body) > MAX_DEPTH {
        return Err(invalid_json("it is nested too deeply"));
    }
    let mut found = Found::default();
    match each_member(text, |name, value| found.take(name, value)) {
        Ok(()) => found.asked(endpoint, text),
        Err(MemberFault::Refused(refused)) => Err(refused),
        Err(MemberFault::Broken(error)) => Err(invalid_json(&error.to_string())),
    }
}

/// Whether a body has messages. False for a body that is no object: [`read`] tells why.
pub fn has_messages(body: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(body) else { return false };
    let mut found = false;
    let look = |name: &str, _: &RawValue| -> Result<(), ()> {
        found |= name == "messages";
        Ok(())
    };
    each_member(text, look).is_ok() && found
}

fn invalid_json(why: &str) -> Refusal {
    Refusal::because(Reason::InvalidJson, format!("We could not parse the JSON body of your request: {why}."))
}

/// Builds the members that decide, so that their names are written once.
macro_rules! members {
    ($( $field:ident ),+) => {
        /// The raw values of the members that decide.
        #[derive(Default)]
        struct Found<'a> {
            $( $field: Option<&'a RawValue>, )+
        }

        impl<'a> Found<'a> {
            /// The index of a member among those that decide.
            fn slot(&mut self, name: &str) -> Option<(&'static str, &mut Option<&'a RawValue>)> {
                match name {
                    $( stringify!($field) => Some((stringify!($field), &mut self.$field)), )+
                    _ => None,
                }
            }
        }

        /// Their names.
        const DECIDING: &[&str] = &[$( stringify!($field) ),+];
    };
}

members!(
    model,
    messages,
    prompt,
    input,
    stream,
    stream_options,
    max_tokens,
    max_completion_tokens,
    n,
    best_of,
    tools,
    functions,
    logprobs,
    top_logprobs,
    response_format,
    reasoning_effort,
    reasoning,
    user
);

impl<'a> Found<'a> {
    fn take(&mut self, name: &str, value: &'a RawValue) -> Result<(), Refusal> {
        match self.slot(name) {
            Some((known, slot)) => slot.replace(value).map_or(Ok(()), |_| Err(twice(known, known))),
            None => in_another_case(name, DECIDING).map_or(Ok(()), |known| Err(misspelt("", name, known))),
        }
    }

    fn asked(&self, endpoint: Endpoint, body: &str) -> Result<Asked, Refusal> {
        let Some(model) = set(self.model) else {
            return Err(refused("model", "you must provide a model parameter".into()));
        };
        let name = string(model).filter(|name| !name.is_empty());
        let Some(name) = name else { return Err(refused("model", "'model' must be a non-empty string".into())) };
        let prompts = self.prompts(endpoint)?;
        let stream = boolean("stream", self.stream)?;
        if stream && !endpoint.generates() {
            return Err(refused("stream", "this endpoint does not stream".into()));
        }
        let caps = [("max_tokens", self.max_tokens), ("max_completion_tokens", self.max_completion_tokens)];
        let cap = |(name, value): (&'static str, Option<&RawValue>)| -> Result<Option<Cap>, Refusal> {
            let tokens = count(name, value.filter(|raw| raw.get() != "-1"))?;
            Ok(value.map(|raw| Cap { tokens, at: position(body, raw) }))
        };
        let [max_tokens, max_completion_tokens] = caps.map(cap);
        let each = count("n", self.n)?.unwrap_or(1).max(count("best_of", self.best_of)?.unwrap_or(1));
        Ok(Asked {
            model: name,
            model_at: position(body, model),
            stream,
            include_usage: self.include_usage(body)?,
            stream_options: self.stream_options.map(|raw| position(body, raw)),
            max_tokens: max_tokens?,
            max_completion_tokens: max_completion_tokens?,
            choices: each.saturating_mul(prompts),
            prompts,
            tools: [self.tools, self.functions].into_iter().any(filled),
            logprobs: self.logprobs.is_some_and(|raw| !matches!(raw.get(), "null" | "false"))
                || set(self.top_logprobs).is_some(),
            response_format: set(self.response_format).is_some_and(|raw| !is_text_format(raw)),
            reasoning_effort: set(self.reasoning_effort).is_some(),
            reasons: set(self.reasoning_effort).is_some_and(|raw| raw.get() != "\"none\"")
                || set(self.reasoning).is_some(),
            open: body.find('{').map_or(0, |at| at + 1),
        })
    }

    /// The number of prompts. Refuses a body without the input of its endpoint.
    fn prompts(&self, endpoint: Endpoint) -> Result<u32, Refusal> {
        match endpoint {
            Endpoint::Chat => {
                let messages = set(self.messages).map(RawValue::get);
                if !messages.is_some_and(|text| text.starts_with('[')) {
                    return Err(refused("messages", "'messages' must be an array".into()));
                }
                if messages.is_some_and(|text| text[1..].trim_start().starts_with(']')) {
                    return Err(refused("messages", "'messages' must not be empty".into()));
                }
            }
            // Without a prompt the model begins a new document.
            Endpoint::Completions => {
                const KINDS: &str =
                    "'prompt' must be a string, a list of tokens, or a list of either that is not empty";
                return set(self.prompt).map_or(Some(1), prompts).ok_or_else(|| refused("prompt", KINDS.into()));
            }
            Endpoint::Embeddings if set(self.input).is_none() => {
                return Err(refused("input", "you must provide an input".into()));
            }
            Endpoint::Embeddings => {}
        }
        Ok(1)
    }

    fn include_usage(&self, body: &str) -> Result<IncludeUsage, Refusal> {
        const NAME: &str = "stream_options";
        let Some(options) = self.stream_options else { return Ok(IncludeUsage::Absent) };
        let text = options.get();
        if text == "null" {
            return Ok(IncludeUsage::Null(position(body, options)));
        }
        if !text.starts_with('{') {
            return Err(refused(NAME, format!("'{NAME}' must be an object")));
        }
        let (mut said, mut empty) = (None, true);
        let read = each_member(text, |name, value| {
            empty = false;
            if name == "include_usage" {
                return said.replace(value).map_or(Ok(()), |_| Err(twice(NAME, "stream_options.include_usage")));
            }
            let known = in_another_case(name, &["include_usage"]);
            known.map_or(Ok(()), |known| Err(misspelt("stream_options.", name, known)))
        });
        match read {
            Ok(()) => {}
            Err(MemberFault::Refused(refused)) => return Err(refused),
            Err(MemberFault::Broken(error)) => return Err(invalid_json(&error.to_string())),
        }
        let Some(said) = said else {
            return Ok(IncludeUsage::Unsaid(position(body, options).start + 1, empty));
        };
        match said.get() {
            "true" => Ok(IncludeUsage::Yes),
            "false" | "null" => Ok(IncludeUsage::No(position(body, said))),
            _ => Err(refused(NAME, format!("'{NAME}.include_usage' must be true or false"))),
        }
    }
}

/// The position of a value that was borrowed from the body.
fn position(body: &str, raw: &RawValue) -> Range<usize> {
    let start = (raw.get().as_ptr() as usize).wrapping_sub(body.as_ptr() as usize);
    start..start + raw.get().len()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn chat(body: &str) -> Result<Asked, Refusal> {
        read(Endpoint::Chat, body.as_bytes())
    }

    fn with(members: &str) -> Result<Asked, Refusal> {
        chat(&format!("{{\"model\":\"m\",\"messages\":[{{}}]{members}}}"))
    }

    #[test]
    fn scan_finds_the_deciding_members_with_their_offsets() {
        let body = " { \"max_tokens\" : 7 , \"mod\\u0065l\":\"a\\u0062\", \"messages\":[1],\"stream\":true,\"n\":2,\"best_of\":3,\
                    \"tools\":[{}],\"logprobs\":true,\"response_format\":{\"type\":\"json_object\"}, \"reasoning_effort\":\"low\",\
                    \"max_completion_tokens\":null} ";
        let asked = chat(body).unwrap();
        assert_eq!((asked.model.as_str(), &body[asked.model_at.clone()]), ("ab", "\"a\\u0062\""));
        let cap = asked.max_tokens.unwrap();
        assert_eq!((cap.tokens, &body[cap.at]), (Some(7), "7"));
        let cap = asked.max_completion_tokens.unwrap();
        assert_eq!((cap.tokens, &body[cap.at]), (None, "null"));
        assert_eq!((asked.stream, asked.choices, asked.open), (true, 3, 2));
        assert!(asked.tools && asked.logprobs && asked.response_format && asked.reasoning_effort);
        let plain = with(
            ",\"tools\":[],\"functions\":null,\"logprobs\":false,\"response_format\":{\"type\":\"text\"},\"n\":null",
        )
        .unwrap();
        assert!(!(plain.tools || plain.logprobs || plain.response_format || plain.stream || plain.reasoning_effort));
        assert_eq!(plain.choices, 1);
    }

    #[test]
    fn whether_the_usage_of_a_stream_is_wanted() {
        let found = |options: &str| {
            let body = format!("{{\"stream_options\":{options},\"model\":\"m\",\"messages\":[1]}}");
            chat(&body).map(|asked| match asked.include_usage {
                IncludeUsage::Null(at) | IncludeUsage::No(at) => body[at].to_owned(),
                other => format!("{other:?}"),
            })
        };
        assert_eq!(with("").unwrap().include_usage, IncludeUsage::Absent);
        for (options, wanted) in [
            ("null", "null"),
            ("{}", "Unsaid(19, true)"),
            ("{\"x\":1}", "Unsaid(19, false)"),
            ("{\"include_usage\":false}", "false"),
            ("{\"x\":{},\"include_usage\":null}", "null"),
            ("{\"include_usage\":true}", "Yes"),
        ] {
            assert_eq!(found(options).unwrap(), wanted, "{options}");
        }
        for options in ["5", "[]", "\"x\"", "{\"include_usage\":1}", "{\"include_usage\":true,\"include_usage\":true}"]
        {
            assert_eq!(found(options).unwrap_err().param.as_deref(), Some("stream_options"), "{options}");
        }
    }

    #[test]
    fn scan_names_wrong_members() {
        for (members, param) in [
            (",\"max_tokens\":-2", "max_tokens"),
            (",\"max_tokens\":0", "max_tokens"),
            (",\"max_tokens\":1.5", "max_tokens"),
            (",\"max_tokens\":\"10\"", "max_tokens"),
            (",\"max_tokens\":1e3", "max_tokens"),
            (",\"max_tokens\":9223372036854775808", "max_tokens"),
            (",\"max_completion_tokens\":[]", "max_completion_tokens"),
            (",\"n\":0", "n"),
            (",\"best_of\":true", "best_of"),
            (",\"stream\":1", "stream"),
            (",\"stream\":\"true\"", "stream"),
            (",\"stream\":true,\"stream\":false", "stream"),
            (",\"max_tokens\":1,\"max_tokens\":2", "max_tokens"),
            (",\"model\":\"m\"", "model"),
            (",\"mod\\u0065l\":\"x\"", "model"),
            (",\"messages\":[]", "messages"),
        ] {
            let refused = with(members).unwrap_err();
            assert_eq!((refused.reason, refused.param.as_deref()), (Reason::InvalidRequest, Some(param)), "{members}");
        }
        for (body, param) in [
            ("{}", "model"),
            ("{\"model\":null}", "model"),
            ("{\"model\":5,\"messages\":[1]}", "model"),
            ("{\"model\":\"\",\"messages\":[1]}", "model"),
            ("{\"model\":\"m\"}", "messages"),
            ("{\"model\":\"m\",\"messages\":[ ]}", "messages"),
            ("{\"model\":\"m\",\"messages\":{}}", "messages"),
            ("{\"model\":\"m\",\"messages\":\"[1]\"}", "messages"),
        ] {
            assert_eq!(chat(body).unwrap_err().param.as_deref(), Some(param), "{body}");
        }
        assert_eq!(read(Endpoint::Embeddings, b"{\"model\":\"m\"}").unwrap_err().param.as_deref(), Some("input"));
        assert_eq!(
            read(Endpoint::Embeddings, b"{\"model\":\"m\",\"input\":\"x\",\"stream\":true}")
                .unwrap_err()
                .param
                .as_deref(),
            Some("stream")
        );
        for (members, wanted) in [
            ("", Ok((1, 1))),
            (",\"prompt\":null,\"n\":2", Ok((1, 2))),
            (",\"prompt\":[1,2,3]", Ok((1, 1))),
            (",\"prompt\":[\"a\",\"b\"],\"n\":2,\"best_of\":3", Ok((2, 6))),
            (",\"prompt\":[[1],[2],[3]],\"n\":2147483647", Ok((3, u32::MAX))),
            (",\"prompt\":[]", Err("prompt")),
            (",\"prompt\":5", Err("prompt")),
        ] {
            let body = format!("{{\"model\":\"m\"{members}}}");
            let asked = read(Endpoint::Completions, body.as_bytes()).map(|asked| (asked.prompts, asked.choices));
            assert_eq!(
                asked.as_ref().map_err(|refused| refused.param.as_deref().unwrap()),
                wanted.as_ref().map_err(|one| *one),
                "{body}"
            );
        }
    }

    #[test]
    fn minus_one_means_no_cap_and_nothing_else() {
        let body = "{\"model\":\"m\",\"messages\":[1],\"max_tokens\": -1 }";
        let cap = chat(body).unwrap().max_tokens.unwrap();
        assert_eq!((cap.tokens, &body[cap.at]), (None, "-1"));
        for members in [",\"max_tokens\":-1.0", ",\"max_tokens\":\"-1\"", ",\"n\":-1", ",\"best_of\":-1"] {
            assert!(with(members).is_err(), "{members}");
        }
    }

    #[test]
    fn a_name_that_some_reader_takes_for_another_is_refused() {
        for (written, known) in
            [("MODEL", "model"), ("max_to\u{212a}ens", "max_tokens"), ("N", "n"), ("Tools", "tools")]
        {
            let refused = with(&format!(",\"{written}\":1")).unwrap_err();
            assert_eq!((refused.reason, refused.param.as_deref()), (Reason::InvalidRequest, Some(written)));
            assert!(refused.message().contains(&format!("write it as '{known}'")), "{}", refused.message());
        }
        assert_eq!(with(",\"\\u004dodel\":1").unwrap_err().param.as_deref(), Some("Model"));
        let nested = with(",\"stream_options\":{\"include_usage\":true,\"Include_Usage\":false}").unwrap_err();
        assert_eq!(nested.param.as_deref(), Some("stream_options.Include_Usage"));
        for known in DECIDING {
            assert_eq!(in_another_case(&known.to_ascii_uppercase(), DECIDING), Some(*known));
            assert!(known.bytes().all(|byte| byte == b'_' || byte.is_ascii_lowercase()), "{known}");
        }
        assert!(with(",\"Models\":1,\"N_\":1,\"metadata\":{\"Model\":1}").is_ok());
    }

    #[test]
    fn scan_refuses_bytes_that_are_not_json() {
        let deep = format!("{{\"model\":\"m\",\"messages\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        let utf16: Vec<u8> = "{\"model\":\"m\"}".encode_utf16().flat_map(u16::to_le_bytes).collect();
        for body in [
            &b""[..],
            b"null",
            b"[]",
            b"\"x\"",
            b"{",
            b"{\"model\":\"m\",\"messages\":[1]} x",
            b"{\"model\":\"m\",\"messages\":[1],}",
            b"{\"model\":\"m\",\"messages\":[1],\"x\":NaN}",
            b"{\"model\":\"m\",\"messages\":[01]}",
            b"{'model':'m'}",
            b"\xef\xbb\xbf{\"model\":\"m\",\"messages\":[1]}",
            b"{\"model\":\"\xff\",\"messages\":[1]}",
            b"{\"model\":\"a\nb\",\"messages\":[1]}",
            b"{\"model\":\"m\",\"messages\":[\"\x01\"]}",
            &utf16,
            deep.as_bytes(),
        ] {
            let refused = read(Endpoint::Chat, body).unwrap_err();
            assert_eq!(
                refused.reason,
                Reason::InvalidJson,
                "{:?}",
                String::from_utf8_lossy(&body[..body.len().min(60)])
            );
        }
        let shallow = format!("{{\"model\":\"m\",\"messages\":{}{}}}", "[".repeat(100), "]".repeat(100));
        assert!(chat(&shallow).is_ok());
        assert!(with(",\"x\":\"[[[[\\\"[[[\",\"y\":1e9999,\"z\":\"\\ud800\"").is_ok());
    }

    proptest! {
        #[test]
        fn accepted_bodies_are_json(body in "[ {}\\[\\]:,\"a-z0-9\\\\]{0,40}") {
            let body = format!("{{\"model\":\"m\",\"messages\":[1],\"x\":{body}}}");
            if chat(&body).is_ok() {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&body).is_ok(), "{}", body);
            }
        }

        #[test]
        fn no_bytes_are_a_fault(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = read(Endpoint::Chat, &bytes);
        }
    }
}
