//! The upstream side of an exchange: one thread with a tokio runtime of its own (the server's runtime is not reachable from
//! another extension), pools of connections per origin, deadlines, passive health, and the events that carry an answer back.
//!
//! In: a [`Call`] (a request that admission let through, body whole). Out: [`Event`]s, in order, ending with exactly one
//! `Full`, `End` or `Failed`; events that are ready together are handed over together, so that the caller pays for its
//! interpreter lock once. A request of which a byte may have reached an upstream goes to another only after a whole 429, 502
//! or 503 of the first.

mod answer;
mod call;
mod client;
mod counters;
mod event;
mod outbox;
mod outgoing;
mod pool;
mod resolve;
mod shared;
mod task;
mod ticket;
mod tls;

pub(crate) use answer::is_events;
pub use call::{Attempt, Call, Deadlines, Origin, Others};
pub use client::{Inbox, Upstream};
pub use counters::UpstreamCounters;
pub use event::{Event, Failure};
pub use ticket::{Cancel, Ticket};
