//! Stage `forward`: the request that goes upstream, rebuilt from its parts.
//!
//! [`headers`] writes its headers, [`kong`] its path; of a model's call [`upstream_url`] the URL, [`openai`] the body, in the
//! [`wording`] that the target takes. `attempts` makes one request for each target. Out: a [`Dispatch`].

mod attempts;
mod caps;
mod dispatch;
mod edits;
pub mod headers;
pub mod kong;
pub mod openai;
pub mod upstream_url;
pub mod wording;

pub use attempts::{Attempt, Attempts, ModelAttempts, Others, ServiceAttempts, ServiceTurns};
pub use caps::{Caps, Limits};
pub use dispatch::Dispatch;
