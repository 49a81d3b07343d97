//! Stage `balance`: from a service or a model to the target that is asked.
//!
//! [`target`] and [`model_target`] have the addresses, [`order`] the order in which a model's targets are tried, [`failover`] decides
//! whether the next one is asked, [`health`] which address is out, [`reach`] which may be called at all, and [`fault`] names why it
//! could not be connected to; [`learned`] keeps which parameters a target refuses. [`spread`] orders the targets of a service,
//! [`passive`] says which of them is out.

pub mod failover;
pub mod fault;
pub mod health;
pub mod learned;
pub mod model_target;
pub mod order;
pub mod passive;
pub mod reach;
pub mod spread;
pub mod target;
pub mod tls;

pub use fault::ConnectFault;
pub use learned::Learned;
pub use model_target::{ModelTarget, TargetQuery};
pub use reach::Reach;
pub use target::{Busy, Deadlines, Origin, RouteTarget, ServiceTarget};
pub use tls::{Pem, TlsSettings};
