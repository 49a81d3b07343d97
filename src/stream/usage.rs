//! The tokens of a call, in disjoint classes.
//!
//! In: the `usage` object of an answer in OpenAI's dialect or a neighbour of it, and llama.cpp's `timings`. Out: [`Classes`].
//! Dialects count cached tokens within the prompt or apart from it, and reasoning within the completion or apart from it. The
//! total shows which; without a total a part that is larger than its whole is apart, and so are Anthropic's two names of a cache.
//! Tokens that only the total shows are reasoning (Gemini). Here each token is in one class, and where the total is at least
//! prompt plus completion, the classes add up to it. An invalid part counts as absent. An invalid prompt or completion count
//! (negative, fractional, above 2^40) makes the whole usage `None`. Images and audio are parts of the classes; some dialects name the
//! service tier among the counts. One fixture a dialect: `tests/golden/usage/`.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::price::{Classes, Media, ServiceTier};

/// A larger count of tokens is invalid.
const MAX: u64 = 1 << 40;

/// llama.cpp's counts, which stand next to its usage or in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timings {
    /// Prompt tokens that were computed.
    prompt: u64,
    /// Prompt tokens that the slot's cache had.
    cached: u64,
    /// Tokens that were generated.
    predicted: u64,
}

/// Builds the structs of optional raw members, so that each name is written once.
macro_rules! members {
    ($(#[$doc:meta])* $name:ident { $( $field:ident ),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Deserialize, Default)]
        #[allow(clippy::struct_field_names)] // the names of the wire
        struct $name<'a> {
            $( #[serde(borrow)] $field: Option<&'a RawValue>, )+
        }
    };
}

members!(
    /// Some upstreams send several names of a count, so no name is an alias.
    RawUsage {
        prompt_tokens,
        input_tokens,
        completion_tokens,
        output_tokens,
        total_tokens,
        prompt_tokens_details,
        input_tokens_details,
        completion_tokens_details,
        output_tokens_details,
        prompt_cache_hit_tokens,
        prompt_cache_miss_tokens,
        cached_tokens,
        cache_read_input_tokens,
        cache_creation_input_tokens,
        reasoning_tokens,
        service_tier,
    }
);

members!(Details {
    cached_tokens,
    cache_write_tokens,
    cache_creation_tokens,
    cache_creation_input_tokens,
    reasoning_tokens,
    image_tokens,
    audio_tokens,
});

members!(RawTimings { prompt_n, cache_n, predicted_n });

/// The counts of one usage, whatever their names were.
struct Counts {
    prompt: u64,
    completion: u64,
    /// Tokens of the total that are in neither of them; `None` without a total that can be believed.
    beyond: Option<u64>,
    cached: u64,
    written: u64,
    reasoning: u64,
    /// The names say that the cache's tokens are no part of the prompt.
    cache_apart: bool,
    media: Media,
    service: ServiceTier,
}

/// Reads a `usage` object.
pub fn read(json: &[u8]) -> Option<Classes> {
    let raw: RawUsage<'_> = serde_json::from_slice(json).ok()?;
    Some(Counts::of(&raw)?.classes())
}

impl Timings {
    /// Reads a `timings` object; `None` when it counts no tokens.
    pub fn parse(json: &[u8]) -> Option<Self> {
        let raw: RawTimings<'_> = serde_json::from_slice(json).ok()?;
        let (prompt, predicted) = (raw.prompt_n.and_then(count), raw.predicted_n.and_then(count));
        prompt.or(predicted)?;
        Some(Self {
            prompt: prompt.unwrap_or(0),
            cached: raw.cache_n.and_then(count).unwrap_or(0),
            predicted: predicted.unwrap_or(0),
        })
    }
}

/// The usage of an answer with these parts. Timings add the cached tokens to a usage that names none itself, and stand for one that
/// is missing.
pub fn whole(usage: Option<Classes>, timings: Option<Timings>) -> Option<Classes> {
    let Some(Timings { prompt, cached, predicted }) = timings else { return usage };
    Some(match usage {
        Some(usage) if usage.cached_input > 0 || cached > usage.input => usage,
        Some(usage) => {
            let input = usage.input - cached;
            Classes { input, cached_input: cached, media: usage.media.within(input, usage.output), ..usage }
        }
        None => Classes { input: prompt, cached_input: cached, output: predicted, ..Classes::default() },
    })
}

impl Counts {
    fn of(raw: &RawUsage<'_>) -> Option<Self> {
        let part = |said: Option<&RawValue>| said.and_then(count).unwrap_or(0);
        let of_prompt = details(raw.prompt_tokens_details.or(raw.input_tokens_details));
        let of_completion = details(raw.completion_tokens_details.or(raw.output_tokens_details));
        let total = raw.total_tokens.and_then(count);
        let hits = raw.prompt_cache_hit_tokens.and_then(count);
        let misses = raw.prompt_cache_miss_tokens.and_then(count);
        let said = raw.completion_tokens.or(raw.output_tokens);
        let prompt = match (raw.prompt_tokens.or(raw.input_tokens), hits.zip(misses)) {
            (Some(said), _) => count(said)?,
            (None, Some((hits, misses))) => hits + misses,
            // Only a total: the rest of it is the prompt.
            (None, None) => total?.checked_sub(said.map_or(Some(0), count)?)?,
        };
        let completion = match said {
            Some(said) => count(said)?,
            None => total.and_then(|total| total.checked_sub(prompt)).unwrap_or(0),
        };
        let most = |names: [Option<&RawValue>; 4]| names.map(part).into_iter().max().unwrap_or(0);
        Some(Self {
            prompt,
            completion,
            beyond: total.and_then(|total| total.checked_sub(prompt + completion)),
            // Several names of one count: their sum would count it twice.
            cached: most([
                of_prompt.cached_tokens,
                raw.prompt_cache_hit_tokens,
                raw.cached_tokens,
                raw.cache_read_input_tokens,
            ]),
            written: most([
                of_prompt.cache_write_tokens,
                of_prompt.cache_creation_tokens,
                of_prompt.cache_creation_input_tokens,
                raw.cache_creation_input_tokens,
            ]),
            reasoning: part(of_completion.reasoning_tokens).max(part(raw.reasoning_tokens)),
            cache_apart: raw.prompt_tokens.is_none()
                && raw.cache_read_input_tokens.or(raw.cache_creation_input_tokens).is_some(),
            media: Media {
                image_input: small(part(of_prompt.image_tokens)),
                audio_input: small(part(of_prompt.audio_tokens)),
                image_output: small(part(of_completion.image_tokens)),
                audio_output: small(part(of_completion.audio_tokens)),
            },
            service: raw.service_tier.map_or(ServiceTier::Unsaid, |said| ServiceTier::of_json(said.get())),
        })
    }

    fn classes(self) -> Classes {
        let Self { prompt, completion, mut beyond, cached, written, reasoning, media, service, .. } = self;
        let (cache_apart, reasoning_apart) = self.apart();
        let (output, mut reasoning) = split(completion, reasoning, &mut beyond, reasoning_apart);
        let (input, of_cache) = split(prompt, cached + written, &mut beyond, cache_apart);
        let cached_input = cached.min(of_cache);
        reasoning += beyond.unwrap_or(0);
        let cache_write = of_cache - cached_input;
        let media = media.within(input, output);
        Classes { input, cached_input, cache_write, output, reasoning, media, service }
    }

    /// Whether the cache's tokens are no part of the prompt, and reasoning no part of the completion.
    fn apart(&self) -> (bool, bool) {
        let (cache, reasoning) = (self.cached + self.written, self.reasoning);
        let cache_apart = self.cache_apart || cache > self.prompt;
        match self.beyond {
            None => (cache_apart, reasoning > self.completion),
            Some(tokens) if tokens == cache + reasoning => (true, true),
            Some(tokens) if tokens == reasoning => (false, true),
            Some(tokens) if tokens == cache => (true, false),
            Some(tokens) => (cache_apart && tokens >= cache + reasoning, tokens >= reasoning),
        }
    }
}

/// The rest of `whole` and the `part`, disjoint. `beyond`: the tokens that neither prompt nor completion holds; it shrinks by
/// those that a part that is `apart` takes. A part never takes more than the total has room for.
fn split(whole: u64, part: u64, beyond: &mut Option<u64>, apart: bool) -> (u64, u64) {
    match beyond {
        Some(tokens) if apart && *tokens >= part => {
            *tokens -= part;
            (whole, part)
        }
        None if apart => (whole, part),
        _ if part <= whole => (whole - part, part),
        _ => {
            let room = whole + beyond.as_mut().map_or(0, std::mem::take);
            (room - part.min(room), part.min(room))
        }
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

fn small(tokens: u64) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

fn details(raw: Option<&RawValue>) -> Details<'_> {
    raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn usage([input, cached_input, cache_write, output, reasoning]: [u64; 5]) -> Classes {
        Classes { input, cached_input, cache_write, output, reasoning, ..Classes::default() }
    }

    #[test]
    fn images_audio_and_service_tier_stand_next_to_the_classes() {
        let json = r#"{"prompt_tokens":90,"completion_tokens":50,"total_tokens":140,"service_tier":"batch",
            "prompt_tokens_details":{"cached_tokens":10,"audio_tokens":20,"image_tokens":30,"text_tokens":40},
            "completion_tokens_details":{"reasoning_tokens":5,"audio_tokens":25,"image_tokens":-1}}"#;
        let media = Media { image_input: 30, audio_input: 20, image_output: 0, audio_output: 25 };
        let wanted = Classes { media, service: ServiceTier::Batch, ..usage([80, 10, 0, 45, 5]) };
        assert_eq!(read(json.as_bytes()), Some(wanted));
        let json =
            r#"{"input_tokens":9,"output_tokens":4,"input_tokens_details":{"image_tokens":7},"service_tier":{}}"#;
        let media = Media { image_input: 7, ..Media::default() };
        assert_eq!(read(json.as_bytes()), Some(Classes { media, ..usage([9, 0, 0, 4, 0]) }));
        let json = format!(r#"{{"prompt_tokens":{MAX},"prompt_tokens_details":{{"image_tokens":{MAX}}}}}"#);
        assert_eq!(read(json.as_bytes()).map(|found| found.media.image_input), Some(u32::MAX));
    }

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
            assert_eq!(read(json.as_bytes()), Some(usage(wanted)), "{json}");
        }
    }

    #[test]
    fn names_and_total_show_which_parts_are_apart() {
        for (json, wanted) in [
            // Names of one count that stand next to each other.
            (
                r#"{"prompt_tokens":9,"completion_tokens":4,"total_tokens":13,"cached_tokens":3,"prompt_cache_hit_tokens":3,
                    "prompt_cache_miss_tokens":6,"prompt_tokens_details":{"cached_tokens":3}}"#,
                [6, 3, 0, 4, 0],
            ),
            (r#"{"prompt_cache_hit_tokens":6,"prompt_cache_miss_tokens":3,"completion_tokens":4}"#, [3, 6, 0, 4, 0]),
            // Only a total.
            (r#"{"total_tokens":9}"#, [9, 0, 0, 0, 0]),
            (r#"{"completion_tokens":4,"total_tokens":9}"#, [5, 0, 0, 4, 0]),
            (r#"{"prompt_tokens":5,"total_tokens":9}"#, [5, 0, 0, 4, 0]),
            // Anthropic's names are apart, unless a total says otherwise.
            (
                r#"{"input_tokens":9,"output_tokens":4,"cache_read_input_tokens":3,"cache_creation_input_tokens":2}"#,
                [9, 3, 2, 4, 0],
            ),
            (r#"{"input_tokens":9,"output_tokens":4,"total_tokens":13,"cache_read_input_tokens":3}"#, [6, 3, 0, 4, 0]),
            (
                r#"{"prompt_tokens":9,"completion_tokens":4,"cache_read_input_tokens":3,"cache_creation_input_tokens":2}"#,
                [4, 3, 2, 4, 0],
            ),
            // Thinking that only the total shows, next to a cache within the prompt; and both apart.
            (
                r#"{"prompt_tokens":100,"completion_tokens":3,"total_tokens":123,"prompt_tokens_details":{"cached_tokens":5}}"#,
                [95, 5, 0, 3, 20],
            ),
            (
                r#"{"prompt_tokens":7,"completion_tokens":5,"total_tokens":19,"cached_tokens":4,"reasoning_tokens":3}"#,
                [7, 4, 0, 5, 3],
            ),
            // Contradictions: the total has no room for a part.
            (
                r#"{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"completion_tokens_details":{"reasoning_tokens":9}}"#,
                [7, 0, 0, 0, 5],
            ),
            (
                r#"{"prompt_tokens":7,"completion_tokens":5,"total_tokens":13,"completion_tokens_details":{"reasoning_tokens":9}}"#,
                [7, 0, 0, 0, 6],
            ),
            (
                r#"{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"prompt_cache_hit_tokens":70,"cache_creation_input_tokens":7}"#,
                [0, 7, 0, 5, 0],
            ),
            (r#"{"prompt_tokens":7,"completion_tokens":5,"total_tokens":0}"#, [7, 0, 0, 5, 0]),
        ] {
            assert_eq!(read(json.as_bytes()), Some(usage(wanted)), "{json}");
        }
    }

    #[test]
    fn timings_fill_in_what_usage_leaves_out() {
        let timings = |json: &str| Timings::parse(json.as_bytes());
        let told = timings(r#"{"cache_n":236,"prompt_n":4,"prompt_ms":1.5,"predicted_n":35}"#).unwrap();
        let wanted = Classes { input: 4, cached_input: 236, output: 35, ..Classes::default() };
        assert_eq!(whole(None, Some(told)).unwrap(), wanted);
        let usage = Classes { input: 240, output: 35, ..Classes::default() };
        let with = |usage| whole(Some(usage), Some(told)).unwrap();
        assert_eq!(with(usage), wanted);
        assert_eq!(with(wanted), wanted, "usage that names them itself");
        assert_eq!(with(Classes { input: 9, ..usage }), Classes { input: 9, ..usage }, "more than the prompt");
        let media = Media { image_input: 9, ..Media::default() };
        assert_eq!(with(Classes { media, ..usage }).media.image_input, 4, "images are a part of the uncached rest");
        assert_eq!(whole(None, timings(r#"{"predicted_n":3,"cache_n":-1}"#)).unwrap().output, 3);
        assert_eq!(timings(r#"{"prompt_ms":1.5}"#), None);
    }

    proptest! {
        #[test]
        fn classes_add_up_to_the_total(
            counts in prop::array::uniform6(prop::option::of(0_u64..50)), names in prop::array::uniform3(0_usize..4),
        ) {
            let [prompt, completion, total, cached, written, reasoning] = counts;
            let mut usage = serde_json::json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total});
            usage["prompt_tokens_details"] = serde_json::json!({});
            match names[0] {
                0 => usage["prompt_tokens_details"]["cached_tokens"] = cached.into(),
                1 => usage["prompt_cache_hit_tokens"] = cached.into(),
                2 => usage["cached_tokens"] = cached.into(),
                _ => usage["cache_read_input_tokens"] = cached.into(),
            }
            match names[1] {
                0 => usage["prompt_tokens_details"]["cache_write_tokens"] = written.into(),
                _ => usage["cache_creation_input_tokens"] = written.into(),
            }
            match names[2] {
                0 => usage["reasoning_tokens"] = reasoning.into(),
                _ => usage["completion_tokens_details"] = serde_json::json!({"reasoning_tokens": reasoning}),
            }
            let Some(found) = read(usage.to_string().as_bytes()) else { return Ok(()) };
            let sum = found.input + found.cached_input + found.cache_write + found.output + found.reasoning;
            if let (Some(prompt), Some(completion)) = (prompt, completion) {
                let parts = [cached, written, reasoning].map(Option::unwrap_or_default).iter().sum::<u64>();
                prop_assert!(sum >= prompt + completion && sum <= (prompt + completion + parts).max(total.unwrap_or(0)));
                if let Some(total) = total.filter(|total| *total >= prompt + completion) {
                    prop_assert_eq!(sum, total);
                }
            }
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
            assert_eq!(read(json.as_bytes()), None, "{json}");
        }
    }
}
