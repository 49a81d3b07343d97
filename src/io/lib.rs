//! The edge of the gateway: files, sockets, clocks and logs. It decides nothing; the stages have the same names as in the
//! core.

pub mod access_log;
pub mod cells;
pub mod clock;
pub mod consumers;
mod control;
mod denials;
pub mod idle;
mod ids;
pub mod ledger;
pub mod map;
pub mod metrics;
pub mod pem;
pub mod record;
mod refusals;
pub mod rosters;
pub mod secret;
pub mod snapshot;
pub mod socket;
mod standing;
pub mod store;
pub mod tls_listener;
pub mod tokens;
pub mod upstream;
pub mod worker;
pub mod yaml;
