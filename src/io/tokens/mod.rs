//! Token counting by the vocabularies that models name.
//!
//! In: a model's `tokenizer`. Out: its counter. A vocabulary is decoded on its first use, once for all threads of
//! a process. Counting is exact, linear, and without a panic for every text.

mod openai;
mod split;
mod timed;

use std::sync::Arc;

use aigw_core::snapshot::Tokenizer;
use aigw_core::tokens::{BytesCounter, TokenCounter};

use openai::OpenAi;
pub use timed::Timed;

/// The counter of a model's tokenizer. Costs no more than a pointer: no vocabulary is decoded here.
pub fn counter(tokenizer: &Tokenizer) -> Arc<dyn TokenCounter> {
    match tokenizer {
        Tokenizer::O200kBase => Arc::new(OpenAi::O200k),
        Tokenizer::Cl100kBase => Arc::new(OpenAi::Cl100k),
        // A file is refused where it is written; its bytes are a bound for any vocabulary.
        Tokenizer::Bytes | Tokenizer::File(_) => Arc::new(BytesCounter),
    }
}
