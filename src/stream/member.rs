//! Finds the member `usage` in the data of an event by its quoted name, without parsing the text.
//!
//! In JSON an unescaped quote ends a string, so the quoted name with a colon after it is a member. In: the text and offsets in it.
//! Out: the sort of value after a name, whether the member belongs to the outermost object, and the range to cut to remove it.
//! Linear in the text, however many names it holds. It validates nothing: for text that is not JSON any result is fine.

use std::ops::Range;

use crate::json_scan::JsonScan;

/// The quoted name of the member.
pub(super) const NAME: &[u8] = b"\"usage\"";

/// The sort of value after a quoted name.
pub(super) enum Member {
    /// The quoted text is not the name of a member.
    None,
    /// Null, up to here.
    Null(usize),
    /// Another value.
    Value,
}

impl Member {
    pub(super) fn of(event: &[u8], at: usize) -> Self {
        let colon = skip_blanks(event, at + NAME.len());
        if event.get(colon) != Some(&b':') {
            return Self::None;
        }
        let value = skip_blanks(event, colon + 1);
        match event.get(value..value + 4) {
            Some(b"null") => Self::Null(value + 4),
            _ => Self::Value,
        }
    }
}

/// The nesting depth at offsets of a text, asked from left to right, so the text is read once for any number of offsets.
pub(super) struct Nesting<'a> {
    data: &'a [u8],
    /// Offset of its last byte that is not a blank.
    last: usize,
    read: usize,
    scan: JsonScan,
}

impl<'a> Nesting<'a> {
    pub(super) fn of(data: &'a [u8]) -> Self {
        let last = data.trim_ascii_end().len().saturating_sub(1);
        Self { data, last, read: 0, scan: JsonScan::default() }
    }

    /// Whether the member at `at`, whose value ends at `end`, belongs to the outermost object.
    pub(super) fn is_of_the_chunk(&mut self, at: usize, end: usize) -> bool {
        // The common case: the last member.
        if skip_blanks(self.data, end) == self.last && self.data[self.last] == b'}' {
            return true;
        }
        self.scan.pass(&self.data[self.read..at]);
        self.read = at;
        self.scan.depth() == 1
    }
}

fn skip_blanks(event: &[u8], mut at: usize) -> usize {
    while matches!(event.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

/// Where the member whose value begins at `value` begins; `None` when its name is spelled in another way.
pub(super) fn key_before(event: &[u8], value: usize) -> Option<usize> {
    let named = event.get(..value)?.trim_ascii_end().strip_suffix(b":")?.trim_ascii_end();
    named.ends_with(NAME).then(|| named.len() - NAME.len())
}

/// The range of a member that begins and ends here, including one neighbouring comma; `None` for the only member.
pub(super) fn without(event: &[u8], at: usize, end: usize) -> Option<Range<usize>> {
    let before = event[..at].iter().rposition(|byte| !byte.is_ascii_whitespace())?;
    if event[before] == b',' {
        return Some(before..end);
    }
    let comma = skip_blanks(event, end);
    (event.get(comma) == Some(&b',')).then(|| at..skip_blanks(event, comma + 1))
}
