//! Services, routes, plugins, tiers and models: meaning without byte layouts.
//!
//! The control process writes a policy as JSON in a file with a hash; a worker reads it into the compiled [`Policy`], in
//! which every reference was checked.
//!
//! - `file`: header, hash and JSON of the file
//! - `wire`, `wire_model`, `wire_common`: the JSON, as serde types
//! - `compile`, `compile_tiers`, `compile_models`, `checks`: wire form -> compiled form
//! - `compiled`, `tier`, `model`, `scheme`: the compiled form
//! - `certificate`: the certificates of the TLS address, and their names
//! - `cors`: which pages of other origins may call
//! - `plan`: the plugin instance that runs for one route and one consumer
//! - `strings`: one string of a policy, checked for its editor

mod certificate;
mod checks;
mod compile;
mod compile_models;
mod compile_tiers;
mod compiled;
pub mod cors;
pub mod file;
pub mod model;
pub mod plan;
mod scheme;
mod strings;
pub mod tier;
mod wire;
mod wire_common;
mod wire_model;

pub use certificate::{Certificate, CertificatePair};
pub use checks::prices_of;
pub use compiled::{
    Acl, Anonymous, HashOn, KeyAuth, LimitBy, Passive, Policy, Profile, ProfileLimit, Route, RouteInstance, Service,
    ServiceTls, SizeLimit, Target, Upstream,
};
pub use cors::Cors;
pub use model::{
    CapParameter, FailoverOn, InputBounds, Model, ModelUpstream, Pair, StreamUsage, Template, Timeouts, Tokenizer,
    UpstreamTls,
};
pub use scheme::Scheme;
pub use strings::Text;
pub use tier::{Offer, Parameters, Subject, Tier, TierLimit};
