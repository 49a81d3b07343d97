//! Where the gateway touches the world. The same stage names as the core.
