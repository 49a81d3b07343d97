//! One list of prices, and the arithmetic of all.

use std::sync::Arc;

use super::Classes;
use super::special::{self, Above, MediaRates, Rates, Special, WHOLE};

/// The most that one request can be worth: 281,474.98 USD, the room that the ledger's sums have for one entry. Limits, headers, metrics and
/// ledger say the same, however absurd the usage.
const MOST: u64 = (1 << 48) - 1;
/// Tokens that a price is for.
const PER: u128 = 1_000_000;

/// Of the numbers of prices: the fraction of the golden ratio, and the first multiplier of `splitmix64` (Steele, Lea, Flood 2014).
const SEED: u64 = 0x9e37_79b9_7f4a_7c15;
const MIX: u64 = 0xbf58_476d_1ce4_e5b9;

/// Nano-dollars in a dollar.
const DOLLAR: u64 = 1_000_000_000;

/// Nano-dollars as dollars, with as many decimals as are needed: `0.000026`, `12`.
pub fn dollars(nanos: u64) -> String {
    let (whole, rest) = (nanos / DOLLAR, nanos % DOLLAR);
    match rest {
        0 => whole.to_string(),
        _ => format!("{whole}.{rest:09}").trim_end_matches('0').to_owned(),
    }
}

/// Prices in nano-dollars: of a million tokens of each class, and of one request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prices {
    /// Of a million input tokens that no cache had or kept.
    pub input: u64,
    /// Of a million input tokens that a cache had.
    pub cached_input: u64,
    /// Of a million input tokens that a cache kept.
    pub cache_write: u64,
    /// Of a million output tokens without those of reasoning.
    pub output: u64,
    /// Of a million output tokens of reasoning.
    pub reasoning: u64,
    /// Of one request.
    pub request: u64,
    /// Prices of long inputs, images, audio and service tiers; `None`: they change nothing. Set by [`Prices::with`].
    pub special: Option<Arc<Special>>,
}

impl Prices {
    /// The same prices with a special part. A part that changes nothing is left out, so that equal prices are equal.
    #[must_use]
    pub fn with(self, special: Special) -> Self {
        let base = Self { special: None, ..self };
        let above = special.above.filter(|above| above.rates != base.rates(special.media));
        let special = Special { above, ..special };
        let plain = Special::plain(base.input, base.output);
        Self { special: (special != plain).then(|| Arc::new(special)), ..base }
    }

    /// A number of these prices: equal prices have equal numbers, others almost surely do not. It is never 0. It is in ledgers for ever.
    pub fn version(&self) -> u64 {
        let Self { input, cached_input, cache_write, output, reasoning, request, special } = self;
        let mix = |sum: u64, word: u64| {
            let mixed = (sum ^ word).wrapping_mul(MIX);
            mixed ^ mixed >> 29
        };
        let mixed = [*input, *cached_input, *cache_write, *output, *reasoning, *request].into_iter().fold(SEED, mix);
        let mixed = special.iter().flat_map(|special| special.words()).fold(mixed, mix);
        // Databases have signed integers.
        (mixed >> 1).max(1)
    }

    /// Nano-dollars of one request with these tokens, rounded up; at most [`MOST`].
    pub fn of(&self, tokens: &Classes) -> u64 {
        let Some(special) = &self.special else {
            let Classes { input, cached_input, cache_write, output, reasoning, .. } = *tokens;
            let sum = special::sum([
                (input, self.input),
                (cached_input, self.cached_input),
                (cache_write, self.cache_write),
                (output, self.output),
                (reasoning, self.reasoning),
            ]);
            return self.worth(sum, WHOLE);
        };
        let above = special.above.filter(|above| tokens.all_input() > above.tokens);
        let rates = above.map_or_else(|| self.rates(special.media), |above| above.rates);
        self.worth(rates.sum(tokens), special.factor(tokens.service))
    }

    /// The most nano-dollars that one request with so many tokens can be worth, whatever their classes turn out to be.
    pub fn bound(&self, input: u64, output: u64) -> u64 {
        let of = |rates: Rates| special::sum([(input, rates.dearest_input()), (output, rates.dearest_output())]);
        let sum = self.applicable(input).map(of).max().unwrap_or_default();
        self.worth(sum, self.dearest_factor())
    }

    /// The most output tokens that a spend can pay behind so many input tokens, whatever their classes; `None`: any number.
    pub fn output_within(&self, spend: u64, input: u64) -> Option<u64> {
        let (paid, request) = (u128::from(spend) * PER * u128::from(WHOLE), u128::from(self.request) * PER);
        let left = paid.checked_div(self.dearest_factor().into())?.saturating_sub(request);
        let within = |rates: Rates| {
            let left = left.saturating_sub(u128::from(input) * u128::from(rates.dearest_input()));
            left.checked_div(rates.dearest_output().into())
        };
        let most = self.applicable(input).filter_map(within).min();
        most.map(|tokens| u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// The prices of tokens that a call with at most so many input tokens can have.
    fn applicable(&self, input: u64) -> impl Iterator<Item = Rates> {
        let special = self.special.as_deref();
        let media = special.map_or_else(MediaRates::default, |special| special.media);
        let above = special.and_then(|special| special.above).filter(|above| input > above.tokens);
        std::iter::once(self.rates(media)).chain(above.map(|Above { rates, .. }| rates))
    }

    fn rates(&self, media: MediaRates) -> Rates {
        let Self { input, cached_input, cache_write, output, reasoning, .. } = *self;
        Rates { input, cached_input, cache_write, output, reasoning, media }
    }

    fn dearest_factor(&self) -> u32 {
        self.special.as_deref().map_or(WHOLE, Special::dearest_factor)
    }

    /// One request whose tokens have this price (nano-dollars times a million), at this factor (parts per million).
    fn worth(&self, sum: u128, factor: u32) -> u64 {
        let all = sum.saturating_add(u128::from(self.request) * PER);
        let nanos = match factor {
            WHOLE => all.div_ceil(PER),
            _ => all.saturating_mul(factor.into()).div_ceil(PER * u128::from(WHOLE)),
        };
        u64::try_from(nanos).map_or(MOST, |nanos| nanos.min(MOST))
    }
}

/// Prices for tests, each class at another one.
#[cfg(test)]
pub(crate) const PRICES: Prices = Prices {
    input: 300_000_000,
    cached_input: 150_000_000,
    cache_write: 375_000_000,
    output: 1_200_000_000,
    reasoning: 600_000_000,
    request: 100_000,
    special: None,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::{Media, SERVICE_TIERS, ServiceTier};
    use proptest::prelude::*;

    #[test]
    fn dollars_have_as_many_decimals_as_are_needed() {
        for (nanos, wanted) in [
            (0, "0"),
            (1, "0.000000001"),
            (26_000, "0.000026"),
            (1_500_000_000, "1.5"),
            (12_000_000_000, "12"),
            (u64::MAX, "18446744073.709551615"),
        ] {
            assert_eq!(dollars(nanos), wanted);
        }
    }

    #[test]
    fn a_price_sums_each_class_at_its_own_price() {
        let tokens =
            Classes { input: 12, cached_input: 100, cache_write: 8, output: 16, reasoning: 5, ..Classes::default() };
        assert_eq!(PRICES.of(&tokens), 100_000 + 12 * 300 + 100 * 150 + 8 * 375 + 16 * 1200 + 5 * 600);
        assert_eq!(PRICES.of(&Classes::default()), 100_000);
    }

    #[test]
    fn a_sum_rounds_up_once_to_a_whole_nano_dollar() {
        let cheap = Prices { input: 1, output: 1, ..Prices::default() };
        assert_eq!(cheap.of(&Classes { input: 1, ..Classes::default() }), 1);
        assert_eq!(cheap.of(&Classes { input: 500_000, output: 500_000, ..Classes::default() }), 1);
        assert_eq!(cheap.of(&Classes { input: 500_001, output: 500_000, ..Classes::default() }), 2);
    }

    #[test]
    fn a_bound_is_never_below_the_price_of_any_split_into_classes() {
        for at in 0..=20 {
            let tokens = Classes {
                input: 20 - at,
                cached_input: at / 2,
                cache_write: at - at / 2,
                output: 20 - at,
                reasoning: at,
                ..Classes::default()
            };
            assert!(PRICES.bound(20, 20) >= PRICES.of(&tokens), "{tokens:?}");
        }
        assert_eq!(PRICES.bound(20, 20), 100_000 + 20 * 375 + 20 * 1200);
    }

    #[test]
    fn output_within_a_spend_is_the_most_that_its_bound_pays() {
        for (spend, input) in [(0, 0), (99_999, 0), (101_200, 0), (1_000_000, 7), (1_234_567, 1_000), (9, 9)] {
            let tokens = PRICES.output_within(spend, input).unwrap_or(u64::MAX);
            assert!(tokens == 0 || PRICES.bound(input, tokens) <= spend, "{spend} {input}");
            assert!(PRICES.bound(input, tokens + 1) > spend, "{spend} {input}");
        }
        assert_eq!(Prices { input: 9, ..Prices::default() }.output_within(0, 5), None);
        assert_eq!(PRICES.output_within(u64::MAX, u64::MAX), Some(0));
    }

    #[test]
    fn a_sum_saturates_instead_of_wrapping() {
        let dear = Prices { input: u64::MAX, output: u64::MAX, request: u64::MAX, ..Prices::default() };
        assert_eq!(dear.of(&Classes { input: u64::MAX, output: u64::MAX, ..Classes::default() }), MOST);
        assert_eq!(dear.bound(u64::MAX, u64::MAX), MOST, "a bound is never below a price");
    }

    fn special() -> Special {
        let media =
            MediaRates { image_input: 500_000_000, audio_input: 2_000_000_000, image_output: 9, audio_output: 7 };
        let rates = Rates {
            input: 600_000_000,
            cached_input: 300_000_000,
            cache_write: 600_000_000,
            output: 2_400_000_000,
            reasoning: 1_200_000_000,
            media: MediaRates::of_text(600_000_000, 2_400_000_000),
        };
        let mut special = Special { media, above: Some(Above { tokens: 1_000, rates }), ..Special::plain(0, 0) };
        special.factors[ServiceTier::Flex as usize] = 500_000;
        special.factors[ServiceTier::Priority as usize] = 2_500_000;
        special
    }

    #[test]
    fn a_long_input_prices_the_whole_call() {
        let prices = PRICES.with(special());
        let tokens = Classes { input: 900, cached_input: 100, output: 10, reasoning: 1, ..Classes::default() };
        assert_eq!(prices.of(&tokens), PRICES.of(&tokens), "as many tokens as the length");
        let longer = Classes { cache_write: 1, ..tokens };
        assert_eq!(prices.of(&longer), 100_000 + 900 * 600 + 100 * 300 + 600 + 10 * 2_400 + 1_200);
    }

    #[test]
    fn images_and_audio_have_prices_of_their_own() {
        let prices = PRICES.with(special());
        let media = Media { image_input: 10, audio_input: 5, image_output: 1, audio_output: 2 };
        let tokens = Classes { input: 100, cached_input: 50, output: 20, media, ..Classes::default() };
        let wanted = 100_000_u64 + 85 * 300 + 10 * 500 + 5 * 2_000 + 50 * 150 + 17 * 1_200;
        assert_eq!(prices.of(&tokens), wanted + 1, "and 9 + 14 millionths, rounded up");
        let more = Media { image_input: 80, audio_input: 80, ..Media::default() };
        let tokens = Classes { input: 100, cached_input: 50, media: more, ..Classes::default() };
        assert_eq!(prices.of(&tokens), 100_000 + 80 * 500 + 20 * 2_000 + 50 * 150, "no more than the class has");
        assert_eq!(PRICES.of(&tokens), 100_000 + 100 * 300 + 50 * 150, "as text where they have no price");
    }

    #[test]
    fn a_service_tier_multiplies_the_whole_price() {
        let prices = PRICES.with(special());
        let of = |service| prices.of(&Classes { input: 1, output: 1, service, ..Classes::default() });
        for (service, wanted) in [
            (ServiceTier::Unsaid, 101_500),
            (ServiceTier::Default, 101_500),
            (ServiceTier::Flex, 50_750),
            (ServiceTier::Priority, 253_750),
        ] {
            assert_eq!(of(service), wanted, "{service:?}");
        }
        let free = Special { factors: [0; SERVICE_TIERS.len() + 1], ..special() };
        let mut free = PRICES.with(free);
        assert_eq!(free.of(&Classes { input: 1, ..Classes::default() }), 0);
        free.request = 0;
        assert_eq!((free.bound(9, 9), free.output_within(0, 9)), (0, None), "a factor of 0 is no division by it");
    }

    #[test]
    fn equal_prices_have_equal_versions_and_others_do_not() {
        assert_eq!(PRICES.with(Special::plain(PRICES.input, PRICES.output)), PRICES);
        let media = MediaRates::of_text(PRICES.input, PRICES.output);
        let same = Above { tokens: 7, rates: PRICES.rates(media) };
        let unchanged = Special { above: Some(same), ..Special::plain(PRICES.input, PRICES.output) };
        assert_eq!(PRICES.with(unchanged).version(), PRICES.version());
        let base = special();
        let mut others = vec![Special { above: None, ..base }];
        for at in 0..9 {
            let mut other = base;
            other.factors[at] += 1;
            others.push(other);
        }
        for tokens in [999, 1_001] {
            others.push(Special { above: base.above.map(|above| Above { tokens, ..above }), ..base });
        }
        let audio = MediaRates { audio_output: 8, ..base.media };
        others.push(Special { media: audio, ..base });
        let mut versions: Vec<u64> = others.into_iter().map(|special| PRICES.with(special).version()).collect();
        versions.extend([PRICES.version(), PRICES.with(base).version()]);
        versions.sort_unstable();
        let count = versions.len();
        versions.dedup();
        assert_eq!(versions.len(), count);
    }

    proptest! {
        #[test]
        fn a_bound_covers_every_call_within_it_in_every_service_tier(
            rates in prop::array::uniform9(0_u64..3_000_000_000), above in prop::array::uniform9(0_u64..3_000_000_000),
            length in prop::option::of(0_u64..300), factors in prop::array::uniform9(0_u32..3_000_000), request in 0_u64..1_000,
            classes in prop::array::uniform5(0_u64..90), media in prop::array::uniform4(0_u32..100), service in 0_u8..9,
            more in prop::array::uniform2(0_u64..200),
        ) {
            let prices = drawn(rates, length.map(|tokens| (tokens, above)), factors, request);
            let [input, cached_input, cache_write, output, reasoning] = classes;
            let [image_input, audio_input, image_output, audio_output] = media;
            let media = Media { image_input, audio_input, image_output, audio_output };
            let service = ServiceTier::of_number(service);
            let tokens = Classes { input, cached_input, cache_write, output, reasoning, media, service };
            let (most_in, most_out) = (tokens.all_input() + more[0], tokens.all_output() + more[1]);
            prop_assert!(prices.of(&tokens) <= prices.bound(most_in, most_out));
            prop_assert_eq!(prices.clone().with(prices.special.as_deref().copied().unwrap_or_else(|| Special::plain(rates[0], rates[3]))), prices);
        }

        #[test]
        fn output_within_a_spend_is_exact_with_special_prices(
            rates in prop::array::uniform9(0_u64..3_000_000_000), above in prop::array::uniform9(0_u64..3_000_000_000),
            length in prop::option::of(0_u64..300), factors in prop::array::uniform9(0_u32..3_000_000), request in 0_u64..1_000,
            input in 0_u64..600, spend in 0_u64..2_000_000,
        ) {
            let prices = drawn(rates, length.map(|tokens| (tokens, above)), factors, request);
            match prices.output_within(spend, input) {
                None => prop_assert_eq!(prices.bound(input, 0), prices.bound(input, u64::MAX)),
                Some(tokens) => {
                    prop_assert!(tokens == 0 || prices.bound(input, tokens) <= spend);
                    prop_assert!(prices.bound(input, tokens + 1) > spend);
                }
            }
        }
    }

    fn drawn(rates: [u64; 9], above: Option<(u64, [u64; 9])>, factors: [u32; 9], request: u64) -> Prices {
        let of = |words: [u64; 9]| {
            let [input, cached_input, cache_write, output, reasoning, ..] = words;
            let [.., image_input, audio_input, image_output, audio_output] = words;
            let media = MediaRates { image_input, audio_input, image_output, audio_output };
            Rates { input, cached_input, cache_write, output, reasoning, media }
        };
        let Rates { input, cached_input, cache_write, output, reasoning, media } = of(rates);
        let mut factors = factors;
        factors[0] = WHOLE;
        let above = above.map(|(tokens, rates)| Above { tokens, rates: of(rates) });
        let base = Prices { input, cached_input, cache_write, output, reasoning, request, special: None };
        base.with(Special { media, above, factors })
    }
}
