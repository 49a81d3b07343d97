//! Takes `usage`, `timings` and `service_tier` out of a whole answer while it passes, whatever its size.
//!
//! In: the bytes of one JSON object, in pieces cut anywhere. Out: the texts of these top-level members, and whether the object is
//! an error. It keeps these texts and a few words of state, nothing of the rest. It validates nothing: an answer that is not
//! JSON has no usage.

use super::usage::{self, Timings};
use crate::json_scan::JsonScan;
use crate::price::{Classes, ServiceTier, service_tier};

/// Bytes; a larger object is ignored.
const MAX: usize = 16 * 1024;
/// Bytes that a usage object seldom exceeds: OpenAI's has about 250 with all details.
const USUAL: usize = 256;
/// The names of the members, by their [`Wanted`].
const NAMES: [(&[u8], Wanted); 4] = [
    (b"usage", Wanted::Usage),
    (b"timings", Wanted::Timings),
    (b"error", Wanted::Error),
    (b"service_tier", Wanted::ServiceTier),
];
/// Bytes of the longest name.
const LONGEST: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Usage,
    Timings,
    Error,
    ServiceTier,
}

/// A key of which so many bytes are read. It is no longer than the longest name.
#[derive(Debug, Clone, Copy, Default)]
struct Key {
    bytes: [u8; LONGEST],
    length: usize,
}

/// The state between two pieces.
#[derive(Debug, Default)]
pub struct Finder {
    scan: JsonScan,
    /// The top-level key that is being read; `None` outside one, or when it cannot be a wanted one.
    key: Option<Key>,
    /// The member whose value is being read.
    wanted: Option<Wanted>,
    /// A top-level value has begun since the last comma: the next string is not a key.
    value: bool,
    /// The part of a wanted object or string that is read.
    held: Vec<u8>,
    usage: Option<Classes>,
    timings: Option<Timings>,
    error: bool,
    service: ServiceTier,
}

impl Key {
    /// With more bytes; `None` when it is too long for a wanted one.
    fn and(mut self, more: &[u8]) -> Option<Self> {
        let end = self.length + more.len();
        self.bytes.get_mut(self.length..end)?.copy_from_slice(more);
        self.length = end;
        Some(self)
    }

    fn wanted(&self) -> Option<Wanted> {
        let key = self.bytes.get(..self.length);
        NAMES.iter().find(|(name, _)| key == Some(*name)).map(|(_, wanted)| *wanted)
    }
}

impl Finder {
    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let mut at = 0;
        while let Some(rest) = piece.get(at..).filter(|rest| !rest.is_empty()) {
            at += match (self.wanted, self.key) {
                (Some(wanted), _) if !self.held.is_empty() => self.take(wanted, rest),
                (None, None) => self.skip(rest),
                (None, Some(key)) if self.scan.in_string() => self.name(key, rest),
                _ => self.step(rest[0]),
            };
        }
    }

    /// Reads bytes that concern no wanted member. Returns their number.
    fn skip(&mut self, rest: &[u8]) -> usize {
        if self.scan.depth() > 1 {
            // No key of an object inside a value is wanted.
            return self.scan.pass_until(1, rest);
        }
        let top = self.scan.depth() == 1;
        let run = if top { self.scan.run_to_separator(rest) } else { self.scan.run(rest) };
        rest.get(run).map_or(run, |byte| run + self.step(*byte))
    }

    /// Reads bytes of a top-level key up to its closing quote or a backslash, else that one byte. Returns their number.
    fn name(&mut self, key: Key, rest: &[u8]) -> usize {
        let run = self.scan.run(rest);
        if run == 0 {
            return self.step(rest[0]);
        }
        self.key = key.and(&rest[..run]);
        run
    }

    /// Reads one byte.
    fn step(&mut self, byte: u8) -> usize {
        if let Some(wanted) = self.wanted {
            self.begin(wanted, byte);
        } else if self.scan.in_string() {
            self.in_string(byte);
        } else {
            self.outside(byte);
        }
        1
    }

    fn outside(&mut self, byte: u8) {
        self.scan.push(byte);
        if self.scan.depth() != 1 {
            self.key = self.key.filter(|_| !self.scan.in_string());
            return;
        }
        match byte {
            b'"' => self.key = (!self.value).then(Key::default),
            b',' => self.value = false,
            b':' => {
                self.value = true;
                self.wanted = self.key.take().and_then(|key| key.wanted());
                self.held.clear();
            }
            _ => {}
        }
    }

    fn in_string(&mut self, byte: u8) {
        let escape = self.scan.is_escaped() || byte == b'\\';
        self.scan.push(byte);
        if self.scan.in_string() {
            self.key = self.key.filter(|_| !escape).and_then(|key| key.and(&[byte]));
        }
    }

    /// A byte before a wanted value, or its first one. Of an error only its presence is kept; usage and timings must be objects, and a
    /// service tier a string.
    fn begin(&mut self, wanted: Wanted, byte: u8) {
        if byte.is_ascii_whitespace() {
            return;
        }
        // Neither null nor false.
        self.error |= wanted == Wanted::Error && !matches!(byte, b'n' | b'f');
        let first = if wanted == Wanted::ServiceTier { b'"' } else { b'{' };
        if wanted == Wanted::Error || byte != first {
            self.wanted = None;
            self.step(byte);
            return;
        }
        self.held.reserve(USUAL);
        self.held.push(byte);
        self.scan.push(byte);
    }

    /// Reads bytes of a wanted object or string, up to its end. Returns their number.
    fn take(&mut self, wanted: Wanted, rest: &[u8]) -> usize {
        if wanted == Wanted::ServiceTier {
            return self.take_word(rest[0]);
        }
        let read = self.scan.pass_until(1, rest);
        if self.held.len() + read > MAX {
            self.held.clear();
            self.wanted = None;
            return read;
        }
        self.held.extend_from_slice(&rest[..read]);
        if self.scan.depth() == 1 {
            self.wanted = None;
            match wanted {
                Wanted::Usage => self.usage = usage::read(&self.held),
                Wanted::Timings => self.timings = Timings::parse(&self.held),
                Wanted::Error | Wanted::ServiceTier => {}
            }
            self.held.clear();
        }
        read
    }

    /// Reads a byte of a service tier, up to its closing quote.
    fn take_word(&mut self, byte: u8) -> usize {
        self.scan.push(byte);
        if self.held.len() < service_tier::LONGEST {
            self.held.push(byte);
        }
        if !self.scan.in_string() {
            let word = std::str::from_utf8(&self.held).unwrap_or_default();
            self.service = ServiceTier::of_json(word);
            self.held.clear();
            self.wanted = None;
        }
        1
    }

    /// The usage of the answer.
    pub fn usage(&self) -> Option<Classes> {
        usage::whole(self.usage, self.timings).map(|usage| usage.served_in(self.service))
    }

    /// The service tier that the answer names.
    pub fn service(&self) -> ServiceTier {
        self.usage().map_or(self.service, |usage| usage.service)
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

    /// The input tokens of the usage that was found.
    fn find(pieces: &[&[u8]]) -> Option<u64> {
        let mut finder = Finder::default();
        for piece in pieces {
            finder.push(piece);
        }
        finder.usage().map(|usage| usage.input)
    }

    #[test]
    fn only_the_top_level_member_counts() {
        for (json, wanted) in [
            (r#"{"id":"x","usage":{"prompt_tokens":1}}"#, Some(1)),
            (r#"{"usage" : { "a": {"b":[1,2]}, "c":"}\"", "prompt_tokens":2 } ,"x":1}"#, Some(2)),
            (r#"{"choices":[{"usage":{"prompt_tokens":1}}]}"#, None),
            (r#"{"choices":[{"text":"\"usage\":{\"prompt_tokens\":1}"}],"usage":{"prompt_tokens":3}}"#, Some(3)),
            (r#"{"x":"usage","y":{"usage":{"prompt_tokens":1}}}"#, None),
            (r#"{"usage":null,"x":{}}"#, None),
            (r#"{"usage":null,"usage":{"prompt_tokens":4}}"#, Some(4)),
            (r#"{"usage":{"prompt_tokens":1},"usage":{"prompt_tokens":5}}"#, Some(5)),
            (r#"{"usage":{"prompt_tokens":1},"usage":{}}"#, None),
            ("\u{feff}\n {\"usage\":{\"prompt_tokens\":6}}", Some(6)),
            (r#"{"usages":{"prompt_tokens":1},"usag":{"prompt_tokens":1},"timings_":{"prompt_n":1}}"#, None),
            (r#"{"\u0075sage":{"prompt_tokens":1}}"#, None),
            (r#"{"usage":{"prompt_tokens":1"#, None),
            (r#"{"usage":5,"b":[{}]}"#, None),
            (r#"{"us"{"age"}:{"prompt_tokens":1}}"#, None),
            ("", None),
            ("not json \"usage\":{", None),
        ] {
            assert_eq!(find(&[json.as_bytes()]), wanted, "{json}");
            let bytes: Vec<_> = json.as_bytes().chunks(1).collect();
            assert_eq!(find(&bytes), wanted, "{json}");
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
    fn finder_reads_the_service_tier_of_the_answer() {
        let usage = r#""usage":{"prompt_tokens":1,"service_tier":"standard"}"#;
        for (json, wanted) in [
            (r#"{"service_tier":"flex"}"#.to_owned(), ServiceTier::Flex),
            (format!("{{{usage},\"service_tier\" : \"priority\" , \"x\":\"flex\"}}"), ServiceTier::Priority),
            (format!("{{\"service_tier\":null,{usage}}}"), ServiceTier::Standard),
            (format!("{{\"service_tier\":\"turbo\",{usage}}}"), ServiceTier::Standard),
            (r#"{"service_tier":{"service_tier":"flex"},"a":{"service_tier":"flex"}}"#.to_owned(), ServiceTier::Unsaid),
            (format!("{{\"service_tier\":\"flex{}\",\"b\":1}}", "x".repeat(90)), ServiceTier::Unsaid),
            (r#"{"service_tier":"fl\"ex","b":"}"}"#.to_owned(), ServiceTier::Unsaid),
            (r#"{"service_tier":"fle"#.to_owned(), ServiceTier::Unsaid),
        ] {
            for size in [1, 5, json.len()] {
                let mut finder = Finder::default();
                json.as_bytes().chunks(size).for_each(|piece| finder.push(piece));
                assert_eq!(finder.service(), wanted, "{json}");
                assert_eq!(finder.usage().map(|usage| usage.service), json.contains("usage").then_some(wanted));
            }
        }
    }

    #[test]
    fn object_that_is_too_large_is_ignored() {
        let text = "x".repeat(MAX);
        let json = format!("{{\"usage\":{{\"prompt_tokens\":9,\"a\":\"{text}\"}},\"timings\":{{\"prompt_n\":1}}}}");
        for size in [1, 1000, json.len()] {
            let mut finder = Finder::default();
            json.as_bytes().chunks(size).for_each(|piece| finder.push(piece));
            assert!(finder.held.capacity() <= 2 * MAX && finder.usage.is_none());
            assert_eq!(finder.usage().map(|usage| usage.input), Some(1));
        }
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
            prop_assert_eq!(find(&pieces), Some(3));
        }

        #[test]
        fn garbage_is_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = find(&[&bytes]);
        }
    }
}
