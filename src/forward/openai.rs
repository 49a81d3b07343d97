//! The body that goes upstream: the caller's body with the model renamed, the output capped, the usage asked for.
//!
//! In: the body and the positions of its deciding members ([`Asked`]). Out: bytes that differ in these members alone; the rest is
//! copied byte for byte, so gateway and upstream read the same. It validates nothing: `accept` did.

use std::ops::Range;

use edits::Edits;

use crate::accept::openai::{Asked, Endpoint, IncludeUsage};

/// The smallest of the caps that apply; `None` without a cap.
pub fn cap(tier: Option<u32>, model: Option<u32>) -> Option<u32> {
    match (tier, model) {
        (Some(tier), Some(model)) => Some(tier.min(model)),
        (one, other) => one.or(other),
    }
}

/// The new body; `None`: the caller's body needs no change.
///
/// `model` is the upstream's name; `tier_cap` and `model_cap` bound the output. A caller's larger cap is lowered to them. A
/// body without a cap gets the tier's; the upstream knows the model's.
pub fn body(
    endpoint: Endpoint,
    body: &[u8],
    asked: &Asked,
    model: &str,
    tier_cap: Option<u32>,
    model_cap: Option<u32>,
) -> Option<Vec<u8>> {
    let mut edits = Edits::default();
    if asked.model != model {
        edits.replace(asked.model_at.clone(), quoted(model));
    }
    if endpoint.generates() {
        let most = cap(tier_cap, model_cap);
        let given: Vec<_> = [&asked.max_tokens, &asked.max_completion_tokens].into_iter().flatten().collect();
        for cap in &given {
            if let Some(most) = most.filter(|most| *most < cap.tokens) {
                edits.replace(cap.at.clone(), most.to_string());
            }
        }
        if let (true, Some(_), Some(most)) = (given.is_empty(), tier_cap, most) {
            match asked.null_caps.first() {
                Some(null) => edits.replace(null.clone(), most.to_string()),
                None => edits.insert(asked.open, format!("\"max_tokens\":{most},")),
            }
        }
        if asked.stream {
            match &asked.include_usage {
                IncludeUsage::Absent => {
                    edits.insert(asked.open, "\"stream_options\":{\"include_usage\":true},".into());
                }
                IncludeUsage::Null(at) => edits.replace(at.clone(), "{\"include_usage\":true}".into()),
                IncludeUsage::Unsaid(at, empty) => {
                    edits.insert(*at, if *empty { "\"include_usage\":true" } else { "\"include_usage\":true," }.into());
                }
                IncludeUsage::No(at) => edits.replace(at.clone(), "true".into()),
                IncludeUsage::Yes => {}
            }
        }
    }
    edits.apply(body)
}

/// A name as a JSON string.
fn quoted(name: &str) -> String {
    serde_json::to_string(name).unwrap_or_default()
}

mod edits {
    use super::Range;

    /// Replacements that do not overlap.
    #[derive(Default)]
    pub(super) struct Edits(Vec<(Range<usize>, String)>);

    impl Edits {
        pub(super) fn replace(&mut self, at: Range<usize>, text: String) {
            self.0.push((at, text));
        }

        pub(super) fn insert(&mut self, at: usize, text: String) {
            self.0.push((at..at, text));
        }

        /// The new text; `None` without a replacement.
        pub(super) fn apply(mut self, body: &[u8]) -> Option<Vec<u8>> {
            if self.0.is_empty() {
                return None;
            }
            self.0.sort_by_key(|(at, _)| at.start);
            let mut out = Vec::with_capacity(body.len() + self.0.iter().map(|(_, text)| text.len()).sum::<usize>());
            let mut from = 0;
            for (at, text) in &self.0 {
                out.extend_from_slice(body.get(from..at.start)?);
                out.extend_from_slice(text.as_bytes());
                from = at.end;
            }
            out.extend_from_slice(body.get(from..)?);
            Some(out)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::accept::openai::read;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn sent(text: &str, model: &str, tier: Option<u32>, own: Option<u32>) -> String {
        let asked = read(Endpoint::Chat, text.as_bytes()).unwrap();
        match body(Endpoint::Chat, text.as_bytes(), &asked, model, tier, own) {
            None => text.to_owned(),
            Some(new) => String::from_utf8(new).unwrap(),
        }
    }

    #[test]
    fn forward_changes_model_and_caps_only() {
        for (text, tier, own, wanted) in [
            (r#"{"model":"m","messages":[1] }"#, None, None, r#"{"model":"m","messages":[1] }"#),
            (r#"{ "messages":[1], "model" : "a" }"#, None, None, r#"{ "messages":[1], "model" : "m" }"#),
            (r#"{"model":"m","messages":[1]}"#, Some(5), None, r#"{"max_tokens":5,"model":"m","messages":[1]}"#),
            (r#"{"model":"m","messages":[1]}"#, None, Some(9), r#"{"model":"m","messages":[1]}"#),
            (r#"{"model":"m","messages":[1]}"#, Some(5), Some(3), r#"{"max_tokens":3,"model":"m","messages":[1]}"#),
            (
                r#"{"model":"m","messages":[1],"max_tokens":9}"#,
                Some(5),
                None,
                r#"{"model":"m","messages":[1],"max_tokens":5}"#,
            ),
            (
                r#"{"model":"m","messages":[1],"max_tokens":9}"#,
                None,
                Some(5),
                r#"{"model":"m","messages":[1],"max_tokens":5}"#,
            ),
            (
                r#"{"model":"m","messages":[1],"max_tokens":4}"#,
                Some(5),
                None,
                r#"{"model":"m","messages":[1],"max_tokens":4}"#,
            ),
            (
                r#"{"max_completion_tokens":9,"model":"m","messages":[1],"max_tokens":1}"#,
                Some(5),
                None,
                r#"{"max_completion_tokens":5,"model":"m","messages":[1],"max_tokens":1}"#,
            ),
            (
                r#"{"max_completion_tokens":null,"model":"m","messages":[1]}"#,
                Some(5),
                None,
                r#"{"max_completion_tokens":5,"model":"m","messages":[1]}"#,
            ),
        ] {
            assert_eq!(sent(text, "m", tier, own), wanted, "{text}");
        }
    }

    #[test]
    fn forward_asks_every_stream_for_its_usage() {
        for (text, wanted) in [
            (
                r#"{"model":"m","messages":[1],"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"model":"m","messages":[1],"stream":true}"#,
            ),
            (
                r#"{"model":"m","messages":[1],"stream":true,"stream_options":{}}"#,
                r#"{"model":"m","messages":[1],"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"model":"m","messages":[1],"stream":true,"stream_options":{"a":1,"include_usage":false}}"#,
                r#"{"model":"m","messages":[1],"stream":true,"stream_options":{"a":1,"include_usage":true}}"#,
            ),
            (r#"{"model":"m","messages":[1],"stream":false}"#, r#"{"model":"m","messages":[1],"stream":false}"#),
        ] {
            assert_eq!(sent(text, "m", None, None), wanted, "{text}");
        }
    }

    proptest! {
        #[test]
        fn forwarded_body_means_the_same_apart_from_the_changed_members(
            options in prop::option::of(prop::sample::select(vec![json!(null), json!({}), json!({"a": [1]}), json!({"include_usage": true})])),
            caps in prop::array::uniform2(prop::option::of(prop::option::of(1_u32..20))),
            stream in any::<bool>(), tier in prop::option::of(1_u32..20), own in prop::option::of(1_u32..20), text in "\\PC{0,12}",
        ) {
            let mut asked = json!({"a": text, "model": "public", "messages": [{"content": text}], "stream": stream, "z": {"model": "x"}});
            for (name, cap) in ["max_tokens", "max_completion_tokens"].into_iter().zip(caps) {
                if let Some(cap) = cap {
                    asked[name] = json!(cap);
                }
            }
            if let Some(options) = options {
                asked["stream_options"] = options;
            }
            let got: Value = serde_json::from_str(&sent(&asked.to_string(), "own/\"name\"", tier, own)).unwrap();
            let most = cap(tier, own);
            let mut wanted = asked.clone();
            wanted["model"] = json!("own/\"name\"");
            if stream {
                if !wanted["stream_options"].is_object() {
                    wanted["stream_options"] = json!({});
                }
                wanted["stream_options"]["include_usage"] = json!(true);
            }
            let mut named = false;
            for name in ["max_tokens", "max_completion_tokens"] {
                if let Some(cap) = asked[name].as_u64() {
                    named = true;
                    wanted[name] = json!(most.map_or(cap, |most| cap.min(u64::from(most))));
                }
            }
            if tier.is_some() && !named {
                let null = ["max_tokens", "max_completion_tokens"].into_iter().find(|name| asked.get(*name).is_some());
                wanted[null.unwrap_or("max_tokens")] = json!(most);
            }
            prop_assert_eq!(got, wanted);
        }
    }
}
