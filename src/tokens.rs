//! The interface of token counters.
//!
//! In: a text. Out: the tokens that a model's vocabulary splits it into. Vocabularies are files: counters live outside the core,
//! except [`BytesCounter`], which needs none.

/// Tokens for each choice that a stream takes from its budgets at once. Hundreds of tokens last for seconds, so a stream writes to
/// shared counters seldom, and holds little that others could use.
pub const CHUNK: u64 = 256;

/// Counts the tokens of texts by one vocabulary.
pub trait TokenCounter: Send + Sync {
    /// The tokens of a text, in time linear in its length. At most [`Self::bound`].
    fn count(&self, text: &str) -> u64;

    /// The most tokens that the text can have, by its bytes alone: one for each byte, unless the vocabulary's normalizer lengthens texts.
    fn bound(&self, text: &str) -> u64 {
        text.len() as u64
    }

    /// Runs `count`, which counts all texts of one body, and returns its result. Counters that know a clock take its time.
    fn timed(&self, count: &dyn Fn() -> u64) -> u64 {
        count()
    }
}

/// One token for each byte: an upper bound for each vocabulary whose tokens cover a byte or more.
#[derive(Debug, Clone, Copy, Default)]
pub struct BytesCounter;

impl TokenCounter for BytesCounter {
    fn count(&self, text: &str) -> u64 {
        text.len() as u64
    }
}
