//! Takes `usage` out of a whole answer while it passes, whatever its size.
//!
//! In: the bytes of one JSON object, in pieces cut anywhere. Out: the text of its top-level member `usage`. It keeps that
//! text and a few words of state, nothing of the rest. It validates nothing: an answer that is not JSON has no usage.

use crate::json_scan::JsonScan;

/// Bytes; a larger usage object is ignored.
const MAX: usize = 16 * 1024;
const WANTED: &[u8] = b"usage";

/// The state between two pieces.
#[derive(Debug, Default)]
pub struct UsageFinder {
    scan: JsonScan,
    /// Bytes of the top-level key that is being read; `None` outside one, or when it cannot be the wanted one.
    key: Option<Vec<u8>>,
    /// The last top-level key was `usage`, and its value follows.
    wanted: bool,
    /// A top-level value has begun since the last comma: the next string is not a key.
    value: bool,
    held: Vec<u8>,
    /// The text was taken whole.
    done: bool,
}

impl UsageFinder {
    /// The next piece.
    pub fn push(&mut self, piece: &[u8]) {
        let mut at = 0;
        while at < piece.len() && !self.done {
            if self.key.is_none() && !self.wanted {
                // Most of an answer is text.
                at += self.scan.string_run(&piece[at..]);
            }
            let Some(byte) = piece.get(at) else { return };
            self.step(*byte);
            at += 1;
        }
    }

    fn step(&mut self, byte: u8) {
        if self.wanted {
            self.take(byte);
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
                self.wanted = self.key.take().is_some_and(|key| key == WANTED);
                self.held.clear();
            }
            _ => {}
        }
    }

    fn in_string(&mut self, byte: u8) {
        let escape = self.scan.is_escaped() || byte == b'\\';
        self.scan.push(byte);
        match &mut self.key {
            Some(key) if self.scan.in_string() && !escape && key.len() < WANTED.len() => key.push(byte),
            _ if self.scan.in_string() => self.key = None,
            _ => {}
        }
    }

    /// A byte of the value of `usage`; only an object is used.
    fn take(&mut self, byte: u8) {
        if self.held.is_empty() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => return,
                b'{' => {}
                _ => {
                    self.wanted = false;
                    self.step(byte);
                    return;
                }
            }
        }
        self.held.push(byte);
        self.scan.push(byte);
        let too_large = self.held.len() > MAX;
        if too_large {
            self.held.clear();
        }
        if too_large || self.scan.depth() == 1 {
            self.wanted = false;
            self.done = true;
        }
    }

    /// The text of the usage object, if the answer had one.
    pub fn found(&self) -> Option<&[u8]> {
        self.done.then_some(&*self.held).filter(|held| !held.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn find(pieces: &[&[u8]]) -> Option<String> {
        let mut finder = UsageFinder::default();
        for piece in pieces {
            finder.push(piece);
        }
        finder.found().map(|text| String::from_utf8_lossy(text).into_owned())
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
