//! Stage `stream`: what an upstream's answer says of itself while it passes.
//!
//! [`usage`] is what a call cost, in one form for all dialects; [`find`] takes it out of a plain answer of any size,
//! [`sse`] out of a stream of events, which it also frees of what the caller did not ask for (`member` says where that stands).

pub mod find;
mod member;
pub mod sse;
pub mod usage;
