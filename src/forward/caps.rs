//! The output caps of a call: the caller's, lowered to the limits of tier and model, under the name that the target takes.

use crate::accept::openai::{Asked, Cap};
use crate::snapshot::CapParameter;

/// The most output tokens per choice.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// Of the tier.
    pub tier: Option<u32>,
    /// Of the model.
    pub model: Option<u32>,
}

impl Limits {
    /// The smaller one; `None` without a limit.
    pub fn smaller(self) -> Option<u32> {
        self.tier.into_iter().chain(self.model).min()
    }
}

/// The output caps that a body has; `None`: not this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// `max_tokens`.
    pub max_tokens: Option<u32>,
    /// `max_completion_tokens`.
    pub max_completion_tokens: Option<u32>,
}

impl Caps {
    /// The caps to send. A caller's larger cap is lowered to the limits. A body without a cap gets the tier's; the upstream
    /// knows the model's. A cap that says "no cap" (null, -1) gets the limits, whichever there are.
    pub fn new(asked: &Asked, limits: Limits, name: CapParameter) -> Self {
        let most = limits.smaller();
        let low = |cap: &Option<Cap>| {
            let tokens = cap.as_ref().and_then(|cap| cap.tokens);
            tokens.map(|tokens| most.map_or(tokens, |most| most.min(tokens)))
        };
        let given =
            Self { max_tokens: low(&asked.max_tokens), max_completion_tokens: low(&asked.max_completion_tokens) };
        let tightest = given.max_tokens.into_iter().chain(given.max_completion_tokens).min();
        let unbounded = asked.max_tokens.is_some() || asked.max_completion_tokens.is_some();
        let own = if limits.tier.is_some() || unbounded { most } else { None };
        let newer_only = asked.max_tokens.is_none() && asked.max_completion_tokens.is_some();
        match name {
            // The newer name carries both: upstreams refuse a body with the two.
            CapParameter::Auto if given.max_tokens.is_some() && given.max_completion_tokens.is_some() => {
                Self { max_completion_tokens: tightest, ..Self::default() }
            }
            CapParameter::Auto if tightest.is_some() => given,
            CapParameter::Auto if newer_only => Self { max_completion_tokens: own, ..Self::default() },
            CapParameter::Auto => Self { max_tokens: own, ..Self::default() },
            CapParameter::MaxTokens => Self { max_tokens: tightest.or(own), ..Self::default() },
            CapParameter::MaxCompletionTokens => Self { max_completion_tokens: tightest.or(own), ..Self::default() },
            CapParameter::None => Self::default(),
        }
    }
}
