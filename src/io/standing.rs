//! The counters that `GET /v1/limits` reads: those of all workers, opened when first asked for. The core reads them.

use crate::cells::ControlCells;
use crate::store::StoreId;
use aigw_core::identify::KeyHolder;
use aigw_core::snapshot::{Offer, Tier};
use aigw_core::standing;
use aigw_core::units::Moment;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

pub(crate) struct Standing {
    dir: PathBuf,
    store: StoreId,
    cells: OnceLock<ControlCells>,
}

impl Standing {
    pub(crate) fn new(dir: &Path, store: StoreId) -> Self {
        Self { dir: dir.to_owned(), store, cells: OnceLock::new() }
    }

    fn cells(&self) -> io::Result<&ControlCells> {
        if let Some(cells) = self.cells.get() {
            return Ok(cells);
        }
        let opened = ControlCells::open(&self.dir, self.store)?;
        Ok(self.cells.get_or_init(|| opened))
    }

    /// The body of the answer.
    pub(crate) fn of(&self, offer: &Offer, tier: &Tier, caller: &KeyHolder, now: Moment) -> io::Result<Vec<u8>> {
        let credentials = [(caller.credential, caller.credential_id.to_string())];
        let counters = standing::of_tier(offer, tier, caller.consumer, &credentials);
        Ok(standing::page(&tier.name, &self.cells()?.standing(counters, now)?))
    }
}
