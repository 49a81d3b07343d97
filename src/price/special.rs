//! Prices that few lists have: of images and audio, above a length of the input, by the service tier that answered.

use super::{Classes, SERVICE_TIERS, ServiceTier};

/// A factor of 1, in parts per million.
pub const WHOLE: u32 = 1_000_000;

/// Nano-dollars of a million tokens of images and audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MediaRates {
    /// Of images in the input.
    pub image_input: u64,
    /// Of audio in the input.
    pub audio_input: u64,
    /// Of images in the output.
    pub image_output: u64,
    /// Of audio in the output.
    pub audio_output: u64,
}

/// Nano-dollars of a million tokens, of each class and of images and audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rates {
    /// Of input tokens that no cache had or kept.
    pub input: u64,
    /// Of input tokens that a cache had.
    pub cached_input: u64,
    /// Of input tokens that a cache kept.
    pub cache_write: u64,
    /// Of output tokens without those of reasoning.
    pub output: u64,
    /// Of output tokens of reasoning.
    pub reasoning: u64,
    /// Of images and audio.
    pub media: MediaRates,
}

/// Prices of calls with a long input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Above {
    /// A call with more input tokens, of all classes together, has these prices for all its tokens.
    pub tokens: u64,
    /// The prices.
    pub rates: Rates,
}

/// The part of a price list that most lists leave out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Special {
    /// Of images and audio, below `above`.
    pub media: MediaRates,
    /// Of calls with a long input.
    pub above: Option<Above>,
    /// Factors on the whole price in parts per million, by the number of the service tier. That of no service tier is [`WHOLE`].
    pub factors: [u32; SERVICE_TIERS.len() + 1],
}

impl MediaRates {
    /// The prices of images and audio that have none of their own: those of the text.
    pub fn of_text(input: u64, output: u64) -> Self {
        Self { image_input: input, audio_input: input, image_output: output, audio_output: output }
    }

    fn words(&self) -> [u64; 4] {
        let Self { image_input, audio_input, image_output, audio_output } = *self;
        [image_input, audio_input, image_output, audio_output]
    }
}

impl Rates {
    /// The price of tokens, in nano-dollars times a million.
    pub(super) fn sum(&self, tokens: &Classes) -> u128 {
        let media = &tokens.media;
        let [image_input, audio_input, input] = split(tokens.input, media.image_input, media.audio_input);
        let [image_output, audio_output, output] = split(tokens.output, media.image_output, media.audio_output);
        sum([
            (input, self.input),
            (image_input, self.media.image_input),
            (audio_input, self.media.audio_input),
            (tokens.cached_input, self.cached_input),
            (tokens.cache_write, self.cache_write),
            (output, self.output),
            (image_output, self.media.image_output),
            (audio_output, self.media.audio_output),
            (tokens.reasoning, self.reasoning),
        ])
    }

    /// Of a million input tokens of the dearest class.
    pub(super) fn dearest_input(&self) -> u64 {
        let Self { input, cached_input, cache_write, media, .. } = self;
        *input.max(cached_input).max(cache_write).max(&media.image_input).max(&media.audio_input)
    }

    /// Of a million output tokens of the dearest class.
    pub(super) fn dearest_output(&self) -> u64 {
        let Self { output, reasoning, media, .. } = self;
        *output.max(reasoning).max(&media.image_output).max(&media.audio_output)
    }

    fn words(&self) -> [u64; 9] {
        let Self { input, cached_input, cache_write, output, reasoning, media } = *self;
        let [image_input, audio_input, image_output, audio_output] = media.words();
        [input, cached_input, cache_write, output, reasoning, image_input, audio_input, image_output, audio_output]
    }
}

impl Special {
    /// One that changes nothing about a list with these prices of text.
    pub fn plain(input: u64, output: u64) -> Self {
        Self { media: MediaRates::of_text(input, output), above: None, factors: [WHOLE; SERVICE_TIERS.len() + 1] }
    }

    /// The factor of a service tier, in parts per million.
    pub(super) fn factor(&self, service: ServiceTier) -> u32 {
        self.factors.get(service as usize).copied().unwrap_or(WHOLE)
    }

    /// The largest factor: nobody knows the service tier before the answer.
    pub(super) fn dearest_factor(&self) -> u32 {
        self.factors.iter().copied().max().unwrap_or(WHOLE)
    }

    /// As words, for the version of the prices.
    pub(super) fn words(&self) -> impl Iterator<Item = u64> {
        let above = self.above.map_or([0; 11], |Above { tokens, rates }| {
            let mut words = [1; 11];
            words[1] = tokens;
            words[2..].copy_from_slice(&rates.words());
            words
        });
        self.media.words().into_iter().chain(above).chain(self.factors.map(u64::from))
    }
}

/// The sum of tokens times prices.
pub(super) fn sum<const N: usize>(parts: [(u64, u64); N]) -> u128 {
    let product = |(tokens, price): (u64, u64)| u128::from(tokens) * u128::from(price);
    parts.into_iter().map(product).fold(0, u128::saturating_add)
}

/// Tokens of a class: images, audio, the rest.
fn split(all: u64, images: u32, audio: u32) -> [u64; 3] {
    let images = all.min(images.into());
    let audio = (all - images).min(audio.into());
    [images, audio, all - images - audio]
}
