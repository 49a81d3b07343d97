//! The amounts that a call of a model reserves, before anything is sent: a bound of its input, and of its output.
//!
//! In: the call's wishes, the prices of its tier, and the room that each budget has left ([`Room`]). Out: a [`Reservation`]: the
//! amounts to take, and the output cap for the upstream. The cap is the smallest of the caller's, the tier's, the model's, and of
//! the cap that the budgets can grant, so an upstream stops at a budget by itself. A plain call reserves its whole output, and so does a stream
//! whose output may be hidden; any other stream reserves a chunk of it. Each choice reserves one token at least: a call that does not fit is refused by the limits, not here.
//! A bucket refills, so it grants its whole size: a plain call waits until so much is there, and a stream outlives it.

use crate::limits::Amounts;
use crate::price::Prices;
use crate::tokens::CHUNK;

/// The wishes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wish {
    /// Most tokens of its input.
    pub input: u64,
    /// Its choices; 0 for a call that generates nothing.
    pub choices: u32,
    /// Most output tokens of each choice, by caller, tier and model.
    pub cap: Option<u32>,
    /// Its output is reserved in chunks: it is a stream that shows its output.
    pub chunks: bool,
}

/// The amount that a budget has left, by its meter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// Tokens of input and output.
    Tokens(u64),
    /// Tokens of input.
    Input(u64),
    /// Tokens of output.
    Output(u64),
    /// Nano-dollars.
    Spend(u64),
}

/// The amounts that a call reserves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reservation {
    /// Tokens of its input.
    pub input: u64,
    /// Tokens of its output, of all choices.
    pub output: u64,
    /// Nano-dollars.
    pub spend: u64,
    /// The output cap of each choice, where it is below that of caller, tier and model.
    pub cap: Option<u32>,
    /// Nothing bounds the output, neither a cap nor a budget: no part of it is reserved.
    pub unbounded: bool,
}

impl Reservation {
    /// Its amounts.
    pub fn amounts(&self) -> Amounts {
        Amounts { input_tokens: self.input, output_tokens: self.output, spend: self.spend }
    }
}

impl Wish {
    /// The reservation of a call with these wishes. `rooms`: the rest of each budget. `buckets`: the whole size of each bucket.
    pub fn reserve(
        &self,
        prices: Option<&Prices>,
        rooms: impl IntoIterator<Item = Room>,
        buckets: impl IntoIterator<Item = Room>,
    ) -> Reservation {
        let none = Prices::default();
        let prices = prices.unwrap_or(&none);
        let choices = u64::from(self.choices);
        if choices == 0 {
            let spend = prices.bound(self.input, 0);
            return Reservation { input: self.input, spend, ..Reservation::default() };
        }
        let each = |tokens: u64| u32::try_from(tokens / choices).unwrap_or(u32::MAX).max(1);
        let rest = rooms.into_iter().filter_map(|room| room.grant(self.input, prices)).min().map(each);
        let whole = buckets.into_iter().filter_map(|room| room.grant(self.input, prices)).min().map(each);
        let grant = if self.chunks { rest } else { rest.into_iter().chain(whole).min() };
        let most = self.cap.into_iter().chain(grant).min();
        let each = match whole.map_or(CHUNK, u64::from).min(CHUNK) {
            chunk if self.chunks => chunk.min(most.unwrap_or(u32::MAX).into()),
            _ => most.unwrap_or_default().into(),
        };
        let output = each.saturating_mul(choices);
        Reservation {
            input: self.input,
            output,
            spend: prices.bound(self.input, output),
            cap: grant.filter(|grant| self.cap.is_none_or(|cap| *grant < cap)),
            unbounded: most.is_none() && !self.chunks,
        }
    }
}

impl Room {
    /// Whether a reservation fits into it.
    pub fn holds(self, reserved: &Reservation) -> bool {
        match self {
            Self::Tokens(left) => reserved.input.saturating_add(reserved.output) <= left,
            Self::Input(left) => reserved.input <= left,
            Self::Output(left) => reserved.output <= left,
            Self::Spend(left) => reserved.spend <= left,
        }
    }

    /// The output tokens that fit behind so many input tokens; `None`: any number.
    fn grant(self, input: u64, prices: &Prices) -> Option<u64> {
        match self {
            Self::Tokens(left) => Some(left.saturating_sub(input)),
            Self::Input(_) => None,
            Self::Output(left) => Some(left),
            Self::Spend(left) => prices.output_within(left, input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::PRICES;
    use proptest::prelude::*;

    fn plain(input: u64, choices: u32, cap: Option<u32>) -> Wish {
        Wish { input, choices, cap, chunks: false }
    }

    #[test]
    fn plain_call_reserves_its_whole_output() {
        let wish = plain(10, 2, Some(100));
        let wanted = Reservation { input: 10, output: 200, spend: 0, cap: None, unbounded: false };
        assert_eq!(wish.reserve(None, [Room::Tokens(210)], []), wanted);
        assert_eq!(wish.reserve(None, [], []), wanted);
    }

    #[test]
    fn budget_lowers_the_cap_to_its_grant() {
        for (rooms, each) in [
            (vec![Room::Tokens(209)], 99),
            (vec![Room::Tokens(110)], 50),
            (vec![Room::Output(41), Room::Tokens(1_000)], 20),
            (vec![Room::Input(0), Room::Output(41)], 20),
            (vec![Room::Tokens(10)], 1),
            (vec![Room::Tokens(0)], 1),
        ] {
            let got = plain(10, 2, Some(100)).reserve(None, rooms.clone(), []);
            assert_eq!((got.output, got.cap), (2 * u64::from(each), Some(each)), "{rooms:?}");
        }
    }

    #[test]
    fn call_without_any_cap_reserves_the_grant() {
        let got = plain(10, 1, None).reserve(None, [Room::Tokens(5_000)], []);
        assert_eq!((got.output, got.cap), (4_990, Some(4_990)));
    }

    #[test]
    fn stream_reserves_a_chunk_and_sends_the_whole_grant() {
        let wish = Wish { chunks: true, ..plain(10, 2, Some(9_000)) };
        let got = wish.reserve(None, [Room::Tokens(10_010)], []);
        assert_eq!((got.output, got.cap), (512, Some(5_000)));
        let got = wish.reserve(None, [Room::Tokens(50)], []);
        assert_eq!((got.output, got.cap), (40, Some(20)));
    }

    #[test]
    fn output_that_nothing_bounds_is_not_reserved() {
        let got = plain(10, 2, None).reserve(Some(&PRICES), [Room::Input(100)], []);
        assert_eq!((got.output, got.spend, got.cap, got.unbounded), (0, PRICES.bound(10, 0), None, true));
        let got = Wish { chunks: true, ..plain(10, 2, None) }.reserve(None, [Room::Input(100)], []);
        assert_eq!((got.output, got.cap, got.unbounded), (512, None, false));
    }

    #[test]
    fn call_without_output_reserves_its_input() {
        let got = plain(1_000, 0, None).reserve(Some(&PRICES), [Room::Tokens(1), Room::Spend(1)], []);
        assert_eq!(got, Reservation { input: 1_000, spend: 100_000 + 375_000, ..Reservation::default() });
    }

    #[test]
    fn bucket_grants_its_whole_size_to_a_plain_call_and_bounds_the_chunk_of_a_stream() {
        let buckets = || [Room::Tokens(110), Room::Output(5_000)];
        let got = plain(10, 2, Some(100)).reserve(None, [Room::Tokens(1_000)], buckets());
        assert_eq!((got.output, got.cap), (100, Some(50)));
        let wish = Wish { chunks: true, ..plain(10, 2, Some(300)) };
        let got = wish.reserve(None, [Room::Tokens(1_000)], buckets());
        assert_eq!((got.output, got.cap), (100, None), "the stream may be longer than the bucket is large");
        let got = wish.reserve(None, [], [Room::Tokens(9)]);
        assert_eq!((got.output, got.cap), (2, None));
        let got = Wish { chunks: true, ..plain(10, 2, None) }.reserve(None, [], [Room::Tokens(5_000)]);
        assert_eq!((got.output, got.cap), (512, None));
    }

    #[test]
    fn room_holds_a_reservation_up_to_its_last_unit() {
        let reserved = Reservation { input: 10, output: 20, spend: 300, ..Reservation::default() };
        for (room, exact) in [
            (Room::Tokens as fn(u64) -> Room, 30),
            (Room::Input as fn(u64) -> Room, 10),
            (Room::Output as fn(u64) -> Room, 20),
            (Room::Spend as fn(u64) -> Room, 300),
        ] {
            assert!(room(exact).holds(&reserved) && room(exact + 1).holds(&reserved));
            assert!(!room(exact - 1).holds(&reserved));
        }
    }

    proptest! {
        #[test]
        fn reservation_fits_wherever_one_token_of_each_choice_does(
            input in 0_u64..2_000, choices in 1_u32..4, cap in prop::option::of(1_u32..3_000), stream in any::<bool>(),
            tokens in 0_u64..6_000, output in 0_u64..6_000, spend in 0_u64..6_000_000,
        ) {
            let rooms = [Room::Tokens(tokens), Room::Output(output), Room::Spend(spend)];
            let got = Wish { input, choices, cap, chunks: stream }.reserve(Some(&PRICES), rooms, []);
            let fits = |out: u64| input + out <= tokens && out <= output && PRICES.bound(input, out) <= spend;
            prop_assert_eq!(fits(got.output), fits(u64::from(choices)), "{:?}", got);
            prop_assert_eq!(got.spend, PRICES.bound(input, got.output));
            prop_assert!(got.output >= u64::from(choices));
            if let (false, Some(sent)) = (stream, got.cap) {
                // No larger cap would fit.
                prop_assert!(sent == 1 || !fits(u64::from(choices) * (u64::from(sent) + 1)));
            }
        }
    }
}
