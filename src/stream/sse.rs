//! A stream of server-sent events in OpenAI's dialect, read while it passes.
//!
//! In: the answer's bytes in pieces cut anywhere. Out: the bytes for the client, the usage that the upstream reported, and whether
//! a comment of the gateway's own may follow. A caller that asked for its usage gets the bytes unchanged, but the chunk with
//! the usage gets a member. A line is held until its event has a verdict (`chunk`): at a data line that is whole by itself, at
//! the latest at the blank line. Comments and blank lines pass as they come. An event larger than [`MAX_EVENT`] passes unread, so
//! the held bytes are bounded.
//! Source: WHATWG HTML s.9.2 (event streams); OpenAI's `stream_options.include_usage`.

use memchr::memchr2;

pub use super::chunk::{Bound, Wish};
use super::chunk::{Chunks, Seen, Verdict};
use super::event;
use super::gauge::More;
use crate::price::{Classes, ServiceTier};

/// Bytes; a larger event passes unread.
const MAX_EVENT: usize = 1024 * 1024;
/// A stream may begin with it.
const BOM: &[u8] = b"\xEF\xBB\xBF";

/// The state between two pieces.
#[derive(Debug)]
pub struct Events {
    /// Events may pass changed, or not at all: lines wait for a verdict.
    edits: bool,
    chunks: Chunks,
    /// The event under way: its whole lines without a verdict, then the line that is not whole.
    held: Vec<u8>,
    /// Bytes of `held` that are whole lines.
    whole: usize,
    event: Event,
    line: Line,
    /// The last line ended with a CR. A LF at the start of the next piece belongs to it, and passes as the line did.
    cr: Option<Passed>,
    /// No byte but a part of a BOM came.
    start: bool,
}

/// The bytes that pass, and the way to more tokens.
struct Out<'a> {
    bytes: Vec<u8>,
    more: &'a mut dyn More,
}

/// The event under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    /// It has no data yet.
    Open,
    /// It has one line of data, which may be whole.
    Data,
    /// Its data needs more lines.
    Waiting,
    /// It passes to its end.
    Passing,
    /// It stays behind, except its comments.
    Dropped,
}

/// The line under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line {
    /// No byte of it is dealt with.
    Start,
    /// A comment, of which a part has passed.
    Comment,
    /// A field, of which a part has passed or was dropped.
    Field,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passed {
    Yes,
    No,
    /// It is held.
    NotYet,
}

impl Events {
    /// A stream whose usage is treated so. `bound`: the tokens that may pass.
    pub fn new(wish: Wish, bound: Option<Box<Bound>>) -> Self {
        Self {
            edits: wish != Wish::Watch || bound.is_some(),
            chunks: Chunks::new(wish, bound),
            held: Vec::new(),
            whole: 0,
            event: Event::Open,
            line: Line::Start,
            cr: None,
            start: true,
        }
    }

    /// The usage that was reported last.
    pub fn usage(&self) -> Option<Classes> {
        self.chunks.usage()
    }

    /// The service tier that was named last.
    pub fn service(&self) -> ServiceTier {
        self.chunks.service()
    }

    /// No event with data came.
    pub fn is_empty(&self) -> bool {
        self.chunks.seen() == Seen::Nothing
    }

    /// An event was an error: its data has a member `error` that is not null, or its type is `error`.
    pub fn has_error(&self) -> bool {
        self.chunks.seen() == Seen::Error
    }

    /// Whether the bytes so far end inside the JSON text of an event: a stream that is over there has broken off.
    pub fn is_torn(&self) -> bool {
        let data = event::data_of(&self.held);
        data.text.trim_ascii_start().starts_with(b"{") && !event::is_whole(&data.text)
    }

    /// Whether the bytes that passed end between two events.
    pub fn is_between(&self) -> bool {
        match self.event {
            _ if !self.edits => self.event == Event::Open && self.line == Line::Start && self.held.is_empty(),
            Event::Passing => false,
            Event::Dropped => self.line != Line::Comment,
            Event::Open | Event::Data | Event::Waiting => self.line == Line::Start,
        }
    }

    /// The output tokens that passed; `None` where they are not counted.
    pub fn counted(&self) -> Option<u64> {
        self.chunks.counted()
    }

    /// Whether text has passed since the usage was reported.
    pub fn is_outdated(&self) -> bool {
        self.chunks.is_outdated()
    }

    /// Whether the stream hid a part of its output; `None` where it proves neither.
    pub fn hides_output(&self) -> Option<bool> {
        self.chunks.hides_output()
    }

    /// Whether the stream has ended at the boundary of a budget: nothing more passes.
    pub fn is_over(&self) -> bool {
        self.chunks.is_over()
    }

    /// The next piece. `None`: it passes unchanged; otherwise these bytes pass instead (maybe empty).
    pub fn push(&mut self, piece: &[u8], more: &mut dyn More) -> Option<Vec<u8>> {
        let mut out = Out { bytes: Vec::with_capacity(if self.edits { piece.len() } else { 0 }), more };
        let piece = self.line_feed(piece, &mut out);
        let mut buffer = std::mem::take(&mut self.held);
        if buffer.is_empty() {
            let done = self.read(piece, 0, &mut out);
            self.held.extend_from_slice(&piece[done..]);
        } else {
            let searched = buffer.len();
            buffer.extend_from_slice(piece);
            let done = self.read(&buffer, searched, &mut out);
            buffer.drain(..done);
            self.held = buffer;
        }
        self.edits.then_some(out.bytes)
    }

    /// The stream is over: the bytes held back, maybe empty.
    pub fn finish(&mut self, more: &mut dyn More) -> Vec<u8> {
        let held = std::mem::take(&mut self.held);
        let mut out = Out { bytes: Vec::new(), more };
        self.conclude(&held, &mut out);
        out.bytes
    }

    /// Takes the LF that completes a line end in two pieces.
    fn line_feed<'a>(&mut self, piece: &'a [u8], out: &mut Out<'_>) -> &'a [u8] {
        let Some(passed) = self.cr.take_if(|_| !piece.is_empty()) else { return piece };
        let Some(rest) = piece.strip_prefix(b"\n") else { return piece };
        match passed {
            Passed::Yes => self.pass(b"\n", out),
            Passed::No => {}
            Passed::NotYet => {
                self.held.push(b'\n');
                self.whole += 1;
            }
        }
        rest
    }

    /// Reads the lines of `buffer`, whose first `searched` bytes hold no line end that is not known. Returns the number of bytes
    /// that are done with; the rest is held.
    fn read(&mut self, buffer: &[u8], searched: usize, out: &mut Out<'_>) -> usize {
        let mut done = 0;
        if self.start {
            if buffer.len() < BOM.len() && BOM.starts_with(buffer) {
                return 0;
            }
            self.start = false;
            if buffer.starts_with(BOM) {
                self.pass(BOM, out);
                done = BOM.len();
            }
        }
        let mut line = done + std::mem::take(&mut self.whole);
        let mut at = searched.max(line);
        while let Some(found) = memchr2(b'\n', b'\r', &buffer[at..]) {
            at += found;
            at += event::end_of_line(&buffer[at..]);
            let passed = self.end_of_line(&buffer[done..line], &buffer[line..at], &buffer[done..at], out);
            if passed != Passed::NotYet {
                done = at;
            }
            if at == buffer.len() && buffer.ends_with(b"\r") {
                self.cr = Some(passed);
            }
            line = at;
        }
        self.pause(buffer, done, line, out)
    }

    /// A line is whole. `before`: the lines of its event without a verdict; `both`: they and the line.
    fn end_of_line(&mut self, before: &[u8], line: &[u8], both: &[u8], out: &mut Out<'_>) -> Passed {
        let begun = std::mem::replace(&mut self.line, Line::Start);
        let first = if begun == Line::Start { line.first() } else { None };
        match first {
            Some(b'\n' | b'\r') => match std::mem::replace(&mut self.event, Event::Open) {
                Event::Passing => self.pass_as(line, Passed::Yes, out),
                Event::Dropped => Passed::No,
                Event::Open | Event::Data | Event::Waiting => self.conclude(both, out),
            },
            Some(b':') if before.is_empty() => self.pass_as(line, Passed::Yes, out),
            None if begun == Line::Comment => self.pass_as(line, Passed::Yes, out),
            _ => match self.event {
                Event::Passing => self.pass_as(line, Passed::Yes, out),
                Event::Dropped => Passed::No,
                Event::Open | Event::Data | Event::Waiting => {
                    if line.starts_with(b"data") {
                        self.event = if self.event == Event::Open { Event::Data } else { Event::Waiting };
                    }
                    Passed::NotYet
                }
            },
        }
    }

    /// The piece is over, in the line that begins at `line`; the bytes from `done` on have no verdict.
    fn pause(&mut self, buffer: &[u8], mut done: usize, line: usize, out: &mut Out<'_>) -> usize {
        if self.event == Event::Data && done < line {
            self.event = Event::Waiting;
            if event::is_whole(&event::data_of(&buffer[done..line]).text) {
                let passed = self.conclude(&buffer[done..line], out);
                self.event = if passed == Passed::No { Event::Dropped } else { Event::Passing };
                self.cr = self.cr.map(|_| passed);
                done = line;
            }
        }
        let rest = &buffer[line..];
        let comment = self.line == Line::Comment || self.line == Line::Start && rest.starts_with(b":");
        if rest.is_empty() {
        } else if done == line && comment {
            self.pass(rest, out);
            self.line = Line::Comment;
            done = buffer.len();
        } else if self.event == Event::Passing || self.event == Event::Dropped {
            if self.event == Event::Passing {
                self.pass(rest, out);
            }
            self.line = Line::Field;
            done = buffer.len();
        }
        if buffer.len() - done > MAX_EVENT {
            if let Some(words) = self.chunks.unread(buffer.len() - done, out.more) {
                out.bytes.extend_from_slice(&words);
            }
            self.pass(&buffer[done..], out);
            self.event = Event::Passing;
            self.cr = self.cr.map(|_| Passed::Yes);
            self.line = if rest.is_empty() { Line::Start } else { Line::Field };
            done = buffer.len();
        }
        self.whole = line.saturating_sub(done);
        done
    }

    /// Carries out the verdict on an event.
    fn conclude(&mut self, event: &[u8], out: &mut Out<'_>) -> Passed {
        match self.chunks.judge(event, out.more) {
            Verdict::Pass => self.pass(event, out),
            Verdict::Cut(range) => {
                self.pass(&event[..range.start], out);
                self.pass(&event[range.end..], out);
            }
            Verdict::Instead(bytes) => self.pass(&bytes, out),
            Verdict::Drop => {
                event::comments(event).for_each(|comment| self.pass(comment, out));
                return Passed::No;
            }
            Verdict::End(words) => {
                out.bytes.extend_from_slice(&words);
                return Passed::No;
            }
        }
        Passed::Yes
    }

    fn pass_as(&self, bytes: &[u8], passed: Passed, out: &mut Out<'_>) -> Passed {
        self.pass(bytes, out);
        passed
    }

    fn pass(&self, bytes: &[u8], out: &mut Out<'_>) {
        if self.edits && !self.chunks.is_over() {
            out.bytes.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::price::Prices;
    use crate::stream::gauge::Unbounded;
    use proptest::prelude::*;

    const TOLD: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}],\"usage\":null}\n\n";
    const PLAIN: &str = "data: {\"id\":\"1\",\"choices\":[{\"delta\":{\"content\":\"hi\"}}]}\n\n";
    const USAGE: &str =
        "data: {\"id\":\"1\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
    const DONE: &str = "data: [DONE]\n\n";

    fn wish(strip: bool) -> Wish {
        if strip { Wish::Strip } else { Wish::Watch }
    }

    fn run(strip: bool, pieces: &[&[u8]]) -> (String, Option<Classes>) {
        let mut events = Events::new(wish(strip), None);
        let mut out = Vec::new();
        for piece in pieces {
            match events.push(piece, &mut Unbounded) {
                None => out.extend_from_slice(piece),
                Some(instead) => out.extend_from_slice(&instead),
            }
        }
        out.extend(events.finish(&mut Unbounded));
        (String::from_utf8_lossy(&out).into_owned(), events.usage())
    }

    #[test]
    fn stream_removes_usage_the_caller_did_not_ask_for() {
        let stream = [TOLD, TOLD, USAGE, DONE].concat();
        let wanted = Classes { input: 3, output: 2, ..Classes::default() };
        assert_eq!(run(true, &[stream.as_bytes()]), ([PLAIN, PLAIN, DONE].concat(), Some(wanted)));
        assert_eq!(run(false, &[stream.as_bytes()]), (stream.clone(), Some(wanted)));
    }

    #[test]
    fn caller_that_asked_for_usage_reads_its_price_next_to_it() {
        let prices = Prices { input: 1_000_000, output: 2_000_000, ..Prices::default() };
        let tell = |pieces: &[&[u8]]| {
            let mut events = Events::new(Wish::Tell(Some(prices.clone())), None);
            let mut out: Vec<u8> =
                pieces.iter().flat_map(|piece| events.push(piece, &mut Unbounded).unwrap()).collect();
            out.extend(events.finish(&mut Unbounded));
            String::from_utf8(out).unwrap()
        };
        let aigw = "\"aigw\":{\"price_nanodollars\":7,\"tokens\":{\"input\":3,\"cached_input\":0,\"cache_write\":0,\
                    \"output\":2,\"reasoning\":0}}";
        let told = format!("{}{aigw}}}\n\n", USAGE.replace("}}\n\n", "},"));
        let stream = [TOLD, USAGE, DONE].concat();
        let wanted = [TOLD, &told, DONE].concat();
        assert_eq!(tell(&[stream.as_bytes()]), wanted);
        for at in 0..stream.len() {
            assert_eq!(tell(&[&stream.as_bytes()[..at], &stream.as_bytes()[at..]]), wanted, "cut at {at}");
        }
        let chained = USAGE.replace("\"usage\"", "\"aigw\":{\"price_nanodollars\":1},\"usage\"");
        assert_eq!(tell(&[chained.as_bytes()]), chained.replace("\"aigw\":{\"price_nanodollars\":1}", aigw));
        assert_eq!(run(true, &[chained.as_bytes(), DONE.as_bytes()]).0, DONE);
        let lines = "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\n";
        assert_eq!(tell(&[lines.as_bytes()]), lines.replace("}}\n\n", &format!("}},{aigw}}}\n\n")));
        let broken = "data: {\"usage\":{\"prompt_tokens\":-1}}\n\n";
        assert_eq!(tell(&[broken.as_bytes()]), broken);
        for holder in ["\"x_groq\":{", "\"choices\":[{\"index\":0,"] {
            let counts = "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}";
            let end = if holder.ends_with(',') { "]" } else { "" };
            let told = |more: &str| format!("data: {{\"id\":\"1\",{holder}{counts}{end}{more}}}\n\n");
            assert_eq!(tell(&[told("").as_bytes()]), told(&format!(",{aigw}")), "usage that stands deeper");
        }
    }

    #[test]
    fn stream_that_ends_inside_an_event_is_torn() {
        for (stream, torn) in [
            ("", false),
            (PLAIN, false),
            (DONE, false),
            ("data: {\"choices\":[]}", false),
            ("data: {\"choices\":[]}\n", false),
            (": comment", false),
            ("data", false),
            ("data: [DONE", false),
            ("data: {\"choices\":[", true),
            ("event: x\ndata:{\"a\":\"}", true),
            ("data: {\ndata: \"a\":1\n", true),
        ] {
            for strip in [true, false] {
                let mut events = Events::new(wish(strip), None);
                events.push([PLAIN, stream].concat().as_bytes(), &mut Unbounded);
                assert_eq!(events.is_torn(), torn, "{stream:?} {strip}");
            }
        }
    }

    #[test]
    fn stream_changes_only_events_the_gateway_caused() {
        for (event, wanted) in [
            ("data: {\"usage\":null,\"choices\":[1]}\n\n", "data: {\"choices\":[1]}\n\n"),
            ("data: {\"usage\" : null , \"a\":1}\n\n", "data: {\"a\":1}\n\n"),
            ("data: {\"a\":1, \"usage\": null}\r\n\r\n", "data: {\"a\":1}\r\n\r\n"),
            ("data: {\"usage\":null}\n\n", "data: {\"usage\":null}\n\n"),
            // A member `usage` deeper inside the chunk is the upstream's own.
            (
                "data: {\"choices\":[{\"delta\":{\"tool\":{\"usage\":null,\"a\":1}}}]}\n\n",
                "data: {\"choices\":[{\"delta\":{\"tool\":{\"usage\":null,\"a\":1}}}]}\n\n",
            ),
            (
                "data: {\"choices\":[],\"x\":{\"usage\":null},\"usage\":{\"prompt_tokens\":7}}\n\n",
                "data: {\"choices\":[],\"x\":{\"usage\":null}}\n\n",
            ),
            (
                "data: {\"choices\":[1],\"x\":{\"usage\":{}},\"usage\":null}\n\n",
                "data: {\"choices\":[1],\"x\":{\"usage\":{}}}\n\n",
            ),
            ("data: {\"a\":\"}{\\\"\",\"usage\":null,\"b\":1}\n\n", "data: {\"a\":\"}{\\\"\",\"b\":1}\n\n"),
            ("data: {\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
            ("data: {\"choices\":null,\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
            ("data: {\"usage\":null,\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
            ("data: {\"error\":{},\"usage\":{\"prompt_tokens\":1}}\n\n", "data: {\"error\":{}}\n\n"),
            ("data: {\"t\":\"\\\"usage\\\":null\"}\n\n", "data: {\"t\":\"\\\"usage\\\":null\"}\n\n"),
            ("data: {\"type\":\"usage\",\"usage\":null}\n\n", "data: {\"type\":\"usage\"}\n\n"),
            (": comment \"usage\":null\n\n", ": comment \"usage\":null\n\n"),
            ("event: x\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", ""),
            ("data: {\ndata: \"choices\":[],\r\ndata:\"usage\":{\"prompt_tokens\":1}\ndata: }\n\n", ""),
            ("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\r\rdata: [DONE]\r\r", "data: [DONE]\r\r"),
            ("data: {\"usage\":\ndata: null}\n\n", "data: {\"usage\":\ndata: null}\n\n"),
            ("data: {\"choices\":[],\"usage\":null}", "data: {\"choices\":[]}"),
            ("\u{feff}data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n\ndata: x\n\n", "\u{feff}data: x\n\n"),
            ("\u{feff}: x\n", "\u{feff}: x\n"),
        ] {
            assert_eq!(run(true, &[event.as_bytes()]).0, wanted, "{event}");
        }
    }

    #[test]
    fn chunk_with_other_content_loses_its_usage_alone() {
        for (event, wanted) in [
            // Upstreams that report with the last piece, or with other content.
            ("data: {\"choices\":[{}],\"usage\":{\"prompt_tokens\":1}}\n\n", "data: {\"choices\":[{}]}\n\n"),
            (
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"citations\":[\"x\"]}\n\n",
                "data: {\"choices\":[],\"citations\":[\"x\"]}\n\n",
            ),
            (
                "id: 7\ndata: {\"usage\":{\"prompt_tokens\":1},\"x_groq\":{\"usage\":{\"prompt_tokens\":1}},\"choices\":[]}\n\n",
                "id: 7\ndata: {\"x_groq\":{\"usage\":{\"prompt_tokens\":1}},\"choices\":[]}\n\n",
            ),
            (
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1},\"timings\":{\"prompt_n\":1},\"model\":\"m\",\"citations\":[ ],\"x\":\"\"}\n\n",
                "",
            ),
            (
                "data: {\"usage\":null,\"choices\":[{\"usage\":{\"prompt_tokens\":1}}]}\n\n",
                "data: {\"choices\":[{\"usage\":{\"prompt_tokens\":1}}]}\n\n",
            ),
            (
                "data: {\"usage\":null,\"choices\":[1],\"usage\":{\"prompt_tokens\":1},\"a\":1}\n\n",
                "data: {\"choices\":[1],\"a\":1}\n\n",
            ),
            // Data in several lines: the member goes, and the lines that it took.
            (
                "data: {\"choices\":[1],\r\ndata: \"usage\":{\r\ndata: \"prompt_tokens\":1}}\r\nid: 3\r\n\r\n",
                "data: {\"choices\":[1]}\r\nid: 3\r\n\r\n",
            ),
            // A first line that is whole is the data; comments of an event that goes away stay.
            (
                ": a\nevent: x\n: b\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}\n: c\ndata: x\n\n: d\n\n",
                ": a\n: b\n: c\n: d\n\n",
            ),
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
            ("data: {\"object\":\"error\",\"message\":\"x\",\"code\":400}\n\n", true, false),
            ("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\":1\",\"error\":1}}]}\n\n", false, false),
            ("event: error\ndata: overloaded\n\n", true, false),
            ("event: x\ndata: error\n\n", false, false),
        ] {
            let mut events = Events::new(Wish::Watch, None);
            events.push(stream.as_bytes(), &mut Unbounded);
            events.finish(&mut Unbounded);
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
        let members = format!("data: {{{}\"b\":1}}\n\n", "\"usage\":1,".repeat(90_000));
        let lines = |usage: &str| format!("data: {{\"choices\":[1]{usage}\n{}data: }}\n\n", "data:\n".repeat(160_000));
        let dribbled: Vec<_> = members.as_bytes().chunks(100).collect();
        for (pieces, wanted) in [
            (vec![names.as_bytes()], names.clone()),
            (vec![members.as_bytes()], members.clone()),
            (dribbled, members.clone()),
            (vec![lines(",\ndata: \"usage\":{}").as_bytes()], lines("")),
        ] {
            assert!(run(true, &pieces).0 == wanted);
        }
    }

    #[test]
    fn an_event_without_end_is_not_hoarded() {
        let mut events = Events::new(Wish::Strip, None);
        // Its end comes in two pieces, too.
        let piece = vec![b'x'; 100_000];
        let mut passed = 0;
        for _ in 0..640 {
            passed += events.push(&piece, &mut Unbounded).unwrap_or_default().len();
            assert!(events.held.capacity() <= 4 * MAX_EVENT);
        }
        assert!(passed > 60_000_000);
        assert_eq!(events.push(b"\n", &mut Unbounded), Some(b"\n".to_vec()));
        let text = events.push([b"\n", USAGE.as_bytes()].concat().as_slice(), &mut Unbounded);
        let usage = events.usage();
        assert_eq!((text, usage.map(|usage| usage.input)), (Some(b"\n".to_vec()), Some(3)));
    }

    #[test]
    fn nothing_is_held_that_is_not_the_gateways() {
        let mut events = Events::new(Wish::Strip, None);
        for (piece, wanted) in [
            // Heartbeats, whole or in part.
            (": pi", ": pi"),
            ("ng", "ng"),
            ("\n", "\n"),
            (": ping\n: pi", ": ping\n: pi"),
            ("ng\r", "ng\r"),
            ("\n\n\r\n", "\n\n\r\n"),
            // A line that could be the gateway's, until it is whole.
            ("data: {\"choices\":[1]", ""),
            ("}\n", "data: {\"choices\":[1]}\n"),
            (": ping\n", ": ping\n"),
            ("\n", "\n"),
            ("data: [DONE]\r", "data: [DONE]\r"),
            ("\n", "\n"),
            ("\r\n", "\r\n"),
            // The gateway's own, and a comment behind it.
            ("data: {\"choices\":[],\"usage\":{}}\r", ""),
            ("\n: pi", ": pi"),
            ("ng\n", "ng\n"),
            ("\r", ""),
            ("\n", ""),
            // An event that needs more lines.
            ("event: x\ndata: {\n", ""),
            ("data: }\n", ""),
            ("\n", "event: x\ndata: {\ndata: }\n\n"),
        ] {
            let passed = events.push(piece.as_bytes(), &mut Unbounded).unwrap();
            assert_eq!(String::from_utf8_lossy(&passed), wanted, "{piece}");
        }
        assert!(events.finish(&mut Unbounded).is_empty());
    }

    #[test]
    fn comment_of_the_gateway_may_follow_between_events_only() {
        for strip in [true, false] {
            let mut events = Events::new(wish(strip), None);
            assert!(events.is_between());
            for (piece, of_stripped, of_whole) in [
                ("\n", true, true),
                (": ping\n", true, true),
                (": pi", false, false),
                ("ng\n", true, true),
                // Held bytes are behind the comment.
                ("event: x\nda", true, false),
                ("ta: {}\n", false, false),
                ("\r", true, true),
                ("\n", true, true),
                ("data: {\"choices\":[],\"usage\":{}}\n", true, false),
                ("\n", true, true),
            ] {
                events.push(piece.as_bytes(), &mut Unbounded);
                assert_eq!(events.is_between(), if strip { of_stripped } else { of_whole }, "{strip} {piece}");
            }
        }
    }

    /// A stream as WHATWG's rules read it: the data of its events, `\n` between their lines.
    fn dispatched(stream: &str) -> Vec<String> {
        let stream = stream.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
        let mut events = vec![];
        let mut data: Vec<&str> = vec![];
        for line in stream.split('\n') {
            if line.is_empty() && !data.is_empty() {
                events.push(std::mem::take(&mut data).join("\n"));
            } else if let Some(value) = line.strip_prefix("data:") {
                data.push(value.strip_prefix(' ').unwrap_or(value));
            }
        }
        events
    }

    /// What a caller that asked for no usage gets of a chunk; `None`: nothing.
    fn without_usage(chunk: &str) -> Option<serde_json::Value> {
        let mut chunk: serde_json::Value = serde_json::from_str(chunk).unwrap();
        let members = chunk.as_object_mut().unwrap();
        let reported = members.remove("usage").is_some_and(|usage| !usage.is_null());
        let content = members.iter().any(|(name, value)| name != "id" && *value != serde_json::json!([]));
        (content || !reported).then_some(chunk)
    }

    fn cut_up<'a>(stream: &'a str, cuts: &[usize]) -> Vec<&'a [u8]> {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut from = 0;
        let pieces = cuts
            .into_iter()
            .chain([stream.len()])
            .map(|cut| &stream.as_bytes()[std::mem::replace(&mut from, cut)..cut]);
        pieces.collect()
    }

    /// One event in any spelling: its text with `\n` as line end, and its chunk.
    fn event() -> impl Strategy<Value = (String, Option<String>)> {
        let usage = r#""usage":{"prompt_tokens":3,"total_tokens":3}"#;
        let chunk = prop::sample::select(vec![
            r#"{"id":"1","choices":[{"delta":{"content":"\"usage\":{"}}],"usage":null}"#.to_owned(),
            r#"{"usage":null,"id":"1","choices":[{"delta":{"content":"x"}}]}"#.to_owned(),
            r#"{"id":"1","choices":[{"delta":{"content":"x"}}]}"#.to_owned(),
            format!(r#"{{"id":"1","choices":[],{usage}}}"#),
            format!(r#"{{"id":"1","choices":[],{usage},"x_groq":{{"id":"r"}}}}"#),
            format!(r#"{{{usage},"id":"1","choices":[{{"delta":{{}}}}]}}"#),
        ]);
        let lines = (chunk, any::<bool>(), any::<bool>(), prop::option::of(0_usize..8)).prop_map(
            |(chunk, space, typed, lines)| {
                let data = if space { "data: " } else { "data:" };
                let split = match lines {
                    // A line may end behind any comma between members.
                    Some(at) => chunk.replacen(",\"", &format!(",\n{data}\""), at),
                    None => chunk.clone(),
                };
                (format!("{}{data}{split}\n\n", if typed { "event: x\n" } else { "" }), Some(chunk))
            },
        );
        let between = prop::sample::select(vec!["\n", ": ping\n", ": ping\n\n", "retry: 3\n\n"]);
        prop_oneof![4 => lines, 1 => between.prop_map(|text| (text.to_owned(), None))]
    }

    proptest! {
        #[test]
        fn caller_that_asked_for_no_usage_gets_everything_else(
            events in prop::collection::vec(event(), 0..6), ends in 0_usize..3, bom in any::<bool>(),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let text: String = events.iter().map(|(text, _)| text.as_str()).collect();
            let text = text.replace('\n', ["\n", "\r\n", "\r"][ends]);
            let stream = if bom { format!("\u{feff}{text}") } else { text };
            let (passed, usage) = run(true, &cut_up(&stream, &cuts));
            let chunks: Vec<_> = events.iter().filter_map(|(_, chunk)| chunk.as_deref()).collect();
            let wanted: Vec<_> = chunks.iter().filter_map(|chunk| without_usage(chunk)).collect();
            let got: Vec<serde_json::Value> =
                dispatched(&passed).iter().map(|data| serde_json::from_str(data).unwrap()).collect();
            prop_assert_eq!(got, wanted, "{}", passed);
            prop_assert_eq!(passed.matches(": ping").count(), stream.matches(": ping").count());
            let told = chunks.iter().any(|chunk| chunk.contains("prompt_tokens"));
            prop_assert_eq!(usage.map(|usage| usage.input), told.then_some(3));
            prop_assert_eq!(&run(true, &[stream.as_bytes()]).0, &passed, "cuts change nothing");
            prop_assert_eq!(run(false, &cut_up(&stream, &cuts)), (stream, usage));
        }

        #[test]
        fn cuts_between_pieces_change_nothing(
            cuts in prop::collection::vec(0_usize..400, 0..8), strip in any::<bool>(), line in 0_usize..3,
        ) {
            let stream = [TOLD, ": ping\n\n", USAGE, PLAIN, DONE].concat().replace('\n', ["\n", "\r\n", "\r"][line]);
            let (text, usage) = run(strip, &cut_up(&stream, &cuts));
            prop_assert_eq!(usage.map(|usage| usage.input), Some(3));
            prop_assert_eq!(text.contains("usage"), !strip);
            prop_assert_eq!((text, usage), run(strip, &[stream.as_bytes()]));
        }

        #[test]
        fn cuts_change_nothing_of_lines_in_any_order(
            parts in prop::collection::vec(prop::sample::select(vec![
                "data: {\"choices\":[],", "\"usage\":{\"prompt_tokens\":1}}", "data:", "data: x", "\n", "\r", "\r\n", ": c", "event: x", "\u{feff}",
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1}}", "data: {\"usage\":null,\"a\":1}", "data: [DONE]", "}",
            ]), 0..24),
            cuts in prop::collection::vec(any::<usize>(), 0..24),
        ) {
            let stream = parts.concat();
            prop_assert_eq!(run(true, &cut_up(&stream, &cuts)), run(true, &[stream.as_bytes()]));
        }

        #[test]
        fn garbage_passes_unchanged_when_nothing_is_stripped(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut events = Events::new(Wish::Watch, None);
            prop_assert_eq!(events.push(&bytes, &mut Unbounded), None);
            prop_assert!(events.finish(&mut Unbounded).is_empty());
        }
    }
}
