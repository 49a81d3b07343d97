//! Token counts against an independent implementation (`tiktoken-rs`, with its own vocabularies and patterns), on texts of many scripts,
//! and the counts of hostile inputs.
#![allow(clippy::unwrap_used)]

mod drawn;

use std::sync::Arc;
use std::time::Duration;

use aigw_core::accept::count::{Measure, input};
use aigw_core::accept::openai::Endpoint;
use aigw_core::tokens::{BytesCounter, TokenCounter};
use aigw_io::tokens;
use drawn::Drawn;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

/// Sentences, names, code and signs: each line is of another script, language or format.
const SEEDS: &str = include_str!("../golden/scripts.txt");
/// Texts that are compared.
const TEXTS: usize = 10_000;

fn both() -> [(Arc<dyn TokenCounter>, &'static tiktoken_rs::CoreBPE); 2] {
    [
        (tokens::embedded("o200k_base").unwrap(), tiktoken_rs::o200k_base_singleton()),
        (tokens::embedded("cl100k_base").unwrap(), tiktoken_rs::cl100k_base_singleton()),
    ]
}

impl Drawn {
    /// A part of a line that begins and ends at any character.
    fn part(&mut self, line: &[char]) -> String {
        let from = self.index(line.len());
        let most = (line.len() - from).min(60);
        line[from..from + 1 + self.index(most)].iter().collect()
    }
}

#[test]
fn counts_equal_those_of_an_independent_implementation() {
    let lines: Vec<Vec<char>> =
        SEEDS.lines().filter(|line| !line.is_empty()).map(|line| line.chars().collect()).collect();
    assert!(lines.len() > 60, "many scripts");
    let joints = ["", " ", "\n", "  \n\n", "\t", ", ", "'s", "\u{a0}", "\r\n", "1234567", "    "];
    let mut drawn = Drawn(0x2545_f491_4f6c_dd1d);
    let vocabularies = both();
    for round in 0..TEXTS {
        let mut text = String::new();
        for _ in 0..=drawn.index(4) {
            // Every line has its turn, others come behind it.
            let line = if text.is_empty() { round % lines.len() } else { drawn.index(lines.len()) };
            text += &drawn.part(&lines[line]);
            text += joints[drawn.index(joints.len())];
        }
        for (counter, other) in &vocabularies {
            let tokens = counter.count(&text);
            assert_eq!(tokens, other.encode_ordinary(&text).len() as u64, "{text:?}");
            assert!(tokens <= BytesCounter.count(&text), "{text:?}");
        }
        bound_is_above(&text, vocabularies[round % 2].0.as_ref());
    }
}

/// The bound of a request with this text is not below its exact count.
fn bound_is_above(text: &str, counter: &dyn TokenCounter) {
    let body =
        json!({"model": "m", "messages": [{"role": "user", "content": text, "name": "n"}], "tools": [{"x": text}]});
    let of = |count: &dyn Fn(&str) -> u64| {
        let measure = Measure { text: count, per_message: 4, per_request: 3, image: 1, audio: 1, file: 1 };
        input(&measure, Endpoint::Chat, &body.to_string())
    };
    let (exact, bound) = (of(&|text| counter.count(text)), of(&|text| BytesCounter.count(text)));
    assert!(exact <= bound && exact > counter.count(text), "{exact} {bound} {text:?}");
}

/// CPU time of this thread: other programs on the machine do not count.
fn now() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
}

#[test]
fn hostile_texts_are_counted_in_time_linear_in_their_length() {
    let zalgo = "Z\u{351}\u{36b}\u{343}\u{36a}\u{302}\u{36b}";
    let units =
        [" ", "a", "A", "\n", "/", "=-", "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467}", "QUJD", "漢", "ก", "9", zalgo];
    let (counter, _) = &both()[0];
    for unit in units {
        let cost = |bytes: usize| {
            let text = unit.repeat(bytes / unit.len());
            let began = now();
            let tokens = counter.timed(&|| counter.count(&text));
            assert!(tokens <= text.len() as u64 && tokens > 0);
            now().saturating_sub(began)
        };
        let (short, long) = (cost(10_000), cost(1_000_000));
        // 100 times the length: a quadratic count would take 10,000 times as long.
        assert!(long < short * 1_500 + Duration::from_millis(50), "{unit:?}: {short:?}, {long:?}");
    }
}

#[test]
fn hundred_thousand_messages_are_counted() {
    let [(counter, other), _] = both();
    let messages = vec![json!({"role": "user", "content": "hi there"}); 100_000];
    let body = json!({"model": "m", "messages": messages}).to_string();
    let measure =
        Measure { text: &|text| counter.count(text), per_message: 4, per_request: 3, image: 1, audio: 1, file: 1 };
    let each = other.encode_ordinary("user").len() + other.encode_ordinary("hi there").len() + 4;
    assert_eq!(input(&measure, Endpoint::Chat, &body), 100_000 * each as u64 + 3);
}
