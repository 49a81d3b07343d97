//! The tokens and the price of a call, as its caller reads them.
//!
//! In: the usage of an answer, and the prices of the caller's tier. Out: two headers for a plain answer, a member `aigw` for the
//! chunk of a stream that has the usage. Both say the same numbers: tokens in disjoint classes, and the price where
//! the tier has prices. An answer without usage gets neither.

use std::fmt::Write as _;

use crate::price::{Classes, dollars};
use crate::request::Header;

/// The headers of a plain answer with this usage and price (nano-dollars).
pub fn headers(usage: &Classes, price: Option<u64>, out: &mut Vec<Header>) {
    let Classes { input, cached_input, cache_write, output, reasoning, .. } = *usage;
    let classes = [
        ("input=", input),
        (", cached_input=", cached_input),
        (", cache_write=", cache_write),
        (", output=", output),
        (", reasoning=", reasoning),
    ];
    let mut tokens = String::with_capacity(96);
    let mut number = itoa::Buffer::new();
    for (class, count) in classes {
        tokens.push_str(class);
        tokens.push_str(number.format(count));
    }
    out.push(("x-aigw-tokens", tokens.into()));
    if let Some(price) = price {
        out.push(("x-aigw-price", dollars(price).into()));
    }
}

/// The value of the member `aigw` of a chunk with this usage and price (nano-dollars).
pub(super) fn member(usage: &Classes, price: Option<u64>) -> String {
    let Classes { input, cached_input, cache_write, output, reasoning, .. } = usage;
    let mut text = String::from("{");
    if let Some(price) = price {
        // Writing to a String cannot fail.
        let _ = write!(text, "\"price_nanodollars\":{price},");
    }
    let _ = write!(
        text,
        "\"tokens\":{{\"input\":{input},\"cached_input\":{cached_input},\"cache_write\":{cache_write},\
         \"output\":{output},\"reasoning\":{reasoning}}}}}"
    );
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::price::{Media, Prices, ServiceTier};
    use serde_json::{Value, json};

    const USAGE: Classes = Classes {
        input: 12,
        cached_input: 4,
        cache_write: 3,
        output: 16,
        reasoning: 2,
        media: Media { image_input: 0, audio_input: 0, image_output: 0, audio_output: 0 },
        service: ServiceTier::Unsaid,
    };
    const PRICES: Prices = Prices {
        input: 500_000_000,
        cached_input: 250_000_000,
        cache_write: 1_000_000_000,
        output: 1_000_000_000,
        reasoning: 1_000_000_000,
        request: 1_000,
        special: None,
    };

    #[test]
    fn headers_and_member_say_the_same_numbers() {
        let price = PRICES.of(&USAGE);
        assert_eq!(price, 6_000 + 1_000 + 3_000 + 16_000 + 2_000 + 1_000);
        let mut own = Vec::new();
        headers(&USAGE, Some(price), &mut own);
        let told: Vec<_> = own.iter().map(|(name, value)| (*name, &**value)).collect();
        let tokens = "input=12, cached_input=4, cache_write=3, output=16, reasoning=2";
        assert_eq!(told, [("x-aigw-tokens", tokens), ("x-aigw-price", "0.000029")]);
        let chunk: Value = serde_json::from_str(&member(&USAGE, Some(price))).unwrap();
        let classes = json!({"input": 12, "cached_input": 4, "cache_write": 3, "output": 16, "reasoning": 2});
        assert_eq!(chunk, json!({"price_nanodollars": price, "tokens": classes}));
    }

    #[test]
    fn a_tier_without_prices_tells_no_price() {
        let mut own = Vec::new();
        headers(&USAGE, None, &mut own);
        assert_eq!(own.len(), 1);
        assert!(!member(&USAGE, None).contains("price"));
    }
}
