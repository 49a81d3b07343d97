//! The content of an answer: words, a JSON text, or the call of a tool, in pieces of one token each.
//!
//! In: the request and the usual number of words. Out: a [`Said`], the same for each choice. A request with functions is
//! answered with one call, a request that ends in a tool's result with text. A JSON text or a call that is longer than the cap
//! breaks off there, as with a real model.

use super::asked::{Asked, Function, Message, ToolChoice, Wrong};
use super::schema::instance;

/// The content of each choice.
#[derive(Debug, PartialEq, Eq)]
pub struct Said {
    /// The shown part.
    pub content: Content,
    /// Reasoning tokens, which are not shown.
    pub reasoning: u64,
    /// Whether the cap ended it.
    pub cut: bool,
}

/// The shown part of a choice.
#[derive(Debug, PartialEq, Eq)]
pub enum Content {
    /// So many times the word `token`.
    Words(u64),
    /// A text, in pieces of one token.
    Text(Vec<String>),
    /// A call: the name is its first token, the arguments follow in pieces of one token.
    Call {
        /// The identifier of the call, with the number of earlier calls in it.
        id: String,
        /// The function.
        name: String,
        /// The text of the arguments.
        arguments: Vec<String>,
    },
}

/// Bytes of a token, where the text is not words.
const TOKEN_BYTES: usize = 4;

impl Said {
    /// The answer to a chat.
    pub fn chat(asked: &Asked<'_>, words: u64, reasoning: u64) -> Result<Self, Wrong> {
        let functions = asked.functions()?;
        let choice = asked.tool_choice(&functions)?;
        let schema = asked.schema()?;
        if functions.is_empty() && schema.is_none() {
            return Ok(Self::words(asked, words, reasoning));
        }
        let (reasoning, left) = Self::shared(asked, reasoning);
        if let Some((function, number)) = chosen(&functions, &choice, &asked.messages()) {
            let arguments = pieces(&instance(&object(function)).to_string());
            let cut = left < 1 + arguments.len() as u64;
            let arguments = limited(arguments, left.saturating_sub(1));
            let call = Content::Call { id: format!("call_mock_{number}"), name: function.name.clone(), arguments };
            let content = if left == 0 { Content::Words(0) } else { call };
            return Ok(Self { content, reasoning, cut });
        }
        let Some(schema) = schema else { return Ok(Self::words(asked, words, reasoning)) };
        let text = pieces(&instance(&schema).to_string());
        let cut = left < text.len() as u64;
        Ok(Self { content: Content::Text(limited(text, left)), reasoning, cut })
    }

    /// An answer of words: so many or `min_tokens`, unless the request's cap is lower.
    pub fn words(asked: &Asked<'_>, words: u64, reasoning: u64) -> Self {
        let (reasoning, left) = Self::shared(asked, reasoning);
        let words = asked.at_least(words);
        Self { content: Content::Words(words.min(left)), reasoning, cut: left <= words }
    }

    /// The reasoning tokens, and the tokens of the cap that they leave.
    fn shared(asked: &Asked<'_>, reasoning: u64) -> (u64, u64) {
        let reasoning = reasoning.min(asked.cap());
        (reasoning, asked.cap() - reasoning)
    }

    /// The shown tokens of a choice.
    pub fn shown(&self) -> u64 {
        match &self.content {
            Content::Words(count) => *count,
            Content::Text(pieces) => pieces.len() as u64,
            Content::Call { arguments, .. } => 1 + arguments.len() as u64,
        }
    }

    /// `finish_reason`.
    pub fn finish(&self) -> &'static str {
        match &self.content {
            _ if self.cut => "length",
            Content::Call { .. } => "tool_calls",
            Content::Words(_) | Content::Text(_) => "stop",
        }
    }
}

/// The function to call, and the number of earlier calls. A forced choice takes the functions in turn, so that an agent which
/// forces a call each time comes to its last one.
fn chosen<'f>(functions: &'f [Function], choice: &ToolChoice, messages: &[Message]) -> Option<(&'f Function, usize)> {
    let called: Vec<&str> = messages.iter().flat_map(Message::called).collect();
    let answered = messages.last().is_some_and(|last| last.role == "tool");
    let function = match choice {
        ToolChoice::Never => None,
        ToolChoice::Auto if answered => None,
        ToolChoice::Auto => functions.first(),
        ToolChoice::Required => functions.iter().find(|one| !called.contains(&&*one.name)).or(functions.last()),
        ToolChoice::Named(name) => functions.iter().find(|one| one.name == *name),
    };
    Some((function?, called.len()))
}

/// The schema of the function's arguments: an object, also where none is given.
fn object(function: &Function) -> serde_json::Value {
    match &function.parameters {
        serde_json::Value::Object(schema) if !schema.is_empty() => function.parameters.clone(),
        _ => serde_json::json!({"type": "object"}),
    }
}

/// The text in pieces of at most four bytes, or of one character that is longer.
fn pieces(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for character in text.chars() {
        match found.last_mut() {
            Some(last) if last.len() + character.len_utf8() <= TOKEN_BYTES => last.push(character),
            _ => found.push(character.to_string()),
        }
    }
    found
}

fn limited(mut pieces: Vec<String>, most: u64) -> Vec<String> {
    pieces.truncate(usize::try_from(most).unwrap_or(usize::MAX));
    pieces
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const FUNCTIONS: &str = r#""tools":[{"type":"function","function":{"name":"f","parameters":{"properties":{"a":{"type":"integer"}},"required":["a"]}}},{"type":"function","function":{"name":"g"}}]"#;

    fn said(members: &str) -> Said {
        let body = format!("{{{members}}}");
        Said::chat(&Asked::read(body.as_bytes()).unwrap(), 16, 0).unwrap()
    }

    fn call(said: &Said) -> (&str, &str, String) {
        let Content::Call { id, name, arguments } = &said.content else { return ("", "", String::new()) };
        (id, name, arguments.concat())
    }

    #[test]
    fn chat_calls_the_first_function() {
        let one = said(FUNCTIONS);
        assert_eq!(call(&one), ("call_mock_0", "f", r#"{"a":1}"#.to_owned()));
        assert_eq!((one.shown(), one.finish()), (3, "tool_calls"));
    }

    #[test]
    fn chat_says_words_after_a_tools_result() {
        let messages = r#""messages":[{"role":"user","content":"hi"},{"role":"assistant","tool_calls":[{"id":"1","function":{"name":"f","arguments":"{}"}}]},{"role":"tool","content":"1"}]"#;
        assert_eq!(said(&format!("{FUNCTIONS},{messages}")).content, Content::Words(16));
        let forced = said(&format!("{FUNCTIONS},{messages},\"tool_choice\":\"required\""));
        assert_eq!(call(&forced), ("call_mock_1", "g", "{}".to_owned()));
    }

    #[test]
    fn chat_says_as_many_words_as_asked_for_below_the_cap() {
        assert_eq!(said(r#""min_tokens":400"#).content, Content::Words(400));
        assert_eq!(said(r#""min_tokens":4"#).content, Content::Words(16));
        let capped = said(r#""min_tokens":400,"max_tokens":100"#);
        assert_eq!((&capped.content, capped.finish()), (&Content::Words(100), "length"));
    }

    #[test]
    fn chat_obeys_tool_choice() {
        assert_eq!(said(&format!("{FUNCTIONS},\"tool_choice\":\"none\"")).content, Content::Words(16));
        let named =
            said(&format!("{FUNCTIONS},\"tool_choice\":{{\"type\":\"function\",\"function\":{{\"name\":\"g\"}}}}"));
        assert_eq!(call(&named).1, "g");
    }

    #[test]
    fn chat_obeys_response_format() {
        let any = said(r#""response_format":{"type":"json_object"}"#);
        assert_eq!(any.content, Content::Text(pieces(r#"{"answer":"token"}"#)));
        let strict = r#""response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"properties":{"n":{"type":"integer"}},"required":["n"]}}}"#;
        let one = said(&format!("{strict},\"max_tokens\":1"));
        assert_eq!((one.content, one.cut), (Content::Text(vec!["{\"n\"".to_owned()]), true));
    }

    #[test]
    fn pieces_keep_characters_whole() {
        assert_eq!(pieces("abcdeé日本x"), ["abcd", "eé", "日", "本x"]);
        assert!(pieces("").is_empty());
    }
}
