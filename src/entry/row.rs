//! One attempt of a call as a row of the ledger, and the row as words.
//!
//! Words never change once a version has written them: a later version adds words behind them. Every run of words decodes: an unknown number of
//! an enumeration becomes the one that claims least.

use crate::cells::ROW;
use crate::cells::journal::DRAFT_WORDS;
use crate::limits::{Amounts, Usage};
use crate::price::{Classes, Media, Prices, ServiceTier};
use crate::settle::{Outcome, UsageSource};
use crate::units::{Moment, RequestId};

/// Words of an entry.
pub const PAYLOAD: usize = ROW;

const COUNTED: u64 = 1;
const OVERRUN: u64 = 1 << 1;
const STREAM: u64 = 1 << 2;
const PRICED: u64 = 1 << 3;
const COSTED: u64 = 1 << 4;
const LAST: u64 = 1 << 5;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum Ended {
    /// The whole answer was passed on.
    Completed = 0,
    /// The client left first.
    ClientCut = 1,
    /// The upstream stopped in the middle of its answer.
    UpstreamCut = 2,
    /// A budget of the caller ended the stream.
    LimitCut = 3,
    /// The answer is an error, or none came.
    UpstreamError = 4,
    /// The gateway's process died before the call ended.
    #[default]
    Crashed = 5,
}

/// The source of an entry's tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum TokenSource {
    /// The call has no tokens.
    #[default]
    None = 0,
    /// The upstream's usage.
    Provider = 1,
    /// The gateway's count.
    Counted = 2,
    /// The reservation of the call.
    Reserved = 3,
}

/// One attempt of a call. A number of 0 names nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(clippy::struct_excessive_bools)] // flags of a row
pub struct Entry {
    /// When its call was admitted: it belongs to the windows of that moment.
    pub admitted_at: Moment,
    /// When it ended.
    pub ended_at: Moment,
    /// The call.
    pub request: RequestId,
    /// The call that made this one.
    pub parent: RequestId,
    /// The first call of its chain.
    pub run: RequestId,
    /// Row number of the consumer.
    pub consumer: u32,
    /// Row number of the credential.
    pub credential: u32,
    /// Row number of the tier.
    pub tier: u32,
    /// Row number of the route.
    pub route: u32,
    /// Row number of the model.
    pub model: u32,
    /// The row of calls of tier, model and upstream, plus 1.
    pub upstream: u32,
    /// Row number of the service.
    pub service: u32,
    /// Row number of the agent.
    pub agent: u32,
    /// Status of the answer; 0 without one.
    pub status: u16,
    /// 1 for the first attempt of the call.
    pub attempt: u8,
    /// Calls between the first of the chain and this one.
    pub depth: u8,
    /// How it ended.
    pub ended: Ended,
    /// The source of the tokens.
    pub source: TokenSource,
    /// The limits of the caller counted it.
    pub counted: bool,
    /// It used more than was reserved for it.
    pub overrun: bool,
    /// The caller asked for a stream.
    pub stream: bool,
    /// No other attempt of the call follows.
    pub last: bool,
    /// Its tokens.
    pub tokens: Classes,
    /// Nano-dollars that the caller pays; `None` where the tier has no prices.
    pub price: Option<u64>,
    /// Nano-dollars that the fleet costs; `None` where the model has no cost.
    pub cost: Option<u64>,
    /// The version of the tier's prices.
    pub price_version: u64,
    /// The version of the model's cost.
    pub cost_version: u64,
    /// Microseconds from arrival to the end.
    pub latency: u32,
    /// Microseconds from arrival to the head of the answer; 0 without one.
    pub first_byte: u32,
    /// Microseconds in the queue.
    pub queued: u32,
    /// Number of the set of limits that counted it; 0: no limit of a tier.
    pub limit_set: u32,
}

impl Ended {
    /// Of its number; an unknown number claims least.
    pub fn of_number(number: u8) -> Self {
        match number {
            0 => Self::Completed,
            1 => Self::ClientCut,
            2 => Self::UpstreamCut,
            3 => Self::LimitCut,
            4 => Self::UpstreamError,
            _ => Self::Crashed,
        }
    }
}

impl TokenSource {
    /// Of its number; an unknown number claims least.
    pub fn of_number(number: u8) -> Self {
        match number {
            1 => Self::Provider,
            2 => Self::Counted,
            3 => Self::Reserved,
            _ => Self::None,
        }
    }
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::ClientCut => Self::ClientCut,
            Outcome::UpstreamCut => Self::UpstreamCut,
            Outcome::LimitCut => Self::LimitCut,
            Outcome::UpstreamError | Outcome::Refused => Self::UpstreamError,
        }
    }
}

impl From<UsageSource> for TokenSource {
    fn from(source: UsageSource) -> Self {
        match source {
            UsageSource::Reported => Self::Provider,
            UsageSource::Counted => Self::Counted,
            UsageSource::Reserved => Self::Reserved,
        }
    }
}

impl Entry {
    /// As words.
    pub fn encode(&self) -> [u64; PAYLOAD] {
        encode(self)
    }

    /// From words: all runs of words are an entry.
    pub fn decode(words: &[u64; PAYLOAD]) -> Self {
        decode(words)
    }

    /// The amounts that the caller's limits counted.
    pub fn used(&self) -> Usage {
        if !self.counted {
            return Usage { requests: 0, amounts: Amounts::NONE };
        }
        let (input_tokens, output_tokens) = (self.tokens.all_input(), self.tokens.all_output());
        let amounts = Amounts { input_tokens, output_tokens, spend: self.price.unwrap_or_default() };
        Usage { requests: 1, amounts }
    }

    /// Nano-dollars of its tokens at these prices. A call that does not count is worth nothing. Tokens that nobody could assign to classes,
    /// since the call has only its reservation or its process died, are worth the most that they can be.
    pub fn worth(&self, prices: &Prices) -> u64 {
        if !self.counted {
            0
        } else if self.source == TokenSource::Reserved || self.ended == Ended::Crashed {
            prices.bound(self.tokens.all_input(), self.tokens.all_output())
        } else {
            prices.of(&self.tokens)
        }
    }

    /// The first words, which a worker notes before its call goes upstream: the entry of a call whose worker dies.
    pub fn draft(&self) -> [u64; DRAFT_WORDS] {
        let words = self.encode();
        std::array::from_fn(|at| words[at])
    }

    /// The entry of a call whose worker died, from the words that it had noted. `used`: input tokens, output tokens and nano-dollars that
    /// it had counted; `None`: the call keeps its reservation.
    pub fn crashed(draft: &[u64; DRAFT_WORDS], used: Option<[u64; 3]>, now: Moment) -> Self {
        let mut words = [0; PAYLOAD];
        words[..DRAFT_WORDS].copy_from_slice(draft);
        let mut entry = Self::decode(&words);
        if let (Some([input, output, spend]), true) = (used, entry.model != 0) {
            entry.tokens = Classes { input, output, ..Classes::default() };
            (entry.price, entry.source) = (entry.price.map(|_| spend), TokenSource::Counted);
        }
        let latency = u32::try_from(now.since(entry.admitted_at) / 1_000).unwrap_or(u32::MAX);
        Self { ended: Ended::Crashed, ended_at: now, counted: true, last: true, latency, ..entry }
    }
}

/// An entry as words.
fn encode(entry: &Entry) -> [u64; PAYLOAD] {
    let Entry { admitted_at, ended_at, request, parent, run, tokens, .. } = *entry;
    let Classes { input, cached_input, cache_write, output, reasoning, media, service } = tokens;
    let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    let flag = |is: bool, bit: u64| if is { bit } else { 0 };
    let flags = flag(entry.counted, COUNTED)
        | flag(entry.overrun, OVERRUN)
        | flag(entry.stream, STREAM)
        | flag(entry.price.is_some(), PRICED)
        | flag(entry.cost.is_some(), COSTED)
        | flag(entry.last, LAST);
    let end = u64::from(entry.status)
        | u64::from(entry.attempt) << 16
        | u64::from(entry.depth) << 24
        | (entry.ended as u64) << 32
        | (entry.source as u64) << 40
        | flags << 48;
    let mut words = [0; PAYLOAD];
    words[..24].copy_from_slice(&[
        admitted_at.0,
        ended_at.0,
        request.0[0],
        request.0[1],
        parent.0[0],
        parent.0[1],
        run.0[0],
        run.0[1],
        pair(entry.consumer, entry.credential),
        pair(entry.tier, entry.route),
        pair(entry.model, entry.upstream),
        pair(entry.service, entry.agent),
        end,
        input,
        cached_input,
        cache_write,
        output,
        reasoning,
        entry.price.unwrap_or_default(),
        entry.cost.unwrap_or_default(),
        entry.price_version,
        entry.cost_version,
        pair(entry.latency, entry.first_byte),
        pair(entry.queued, entry.limit_set),
    ]);
    words[24] = pair(media.image_input, media.audio_input);
    words[25] = pair(media.image_output, media.audio_output);
    words[26] = service as u64;
    words
}

/// The entry of words.
#[allow(clippy::cast_possible_truncation)] // parts of words
fn decode(words: &[u64; PAYLOAD]) -> Entry {
    let id = |at: usize| RequestId([words[at], words[at + 1]]);
    let (low, high) = (|at: usize| words[at] as u32, |at: usize| (words[at] >> 32) as u32);
    let (end, flags) = (words[12], words[12] >> 48);
    let money = |at: usize, bit: u64| (flags & bit != 0).then_some(words[at]);
    Entry {
        admitted_at: Moment(words[0]),
        ended_at: Moment(words[1]),
        request: id(2),
        parent: id(4),
        run: id(6),
        consumer: low(8),
        credential: high(8),
        tier: low(9),
        route: high(9),
        model: low(10),
        upstream: high(10),
        service: low(11),
        agent: high(11),
        status: end as u16,
        attempt: (end >> 16) as u8,
        depth: (end >> 24) as u8,
        ended: Ended::of_number((end >> 32) as u8),
        source: TokenSource::of_number((end >> 40) as u8),
        counted: flags & COUNTED != 0,
        overrun: flags & OVERRUN != 0,
        stream: flags & STREAM != 0,
        last: flags & LAST != 0,
        tokens: Classes {
            input: words[13],
            cached_input: words[14],
            cache_write: words[15],
            output: words[16],
            reasoning: words[17],
            media: Media { image_input: low(24), audio_input: high(24), image_output: low(25), audio_output: high(25) },
            service: ServiceTier::of_number(words[26] as u8),
        },
        price: money(18, PRICED),
        cost: money(19, COSTED),
        price_version: words[20],
        cost_version: words[21],
        latency: low(22),
        first_byte: high(22),
        queued: low(23),
        limit_set: high(23),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words() -> impl Strategy<Value = [u64; PAYLOAD]> {
        prop::array::uniform30(any::<u64>())
    }

    proptest! {
        #[test]
        fn any_words_decode_to_an_entry_that_encodes_to_itself(words in words()) {
            let entry = Entry::decode(&words);
            prop_assert_eq!(Entry::decode(&entry.encode()), entry);
        }

        #[test]
        fn entry_keeps_every_field(words in words(), ended_as in 0_u8..6, source_as in 0_u8..4, service_as in 0_u8..9) {
            let mut words = words;
            words[12] = words[12] & !(0xffff << 32) | u64::from(ended_as) << 32 | u64::from(source_as) << 40;
            words[12] &= (1 << 54) - 1;
            words[26] = service_as.into();
            words[27..].fill(0);
            for (at, bit) in [(18, PRICED), (19, COSTED)] {
                if words[12] >> 48 & bit == 0 {
                    words[at] = 0;
                }
            }
            prop_assert_eq!(Entry::decode(&words).encode(), words);
        }
    }

    #[test]
    fn first_version_of_an_entry_reads_for_ever() {
        // Written by the first version. Changing a line of it loses the ledgers of its users.
        let words: [u64; PAYLOAD] = std::array::from_fn(|at| at as u64 + 1);
        let entry = Entry::decode(&words);
        assert_eq!((entry.admitted_at.0, entry.ended_at.0, entry.request.0), (1, 2, [3, 4]));
        assert_eq!((entry.consumer, entry.tier, entry.model, entry.service), (9, 10, 11, 12));
        assert_eq!((entry.status, entry.tokens.input, entry.tokens.reasoning), (13, 14, 18));
        assert_eq!((entry.price, entry.cost, entry.price_version, entry.cost_version), (None, None, 21, 22));
        assert_eq!((entry.latency, entry.queued), (23, 24));
    }
}
