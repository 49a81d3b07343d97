//! Prices and costs: what tokens of each class and a request are worth, in integer nano-dollars.
//!
//! In: a tier's `price` or a model's `cost`, compiled. Out: the spend of counted tokens, and the dearest price that a token of
//! the input or of the output can have, which bounds a spend before it is known. Sums are exact and round up once, to a whole
//! nano-dollar, so that a budget never pays less than it was charged. It decides nothing about limits.

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
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
}

/// Tokens of one call by class. No token is in two classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Classes {
    /// Input tokens that no cache had or kept.
    pub input: u64,
    /// Input tokens that a cache had.
    pub cached_input: u64,
    /// Input tokens that a cache kept.
    pub cache_write: u64,
    /// Output tokens without those of reasoning.
    pub output: u64,
    /// Output tokens of reasoning.
    pub reasoning: u64,
}

impl Classes {
    /// All tokens of the input.
    pub fn all_input(&self) -> u64 {
        self.input.saturating_add(self.cached_input).saturating_add(self.cache_write)
    }

    /// All tokens of the output.
    pub fn all_output(&self) -> u64 {
        self.output.saturating_add(self.reasoning)
    }

    /// Whether no class has a token.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Prices {
    /// A number of these prices: equal prices have equal numbers, others almost surely do not. 0 is none. It is in ledgers for ever.
    pub fn version(&self) -> u64 {
        let Self { input, cached_input, cache_write, output, reasoning, request } = *self;
        let mixed = [input, cached_input, cache_write, output, reasoning, request].iter().fold(SEED, |sum, word| {
            let mixed = (sum ^ word).wrapping_mul(MIX);
            mixed ^ mixed >> 29
        });
        // Databases have signed integers.
        (mixed >> 1).max(1)
    }

    /// Nano-dollars of one request with these tokens, rounded up; `u64::MAX` where the sum is above it.
    pub fn of(&self, tokens: &Classes) -> u64 {
        let Classes { input, cached_input, cache_write, output, reasoning } = *tokens;
        self.sum([
            (input, self.input),
            (cached_input, self.cached_input),
            (cache_write, self.cache_write),
            (output, self.output),
            (reasoning, self.reasoning),
        ])
    }

    /// The most nano-dollars that one request with so many tokens can be worth, whatever their classes turn out to be.
    pub fn bound(&self, input: u64, output: u64) -> u64 {
        self.sum([(input, self.dearest_input()), (output, self.dearest_output())])
    }

    /// The most output tokens that a spend can pay behind so many input tokens, whatever their classes; `None`: any number.
    pub fn output_within(&self, spend: u64, input: u64) -> Option<u64> {
        let price = u128::from(self.dearest_output());
        let left = u128::from(spend.saturating_sub(self.request)) * PER;
        let left = left.saturating_sub(u128::from(input) * u128::from(self.dearest_input()));
        left.checked_div(price).map(|tokens| u64::try_from(tokens).unwrap_or(u64::MAX))
    }

    /// Nano-dollars of a million input tokens of the dearest class.
    pub fn dearest_input(&self) -> u64 {
        self.input.max(self.cached_input).max(self.cache_write)
    }

    /// Nano-dollars of a million output tokens of the dearest class.
    pub fn dearest_output(&self) -> u64 {
        self.output.max(self.reasoning)
    }

    fn sum<const N: usize>(&self, parts: [(u64, u64); N]) -> u64 {
        let mut sum = 0_u128;
        for (tokens, price) in parts {
            sum = sum.saturating_add(u128::from(tokens) * u128::from(price));
        }
        u64::try_from(sum.div_ceil(PER)).unwrap_or(u64::MAX).saturating_add(self.request)
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
};

#[cfg(test)]
mod tests {
    use super::*;

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
        let tokens = Classes { input: 12, cached_input: 100, cache_write: 8, output: 16, reasoning: 5 };
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
        assert_eq!(dear.of(&Classes { input: u64::MAX, output: u64::MAX, ..Classes::default() }), u64::MAX);
    }
}
