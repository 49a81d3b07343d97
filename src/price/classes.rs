//! The tokens of one call, as prices see them.

use super::ServiceTier;

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
    /// Tokens of `input` and `output` that are images or audio.
    pub media: Media,
    /// The service tier that the answer names.
    pub service: ServiceTier,
}

/// Tokens of images and audio. They are part of the classes `input` and `output`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Media {
    /// Of images in the input.
    pub image_input: u32,
    /// Of audio in the input.
    pub audio_input: u32,
    /// Of images in the output.
    pub image_output: u32,
    /// Of audio in the output.
    pub audio_output: u32,
}

impl Media {
    /// The same within classes of so many tokens: no more than they have. Usage does not say which tokens a cache had, or were reasoning.
    #[must_use]
    pub fn within(self, input: u64, output: u64) -> Self {
        let split = |class: u64, image: u32, audio: u32| {
            let class = u32::try_from(class).unwrap_or(u32::MAX);
            let image = image.min(class);
            (image, audio.min(class - image))
        };
        let (image_input, audio_input) = split(input, self.image_input, self.audio_input);
        let (image_output, audio_output) = split(output, self.image_output, self.audio_output);
        Self { image_input, audio_input, image_output, audio_output }
    }
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

    /// The same tokens of a call that generates nothing: those that its usage has as output are input, too.
    #[must_use]
    pub fn of_reading(self) -> Self {
        let media = Media { image_output: 0, audio_output: 0, ..self.media };
        Self { input: self.input.saturating_add(self.all_output()), output: 0, reasoning: 0, media, ..self }
    }

    /// Whether no class has a token.
    pub fn is_empty(&self) -> bool {
        self.all_input() == 0 && self.all_output() == 0
    }

    /// The same tokens, served in this tier, where the answer names it.
    #[must_use]
    pub fn served_in(self, service: ServiceTier) -> Self {
        Self { service: service.or(self.service), ..self }
    }
}
