//! The wording of a call at one target: the name of its output cap, and whether a stream's usage is asked for.
//!
//! In: the model's settings and the facts that were learned about the target; then a refusal of the target. Out: the first
//! wording, and after a refusal of a parameter the other one. A refusal of a value (a cap that is too large) changes
//! nothing: under the other name a target could ignore the cap.

use http::StatusCode;
use memchr::memmem;

use super::caps::{Caps, Limits};
use crate::accept::openai::{Asked, Endpoint};
use crate::balance::Learned;
use crate::snapshot::{CapParameter, Model, StreamUsage};

/// The parts of a request's body that depend on the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wording {
    /// The name of the output cap; `Auto`: the caller's.
    pub cap: CapParameter,
    /// A stream is asked for its usage; else `stream_options` are left out.
    pub usage: bool,
}

/// Bytes of a refusal that are searched for the name of a parameter.
const SEARCHED: usize = 64 * 1024;
/// Words of refusals that are about the value of a cap, in lower case.
const OF_VALUES: [&str; 11] = [
    "too large",
    "too high",
    "too big",
    "at most",
    "maximum",
    "less than",
    "exceed",
    "must be",
    "should be",
    "out of range",
    "context window",
];

impl Wording {
    /// The first wording for a target. `/completions` knows one cap: under the other name most servers would ignore it.
    pub fn first(model: &Model, learned: &Learned, endpoint: Endpoint) -> Self {
        let cap = match model.cap_parameter {
            CapParameter::Auto if endpoint == Endpoint::Completions => CapParameter::MaxTokens,
            CapParameter::Auto => learned.cap(),
            name => name,
        };
        let usage = match model.stream_usage {
            StreamUsage::Always => true,
            StreamUsage::Never => false,
            StreamUsage::Auto => learned.takes_usage() != Some(false),
        };
        Self { cap, usage }
    }

    /// Whether a refusal may change it.
    pub fn may_change(self, model: &Model, sent: Sent<'_>) -> bool {
        let usage = model.stream_usage == StreamUsage::Auto && self.usage && sent.has_usage();
        usage || (self.cap == CapParameter::Auto && sent.caps(self.cap) != Caps::default())
    }

    /// The wording after a refusal with this body; `None`: the refusal is about something else.
    pub fn after(
        self,
        model: &Model,
        learned: &Learned,
        sent: Sent<'_>,
        status: StatusCode,
        body: &[u8],
    ) -> Option<Self> {
        let body = &body[..body.len().min(SEARCHED)];
        let names = |name: &str| memmem::find(body, name.as_bytes()).is_some();
        if self.usage && sent.has_usage() && model.stream_usage == StreamUsage::Auto {
            let named = names("stream_options") || names("include_usage");
            // A target that took it before would name it; one that is new may refuse without a word.
            let unsaid = learned.takes_usage().is_none() && matches!(status.as_u16(), 400 | 422);
            if named || (unsaid && !names("max_tokens") && !names("max_completion_tokens")) {
                return Some(Self { usage: false, ..self });
            }
        }
        if self.cap != CapParameter::Auto || is_of_value(body) {
            return None;
        }
        let caps = sent.caps(self.cap);
        if caps.max_tokens.is_some() && names("max_tokens") {
            return Some(Self { cap: CapParameter::MaxCompletionTokens, ..self });
        }
        let newer = caps.max_completion_tokens.is_some() && names("max_completion_tokens");
        newer.then_some(Self { cap: CapParameter::MaxTokens, ..self })
    }
}

/// The parts of a call that decide which parameters its body has.
#[derive(Debug, Clone, Copy)]
pub struct Sent<'a> {
    /// The endpoint that was called.
    pub endpoint: Endpoint,
    /// The deciding words of the caller's body.
    pub asked: &'a Asked,
    /// The bounds of the output.
    pub limits: Limits,
}

impl Sent<'_> {
    fn has_usage(self) -> bool {
        self.endpoint.generates() && self.asked.stream
    }

    fn caps(self, name: CapParameter) -> Caps {
        if self.endpoint.generates() { Caps::new(self.asked, self.limits, name) } else { Caps::default() }
    }
}

/// Whether an answer with this status may be the refusal of a parameter: a 4xx that is not about the key, the time or the rate.
pub fn is_refusal(status: StatusCode) -> bool {
    status.is_client_error() && !matches!(status.as_u16(), 401 | 402 | 403 | 407 | 408 | 429)
}

/// Whether a refusal is about the value of a parameter.
fn is_of_value(body: &[u8]) -> bool {
    let text = body.to_ascii_lowercase();
    OF_VALUES.iter().any(|words| memmem::find(&text, words.as_bytes()).is_some())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::accept::openai::read;
    use crate::snapshot::policy::{InputBounds, Template, Tokenizer};
    use crate::snapshot::{FailoverOn, Timeouts, Uuid};

    fn model(stream_usage: StreamUsage, cap_parameter: CapParameter) -> Model {
        Model {
            n: 1,
            id: Uuid::from_bytes([0; 16]),
            name: "m".into(),
            features: Box::default(),
            max_output_tokens: None,
            created_at: 0,
            stream_usage,
            cap_parameter,
            failover_on: FailoverOn { connect: true, statuses: Box::default() },
            timeouts: Timeouts::default(),
            stream_ping_ms: None,
            tokenizer: Tokenizer::default(),
            template: Template::default(),
            input_bounds: InputBounds::default(),
            cost: None,
            upstreams: Box::default(),
        }
    }

    /// The wording after a refusal of the first one.
    fn after(model: &Model, learned: &Learned, members: &str, status: u16, refusal: &str) -> Option<Wording> {
        let body = format!("{{\"model\":\"m\",\"messages\":[1]{members}}}");
        let asked = read(Endpoint::Chat, body.as_bytes()).unwrap();
        let sent = Sent { endpoint: Endpoint::Chat, asked: &asked, limits: Limits { tier: Some(5), model: None } };
        let status = StatusCode::from_u16(status).unwrap();
        assert!(is_refusal(status));
        Wording::first(model, learned, Endpoint::Chat).after(model, learned, sent, status, refusal.as_bytes())
    }

    #[test]
    fn refused_usage_is_left_out() {
        let auto = model(StreamUsage::Auto, CapParameter::None);
        let without = Some(Wording { cap: CapParameter::None, usage: false });
        let (stream, named) = (",\"stream\":true", "{\"loc\":[\"body\",\"stream_options\"]}");
        let unknown = Learned::default();
        for (status, refusal, wanted) in [
            (422, named, without),
            (400, named, without),
            (418, named, without),
            (400, "bad request", without),
            (400, "", without),
            (404, "no such model", None),
            (413, "too large", None),
        ] {
            assert_eq!(after(&auto, &unknown, stream, status, refusal), wanted, "{status} {refusal}");
        }
        assert_eq!(after(&auto, &unknown, "", 422, named), None, "no stream was asked for");
        unknown.set_takes_usage(true);
        assert_eq!(after(&auto, &unknown, stream, 400, "bad request"), None, "it took them before");
        assert_eq!(after(&auto, &unknown, stream, 400, named), without, "it says so");
        for fixed in [StreamUsage::Always, StreamUsage::Never] {
            assert_eq!(after(&model(fixed, CapParameter::None), &Learned::default(), stream, 422, named), None);
        }
        unknown.set_takes_usage(false);
        assert!(!Wording::first(&auto, &unknown, Endpoint::Chat).usage);
        assert!(Wording::first(&model(StreamUsage::Always, CapParameter::Auto), &unknown, Endpoint::Chat).usage);
    }

    #[test]
    fn refused_cap_gets_its_other_name() {
        let auto = model(StreamUsage::Never, CapParameter::Auto);
        let name = |members: &str, refusal: &str| {
            after(&auto, &Learned::default(), members, 400, refusal).map(|wording| wording.cap)
        };
        let newer = Some(CapParameter::MaxCompletionTokens);
        for (members, refusal, wanted) in [
            ("", "Unsupported parameter: 'max_tokens' is not supported. Use 'max_completion_tokens' instead.", newer),
            (",\"max_tokens\":3", "Unsupported parameter: max_tokens", newer),
            ("", "Extra inputs are not permitted: max_tokens", newer),
            ("", "max_tokens is too large: 5. This model supports at most 3 tokens", None),
            ("", "max_tokens must be below the context window", None),
            ("", "bad request", None),
            (",\"max_completion_tokens\":3", "unknown field max_completion_tokens", Some(CapParameter::MaxTokens)),
            (",\"max_completion_tokens\":3", "unknown field max_tokens", None),
            (
                ",\"max_tokens\":3,\"max_completion_tokens\":3",
                "unknown field max_completion_tokens",
                Some(CapParameter::MaxTokens),
            ),
        ] {
            assert_eq!(name(members, refusal), wanted, "{members} {refusal}");
        }
        let refusal = "Unsupported parameter: max_tokens";
        for fixed in [CapParameter::MaxTokens, CapParameter::MaxCompletionTokens, CapParameter::None] {
            assert_eq!(after(&model(StreamUsage::Never, fixed), &Learned::default(), "", 400, refusal), None);
        }
        let learned = Learned::default();
        learned.set_cap(CapParameter::MaxCompletionTokens);
        let first = |model: &Model, endpoint| Wording::first(model, &learned, endpoint).cap;
        assert_eq!(first(&auto, Endpoint::Chat), CapParameter::MaxCompletionTokens);
        assert_eq!(first(&auto, Endpoint::Completions), CapParameter::MaxTokens);
        let fixed = model(StreamUsage::Never, CapParameter::MaxCompletionTokens);
        assert_eq!(first(&fixed, Endpoint::Completions), CapParameter::MaxCompletionTokens, "the operator says so");
        assert_eq!(after(&auto, &learned, "", 400, refusal), None, "it was asked under the other name");
        for status in [401, 402, 403, 408, 429, 500, 200] {
            assert!(!is_refusal(StatusCode::from_u16(status).unwrap()), "{status}");
        }
    }
}
