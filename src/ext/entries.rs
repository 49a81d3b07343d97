//! Entries between segments and the ledger's tables: `_native.Entries`.
//!
//! In: records of segments, or tuples. Out: the fields of each entry as plain numbers, in the order of `aigw.ledger.source.ENTRY`, and a
//! tuple of them where Python asks for one. The compactor asks for none: its rows are made from the numbers.

use aigw_core::entry::Entry;
use aigw_core::entry::record::Record;
use aigw_core::price::Media;
use aigw_core::units::RequestId;
use aigw_io::ledger::SegmentName;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyIterator, PyList, PyTuple};

/// Places in an entry's tuple, as `aigw.ledger.source.ENTRY` has them.
pub(crate) mod at {
    pub(crate) const SEQUENCE: usize = 3;
    pub(crate) const ADMITTED_AT: usize = 4;
    pub(crate) const ENDED_AT: usize = 5;
    pub(crate) const REQUEST: usize = 6;
    pub(crate) const FIRST_ENTITY: usize = 9;
    pub(crate) const STATUS: usize = 17;
    pub(crate) const OUTCOME: usize = 20;
    pub(crate) const SOURCE: usize = 21;
    pub(crate) const FLAGS: usize = 22;
    pub(crate) const FIRST_AMOUNT: usize = 23;
    pub(crate) const PRICE_VERSION: usize = 30;
    pub(crate) const COST_VERSION: usize = 31;
}

/// Bits of an entry's flags, as `aigw.ledger.source` has them.
pub(crate) mod flag {
    pub(crate) const COUNTED: u64 = 1;
    pub(crate) const OVERRUN: u64 = 1 << 1;
    pub(crate) const STREAM: u64 = 1 << 2;
    pub(crate) const PRICED: u64 = 1 << 3;
    pub(crate) const COSTED: u64 = 1 << 4;
}

/// Fields of an entry.
pub(crate) const FIELDS: usize = 41;
/// Ids among them, from [`at::REQUEST`] on: of the request, its parent and its run.
const IDS: usize = 3;

/// One entry: its numbers by their places. The places of the ids hold 0.
#[derive(Clone)]
pub(crate) struct Fields {
    pub(crate) numbers: [u64; FIELDS],
    ids: [Option<[u8; 16]>; IDS],
}

impl Fields {
    pub(crate) fn of(name: SegmentName, record: &Record) -> Self {
        let entry = Entry::decode(&record.payload);
        let flags = [
            (entry.counted, flag::COUNTED),
            (entry.overrun, flag::OVERRUN),
            (entry.stream, flag::STREAM),
            (entry.price.is_some(), flag::PRICED),
            (entry.cost.is_some(), flag::COSTED),
        ];
        let flags = flags.into_iter().filter(|(holds, _)| *holds).map(|(_, bit)| bit).sum();
        let Entry { consumer, credential, tier, route, model, upstream, service, agent, .. } = entry;
        let tokens = entry.tokens;
        let Media { image_input, audio_input, image_output, audio_output } = tokens.media;
        let parts: [&[u64]; 7] = [
            &[name.life, name.slot.into(), name.number.into(), record.sequence.into()],
            &[entry.admitted_at.0, entry.ended_at.0, 0, 0, 0],
            &[consumer, credential, tier, route, model, upstream, service, agent].map(u64::from),
            &[
                entry.status.into(),
                entry.attempt.into(),
                entry.depth.into(),
                entry.ended as u64,
                entry.source as u64,
                flags,
            ],
            &[tokens.input, tokens.cached_input, tokens.cache_write, tokens.output, tokens.reasoning],
            &[entry.price.unwrap_or_default(), entry.cost.unwrap_or_default(), entry.price_version, entry.cost_version],
            &[entry.latency, entry.first_byte, entry.queued, entry.limit_set].map(u64::from),
        ];
        let special = [image_input, audio_input, image_output, audio_output, tokens.service as u32].map(u64::from);
        let mut numbers = [0; FIELDS];
        // Databases have signed integers.
        for (number, value) in numbers.iter_mut().zip(parts.into_iter().flatten().chain(&special)) {
            *number = (*value).min(i64::MAX as u64);
        }
        Self { numbers, ids: [entry.request, entry.parent, entry.run].map(bytes) }
    }

    /// Raises `ValueError` for a tuple of another length, else what its fields raise.
    fn from_tuple(entry: &Bound<'_, PyTuple>) -> PyResult<Self> {
        if entry.len() != FIELDS {
            return Err(PyValueError::new_err(format!("an entry has {FIELDS} fields, not {}", entry.len())));
        }
        let mut fields = Self { numbers: [0; FIELDS], ids: [None; IDS] };
        for (place, value) in entry.iter().enumerate() {
            match fields.ids.get_mut(place.wrapping_sub(at::REQUEST)) {
                Some(id) => *id = value.extract()?,
                None => fields.numbers[place] = value.extract()?,
            }
        }
        Ok(fields)
    }

    /// The id at this place of the tuple, if it is one of an id.
    pub(crate) fn id(&self, place: usize) -> Option<&Option<[u8; 16]>> {
        self.ids.get(place.wrapping_sub(at::REQUEST))
    }

    fn to_tuple<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        let of = |place| match self.id(place) {
            Some(Some(id)) => Ok(PyBytes::new(py, id).into_any()),
            Some(None) => Ok(py.None().into_bound(py)),
            None => Ok(self.numbers[place].into_pyobject(py)?.into_any()),
        };
        PyTuple::new(py, (0..FIELDS).map(of).collect::<PyResult<Vec<Bound<'py, PyAny>>>>()?)
    }
}

fn bytes(id: RequestId) -> Option<[u8; 16]> {
    let RequestId([high, low]) = id;
    (id != RequestId::default()).then(|| (u128::from(high) << 64 | u128::from(low)).to_be_bytes())
}

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct Entries(pub(crate) Vec<Fields>);

#[pymethods]
impl Entries {
    #[new]
    fn new(entries: Vec<Bound<'_, PyTuple>>) -> PyResult<Self> {
        entries.into_iter().map(|entry| Fields::from_tuple(&entry)).collect::<PyResult<_>>().map(Self)
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        let tuples: Vec<_> = self.0.iter().map(|entry| entry.to_tuple(py)).collect::<PyResult<_>>()?;
        PyList::new(py, tuples)?.try_iter()
    }
}
