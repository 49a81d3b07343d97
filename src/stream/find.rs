//! Takes `usage` and `timings` out of a whole answer while it passes, whatever its size.
//!
//! In: the bytes of one JSON object, in pieces cut anywhere. Out: the texts of these top-level members, and whether the object is
//! an error. It keeps these texts and a few words of state, nothing of the rest. It validates nothing: an answer that is not
//! JSON has no usage.

use super::usage::{Timings, Usage};
use crate::json_scan::JsonScan;

/// Bytes; a larger object is ignored.
const MAX: usize = 16 * 1024;
/// The names of the members, by their [`Wanted`].
const NAMES: [(&[u8], Wanted); 3] =
    [(b"usage", Wanted::Usage), (b"timings", Wanted::Timings), (b"error", Wanted::Error)];
/// Bytes of the longest name.
const LONGEST: usize = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Usage,
    Timings,
    Error,
}

/// The state between two pieces.
#[derive(Debug, Default)]
pub struct Finder {
    scan: JsonScan,
    /// Bytes of the top-level key that is being read; `None` outside one, or when it cannot be a wanted one.
    key: Option<Vec<u8>>,
    /// The member whose value is being read.
    wanted: Option<Wanted>,
    /// A top-level value has begun since the last comma: the next string is not a key.
    value: bool,
    held: Vec<u8>,
    usage: Vec<u8>,
    timings: Vec<u8>,
    error: bool,
}

impl Finder {
    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let mut at = 0;
        while at < piece.len() {
            if self.key.is_none() && self.wanted.is_none() {
                // Most of an answer is text.
                at += self.scan.string_run(&piece[at..]);
            }
            let Some(byte) = piece.get(at) else { return };
            self.step(*byte);
            at += 1;
        }
    }

    fn step(&mut self, byte: u8) {
        if let Some(wanted) = self.wanted {
            self.take(wanted, byte);
            return;
        }
        if self.scan.in_string() {
            self.in_string(byte);
            return;
        }
        self.scan.push(byte);
        if self.scan.depth() != 1 {
            if self.scan.in_string() {
                self.key = None;
            }
            return;
        }
        match byte {
            b'"' => self.key = (!self.value).then(Vec::new),
            b',' => self.value = false,
            b':' => {
                self.value = true;
                let key = self.key.take();
                let named = |(name, _): &&(&[u8], Wanted)| key.as_deref() == Some(*name);
                self.wanted = NAMES.iter().find(named).map(|(_, wanted)| *wanted);
                self.held.clear();
            }
            _ => {}
        }
    }

    fn in_string(&mut self, byte: u8) {
        let escape = self.scan.is_escaped() || byte == b'\\';
        self.scan.push(byte);
        match &mut self.key {
            Some(key) if self.scan.in_string() && !escape && key.len() < LONGEST => key.push(byte),
            _ if self.scan.in_string() => self.key = None,
            _ => {}
        }
    }

    /// A byte of a wanted value. Of an error only its presence is kept; usage and timings must be objects.
    fn take(&mut self, wanted: Wanted, byte: u8) {
        if self.held.is_empty() {
            if byte.is_ascii_whitespace() {
                return;
            }
            // Neither null nor false.
            self.error |= wanted == Wanted::Error && !matches!(byte, b'n' | b'f');
            if wanted == Wanted::Error || byte != b'{' {
                self.wanted = None;
                self.step(byte);
                return;
            }
        }
        self.held.push(byte);
        self.scan.push(byte);
        if self.held.len() > MAX {
            self.held.clear();
            self.wanted = None;
        } else if self.scan.depth() == 1 {
            let held = std::mem::take(&mut self.held);
            self.wanted = None;
            if wanted == Wanted::Usage { self.usage = held } else { self.timings = held }
        }
    }

    /// The usage of the answer.
    pub fn usage(&self) -> Option<Usage> {
        let (usage, timings) = (Usage::parse(&self.usage), Timings::parse(&self.timings));
        match (usage, timings) {
            (Some(usage), Some(timings)) => Some(usage.with(timings)),
            (usage, timings) => usage.or(timings.map(Timings::usage)),
        }
    }

    /// The answer has a member `error` that is neither null nor false.
    pub fn has_error(&self) -> bool {
        self.error
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(pieces: &[&[u8]]) -> Option<String> {
        let mut finder = Finder::default();
        for piece in pieces {
            finder.push(piece);
        }
        Some(String::from_utf8_lossy(&finder.usage).into_owned()).filter(|text| !text.is_empty())
    }

    #[test]
    fn only_the_top_level_member_counts() {
        for (json, wanted) in [
            (r#"{"id":"x","usage":{"a":1}}"#, Some(r#"{"a":1}"#)),
            (r#"{"usage" : { "a": {"b":[1,2]}, "c":"}\"" } ,"x":1}"#, Some(r#"{ "a": {"b":[1,2]}, "c":"}\"" }"#)),
            (r#"{"choices":[{"usage":{"a":1}}]}"#, None),
            (r#"{"choices":[{"text":"\"usage\":{\"a\":1}"}],"usage":{"z":0}}"#, Some(r#"{"z":0}"#)),
            (r#"{"x":"usage","y":{"usage":{"a":1}}}"#, None),
            (r#"{"usage":null,"x":{}}"#, None),
            (r#"{"usage":null,"usage":{"a":1}}"#, Some(r#"{"a":1}"#)),
            (r#"{"usage":{"a":1},"usage":{"b":1}}"#, Some(r#"{"b":1}"#)),
            ("\u{feff}\n {\"usage\":{\"a\":1}}", Some("{\"a\":1}")),
            (r#"{"usages":{"a":1},"usag":{"b":1}}"#, None),
            (r#"{"\u0075sage":{"a":1}}"#, None),
            (r#"{"usage":{"a":1"#, None),
            (r#"{"usage":5,"b":[{}]}"#, None),
            ("", None),
            ("not json \"usage\":{", None),
        ] {
            assert_eq!(find(&[json.as_bytes()]).as_deref(), wanted, "{json}");
        }
    }

    #[test]
    fn finder_reads_timings_and_errors() {
        let usage = r#""usage":{"prompt_tokens":5,"completion_tokens":2}"#;
        let timings = r#""timings":{"cache_n":3,"prompt_n":2,"predicted_n":2}"#;
        for (json, found, error) in [
            (format!("{{{usage}}}"), Some([5, 0, 2]), false),
            (format!("{{{timings}}}"), Some([2, 3, 2]), false),
            (format!("{{{usage},{timings}}}"), Some([2, 3, 2]), false),
            (format!("{{{timings},\"error\":null,{usage}}}"), Some([2, 3, 2]), false),
            (format!("{{\"error\" : {{\"usage\":{{}}}},{usage}}}"), Some([5, 0, 2]), true),
            ("{\"error\":\"x\"}".to_owned(), None, true),
            ("{\"a\":{\"error\":1},\"b\":\"error\"}".to_owned(), None, false),
        ] {
            let mut finder = Finder::default();
            finder.push(json.as_bytes());
            let counts = finder.usage().map(|usage| [usage.input, usage.cached_input, usage.output]);
            assert_eq!((counts, finder.has_error()), (found, error), "{json}");
        }
    }

    #[test]
    fn object_that_is_too_large_is_ignored() {
        let json = format!("{{\"usage\":{{\"a\":\"{}\"}},\"timings\":{{\"prompt_n\":1}}}}", "x".repeat(MAX));
        let mut finder = Finder::default();
        json.as_bytes().chunks(1000).for_each(|piece| finder.push(piece));
        assert!(finder.held.capacity() <= 2 * MAX && finder.usage.is_empty());
        assert_eq!(finder.usage().map(|usage| usage.input), Some(1));
    }

    proptest! {
        #[test]
        fn cuts_between_pieces_change_nothing(
            cuts in prop::collection::vec(0_usize..90, 0..6),
            text in "[a-z\"{}\\[\\]:, \\\\]{0,20}",
        ) {
            let json = serde_json::json!({"a": text, "b": {"usage": {"n": 1}}, "usage": {"prompt_tokens": 3, "t": text}}).to_string();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(json.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([json.len()]) {
                pieces.push(&json.as_bytes()[from..cut]);
                from = cut;
            }
            let found = find(&pieces).unwrap_or_default();
            let wanted = serde_json::json!({"prompt_tokens": 3, "t": text});
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&found).ok(), Some(wanted));
        }

        #[test]
        fn garbage_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = find(&[&bytes]);
        }
    }
}
