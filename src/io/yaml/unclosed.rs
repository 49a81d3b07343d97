//! A bracket or quote that is not closed, found where it was opened.
//!
//! The parser notices it later: at the next key, or at the next quote, which it takes for the end of the text. In: the text, the
//! position of the parser's error, the starts of the open collections. Out: a fault at the opening, where the line after it shows that
//! something is not closed; `None` leaves the parser's own fault.

use std::ops::Range;

use granit_parser::ErrorKind;

/// A fault's message and byte range.
type Found = (String, Range<usize>);

/// `open`: starts of the open lists and mappings, the innermost first.
pub(super) fn found(text: &str, kind: &ErrorKind, at: usize, mut open: impl Iterator<Item = usize>) -> Option<Found> {
    let bytes = text.as_bytes();
    if matches!(kind, ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar) {
        let start = quote(bytes, at)?;
        return Some((
            format!("a quote is not closed: the text goes on to line {}", line(bytes, at)),
            start..start + 1,
        ));
    }
    let start = open.find(|start| matches!(bytes.get(*start), Some(b'[' | b'{')))?;
    // The lines of a collection are indented more than the line that opens it. A line that is not ends it, without its bracket.
    let end = key_outside(bytes, start, at).or_else(|| {
        (line(bytes, start) < line(bytes, at) && indent(bytes, at) <= indent(bytes, start)).then_some(at)
    })?;
    let bracket = char::from(*bytes.get(start)?);
    Some((format!("the bracket '{bracket}' is not closed before line {}", line(bytes, end)), start..start + 1))
}

/// The first line between the opening and the parser's error that is a key of a block outside the collection. The parser reads it as a part of
/// the collection, and stops later: at a list below it.
fn key_outside(bytes: &[u8], start: usize, at: usize) -> Option<usize> {
    let most = indent(bytes, start);
    let mut from = start;
    while let Some(end) = bytes.get(from..at)?.iter().position(|byte| *byte == b'\n') {
        from += end + 1;
        let text = bytes[from..].split(|byte| *byte == b'\n').next()?.trim_ascii_end();
        let spaces = indent(bytes, from);
        if spaces <= most && text.get(spaces).is_some_and(u8::is_ascii_alphabetic) && text.ends_with(b":") {
            return Some(from);
        }
    }
    None
}

/// The opening of the quoted text that ends right before `at`, if it is in an earlier line.
fn quote(bytes: &[u8], at: usize) -> Option<usize> {
    let end = bytes.get(..at)?.iter().rposition(|byte| *byte != b' ')?;
    let mark = *bytes.get(end)?;
    let start = match mark {
        b'"' => (0..end).rev().find(|i| bytes[*i] == mark && !is_escaped(bytes, *i))?,
        b'\'' => single(bytes, end)?,
        _ => return None,
    };
    (line(bytes, start) < line(bytes, end)).then_some(start)
}

fn is_escaped(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// The opening of a text in single quotes that ends at `end`: two quotes side by side stand for one in the text.
fn single(bytes: &[u8], end: usize) -> Option<usize> {
    let mut i = end;
    loop {
        i = (0..i).rev().find(|i| bytes[*i] == b'\'')?;
        match i.checked_sub(1) {
            Some(before) if bytes[before] == b'\'' => i = before,
            _ => return Some(i),
        }
    }
}

/// From 1.
fn line(bytes: &[u8], at: usize) -> usize {
    bytes.iter().take(at).filter(|byte| **byte == b'\n').count() + 1
}

/// Spaces at the start of the line.
fn indent(bytes: &[u8], at: usize) -> usize {
    let start = bytes[..at.min(bytes.len())].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    bytes[start..].iter().take_while(|byte| **byte == b' ').count()
}
