//! Stage `balance`: from a service or a model to the target that is asked.
//!
//! [`target`] says where they live, [`order`] in which order a model's targets are tried, [`failover`] when another is asked,
//! [`health`] which address is out.

pub mod failover;
pub mod health;
pub mod order;
pub mod target;

pub use target::{Deadlines, ModelTarget, Origin, ServiceTarget};
