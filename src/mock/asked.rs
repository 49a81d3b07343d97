//! A request for an answer: the parts of OpenAI's body that change the mock's answer.
//!
//! In: the body. Out: an [`Asked`], or the [`Wrong`] that OpenAI would answer with 400. Unknown members are ignored, and so
//! are combinations that servers disagree about: a mock must not be stricter than the original.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::value::RawValue;

/// The most choices of one call, as with OpenAI.
const MAX_CHOICES: i64 = 128;
/// The most choices of all prompts together: a bound of the mock's own.
const MAX_ANSWERS: usize = 4096;
/// The most numbers of one embedding: a bound of the mock's own.
const MAX_DIMENSIONS: i64 = 16_384;
/// The most words that `min_tokens` asks for: a bound of the mock's own.
const MAX_WORDS: i64 = 100_000;
/// Numbers of an embedding whose request names no `dimensions`.
const DIMENSIONS: usize = 4;

/// The parts of a request that change the answer.
#[derive(Debug, Default, Deserialize)]
pub struct Asked<'a> {
    /// The model's name, repeated in the answer.
    #[serde(borrow, default)]
    pub model: Cow<'a, str>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    max_tokens: Option<i64>,
    max_completion_tokens: Option<i64>,
    min_tokens: Option<i64>,
    n: Option<i64>,
    encoding_format: Option<Encoding>,
    dimensions: Option<i64>,
    #[serde(borrow)]
    input: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    messages: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_choice: Option<&'a RawValue>,
    #[serde(borrow)]
    response_format: Option<&'a RawValue>,
    /// The service tier that the answer names, too.
    pub service_tier: Option<Cow<'a, str>>,
}

#[derive(Debug, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

/// The form of the numbers of an embedding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// A list of numbers.
    Float,
    /// The numbers as little-endian 32-bit floats, in base64.
    Base64,
}

/// A fault of the request: OpenAI's 400.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The fault in words.
    pub message: String,
    /// The member that has it.
    pub param: Option<&'static str>,
}

/// A function that the caller offers as a tool.
#[derive(Clone, Debug, Deserialize)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The JSON Schema of its arguments.
    #[serde(default)]
    pub parameters: Value,
}

/// The tools that an answer may or must call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToolChoice {
    /// No call.
    Never,
    /// A call, unless the last message is the result of one.
    Auto,
    /// A call.
    Required,
    /// A call of the function with this name.
    Named(String),
}

/// A message of the conversation so far.
#[derive(Debug, Default, Deserialize)]
pub struct Message {
    /// `system`, `user`, `assistant`, `tool`, ...
    #[serde(default)]
    pub role: String,
    /// The calls of an assistant's message.
    #[serde(default)]
    tool_calls: Option<Vec<PastCall>>,
}

#[derive(Debug, Deserialize)]
struct PastCall {
    function: Option<Named>,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
}

impl<'a> Asked<'a> {
    /// Reads a body. Fails unless it is a JSON object whose members have OpenAI's types.
    pub fn read(body: &'a [u8]) -> Result<Self, Wrong> {
        let read: Self = serde_json::from_slice(body)
            .map_err(|why| Wrong { message: format!("mock: could not read the body: {why}"), param: None })?;
        let bounded = [("n", read.n, 1, MAX_CHOICES), ("dimensions", read.dimensions, 1, MAX_DIMENSIONS)];
        for (name, value, least, most) in bounded.into_iter().chain([("min_tokens", read.min_tokens, 0, MAX_WORDS)]) {
            if let Some(value) = value.filter(|value| !(least..=most).contains(value)) {
                return Err(wrong(name, &format!("is from {least} to {most}, not {value}")));
            }
        }
        Ok(read)
    }

    /// Whether the caller wants an event stream.
    pub fn stream(&self) -> bool {
        self.stream.unwrap_or(false)
    }

    /// Whether the caller wants a usage chunk.
    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage).unwrap_or(false)
    }

    /// The most output tokens of each choice. A negative cap means no cap, as with llama.cpp.
    pub fn cap(&self) -> u64 {
        self.max_completion_tokens.or(self.max_tokens).and_then(|cap| u64::try_from(cap).ok()).unwrap_or(u64::MAX)
    }

    /// The number of words of an answer whose usual number is `words`: as many as `min_tokens` asks for, as with vLLM.
    pub fn at_least(&self, words: u64) -> u64 {
        words.max(self.min_tokens.and_then(|least| u64::try_from(least).ok()).unwrap_or(0))
    }

    /// The number of embeddings: the length of a list of texts or of token lists, else 1.
    pub fn inputs(&self) -> usize {
        listed(self.input)
    }

    /// The number of choices: `n` for the chat or for each prompt.
    pub fn choices(&self) -> usize {
        let n = self.n.and_then(|n| usize::try_from(n).ok()).unwrap_or(1);
        n.saturating_mul(listed(self.prompt).max(1)).min(MAX_ANSWERS)
    }

    /// The form of embeddings.
    pub fn encoding(&self) -> Encoding {
        self.encoding_format.unwrap_or(Encoding::Float)
    }

    /// Numbers of each embedding.
    pub fn dimensions(&self) -> usize {
        self.dimensions.and_then(|n| usize::try_from(n).ok()).unwrap_or(DIMENSIONS)
    }

    /// The functions among the tools. Other kinds of tools are ignored.
    pub fn functions(&self) -> Result<Vec<Function>, Wrong> {
        #[derive(Deserialize)]
        struct Tool {
            function: Option<Function>,
        }
        let tools: Vec<Tool> = parsed("tools", self.tools)?.unwrap_or_default();
        Ok(tools.into_iter().filter_map(|tool| tool.function).collect())
    }

    /// The caller's choice among these functions.
    pub fn tool_choice(&self, functions: &[Function]) -> Result<ToolChoice, Wrong> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Spelling {
            Word(String),
            Function { function: Named },
            Allowed { allowed_tools: Allowed },
        }
        #[derive(Deserialize)]
        struct Allowed {
            mode: String,
        }
        let choice = match parsed("tool_choice", self.tool_choice)? {
            None => ToolChoice::Auto,
            Some(Spelling::Function { function }) => ToolChoice::Named(function.name),
            Some(Spelling::Word(word) | Spelling::Allowed { allowed_tools: Allowed { mode: word } }) => match &*word {
                "none" => ToolChoice::Never,
                "auto" => ToolChoice::Auto,
                "required" => ToolChoice::Required,
                _ => return Err(wrong("tool_choice", &format!("is none, auto, required or a function, not {word:?}"))),
            },
        };
        match &choice {
            ToolChoice::Required if functions.is_empty() => Err(wrong("tool_choice", "needs a function in 'tools'")),
            ToolChoice::Named(name) if !functions.iter().any(|one| one.name == *name) => {
                Err(wrong("tool_choice", &format!("names the function {name:?}, which is not in 'tools'")))
            }
            _ => Ok(choice),
        }
    }

    /// The schema that the answer's text obeys; `{"type": "object"}` for any JSON object; None for free text.
    pub fn schema(&self) -> Result<Option<Value>, Wrong> {
        #[derive(Deserialize)]
        struct Format {
            r#type: String,
            json_schema: Option<Schema>,
        }
        #[derive(Deserialize)]
        struct Schema {
            schema: Option<Value>,
        }
        let any = || serde_json::json!({"type": "object", "required": ["answer"]});
        let Some(format) = parsed::<Format>("response_format", self.response_format)? else { return Ok(None) };
        match (&*format.r#type, format.json_schema) {
            ("text", _) => Ok(None),
            ("json_object", _) => Ok(Some(any())),
            ("json_schema", Some(schema)) => Ok(Some(schema.schema.unwrap_or_else(any))),
            ("json_schema", None) => Err(wrong("response_format", "needs 'json_schema' next to its type")),
            (kind, _) => {
                Err(wrong("response_format", &format!("has the type text, json_object or json_schema, not {kind:?}")))
            }
        }
    }

    /// The tokens of the prompt: one for each word of its texts and each number of its token lists, and at least one. Vocabularies
    /// of models put no two words into one token, so a gateway that counts by one of them never counts less.
    pub fn prompt_tokens(&self) -> u64 {
        let texts = [self.messages, self.prompt, self.input].into_iter().flatten();
        let values = texts.filter_map(|text| serde_json::from_str(text.get()).ok());
        values.map(|value| words(&value)).sum::<u64>().max(1)
    }

    /// The conversation. Messages that cannot be read count as absent.
    pub fn messages(&self) -> Vec<Message> {
        parsed("messages", self.messages).ok().flatten().unwrap_or_default()
    }
}

impl Message {
    /// The names of the functions that the message calls.
    pub fn called(&self) -> impl Iterator<Item = &str> {
        self.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref()).map(|function| &*function.name)
    }
}

/// The words and numbers of a text, of a list, or of the content of a message. Depth is bounded: the parser refuses more than 128
/// levels.
fn words(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.split_whitespace().count() as u64,
        Value::Number(_) => 1,
        Value::Array(values) => values.iter().map(words).sum(),
        Value::Object(members) => ["content", "text"].iter().filter_map(|name| members.get(*name)).map(words).sum(),
        Value::Null | Value::Bool(_) => 0,
    }
}

fn wrong(param: &'static str, fault: &str) -> Wrong {
    Wrong { message: format!("mock: '{param}' {fault}"), param: Some(param) }
}

fn parsed<T: DeserializeOwned>(name: &'static str, text: Option<&RawValue>) -> Result<Option<T>, Wrong> {
    text.map(|text| serde_json::from_str(text.get()))
        .transpose()
        .map_err(|why| wrong(name, &format!("is wrong: {why}")))
}

/// The length of a list of texts or of token lists; 1 for a single text, a single list of tokens, and no text.
fn listed(texts: Option<&RawValue>) -> usize {
    let list = texts.and_then(|texts| serde_json::from_str::<Vec<&RawValue>>(texts.get()).ok());
    list.filter(|list| list.iter().all(|one| one.get().starts_with(['"', '[']))).map_or(1, |list| list.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Asked<'_> {
        Asked::read(text.as_bytes()).unwrap()
    }

    const TOOLS: &str = r#""tools":[{"type":"function","function":{"name":"f"}},{"type":"web_search"}]"#;

    #[test]
    fn read_takes_null_as_absent() {
        let one = asked(
            r#"{"model":"m","stream":null,"stream_options":{"include_usage":null},"max_tokens":null,"tools":null,"n":null}"#,
        );
        assert_eq!((&*one.model, one.stream(), one.include_usage()), ("m", false, false));
        assert_eq!((one.cap(), one.choices(), one.functions().unwrap().len()), (u64::MAX, 1, 0));
    }

    #[test]
    fn read_refuses_bodies_that_no_server_can_read() {
        for text in
            ["", "\u{0}", "[]", r#"{"stream":"yes"}"#, r#"{"n":0}"#, r#"{"n":129}"#, r#"{"encoding_format":"x"}"#]
                .into_iter()
                .chain([r#"{"min_tokens":-1}"#, r#"{"min_tokens":100001}"#])
        {
            assert!(Asked::read(text.as_bytes()).is_err(), "{text}");
        }
        assert_eq!(Asked::read(br#"{"n":-1}"#).unwrap_err().param, Some("n"));
    }

    #[test]
    fn cap_is_absent_when_negative() {
        assert_eq!(asked(r#"{"max_tokens":-1}"#).cap(), u64::MAX);
        assert_eq!(asked(r#"{"max_tokens":9,"max_completion_tokens":3}"#).cap(), 3);
    }

    #[test]
    fn prompt_has_a_token_for_each_word() {
        for (text, wanted) in [
            (r#"{"messages":[{"role":"user","content":"how are you"},{"role":"assistant","content":null}]}"#, 3),
            (r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a b"},{"type":"image_url"}]}]}"#, 2),
            (r#"{"prompt":"a b"}"#, 2),
            (r#"{"prompt":["a b","c"]}"#, 3),
            (r#"{"input":[[1,2,3],[4]]}"#, 4),
            (r#"{"messages":[]}"#, 1),
            ("{}", 1),
        ] {
            assert_eq!(asked(text).prompt_tokens(), wanted, "{text}");
        }
    }

    #[test]
    fn choices_multiply_prompts() {
        assert_eq!(asked(r#"{"prompt":["a","b"],"n":3}"#).choices(), 6);
        assert_eq!(asked(r#"{"prompt":[1,2,3],"n":2}"#).choices(), 2);
        assert_eq!(asked(r#"{"prompt":[]}"#).choices(), 1);
    }

    #[test]
    fn tool_choice_reads_each_spelling() {
        for (text, wanted) in [
            ("null", ToolChoice::Auto),
            (r#""none""#, ToolChoice::Never),
            (r#""required""#, ToolChoice::Required),
            (r#"{"type":"function","function":{"name":"f"}}"#, ToolChoice::Named("f".into())),
            (r#"{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[]}}"#, ToolChoice::Auto),
        ] {
            let body = format!("{{{TOOLS},\"tool_choice\":{text}}}");
            let one = asked(&body);
            assert_eq!(one.tool_choice(&one.functions().unwrap()).unwrap(), wanted, "{text}");
        }
    }

    #[test]
    fn tool_choice_refuses_functions_that_are_not_there() {
        for text in [r#""required""#, r#"{"type":"function","function":{"name":"f"}}"#, r#""always""#, "3"] {
            let body = format!("{{\"tool_choice\":{text}}}");
            assert_eq!(asked(&body).tool_choice(&[]).unwrap_err().param, Some("tool_choice"), "{text}");
        }
    }

    #[test]
    fn schema_is_the_callers() {
        let schema = |text: &str| {
            let body = format!("{{\"response_format\":{text}}}");
            asked(&body).schema()
        };
        assert_eq!(schema(r#"{"type":"text"}"#), Ok(None));
        assert!(schema(r#"{"type":"json_object"}"#).unwrap().is_some());
        let own = schema(r#"{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"array"}}}"#);
        assert_eq!(own, Ok(Some(serde_json::json!({"type": "array"}))));
        assert_eq!(schema(r#"{"type":"json_schema"}"#).unwrap_err().param, Some("response_format"));
        assert!(schema(r#"{"type":"xml"}"#).is_err());
    }
}
