//! The part of the policy's JSON that describes models. Keys with a default came after the first version.

use serde::Deserialize;

use super::wire_common::{Prices, Protocol, present};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Model {
    pub n: u32,
    pub id: String,
    pub name: String,
    pub features: Vec<String>,
    #[serde(deserialize_with = "present")]
    pub max_output_tokens: Option<u32>,
    pub created_at: i64,
    #[serde(default)]
    pub stream_usage: StreamUsage,
    #[serde(default)]
    pub cap_parameter: CapParameter,
    #[serde(default)]
    pub failover_on: FailoverOn,
    #[serde(default)]
    pub timeouts: Timeouts,
    #[serde(default)]
    pub stream_ping_ms: Option<u64>,
    #[serde(default)]
    pub tokenizer: Tokenizer,
    #[serde(default)]
    pub template: Template,
    #[serde(default)]
    pub input_bounds: InputBounds,
    #[serde(default)]
    pub cost: Option<Prices>,
    pub upstreams: Vec<ModelUpstream>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelUpstream {
    /// Absent from policies of before.
    #[serde(default)]
    pub number: u32,
    pub protocol: Protocol,
    pub host: String,
    pub port: u16,
    pub path: String,
    #[serde(default)]
    pub base_query: String,
    pub model: String,
    pub weight: u32,
    #[serde(deserialize_with = "present")]
    pub api_key: Option<String>,
    #[serde(default)]
    pub auth: Auth,
    /// Name, value, whether the value is sealed.
    #[serde(default)]
    pub headers: Vec<(String, String, bool)>,
    /// As for the headers.
    #[serde(default)]
    pub query: Vec<(String, String, bool)>,
    pub tls_verify: bool,
    #[serde(default)]
    pub tls_server_name: Option<String>,
    #[serde(default)]
    pub tls_ca: Option<String>,
    #[serde(default)]
    pub tls_cert: Option<String>,
    #[serde(default)]
    pub tls_key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    pub header: String,
    pub scheme: String,
}

impl Default for Auth {
    fn default() -> Self {
        Self { header: "Authorization".into(), scheme: "Bearer".into() }
    }
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum StreamUsage {
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum CapParameter {
    #[default]
    Auto,
    MaxTokens,
    MaxCompletionTokens,
    None,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FailoverOn {
    pub connect: bool,
    pub statuses: Vec<u16>,
}

impl Default for FailoverOn {
    /// As in `python/aigw/entities/model.py`.
    fn default() -> Self {
        Self { connect: true, statuses: vec![401, 402, 403, 408, 429, 500, 502, 503, 504, 529] }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_field_names)] // each key of the wire names its unit
pub(super) struct Timeouts {
    pub connect_ms: Option<u64>,
    pub first_byte_ms: Option<u64>,
    pub between_ms: Option<u64>,
    pub total_ms: Option<u64>,
}

/// `{"file": {"name": ..., "per_byte": ...}}` names a file of the folder `tokenizers`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Tokenizer {
    #[default]
    O200kBase,
    Cl100kBase,
    Bytes,
    File(TokenizerFile),
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TokenizerFile {
    pub name: String,
    pub per_byte: u32,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Template {
    pub per_message: u32,
    pub per_request: u32,
}

impl Default for Template {
    /// As in `python/aigw/entities/model.py`.
    fn default() -> Self {
        Self { per_message: 4, per_request: 3 }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct InputBounds {
    pub image: u32,
    pub audio: u32,
    pub file: u32,
}

impl Default for InputBounds {
    /// As in `python/aigw/entities/model.py`.
    fn default() -> Self {
        Self { image: 2048, audio: 8192, file: 65536 }
    }
}
