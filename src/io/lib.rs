//! Where the gateway touches the world. The same stage names as the core.

pub mod cells;
pub mod clock;
pub mod map;
pub mod mock;
