//! The text of one server-sent event: its data, its type, its comments, and the event with other data.
//!
//! In: the bytes of an event, line ends included. Its data is one line in nearly all events, and is borrowed then. A first data
//! line that is a whole JSON text is the data by itself, so a line can be judged before the lines behind it come.
//! Source: WHATWG HTML s.9.2.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

use crate::json_scan::JsonScan;

const DATA: &[u8] = b"data:";

/// Length of the line end at the start of `bytes`: LF, CRLF or CR.
pub(super) fn end_of_line(bytes: &[u8]) -> usize {
    match bytes {
        [b'\r', b'\n', ..] => 2,
        [b'\n' | b'\r', ..] => 1,
        _ => 0,
    }
}

/// The lines, each as the range of its text and the range of its line end.
fn lines(event: &[u8]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = event.get(at..).filter(|rest| !rest.is_empty())?;
        let text = at..at + memchr2(b'\n', b'\r', rest).unwrap_or(rest.len());
        let end = text.end..text.end + end_of_line(&event[text.end..]);
        at = end.end;
        Some((text, end))
    })
}

/// The data of an event.
#[derive(Default)]
pub(super) struct Data<'a> {
    /// Its position, where it is one line.
    pub(super) at: usize,
    /// Its text, a line feed between two lines.
    pub(super) text: Cow<'a, [u8]>,
}

/// Finds the data of an event.
pub(super) fn data_of(event: &[u8]) -> Data<'_> {
    let mut found: Option<Data<'_>> = None;
    for (line, _) in lines(event) {
        let Some(data) = event[line.clone()].strip_prefix(DATA) else { continue };
        match &mut found {
            None => found = Some(Data { at: line.start + DATA.len(), text: Cow::Borrowed(data) }),
            Some(Data { text: Cow::Borrowed(first), .. }) if is_whole(first) => break,
            Some(Data { text, .. }) => {
                let lines = text.to_mut();
                lines.push(b'\n');
                lines.extend_from_slice(data);
            }
        }
    }
    found.unwrap_or_default()
}

/// Whether the data of one line needs no other: a whole JSON object, or the mark of the end.
pub(super) fn is_whole(data: &[u8]) -> bool {
    let data = data.trim_ascii();
    let mut scan = JsonScan::default();
    data == b"[DONE]"
        || data.starts_with(b"{") && data.ends_with(b"}") && {
            scan.pass(data);
            scan.depth() == 0 && !scan.in_string()
        }
}

/// The event's lines with `data` in place of its own.
pub(super) fn with_data(event: &[u8], data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(event.len());
    let mut placed = false;
    for (text, end) in lines(event) {
        if !event[text.clone()].starts_with(DATA) {
            out.extend_from_slice(&event[text.start..end.end]);
        } else if !std::mem::replace(&mut placed, true) {
            for line in data.split(|byte| *byte == b'\n') {
                out.extend_from_slice(DATA);
                out.extend_from_slice(line);
                out.extend_from_slice(&event[end.clone()]);
            }
        }
    }
    out
}

/// The type that an event names last; empty without one.
pub(super) fn type_of(event: &[u8]) -> &[u8] {
    let types = lines(event).filter_map(|(text, _)| event[text].strip_prefix(b"event:"));
    types.last().unwrap_or_default().trim_ascii()
}

/// The comments of an event, with their line ends.
pub(super) fn comments(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    lines(event).map(|(text, end)| &event[text.start..end.end]).filter(|line| line.starts_with(b":"))
}
