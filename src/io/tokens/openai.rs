//! OpenAI's vocabularies, exactly: a text is split into pieces by a pattern, each piece into tokens by merging pairs of bytes.
//!
//! In: a text. Out: the number of its tokens, special tokens read as text. The crate `bpe-openai` has vocabularies and patterns and
//! merges in linear time; [`split`](super::split) finds the pieces of ASCII text, the crate's pattern finds all others.
//! Merging costs a hundred times as much where one sign is repeated for long, as in a line of dashes: of these pieces a body has so
//! many bytes counted exactly, and the bytes of the others count as tokens.

use std::sync::atomic::{AtomicBool, Ordering};

use aigw_core::tokens::TokenCounter;
use bpe_openai::{Tokenizer, cl100k_base, o200k_base};

use super::slow::Slow;
use super::split;

/// Signs in a row from which on merging is slow: tokens of signs have up to 80 bytes, and each of them is tried.
const LONG_RUN: usize = 128;

/// One of OpenAI's vocabularies. The first count of a process decodes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OpenAi {
    /// Of GPT-4o and later.
    O200k,
    /// Of GPT-4 and GPT-3.5.
    Cl100k,
}

impl OpenAi {
    /// Decodes the vocabulary on a thread of its own, unless that was done before: the first request need not wait for it.
    pub(super) fn prepare(self) {
        static BEGUN: [AtomicBool; 2] = [const { AtomicBool::new(false) }; 2];
        if !BEGUN[self as usize].swap(true, Ordering::Relaxed) {
            let decode = move || {
                self.tokenizer();
            };
            // Without a thread the first count decodes it.
            let _ = std::thread::Builder::new().name("vocabulary".into()).spawn(decode);
        }
    }

    fn tokenizer(self) -> &'static Tokenizer {
        match self {
            Self::O200k => o200k_base(),
            Self::Cl100k => cl100k_base(),
        }
    }

    /// The end of the first piece of `text`, which is not empty.
    fn piece(self, tokenizer: &Tokenizer, text: &str) -> usize {
        let ascii = match self {
            Self::O200k => split::o200k(text.as_bytes()),
            Self::Cl100k => split::cl100k(text.as_bytes()),
        };
        let end = ascii.unwrap_or_else(|| tokenizer.split(text).next().map_or(0, str::len));
        // Each pattern matches at least one character; without a match the rest is one piece.
        if end == 0 { text.len() } else { end }
    }
}

impl TokenCounter for OpenAi {
    fn count(&self, text: &str) -> u64 {
        let tokenizer = self.tokenizer();
        let (mut rest, mut tokens) = (text, 0);
        let mut slow = Slow::of_text();
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at(self.piece(tokenizer, rest));
            let bytes = piece.len() as u64;
            let exact = !is_slow(piece) || slow.allows(bytes);
            tokens += if exact { tokenizer.bpe.count(piece.as_bytes()) as u64 } else { bytes };
            rest = behind;
        }
        tokens
    }

    fn timed(&self, count: &dyn Fn() -> u64) -> u64 {
        Slow::in_body(count)
    }
}

/// Whether a piece has a long run of a sign that vocabularies have many long tokens of.
fn is_slow(piece: &str) -> bool {
    if piece.len() <= LONG_RUN {
        return false;
    }
    let (mut last, mut run) = ('\0', 0);
    piece.chars().any(|sign| {
        run = if sign == last { run + 1 } else { 1 };
        last = sign;
        run > LONG_RUN && is_drawn(sign)
    })
}

/// Blanks, dots, underscores and tildes have few long tokens: merging their runs is fast.
fn is_drawn(sign: char) -> bool {
    let fast = sign.is_ascii_alphanumeric() || matches!(sign, ' ' | '\n' | '\r' | '.' | '_' | '~');
    sign.is_ascii() && !fast || ('\u{2500}'..='\u{257f}').contains(&sign)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rustix::time::{ClockId, clock_gettime};
    use std::time::Duration;

    const BOTH: [OpenAi; 2] = [OpenAi::O200k, OpenAi::Cl100k];

    /// Characters that patterns tell apart, ASCII first.
    const LETTERS: &[char] = &[
        'a', 'b', 'S', 'Z', 's', 't', 'r', 'e', 'l', 'v', 'd', 'm', '\'', '\'', ' ', ' ', '\n', '\r', '\t', '\u{b}',
        '\u{c}', '\u{1c}', '/', '.', '_', '0', '7', '9', '\u{0}', '\u{7f}', 'é', 'É', 'ſ', 'K', '\u{301}', '漢',
        '\u{a0}', '\u{3000}', '٣', '👨', '\u{200d}', '\u{85}',
    ];

    /// CPU time of this thread: other programs on the machine do not count.
    fn now() -> Duration {
        Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap()
    }

    /// Pseudo-random numbers, the same in each run.
    struct Drawn(u64);

    impl Drawn {
        fn below(&mut self, most: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 % most as u64).unwrap()
        }
    }

    #[test]
    fn pieces_of_ascii_are_those_of_the_pattern() {
        let mut drawn = Drawn(0x9e37_79b9_7f4a_7c15);
        for round in 0..20_000 {
            let among = if round % 2 == 0 { 30 } else { LETTERS.len() };
            let text: String = (0..drawn.below(24)).map(|_| LETTERS[drawn.below(among)]).collect();
            for kind in BOTH {
                let tokenizer = kind.tokenizer();
                let wanted: Vec<&str> = tokenizer.split(&text).collect();
                let (mut rest, mut found) = (&*text, Vec::new());
                while !rest.is_empty() {
                    let (piece, behind) = rest.split_at(kind.piece(tokenizer, rest));
                    found.push(piece);
                    rest = behind;
                }
                assert_eq!(found, wanted, "{kind:?} {text:?}");
                assert_eq!(kind.count(&text), tokenizer.count(&*text) as u64, "{kind:?} {text:?}");
                assert!(kind.count(&text) <= text.len() as u64, "{kind:?} {text:?}");
            }
        }
    }

    #[test]
    fn long_runs_of_signs_are_exact_up_to_a_bound_of_bytes_for_each_body() {
        for kind in BOTH {
            let exact = |text: &str| kind.tokenizer().count(text) as u64;
            for unit in ["-", "/", "=", "─", "-=", "---\n", " ", "a", "."] {
                let text = unit.repeat(4_000 / unit.len());
                assert_eq!(kind.count(&text), exact(&text), "{unit:?}");
            }
            let long = "-".repeat(20_000);
            assert_eq!(kind.count(&long), 20_000);
            let line = "-".repeat(4_000) + "\n";
            assert!(kind.count(&line.repeat(5)) < 4_000 + 5 * exact(&line));
            let body = || (0..6).map(|_| kind.count(&line)).sum::<u64>();
            assert_eq!(body(), 6 * exact(&line), "texts of no body");
            let counted = kind.timed(&body);
            assert!((8_000..8_000 + 5 * exact(&line)).contains(&counted), "{counted}");
            assert_eq!(kind.timed(&body), counted, "each body has its own bound");
        }
    }

    #[test]
    fn counts_are_those_that_openai_publishes() {
        for (text, o200k, cl100k) in [
            ("", 0, 0),
            ("tiktoken is great!", 6, 6),
            ("<|endoftext|>", 7, 7),
            ("お誕生日おめでとう", 8, 9),
            ("2 + 2 = 4", 7, 7),
        ] {
            assert_eq!((OpenAi::O200k.count(text), OpenAi::Cl100k.count(text)), (o200k, cl100k), "{text}");
        }
    }

    #[test]
    fn bombs_cost_time_in_proportion_to_their_length() {
        let emoji = "👨\u{200d}👩\u{200d}👧";
        let zalgo = "a\u{301}\u{302}\u{303}\u{304}";
        for unit in ["a", " ", "\n", "7", "^", "é", "漢", "\u{a0}", "/", " x", "\n ", "'s", "QUJD", emoji, zalgo] {
            let cost = |bytes: usize| {
                let text = unit.repeat(bytes / unit.len());
                let once = |_| {
                    let begun = now();
                    assert!(OpenAi::O200k.count(&text) <= text.len() as u64);
                    now().saturating_sub(begun).as_secs_f64()
                };
                (0..2).map(once).fold(f64::INFINITY, f64::min)
            };
            OpenAi::O200k.count(unit);
            let (short, long) = (cost(6_000), cost(200_000));
            // 33 times the length; a quadratic count would take 1100 times as long.
            assert!(long < short * 300.0 + 0.01, "{unit:?}: {short} s, {long} s");
        }
    }
}
