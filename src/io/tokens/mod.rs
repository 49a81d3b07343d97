//! Token counting by the vocabularies that models name.
//!
//! In: a model's `tokenizer`. Out: its counter. OpenAI's vocabularies are embedded; a user's `tokenizer.json` has a copy in the data folder.
//! A vocabulary is read once for all threads of a process: on a thread of its own where a tier counts tokens
//! ([`Vocabularies::prepare`]), else on its first use. Counting is linear, without a panic for every text, and exact, except for very
//! long runs of one sign and very long words: the most tokens of their bytes are a bound.

mod copies;
mod file;
mod growth;
mod guarded;
mod openai;
mod precompiled;
mod slow;
mod split;
mod timed;

use std::path::Path;
use std::sync::Arc;

use aigw_core::snapshot::{Offer, Tier, Tokenizer};
use aigw_core::tokens::{BytesCounter, TokenCounter};

use copies::Copies;
use file::{TokenizerFile, Unguarded};
use guarded::guarded;
use openai::OpenAi;
pub use timed::Timed;

/// The vocabularies of a worker.
#[derive(Debug)]
pub struct Vocabularies {
    copies: Copies,
}

impl Vocabularies {
    /// The vocabularies for a data folder, which has the copies of users' files.
    pub fn of(data: &Path) -> Self {
        Self { copies: Copies::of(data) }
    }

    /// The counter of a model's tokenizer. Costs no more than a pointer: no vocabulary is read here.
    pub fn counter(&self, tokenizer: &Tokenizer) -> Arc<dyn TokenCounter> {
        match tokenizer {
            Tokenizer::O200kBase => Arc::new(OpenAi::O200k),
            Tokenizer::Cl100kBase => Arc::new(OpenAi::Cl100k),
            Tokenizer::Bytes => Arc::new(BytesCounter),
            Tokenizer::File { name, per_byte } => self.copies.counter(name, *per_byte),
        }
    }

    /// Reads the vocabularies of a policy's models off the request path, where a tier has limits that count tokens. Call it with the
    /// models' counters in force: a copy that nobody holds is forgotten.
    pub fn prepare(&self, offer: &Offer) {
        let counts = |tier: &Tier| tier.has_ceilings() || tier.limits.iter().any(|limit| limit.limit.facts().sized);
        if !offer.tiers.iter().any(counts) {
            return;
        }
        for model in &offer.models {
            match &model.tokenizer {
                Tokenizer::O200kBase => OpenAi::O200k.prepare(),
                Tokenizer::Cl100kBase => OpenAi::Cl100k.prepare(),
                Tokenizer::Bytes => {}
                Tokenizer::File { name, per_byte } => self.copies.counter(name, *per_byte).prepare(),
            }
        }
    }

    /// The texts that a file could not count since the last call, and the reason of the first one.
    pub fn take_faults(&self) -> Option<(u64, String)> {
        self.copies.take_faults()
    }
}

/// The counter of an embedded vocabulary; `None`: it has no such name.
pub fn embedded(name: &str) -> Option<Arc<dyn TokenCounter>> {
    match name {
        "o200k_base" => Some(Arc::new(OpenAi::O200k)),
        "cl100k_base" => Some(Arc::new(OpenAi::Cl100k)),
        "bytes" => Some(Arc::new(BytesCounter)),
        _ => None,
    }
}

/// The counter of a `tokenizer.json`, and the most tokens that one byte of text can become. The error is the end of a sentence about the file.
pub fn of_file(json: &[u8]) -> Result<(Arc<dyn TokenCounter>, u32), String> {
    let file = guarded(|| TokenizerFile::read(json)).and_then(|read| read)?;
    // A text of letters that a vocabulary may lack: a model without a token for them cannot count.
    for text in ["The", "é漢字", "👍"] {
        let counted = guarded(|| file.count(text)).and_then(|counted| counted.map_err(|error| error.to_string()));
        counted.map_err(|error| format!("counts no text with unknown signs ({error}): give its model an unk_token"))?;
    }
    let per_byte = file.per_byte();
    Ok((Arc::new(Unguarded(file)), per_byte))
}
