//! Edits of a JSON object's text that leave the rest byte for byte.
//!
//! In: a valid object, positions of values of its own members. Out: the text with values replaced, members inserted behind the
//! opening brace, renamed or removed with their comma. Invariant: the result is JSON again, as long as one member stays.

use std::ops::Range;

/// Edits that do not overlap.
pub(super) struct Edits<'a> {
    body: &'a [u8],
    made: Vec<(Range<usize>, String)>,
    /// Members to remove: from the first quote of the name to the end of the value.
    removed: Vec<Range<usize>>,
}

impl<'a> Edits<'a> {
    pub(super) fn new(body: &'a [u8]) -> Self {
        Self { body, made: Vec::new(), removed: Vec::new() }
    }

    /// Replaces a value.
    pub(super) fn replace(&mut self, at: Range<usize>, text: String) {
        self.made.push((at, text));
    }

    /// Inserts text; members end in a comma.
    pub(super) fn insert(&mut self, at: usize, text: String) {
        self.made.push((at..at, text));
    }

    /// Replaces the member that has its value here, name included.
    pub(super) fn replace_member(&mut self, value: Range<usize>, text: &str) {
        let member = self.member(value);
        self.made.push((member, text.to_owned()));
    }

    /// Removes the member that has its value here.
    pub(super) fn remove_member(&mut self, value: Range<usize>) {
        let member = self.member(value);
        self.removed.push(member);
    }

    /// Whether this is the text here.
    pub(super) fn is(&self, at: Range<usize>, text: &str) -> bool {
        self.body.get(at) == Some(text.as_bytes())
    }

    /// The new text; `None` without an edit.
    pub(super) fn apply(mut self) -> Option<Vec<u8>> {
        self.resolve_removed();
        if self.made.is_empty() {
            return None;
        }
        self.made.sort_by_key(|(at, _)| (at.start, at.end));
        let more: usize = self.made.iter().map(|(_, text)| text.len()).sum();
        let mut out = Vec::with_capacity(self.body.len() + more);
        let mut from = 0;
        for (at, text) in &self.made {
            out.extend_from_slice(self.body.get(from..at.start)?);
            out.extend_from_slice(text.as_bytes());
            from = at.end;
        }
        out.extend_from_slice(self.body.get(from..)?);
        Some(out)
    }

    /// From the first quote of a member's name to the end of its value. A name that decides has no quote inside.
    fn member(&self, value: Range<usize>) -> Range<usize> {
        let before = &self.body[..value.start];
        let quote = |text: &[u8]| text.iter().rposition(|&byte| byte == b'"').unwrap_or(0);
        let close = quote(before);
        quote(&before[..close])..value.end
    }

    /// Gives each removed member one of its commas: the one behind it, or for the last members of the object the one before.
    fn resolve_removed(&mut self) {
        let mut removed = std::mem::take(&mut self.removed);
        removed.sort_by_key(|member| member.start);
        // Where the members that stay end: behind the last of them only removed ones follow.
        let mut tail: Option<usize> = None;
        for Range { start, end } in removed.into_iter().rev() {
            let behind = end + space(&self.body[end..]);
            let is_last = self.body.get(behind) != Some(&b',') || tail == Some(behind);
            if is_last {
                let before = self.body[..start].iter().rposition(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
                let from = if self.body[before] == b',' { before } else { start };
                tail = Some(from);
                self.made.push((from..end, String::new()));
            } else {
                self.made.push((start..behind + 1, String::new()));
            }
        }
    }
}

/// The number of JSON's spaces that a text begins with.
fn space(text: &[u8]) -> usize {
    text.iter().take_while(|byte| byte.is_ascii_whitespace()).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    proptest! {
        #[test]
        fn removed_and_renamed_members_leave_json(
            kept in prop::collection::vec(any::<bool>(), 1..6), renamed in prop::option::of(0_usize..6), insert in any::<bool>(),
            gap in prop::sample::select(vec!["", " ", "\n\t"]),
        ) {
            // Member 0 stays: an object without members takes no insertion.
            let kept: Vec<bool> = std::iter::once(true).chain(kept).collect();
            for first in [false, true] {
                let mut order: Vec<usize> = (0..kept.len()).collect();
                if !first {
                    order.rotate_left(1);
                }
                let (mut text, mut values) = (format!("{gap}{{{gap}"), vec![0..0; kept.len()]);
                let open = text.find('{').unwrap() + 1;
                for (at, n) in order.iter().enumerate() {
                    let comma = if at > 0 { "," } else { "" };
                    text += &[comma, gap, &format!("\"m{n}\""), gap, ":", gap].concat();
                    let start = text.len();
                    text += &json!([n, "x\""]).to_string();
                    values[*n] = start..text.len();
                    text.push_str(gap);
                }
                text.push('}');
                let mut edits = Edits::new(text.as_bytes());
                let mut wanted = json!({});
                for (n, kept) in kept.iter().enumerate() {
                    match (kept, renamed == Some(n)) {
                        (_, true) => {
                            edits.replace_member(values[n].clone(), &format!("\"new\":{n}"));
                            wanted["new"] = json!(n);
                        }
                        (true, false) => wanted[format!("m{n}")] = json!([n, "x\""]),
                        (false, false) => edits.remove_member(values[n].clone()),
                    }
                }
                if insert {
                    edits.insert(open, "\"in\":1,".into());
                    wanted["in"] = json!(1);
                }
                let made = edits.apply().unwrap_or_else(|| text.clone().into_bytes());
                let got = serde_json::from_slice::<Value>(&made).map_err(|error| format!("{error}: {text}"));
                prop_assert_eq!(got, Ok(wanted));
            }
        }
    }
}
