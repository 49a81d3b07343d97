//! The ledger's segments for the compactor: `_native.Ledger`.
//!
//! In: the names of segments, places of records. Out: entries and counts of refusals as tuples of numbers, in the order of the stub. It
//! converts and delegates to `aigw_io::ledger`; file work runs without the GIL. It changes no segment, and removes none that somebody
//! still needs.

use std::sync::Arc;

use aigw_core::entry::Entry;
use aigw_core::entry::doubt::{self, Doubt};
use aigw_core::entry::record::{Record, RecordKind, SEGMENT_RECORDS};
use aigw_core::entry::recover::Tail;
use aigw_core::price::Media;
use aigw_core::units::RequestId;
use aigw_io::cells::ControlCells;
use aigw_io::ledger::{SegmentName, SegmentRead, Segments};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList, PyTuple};

use crate::errors::io_error;

/// Segments of a living owner that are kept, though their records are stored: a permit that ends while it dies has its row there.
const KEPT: usize = 3;

/// (life, slot, number, live, synced, end)
type Segment = (u64, u8, u32, bool, u32, Option<u32>);
/// (request, column, row, end of the window, amount)
type DoubtTuple = (String, u32, u32, u64, u64);
/// (entries, denials, doubts, next, damage)
type Read<'py> = (Bound<'py, PyList>, Vec<(u64, u32, u32, u32, u32, u64)>, Vec<DoubtTuple>, u32, Option<String>);

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct Ledger {
    cells: Arc<ControlCells>,
    segments: Segments,
}

impl Ledger {
    pub(crate) fn new(cells: Arc<ControlCells>, segments: Segments) -> Self {
        Self { cells, segments }
    }

    fn all(&self) -> std::io::Result<Vec<Segment>> {
        let mut found = Vec::new();
        for life in self.segments.lives()? {
            for segment in life.segments.iter().filter(|segment| !segment.is_spare) {
                let name = SegmentName { life: life.life, slot: life.slot, number: segment.number };
                let end = match segment.records {
                    Some(records) => Some(records),
                    // Nobody writes it any more: it ends where its last record does. A file that cannot be read has its error where its
                    // records are read, and the others go on.
                    None if !segment.is_owned && segment.error.is_none() => {
                        self.segments.read(name, segment.synced, SEGMENT_RECORDS).ok().map(|read| read.next)
                    }
                    None => None,
                };
                found.push((name.life, name.slot, name.number, life.is_alive, segment.synced, end));
            }
        }
        Ok(found)
    }

    /// Whether a permit may still need the rows of a segment.
    fn is_needed(&self, name: SegmentName) -> std::io::Result<bool> {
        let lives = self.segments.lives()?;
        let Some(life) = lives.iter().find(|life| (life.life, life.slot) == (name.life, name.slot)) else {
            return Ok(false);
        };
        if life.is_alive {
            let begun = life.segments.iter().rev().filter(|segment| !segment.is_spare);
            return Ok(begun.take(KEPT).any(|segment| segment.number == name.number));
        }
        self.cells.has_permits_of(name.slot, name.life)
    }
}

#[pymethods]
impl Ledger {
    fn segments(&self, py: Python<'_>) -> PyResult<Vec<Segment>> {
        py.detach(|| self.all()).map_err(io_error)
    }

    fn read<'py>(
        &self,
        py: Python<'py>,
        life: u64,
        slot: u8,
        number: u32,
        start: u32,
        most: u32,
    ) -> PyResult<Read<'py>> {
        let name = SegmentName { life, slot, number };
        let read = py.detach(|| self.segments.read(name, start, most)).map_err(io_error)?;
        let (entries, mut denials, mut doubts) = (PyList::empty(py), Vec::new(), Vec::new());
        for record in &read.records {
            match record.kind {
                RecordKind::Entry => entries.append(entry(py, name, record)?)?,
                RecordKind::Denials => denials.push(denial(record)),
                RecordKind::Doubt => doubts.extend(doubt::decode(&record.payload).map(doubted)),
            }
        }
        let damage = damage(&read);
        Ok((entries, denials, doubts, read.next, damage))
    }

    fn status(&self, py: Python<'_>) -> PyResult<(u64, usize, Option<String>)> {
        py.detach(|| {
            let slots = self.cells.slots()?;
            let segments = self.segments.lives()?.iter().map(|life| life.segments.len()).sum();
            let unsynced = slots.iter().map(|slot| slot.unsynced).sum();
            let fault = if slots.iter().any(|slot| slot.ledger_full) {
                Some("the disk of the data folder is full: calls are refused with 503 until there is room for the ledger".to_owned())
            } else if slots.iter().any(|slot| slot.ledger_failing) {
                Some("the ledger cannot be put on its disk: look at the kernel's log, and move the data folder to a sound disk".to_owned())
            } else {
                None
            };
            Ok((unsynced, segments, fault))
        })
        .map_err(io_error)
    }

    fn remove(&self, py: Python<'_>, life: u64, slot: u8, number: u32) -> PyResult<bool> {
        let name = SegmentName { life, slot, number };
        py.detach(|| {
            if self.is_needed(name)? {
                return Ok(false);
            }
            match self.segments.remove(name) {
                Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Ok(false),
                removed => removed.map(|()| true),
            }
        })
        .map_err(io_error)
    }
}

fn damage(read: &SegmentRead) -> Option<String> {
    let lost: u32 = read.gaps.iter().map(|gap| gap.records).sum();
    let mut texts = Vec::new();
    if lost > 0 {
        texts.push(format!("{lost} records cannot be read: they were damaged on the disk"));
    }
    if let Tail::Torn { first, places, sound } = read.tail {
        texts.push(format!(
            "{places} places from record {first} on are damaged, and {sound} records among them are not read: their order is not sure"
        ));
    }
    if read.header_is_damaged {
        texts.push("words of its header cannot be read".into());
    }
    if read.missing_bytes > 0 {
        texts.push(format!("{} bytes are missing at its end", read.missing_bytes));
    }
    (!texts.is_empty()).then(|| texts.join("; "))
}

/// (start of the minute, consumer, tier, model, reason, count)
#[allow(clippy::cast_possible_truncation)] // halves of words
fn denial(record: &Record) -> (u64, u32, u32, u32, u32, u64) {
    let [minute, who, what, count, ..] = record.payload;
    (minute, who as u32, (who >> 32) as u32, what as u32, (what >> 32) as u32, count)
}

fn doubted(doubt: Doubt) -> DoubtTuple {
    let Doubt { request, column, row, window, amount } = doubt;
    // Databases have signed integers.
    let number = |value: u64| value.min(i64::MAX as u64);
    (request.to_string(), column, row, number(window), number(amount))
}

fn entry<'py>(py: Python<'py>, name: SegmentName, record: &Record) -> PyResult<Bound<'py, PyTuple>> {
    let entry = Entry::decode(&record.payload);
    let id = |id: RequestId| {
        let bytes: Vec<u8> = id.0.iter().flat_map(|word| word.to_be_bytes()).collect();
        (id != RequestId::default()).then(|| PyBytes::new(py, &bytes))
    };
    // Databases have signed integers.
    let number = |value: u64| value.min(i64::MAX as u64).into_pyobject(py).map(Bound::into_any);
    let mut fields: Vec<Bound<'py, PyAny>> = Vec::with_capacity(41);
    let place = [name.life, name.slot.into(), name.number.into(), record.sequence.into()];
    for value in place.into_iter().chain([entry.admitted_at.0, entry.ended_at.0]) {
        fields.push(number(value)?);
    }
    for id in [id(entry.request), id(entry.parent), id(entry.run)] {
        fields.push(id.into_pyobject(py)?.into_any());
    }
    let flags = u64::from(entry.counted)
        | u64::from(entry.overrun) << 1
        | u64::from(entry.stream) << 2
        | u64::from(entry.price.is_some()) << 3
        | u64::from(entry.cost.is_some()) << 4;
    let Entry { consumer, credential, tier, route, model, upstream, service, agent, .. } = entry;
    let numbers = [consumer, credential, tier, route, model, upstream, service, agent].map(u64::from);
    let how =
        [entry.status.into(), entry.attempt.into(), entry.depth.into(), entry.ended as u64, entry.source as u64, flags];
    let tokens = entry.tokens;
    let tokens = [tokens.input, tokens.cached_input, tokens.cache_write, tokens.output, tokens.reasoning];
    let money =
        [entry.price.unwrap_or_default(), entry.cost.unwrap_or_default(), entry.price_version, entry.cost_version];
    let times = [entry.latency, entry.first_byte, entry.queued, entry.limit_set].map(u64::from);
    let Media { image_input, audio_input, image_output, audio_output } = entry.tokens.media;
    let service = entry.tokens.service as u32;
    let special = [image_input, audio_input, image_output, audio_output, service].map(u64::from);
    for value in numbers.into_iter().chain(how).chain(tokens).chain(money).chain(times).chain(special) {
        fields.push(number(value)?);
    }
    PyTuple::new(py, fields)
}
