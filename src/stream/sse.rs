//! A stream of server-sent events in OpenAI's dialect, read while it passes.
//!
//! In: the answer's bytes in pieces cut anywhere. Out: the bytes for the client, and the usage that the upstream reported.
//! Without a required change the bytes pass unchanged. If the gateway asked for the usage and the caller did not, the event that
//! only carries the usage is removed, and so is `"usage":null` from the others; an event then leaves when it is whole. An event
//! larger than [`MAX_EVENT`] passes unread, so the held bytes are bounded.
//! Source: WHATWG HTML s.9.2 (event streams); OpenAI's `stream_options.include_usage`.

use std::borrow::Cow;
use std::ops::Range;

use memchr::{memchr2, memchr2_iter, memmem};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::member::{Member, NAME, Nesting, without};
use super::usage::Usage;

/// Bytes; a larger event passes unread.
const MAX_EVENT: usize = 1024 * 1024;

/// The state between two pieces.
#[derive(Debug)]
pub struct Events {
    strip: bool,
    /// The event that is not whole yet.
    held: Vec<u8>,
    /// Bytes of `held` in which no end was found.
    searched: usize,
    /// The event is too large: everything passes until its end.
    skipping: bool,
    usage: Option<Usage>,
    seen: Seen,
}

/// The events so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// No event with data.
    Nothing,
    /// At least one event with data.
    Data,
    /// An error among them.
    Error,
}

/// The members that identify a chunk with only the usage.
#[derive(Deserialize)]
struct Chunk {
    choices: Option<Vec<IgnoredAny>>,
    error: Option<IgnoredAny>,
}

/// The member that makes a chunk an error.
#[derive(Deserialize)]
struct ErrorChunk {
    error: Option<IgnoredAny>,
}

/// The treatment of one event.
enum Verdict {
    Pass,
    Drop,
    /// Pass without `"usage":null`, which is at this range of the event.
    Cut(Range<usize>),
}

impl Events {
    /// `strip`: the caller did not ask for the usage.
    pub fn new(strip: bool) -> Self {
        Self { strip, held: Vec::new(), searched: 0, skipping: false, usage: None, seen: Seen::Nothing }
    }

    /// The usage that was reported last.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// No event with data came.
    pub fn is_empty(&self) -> bool {
        self.seen == Seen::Nothing
    }

    /// An event was an error: its data has a member `error` that is not null, or its type is `error`.
    pub fn has_error(&self) -> bool {
        self.seen == Seen::Error
    }

    /// The next piece. `None`: it passes unchanged; otherwise these bytes pass instead (maybe empty).
    pub fn push(&mut self, piece: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut buffer = std::mem::take(&mut self.held);
        let from = std::mem::take(&mut self.searched);
        if buffer.is_empty() {
            let read = self.read(piece, from, &mut out);
            self.held = piece[read..].to_vec();
        } else {
            buffer.extend_from_slice(piece);
            let read = self.read(&buffer, from, &mut out);
            buffer.drain(..read);
            self.held = buffer;
        }
        self.strip.then_some(out)
    }

    /// The stream is over: the bytes held back, maybe empty.
    pub fn finish(&mut self) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        self.searched = 0;
        match self.judge(&held) {
            Verdict::Pass | Verdict::Cut(_) if self.strip => held,
            // The event went out unchanged, or is removed.
            _ => Vec::new(),
        }
    }

    /// Reads the events of `buffer`, whose first `searched` bytes hold no end. Returns the number of bytes that are done
    /// with; the rest is held.
    fn read(&mut self, buffer: &[u8], searched: usize, out: &mut Vec<u8>) -> usize {
        let mut start = 0;
        let mut from = searched;
        while let Some(end) = end_of_event(buffer, from) {
            let event = &buffer[start..end];
            if std::mem::take(&mut self.skipping) {
                self.pass(event, out);
            } else {
                match self.judge(event) {
                    Verdict::Pass => self.pass(event, out),
                    Verdict::Drop => {}
                    Verdict::Cut(range) => {
                        self.pass(&event[..range.start], out);
                        self.pass(&event[range.end..], out);
                    }
                }
            }
            start = end;
            from = end;
        }
        let rest = &buffer[start..];
        if self.skipping || rest.len() > MAX_EVENT {
            self.skipping = true;
            // The last bytes may begin the end of the event.
            let passing = &rest[..rest.len().saturating_sub(3)];
            self.pass(passing, out);
            return start + passing.len();
        }
        self.searched = rest.len().saturating_sub(3);
        start
    }

    fn pass(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.strip {
            out.extend_from_slice(bytes);
        }
    }

    fn judge(&mut self, event: &[u8]) -> Verdict {
        self.note(event);
        if memmem::find(event, NAME).is_none() {
            return Verdict::Pass;
        }
        let (data_at, data) = data_of(event);
        let mut nesting = Nesting::of(&data);
        let mut verdict = Verdict::Pass;
        for at in memmem::find_iter(&data, NAME) {
            match Member::of(&data, at) {
                // In JSON an unescaped quote ends a string, so a quoted name with a colon is a member: no need to parse.
                Member::Null(end) if self.strip && nesting.is_of_the_chunk(at, end) => {
                    if let (Cow::Borrowed(_), Some(Range { start, end })) = (&data, without(&data, at, end)) {
                        verdict = Verdict::Cut(data_at + start..data_at + end);
                    }
                }
                Member::Value(value) if nesting.is_of_the_chunk(at, value) => return self.reported(&data, value),
                Member::None | Member::Null(_) | Member::Value(_) => {}
            }
        }
        verdict
    }

    /// Notes whether an event has data, and whether it is an error.
    fn note(&mut self, event: &[u8]) {
        if self.seen == Seen::Nothing && (event.starts_with(b"data") || !data_of(event).1.is_empty()) {
            self.seen = Seen::Data;
        }
        if self.seen == Seen::Data && memmem::find(event, b"error").is_some() {
            let (_, data) = data_of(event);
            let in_data = serde_json::from_slice(&data).is_ok_and(|chunk: ErrorChunk| chunk.error.is_some());
            if in_data || event_type(event) == b"error" {
                self.seen = Seen::Error;
            }
        }
    }

    /// A chunk with a usage that is not null, and the position of that usage.
    fn reported(&mut self, data: &[u8], value: usize) -> Verdict {
        let usage = serde_json::Deserializer::from_slice(&data[value..]).into_iter::<&RawValue>().next();
        let Some(Ok(usage)) = usage else { return Verdict::Pass };
        if let Some(usage) = Usage::parse(usage.get().as_bytes()) {
            self.usage = Some(usage);
        }
        let only_usage = |chunk: Chunk| chunk.error.is_none() && chunk.choices.is_none_or(|choices| choices.is_empty());
        let drop = self.strip && serde_json::from_slice(data).is_ok_and(only_usage);
        if drop { Verdict::Drop } else { Verdict::Pass }
    }
}

/// The offset after the blank line that ends the first event of `buffer`, searched from `from` on. A CR as last byte may be half
/// of a line end: the next byte decides.
fn end_of_event(buffer: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        at += memchr2(b'\n', b'\r', buffer.get(at..)?)?;
        at += end_of_line(&buffer[at..])?;
        if let Some(end) = buffer.get(at..).and_then(end_of_line) {
            return Some(at + end);
        }
    }
}

/// Length of the line end at the start of `bytes`: LF, CRLF or CR.
fn end_of_line(bytes: &[u8]) -> Option<usize> {
    match bytes {
        [b'\r', b'\n', ..] => Some(2),
        [b'\n', ..] | [b'\r', _, ..] => Some(1),
        _ => None,
    }
}

/// The `data` of an event, nearly always one line, and its position.
fn data_of(event: &[u8]) -> (usize, Cow<'_, [u8]>) {
    let mut found: Option<(usize, Cow<'_, [u8]>)> = None;
    let mut start = 0;
    for end in memchr2_iter(b'\n', b'\r', event).chain([event.len()]) {
        if let Some(data) = event[start..end].strip_prefix(b"data:") {
            found = Some(match found {
                None => (start + b"data:".len(), Cow::Borrowed(data)),
                Some((at, before)) => {
                    let mut lines = before.into_owned();
                    lines.push(b'\n');
                    lines.extend_from_slice(data);
                    (at, Cow::Owned(lines))
                }
            });
        }
        start = end + 1;
    }
    found.unwrap_or_default()
}

/// The type that an event names; empty without one.
fn event_type(event: &[u8]) -> &[u8] {
    let lines = event.split(|byte| matches!(byte, b'\n' | b'\r'));
    lines.filter_map(|line| line.strip_prefix(b"event:")).next_back().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TOLD: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n";
    const PLAIN: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    const USAGE: &str =
        "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn run(strip: bool, pieces: &[&[u8]]) -> (String, Option<Usage>) {
        let mut events = Events::new(strip);
        let mut out = Vec::new();
        for piece in pieces {
            match events.push(piece) {
                None => out.extend_from_slice(piece),
                Some(instead) => out.extend_from_slice(&instead),
            }
        }
        out.extend(events.finish());
        (String::from_utf8_lossy(&out).into_owned(), events.usage())
    }

    #[test]
    fn stream_removes_usage_the_caller_did_not_ask_for() {
        let stream = [TOLD, TOLD, USAGE, DONE].concat();
        let wanted = Usage { input: 3, output: 2, ..Usage::default() };
        assert_eq!(run(true, &[stream.as_bytes()]), ([PLAIN, PLAIN, DONE].concat(), Some(wanted)));
        assert_eq!(run(false, &[stream.as_bytes()]), (stream.clone(), Some(wanted)));
    }

    #[test]
    fn stream_changes_only_events_the_gateway_caused() {
        for (event, wanted) in [
            ("data: {\"usage\":null,\"choices\":[1]}\n\n", "data: {\"choices\":[1]}\n\n"),
            ("data: {\"usage\" : null , \"a\":1}\n\n", "data: {\"a\":1}\n\n"),
            ("data: {\"a\":1, \"usage\": null}\r\n\r\n", "data: {\"a\":1}\r\n\r\n"),
            ("data: {\"usage\":null}\n\n", "data: {\"usage\":null}\n\n"),
            // An upstream that reports with the last piece, unasked.
            (
                "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
                "data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n",
            ),
            // A member `usage` deeper inside the chunk is the upstream's own.
            (
                "data: {\"choices\":[{\"delta\":{\"tool\":{\"usage\":null,\"a\":1}}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"tool\":{\"usage\":null,\"a\":1}}}]}\n\n",
            ),
            ("data: {\"choices\":[],\"x\":{\"usage\":null},\"usage\":{\"prompt_tokens\":7}}\n\n", ""),
            (
                "data: {\"choices\":[1],\"x\":{\"usage\":{}},\"usage\":null}\n\n",
                "data: {\"choices\":[1],\"x\":{\"usage\":{}}}\n\n",
            ),
            ("data: {\"a\":\"}{\\\"\",\"usage\":null,\"b\":1}\n\n", "data: {\"a\":\"}{\\\"\",\"b\":1}\n\n"),
            ("data: {\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
            ("data: {\"choices\":null,\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
            ("data: {\"usage\":null,\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
            (
                "data: {\"error\":{},\"usage\":{\"prompt_tokens\":1}}\n\n",
                "data: {\"error\":{},\"usage\":{\"prompt_tokens\":1}}\n\n",
            ),
            ("data: {\"t\":\"\\\"usage\\\":null\"}\n\n", "data: {\"t\":\"\\\"usage\\\":null\"}\n\n"),
            ("data: {\"type\":\"usage\",\"usage\":null}\n\n", "data: {\"type\":\"usage\"}\n\n"),
            (": comment \"usage\":null\n\n", ": comment \"usage\":null\n\n"),
            ("event: x\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
            ("data: {\ndata: \"choices\":[],\r\ndata:\"usage\":{\"prompt_tokens\":1}\ndata: }\n\n", ""),
            ("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\r\rdata: [DONE]\r\r", "data: [DONE]\r\r"),
            ("data: {\"usage\":\ndata: null}\n\n", "data: {\"usage\":\ndata: null}\n\n"),
            ("data: {\"choices\":[],\"usage\":null}", "data: {\"choices\":[],\"usage\":null}"),
        ] {
            assert_eq!(run(true, &[event.as_bytes()]).0, wanted, "{event}");
        }
    }

    #[test]
    fn stream_notes_errors_and_absence_of_events() {
        for (stream, error, empty) in [
            ("", false, true),
            (": ping\n\n\n", false, true),
            (PLAIN, false, false),
            (DONE, false, false),
            ("data: {\"error\":{\"message\":\"x\"}}", true, false),
            ("data: {\"id\":1,\"choices\":[],\"error\":\"overloaded\"}\n\n", true, false),
            ("data: {\"error\":null,\"choices\":[]}\n\n", false, false),
            ("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\":1\",\"error\":1}}]}\n\n", false, false),
            ("event: error\ndata: overloaded\n\n", true, false),
            ("event: x\ndata: error\n\n", false, false),
        ] {
            let mut events = Events::new(false);
            events.push(stream.as_bytes());
            events.finish();
            assert_eq!((events.has_error(), events.is_empty()), (error, empty), "{stream}");
        }
    }

    #[test]
    fn the_last_event_needs_no_end() {
        for end in ["", "\n", "\r\n"] {
            let stream = [PLAIN, USAGE.trim_end(), end].concat();
            for strip in [true, false] {
                let (text, usage) = run(strip, &[stream.as_bytes()]);
                assert_eq!(
                    (text.as_str(), usage.map(|usage| usage.input)),
                    (if strip { PLAIN } else { &stream }, Some(3))
                );
            }
        }
    }

    /// The thread that reads an event serves nothing else meanwhile: work that grew with the square of its length would take
    /// a minute for each of these.
    #[test]
    fn an_event_that_is_made_to_take_long_does_not() {
        let names = format!("data: {{\"a\":{{{}\"b\":1}}}}\n\n", "\"usage\":1,".repeat(90_000));
        let lines =
            format!("data: {{\"choices\":[1],\ndata: \"usage\":{{}}\n{}data: }}\n\n", "data:\n".repeat(160_000));
        for event in [names, lines] {
            assert!(run(true, &[event.as_bytes()]).0 == event);
        }
    }

    #[test]
    fn an_event_without_end_is_not_hoarded() {
        let mut events = Events::new(true);
        // Its end comes in two pieces, too.
        let piece = vec![b'x'; 100_000];
        let mut passed = 0;
        for _ in 0..640 {
            passed += events.push(&piece).unwrap_or_default().len();
            assert!(events.held.capacity() <= 4 * MAX_EVENT);
        }
        assert!(passed > 60_000_000);
        assert_eq!(events.push(b"\n"), Some(b"x".to_vec()));
        let text = events.push([b"\n", USAGE.as_bytes()].concat().as_slice());
        let usage = events.usage();
        assert_eq!((text, usage.map(|usage| usage.input)), (Some(b"xx\n\n".to_vec()), Some(3)));
    }

    proptest! {
        #[test]
        fn cuts_between_pieces_change_nothing(
            cuts in prop::collection::vec(0_usize..400, 0..8), strip in any::<bool>(), line in 0_usize..3,
        ) {
            let stream = [TOLD, ": ping\n\n", USAGE, PLAIN, DONE].concat().replace('\n', ["\n", "\r\n", "\r"][line]);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut from = 0;
            for cut in cuts.into_iter().chain([stream.len()]) {
                pieces.push(&stream.as_bytes()[from..cut]);
                from = cut;
            }
            let (text, usage) = run(strip, &pieces);
            prop_assert_eq!(usage.map(|usage| usage.input), Some(3));
            prop_assert_eq!(text.contains("usage"), !strip);
            prop_assert_eq!((text, usage), run(strip, &[stream.as_bytes()]));
        }

        #[test]
        fn garbage_passes_unchanged_when_nothing_is_stripped(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut events = Events::new(false);
            prop_assert_eq!(events.push(&bytes), None);
            prop_assert!(events.finish().is_empty());
        }
    }
}
