//! The tokens of a call, in disjoint classes.
//!
//! In: the `usage` object of an answer in OpenAI's dialect (chat, completions, embeddings, responses). Out: [`Usage`].
//! OpenAI counts cached tokens within the prompt and reasoning within the completion. Other servers count them separately, which
//! shows in the total, or in a part that is larger than the whole. Here each token is in one class. An invalid part counts as
//! absent. An invalid prompt or completion count (negative, fractional, above 2^40) makes the whole usage `None`.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A larger count of tokens is invalid.
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

/// Some upstreams send both names of a count, so neither is an alias.
#[derive(Deserialize)]
struct RawUsage<'a> {
    #[serde(borrow)]
    prompt_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    total_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    prompt_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    input_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    completion_tokens_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens_details: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
#[allow(clippy::struct_field_names)] // the names of the wire
struct Details<'a> {
    #[serde(borrow)]
    cached_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    cache_write_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    reasoning_tokens: Option<&'a RawValue>,
}

impl Usage {
    /// Reads a `usage` object.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let raw: RawUsage<'_> = serde_json::from_slice(json).ok()?;
        let prompt = count(raw.prompt_tokens.or(raw.input_tokens)?)?;
        let completion = raw.completion_tokens.or(raw.output_tokens).map_or(Some(0), count)?;
        let of_prompt = details(raw.prompt_tokens_details.or(raw.input_tokens_details));
        let of_completion = details(raw.completion_tokens_details.or(raw.output_tokens_details));
        let part = |said: Option<&RawValue>| said.and_then(count).unwrap_or(0);
        let (cached_input, cache_write_input) = (part(of_prompt.cached_tokens), part(of_prompt.cache_write_tokens));
        let reasoning = part(of_completion.reasoning_tokens);

        // The total minus prompt and completion was counted separately.
        let mut separate = raw.total_tokens.and_then(count).and_then(|total| total.checked_sub(prompt + completion));
        let mut rest = |whole: u64, part: u64| match whole.checked_sub(part) {
            Some(_) if part > 0 && separate.is_some_and(|tokens| tokens >= part) => {
                separate = separate.map(|tokens| tokens - part);
                whole
            }
            within => within.unwrap_or(whole),
        };
        let output = rest(completion, reasoning);
        let input = rest(prompt, cached_input + cache_write_input);
        Some(Self { input, cached_input, cache_write_input, output, reasoning })
    }
}

/// A count of tokens. Some upstreams write whole numbers as `7.0`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)] // whole and in range
fn count(raw: &RawValue) -> Option<u64> {
    let text = raw.get();
    let whole = |number: &f64| number.fract() == 0.0 && (0.0..=MAX as f64).contains(number);
    let tokens = text.parse().ok().or_else(|| text.parse().ok().filter(whole).map(|number: f64| number as u64))?;
    (tokens <= MAX).then_some(tokens)
}

fn details(raw: Option<&RawValue>) -> Details<'_> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
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
            // Both names of a count.
            (r#"{"prompt_tokens":9,"input_tokens":9,"completion_tokens":4,"output_tokens":4}"#, [9, 0, 0, 4, 0]),
            (r#"{"prompt_tokens":9.0,"completion_tokens":4.0}"#, [9, 0, 0, 4, 0]),
            // Reasoning apart from the completion: shown by the total, or because it is larger than the completion.
            (
                r#"{"prompt_tokens":7,"completion_tokens":5,"total_tokens":15,"completion_tokens_details":{"reasoning_tokens":3}}"#,
                [7, 0, 0, 5, 3],
            ),
            (
                r#"{"prompt_tokens":7,"completion_tokens":5,"completion_tokens_details":{"reasoning_tokens":9}}"#,
                [7, 0, 0, 5, 9],
            ),
            // Reads of a cache apart from the prompt.
            (
                r#"{"prompt_tokens":7,"completion_tokens":5,"total_tokens":16,"prompt_tokens_details":{"cached_tokens":4}}"#,
                [7, 4, 0, 5, 0],
            ),
            (r#"{"prompt_tokens":1,"prompt_tokens_details":{"cached_tokens":2}}"#, [1, 2, 0, 0, 0]),
            // An invalid part counts as absent.
            (
                r#"{"prompt_tokens":7,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":-1},
                    "completion_tokens_details":"none"}"#,
                [7, 0, 0, 5, 0],
            ),
        ] {
            let [input, cached_input, cache_write_input, output, reasoning] = wanted;
            let wanted = Usage { input, cached_input, cache_write_input, output, reasoning };
            assert_eq!(Usage::parse(json.as_bytes()), Some(wanted), "{json}");
        }
    }

    #[test]
    fn usage_ignores_impossible_counts() {
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
            r#"{"prompt_tokens":1,"completion_tokens":-1}"#,
            r#"{"prompt_tokens":1e13}"#,
            r#"{"prompt_tokens":NaN}"#,
        ] {
            assert_eq!(Usage::parse(json.as_bytes()), None, "{json}");
        }
    }
}
