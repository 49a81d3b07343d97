//! The policy's JSON as the control process writes it (docs/reference/boundary.md): serde types only.
//!
//! Every key is always present and others are refused, so the two sides cannot drift apart in silence. Keys with a default came
//! after the first version: an older policy lacks them. Only types are checked here; `compile` checks the rest.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::wire_common::{Prices, Protocol, present};
use super::wire_model::Model;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Policy {
    pub services: Vec<Service>,
    pub routes: Vec<Route>,
    pub key_auth: Vec<KeyAuth>,
    pub rate_limiting: Vec<RateLimiting>,
    pub size_limiting: Vec<SizeLimiting>,
    pub acl: Vec<Acl>,
    /// Absent from policies of before.
    #[serde(default)]
    pub cors: Vec<Cors>,
    /// Of `/v1`. Absent from policies of before.
    #[serde(default)]
    pub v1_cors: Option<Cors>,
    /// Absent from policies of before, and from policies without certificates.
    #[serde(default)]
    pub certificates: Vec<Certificate>,
    #[serde(deserialize_with = "present")]
    pub default_tier: Option<u32>,
    pub tiers: Vec<Tier>,
    pub models: Vec<Model>,
    /// Rows of metrics, in policies of before.
    #[serde(default)]
    #[expect(dead_code, reason = "workers number rows since")]
    pub series: IgnoredAny,
    /// As for `series`.
    #[serde(default)]
    #[expect(dead_code, reason = "workers number rows since")]
    pub calls: IgnoredAny,
    pub columns: Vec<Column>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Service {
    pub n: u32,
    pub id: String,
    #[serde(deserialize_with = "present")]
    pub name: Option<String>,
    pub protocol: Protocol,
    pub host: String,
    pub port: u16,
    #[serde(deserialize_with = "present")]
    pub path: Option<String>,
    #[expect(dead_code, reason = "each address is tried once in this version")]
    pub retries: u32,
    pub connect_timeout_ms: u64,
    pub write_timeout_ms: u64,
    pub read_timeout_ms: u64,
    #[serde(deserialize_with = "present")]
    pub tls_verify: Option<bool>,
    /// Absent for most.
    #[serde(default)]
    pub tls: Option<ServiceTls>,
    /// Absent from policies of before.
    #[serde(default)]
    pub upstream: Option<Upstream>,
}

/// PEM texts. `key` is sealed.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceTls {
    #[serde(deserialize_with = "present")]
    pub ca: Option<String>,
    #[serde(deserialize_with = "present")]
    pub cert: Option<String>,
    #[serde(deserialize_with = "present")]
    pub key: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upstream {
    #[serde(deserialize_with = "present")]
    pub host_header: Option<String>,
    pub hash: Vec<HashOn>,
    pub least_connections: bool,
    pub passive: Passive,
    pub targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HashOn {
    pub by: HashBy,
    #[serde(deserialize_with = "present")]
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum HashBy {
    Consumer,
    Ip,
    Path,
    Header,
    QueryArg,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Passive {
    pub http_failures: u32,
    pub http_statuses: Vec<u16>,
    pub tcp_failures: u32,
    pub timeouts: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Target {
    pub host: String,
    pub port: u16,
    pub weight: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Route {
    pub n: u32,
    pub id: String,
    #[serde(deserialize_with = "present")]
    pub name: Option<String>,
    #[serde(deserialize_with = "present")]
    pub service: Option<u32>,
    pub protocols: Vec<Protocol>,
    pub https_redirect_status_code: u16,
    pub hosts: Vec<String>,
    pub methods: Vec<String>,
    pub paths: Vec<String>,
    pub headers: Vec<(String, Vec<String>)>,
    pub regex_priority: i64,
    pub created_at: i64,
    pub strip_path: bool,
    pub preserve_host: bool,
    #[serde(deserialize_with = "present")]
    pub key_auth: Option<usize>,
    #[serde(deserialize_with = "present")]
    pub rate_limiting: Option<RouteInstance>,
    #[serde(deserialize_with = "present")]
    pub size_limiting: Option<RouteInstance>,
    #[serde(deserialize_with = "present")]
    pub acl: Option<usize>,
    /// Absent from policies of before.
    #[serde(default)]
    pub cors: Option<usize>,
    /// Absent where requests with TLS meet the same plugins as those without.
    #[serde(default)]
    pub over_tls: Option<RoutePlugins>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoutePlugins {
    #[serde(deserialize_with = "present")]
    pub key_auth: Option<usize>,
    #[serde(deserialize_with = "present")]
    pub rate_limiting: Option<RouteInstance>,
    #[serde(deserialize_with = "present")]
    pub size_limiting: Option<RouteInstance>,
    #[serde(deserialize_with = "present")]
    pub acl: Option<usize>,
    #[serde(deserialize_with = "present")]
    pub cors: Option<usize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RouteInstance {
    pub rank: u8,
    pub profile: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // Kong's own fields
pub(super) struct KeyAuth {
    pub key_names: Vec<String>,
    pub key_in_header: bool,
    pub key_in_query: bool,
    pub key_in_body: bool,
    pub hide_credentials: bool,
    pub run_on_preflight: bool,
    #[serde(deserialize_with = "present")]
    pub realm: Option<String>,
    #[serde(deserialize_with = "present")]
    pub anonymous: Option<u32>,
    #[serde(deserialize_with = "present")]
    pub anonymous_missing: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimiting {
    pub limit_by: LimitBy,
    #[serde(deserialize_with = "present")]
    pub header_name: Option<String>,
    #[serde(deserialize_with = "present")]
    pub path: Option<String>,
    pub limits: Vec<Limit>,
    pub hide_client_headers: bool,
    pub error_code: u16,
    pub error_message: String,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LimitBy {
    Consumer,
    Credential,
    Ip,
    Service,
    Header,
    Path,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    pub kind: String,
    pub fields: Value,
    #[serde(deserialize_with = "present")]
    pub dense: Option<u32>,
    #[serde(deserialize_with = "present")]
    pub open: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SizeLimiting {
    pub bytes: u64,
    pub require_content_length: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Acl {
    pub allow: Vec<String>,
    pub deny: Vec<String>,
    pub hide_groups_header: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // Kong's own fields
pub(super) struct Cors {
    #[serde(deserialize_with = "present")]
    pub origins: Option<Vec<OriginRule>>,
    #[serde(deserialize_with = "present")]
    pub always: Option<String>,
    pub methods: String,
    #[serde(deserialize_with = "present")]
    pub headers: Option<String>,
    pub exposed: String,
    #[serde(deserialize_with = "present")]
    pub max_age: Option<u64>,
    pub credentials: bool,
    pub preflight_continue: bool,
    pub private_network: bool,
    pub origin_absent: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Certificate {
    pub names: Vec<String>,
    pub pairs: Vec<CertificatePair>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CertificatePair {
    pub chain: String,
    pub key: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum OriginRule {
    Is(String),
    Matches(String),
    HostMatches(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tier {
    pub n: u32,
    pub id: String,
    pub name: String,
    pub limits: Vec<TierLimit>,
    #[serde(default)]
    pub limit_set: u32,
    pub features: Vec<String>,
    pub models: Vec<String>,
    pub parameters: Parameters,
    #[serde(deserialize_with = "present")]
    pub prompt_max_bytes: Option<u64>,
    /// Absent from policies of before.
    #[serde(default)]
    pub route_max_bytes: Option<u64>,
    #[serde(default)]
    pub prompt_max_tokens: Option<u32>,
    #[serde(deserialize_with = "present")]
    pub output_max_tokens: Option<u32>,
    /// Nano-dollars.
    #[serde(default)]
    pub request_max_spend: Option<u64>,
    #[serde(default)]
    pub price: Option<Prices>,
    #[serde(default)]
    pub strict: bool,
    #[serde(deserialize_with = "present")]
    pub first_byte_ms: Option<u64>,
    #[serde(default)]
    pub between_ms: Option<u64>,
    #[serde(deserialize_with = "present")]
    pub total_ms: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Subject {
    Consumer,
    Credential,
    Ip,
    Model,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TierLimit {
    pub kind: String,
    pub fields: Value,
    pub scope: Subject,
    pub shadow: bool,
    #[serde(deserialize_with = "present")]
    pub column: Option<u32>,
    pub by_model: Vec<(u32, u32)>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools)] // one for each parameter
pub(super) struct Parameters {
    pub tools: bool,
    #[serde(deserialize_with = "present")]
    pub n: Option<u32>,
    pub logprobs: bool,
    pub stream: bool,
    pub response_format: bool,
    pub reasoning_effort: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum ColumnKind {
    /// Counters by row number.
    Dense,
    /// Counters in the hash area.
    Open,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Column {
    pub n: u32,
    pub kind: ColumnKind,
    pub words: u32,
    #[expect(dead_code, reason = "for people who read the file")]
    pub key: String,
}
