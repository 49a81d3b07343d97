//! The compiled policy that requests read. Every reference in it was checked (see `compile`), so the request path indexes
//! instead of searching. Consumers and keys are not part of it.

use super::certificate::Certificate;
use super::cors::Cors;
use super::scheme::Scheme;
use super::tier::Offer;
use crate::limits::Limit;
use crate::r#match::{Router, ServerNames};
use crate::snapshot::uuid::Uuid;

/// Services, routes and plugins of one generation. Indices (`service`, `key_auth`, `profile`) are into these lists.
#[derive(Debug)]
pub struct Policy {
    /// In the order of the file.
    pub services: Vec<Service>,
    /// In the order of the file: `Matched::route` is an index into it.
    pub routes: Vec<Route>,
    /// Finds the route of a request.
    pub router: Router,
    /// Configurations of key-auth.
    pub key_auth: Vec<KeyAuth>,
    /// Instances of rate-limiting.
    pub rate_limiting: Vec<Profile>,
    /// Instances of request-size-limiting.
    pub size_limiting: Vec<SizeLimit>,
    /// Configurations of acl.
    pub acl: Vec<Acl>,
    /// Configurations of cors.
    pub cors: Vec<Cors>,
    /// The cors of `/v1`; `None`: pages of other origins cannot call it.
    pub v1_cors: Option<Cors>,
    /// The certificates of the TLS address.
    pub certificates: Vec<Certificate>,
    /// Finds the certificates of a handshake: indices into that list.
    pub server_names: ServerNames,
    /// Tiers and models.
    pub offer: Offer,
}

impl Policy {
    /// No routes at all.
    pub fn empty() -> Self {
        Self {
            services: Vec::new(),
            routes: Vec::new(),
            router: Router::new(Vec::new()),
            key_auth: Vec::new(),
            rate_limiting: Vec::new(),
            size_limiting: Vec::new(),
            acl: Vec::new(),
            cors: Vec::new(),
            v1_cors: None,
            certificates: Vec::new(),
            server_names: ServerNames::default(),
            offer: Offer::default(),
        }
    }

    /// The service of a route; `None`: refuse with `no_service`.
    pub fn service_of(&self, route: &Route) -> Option<&Service> {
        route.service.and_then(|index| self.services.get(index))
    }

    /// The acl of a route; `None`: everybody may pass.
    pub fn acl_of(&self, route: &Route) -> Option<&Acl> {
        route.plugins.acl.and_then(|index| self.acl.get(index))
    }

    /// The cors configuration of a route; `None`: the headers of its upstream stand alone.
    pub fn cors_of(&self, route: &Route) -> Option<&Cors> {
        route.plugins.cors.and_then(|index| self.cors.get(index))
    }

    /// The key-auth configuration of a route; `None`: no authentication.
    pub fn key_auth_of(&self, route: &Route) -> Option<&KeyAuth> {
        route.plugins.key_auth.and_then(|index| self.key_auth.get(index))
    }
}

/// The target of requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Row number.
    pub n: u32,
    /// Entity id.
    pub id: Uuid,
    /// Kong's name.
    pub name: Option<Box<str>>,
    /// Towards upstream.
    pub scheme: Scheme,
    /// Name or address (IPv6 without brackets or with: as configured).
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// Base path in wire form.
    pub path: Option<Box<str>>,
    /// Milliseconds.
    pub connect_timeout_ms: u64,
    /// Milliseconds between two writes of a large body.
    pub write_timeout_ms: u64,
    /// Milliseconds between two reads (the first byte of the answer too).
    pub read_timeout_ms: u64,
    /// Verify the certificate; `None`: the default (verify).
    pub tls_verify: Option<bool>,
    /// Authorities and certificate of its own; `None`: the usual ones.
    pub tls: Option<Box<ServiceTls>>,
    /// The targets that share its requests; `None`: `host` and `port` are its address.
    pub upstream: Option<Box<Upstream>>,
}

/// The certificates of TLS towards a service, as PEM texts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceTls {
    /// The authorities that the upstream's certificate is checked by; `None`: the system's.
    pub ca: Option<Box<str>>,
    /// The gateway's own certificate and its chain, for an upstream that asks for one.
    pub cert: Option<Box<str>>,
    /// The key of `cert`, sealed.
    pub key: Option<Box<str>>,
}

/// Several servers behind the host of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// The `Host` for every target; `None`: each gets its own.
    pub host_header: Option<Box<str>>,
    /// The parts of a request that choose its target, the first one that it has; without one, chance by weight does.
    pub hash: Box<[HashOn]>,
    /// The target with the fewest calls for its weight goes first.
    pub least_connections: bool,
    /// When a target is out.
    pub passive: Passive,
    /// The servers that get requests.
    pub targets: Box<[Target]>,
}

/// A part of a request: equal parts lead to the same target while the targets stay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The consumer.
    Consumer,
    /// The client's address.
    Ip,
    /// The path.
    Path,
    /// The first value of a header, by its lower-case name.
    Header(Box<str>),
    /// The first value of an argument of the query.
    QueryArg(Box<str>),
}

/// The failures in a row that take a target out; 0: none of this kind does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Passive {
    /// Answers with one of `http_statuses`.
    pub http_failures: u32,
    /// Statuses that are failures.
    pub http_statuses: Box<[u16]>,
    /// Connections that could not be made, or broke.
    pub tcp_failures: u32,
    /// Waits that were too long.
    pub timeouts: u32,
}

/// A server of an [`Upstream`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address (IPv6 without brackets).
    pub host: Box<str>,
    /// TCP port.
    pub port: u16,
    /// Share of requests, at least 1.
    pub weight: u32,
}

/// The decisions of the configuration for a matched request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Kong's own fields
pub struct Route {
    /// Row number.
    pub n: u32,
    /// Entity id.
    pub id: Uuid,
    /// Kong's name.
    pub name: Option<Box<str>>,
    /// Index of the service; `None`: 503.
    pub service: Option<usize>,
    /// Row number of the service, 0 for none.
    pub service_n: u32,
    /// False: a plain request gets 426, or a redirect when `https_redirect_status` is one.
    pub allow_http: bool,
    /// 426, 301, 302, 307 or 308.
    pub https_redirect_status: u16,
    /// Remove the covered prefix.
    pub strip_path: bool,
    /// Send the client's Host upstream.
    pub preserve_host: bool,
    /// The plugins that run.
    pub plugins: RoutePlugins,
    /// Index of the same route with the plugins of requests with TLS, where those are others.
    pub over_tls: Option<usize>,
}

/// The plugin instances of a route, without those of consumers and tiers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePlugins {
    /// Index of the key-auth configuration.
    pub key_auth: Option<usize>,
    /// The rate-limiting instance that runs unless the consumer has one of higher rank.
    pub rate_limiting: Option<RouteInstance>,
    /// The request-size-limiting instance that runs unless the consumer has one of higher rank.
    pub size_limiting: Option<RouteInstance>,
    /// Index of the acl configuration.
    pub acl: Option<usize>,
    /// Index of the cors configuration.
    pub cors: Option<usize>,
}

/// The bound on a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimit {
    /// Most bytes.
    pub bytes: u64,
    /// A body without a length is refused.
    pub require_content_length: bool,
}

/// The groups that may pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acl {
    /// The groups are those that may pass; false: those that may not.
    pub allows: bool,
    /// Names of groups.
    pub groups: Box<[Box<str>]>,
    /// Hide the consumer's groups from the upstream.
    pub hide_groups_header: bool,
}

impl Acl {
    /// Whether a consumer of these groups may pass.
    pub fn passes<'a>(&self, mut own: impl Iterator<Item = &'a str>) -> bool {
        own.any(|group| self.groups.iter().any(|named| **named == *group)) == self.allows
    }
}

/// A route's own rate-limiting instance and its precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteInstance {
    /// 5, 3, 2 or 1.
    pub rank: u8,
    /// Index of the profile.
    pub profile: u32,
}

/// One key-auth configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // Kong's own fields
pub struct KeyAuth {
    /// Names of query arguments, as configured.
    pub names: Box<[Box<str>]>,
    /// The same names in lower case: header fields.
    pub header_names: Box<[Box<str>]>,
    /// Look in headers.
    pub in_header: bool,
    /// Look in the query.
    pub in_query: bool,
    /// Take the key away before forwarding.
    pub hide: bool,
    /// False: OPTIONS passes without a key.
    pub run_on_preflight: bool,
    /// The `WWW-Authenticate` value: `Key` or `Key realm="..."`.
    pub challenge: Box<str>,
    /// The treatment of a request without a valid key.
    pub anonymous: Anonymous,
}

/// The treatment of a request without a valid key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anonymous {
    /// It is refused.
    Refused,
    /// It acts as this consumer.
    Consumer(u32),
    /// 500: the configured consumer (as written) does not exist.
    Missing(Box<str>),
}

/// The counter that one limit gives to each caller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LimitBy {
    /// The consumer's row; the client's address without one.
    Consumer,
    /// The credential's row; the client's address without one.
    Credential,
    /// The client's address.
    Ip,
    /// One count for the service.
    Service,
    /// The value of this header (lower-case name); the client's address without one.
    Header(Box<str>),
    /// One count for this path; the client's address on others.
    Path(Box<str>),
}

impl LimitBy {
    /// Kong's word for it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Consumer => "consumer",
            Self::Credential => "credential",
            Self::Ip => "ip",
            Self::Service => "service",
            Self::Header(_) => "header",
            Self::Path(_) => "path",
        }
    }
}

/// One rate-limiting instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The scope of the counters.
    pub limit_by: LimitBy,
    /// Shortest period first, at least one.
    pub limits: Box<[ProfileLimit]>,
    /// Send no rate-limit headers at all.
    pub hide_client_headers: bool,
    /// Status of a refusal.
    pub error_code: u16,
    /// Message of a refusal.
    pub error_message: Box<str>,
}

/// One limit of a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProfileLimit {
    /// Its kind and its numbers.
    pub limit: Limit,
    /// Column by row number (row 0 for `service`).
    pub dense: Option<u32>,
    /// Column of the hash area.
    pub open: Option<u32>,
}
