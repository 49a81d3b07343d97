//! Where the gateway touches the world. The same stage names as the core.

pub mod accept;
pub mod access_log;
pub mod cells;
pub mod clock;
pub mod forward;
pub mod gateway;
mod in_force;
pub mod lean;
pub mod map;
pub mod metrics;
pub mod plain;
pub mod record;
pub mod secret;
pub mod snapshot;
pub mod socket;
pub mod upstream;
pub mod yaml;
