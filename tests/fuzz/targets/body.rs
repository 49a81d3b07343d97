//! Bodies of calls on `/v1`: an accepted body is JSON that a library reads the same way, and so is the body that is forwarded.
//!
//! Input: one byte for the endpoint and the wording, then the body.

use aigw_core::accept::openai::{Endpoint, read};
use aigw_core::forward::Limits;
use aigw_core::forward::openai::body;
use aigw_core::forward::wording::Wording;
use aigw_core::snapshot::CapParameter;
use serde_json::Value;

/// Runs one input.
pub fn run(data: &[u8]) {
    let Some((&first, text)) = data.split_first() else { return };
    let endpoint = [Endpoint::Chat, Endpoint::Completions, Endpoint::Embeddings][usize::from(first % 3)];
    let Ok(asked) = read(endpoint, text) else { return };
    let value: Value = match serde_json::from_slice(text) {
        Ok(value) => value,
        // 1e999 is JSON, and goes on as it came; it is the reader of this check that has no number for it.
        Err(error) if error.to_string().contains("number out of range") => return,
        Err(error) => panic!("accepted a body that is not JSON: {error}"),
    };
    assert_eq!(value["model"], Value::String(asked.model.clone()));
    assert_eq!(serde_json::from_slice::<Value>(&text[asked.model_at.clone()]).ok(), Some(value["model"].clone()));
    assert_eq!(value["stream"].as_bool().unwrap_or(false), asked.stream);
    for (name, cap) in [("max_tokens", &asked.max_tokens), ("max_completion_tokens", &asked.max_completion_tokens)] {
        assert_eq!(value[name].as_u64(), cap.as_ref().and_then(|cap| cap.tokens).map(u64::from), "{name}");
    }
    let names = [CapParameter::Auto, CapParameter::MaxTokens, CapParameter::MaxCompletionTokens, CapParameter::None];
    let wording = Wording { cap: names[usize::from(first / 3 % 4)], usage: first < 128 };
    let changed = body(endpoint, text, &asked, "another", Limits { tier: Some(7), model: None }, wording);
    let sent = changed.as_deref().unwrap_or(text);
    let Ok(sent) = serde_json::from_slice::<Value>(sent) else { panic!("forwarded a body that is not JSON") };
    assert_eq!(sent["model"], "another");
    if endpoint.generates() {
        let caps = ["max_tokens", "max_completion_tokens"].map(|name| sent[name].as_u64());
        let is_capped = wording.cap != CapParameter::None;
        assert!(
            caps.iter().flatten().all(|cap| *cap <= 7) && caps.iter().any(Option::is_some) == is_capped,
            "{caps:?}"
        );
        let usage = sent["stream_options"]["include_usage"].as_bool();
        assert!(!asked.stream || usage == wording.usage.then_some(true), "{usage:?}");
    }
}
