//! The gates of a tier: model, features and parameters of a request.
//!
//! In: a tier, a model, the deciding words of a body. Out: nothing, or a refusal that names the lacking permission. Gates
//! take nothing and are asked after the look at the windows: an exhausted window wins over a model that is not allowed.

use crate::accept::openai::Asked;
use crate::refusal::{Reason, Refusal};
use crate::snapshot::{Model, Tier};

/// Whether the tier may call the model at all.
pub fn model(tier: &Tier, model: &Model) -> Result<(), Refusal> {
    let refused = |reason, message: String| Err(Refusal::because(reason, message).about("model"));
    if !tier.models.hold(&model.name) {
        let message = format!("The model '{}' is not in your tier '{}'.", model.name, tier.name);
        return refused(Reason::ModelNotAllowed, message);
    }
    match model.features.iter().find(|feature| !tier.features.hold(feature)) {
        None => Ok(()),
        Some(feature) => {
            let message = format!(
                "The model '{}' needs the feature '{feature}', which is not in your tier '{}'.",
                model.name, tier.name
            );
            refused(Reason::FeatureNotInTier, message)
        }
    }
}

/// Whether the tier may use the parameters.
pub fn parameters(tier: &Tier, asked: &Asked) -> Result<(), Refusal> {
    let allowed = tier.parameters;
    let switches = [
        ("tools", asked.tools, allowed.tools),
        ("logprobs", asked.logprobs, allowed.logprobs),
        ("stream", asked.stream, allowed.stream),
        ("response_format", asked.response_format, allowed.response_format),
        ("reasoning_effort", asked.reasoning_effort, allowed.reasoning_effort),
    ];
    if let Some((param, ..)) = switches.into_iter().find(|&(_, wanted, allowed)| wanted && !allowed) {
        let message = format!("The parameter '{param}' is not in your tier '{}'.", tier.name);
        return Err(Refusal::because(Reason::FeatureNotInTier, message).about(param));
    }
    match allowed.n {
        Some(most) if asked.choices > most => {
            let mut message = format!("Your tier '{}' allows at most {most} choices per request.", tier.name);
            let param = if asked.prompts > 1 { "prompt" } else { "n" };
            if asked.prompts > 1 {
                message.push_str(" Each prompt makes its own.");
            }
            Err(Refusal::because(Reason::FeatureNotInTier, message).about(param))
        }
        _ => Ok(()),
    }
}
