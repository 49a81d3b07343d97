//! Counts by users' `tokenizer.json` files: against Hugging Face's Python library, on hostile texts, and from copies in a data folder.
//!
//! `tests/golden/tokenizers/make.py` made the files and recorded the library's counts.
#![allow(clippy::unwrap_used)]

mod drawn;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aigw_core::snapshot::Tokenizer;
use aigw_core::tokens::TokenCounter;
use aigw_io::tokens::{Vocabularies, of_file};
use drawn::Drawn;
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

const FILES: [&str; 6] =
    ["byte_level", "byte_level_prefix", "byte_level_pattern", "sentence_piece", "unigram", "word_piece"];
/// Random texts for each file.
const TEXTS: usize = 1_500;

fn golden(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/tokenizers");
    fs::read(folder.join(format!("{name}.json"))).unwrap()
}

fn counter(name: &str) -> Arc<dyn TokenCounter> {
    of_file(&golden(name)).unwrap().0
}

/// A file with some of its parts replaced.
fn changed(name: &str, change: impl Fn(&mut Value)) -> Vec<u8> {
    let mut file: Value = serde_json::from_slice(&golden(name)).unwrap();
    change(&mut file);
    serde_json::to_vec(&file).unwrap()
}

impl Drawn {
    /// Characters of all planes, more of those that normalizers, patterns and vocabularies treat in their own ways.
    fn text(&mut self) -> String {
        const SPECIAL: [&str; 16] = [
            "<|endoftext|>",
            "<|eot_id|>",
            "<s>",
            "<unk>",
            "[MASK]",
            "gateway",
            "  ",
            "\u{2581}",
            "\u{fdfa}",
            "\u{390}",
            "\u{130}",
            "\u{1d160}",
            "\u{301}\u{302}\u{303}",
            "👨\u{200d}👩\u{200d}👧",
            "\u{0}",
            "\u{a0}",
        ];
        let mut text = String::new();
        for _ in 0..self.below(30) {
            match self.below(4) {
                0 => text.push_str(SPECIAL[usize::try_from(self.below(16)).unwrap()]),
                1 => text.extend(char::from_u32(u32::try_from(self.below(0x11_0000)).unwrap())),
                2 => text.extend(char::from_u32(u32::try_from(self.below(0x3000)).unwrap())),
                _ => text.extend(char::from_u32(u32::try_from(32 + self.below(95)).unwrap())),
            }
        }
        text
    }
}

/// CPU time of this thread: other programs on the machine do not count.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

#[derive(Deserialize)]
struct Recorded {
    texts: Vec<String>,
    counts: std::collections::BTreeMap<String, Vec<u64>>,
}

#[test]
fn counts_equal_those_of_the_python_library() {
    let recorded: Recorded = serde_json::from_slice(&golden("counts")).unwrap();
    assert!(recorded.texts.len() > 400);
    for name in FILES {
        let counter = counter(name);
        for (text, wanted) in recorded.texts.iter().zip(&recorded.counts[name]) {
            let found = counter.count(text);
            // The library reads special tokens as such.
            let special = ["<|endoftext|>", "<|eot_id|>", "<s>", "</s>"].iter().any(|special| text.contains(special));
            assert!(found == *wanted || special && found > *wanted, "{name} {text:?}: {found}, not {wanted}");
            assert!(found <= counter.bound(text), "{name} {text:?}");
        }
    }
}

#[test]
fn no_count_is_above_its_bound_for_random_texts() {
    for name in FILES {
        let (counter, mut drawn) = (counter(name), Drawn(0x2545_f491_4f6c_dd1d));
        for _ in 0..TEXTS {
            let text = drawn.text();
            assert!(counter.count(&text) <= counter.bound(&text), "{name} {text:?}");
        }
    }
}

#[test]
fn special_tokens_count_as_the_larger_of_their_two_readings() {
    let counter = counter("byte_level");
    let spelled = counter.count("<|endoftext|") + counter.count(">");
    assert!(counter.count("<|endoftext|>") > 1);
    assert!(counter.count("<|endoftext|>") <= spelled);
    let one = of_file(&changed("byte_level", |file| file["added_tokens"][0]["special"] = json!(false))).unwrap().0;
    assert_eq!(one.count("<|endoftext|>"), 1, "an added token that is not special is one token in each reading");
}

#[test]
fn truncation_and_padding_are_not_read() {
    let text = "The quick brown fox jumps over the lazy dog. ".repeat(20);
    let without = of_file(&changed("byte_level", |file| {
        (file["truncation"], file["padding"], file["post_processor"]) = (Value::Null, Value::Null, Value::Null);
    }));
    assert!(counter("byte_level").count(&text) > 64);
    assert_eq!(counter("byte_level").count(&text), without.unwrap().0.count(&text));
}

#[test]
fn words_of_a_text_without_a_pre_tokenizer_are_counted_one_by_one() {
    // One token from a letter into a blank: the words are no longer apart, and the whole text is one piece.
    let joined = of_file(&changed("sentence_piece", |file| {
        file["model"]["vocab"]["e\u{2581}"] = json!(5000);
        file["model"]["vocab"]["x\u{2581}q"] = json!(5001);
    }));
    let (apart, joined) = (counter("sentence_piece"), joined.unwrap().0);
    let recorded: Recorded = serde_json::from_slice(&golden("counts")).unwrap();
    for text in &recorded.texts {
        assert_eq!(apart.count(text), joined.count(text), "{text:?}");
    }
    let long = "The quick brown fox ".repeat(2_000);
    assert!(apart.count(&long) < 40_000 && joined.count(&long) > 40_000, "a piece above 16 KiB counts by its bytes");
}

#[test]
fn bombs_cost_time_in_proportion_to_their_length() {
    let emoji = "👨\u{200d}👩\u{200d}👧";
    let zalgo = "a\u{301}\u{302}\u{303}\u{304}";
    for name in FILES {
        let counter = counter(name);
        for unit in ["a", " ", "\n", "7", "漢", "QUJD", "ab ", "-", " x", "\u{2581}", emoji, zalgo, "<|endoftext|>"] {
            let cost = |bytes: usize| {
                let text = unit.repeat(bytes / unit.len());
                let once = |_| {
                    let begun = now();
                    let (found, bound) = (counter.count(&text), counter.bound(&text));
                    assert!(found <= bound, "{name} {unit:?}: {found} above {bound}");
                    now().saturating_sub(begun).as_secs_f64()
                };
                (0..2).map(once).fold(f64::INFINITY, f64::min)
            };
            counter.count(unit);
            let (short, long) = (cost(10_000), cost(200_000));
            // 20 times the length; a quadratic count would take 400 times as long.
            assert!(long < short * 100.0 + 0.02, "{name} {unit:?}: {short} s, {long} s");
        }
    }
}

#[test]
fn very_long_texts_count_by_their_bytes() {
    let counter = counter("byte_level");
    for text in ["a".repeat(5 << 20), " ".repeat(1_000_000), "-".repeat(1_000_000)] {
        assert!(counter.count(&text) <= counter.bound(&text));
        assert!(counter.count(&text) >= text.len() as u64 / 128, "no run becomes nothing");
    }
    assert_eq!(counter.count(&"the ".repeat(5 << 18)), 5 << 20);
    let run = format!("The end. {}", " ".repeat(70_000));
    assert_eq!(counter.count(&run), counter.bound(&run), "a run above 64 KiB");
}

#[test]
fn text_that_a_pattern_drops_by_taking_too_many_steps_is_no_free_text() {
    let dropping = of_file(&changed("byte_level", |file| {
        let split = json!({"type": "Split", "pattern": {"Regex": "(?:a(?!z)|aa|c(?!z))+b|[^ac]"}, "behavior": "Removed", "invert": true});
        file["pre_tokenizer"] = json!({"type": "Sequence", "pretokenizers": [split, file["pre_tokenizer"]]});
    }));
    let text = "aac".repeat(333_334);
    assert!(dropping.unwrap().0.count(&text) >= 1_000_000);
}

#[test]
fn files_that_cannot_count_are_refused() {
    for (json, words) in [
        (b"{".to_vec(), "is no tokenizer.json: EOF"),
        (b"{}".to_vec(), "is no tokenizer.json"),
        (b"[1]".to_vec(), "is no tokenizer.json"),
        (changed("byte_level", |file| file["model"]["type"] = json!("Else")), "is no tokenizer.json"),
        (changed("byte_level", |file| file["model"]["dropout"] = json!(0.1)), "set dropout to null"),
        (changed("byte_level", |file| file["normalizer"] = json!({"type": "Else"})), "is no tokenizer.json"),
        (changed("word_piece", |file| file["model"]["unk_token"] = json!("[GONE]")), "give its model an unk_token"),
        (changed("unigram", |file| file["model"]["unk_id"] = Value::Null), "give its model an unk_token"),
    ] {
        let error = of_file(&json).err().unwrap();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn copies_are_loaded_by_the_hash_of_their_content() {
    let data = tempfile::tempdir().unwrap();
    let json = golden("byte_level");
    let name = base16ct::lower::encode_string(&Sha256::digest(&json));
    fs::create_dir(data.path().join("tokenizers")).unwrap();
    fs::write(data.path().join("tokenizers").join(&name), &json).unwrap();
    fs::write(data.path().join("tokenizers/00ff"), &json).unwrap();
    let vocabularies = Vocabularies::of(data.path());
    let of = |name: &str| vocabularies.counter(&Tokenizer::File { name: name.into(), per_byte: 3 });
    let text = "Hello there, world";
    assert_eq!(of(&name).count(text), counter("byte_level").count(text));
    assert_eq!(of(&name).bound(text), 3 * text.len() as u64);
    assert_eq!(vocabularies.take_faults(), None);
    for (name, words) in [("00ff", "another content"), ("00aa", "cannot be read")] {
        let counter = of(name);
        assert_eq!((counter.count(text), counter.count("a")), (3 * text.len() as u64, 3));
        let (texts, why) = vocabularies.take_faults().unwrap();
        assert!(texts == 2 && why.contains(words) && why.contains(name), "{why}");
    }
}

#[test]
fn copies_are_read_once_while_they_are_in_use() {
    let data = tempfile::tempdir().unwrap();
    let json = golden("unigram");
    let name = base16ct::lower::encode_string(&Sha256::digest(&json));
    let path = data.path().join("tokenizers").join(&name);
    fs::create_dir(data.path().join("tokenizers")).unwrap();
    fs::write(&path, &json).unwrap();
    let vocabularies = Vocabularies::of(data.path());
    let tokenizer = Tokenizer::File { name: name.as_str().into(), per_byte: 2 };
    let (first, text) = (vocabularies.counter(&tokenizer), "Hello there");
    let wanted = first.count(text);
    fs::remove_file(path).unwrap();
    assert_eq!(vocabularies.counter(&tokenizer).count(text), wanted, "held by the first");
    drop(first);
    assert_eq!(vocabularies.counter(&tokenizer).count(text), 2 * text.len() as u64, "nobody held it");
}

#[test]
fn text_that_a_normalizer_lengthens_beyond_the_bound_is_not_counted() {
    let nfkd = of_file(&changed("byte_level", |file| file["normalizer"] = json!({"type": "NFKD"}))).unwrap().0;
    let sign = "\u{fdfa}";
    assert!(nfkd.count(&sign.repeat(1_000)) < nfkd.bound(&sign.repeat(1_000)), "short texts are counted");
    let long = "\u{fdfa}\u{fdfb}".repeat(170_000);
    assert_eq!(nfkd.count(&long), nfkd.bound(&long));
    let plain = "a plain text, ".repeat(70_000);
    assert!(nfkd.count(&plain) < plain.len() as u64, "a long text that stays as long is counted");
}

#[test]
fn normalizer_that_makes_hundreds_of_tokens_of_a_byte_is_refused() {
    let replaced = |times: usize| {
        let content = "b".repeat(times);
        let normalizer = json!({"type": "Replace", "pattern": {"String": "a"}, "content": content});
        of_file(&changed("byte_level", |file| file["normalizer"] = normalizer.clone())).err()
    };
    assert_eq!(replaced(100), None);
    assert!(replaced(100_000).unwrap().contains("at most 256 can be counted"));
}
