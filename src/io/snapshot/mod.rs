//! The published files: `DATA/snapshot`, and the control page that says which of them are in force.
//!
//! The control process writes files and page ([`SnapshotWriter`]); each worker reads the generation in force
//! ([`SnapshotReader`]). `folder` names the files, `page` is the mapped page. Their bytes are the core's.

mod folder;
mod page;
mod reader;
mod writer;

pub use page::{ControlPage, Published};
pub use reader::{LoadError, SnapshotReader};
pub use writer::{PublishError, SnapshotWriter};
