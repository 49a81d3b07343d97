//! Where the member `usage` stands in the text of an event: found by its quoted name, without parsing the text.
//!
//! In JSON an unescaped quote ends a text, so the quoted name with a colon behind it is a member. In: the text, places in it.
//! Out: what stands behind a name, whether it is of the outermost object, and what to cut so that it is gone. Linear in the
//! text however many names it holds. It validates nothing: of what is no JSON any answer will do.

use std::ops::Range;

use crate::json_scan::JsonScan;

/// The member that is looked for.
pub(super) const NAME: &[u8] = b"\"usage\"";

/// What stands behind a quoted name.
pub(super) enum Member {
    /// It is no member's name.
    None,
    /// Null, up to here.
    Null(usize),
    /// Another value, from here on.
    Value(usize),
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
            _ => Self::Value(value),
        }
    }
}

/// How deep the places of a text are nested, asked from left to right: however many are asked, it is read once.
pub(super) struct Nesting<'a> {
    data: &'a [u8],
    /// Its last byte that is no blank.
    last: usize,
    read: usize,
    scan: JsonScan,
}

impl<'a> Nesting<'a> {
    pub(super) fn of(data: &'a [u8]) -> Self {
        let last = data.trim_ascii_end().len().saturating_sub(1);
        Self { data, last, read: 0, scan: JsonScan::default() }
    }

    /// The member at `at`, whose value ends or begins at `end`, is one of the object that the text is, and not of one within.
    pub(super) fn is_of_the_chunk(&mut self, at: usize, end: usize) -> bool {
        // As most upstreams write it: the last one.
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

/// The place of a member that begins and ends here, with one of the commas beside it; `None` for an only one.
pub(super) fn without(event: &[u8], at: usize, end: usize) -> Option<Range<usize>> {
    let before = event[..at].iter().rposition(|byte| !matches!(byte, b' ' | b'\t'))?;
    if event[before] == b',' {
        return Some(before..end);
    }
    let comma = skip_blanks(event, end);
    (event.get(comma) == Some(&b',')).then(|| at..skip_blanks(event, comma + 1))
}
