//! Tiers in compiled form, and the offer: all tiers and models.
//!
//! Out: an [`Offer`], found by row number or by name. Every reference was checked (see `compile_tiers`). It decides
//! nothing: gates are `admit::gate`'s, limits `admit`'s.

use std::collections::HashMap;

use super::model::{Model, Timeouts};
use crate::limits::Limit;
use crate::price::Prices;
use crate::snapshot::uuid::Uuid;

/// All tiers and models of one generation.
#[derive(Debug, Default)]
pub struct Offer {
    /// In the order of the file.
    pub tiers: Vec<Tier>,
    /// In the order of the file.
    pub models: Vec<Model>,
    /// Index of the tier of consumers that have none.
    pub default_tier: Option<usize>,
    pub(super) tier_by_n: HashMap<u32, usize>,
    pub(super) model_by_name: HashMap<Box<str>, usize>,
}

impl Offer {
    /// The tier of a consumer whose record says `n` (0: none), with its index.
    pub fn tier(&self, n: u32) -> Option<(usize, &Tier)> {
        let index = if n == 0 { self.default_tier? } else { *self.tier_by_n.get(&n)? };
        Some((index, self.tiers.get(index)?))
    }

    /// The model of this public name, with its index.
    pub fn model(&self, name: &str) -> Option<(usize, &Model)> {
        let index = *self.model_by_name.get(name)?;
        Some((index, self.models.get(index)?))
    }

    /// Number of a model's upstream in the ledger and in metrics, by their indices; `None` where it has none.
    pub fn upstream_number(&self, model: usize, upstream: usize) -> Option<u32> {
        let number = self.models.get(model)?.upstreams.get(upstream)?.number;
        (number > 0).then_some(number)
    }
}

/// One tier.
#[derive(Debug, Clone, PartialEq)]
pub struct Tier {
    /// Row number.
    pub n: u32,
    /// Entity id.
    pub id: Uuid,
    /// Name.
    pub name: Box<str>,
    /// Shortest period first within each kind.
    pub limits: Box<[TierLimit]>,
    /// Number of the set of columns that its limits count in; 0 for none.
    pub limit_set: u32,
    /// Features whose models may be called.
    pub features: Patterns,
    /// Models that may be called.
    pub models: Patterns,
    /// The parameters that requests may use.
    pub parameters: Parameters,
    /// Most bytes of a request's body on `/v1`.
    pub prompt_max_bytes: Option<u64>,
    /// Most bytes of a body on Kong's routes.
    pub route_max_bytes: Option<u64>,
    /// Most input tokens of a call.
    pub prompt_max_tokens: Option<u32>,
    /// Most output tokens per choice.
    pub output_max_tokens: Option<u32>,
    /// Most nano-dollars that one call may reserve.
    pub request_max_spend: Option<u64>,
    /// The consumer's prices; `None`: calls have no price.
    pub price: Option<Prices>,
    /// Answers end when the entry of their call survives a loss of power.
    pub strict: bool,
    /// The bounds of calls of models.
    pub timeouts: Timeouts,
}

impl Tier {
    /// Whether it bounds the tokens or the price of one call: then each call is counted.
    pub fn has_ceilings(&self) -> bool {
        self.prompt_max_tokens.is_some() || self.request_max_spend.is_some()
    }
}

/// The scope of a tier's limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// The consumer.
    Consumer,
    /// Each of its credentials.
    Credential,
    /// Each address it calls from.
    Ip,
    /// Each model it calls.
    Model,
}

impl Subject {
    /// The scope's name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Credential => "credential",
            Self::Ip => "ip",
            Self::Model => "model",
        }
    }
}

/// One limit of a tier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierLimit {
    /// Its kind and its numbers.
    pub limit: Limit,
    /// The scope of its counters.
    pub subject: Subject,
    /// Counted, never refused.
    pub shadow: bool,
    /// Its column; by index of the model for [`Subject::Model`], else one.
    pub columns: Box<[u32]>,
}

/// The parameters that requests may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // one for each parameter
pub struct Parameters {
    /// Tools and functions.
    pub tools: bool,
    /// Most choices per request.
    pub n: Option<u32>,
    /// Log probabilities.
    pub logprobs: bool,
    /// Streamed answers.
    pub stream: bool,
    /// Structured output.
    pub response_format: bool,
    /// Choosing how much the model reasons.
    pub reasoning_effort: bool,
}

/// Names, where `*` stands for any characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patterns(pub(super) Box<[Box<str>]>);

impl Patterns {
    /// Whether one of them matches this name.
    pub fn hold(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| holds(pattern, name))
    }
}

/// Matches each part between two `*` as early as possible; linear in name times parts.
fn holds(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or("");
    let Some(mut rest) = name.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        for (pattern, name, wanted) in [
            ("*", "", true),
            ("*", "gpt", true),
            ("gpt", "gpt", true),
            ("gpt", "gpt-4", false),
            ("gpt-*", "gpt-4", true),
            ("gpt-*", "gpt", false),
            ("*-mini", "gpt-4-mini", true),
            ("*-mini", "gpt-4-mini-x", false),
            ("a*b*c", "abc", true),
            ("a*b*c", "axbxbxc", true),
            ("a*b*c", "acb", false),
            ("a*a", "a", false),
            ("*a*", "bab", true),
            ("**", "x", true),
        ] {
            assert_eq!(holds(pattern, name), wanted, "{pattern} {name}");
        }
    }
}
