//! Stage `balance`: from a service or a model to the target that is asked.
//!
//! [`target`] has the addresses, [`order`] the order in which a model's targets are tried, [`failover`] decides whether the
//! next one is asked, and [`health`] which address is out.

pub mod failover;
pub mod health;
pub mod order;
pub mod target;

pub use target::{Deadlines, ModelTarget, Origin, ServiceTarget};
