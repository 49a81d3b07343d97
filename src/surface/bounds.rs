//! The settings of a worker that its stages need.

use std::sync::Arc;

use crate::accept::room::Room;
use crate::r#match::probe::Probes;

/// The settings of a worker that its stages need.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// Most bytes of a body once it is decoded.
    pub max_body: u64,
    /// Most members and elements of a JSON body.
    pub max_members: u64,
    /// Paths that are answered without a key.
    pub probes: Probes,
    /// The memory of bodies and answers.
    pub room: Arc<Room>,
}
