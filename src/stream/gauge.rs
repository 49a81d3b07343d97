//! The output of a stream against the tokens that its permit holds.
//!
//! In: the data of each event before it passes, and the way to more tokens ([`More`]). Out: whether it fits. A chunk costs the
//! tokens of its texts, at least one for each choice that it adds text to; where an upstream counts on the way
//! (`continuous_usage_stats`), its count replaces the gauge's. More tokens are asked for ahead of use, up to the output cap of the
//! call, and when a chunk does not fit. A stream whose chunk gets none is over: [`Gauge::last_words`] ends it in the form of its own chunks.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::delta::{self, Delta};
use super::frame::Frame;
use crate::price::{Classes, ServiceTier};
use crate::tokens::{CHUNK, TokenCounter};

/// Tokens left at which more are asked for.
const AHEAD: u64 = 64;
/// Choices that a last chunk names at most: more than OpenAI's API serves in one call.
const MOST_CHOICES: usize = 1024;

/// The way to more tokens of a call's budgets.
pub trait More {
    /// Takes so many more output tokens, all or none.
    fn more(&mut self, tokens: u64) -> bool;
    /// `output` tokens are counted so far.
    fn counted(&mut self, output: u64);
    /// The end of a stream that gets no more. `usage`: the last one that the upstream reported; `service`: the service tier that it
    /// named; `output`: tokens that passed.
    fn end(&self, usage: Option<Classes>, service: ServiceTier, output: u64) -> Ending {
        let usage = Classes { output, ..usage.unwrap_or_default() }.served_in(service);
        Ending { limit: "{\"code\":\"budget_exhausted\"}".to_owned(), usage, price: None }
    }
}

/// The end of a stream at the boundary of a budget, as its caller reads it.
pub struct Ending {
    /// The limit that ends it, as a JSON object.
    pub limit: String,
    /// The tokens of the call.
    pub usage: Classes,
    /// Nano-dollars; `None` where the tier has no prices.
    pub price: Option<u64>,
}

/// A stream that no budget bounds.
pub struct Unbounded;

impl More for Unbounded {
    fn more(&mut self, _tokens: u64) -> bool {
        true
    }

    fn counted(&mut self, _output: u64) {}
}

/// The count of one stream.
pub struct Gauge {
    counter: Arc<dyn TokenCounter>,
    /// Tokens that passed.
    counted: u64,
    /// Those of them that the gauge counted itself.
    shown: u64,
    /// Tokens that the permit holds.
    held: u64,
    /// Tokens that one request for more asks for.
    chunk: u64,
    /// Most tokens of all choices by the cap that went upstream. The rest of them is all that is asked for ahead of use.
    most: u64,
    /// A request ahead of use was refused: the next one waits until a chunk does not fit.
    dry: bool,
    over: bool,
    marks: Marks,
    /// Of the last chunk that added one text to one choice, and did not end it.
    frame: Frame,
    /// By number: whether the choice has ended.
    choices: BTreeMap<u64, bool>,
}

/// The members that every chunk of a stream repeats, as JSON.
#[derive(Default)]
struct Marks {
    id: Option<Box<str>>,
    object: Option<Box<str>>,
    created: Option<Box<str>>,
    model: Option<Box<str>>,
}

impl std::fmt::Debug for Gauge {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { counted, held, over, .. } = self;
        f.debug_struct("Gauge")
            .field("counted", counted)
            .field("held", held)
            .field("over", over)
            .finish_non_exhaustive()
    }
}

impl Gauge {
    /// A stream of so many choices whose permit holds `held` output tokens. `cap`: most output tokens of each choice, as sent
    /// upstream; `None`: any number.
    pub fn new(counter: Arc<dyn TokenCounter>, held: u64, choices: u32, cap: Option<u32>) -> Self {
        let choices = u64::from(choices.max(1));
        let chunk = CHUNK.saturating_mul(choices);
        let most = cap.map_or(u64::MAX, |cap| u64::from(cap).saturating_mul(choices));
        let (marks, frame, choices) = (Marks::default(), Frame::default(), BTreeMap::new());
        Self { counter, counted: 0, shown: 0, held, chunk, most, dry: false, over: false, marks, frame, choices }
    }

    /// Output tokens that passed.
    pub fn counted(&self) -> u64 {
        self.counted
    }

    /// Whether a chunk did not fit.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether a part of the output that this usage reports was hidden: more than the permit held within the cap, or the larger part of
    /// its reasoning. `None`: the stream proves neither.
    pub(super) fn hides(&self, usage: &Classes) -> Option<bool> {
        let output = usage.all_output();
        let unseen = output.saturating_sub(self.shown);
        if unseen > 0 && output > self.held && output <= self.most {
            return Some(true);
        }
        (usage.reasoning > 0).then_some(unseen > usage.reasoning / 2)
    }

    /// Whether an event may pass. `told`: the usage that it reports.
    pub(super) fn passes(&mut self, data: &[u8], told: Option<Classes>, more: &mut dyn More) -> bool {
        if self.over {
            return false;
        }
        // Such a chunk has the choice and the marks of one that passed.
        if let Some(text) = self.frame.text(data) {
            let tokens = self.counter.count(text).max(1);
            return self.admits(tokens, told, more);
        }
        let Some(chunk) = Delta::read(data) else { return true };
        let mut tokens = 0_u64;
        let mut ended = Vec::new();
        let mut only = None;
        let mut parts = 0;
        for part in chunk.parts() {
            tokens += delta::tokens(&part.texts, &*self.counter);
            parts += 1;
            only = match &part.texts[..] {
                [Cow::Borrowed(text)] if parts == 1 => Some(*text),
                _ => None,
            };
            if part.finished {
                ended.push(part.index);
            }
            // An end that does not pass is no end.
            self.note(part.index, false);
        }
        let told = told.filter(|_| tokens > 0 || !ended.is_empty());
        if !self.admits(tokens, told, more) {
            return false;
        }
        if let Some(text) = only.filter(|_| ended.is_empty()) {
            self.frame.remember(data, text);
        }
        for index in ended {
            self.note(index, true);
        }
        self.marks.note(&chunk);
        true
    }

    /// Counts an event of so many tokens, if they are there. `told`: the usage that counts in their place.
    fn admits(&mut self, tokens: u64, told: Option<Classes>, more: &mut dyn More) -> bool {
        let told = told.map(|usage| usage.all_output()).filter(|told| *told > 0);
        let wanted = told.unwrap_or_else(|| self.counted.saturating_add(tokens));
        if !self.fits(wanted, more) {
            self.over = true;
            return false;
        }
        self.shown = self.shown.saturating_add(tokens);
        if wanted != self.counted {
            self.counted = wanted;
            more.counted(wanted);
        }
        true
    }

    /// An event of so many bytes passes unread, as far as its tokens are there.
    pub(super) fn unread(&mut self, bytes: u64, more: &mut dyn More) {
        let wanted = self.counted.saturating_add(bytes);
        if self.fits(wanted, more) {
            self.counted = wanted;
            self.shown = self.shown.saturating_add(bytes);
            more.counted(wanted);
        } else {
            self.over = true;
        }
    }

    /// Whether the permit holds so many tokens, after a request for more where it does not.
    fn fits(&mut self, wanted: u64, more: &mut dyn More) -> bool {
        let chunk = self.chunk.min(self.most.saturating_sub(self.held));
        if wanted > self.held {
            let short = wanted - self.held;
            return chunk > short && self.ask(chunk, more) || self.ask(short, more);
        }
        if !self.dry && self.held - wanted < AHEAD {
            let mut tokens = chunk;
            while tokens > 0 && !self.ask(tokens, more) {
                tokens /= 2;
            }
            // Near the end of a budget a stream gets the rest, and is over when a chunk does not fit.
            self.dry = tokens < chunk;
        }
        true
    }

    fn ask(&mut self, tokens: u64, more: &mut dyn More) -> bool {
        let got = more.more(tokens);
        if got {
            self.held = self.held.saturating_add(tokens);
        }
        got
    }

    fn note(&mut self, choice: u64, finished: bool) {
        if self.choices.len() < MOST_CHOICES || self.choices.contains_key(&choice) {
            *self.choices.entry(choice).or_default() |= finished;
        }
    }

    /// The last events of a stream that is over. `aigw`: its member of that name, as JSON. `usage`: the members of the chunk
    /// with the usage that the caller asked for, as JSON.
    pub(super) fn last_words(&self, chat: bool, aigw: &str, usage: Option<&str>) -> Vec<u8> {
        let open: Vec<u64> = self.choices.iter().filter(|(_, ended)| !**ended).map(|(index, _)| *index).collect();
        let body = if chat { "\"delta\":{}" } else { "\"text\":\"\"" };
        let choice =
            |index: &u64| format!("{{\"index\":{index},{body},\"logprobs\":null,\"finish_reason\":\"length\"}}");
        let first = [0];
        let choices = if self.choices.is_empty() { &first[..] } else { &open };
        let choices = choices.iter().map(choice).collect::<Vec<_>>().join(",");
        let marks = self.marks.json(chat);
        let null = if usage.is_some() { ",\"usage\":null" } else { "" };
        let mut words = format!("data: {{{marks},\"choices\":[{choices}]{null},\"aigw\":{aigw}}}\n\n");
        if let Some(usage) = usage {
            // Writing to a String cannot fail.
            let _ = write!(words, "data: {{{marks},\"choices\":[],{usage}}}\n\n");
        }
        words.push_str("data: [DONE]\n\n");
        words.into_bytes()
    }
}

impl Marks {
    fn note(&mut self, chunk: &Delta<'_>) {
        let named = [
            (&mut self.id, chunk.id),
            (&mut self.object, chunk.object),
            (&mut self.created, chunk.created),
            (&mut self.model, chunk.model),
        ];
        for (own, said) in named {
            if own.is_none() {
                // A line feed inside a value would end the event's line.
                *own = said.map(RawValue::get).filter(|said| !said.contains(['\n', '\r'])).map(Into::into);
            }
        }
    }

    fn json(&self, chat: bool) -> String {
        let object = if chat { "\"chat.completion.chunk\"" } else { "\"text_completion\"" };
        let or = |own: &Option<Box<str>>, other: &str| own.as_deref().unwrap_or(other).to_owned();
        format!(
            "\"id\":{},\"object\":{},\"created\":{},\"model\":{}",
            or(&self.id, "\"\""),
            or(&self.object, object),
            or(&self.created, "0"),
            or(&self.model, "\"\"")
        )
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// A token for each word.
    struct Words;

    impl TokenCounter for Words {
        fn count(&self, text: &str) -> u64 {
            text.split_whitespace().count() as u64
        }
    }

    /// A budget with so many tokens left, and the counts that were told.
    #[derive(Default)]
    struct Left {
        tokens: u64,
        taken: u64,
        told: Vec<u64>,
    }

    impl More for Left {
        fn more(&mut self, tokens: u64) -> bool {
            let fits = tokens <= self.tokens;
            if fits {
                self.tokens -= tokens;
                self.taken += tokens;
            }
            fits
        }

        fn counted(&mut self, output: u64) {
            self.told.push(output);
        }
    }

    fn gauge(held: u64, choices: u32) -> Gauge {
        Gauge::new(Arc::new(Words), held, choices, None)
    }

    fn chunk(text: &str) -> String {
        format!(r#"{{"id":"c1","created":7,"model":"m","choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#)
    }

    fn pass(gauge: &mut Gauge, text: &str, left: &mut Left) -> bool {
        gauge.passes(chunk(text).as_bytes(), None, left)
    }

    #[test]
    fn stream_is_extended_ahead_of_use() {
        let (mut gauge, mut left) = (gauge(256, 1), Left { tokens: 10_000, ..Left::default() });
        for passed in 1..=1_000 {
            assert!(pass(&mut gauge, "w", &mut left));
            assert!(left.taken + 256 >= passed, "never behind use");
            assert!(left.taken + 256 <= passed + AHEAD + CHUNK, "never far ahead of it");
        }
        assert_eq!((gauge.counted(), left.told.last()), (1_000, Some(&1_000)));
    }

    #[test]
    fn stream_uses_a_budget_to_its_last_token() {
        for (held, tokens) in [(256, 0), (256, 1), (256, 300), (1, 7), (20, 1_001)] {
            let (mut gauge, mut left) = (gauge(held, 1), Left { tokens, ..Left::default() });
            let passed = (0..10_000).take_while(|_| pass(&mut gauge, "w", &mut left)).count() as u64;
            assert_eq!((passed, left.tokens, gauge.is_over()), (held + tokens, 0, true), "{held} {tokens}");
            assert!(!pass(&mut gauge, "w", &mut Left { tokens: 9, ..Left::default() }), "over stays over");
        }
    }

    #[test]
    fn stream_holds_no_more_than_its_cap_unless_the_upstream_ignores_it() {
        for (held, choices, cap, most) in [(10, 1, 10, 10), (256, 1, 300, 300), (512, 2, 257, 514), (80, 2, 40, 80)] {
            let mut gauge = Gauge::new(Arc::new(Words), held, choices, Some(cap));
            let mut left = Left { tokens: 10_000, ..Left::default() };
            for passed in 1..=most {
                assert!(pass(&mut gauge, "w", &mut left));
                assert!(left.taken + held <= most, "{cap}: {passed} {}", left.taken);
            }
            assert_eq!(left.taken + held, most);
            for beyond in 1..=600 {
                assert!(pass(&mut gauge, "w w", &mut left));
                assert_eq!(left.taken + held, most + 2 * beyond, "by need only");
            }
        }
    }

    #[test]
    fn chunk_costs_at_least_one_token_for_each_choice_with_text() {
        let mut left = Left::default();
        for (data, wanted) in [
            (r#"{"choices":[{"delta":{"content":" "}}]}"#, 1),
            (r#"{"choices":[{"delta":{"content":" "}},{"delta":{"content":"a b c"}}]}"#, 4),
            (r#"{"choices":[{"delta":{"role":"assistant","content":""}}]}"#, 0),
            (r#"{"choices":[{"delta":{},"finish_reason":"stop"}]}"#, 0),
            (r#"{"choices":[{"text":"a b"}]}"#, 2),
            ("[DONE]", 0),
            ("{", 0),
        ] {
            let mut gauge = gauge(256, 2);
            assert!(gauge.passes(data.as_bytes(), None, &mut left));
            assert_eq!(gauge.counted(), wanted, "{data}");
        }
    }

    #[test]
    fn upstreams_own_count_replaces_the_gauges() {
        let (mut gauge, mut left) = (gauge(256, 1), Left::default());
        let told = |output| Some(Classes { input: 9, output, reasoning: 1, ..Classes::default() });
        assert!(gauge.passes(chunk("a b c").as_bytes(), told(1), &mut left));
        assert_eq!(gauge.counted(), 2);
        assert!(gauge.passes(chunk("a b c").as_bytes(), told(254), &mut left));
        assert_eq!(gauge.counted(), 255);
        assert!(!gauge.passes(chunk("a").as_bytes(), told(256), &mut left));
        assert_eq!((gauge.counted(), gauge.is_over()), (255, true));
    }

    #[test]
    fn last_words_have_the_form_of_the_streams_chunks() {
        let (mut gauge, mut left) = (gauge(2, 2), Left::default());
        pass(&mut gauge, "a", &mut left);
        let ended = r#"{"choices":[{"index":1,"delta":{"content":"b"},"finish_reason":"stop"}]}"#;
        assert!(gauge.passes(ended.as_bytes(), None, &mut left));
        assert!(!pass(&mut gauge, "c", &mut left));
        let words = gauge.last_words(true, r#"{"code":"budget_exhausted"}"#, Some(r#""usage":{"total_tokens":3}"#));
        let wanted = concat!(
            r#"data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","#,
            r#""choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}],"usage":null,"#,
            r#""aigw":{"code":"budget_exhausted"}}"#,
            "\n\n",
            r#"data: {"id":"c1","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"total_tokens":3}}"#,
            "\n\ndata: [DONE]\n\n"
        );
        assert_eq!(String::from_utf8(words).unwrap(), wanted);
        let unbegun = Gauge::new(Arc::new(Words), 0, 1, None).last_words(false, "{}", None);
        let unbegun = String::from_utf8(unbegun).unwrap();
        assert!(
            unbegun.starts_with(
                r#"data: {"id":"","object":"text_completion","created":0,"model":"","choices":[{"index":0,"text":"""#
            ),
            "{unbegun}"
        );
    }

    proptest! {
        #[test]
        fn chunk_counts_the_same_behind_others_and_alone(
            chunks in prop::collection::vec((
                prop::sample::select(vec!["content", "reasoning", "reasoning_content", "refusal", "role", "tool_calls"]),
                "[a-c \"\\\\é\n{}:,]{0,6}", 0_u64..2, any::<bool>(),
            ), 1..40),
        ) {
            let (mut stream, mut left) = (gauge(1 << 20, 2), Left::default());
            let mut alone = 0;
            for (name, text, index, ended) in chunks {
                let finish = ended.then_some("stop");
                let delta = serde_json::json!({name: text, "reasoning": "a b"});
                let data = serde_json::json!({"choices": [{"index": index, "delta": delta, "finish_reason": finish}]}).to_string();
                let mut fresh = gauge(1 << 20, 2);
                prop_assert!(fresh.passes(data.as_bytes(), None, &mut left) && stream.passes(data.as_bytes(), None, &mut left));
                alone += fresh.counted();
                prop_assert_eq!(stream.counted(), alone, "{}", data);
            }
        }

        #[test]
        fn passed_tokens_never_exceed_the_held(held in 0_u64..600, cap in prop::option::of(0_u32..900), tokens in 0_u64..3_000, texts in prop::collection::vec("( ?[a-z]{1,3}){0,90}", 1..80)) {
            let (mut gauge, mut left) = (Gauge::new(Arc::new(Words), held, 1, cap), Left { tokens, ..Left::default() });
            for text in &texts {
                let passed = pass(&mut gauge, text, &mut left);
                prop_assert!(gauge.counted() <= held + left.taken);
                if let Some(cap) = cap {
                    prop_assert!(held + left.taken <= held.max(cap.into()).max(gauge.counted()));
                }
                prop_assert!(passed || gauge.is_over());
            }
            prop_assert_eq!(left.taken + left.tokens, tokens);
        }
    }
}
