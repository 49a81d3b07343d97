//! The control process's access to the files: `_native.Publisher`.
//!
//! In: records as tuples, the policy as bytes. Out: generations and numbers only. It converts, delegates to
//! `aigw_io::snapshot`, `aigw_io::cells` and `aigw_io::secret`, and maps errors; file work runs without the GIL. Invariant:
//! changes come into force in `publish` only.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aigw_core::balance::Reach;
use aigw_core::balance::reach::Forbidden;
use aigw_core::identify::KeyHasher;
use aigw_core::snapshot::Text;
use aigw_core::snapshot::delta::Change;
use aigw_core::snapshot::file::Highest;
use aigw_core::standing::{self, Instance, NamedRow, Sources};
use aigw_core::units::Moment;
use aigw_io::cells::{self, ControlCells};
use aigw_io::ledger::{LEDGER, Segments};
use aigw_io::metrics;
use aigw_io::rosters::{self, Numbered};
use aigw_io::secret::{self, Sealer};
use aigw_io::snapshot::{ControlPage, PublishError, SnapshotWriter};
use aigw_io::store::StoreId;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict};

use crate::errors::{io_error, publish_error, value_error};
use crate::families::{self, Family, MetricLabels};
use crate::key_base::KeyBase;
use crate::ledger::Ledger;
use crate::records::{ConsumerTuple, CredentialTuple, consumer, credential, groups, refs, uuid};

/// (profile index, name, [(row, id)])
type InstanceTuple = (usize, String, Vec<NamedRow>);

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct Publisher {
    cells: Arc<ControlCells>,
    ledger: Segments,
    writer: Mutex<SnapshotWriter>,
    page: Arc<ControlPage>,
    hasher: KeyHasher,
    sealer: Sealer,
    /// The limits in force. Not the writer's: its lock is held for seconds during a large publish.
    limits: Mutex<Option<Arc<Sources>>>,
    /// The pairs of the policy staged last: rows of their metrics are made as they are called.
    pairs: Mutex<Highest>,
}

impl Publisher {
    fn writer(&self) -> MutexGuard<'_, SnapshotWriter> {
        // A panic between two of its steps leaves it as after a failed call, which can be repeated.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stages a policy. Its counters have room before a worker can meet a new route.
    fn staged(&self, policy: &[u8]) -> Result<MutexGuard<'_, SnapshotWriter>, PublishError> {
        let mut writer = self.writer();
        let highest = writer.stage(policy)?;
        metrics::prepare(&self.cells, highest)?;
        rosters::make_room(&self.cells, highest)?;
        *self.pairs.lock().unwrap_or_else(PoisonError::into_inner) = highest;
        Ok(writer)
    }
}

#[pymethods]
impl Publisher {
    #[new]
    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn new(py: Python<'_>, data_dir: PathBuf, store_id: &str) -> PyResult<Self> {
        let store = store(store_id)?;
        py.detach(|| {
            let folder = data_dir.join("cells");
            cells::set_aside_foreign(&folder, store)?;
            let cells = Arc::new(ControlCells::open(&folder, store)?);
            metrics::prepare(&cells, Highest::default())?;
            cells.note_earlier();
            let writer = SnapshotWriter::open(&data_dir, store)?;
            let (page, writer) = (writer.page(), Mutex::new(writer));
            // Workers read the secret when they open the folder: it must exist before the first key is hashed.
            let secret = secret::load_or_make(&data_dir)?;
            Ok(Self {
                cells,
                ledger: Segments::open(&data_dir.join(LEDGER), store),
                writer,
                page,
                hasher: KeyHasher::new(&secret),
                sealer: Sealer::new(&secret),
                limits: Mutex::default(),
                pairs: Mutex::default(),
            })
        })
        .map_err(io_error)
    }

    fn hash_key<'py>(&self, py: Python<'py>, key: &[u8]) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.hasher.digest(key).as_bytes())
    }

    fn seal(&self, secret: &[u8]) -> PyResult<String> {
        self.sealer.seal(secret).map_err(io_error)
    }

    fn unseal<'py>(&self, py: Python<'py>, sealed: &str) -> PyResult<Bound<'py, PyBytes>> {
        let plain =
            self.sealer.open(sealed).ok_or_else(|| PyValueError::new_err("not a text that this folder sealed"))?;
        Ok(PyBytes::new(py, &plain))
    }

    fn ensure_column(&self, py: Python<'_>, n: u32, words: u64, rows: u64, key: &str) -> PyResult<()> {
        py.detach(|| self.cells.ensure_column(n, words, rows, key)).map_err(io_error)
    }

    fn adopts_rows(&self) -> bool {
        !rosters::is_open(&self.cells)
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn adopt_rows(&self, py: Python<'_>, series: Vec<Numbered>, calls: Vec<Numbered>) -> PyResult<()> {
        py.detach(|| rosters::adopt(&self.cells, &series, &calls)).map_err(io_error)
    }

    fn make_room(&self, py: Python<'_>) -> PyResult<()> {
        let pairs = *self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        py.detach(|| rosters::make_room(&self.cells, pairs)).map_err(io_error)
    }

    fn highest_column(&self, py: Python<'_>) -> PyResult<u32> {
        py.detach(|| self.cells.highest_column()).map_err(io_error)
    }

    /// See the stub.
    #[staticmethod]
    fn new_base() -> KeyBase {
        KeyBase::default()
    }

    fn write_base(&self, py: Python<'_>, base: &KeyBase) -> PyResult<()> {
        let builder = base.take().ok_or_else(|| value_error("this base was written before: read a new one"))?;
        py.detach(|| self.writer().write_base(builder)).map_err(publish_error)
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn append(
        &self,
        py: Python<'_>,
        upserts_consumers: Vec<ConsumerTuple>,
        upserts_credentials: Vec<CredentialTuple>,
        deleted_consumers: Vec<u32>,
        deleted_credentials: Vec<u32>,
    ) -> PyResult<()> {
        // Deletions first: a key may pass from a deleted credential to a new one in one call.
        let mut changes: Vec<Change<'_>> = deleted_credentials.into_iter().map(Change::CredentialGone).collect();
        changes.extend(deleted_consumers.into_iter().map(Change::ConsumerGone));
        let parts: Vec<_> = upserts_consumers.iter().map(|tuple| (refs(&tuple.4), groups(&tuple.6))).collect();
        for (tuple, (refs, groups)) in upserts_consumers.iter().zip(&parts) {
            changes.push(Change::Consumer(consumer(tuple, refs, groups)?));
        }
        for tuple in &upserts_credentials {
            let (credential, digest) = credential(tuple)?;
            changes.push(Change::Credential(credential, digest));
        }
        py.detach(|| self.writer().append(&changes)).map_err(publish_error)
    }

    fn take_back(&self) {
        self.writer().take_back();
    }

    fn stage(&self, py: Python<'_>, policy: &[u8]) -> PyResult<()> {
        py.detach(|| self.staged(policy).map(drop)).map_err(publish_error)
    }

    #[pyo3(signature = (policy))]
    fn publish(&self, py: Python<'_>, policy: Option<&[u8]>) -> PyResult<u64> {
        py.detach(|| {
            let mut writer = match policy {
                Some(json) => self.staged(json)?,
                None => self.writer(),
            };
            let generation = writer.publish(policy)?;
            *self.limits.lock().unwrap_or_else(PoisonError::into_inner) = writer.limits();
            Ok(generation)
        })
        .map_err(publish_error)
    }

    fn generation(&self) -> u64 {
        // A second handle: the writer's own may be locked for seconds by a large publish.
        self.page.generation()
    }

    fn delta_records(&self, py: Python<'_>) -> usize {
        py.detach(|| self.writer().delta_records())
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn standing<'py>(
        &self,
        py: Python<'py>,
        instances: Vec<InstanceTuple>,
        tier: u32,
        consumer: u32,
        credentials: Vec<NamedRow>,
        now_ns: u64,
    ) -> PyResult<Bound<'py, PyBytes>> {
        let instance = |(profile, source, rows): InstanceTuple| Instance { profile, source: source.into(), rows };
        let instances: Vec<_> = instances.into_iter().map(instance).collect();
        let limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let rows = py.detach(|| {
            let counters = limits.as_ref().map(|limits| limits.counters(&instances, tier, consumer, &credentials));
            self.cells.standing(counters.unwrap_or_default(), Moment(now_ns)).map(|rows| standing::json(&rows))
        });
        Ok(PyBytes::new(py, &rows.map_err(io_error)?))
    }

    /// See the stub.
    fn ledger(&self) -> Ledger {
        Ledger::new(Arc::clone(&self.cells), self.ledger.clone())
    }

    fn reclaim(&self, py: Python<'_>) -> PyResult<Vec<(u8, usize)>> {
        let reclaimed = py.detach(|| self.cells.reclaim()).map_err(io_error)?;
        Ok(reclaimed.into_iter().map(|one| (one.slot, one.found.open)).collect())
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn metrics(&self, py: Python<'_>, labels: MetricLabels) -> PyResult<String> {
        py.detach(|| metrics::page(&self.cells, &labels.into())).map_err(io_error)
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn families(&self, py: Python<'_>, labels: MetricLabels) -> PyResult<Vec<Family>> {
        py.detach(|| families::families(&self.cells, &labels.into())).map_err(io_error)
    }

    fn outages<'py>(&self, py: Python<'py>, upstreams: Vec<String>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let outages = py.detach(|| metrics::outages(&self.cells, upstreams));
        let rows = outages.into_iter().map(|(upstream, outage)| {
            let row = PyDict::new(py);
            row.set_item("upstream", upstream)?;
            row.set_item("since_ms", outage.since)?;
            row.set_item("reason", outage.fault.name())?;
            row.set_item("workers", outage.workers)?;
            Ok(row)
        });
        rows.collect()
    }

    #[allow(clippy::needless_pass_by_value)] // extracted from Python
    fn total_requests(&self, py: Python<'_>, routes: Vec<u32>) -> u64 {
        py.detach(|| metrics::total_requests(&self.cells, &routes))
    }

    fn count_consumers(&self, py: Python<'_>, on: bool) -> PyResult<()> {
        py.detach(|| metrics::count_consumers(&self.cells, on)).map_err(io_error)
    }

    fn counted_consumers(&self, py: Python<'_>) -> Vec<u32> {
        py.detach(|| metrics::consumers(&self.cells))
    }

    fn counting_since(&self, py: Python<'_>) -> PyResult<u64> {
        py.detach(|| metrics::counting_since(&self.cells)).map_err(io_error)
    }

    fn load_failures(&self) -> u64 {
        metrics::load_failures(&self.cells)
    }

    /// See the stub.
    fn begin_clock(&self) {
        self.cells.begin_clock();
    }

    fn slots<'py>(&self, py: Python<'py>) -> PyResult<Vec<Bound<'py, PyDict>>> {
        let reports = py.detach(|| self.cells.slots()).map_err(io_error)?;
        reports
            .into_iter()
            .map(|report| {
                let row = PyDict::new(py);
                row.set_item("slot", report.slot)?;
                row.set_item("pid", report.pid)?;
                row.set_item("state", report.state.name())?;
                row.set_item("generation", report.generation)?;
                row.set_item("in_flight", report.in_flight)?;
                row.set_item("inline", report.inline)?;
                row.set_item("silent_ms", report.silent_ms)?;
                row.set_item("ledger", report.ledger.name())?;
                Ok(row)
            })
            .collect()
    }
}

/// The two halves of the store's UUID.
fn store(text: &str) -> PyResult<StoreId> {
    let bytes = *uuid("store_id", text)?.as_bytes();
    let (halves, _) = bytes.as_chunks::<8>();
    Ok([u64::from_be_bytes(halves[0]), u64::from_be_bytes(halves[1])])
}

/// The addresses that upstreams may have, with these networks allowed.
pub fn reach(allowed: &str) -> PyResult<Reach> {
    Reach::parse(allowed).map_err(|part| value_error(format!("{part:?} is not a network: write it as 169.254.7.0/24")))
}

/// See the stub.
#[pyfunction]
#[pyo3(signature = (address, allowed=""))]
pub fn forbidden_address(address: &str, allowed: &str) -> PyResult<Option<&'static str>> {
    let address = address.parse().map_err(|_| value_error(format!("{address:?} is not an address")))?;
    Ok(reach(allowed)?.forbids(address).map(Forbidden::name))
}

/// See the stub.
#[pyfunction]
pub fn private_key_kind(pem: &str) -> PyResult<&'static str> {
    aigw_io::pem::key_kind(pem.as_bytes()).map_err(value_error)
}

/// See the stub.
#[pyfunction]
#[pyo3(signature = (chain, key=None))]
pub fn unusable_certificate(chain: &[u8], key: Option<&[u8]>) -> Option<String> {
    let Some(key) = key else { return aigw_io::pem::readable(chain).err() };
    aigw_io::pem::certified(chain, key).err()
}

/// See the stub.
#[pyfunction]
pub fn unusable_authorities(pem: &[u8]) -> Option<String> {
    aigw_io::pem::authorities(pem).err()
}

/// See the stub.
#[pyfunction]
pub fn check_string(kind: &str, text: &str) -> PyResult<Option<String>> {
    let kind = match kind {
        "path" => Text::Path,
        "host" => Text::Host,
        "header" => Text::Header,
        "address path" => Text::AddressPath,
        _ => return Err(value_error(format!("no text is called {kind:?}"))),
    };
    Ok(kind.wrong(text))
}
