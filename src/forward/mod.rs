//! Stage `forward`: the request that goes upstream, rebuilt from its parts.
//!
//! [`headers`] writes its headers, [`kong`] its path, [`openai`] the body of a model's call, `attempts` one request for each
//! target. Out: a [`Dispatch`].

mod attempts;
mod dispatch;
pub mod headers;
pub mod kong;
pub mod openai;
pub mod upstream_url;

pub use attempts::{Attempt, Attempts, ModelAttempts};
pub use dispatch::Dispatch;
