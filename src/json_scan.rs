//! The structure of JSON text: the number of open brackets, and which bytes belong to a string.
//!
//! In: the text's bytes, in pieces cut anywhere. Out: the depth, and whether the next byte is inside a string. Linear, without
//! memory of the text. It validates nothing: text that is not JSON gives an arbitrary answer, and never a panic.
//! Parsers in crates build values or borrow from the whole text; the callers cut or copy bytes of a text that passes by
//! (docs/decisions/008-written-by-hand.md).

use memchr::memchr2;

/// For each byte whether it may change the state outside a string (`BRACKET`), or separates members (`SEPARATOR`).
const SORTS: [u8; 256] = {
    let mut sorts = [0; 256];
    sorts[b'"' as usize] = BRACKET;
    sorts[b'{' as usize] = BRACKET;
    sorts[b'}' as usize] = BRACKET;
    sorts[b'[' as usize] = BRACKET;
    sorts[b']' as usize] = BRACKET;
    sorts[b',' as usize] = SEPARATOR;
    sorts[b':' as usize] = SEPARATOR;
    sorts
};
const BRACKET: u8 = 1;
const SEPARATOR: u8 = 2;

/// The state between two bytes.
#[derive(Debug, Default)]
pub(crate) struct JsonScan {
    /// Open brackets.
    depth: u32,
    /// The next byte is inside a string.
    string: bool,
    /// The next byte follows a backslash in a string.
    escaped: bool,
}

impl JsonScan {
    /// Open brackets.
    pub(crate) fn depth(&self) -> u32 {
        self.depth
    }

    /// Whether the next byte is inside a string; the closing quote counts as inside.
    pub(crate) fn in_string(&self) -> bool {
        self.string
    }

    /// Whether the next byte follows a backslash in a string.
    pub(crate) fn is_escaped(&self) -> bool {
        self.escaped
    }

    /// Reads one byte.
    #[inline]
    pub(crate) fn push(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' => self.escaped = self.string,
            b'"' => self.string = !self.string,
            b'{' | b'[' if !self.string => self.depth = self.depth.saturating_add(1),
            b'}' | b']' if !self.string => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }

    /// Reads a piece. Returns the largest depth in it.
    pub(crate) fn pass(&mut self, piece: &[u8]) -> u32 {
        let (mut at, mut deepest) = (0, self.depth);
        loop {
            at += self.run(&piece[at..]);
            let Some(byte) = piece.get(at) else { return deepest };
            self.push(*byte);
            deepest = deepest.max(self.depth);
            at += 1;
        }
    }

    /// Reads a piece. Returns the number of commas outside of strings.
    pub(crate) fn commas(&mut self, piece: &[u8]) -> u64 {
        let (mut at, mut found) = (0, 0);
        loop {
            at += self.run_to_separator(&piece[at..]);
            let Some(byte) = piece.get(at) else { return found };
            found += u64::from(*byte == b',' && !self.string);
            self.push(*byte);
            at += 1;
        }
    }

    /// Reads a piece up to the bracket behind which so many are open. Returns the number of bytes read.
    pub(crate) fn pass_until(&mut self, depth: u32, piece: &[u8]) -> usize {
        let mut at = 0;
        while self.depth != depth {
            at += self.run(&piece[at..]);
            let Some(byte) = piece.get(at) else { break };
            self.push(*byte);
            at += 1;
        }
        at
    }

    /// The number of bytes at the start of `piece` that do not change the state.
    #[inline]
    pub(crate) fn run(&self, piece: &[u8]) -> usize {
        self.run_of(BRACKET, piece)
    }

    /// The number of bytes at the start of `piece` that do not change the state, and outside a string separate nothing.
    #[inline]
    pub(crate) fn run_to_separator(&self, piece: &[u8]) -> usize {
        self.run_of(BRACKET | SEPARATOR, piece)
    }

    #[inline]
    fn run_of(&self, sorts: u8, piece: &[u8]) -> usize {
        let end = match (self.string, self.escaped) {
            (true, true) => Some(0),
            (true, false) => memchr2(b'"', b'\\', piece),
            (false, _) => piece.iter().position(|byte| SORTS[usize::from(*byte)] & sorts != 0),
        };
        end.unwrap_or(piece.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn scan_finds_depth_and_string() {
        for (text, depth, deepest, string) in [
            (r#"{"a":[1,{"b":"]}"}]"#, 1, 3, false),
            (r#"{"a\"}":"x\\"}"#, 0, 1, false),
            (r#"["open"#, 1, 1, true),
            ("]]}[", 1, 1, false),
            ("", 0, 0, false),
        ] {
            let mut scan = JsonScan::default();
            assert_eq!(
                (scan.pass(text.as_bytes()), scan.depth(), scan.in_string()),
                (deepest, depth, string),
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn cuts_do_not_change_the_answer(text in r#"[{}\[\]",\\a]{0,60}"#, cut in 0_usize..60) {
            let cut = cut.min(text.len());
            let (mut whole, mut cut_up, mut bytewise) = (JsonScan::default(), JsonScan::default(), JsonScan::default());
            let deepest = whole.pass(text.as_bytes());
            prop_assert_eq!(cut_up.pass(&text.as_bytes()[..cut]).max(cut_up.pass(&text.as_bytes()[cut..])), deepest);
            text.bytes().for_each(|byte| bytewise.push(byte));
            for scan in [cut_up, bytewise] {
                prop_assert_eq!((scan.depth, scan.string, scan.escaped), (whole.depth, whole.string, whole.escaped));
            }
        }
    }
}
