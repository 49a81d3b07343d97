//! The configuration that the control process compiles and requests read: bytes in, immutable out.
//!
//! A [`Snapshot`] is one generation: a [`Policy`] (services, routes, plugins; small, replaced whole) and [`Keys`]
//! (consumers and credentials; a mapped base under an overlay of later changes). Either half can be replaced without
//! touching the other. Files and mappings are `aigw-io`'s.

pub mod error;
pub mod keys;
pub mod policy;
mod uuid;

use std::sync::Arc;

pub use error::SnapshotError;
pub use keys::delta::{self, Change};
pub use keys::{
    Bytes, Consumer, Credential, Digest, Groups, Keys, KeysBuilder, MAX_CREDENTIAL, Names, NewConsumer, PluginKind,
    Ref, Refs,
};
pub(crate) use keys::{CHANGED, Found, OWN_CLASS};
pub use policy::{
    Acl, Anonymous, CapParameter, Cors, FailoverOn, HashOn, InputBounds, KeyAuth, LimitBy, Model, ModelUpstream, Offer,
    Pair, Parameters, Passive, Policy, Profile, ProfileLimit, Route, Scheme, Service, ServiceTls, SizeLimit,
    StreamUsage, Subject, Target, Template, Text, Tier, TierLimit, Timeouts, Tokenizer, Upstream, UpstreamTls, cors,
    file, plan, prices_of,
};
pub use uuid::{Uuid, parse_uuid};

/// One generation of configuration, as requests see it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The generation word this snapshot answers to.
    pub generation: u64,
    /// Services, routes and plugins.
    pub policy: Arc<Policy>,
    /// Consumers and credentials.
    pub keys: Keys,
}

impl Snapshot {
    /// An empty gateway: no routes, no keys; generation 0.
    pub fn empty() -> Self {
        Self { generation: 0, policy: Arc::new(Policy::empty()), keys: Keys::empty() }
    }
}
