//! The parts of the policy's JSON that services, models and tiers share.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};

/// An optional value whose key must be present.
pub(super) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Protocol {
    Http,
    Https,
}

/// Nano-dollars, of a million tokens each and of one request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Prices {
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub request: u64,
    /// Policies of before have none.
    #[serde(default)]
    pub special: Option<Special>,
}

/// Nano-dollars of a million tokens of images and audio.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_field_names)] // the names of the file
pub(super) struct Media {
    pub image_input: u64,
    pub audio_input: u64,
    pub image_output: u64,
    pub audio_output: u64,
}

/// Prices of calls with more input tokens than `tokens`.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Above {
    pub tokens: u64,
    pub input: u64,
    pub cached_input: u64,
    pub cache_write: u64,
    pub output: u64,
    pub reasoning: u64,
    pub media: Media,
}

/// The part of prices that most have not.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Special {
    pub media: Media,
    #[serde(deserialize_with = "present")]
    pub above: Option<Above>,
    /// Factors in parts per million, by the name of the service tier.
    pub service_tiers: BTreeMap<String, u32>,
}
