//! Where the gateway touches the world. The same stage names as the core.

pub mod cells;
pub mod clock;
pub mod control_page;
mod keyfiles;
pub mod map;
pub mod mock;
pub mod publish;
pub mod secret;
pub mod snapshot;
