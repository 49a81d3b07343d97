//! The output of a whole answer whose upstream reports none, counted from its text.
//!
//! In: the pieces of a document, kept up to a bound. Out: the tokens of the texts of its choices. It parses only when it is asked,
//! at the end of a call without usage: an honest answer costs the kept references alone. A larger document, and one without
//! choices, has no count.

use std::slice;
use std::sync::Arc;

use bytes::Bytes;

use super::delta;
use crate::tokens::TokenCounter;

/// Bytes; a larger document is not kept. To count it would hold up the answers of other calls for longer than 10 ms.
const MOST: usize = 256 * 1024;

/// The text of one answer.
pub struct Plain {
    counter: Arc<dyn TokenCounter>,
    /// The endpoint generates text.
    generates: bool,
    /// Most answers are one piece, and need no list.
    first: Bytes,
    more: Vec<Bytes>,
    bytes: usize,
}

impl Plain {
    /// The answer of an endpoint.
    pub fn new(counter: Arc<dyn TokenCounter>, generates: bool) -> Self {
        Self { counter, generates, first: Bytes::new(), more: Vec::new(), bytes: 0 }
    }

    /// Whether the endpoint generates text.
    pub(super) fn generates(&self) -> bool {
        self.generates
    }

    /// The next piece.
    pub(super) fn push(&mut self, piece: &Bytes) {
        self.bytes = self.bytes.saturating_add(piece.len());
        if self.bytes > MOST {
            (self.first, self.more) = (Bytes::new(), Vec::new());
        } else if self.first.is_empty() {
            self.first = piece.clone();
        } else {
            self.more.push(piece.clone());
        }
    }

    /// The tokens of its texts: at least one for each choice that has any.
    pub(super) fn count(&self) -> Option<u64> {
        if !self.generates {
            return Some(0);
        }
        let whole = match &self.more[..] {
            [] => self.first.clone(),
            more => [slice::from_ref(&self.first), more].concat().concat().into(),
        };
        let choices = delta::of_document(&whole)?;
        Some(choices.iter().map(|texts| delta::tokens(texts, &*self.counter)).sum())
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plain").field("bytes", &self.bytes).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokens::BytesCounter;

    fn count(generates: bool, pieces: &[&str]) -> Option<u64> {
        let mut plain = Plain::new(Arc::new(BytesCounter), generates);
        for piece in pieces {
            plain.push(&Bytes::copy_from_slice(piece.as_bytes()));
        }
        plain.count()
    }

    #[test]
    fn text_of_each_choice_is_counted() {
        for (json, wanted) in [
            (r#"{"choices":[{"message":{"role":"assistant","content":"abc"}}]}"#, Some(3)),
            (r#"{"choices":[{"text":"ab"},{"text":"c"},{"text":""}]}"#, Some(3)),
            (
                r#"{"choices":[{"message":{"content":null,"reasoning_content":"ab","tool_calls":[{"id":"x","function":{"name":"f","arguments":"{}"}}]}}]}"#,
                Some(5),
            ),
            (r#"{"choices":[{"message":null}]}"#, Some(0)),
            (r#"{"choices":[]}"#, None),
            ("{}", None),
            ("", None),
            ("no json", None),
        ] {
            assert_eq!(count(true, &[json]), wanted, "{json}");
            let (first, rest) = json.split_at(json.len() / 2);
            assert_eq!(count(true, &[first, rest]), wanted, "{json}");
            assert_eq!(count(false, &[json]), Some(0));
        }
    }

    #[test]
    fn large_document_has_no_count() {
        let half = "x".repeat(MOST / 2 + 1);
        assert_eq!(count(true, &[r#"{"choices":[{"text":""#, &half, &half, r#""}]}"#]), None);
    }
}
