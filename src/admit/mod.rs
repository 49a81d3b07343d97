//! All checks or none. In come the limits that apply to a request, out comes a `Permit` or a refusal that names a limit.
//!
//! Headers phase: [`Admitter::peek`] refuses what is exhausted and takes nothing. Body phase: [`Admitter::take`]
//! takes everything at once. A permit is the only ticket to an upstream: dropping it gives everything back.

mod check;
pub mod gate;
pub mod headers;
mod permit;
mod take;

pub use check::{Check, Refusal};
pub use permit::Permit;
pub use take::Admitter;
