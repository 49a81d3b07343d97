//! Models in compiled form: the servers that run them, and how each is asked.

use std::time::Duration;

use super::scheme::Scheme;
use crate::price::Prices;
use crate::snapshot::uuid::Uuid;

/// One model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Model {
    /// Row number.
    pub n: u32,
    /// Entity id.
    pub id: Uuid,
    /// Public name.
    pub name: Box<str>,
    /// Features that a tier must allow, all of them.
    pub features: Box<[Box<str>]>,
    /// Output tokens per choice that it can give.
    pub max_output_tokens: Option<u32>,
    /// Unix seconds.
    pub created_at: i64,
    /// Whether streams are asked for their usage.
    pub stream_usage: StreamUsage,
    /// The name of the output cap in requests.
    pub cap_parameter: CapParameter,
    /// The failures after which the next target is asked.
    pub failover_on: FailoverOn,
    /// The bounds of its calls.
    pub timeouts: Timeouts,
    /// Milliseconds of an upstream's silence after which the client of a stream gets a comment; `None`: never.
    pub stream_ping_ms: Option<u64>,
    /// The vocabulary that its tokens are counted by.
    pub tokenizer: Tokenizer,
    /// The tokens that its chat template adds.
    pub template: Template,
    /// The most tokens that parts of other media cost.
    pub input_bounds: InputBounds,
    /// The fleet's own prices; `None`: not known.
    pub cost: Option<Prices>,
    /// The targets that run it.
    pub upstreams: Box<[ModelUpstream]>,
}

impl Model {
    /// An upstream's silence after which the client of a stream gets a comment; `None`: never.
    pub fn stream_ping(&self) -> Option<Duration> {
        self.stream_ping_ms.map(Duration::from_millis)
    }
}

/// A vocabulary that tokens are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Tokenizer {
    /// `OpenAI`'s `o200k_base`.
    #[default]
    O200kBase,
    /// `OpenAI`'s `cl100k_base`.
    Cl100kBase,
    /// One token for each byte: no vocabulary has more.
    Bytes,
    /// A user's `tokenizer.json`.
    File {
        /// The name of its copy in the data folder: the SHA-256 of its content, in hex digits.
        name: Box<str>,
        /// The most tokens that one byte of text can become. A normalizer may lengthen texts.
        per_byte: u32,
    },
}

/// The tokens that a chat template adds to a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Template {
    /// To each message.
    pub per_message: u32,
    /// To each request.
    pub per_request: u32,
}

/// The most tokens that one part of a message costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InputBounds {
    /// An image.
    pub image: u32,
    /// A piece of audio.
    pub audio: u32,
    /// A file.
    pub file: u32,
}

/// Whether streams are asked for their usage (`stream_options`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamUsage {
    /// A target that refuses the question is asked once more without it, and remembered.
    #[default]
    Auto,
    /// Each stream is asked.
    Always,
    /// No stream is asked.
    Never,
}

/// The name of the output cap in requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CapParameter {
    /// The caller's name, else `max_tokens`; a target that refuses it is asked once more with `max_completion_tokens`.
    #[default]
    Auto,
    /// `max_tokens`.
    MaxTokens,
    /// `max_completion_tokens`.
    MaxCompletionTokens,
    /// No cap is sent.
    None,
}

/// The failures of a target after which the next one is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailoverOn {
    /// No connection, or no TLS over it.
    pub connect: bool,
    /// Statuses of answers, ascending.
    pub statuses: Box<[u16]>,
}

impl FailoverOn {
    /// Whether an answer with this status is one.
    pub fn status(&self, status: u16) -> bool {
        self.statuses.binary_search(&status).is_ok()
    }
}

/// The bounds of calls, in milliseconds; `None`: another one decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timeouts {
    /// To a connected socket.
    pub connect_ms: Option<u64>,
    /// To the answer's head.
    pub first_byte_ms: Option<u64>,
    /// Between two pieces of the answer.
    pub between_ms: Option<u64>,
    /// For the whole call.
    pub total_ms: Option<u64>,
}

/// One target of a model.
#[derive(Clone, PartialEq, Eq)]
pub struct ModelUpstream {
    /// Number of its labels in the ledger and in metrics; 0 for none.
    pub number: u32,
    /// The protocol.
    pub scheme: Scheme,
    /// Name or address.
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// Base path without a final slash; may be empty. The endpoint's path is appended.
    pub path: Box<str>,
    /// The query of the base URL, encoded, without its `?`.
    pub base_query: Box<str>,
    /// The model's name there.
    pub model: Box<str>,
    /// Share of calls; a target with 0 is asked only when the others fail.
    pub weight: u32,
    /// Its key, sealed.
    pub api_key: Option<Box<str>>,
    /// The header that carries the key.
    pub auth_header: Box<str>,
    /// The word before the key; empty: the bare key.
    pub auth_scheme: Box<str>,
    /// Headers of every call.
    pub headers: Box<[Pair]>,
    /// Arguments of every call's query.
    pub query: Box<[Pair]>,
    /// The side of TLS.
    pub tls: UpstreamTls,
}

/// A name and its value.
#[derive(Clone, PartialEq, Eq)]
pub struct Pair {
    /// The name, not encoded.
    pub name: Box<str>,
    /// The value, not encoded, or sealed.
    pub value: Box<str>,
    /// The value is sealed.
    pub sealed: bool,
}

/// How a target is greeted by TLS. The contents of the PEM files are sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamTls {
    /// Check its certificate.
    pub verify: bool,
    /// The name in its certificate; `None`: its host.
    pub server_name: Option<Box<str>>,
    /// The authorities that its certificate is checked by; `None`: the system's.
    pub ca: Option<Box<str>>,
    /// The gateway's own certificate and its chain.
    pub cert: Option<Box<str>>,
    /// The key of `cert`.
    pub key: Option<Box<str>>,
}

impl std::fmt::Debug for ModelUpstream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ModelUpstream({:?} {}:{}{} {})", self.scheme, self.host, self.port, self.path, self.model)
    }
}
