//! The most tokens that one byte of text can become by a `tokenizer.json`.
//!
//! In: its normalizer, pre-tokenizer and model, as JSON. Out: a factor. Models make at most one token of a byte, but normalizers and
//! pre-tokenizers lengthen texts: they decompose letters, and put a sign before words. Factors of parts multiply: each holds for
//! any text that a part before it may have made. A byte fallback makes a token of each byte of a character that the vocabulary lacks.

use serde::Deserialize;
use serde_json::Value;

use super::precompiled::longest;

/// Most bytes that a byte becomes by Unicode's NFC and NFD (U+0390: 2 to 6), and by NFKC and NFKD (U+FDFA: 3 to 33), by the Unicode
/// FAQ on normalization.
const CANONICAL: u64 = 3;
const COMPATIBLE: u64 = 11;
/// Lower case: U+0130 becomes 3 bytes of 2.
const LOWER: u64 = 2;
/// A CJK character of 3 bytes between two blanks.
const PADDED: u64 = 2;
/// Bytes of a character that stands for one byte at most: U+0100 to U+0143.
const BYTE_LEVEL: u64 = 2;
/// The sign that stands for a blank.
pub(super) const BLANK: char = '\u{2581}';

/// The model of a `tokenizer.json`, as far as lengths and times depend on it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ModelPart {
    pub dropout: Option<f64>,
    pub byte_fallback: bool,
    pub ignore_merges: bool,
    pub continuing_subword_prefix: Option<String>,
    pub end_of_word_suffix: Option<String>,
    pub max_input_chars_per_word: Option<usize>,
}

impl ModelPart {
    /// Bytes of the signs that mark the place of a piece in its word.
    pub fn affixes(&self) -> u64 {
        let length = |affix: &Option<String>| affix.as_ref().map_or(0, |affix| affix.len() as u64);
        length(&self.continuing_subword_prefix) + length(&self.end_of_word_suffix)
    }
}

/// The lengths of texts on their way to the model.
struct Growth {
    factor: u64,
    /// Bytes that [`BLANK`] counts as.
    blank: u64,
    /// A part before made a character of two bytes out of each byte, and each counts as one.
    spelled: bool,
}

/// The factor of a file. `has_blank`: its vocabulary has the sign for a blank. `None`: a part is not known.
pub(super) fn factor(normalizer: &Value, pre_tokenizer: &Value, model: &ModelPart, has_blank: bool) -> Option<u64> {
    let parts = || [normalizer, pre_tokenizer].into_iter().flat_map(flattened);
    let spells = parts().any(|part| type_of(part) == "ByteLevel");
    let one = !spells && (has_blank || !model.byte_fallback);
    let mut growth = Growth { factor: 1, blank: if one { 1 } else { BLANK.len_utf8() as u64 }, spelled: false };
    for part in parts() {
        growth.by(part)?;
    }
    if model.byte_fallback {
        growth.grow(1 + model.affixes());
        growth.factor = growth.factor.saturating_mul(if growth.spelled { BYTE_LEVEL } else { 1 });
    }
    Some(growth.factor)
}

impl Growth {
    fn by(&mut self, part: &Value) -> Option<()> {
        let is = |field: &str, default: bool| part[field].as_bool().unwrap_or(default);
        match type_of(part) {
            "NFC" | "NFD" => self.grow(CANONICAL),
            "NFKC" | "NFKD" => self.grow(COMPATIBLE),
            "Lowercase" => self.grow(LOWER),
            "BertNormalizer" => {
                let lower = is("lowercase", true);
                self.grow(if is("handle_chinese_chars", true) { PADDED } else { 1 });
                self.grow(if is("strip_accents", lower) { CANONICAL } else { 1 });
                self.grow(if lower { LOWER } else { 1 });
            }
            "Prepend" => self.grow(1 + self.length(part["prepend"].as_str()?)),
            "Replace" => {
                let added = self.length(part["content"].as_str()?);
                // An expression may match nothing, between any two bytes.
                let factor =
                    part["pattern"]["String"].as_str().map(|pattern| added.div_ceil(self.length(pattern).max(1)));
                self.grow(factor.unwrap_or(1 + added).max(1));
            }
            "Precompiled" => self.grow(longest(part["precompiled_charsmap"].as_str()?)?.max(1)),
            "Metaspace" => {
                let sign = self.length(part["replacement"].as_str()?).max(1);
                let never = part["prepend_scheme"] == "never" || part["add_prefix_space"] == false;
                self.grow(if never { sign } else { 2 * sign });
            }
            "ByteLevel" => {
                self.grow(if is("add_prefix_space", false) { 2 } else { 1 });
                if self.spelled {
                    self.grow(BYTE_LEVEL);
                }
                self.spelled = true;
            }
            "Strip" | "StripAccents" | "Nmt" | "BertPreTokenizer" | "CharDelimiterSplit" | "Delimiter"
            | "Whitespace" | "Split" | "Punctuation" | "WhitespaceSplit" | "Digits" | "UnicodeScripts"
            | "FixedLength" => {}
            _ => return None,
        }
        Some(())
    }

    fn grow(&mut self, by: u64) {
        if by > 1 && self.spelled {
            self.factor = self.factor.saturating_mul(BYTE_LEVEL);
            self.spelled = false;
        }
        self.factor = self.factor.saturating_mul(by);
    }

    /// The bytes of a text, with those that the sign for a blank counts as.
    fn length(&self, text: &str) -> u64 {
        text.chars().map(|sign| if sign == BLANK { self.blank } else { sign.len_utf8() as u64 }).sum()
    }
}

fn type_of(part: &Value) -> &str {
    part["type"].as_str().unwrap_or_default()
}

/// A part, or the parts of a sequence of parts.
fn flattened(part: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    let mut open = vec![part];
    while let Some(part) = open.pop() {
        match part["normalizers"].as_array().or(part["pretokenizers"].as_array()) {
            Some(parts) if type_of(part) == "Sequence" => open.extend(parts.iter().rev()),
            _ if part.is_null() => {}
            _ => found.push(part),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn of(normalizer: &Value, pre_tokenizer: &Value, model: &Value) -> Option<u64> {
        factor(normalizer, pre_tokenizer, &serde_json::from_value(model.clone()).unwrap(), true)
    }

    fn sequence(kind: &str, parts: &[Value]) -> Value {
        json!({"type": "Sequence", kind: parts})
    }

    #[test]
    fn a_byte_becomes_at_most_so_many_tokens() {
        let (bytes, fallback) = (json!({"type": "BPE"}), json!({"type": "BPE", "byte_fallback": true}));
        let spelled = json!({"type": "ByteLevel", "add_prefix_space": false});
        let prefixed = json!({"type": "ByteLevel", "add_prefix_space": true});
        let metaspace = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always"});
        let never = json!({"type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "never"});
        let blank = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let llama = sequence("normalizers", &[json!({"type": "Prepend", "prepend": "\u{2581}"}), blank.clone()]);
        let split = json!({"type": "Split"});
        let (none, nfc, nfkc) = (Value::Null, json!({"type": "NFC"}), json!({"type": "NFKC"}));
        let any = json!({"type": "Replace", "pattern": {"Regex": "x*"}, "content": "abc"});
        for (normalizer, pre_tokenizer, model, wanted) in [
            (&none, &none, &bytes, 1),
            (&none, &spelled, &bytes, 1),
            (&none, &prefixed, &bytes, 2),
            (&nfc, &sequence("pretokenizers", &[split, spelled.clone()]), &bytes, 3),
            (&nfkc, &none, &fallback, 11),
            (&llama, &none, &fallback, 2),
            (&none, &metaspace, &bytes, 2),
            (&none, &never, &bytes, 1),
            (&json!({"type": "BertNormalizer", "lowercase": true}), &json!({"type": "BertPreTokenizer"}), &bytes, 12),
            (&json!({"type": "BertNormalizer", "lowercase": false, "handle_chinese_chars": false}), &none, &bytes, 1),
            (&any, &none, &bytes, 4),
            (&none, &spelled, &fallback, 2),
            (&spelled, &metaspace, &bytes, 12),
            (&none, &none, &json!({"byte_fallback": true, "end_of_word_suffix": "</w>"}), 5),
        ] {
            assert_eq!(of(normalizer, pre_tokenizer, model), Some(wanted), "{normalizer} {pre_tokenizer} {model}");
        }
        assert_eq!(of(&json!({"type": "Else"}), &none, &bytes), None);
        let fallback: ModelPart = serde_json::from_value(fallback).unwrap();
        assert_eq!(factor(&llama, &none, &fallback, false), Some(4 * 3), "the sign for a blank has three bytes");
    }
}
