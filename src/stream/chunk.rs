//! The chunks of a stream: the usage and the errors that they report, and the bytes that must stay behind.
//!
//! In: one event at a time. Out: its [`Verdict`]. Of a caller that asked for no usage, a chunk with nothing else is removed whole,
//! and any other chunk loses its member `usage` alone. Usage may stand at the top of a chunk, in `x_groq`, in a choice (Moonshot),
//! or in `timings` (llama.cpp); the last one counts. A name is searched for before anything is parsed, so a chunk
//! of text costs two searches.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::bill;
use super::event::{self, Data};
use super::gauge::{Ending, Gauge, More};
use super::member::{Member, NAME, Nesting, key_before, without};
use super::usage::{self, Timings};
use crate::price::{Classes, Prices, ServiceTier};

/// The treatment of the usage on its way to the caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The caller did not ask for it: it stays behind.
    Strip,
    /// It passes as it came.
    Watch,
    /// The caller asked for it: a member `aigw` next to it has the tokens by class, and their price where the tier has prices.
    Tell(Option<Prices>),
}

/// The chunks so far.
#[derive(Debug)]
pub(super) struct Chunks {
    wish: Wish,
    usage: Option<Classes>,
    /// The event that was read last reports a usage.
    reported: bool,
    timings: Option<Timings>,
    /// The service tier that a chunk named last.
    service: ServiceTier,
    /// Events that are still searched for a service tier.
    unsearched: u8,
    /// Output tokens that had passed when the usage was reported.
    counted_then: u64,
    seen: Seen,
    bound: Option<Box<Bound>>,
}

/// The bound of a stream by the budgets of its call.
#[derive(Debug)]
pub struct Bound {
    /// Its count.
    pub gauge: Gauge,
    /// The chunks are those of chat.
    pub chat: bool,
    /// The caller asked for the usage.
    pub wants_usage: bool,
}

/// The events so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// No event with data.
    Nothing,
    /// At least one event with data.
    Data,
    /// An error among them.
    Error,
}

/// The treatment of one event.
pub(super) enum Verdict {
    Pass,
    /// Only its comments pass.
    Drop,
    /// The stream ends here, with these bytes in place of the event.
    End(Vec<u8>),
    /// Pass without this range.
    Cut(Range<usize>),
    /// These bytes pass instead.
    Instead(Vec<u8>),
}

/// Servers that name a service tier name it in every chunk.
const SEARCHED: u8 = 4;
/// An honest chunk has one member `usage`. One with more than this passes unchanged: each costs a copy of the chunk.
const MOST: usize = 4;
/// The members `usage` of a chunk.
enum Named {
    Nowhere,
    /// The last one of the outermost object is null, and none has another value.
    Null(Range<usize>),
    /// One, at any depth, has a value.
    Value,
}

/// Members of a chunk without content for the reader of an answer. llama.cpp sends its `timings` with the usage, and another
/// aigw its `aigw`.
const METADATA: [&str; 12] = [
    "aigw",
    "id",
    "object",
    "created",
    "model",
    "system_fingerprint",
    "service_tier",
    "provider",
    "obfuscation",
    "request_id",
    "timings",
    "usage",
];

static USAGE_IN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(NAME));
static TIMINGS_IN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"timings\""));
static SERVICE_IN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"service_tier\""));
static ERROR_IN: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"error"));

/// The members of an object, in order; a name may repeat.
struct Members<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

/// An object that may hold a usage.
#[derive(Deserialize)]
struct Holder<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

/// A chunk that may name a service tier.
#[derive(Deserialize)]
struct Served<'a> {
    #[serde(borrow)]
    service_tier: Option<&'a RawValue>,
}

/// The members that make a chunk an error. Some servers send the error itself, as an object of this kind.
#[derive(Deserialize)]
struct Failed<'a> {
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
}

impl Failed<'_> {
    fn is_error(&self) -> bool {
        self.error.is_some_and(|error| error.get() != "false")
            || self.object.is_some_and(|object| object.get() == "\"error\"")
    }
}

impl Chunks {
    pub(super) fn new(wish: Wish, bound: Option<Box<Bound>>) -> Self {
        let (service, unsearched, seen) = (ServiceTier::Unsaid, SEARCHED, Seen::Nothing);
        Self { wish, usage: None, reported: false, timings: None, service, unsearched, counted_then: 0, seen, bound }
    }

    /// The output tokens that passed; `None` where they are not counted.
    pub(super) fn counted(&self) -> Option<u64> {
        self.bound.as_ref().map(|bound| bound.gauge.counted())
    }

    /// Whether text has passed since the usage was reported: the usage does not count it.
    pub(super) fn is_outdated(&self) -> bool {
        self.usage.is_some() && self.counted().is_some_and(|counted| counted > self.counted_then)
    }

    /// Whether the stream hid a part of its output; `None` where it proves neither.
    pub(super) fn hides_output(&self) -> Option<bool> {
        self.bound.as_ref()?.gauge.hides(&self.usage()?)
    }

    /// Whether an event was beyond the budgets.
    pub(super) fn is_over(&self) -> bool {
        self.bound.as_ref().is_some_and(|bound| bound.gauge.is_over())
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen
    }

    /// The usage that was reported last.
    pub(super) fn usage(&self) -> Option<Classes> {
        usage::whole(self.usage, self.timings).map(|usage| usage.served_in(self.service))
    }

    /// The service tier that was named last.
    pub(super) fn service(&self) -> ServiceTier {
        self.usage().map_or(self.service, |usage| usage.service)
    }

    /// An event of so many bytes passes unread. Its tokens are fewer than its bytes.
    /// Returns the end of a stream that ends here.
    pub(super) fn unread(&mut self, bytes: usize, more: &mut dyn More) -> Option<Vec<u8>> {
        if self.seen == Seen::Nothing {
            self.seen = Seen::Data;
        }
        let (told, service) = (self.usage(), self.service);
        let bound = self.bound.as_mut().filter(|bound| !bound.gauge.is_over())?;
        bound.gauge.unread(bytes as u64, more);
        bound.gauge.is_over().then(|| bound.last_words(told, service, more))
    }

    /// Reads an event.
    pub(super) fn judge(&mut self, event: &[u8], more: &mut dyn More) -> Verdict {
        if self.is_over() {
            return Verdict::End(Vec::new());
        }
        let (earlier, timings) = (self.usage, self.timings);
        let verdict = self.read(event);
        let told = self.usage.filter(|usage| earlier != Some(*usage));
        let Some(bound) = &mut self.bound else { return verdict };
        let before = bound.gauge.counted();
        if bound.gauge.passes(&event::data_of(event).text, told, more) {
            // The same usage once more, in an event without text: the upstream stands by it.
            if told.is_some() || self.reported && bound.gauge.counted() == before {
                self.counted_then = bound.gauge.counted();
            }
            return verdict;
        }
        // The usage of an event that does not pass counts text that the caller does not get.
        (self.usage, self.timings) = (earlier, timings);
        let (told, service) = (self.usage(), self.service);
        Verdict::End(self.bound.as_ref().map_or_else(Vec::new, |bound| bound.last_words(told, service, more)))
    }

    /// The usage that the call is settled to: text that passed is never free.
    fn with_passed(&self, usage: Classes) -> Classes {
        let passed = self.counted().filter(|_| usage.all_output() == 0);
        Classes { output: passed.unwrap_or(usage.output), ..usage }
    }

    fn read(&mut self, event: &[u8]) -> Verdict {
        self.reported = false;
        self.note(event);
        self.search(event);
        let timed = self.usage.is_none_or(|usage| usage.cached_input == 0) && TIMINGS_IN.find(event).is_some();
        if !timed && USAGE_IN.find(event).is_none() {
            return Verdict::Pass;
        }
        let data = event::data_of(event);
        match named_in(&data.text) {
            Named::Value => self.members(event, &data),
            _ if timed => self.members(event, &data),
            Named::Null(null) if self.wish == Wish::Strip => cut(event, &data, &[null]),
            Named::Null(_) | Named::Nowhere => Verdict::Pass,
        }
    }

    /// Notes whether an event has data, and whether it is an error.
    fn note(&mut self, event: &[u8]) {
        if self.seen == Seen::Nothing && (event.starts_with(b"data") || !event::data_of(event).text.is_empty()) {
            self.seen = Seen::Data;
        }
        if self.seen == Seen::Data && ERROR_IN.find(event).is_some() {
            let in_data =
                serde_json::from_slice(&event::data_of(event).text).is_ok_and(|chunk: Failed<'_>| chunk.is_error());
            if in_data || event::type_of(event) == b"error" {
                self.seen = Seen::Error;
            }
        }
    }

    /// Searches one of the first events for a service tier.
    fn search(&mut self, event: &[u8]) {
        if self.unsearched == 0 || self.seen == Seen::Nothing {
            return;
        }
        self.unsearched -= 1;
        if SERVICE_IN.find(event).is_some()
            && let Ok(Served { service_tier: Some(said) }) = serde_json::from_slice(&event::data_of(event).text)
        {
            self.service = ServiceTier::of_json(said.get()).or(self.service);
        }
        if self.service != ServiceTier::Unsaid {
            self.unsearched = 0;
        }
    }

    /// Reads a chunk that reports usage.
    fn members(&mut self, event: &[u8], data: &Data<'_>) -> Verdict {
        let Ok(Members(members)) = serde_json::from_slice(&data.text) else { return Verdict::Pass };
        let named = |wanted: &str| members.iter().rev().find(|(name, value)| name == wanted && value.get() != "null");
        let own = named("usage").map(|(_, value)| *value);
        let nested = || match (named("x_groq"), named("choices")) {
            (Some((_, groq)), _) if usage_of(groq).is_some() => usage_of(groq),
            (_, Some((_, choices))) => {
                let choices: Vec<Holder<'_>> = serde_json::from_str(choices.get()).ok()?;
                choices.into_iter().rev().find_map(|choice| choice.usage)
            }
            _ => None,
        };
        let usage = own.or_else(nested).and_then(|usage| usage::read(usage.get().as_bytes()));
        // One of zeros takes back no count that was there, and counts no text that passed.
        let zeros = self.usage.is_none() && self.counted().unwrap_or_default() == 0;
        if let Some(usage) = usage.filter(|usage| zeros || !usage.is_empty()) {
            (self.usage, self.reported) = (Some(usage), true);
        }
        if let Some((_, said)) = named("service_tier") {
            self.service = ServiceTier::of_json(said.get()).or(self.service);
        }
        if let Some((_, timings)) = named("timings") {
            self.timings = Timings::parse(timings.get().as_bytes()).or(self.timings);
        }
        match (&self.wish, self.usage()) {
            (Wish::Strip, _) => {}
            (Wish::Tell(prices), Some(usage)) if !usage.is_empty() && (own.is_some() || self.reported) => {
                let usage = self.with_passed(usage);
                let price = prices.as_ref().map(|prices| prices.of(&usage));
                return tell(event, data, &members, own, &bill::member(&usage, price));
            }
            (Wish::Watch | Wish::Tell(_), _) => return Verdict::Pass,
        }
        if own.is_some() && !members.iter().any(|(name, value)| is_content(name, value)) {
            return Verdict::Drop;
        }
        let own = members.iter().filter(|(name, _)| name == "usage");
        let ranges: Vec<_> = own.filter_map(|(_, value)| member_at(&data.text, value)).collect();
        if ranges.is_empty() || ranges.len() > MOST { Verdict::Pass } else { cut(event, data, &ranges) }
    }
}

impl Bound {
    /// The end of the stream. `told`: the usage that the upstream has reported on the way; `service`: the service tier.
    fn last_words(&self, told: Option<Classes>, service: ServiceTier, more: &dyn More) -> Vec<u8> {
        let Ending { limit, usage, price } = more.end(told, service, self.gauge.counted());
        let input = usage.all_input();
        let output = usage.all_output();
        let bill = bill::member(&usage, price);
        let usage = format!(
            "\"usage\":{{\"prompt_tokens\":{input},\"completion_tokens\":{output},\"total_tokens\":{}}},\"aigw\":{bill}",
            input.saturating_add(output)
        );
        self.gauge.last_words(self.chat, &limit, self.wants_usage.then_some(&*usage))
    }
}

/// Looks for members `usage` of a chunk.
fn named_in(data: &[u8]) -> Named {
    let mut nesting = Nesting::of(data);
    let mut found = Named::Nowhere;
    for at in USAGE_IN.find_iter(data) {
        match Member::of(data, at) {
            Member::Value => return Named::Value,
            Member::Null(end) if nesting.is_of_the_chunk(at, end) => found = Named::Null(at..end),
            Member::None | Member::Null(_) => {}
        }
    }
    found
}

fn usage_of<'a>(holder: &'a RawValue) -> Option<&'a RawValue> {
    serde_json::from_str(holder.get()).ok().and_then(|holder: Holder<'a>| holder.usage)
}

/// Whether a member says something to the reader of an answer.
fn is_content(name: &str, value: &RawValue) -> bool {
    let value = value.get();
    let empty = || value.len() < 2 || value[1..value.len() - 1].trim().is_empty();
    match name {
        "error" => value != "null",
        _ if METADATA.contains(&name) => false,
        _ => value != "null" && !(value.starts_with(['[', '{', '"']) && empty()),
    }
}

/// The range of a value that was borrowed from `data`.
fn value_at(data: &[u8], value: &RawValue) -> Range<usize> {
    let start = (value.get().as_ptr() as usize).wrapping_sub(data.as_ptr() as usize);
    start..start.saturating_add(value.get().len())
}

/// The range of a member with this value.
fn member_at(data: &[u8], value: &RawValue) -> Option<Range<usize>> {
    let Range { start, end } = value_at(data, value);
    Some(key_before(data, start)?..end)
}

/// The event whose member `aigw` has this value. A chunk that has one already, from a gateway behind this one, gets it in
/// that place, another one behind its usage, or at its end where the usage stands deeper.
fn tell(
    event: &[u8],
    data: &Data<'_>,
    members: &[(Cow<'_, str>, &RawValue)],
    usage: Option<&RawValue>,
    value: &str,
) -> Verdict {
    let place = |value: &RawValue| value_at(&data.text, value);
    let own = members.iter().rev().find(|(name, _)| name == "aigw");
    let Some(before) = usage.or(members.last().map(|(_, last)| *last)) else { return Verdict::Pass };
    let (range, name) =
        own.map_or_else(|| (place(before).end..place(before).end, ",\"aigw\":"), |(_, own)| (place(own), ""));
    let (Some(before), Some(after)) = (data.text.get(..range.start), data.text.get(range.end..)) else {
        return Verdict::Pass;
    };
    Verdict::Instead(event::with_data(event, &[before, name.as_bytes(), value.as_bytes(), after].concat()))
}

/// The event without these members of its data.
fn cut(event: &[u8], data: &Data<'_>, members: &[Range<usize>]) -> Verdict {
    if let (Cow::Borrowed(text), [only]) = (&data.text, members) {
        return match without(text, only.start, only.end) {
            Some(Range { start, end }) => Verdict::Cut(data.at + start..data.at + end),
            None => Verdict::Pass,
        };
    }
    let mut left = data.text.to_vec();
    for member in members.iter().rev() {
        if let Some(range) = without(&left, member.start, member.end) {
            left.drain(range);
        }
    }
    Verdict::Instead(event::with_data(event, &left))
}

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members<'de>, A::Error> {
                let mut members = Vec::with_capacity(8);
                while let Some(Name(name)) = map.next_key()? {
                    members.push((name, map.next_value()?));
                }
                Ok(Members(members))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}

/// A member's name: borrowed, unless it has escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
