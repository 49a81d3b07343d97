//! Token counting by the vocabularies that models name.
//!
//! In: a model's `tokenizer`. Out: its counter. A vocabulary is decoded on its first use, once for all threads of a process:
//! [`preload`] does that on a thread of its own, so that no call waits for it. Counting is exact, linear, and without a panic
//! for every text.

mod openai;
mod split;

use std::sync::Arc;

use aigw_core::snapshot::Tokenizer;
use aigw_core::tokens::{BytesCounter, TokenCounter};

use openai::OpenAi;

/// The counter of a model's tokenizer. Costs no more than a pointer: no vocabulary is decoded here.
pub fn counter(tokenizer: &Tokenizer) -> Arc<dyn TokenCounter> {
    match tokenizer {
        Tokenizer::O200kBase => Arc::new(OpenAi::O200k),
        Tokenizer::Cl100kBase => Arc::new(OpenAi::Cl100k),
        // A file is refused where it is written; its bytes are a bound for any vocabulary.
        Tokenizer::Bytes | Tokenizer::File(_) => Arc::new(BytesCounter),
    }
}

/// Decodes the vocabularies on a thread, so that the first call that counts finds them.
pub fn preload<'a>(tokenizers: impl Iterator<Item = &'a Tokenizer>) {
    let mut wanted = Vec::new();
    for tokenizer in tokenizers {
        if !wanted.contains(tokenizer) && !matches!(tokenizer, Tokenizer::Bytes | Tokenizer::File(_)) {
            wanted.push(tokenizer.clone());
        }
    }
    if wanted.is_empty() {
        return;
    }
    // Without the thread, the first call that counts decodes them.
    let _ = std::thread::Builder::new().name("vocabulary".into()).spawn(move || {
        for tokenizer in wanted {
            counter(&tokenizer).count("");
        }
    });
}
