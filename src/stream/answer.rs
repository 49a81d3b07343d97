//! The answer to a model's call: its usage and its times, read while it passes.
//!
//! In: the answer's head and pieces. Out: the bytes that the client gets of them. A caller that asked for no usage does not
//! see the usage that the gateway asked for.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::find::Finder;
use super::form::{self, Form};
use super::gauge::More;
use super::head::{is_fleets, remove};
use super::plain::Plain;
use super::sse::{Bound, Events, Wish};
use crate::accept::openai::{Asked, IncludeUsage};
use crate::price::{Classes, Prices, ServiceTier};

/// The comment that goes to a client while an upstream is silent.
const PING: &[u8] = b": ping\n\n";

/// A fault inside an answer whose status is a success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The answer, or an event of it, is an error.
    Error,
    /// The stream ended without an event.
    Empty,
    /// A plain answer without a body, such as that of a 204.
    NoBody,
}

/// One model's answer. Times are since the request's arrival.
#[derive(Debug)]
pub struct ModelAnswer {
    /// The caller asked for a stream.
    streamed: bool,
    /// The treatment of the usage of its stream.
    wish: Wish,
    usage: UsageReader,
    /// The bound of a stream by budgets, until its reader has it.
    bound: Option<Box<Bound>>,
    /// The text of a document, where budgets count it.
    plain: Option<Plain>,
    /// The status is a success.
    success: bool,
    /// A byte of a document that is no blank has come.
    begun: bool,
    /// The first and the last piece of a stream that brought an event.
    first: Option<Duration>,
    last: Option<Duration>,
}

#[derive(Debug)]
enum UsageReader {
    /// No head yet, or a content coding that the gateway cannot read.
    Nothing,
    /// Neither the type nor a byte shows the form.
    Undecided(Label),
    Document(Finder),
    Events(Events),
}

/// The word of an answer's type about events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Label {
    /// It is theirs.
    Events,
    /// It fits them.
    Likely,
    /// It is another one.
    Unlikely,
}

impl Label {
    /// The form of an answer that begins with these bytes.
    fn form(self, bytes: &[u8]) -> Option<Form> {
        if self == Self::Events { form::of_labelled(bytes) } else { form::of_bytes(bytes) }
    }
}

impl ModelAnswer {
    /// The answer to a call with these wishes, of a caller with these prices.
    pub fn new(asked: &Asked, prices: Option<Prices>) -> Self {
        let wish = match asked.include_usage {
            _ if !asked.stream => Wish::Watch,
            IncludeUsage::Yes => Wish::Tell(prices),
            _ => Wish::Strip,
        };
        Self {
            streamed: asked.stream,
            wish,
            usage: UsageReader::Nothing,
            bound: None,
            plain: None,
            success: false,
            begun: false,
            first: None,
            last: None,
        }
    }

    /// The same answer, whose events are bounded.
    #[must_use]
    pub fn bounded(self, bound: Option<Bound>) -> Self {
        Self { bound: bound.map(Box::new), ..self }
    }

    /// The same answer, whose text is kept to be counted.
    #[must_use]
    pub fn kept(self, plain: Option<Plain>) -> Self {
        Self { plain, ..self }
    }

    /// The output tokens that passed; `None` where they are not counted. Of a document only asked for where it reports none.
    pub fn counted(&self) -> Option<u64> {
        match &self.usage {
            UsageReader::Events(events) => events.counted(),
            UsageReader::Document(_) => self.plain.as_ref()?.count(),
            // A stream tells each token as it is made: before its head none was. After it, the coding cannot be read.
            UsageReader::Nothing if self.success => None,
            UsageReader::Nothing | UsageReader::Undecided(_) => self.bound.as_ref().map(|_| 0),
        }
    }

    /// Whether text of a stream has passed since its usage was reported. Only known where it is counted.
    pub fn is_outdated(&self) -> bool {
        matches!(&self.usage, UsageReader::Events(events) if events.is_outdated())
    }

    /// Whether the stream hid a part of the output that it reported; `None` where it proves neither.
    pub fn hides_output(&self) -> Option<bool> {
        match &self.usage {
            UsageReader::Events(events) => events.hides_output(),
            _ => None,
        }
    }

    /// Whether the stream has ended at the boundary of a budget.
    pub fn is_over(&self) -> bool {
        matches!(&self.usage, UsageReader::Events(events) if events.is_over())
    }

    /// The answer is a stream of events, as far as can be known.
    pub fn is_events(&self) -> bool {
        matches!(self.usage, UsageReader::Events(_) | UsageReader::Undecided(Label::Events | Label::Likely))
    }

    /// Removes the headers that belong to the upstream's account, and prepares to read the body, which begins with `first`.
    ///
    /// Events whose type is another get their own: readers in browsers insist on it, and no other reader minds.
    pub fn head(&mut self, status: StatusCode, headers: &mut HeaderMap<HeaderValue>, first: &[u8]) {
        remove(headers, is_fleets);
        self.success = status.is_success();
        if headers.get(CONTENT_ENCODING).is_some_and(|coding| !coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return;
        }
        let media = form::media_type(headers);
        let label = match media {
            _ if form::is_events(media) => Label::Events,
            _ if form::says_nothing(media) => Label::Likely,
            _ => Label::Unlikely,
        };
        self.usage = if label == Label::Events || self.streamed && self.success {
            match label.form(first) {
                Some(form) => self.reader(form),
                None => UsageReader::Undecided(label),
            }
        } else {
            self.reader(Form::Document)
        };
        if self.is_events() && label != Label::Events {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        }
        if self.streamed && !matches!(self.usage, UsageReader::Document(_)) {
            headers.remove(CONTENT_LENGTH);
        }
    }

    fn reader(&mut self, form: Form) -> UsageReader {
        match form {
            Form::Events => UsageReader::Events(Events::new(self.wish.clone(), self.bound.take())),
            Form::Document => UsageReader::Document(Finder::default()),
        }
    }

    /// Reads a piece, `after` the arrival, and returns the bytes that go on.
    pub fn piece(&mut self, piece: Bytes, after: Duration, more: &mut dyn More) -> Bytes {
        if piece.is_empty() {
            return piece;
        }
        let mut blanks = 0;
        if let UsageReader::Undecided(label) = self.usage
            && let Some(form) = label.form(&piece)
        {
            // They may end a byte order mark that another piece began.
            blanks = form::blanks(&piece);
            self.usage = self.reader(form);
        }
        match &mut self.usage {
            // Blanks, which belong to either form.
            UsageReader::Nothing | UsageReader::Undecided(_) => piece,
            UsageReader::Document(finder) => {
                self.begun = self.begun || form::blanks(&piece) < piece.len();
                finder.push(&piece);
                if let Some(plain) = &mut self.plain {
                    plain.push(&piece);
                }
                piece
            }
            UsageReader::Events(events) => {
                let (before, rest) = piece.split_at(blanks);
                let passed = events.push(rest, more);
                if !events.is_empty() {
                    self.first.get_or_insert(after);
                    self.last = Some(after);
                }
                match passed {
                    None => piece,
                    Some(passed) if before.is_empty() => passed.into(),
                    Some(passed) => [before, &passed].concat().into(),
                }
            }
        }
    }

    /// The held bytes, once the answer is whole.
    pub fn rest(&mut self, more: &mut dyn More) -> Bytes {
        match &mut self.usage {
            UsageReader::Events(events) => events.finish(more).into(),
            UsageReader::Nothing | UsageReader::Undecided(_) | UsageReader::Document(_) => Bytes::new(),
        }
    }

    /// Whether the answer, whose connection ended in order, ended inside an event all the same.
    pub fn is_torn(&self) -> bool {
        matches!(&self.usage, UsageReader::Events(events) if self.success && events.is_torn())
    }

    /// A comment that keeps a silent stream alive; `None` where it would break an event or a document.
    pub fn ping(&self) -> Option<Bytes> {
        match &self.usage {
            UsageReader::Events(events) if events.is_between() => Some(Bytes::from_static(PING)),
            UsageReader::Undecided(Label::Events) => Some(Bytes::from_static(PING)),
            _ => None,
        }
    }

    /// The usage that the upstream reported.
    pub fn usage(&self) -> Option<Classes> {
        match &self.usage {
            UsageReader::Nothing | UsageReader::Undecided(_) => None,
            UsageReader::Document(finder) => {
                let reads = self.plain.as_ref().is_some_and(|plain| !plain.generates());
                finder.usage().map(|usage| if reads { usage.of_reading() } else { usage })
            }
            UsageReader::Events(events) => events.usage(),
        }
    }

    /// The service tier that the answer names.
    pub fn service(&self) -> ServiceTier {
        match &self.usage {
            UsageReader::Nothing | UsageReader::Undecided(_) => ServiceTier::Unsaid,
            UsageReader::Document(finder) => finder.service(),
            UsageReader::Events(events) => events.service(),
        }
    }

    /// The whole answer is one document, and a success.
    pub fn is_plain(&self) -> bool {
        self.success && matches!(self.usage, UsageReader::Document(_))
    }

    /// The fault inside a successful answer. Asked once the answer is whole: before that a stream may be empty and go on.
    pub fn fault(&self) -> Option<Fault> {
        match &self.usage {
            _ if !self.success => None,
            UsageReader::Events(events) if events.has_error() => Some(Fault::Error),
            UsageReader::Events(events) if events.is_empty() => Some(Fault::Empty),
            UsageReader::Undecided(_) => Some(Fault::Empty),
            UsageReader::Document(finder) if finder.has_error() => Some(Fault::Error),
            UsageReader::Document(_) if !self.begun => Some(Fault::NoBody),
            UsageReader::Nothing | UsageReader::Events(_) | UsageReader::Document(_) => None,
        }
    }

    /// Whether the status is a success: then the upstream should report usage.
    pub fn is_success(&self) -> bool {
        self.success
    }

    /// From arrival to the first event of a stream, and from there to its last piece.
    pub fn times(&self) -> (Option<Duration>, Duration) {
        (self.first, self.last.unwrap_or_default().saturating_sub(self.first.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;

    use crate::accept::openai::{Endpoint, read};
    use crate::stream::gauge::{Gauge, Unbounded};
    use crate::tokens::TokenCounter;

    const TEXT: &str = "data: {\"choices\":[1]}\n\n";
    const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":3}}\n\n";

    /// An answer to a caller that asked for a stream, or not, and for no usage; its type; the type that goes on.
    fn answer(stream: bool, status: u16, media: &'static str, first: &str) -> (ModelAnswer, HeaderMap<HeaderValue>) {
        let body = format!("{{\"model\":\"m\",\"messages\":[1],\"stream\":{stream}}}");
        let mut answer = ModelAnswer::new(&read(Endpoint::Chat, body.as_bytes()).unwrap(), None);
        let mut headers = HeaderMap::new();
        if !media.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(media));
        }
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
        answer.head(StatusCode::from_u16(status).unwrap(), &mut headers, first.as_bytes());
        (answer, headers)
    }

    fn pass(answer: &mut ModelAnswer, pieces: &[&str]) -> String {
        let mut out = Vec::new();
        for piece in pieces {
            out.extend_from_slice(&answer.piece(
                Bytes::copy_from_slice(piece.as_bytes()),
                Duration::from_secs(1),
                &mut Unbounded,
            ));
        }
        out.extend_from_slice(&answer.rest(&mut Unbounded));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn answer_is_a_stream_when_one_was_asked_for() {
        for (stream, status, media, first, events) in [
            (true, 200, "text/plain", "data: {}", true),
            (true, 200, "application/json", ": ping", true),
            (true, 200, "", "", true),
            (true, 200, "application/octet-stream", "\n", true),
            (true, 200, "application/json", "", false),
            (true, 200, "text/html", "", false),
            (true, 200, "text/plain", "{", false),
            (true, 400, "text/plain", "data: {}", false),
            (false, 200, "text/plain", "data: {}", false),
            (false, 200, "text/event-stream", "", true),
            (true, 500, "text/event-stream; charset=utf-8", "", true),
        ] {
            let (answer, headers) = answer(stream, status, media, first);
            assert_eq!(answer.is_events(), events, "{media} {first}");
            let sent = headers.get(CONTENT_TYPE).map_or("", |media| media.to_str().unwrap());
            let wanted = if media.starts_with("text/event-stream") || !events { media } else { "text/event-stream" };
            assert_eq!(sent, wanted, "{media} {first}");
        }
    }

    #[test]
    fn first_byte_decides_where_the_type_does_not() {
        for pieces in [&["\n", " ", TEXT, USAGE][..], &["\u{feff}", "da", "ta: {\"choices\":[1]}\n\n", USAGE]] {
            let (mut events, headers) = answer(true, 200, "application/json", "");
            assert!(headers.get(CONTENT_LENGTH).is_none());
            let passed = pass(&mut events, pieces);
            assert!(passed.ends_with(TEXT) && !passed.contains("usage"), "{passed:?}");
            assert_eq!(events.usage().unwrap().input, 3);
        }
        let (mut document, _) = answer(true, 200, "text/plain", "");
        let pieces = ["\n", "{\"usage\":{\"prompt_", "tokens\":4}}"];
        assert_eq!(pass(&mut document, &pieces), pieces.concat());
        assert_eq!((document.usage().unwrap().input, document.times().0), (4, None));
    }

    #[test]
    fn byte_order_mark_in_pieces_hides_no_event() {
        let mark = b"\xEF\xBB\xBF".map(|byte| Bytes::copy_from_slice(&[byte]));
        for (media, cut) in [("text/plain", 3), ("text/plain", 2), ("text/event-stream", 2), ("text/event-stream", 0)] {
            let (mut events, _) = answer(true, 200, media, "");
            let mut passed = Vec::new();
            for piece in &mark[..cut] {
                passed.extend_from_slice(&events.piece(piece.clone(), Duration::ZERO, &mut Unbounded));
            }
            let rest = [&mark[cut..].concat(), USAGE.as_bytes(), TEXT.as_bytes()].concat();
            passed.extend_from_slice(&events.piece(rest.into(), Duration::ZERO, &mut Unbounded));
            assert_eq!(passed, ["\u{feff}", TEXT].concat().into_bytes(), "{media} {cut}");
            assert_eq!(events.usage().unwrap().input, 3);
        }
    }

    #[test]
    fn document_with_the_type_of_events_is_read() {
        for stream in [true, false] {
            let (mut document, _) = answer(stream, 200, "text/event-stream", "");
            assert_eq!(document.ping().as_deref(), Some(PING));
            assert_eq!(
                pass(&mut document, &["\n", "{\"usage\":{\"prompt_tokens\":4}}"]),
                "\n{\"usage\":{\"prompt_tokens\":4}}"
            );
            assert_eq!((document.usage().unwrap().input, document.fault(), document.ping()), (4, None, None));
        }
    }

    #[test]
    fn fault_is_an_error_or_nothing_at_all() {
        for (stream, status, media, pieces, fault) in [
            (true, 200, "text/event-stream", &[TEXT][..], None),
            (true, 200, "text/event-stream", &[": ping\n\n"], Some(Fault::Empty)),
            (true, 200, "text/plain", &["\n"], Some(Fault::Empty)),
            (true, 200, "", &[], Some(Fault::Empty)),
            (true, 200, "text/plain", &[TEXT, "data: {\"error\":{}}\n\n"], Some(Fault::Error)),
            (true, 503, "text/event-stream", &[], None),
            (true, 200, "application/json", &["{\"error\":{\"message\":\"x\"}}"], Some(Fault::Error)),
            (false, 200, "application/json", &["{\"error\":\"x\"}"], Some(Fault::Error)),
            (false, 200, "application/json", &["{\"error\":null}"], None),
            (false, 400, "application/json", &["{\"error\":\"x\"}"], None),
        ] {
            let (mut answer, _) = answer(stream, status, media, "");
            pass(&mut answer, pieces);
            assert_eq!(answer.fault(), fault, "{media} {pieces:?}");
        }
    }

    #[test]
    fn comment_goes_between_events_alone() {
        let (mut events, _) = answer(true, 200, "text/event-stream", "");
        assert_eq!(events.ping().as_deref(), Some(PING));
        pass(&mut events, &["data: {\"choices\":[1]}\n"]);
        assert_eq!(events.ping(), None);
        pass(&mut events, &["\n"]);
        assert_eq!(events.ping().as_deref(), Some(PING));
        for media in ["", "application/json"] {
            assert_eq!(answer(true, 200, media, "").0.ping(), None, "an answer that may be a document");
        }
    }

    /// Grants nothing.
    struct Nothing;

    impl More for Nothing {
        fn more(&mut self, _tokens: u64) -> bool {
            false
        }

        fn counted(&mut self, _output: u64) {}
    }

    /// A token for each byte.
    struct Bytewise;

    impl TokenCounter for Bytewise {
        fn count(&self, text: &str) -> u64 {
            text.len() as u64
        }
    }

    fn bounded(held: u64, wants_usage: bool) -> ModelAnswer {
        let gauge = Gauge::new(Arc::new(Bytewise), held, 1, None);
        let options = if wants_usage { ",\"stream_options\":{\"include_usage\":true}" } else { "" };
        let body = format!("{{\"model\":\"m\",\"messages\":[1],\"stream\":true{options}}}");
        let answer = ModelAnswer::new(&read(Endpoint::Chat, body.as_bytes()).unwrap(), None);
        let mut answer = answer.bounded(Some(Bound { gauge, chat: true, wants_usage }));
        let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"))]);
        headers.insert(CONTENT_LENGTH, HeaderValue::from_static("7"));
        answer.head(StatusCode::OK, &mut headers, b"");
        assert!(headers.get(CONTENT_LENGTH).is_none(), "a stream that may be cut has no length");
        answer
    }

    #[test]
    fn bounded_stream_ends_at_the_boundary_however_it_is_cut_into_pieces() {
        let event = |text: &str| {
            format!("data: {{\"id\":\"c\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n")
        };
        let stream = [event("abc"), ": x\n\n".into(), event("de"), event("f"), ": y\n\n".into(), event("g")].concat();
        let passed = [event("abc"), ": x\n\n".into(), event("de")].concat();
        for size in [1, 5, 40, stream.len()] {
            for wants_usage in [false, true] {
                let mut answer = bounded(5, wants_usage);
                let mut out = Vec::new();
                for piece in stream.as_bytes().chunks(size) {
                    let piece = Bytes::copy_from_slice(piece);
                    out.extend_from_slice(&answer.piece(piece, Duration::ZERO, &mut Nothing));
                }
                out.extend_from_slice(&answer.rest(&mut Nothing));
                let out = String::from_utf8(out).unwrap();
                let words = out.strip_prefix(&passed).unwrap();
                let events: Vec<_> = words.split_terminator("\n\n").collect();
                assert!(events[0].contains("\"finish_reason\":\"length\"") && events[0].contains("budget_exhausted"));
                assert_eq!(events.last(), Some(&"data: [DONE]"), "{size}");
                let usage = words.contains("{\"prompt_tokens\":0,\"completion_tokens\":5,\"total_tokens\":5}");
                assert_eq!((events.len(), usage), if wants_usage { (3, true) } else { (2, false) });
                assert_eq!((answer.is_over(), answer.counted(), answer.fault()), (true, Some(5), None));
            }
        }
    }

    #[test]
    fn bounded_stream_within_its_tokens_passes_unchanged() {
        let mut answer = bounded(70, true);
        let stream = [TEXT, ": x\n\n", "data: {\"choices\":[{\"delta\":{\"content\":\"ab\"}}]}\n\n"].concat();
        let passed = answer.piece(stream.clone().into(), Duration::ZERO, &mut Nothing);
        assert_eq!((passed, answer.is_over(), answer.counted()), (stream.into(), false, Some(2)));
    }
}
