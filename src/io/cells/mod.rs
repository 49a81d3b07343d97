//! The counters of a gateway as files in `DATA/cells`, shared by the control process and all workers.
//!
//! `columns` hold dense counters, `open_area` the hash area, `slots` each worker's lock and journal. Workers come in
//! by [`WorkerCells`], the control process by [`ControlCells`]. Decisions are the core's; here are only files, locks and maps.

mod columns;
mod counters;
mod files;
mod open_area;
mod reader;
mod slots;
mod steady;
mod worker;

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

pub use reader::{ControlCells, ReclaimedSlot, Waiting};
pub use slots::{Part, SLOTS, SlotReport, SlotState, SlotStatus};
pub use worker::WorkerCells;

use crate::store::StoreId;

/// Moves the folder aside if its counters belong to another store; returns its new path.
///
/// For the control process, before anything in the folder is opened.
pub fn set_aside_foreign(dir: &Path, store: StoreId) -> io::Result<Option<PathBuf>> {
    let found = match open_area::store_of(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        found => found?,
    };
    if found == store {
        return Ok(None);
    }
    // The time only makes the name; decisions do not read it.
    let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let mut name = dir.as_os_str().to_owned();
    name.push(format!(".old-{time}"));
    let aside = PathBuf::from(name);
    fs::rename(dir, &aside)?;
    Ok(Some(aside))
}
