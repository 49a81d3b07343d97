//! Token counting by the vocabularies that models name.
//!
//! In: a model's `tokenizer`. Out: its counter. A vocabulary is decoded once for all threads of a process: on a thread of its own
//! where a tier counts tokens ([`prepare`]), else on its first use. Counting is linear, without a panic for every text, and exact,
//! except for very long runs of one sign: their bytes are a bound.

mod openai;
mod split;
mod timed;

use std::sync::Arc;

use aigw_core::snapshot::{Offer, Tier, Tokenizer};
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

/// Decodes the vocabularies of a policy's models off the request path, where a tier has limits that count tokens.
pub fn prepare(offer: &Offer) {
    let counts = |tier: &Tier| tier.has_ceilings() || tier.limits.iter().any(|limit| limit.limit.facts().sized);
    if !offer.tiers.iter().any(counts) {
        return;
    }
    for model in &offer.models {
        match model.tokenizer {
            Tokenizer::O200kBase => OpenAi::O200k.prepare(),
            Tokenizer::Cl100kBase => OpenAi::Cl100k.prepare(),
            Tokenizer::Bytes | Tokenizer::File(_) => {}
        }
    }
}
