//! Prices and costs: what tokens of each class and a request are worth, in integer nano-dollars.
//!
//! In: a tier's `price` or a model's `cost`, compiled. Out: the spend of counted tokens, and the dearest that tokens of the input or of
//! the output can be, which bounds a spend before it is known. Sums are exact and round up once, to a whole nano-dollar, so that a budget
//! never pays less than it was charged. Prices may differ above a length of the input, for images and audio, and by the service tier
//! that answered ([`Special`]); most have none of it and pay nothing for it. Nothing here decides about limits.

mod classes;
mod prices;
pub(crate) mod service_tier;
mod special;

pub use classes::{Classes, Media};
#[cfg(test)]
pub(crate) use prices::PRICES;
pub use prices::{Prices, dollars};
pub use service_tier::{SERVICE_TIERS, ServiceTier};
pub use special::{Above, MediaRates, Rates, Special, WHOLE};
