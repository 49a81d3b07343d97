//! The row of an attempt in the ledger: the call, its tokens, its price, its end.
//!
//! In: the facts of a call that a stage has settled, or of one whose worker died. Out: an [`Entry`], and its 30 words, which never change
//! once they are written: a later version adds words behind them. Numbers in place of names: the store gives each entity one number for
//! ever. It reads no counter, no clock and no file.

mod codec;
pub mod record;
pub mod recover;

pub use codec::PAYLOAD;

use crate::cells::journal::DRAFT_WORDS;
use crate::limits::{Amounts, Usage};
use crate::price::Classes;
use crate::settle::{Outcome, UsageSource};
use crate::units::{Moment, RequestId};

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
    /// The amounts that the caller's limits counted.
    pub fn used(&self) -> Usage {
        if !self.counted {
            return Usage { requests: 0, amounts: Amounts::NONE };
        }
        let (input_tokens, output_tokens) = (self.tokens.all_input(), self.tokens.all_output());
        let amounts = Amounts { input_tokens, output_tokens, spend: self.price.unwrap_or_default() };
        Usage { requests: 1, amounts }
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
