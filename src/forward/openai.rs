//! The body that goes upstream: the caller's body with the model renamed, the output capped, the usage asked for.
//!
//! In: the body, the positions of its deciding members ([`Asked`]), the wording that the target takes. Out: bytes that differ
//! in these members alone; the rest is copied byte for byte, so gateway and upstream read the same. It validates nothing:
//! `accept` did.

use super::caps::{Caps, Limits};
use super::edits::Edits;
use super::wording::Wording;
use crate::accept::openai::{Asked, Endpoint, IncludeUsage};
use crate::snapshot::CapParameter;

const OLDER: &str = "max_tokens";
const NEWER: &str = "max_completion_tokens";

/// The new body; `None`: the caller's body needs no change. `model` is the upstream's name.
pub fn body(
    endpoint: Endpoint,
    body: &[u8],
    asked: &Asked,
    model: &str,
    limits: Limits,
    wording: Wording,
) -> Option<Vec<u8>> {
    let mut edits = Edits::new(body);
    if asked.model != model {
        edits.replace(asked.model_at.clone(), quoted(model));
    }
    if endpoint.generates() {
        put_caps(&mut edits, asked, Caps::new(asked, limits, wording.cap), wording.cap);
        if asked.stream {
            put_usage(&mut edits, asked, wording.usage);
        }
    }
    edits.apply()
}

/// Makes the caps of the body these.
fn put_caps(edits: &mut Edits<'_>, asked: &Asked, caps: Caps, name: CapParameter) {
    let members = [
        (OLDER, &asked.max_tokens, caps.max_tokens),
        (NEWER, &asked.max_completion_tokens, caps.max_completion_tokens),
    ];
    // A cap that is sent under the other name takes the place of the caller's.
    let spare = members.iter().find_map(|(_, there, wanted)| there.as_ref().filter(|_| wanted.is_none()));
    let renamed = members.iter().any(|(_, there, wanted)| there.is_none() && wanted.is_some());
    for (member, there, wanted) in members {
        match (there, wanted) {
            (None, None) => {}
            (None, Some(most)) => match spare {
                Some(spare) => edits.replace_member(spare.at.clone(), &format!("\"{member}\":{most}")),
                None => edits.insert(asked.open, format!("\"{member}\":{most},")),
            },
            (Some(cap), Some(most)) if cap.tokens == Some(most) => {}
            (Some(cap), Some(most)) => edits.replace(cap.at.clone(), most.to_string()),
            (Some(_), None) if renamed => {}
            // Null passes as the caller wrote it: each dialect knows it.
            (Some(cap), None) if name == CapParameter::Auto && edits.is(cap.at.clone(), "null") => {}
            (Some(cap), None) => edits.remove_member(cap.at.clone()),
        }
    }
}

/// Asks a stream for its usage, or takes `stream_options` out.
fn put_usage(edits: &mut Edits<'_>, asked: &Asked, ask: bool) {
    if !ask {
        if let Some(options) = &asked.stream_options {
            edits.remove_member(options.clone());
        }
        return;
    }
    match &asked.include_usage {
        IncludeUsage::Absent => edits.insert(asked.open, "\"stream_options\":{\"include_usage\":true},".into()),
        IncludeUsage::Null(at) => edits.replace(at.clone(), "{\"include_usage\":true}".into()),
        IncludeUsage::Unsaid(at, empty) => {
            edits.insert(*at, if *empty { "\"include_usage\":true" } else { "\"include_usage\":true," }.into());
        }
        IncludeUsage::No(at) => edits.replace(at.clone(), "true".into()),
        IncludeUsage::Yes => {}
    }
}

/// A name as a JSON string.
fn quoted(name: &str) -> String {
    serde_json::to_string(name).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::accept::openai::read;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    const USUAL: Wording = Wording { cap: CapParameter::Auto, usage: true };

    fn sent(text: &str, model: &str, tier: Option<u32>, own: Option<u32>) -> String {
        worded(text, model, Limits { tier, model: own }, USUAL)
    }

    fn worded(text: &str, model: &str, limits: Limits, wording: Wording) -> String {
        let asked = read(Endpoint::Chat, text.as_bytes()).unwrap();
        match body(Endpoint::Chat, text.as_bytes(), &asked, model, limits, wording) {
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
                r#"{"max_completion_tokens":1,"model":"m","messages":[1]}"#,
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
    fn forward_gives_a_cap_of_minus_one_the_limits() {
        for (text, tier, own, wanted) in [
            (
                r#"{"max_tokens":-1,"model":"m","messages":[1]}"#,
                Some(5),
                None,
                r#"{"max_tokens":5,"model":"m","messages":[1]}"#,
            ),
            (
                r#"{"max_tokens":-1,"model":"m","messages":[1]}"#,
                None,
                Some(7),
                r#"{"max_tokens":7,"model":"m","messages":[1]}"#,
            ),
            (
                r#"{"max_tokens":null,"model":"m","messages":[1]}"#,
                None,
                Some(7),
                r#"{"max_tokens":7,"model":"m","messages":[1]}"#,
            ),
            (r#"{"max_tokens":-1,"model":"m","messages":[1]}"#, None, None, r#"{"model":"m","messages":[1]}"#),
            (r#"{"model":"m","messages":[1], "max_tokens" : -1 }"#, None, None, r#"{"model":"m","messages":[1] }"#),
            (
                r#"{"max_tokens":null,"model":"m","messages":[1]}"#,
                None,
                None,
                r#"{"max_tokens":null,"model":"m","messages":[1]}"#,
            ),
            (
                r#"{"max_tokens":-1,"max_completion_tokens":9,"model":"m","messages":[1]}"#,
                Some(5),
                None,
                r#"{"max_completion_tokens":5,"model":"m","messages":[1]}"#,
            ),
            (
                r#"{"model":"m","messages":[1],"max_completion_tokens":-1}"#,
                Some(5),
                None,
                r#"{"model":"m","messages":[1],"max_completion_tokens":5}"#,
            ),
            (
                r#"{"max_tokens":null,"model":"m","messages":[1],"max_completion_tokens":-1}"#,
                Some(5),
                None,
                r#"{"max_tokens":5,"model":"m","messages":[1]}"#,
            ),
        ] {
            assert_eq!(sent(text, "m", tier, own), wanted, "{text}");
        }
    }

    #[test]
    fn forward_words_caps_and_usage_as_the_target_takes_them() {
        use CapParameter::{Auto, MaxCompletionTokens, MaxTokens, None as NoCap};
        let limits = Limits { tier: Some(5), model: None };
        for (text, cap, usage, wanted) in [
            (
                r#"{"model":"m","messages":[1]}"#,
                MaxCompletionTokens,
                true,
                r#"{"max_completion_tokens":5,"model":"m","messages":[1]}"#,
            ),
            (
                r#"{"max_t\u006fkens" : 9,"model":"m","messages":[1]}"#,
                MaxCompletionTokens,
                true,
                r#"{"max_completion_tokens":5,"model":"m","messages":[1]}"#,
            ),
            (
                r#"{"max_completion_tokens":3,"model":"m","messages":[1],"max_tokens":4}"#,
                MaxTokens,
                true,
                r#"{"model":"m","messages":[1],"max_tokens":3}"#,
            ),
            (
                r#"{"max_tokens":9,"model":"m","max_completion_tokens":null,"messages":[1]}"#,
                NoCap,
                true,
                r#"{"model":"m","messages":[1]}"#,
            ),
            (
                r#"{"stream":true,"model":"m","messages":[1],"max_tokens":3,"stream_options":{"include_usage":true}}"#,
                Auto,
                false,
                r#"{"stream":true,"model":"m","messages":[1],"max_tokens":3}"#,
            ),
            (
                r#"{"stream_options":null,"stream":true,"model":"m","messages":[1],"max_tokens":3}"#,
                NoCap,
                false,
                r#"{"stream":true,"model":"m","messages":[1]}"#,
            ),
        ] {
            assert_eq!(worded(text, "m", limits, Wording { cap, usage }), wanted, "{text}");
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

    /// The body that the wording should make of `asked`, as a value.
    fn meant(asked: &Value, limits: Limits, wording: Wording) -> Value {
        const NAMES: [&str; 2] = ["max_tokens", "max_completion_tokens"];
        let mut wanted = asked.clone();
        wanted["model"] = json!("own/\"name\"");
        if asked["stream"] == json!(true) {
            if wording.usage {
                if !wanted["stream_options"].is_object() {
                    wanted["stream_options"] = json!({});
                }
                wanted["stream_options"]["include_usage"] = json!(true);
            } else {
                wanted.as_object_mut().unwrap().remove("stream_options");
            }
        }
        let most = limits.smaller();
        let low = |cap: u64| most.map_or(cap, |most| cap.min(u64::from(most)));
        let given: Vec<u64> = NAMES.iter().filter_map(|name| asked[*name].as_u64()).map(low).collect();
        let said = NAMES.iter().find(|name| asked.get(**name).is_some());
        let own = most.filter(|_| limits.tier.is_some() || said.is_some()).map(u64::from);
        let value = given.iter().min().copied().or(own);
        let only = match wording.cap {
            CapParameter::Auto if given.len() == 2 => NAMES[1],
            CapParameter::Auto if !given.is_empty() => {
                for name in NAMES {
                    match asked[name].as_i64() {
                        Some(-1) => drop(wanted.as_object_mut().unwrap().remove(name)),
                        Some(cap) => wanted[name] = json!(low(u64::try_from(cap).unwrap())),
                        None => {}
                    }
                }
                return wanted;
            }
            CapParameter::Auto => *said.unwrap_or(&NAMES[0]),
            CapParameter::MaxTokens => NAMES[0],
            CapParameter::MaxCompletionTokens => NAMES[1],
            CapParameter::None => "",
        };
        for name in NAMES {
            match value.filter(|_| name == only) {
                Some(value) => wanted[name] = json!(value),
                None if wording.cap == CapParameter::Auto && given.len() < 2 && asked[name].is_null() => {}
                None => drop(wanted.as_object_mut().unwrap().remove(name)),
            }
        }
        wanted
    }

    proptest! {
        #[test]
        fn forwarded_body_means_the_same_apart_from_the_changed_members(
            options in prop::option::of(prop::sample::select(vec![json!(null), json!({}), json!({"a": [1]}), json!({"include_usage": true}), json!({"include_usage": false})])),
            caps in prop::array::uniform2(prop::option::of(prop::sample::select(vec![json!(null), json!(-1), json!(3), json!(11)]))),
            cap in prop::sample::select(vec![CapParameter::Auto, CapParameter::MaxTokens, CapParameter::MaxCompletionTokens, CapParameter::None]),
            usage in any::<bool>(), pretty in any::<bool>(),
            stream in any::<bool>(), tier in prop::option::of(1_u32..20), own in prop::option::of(1_u32..20), text in "\\PC{0,12}",
        ) {
            let mut asked = json!({"a": text, "model": "public", "messages": [{"content": text}], "stream": stream, "z": {"model": "x", "max_tokens": 1}});
            for (name, cap) in ["max_tokens", "max_completion_tokens"].into_iter().zip(caps) {
                if let Some(cap) = cap {
                    asked[name] = cap;
                }
            }
            if let Some(options) = options {
                asked["stream_options"] = options;
            }
            let written = if pretty { serde_json::to_string_pretty(&asked).unwrap() } else { asked.to_string() };
            let (limits, wording) = (Limits { tier, model: own }, Wording { cap, usage });
            let got: Value = serde_json::from_str(&worded(&written, "own/\"name\"", limits, wording)).unwrap();
            prop_assert_eq!(got, meant(&asked, limits, wording));
        }
    }
}
