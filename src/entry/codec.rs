//! An entry as words.
//!
//! In: an [`Entry`], or 30 words. Out: the other. Every run of words decodes: an unknown number of an enumeration becomes the one that claims
//! least. Words behind the last one are 0, for fields of later versions.

use super::{Ended, Entry, TokenSource};
use crate::cells::ROW;
use crate::price::Classes;
use crate::units::{Moment, RequestId};

/// Words of an entry.
pub const PAYLOAD: usize = ROW;

const COUNTED: u64 = 1;
const OVERRUN: u64 = 1 << 1;
const STREAM: u64 = 1 << 2;
const PRICED: u64 = 1 << 3;
const COSTED: u64 = 1 << 4;
const LAST: u64 = 1 << 5;

impl Entry {
    /// As words.
    pub fn encode(&self) -> [u64; PAYLOAD] {
        let Self { admitted_at, ended_at, request, parent, run, tokens, .. } = *self;
        let Classes { input, cached_input, cache_write, output, reasoning } = tokens;
        let pair = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let flag = |is: bool, bit: u64| if is { bit } else { 0 };
        let flags = flag(self.counted, COUNTED)
            | flag(self.overrun, OVERRUN)
            | flag(self.stream, STREAM)
            | flag(self.price.is_some(), PRICED)
            | flag(self.cost.is_some(), COSTED)
            | flag(self.last, LAST);
        let end = u64::from(self.status)
            | u64::from(self.attempt) << 16
            | u64::from(self.depth) << 24
            | (self.ended as u64) << 32
            | (self.source as u64) << 40
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
            pair(self.consumer, self.credential),
            pair(self.tier, self.route),
            pair(self.model, self.upstream),
            pair(self.service, self.agent),
            end,
            input,
            cached_input,
            cache_write,
            output,
            reasoning,
            self.price.unwrap_or_default(),
            self.cost.unwrap_or_default(),
            self.price_version,
            self.cost_version,
            pair(self.latency, self.first_byte),
            u64::from(self.queued),
        ]);
        words
    }

    /// From words.
    #[allow(clippy::cast_possible_truncation)] // parts of words
    pub fn decode(words: &[u64; PAYLOAD]) -> Self {
        let id = |at: usize| RequestId([words[at], words[at + 1]]);
        let (low, high) = (|at: usize| words[at] as u32, |at: usize| (words[at] >> 32) as u32);
        let (end, flags) = (words[12], words[12] >> 48);
        let money = |at: usize, bit: u64| (flags & bit != 0).then_some(words[at]);
        Self {
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
            ended: ended((end >> 32) as u8),
            source: source((end >> 40) as u8),
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
            },
            price: money(18, PRICED),
            cost: money(19, COSTED),
            price_version: words[20],
            cost_version: words[21],
            latency: low(22),
            first_byte: high(22),
            queued: low(23),
        }
    }
}

fn ended(number: u8) -> Ended {
    match number {
        0 => Ended::Completed,
        1 => Ended::ClientCut,
        2 => Ended::UpstreamCut,
        3 => Ended::LimitCut,
        4 => Ended::UpstreamError,
        _ => Ended::Crashed,
    }
}

fn source(number: u8) -> TokenSource {
    match number {
        1 => TokenSource::Provider,
        2 => TokenSource::Counted,
        3 => TokenSource::Reserved,
        _ => TokenSource::None,
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
        fn entry_keeps_every_field(words in words(), ended_as in 0_u8..6, source_as in 0_u8..4) {
            let mut words = words;
            words[12] = words[12] & !(0xffff << 32) | u64::from(ended_as) << 32 | u64::from(source_as) << 40;
            words[12] &= (1 << 54) - 1;
            words[24..].fill(0);
            for (at, bit) in [(18, PRICED), (19, COSTED)] {
                if words[12] >> 48 & bit == 0 {
                    words[at] = 0;
                }
            }
            words[23] &= 0xffff_ffff;
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
