//! What a call cost, in disjoint classes of tokens.
//!
//! In: the `usage` object of an answer in OpenAI's dialect (chat, completions, embeddings, responses). Out: [`Usage`].
//! OpenAI counts cached tokens within the prompt and reasoning within the completion; here each token is in one class.
//! Numbers that cannot be true (negative, fractional, above 2^40, parts larger than the whole) are not believed: the whole
//! object is then `None`, as if the upstream had said nothing.

use serde::Deserialize;

/// More tokens than this are no usage.
const MAX: u64 = 1 << 40;

/// Tokens by class.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Prompt tokens that no cache had.
    pub input: u64,
    /// Prompt tokens read from a cache.
    pub cached_input: u64,
    /// Prompt tokens written to a cache.
    pub cache_write_input: u64,
    /// Tokens of the answer that its reader sees.
    pub output: u64,
    /// Tokens of the answer that the model thought with.
    pub reasoning: u64,
}

#[derive(Deserialize)]
struct Written {
    #[serde(alias = "input_tokens")]
    prompt_tokens: Option<u64>,
    #[serde(alias = "output_tokens")]
    completion_tokens: Option<u64>,
    #[serde(alias = "input_tokens_details")]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(alias = "output_tokens_details")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Deserialize, Default)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
}

#[derive(Deserialize, Default)]
struct CompletionDetails {
    reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Reads a `usage` object.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let written: Written = serde_json::from_slice(json).ok()?;
        let prompt = written.prompt_tokens?;
        let completion = written.completion_tokens.unwrap_or(0);
        let details = written.prompt_tokens_details.unwrap_or_default();
        let (cached, cache_write) = (details.cached_tokens.unwrap_or(0), details.cache_write_tokens.unwrap_or(0));
        let reasoning = written.completion_tokens_details.unwrap_or_default().reasoning_tokens.unwrap_or(0);
        let known = [prompt, completion, cached, cache_write, reasoning];
        if known.iter().any(|tokens| *tokens > MAX) {
            return None;
        }
        Some(Self {
            input: prompt.checked_sub(cached + cache_write)?,
            cached_input: cached,
            cache_write_input: cache_write,
            output: completion.checked_sub(reasoning)?,
            reasoning,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_disjoint_in_every_dialect() {
        for (json, wanted) in [
            (r#"{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15}"#, [10, 0, 0, 5, 0]),
            (
                r#"{"prompt_tokens":10,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},
                    "completion_tokens_details":{"reasoning_tokens":3}}"#,
                [6, 4, 0, 2, 3],
            ),
            (r#"{"prompt_tokens":7,"total_tokens":7}"#, [7, 0, 0, 0, 0]),
            (r#"{"prompt_tokens":7,"completion_tokens":null,"prompt_tokens_details":null}"#, [7, 0, 0, 0, 0]),
            (
                r#"{"input_tokens":9,"input_tokens_details":{"cached_tokens":1,"cache_write_tokens":2},"output_tokens":4,
                    "output_tokens_details":{"reasoning_tokens":4}}"#,
                [6, 1, 2, 0, 4],
            ),
        ] {
            let [input, cached_input, cache_write_input, output, reasoning] = wanted;
            let wanted = Usage { input, cached_input, cache_write_input, output, reasoning };
            assert_eq!(Usage::parse(json.as_bytes()), Some(wanted), "{json}");
        }
    }

    #[test]
    fn what_cannot_be_true_is_not_believed() {
        for json in [
            "",
            "null",
            "[]",
            "{}",
            r#"{"prompt_tokens":-1}"#,
            r#"{"prompt_tokens":1.5}"#,
            r#"{"prompt_tokens":"7"}"#,
            r#"{"prompt_tokens":1e18}"#,
            r#"{"prompt_tokens":1000000000000000000}"#,
            r#"{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#,
            r#"{"prompt_tokens":1,"completion_tokens":1,"completion_tokens_details":{"reasoning_tokens":2}}"#,
        ] {
            assert_eq!(Usage::parse(json.as_bytes()), None, "{json}");
        }
    }
}
