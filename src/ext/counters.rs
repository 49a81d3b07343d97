//! The counters of a data folder for the audit, whether its gateway runs or not: `_native.Counters`.
//!
//! In: a data folder. Out: the columns of tiers' limits, and each counter that is not 0. It converts and delegates to
//! `aigw_core::counted`; file work runs without the GIL. It takes nothing and reclaims nothing.

use std::path::PathBuf;
use std::sync::Arc;

use aigw_core::counted::{self, Counted, CountedColumn};
use aigw_core::units::Moment;
use aigw_io::cells::ControlCells;
use aigw_io::ledger::{LEDGER, Segments};
use aigw_io::snapshot::SnapshotReader;
use pyo3::prelude::*;

use crate::errors::io_error;
use crate::ledger::Ledger;

/// (number, meter, per, scope, model, first second of the window, first second after it, shadow)
type ColumnTuple = (u32, &'static str, String, &'static str, u32, u32, u32, bool);
/// (column, row, taken, held, first second of the window, first second after it)
type CountedTuple = (u32, u32, u64, u64, u32, u32);

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct Counters {
    cells: Arc<ControlCells>,
    segments: Segments,
    snapshot: SnapshotReader,
}

#[pymethods]
impl Counters {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn new(py: Python<'_>, data_dir: PathBuf) -> PyResult<Self> {
        py.detach(|| {
            let snapshot = SnapshotReader::open(&data_dir)?;
            let cells = Arc::new(ControlCells::open(&data_dir.join("cells"), snapshot.store())?);
            let segments = Segments::open(&data_dir.join(LEDGER), snapshot.store());
            Ok(Self { cells, segments, snapshot })
        })
        .map_err(io_error)
    }

    fn ledger(&self) -> Ledger {
        Ledger::new(Arc::clone(&self.cells), self.segments.clone())
    }

    fn read(&self, py: Python<'_>, now_ns: u64) -> PyResult<(Vec<ColumnTuple>, Vec<CountedTuple>)> {
        py.detach(|| {
            let (now, snapshot) = (Moment(now_ns), self.snapshot.current());
            if let Some(error) = self.snapshot.error() {
                return Err(std::io::Error::other(error));
            }
            let columns = counted::columns(&snapshot.policy.offer, self.cells.times(now));
            let counted = self.cells.counted(&columns, now)?;
            Ok((columns.into_iter().map(column).collect(), counted.iter().map(counter).collect()))
        })
        .map_err(io_error)
    }
}

fn column(column: CountedColumn) -> ColumnTuple {
    let CountedColumn { number, meter, per, scope, model, window, shadow, .. } = column;
    (number, meter, per, scope, model, window.start.0, window.end.0, shadow)
}

fn counter(counted: &Counted) -> CountedTuple {
    let Counted { column, row, taken, held, window } = *counted;
    (column, row, taken, held, window.start.0, window.end.0)
}
