//! Consumers and credentials as bytes: layouts without meaning.
//!
//! The control process builds a base of all consumers ([`KeysBuilder`]) and appends changes to a [`delta`]. A worker reads
//! both in place and finds for a key's digest its credential and consumer ([`Keys`]).
//!
//! - `bytes`: numbers and texts in these files
//! - `credential`, `consumer`: the values that are written
//! - `class`, `record`: a consumer's bytes, shared part and own part
//! - `base`, `build`: the base file, read and built
//! - `delta`, `overlay`: changes on top of a base, as a file and in memory
//! - `lookup`: base and changes together

mod base;
mod build;
mod bytes;
mod class;
mod consumer;
mod credential;
pub mod delta;
mod lookup;
mod overlay;
mod record;

pub use base::Bytes;
pub use build::KeysBuilder;
pub use class::{Groups, Refs};
pub use consumer::{NewConsumer, PluginKind, Ref};
pub(crate) use credential::{CHANGED, Found};
pub use credential::{Credential, Digest, MAX_CREDENTIAL};
pub use lookup::Keys;
pub(crate) use record::OWN_CLASS;
pub use record::{Consumer, Names};
