//! Stage `admit`: all gates and checks, or none. In: the caller and the limits that apply. Out: a [`Permit`], or a refusal.
//!
//! Gates first: `groups`, `size`, `gate`. Limits become checks in `profile` (a rate-limiting instance) and `tier`. On the
//! head [`Admitter::peek`] refuses an exhausted limit and takes nothing; on the whole body [`Admitter::take`] takes from all
//! limits at once. `refused` writes the refusal, `headers` the state of the limits. A permit is the only ticket to an upstream:
//! dropping it gives everything back.

mod check;
pub mod gate;
pub mod groups;
pub mod headers;
mod in_flight;
mod needs;
mod permit;
pub mod profile;
mod reclaim;
pub mod refused;
pub mod reserve;
pub mod size;
mod take;
pub mod tier;
mod wait;

pub use check::{Check, NotTaken};
pub use permit::Permit;
pub use reclaim::{Books, NotNow, Reclaimed, reclaim, reclaim_v1, reclaim_v2};
pub use take::Admitter;
pub use tier::CallerRows;
pub use wait::Refused;
