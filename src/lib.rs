//! The core of aigw: every decision about a request, and no I/O.
//!
//! Read [`surface`] first: it has the stages of a request in their order, one file for each surface. The stages, as the
//! request meets them:
//!
//! 1. [`accept`]: is its head sound, and which deciding words has its body?
//! 2. [`match`](mod@r#match): which route or operation is it?
//! 3. [`identify`]: which consumer and credential call?
//! 4. [`admit`]: do gates and limits let it pass? ([`limits`] counts, [`cells`] holds the counters)
//! 5. [`balance`]: which target is asked?
//! 6. [`forward`]: which request goes there?
//! 7. [`stream`]: which bytes of the answer go on, and which usage does it report?
//! 8. [`settle`]: how did the call end, and does it count?
//!
//! A stage that turns a request away returns a [`refusal`]. Every stage reads [`request`] (the head) and [`in_force`] (the
//! configuration, from a [`snapshot`]); [`telemetry`] counts afterwards. [`coding`] reads compressed
//! bodies, [`tokens`] is the interface of token counters. Time is an argument ([`clock`], [`units`]). The
//! crate `aigw-io` has files, sockets and clocks, `aigw-ext` the boundary to Python.
#![forbid(unsafe_code)]

pub mod surface;

pub mod accept;
pub mod admit;
pub mod balance;
pub mod entry;
pub mod forward;
pub mod identify;
pub mod r#match;
pub mod settle;
pub mod stream;

pub mod cells;
pub mod clock;
pub mod coding;
pub mod counted;
pub mod in_force;
mod json_scan;
pub mod limits;
pub mod period;
pub mod price;
pub mod refusal;
pub mod request;
pub mod snapshot;
pub mod standing;
pub mod telemetry;
pub mod tokens;
pub mod units;
