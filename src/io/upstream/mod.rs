//! The upstream client: one thread with a tokio runtime of its own (the server's runtime is not reachable from another
//! extension), pools of connections per origin, deadlines, passive health, and the events that carry an answer back.
//!
//! In: an [`Admitted`](aigw_core::surface::Admitted) request, by value: only a permit opens the way here. Out: [`Event`]s, in
//! order, ending with exactly one last event; events that are ready together are handed over together, so that the waiter
//! pays for its interpreter lock once. A request of which a byte may have reached an upstream goes to another target only
//! after a refusal of the first (`balance::failover`).

mod client;
mod connection;
mod counters;
mod dial;
mod event;
mod fault;
mod means;
mod notice;
mod observer;
mod outage;
mod outbox;
mod outgoing;
mod pace;
mod pool;
mod proxy;
mod resolve;
mod response;
mod shared;
mod task;
mod tls;
mod verify;

pub use client::{Inbox, Upstream, runtime};
pub use counters::UpstreamCounters;
pub use event::{AnswerHead, Event};
pub use notice::Notice;
pub use observer::{CallObserver, Cancel};
pub use outbox::Batch;
