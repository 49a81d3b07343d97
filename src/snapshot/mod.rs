//! What the control process compiles and requests read: bytes in, immutable out.
//!
//! A [`Snapshot`] is one generation: a [`Policy`] (services, routes, plugins; small, replaced whole) and [`Keys`]
//! (consumers and credentials; a mapped base under an overlay of later changes). Either half can be replaced without
//! touching the other. Files and mappings are `aigw-io`'s.

mod class;
mod compile;
mod compile_tiers;
pub mod delta;
pub mod error;
pub mod keys;
pub mod keys_build;
mod layout;
pub mod load;
mod overlay;
pub mod plan;
pub mod policy;
pub mod record;
mod text;
pub mod tier;

mod uuid;
mod written;

use std::sync::Arc;

pub use class::{Groups, PluginKind, Ref, Refs};
pub use delta::Change;
pub use error::SnapshotError;
pub(crate) use keys::{CHANGED, Found};
pub use keys::{Credential, Digest, Keys, MAX_CREDENTIAL};
pub use keys_build::KeysBuilder;
pub use layout::Bytes;
pub use policy::{Acl, Anonymous, KeyAuth, Limit, LimitBy, Policy, Profile, Route, Scheme, Service, SizeLimit};
pub(crate) use record::OWN_CLASS;
pub use record::{Consumer, Names, NewConsumer};
pub use text::Text;
pub use tier::{Model, Offer, Parameters, Subject, Tier, TierLimit};
pub use uuid::{Uuid, UuidText};

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
