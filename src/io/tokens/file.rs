//! A user's `tokenizer.json`: the count of a text by the steps that Hugging Face's libraries take, without their special tokens.
//!
//! In: the JSON. Out: the tokens of a text, or the reason why it has no count. Truncation, padding and post-processing are not read. Where
//! a text has a special token (`<|eot_id|>`), upstreams take it for that token or for plain text: the larger count is kept. Times are
//! linear: a long piece that nothing splits counts as the most tokens of its bytes, and a very long text, too.

use aigw_core::tokens::TokenCounter;
use serde::Deserialize;
use serde_json::Value;
use tokenizers::models::ModelWrapper;
use tokenizers::tokenizer::{AddedVocabulary, OffsetReferential, OffsetType};
use tokenizers::{Model as _, NormalizedString, Normalizer as _, PreTokenizer as _, Tokenizer};

use super::growth::{self, BLANK, ModelPart};
use super::guarded::guarded;
use super::slow::Slow;

/// Bytes of a piece that is counted exactly. Merging sorts pairs: a piece costs more for each byte the longer it is.
const MOST_PIECE: usize = 16 * 1024;
/// Bytes of a text that is counted exactly, before and after its normalizer: 1,000,000 tokens of English, and 300 MB of memory while it is
/// counted.
const MOST_TEXT: usize = 4 * 1024 * 1024;
/// Bytes that are normalized at once to see how long a text becomes: the library needs about 70 bytes of memory for each byte that comes out.
const WINDOW: usize = 4 * 1024;
/// Tokens that one byte may become. The normalizers of published models make 44 at most (NFKC with byte fallback).
const MOST_GROWTH: u32 = 256;
/// Signs in a row from which on a text counts as the most tokens of its bytes: patterns keep a step for each, and their memory costs more
/// time than the text.
const LONG_RUN: usize = 64 * 1024;
/// Bytes of a word from which on `WordPiece` is slow: it tries each end of each part.
const LONG_WORD: usize = 32;
/// Bytes between two pieces that are blanks a pre-tokenizer drops. A pattern that gives up drops the rest of a text that is longer.
const LONG_GAP: usize = 128 * 1024;
/// Words whose tokens a model remembers, for each thread: 8 KB for each of at most 255 bytes.
const REMEMBERED: usize = 2_000;

/// A vocabulary that can count.
pub(super) struct TokenizerFile {
    tokenizer: Tokenizer,
    /// The added tokens without the special ones; `None`: there are no special ones.
    plain: Option<AddedVocabulary>,
    model: ModelPart,
    is_word_piece: bool,
    /// The vocabulary has [`BLANK`].
    has_blank: bool,
    /// No token goes from a sign into a blank behind it, so words can be counted one by one.
    has_words: bool,
    per_byte: u32,
}

/// The parts of a file that this module reads.
#[derive(Deserialize)]
struct Parts {
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    model: ModelPart,
}

impl TokenizerFile {
    /// Reads a file. The error is a sentence's end: `is no ...`.
    pub fn read(json: &[u8]) -> Result<Self, String> {
        let parts: Parts = serde_json::from_slice(json).map_err(|error| format!("is no tokenizer.json: {error}"))?;
        let Parts { normalizer, pre_tokenizer, model } = parts;
        if model.dropout.is_some_and(|share| share > 0.0) {
            return Err("drops merges by chance (model.dropout), so its counts differ: set dropout to null".into());
        }
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(|error| format!("is no tokenizer.json: {error}"))?;
        let vocabulary = tokenizer.get_model().get_vocab();
        let has_blank = vocabulary.contains_key(&*BLANK.to_string());
        let per_byte = growth::factor(&normalizer, &pre_tokenizer, &model, has_blank)
            .and_then(|factor| u32::try_from(factor).ok())
            .ok_or("has a normalizer or a pre-tokenizer without a bound for the tokens of one byte")?;
        if per_byte > MOST_GROWTH {
            return Err(format!(
                "has a normalizer or a pre-tokenizer that makes up to {per_byte} tokens of one byte, and at most {MOST_GROWTH} can be counted: shorten the texts that it puts in"
            ));
        }
        let whole =
            matches!(tokenizer.get_model(), ModelWrapper::BPE(_)) && !model.ignore_merges && model.affixes() == 0;
        let has_words = whole && has_blank && !vocabulary.keys().any(|token| word_end(token).is_some());
        let mut model_of = tokenizer.get_model().clone();
        model_of.resize_cache(REMEMBERED);
        tokenizer.with_model(model_of);
        let mut plain = tokenizer.get_added_vocabulary().clone();
        plain.set_encode_special_tokens(true);
        let special = tokenizer.get_added_tokens_decoder().values().any(|token| token.special);
        Ok(Self {
            plain: special.then_some(plain),
            is_word_piece: matches!(tokenizer.get_model(), ModelWrapper::WordPiece(_)),
            tokenizer,
            model,
            has_blank,
            has_words,
            per_byte,
        })
    }

    /// The most tokens that one byte of text can become.
    pub fn per_byte(&self) -> u32 {
        self.per_byte
    }

    /// The tokens of a text. Panics where the library does.
    pub fn count(&self, text: &str) -> tokenizers::Result<u64> {
        if text.len() > MOST_TEXT || has_long_run(text) || self.is_long_when_normalized(text)? {
            return Ok(self.bound(text));
        }
        let (special, tokens) = self.by(self.tokenizer.get_added_vocabulary(), text)?;
        let plain = match &self.plain {
            Some(plain) if special => self.by(plain, text)?.1,
            _ => 0,
        };
        Ok(tokens.max(plain))
    }

    /// The most tokens that a text can have.
    pub fn bound(&self, text: &str) -> u64 {
        u64::from(self.per_byte).saturating_mul(text.len() as u64)
    }

    /// Whether the normalizer makes more than [`MOST_TEXT`] bytes of a text. It is asked only where the text could become so long.
    fn is_long_when_normalized(&self, text: &str) -> tokenizers::Result<bool> {
        let could = self.bound(text) > MOST_TEXT as u64;
        let Some(normalizer) = self.tokenizer.get_normalizer().filter(|_| could) else { return Ok(false) };
        let (mut rest, mut bytes) = (text, 0);
        while !rest.is_empty() && bytes <= MOST_TEXT {
            let (window, behind) = rest.split_at(rest.floor_char_boundary(WINDOW));
            let mut normalized = NormalizedString::from(window);
            normalizer.normalize(&mut normalized)?;
            bytes += normalized.get().len();
            rest = behind;
        }
        Ok(bytes > MOST_TEXT)
    }

    /// Whether added tokens were found, and the tokens of the text.
    fn by(&self, added: &AddedVocabulary, text: &str) -> tokenizers::Result<(bool, u64)> {
        let mut pieces = added.extract_and_normalize(self.tokenizer.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.tokenizer.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut pieces)?;
        }
        let (mut found, mut tokens, mut end) = (false, 0, 0);
        let mut slow = Slow::of_text();
        for (piece, (from, to), already) in pieces.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            tokens += self.gap(from.saturating_sub(end));
            end = end.max(to);
            tokens += if let Some(already) = already {
                found = true;
                already.len() as u64
            } else {
                self.piece(piece, &mut slow)?
            };
        }
        Ok((found, tokens + self.gap(text.len().saturating_sub(end))))
    }

    /// The tokens of bytes that no piece has. An expression that takes too many steps stops, and its pre-tokenizer may drop the rest.
    fn gap(&self, bytes: usize) -> u64 {
        if bytes > LONG_GAP { u64::from(self.per_byte).saturating_mul(bytes as u64) } else { 0 }
    }

    /// The tokens of a piece that the pre-tokenizer made.
    fn piece(&self, piece: &str, slow: &mut Slow) -> tokenizers::Result<u64> {
        if !self.has_words {
            return self.word(piece, slow);
        }
        let (mut rest, mut tokens) = (piece, 0);
        while let Some(end) = word_end(rest) {
            let (word, behind) = rest.split_at(end);
            tokens += self.word(word, slow)?;
            rest = behind;
        }
        Ok(tokens + self.word(rest, slow)?)
    }

    fn word(&self, word: &str, slow: &mut Slow) -> tokenizers::Result<u64> {
        let exact = if self.is_word_piece {
            let longest = self.model.max_input_chars_per_word.unwrap_or(100);
            word.len() <= LONG_WORD || word.chars().nth(longest).is_some() || slow.allows(word.len() as u64)
        } else {
            word.len() <= MOST_PIECE
        };
        if exact { Ok(self.tokenizer.get_model().tokenize(word)?.len() as u64) } else { Ok(self.most(word)) }
    }

    /// The most tokens that the model makes of a piece.
    fn most(&self, piece: &str) -> u64 {
        if !self.model.byte_fallback {
            return piece.chars().count() as u64;
        }
        let blank = if self.has_blank { 1 } else { BLANK.len_utf8() };
        let bytes: usize = piece.chars().map(|sign| if sign == BLANK { blank } else { sign.len_utf8() }).sum();
        (bytes as u64).saturating_mul(1 + self.model.affixes())
    }
}

/// Whether one sign stands in a text more than [`LONG_RUN`] times in a row.
fn has_long_run(text: &str) -> bool {
    let (mut last, mut run) = ('\0', 0);
    text.len() > LONG_RUN
        && text.chars().any(|sign| {
            run = if sign == last { run + 1 } else { 1 };
            last = sign;
            run > LONG_RUN
        })
}

/// Where the first word of a text ends: before a blank that stands behind another sign. A blank is [`BLANK`] here.
fn word_end(text: &str) -> Option<usize> {
    let mut last = BLANK;
    text.char_indices().find_map(|(at, sign)| {
        let ends = sign == BLANK && last != BLANK;
        last = sign;
        ends.then_some(at)
    })
}

/// A counter of a file that was just read, for commands that count once.
pub(super) struct Unguarded(pub TokenizerFile);

impl TokenCounter for Unguarded {
    fn count(&self, text: &str) -> u64 {
        guarded(|| self.0.count(text).ok()).ok().flatten().unwrap_or_else(|| self.0.bound(text))
    }

    fn bound(&self, text: &str) -> u64 {
        self.0.bound(text)
    }

    fn timed(&self, count: &dyn Fn() -> u64) -> u64 {
        Slow::in_body(count)
    }
}
