//! Stage `identify`: credential -> consumer.
//!
//! [`credential`] finds the key, [`keytable`] its caller, `recent` remembers the caller for the next request. Out: a
//! [`Caller`] (on `/v1` a [`KeyHolder`]), or a [`crate::refusal::Refusal`]. Keys do not leave this stage: only row numbers,
//! ids and names do.

pub mod credential;
mod key_holder;
pub mod keytable;
mod on_route;
mod recent;

pub use credential::{Presented, Request, azure_query, bearer, hidden_query, keyless_query, presented};
pub use key_holder::{KeyHolder, key_holder};
pub use keytable::{Caller, KeyHasher, identify};
pub use on_route::on_route;
