//! The ledger's segments for the compactor: `_native.Ledger`.
//!
//! In: the names of segments, places of records. Out: entries, and counts of refusals as tuples of numbers. It
//! converts and delegates to `aigw_io::ledger`; file work runs without the GIL. It changes no segment, and removes none that somebody
//! still needs.

use std::sync::Arc;

use aigw_core::entry::doubt::{self, Doubt};
use aigw_core::entry::record::{Record, RecordKind, SEGMENT_RECORDS};
use aigw_core::entry::recover::Tail;
use aigw_io::cells::{ControlCells, Waiting};
use aigw_io::ledger::{LedgerState, SegmentName, SegmentRead, Segments};
use pyo3::prelude::*;

use crate::entries::{Entries, Fields};
use crate::errors::io_error;

/// Segments of a living owner that are kept, though their records are stored: a permit that ends while it dies has its row there.
const KEPT: usize = 3;

/// (life, slot, number, live, synced, end)
type Segment = (u64, u8, u32, bool, u32, Option<u32>);
/// (request, column, row, end of the window, amount)
type DoubtTuple = (String, u32, u32, u64, u64);
/// (entries, denials, doubts, next, damage)
type Read = (Entries, Vec<(u64, u32, u32, u32, u32, u64)>, Vec<DoubtTuple>, u32, Option<String>);

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
            // A spare whose owner has died is a segment without records: it goes as the others do, and shows that one before it is missing.
            for segment in life.segments.iter().filter(|segment| !segment.is_spare || !life.is_alive) {
                let name = SegmentName { life: life.life, slot: life.slot, number: segment.number };
                let end = match segment.records {
                    _ if segment.is_spare => Some(0),
                    Some(records) => Some(records),
                    // A file that was moved away and back, or restored: its owner may put its own in this place yet.
                    None if life.is_alive || self.cells.is_alive(life.slot, life.life)? => None,
                    // Nobody writes it any more: it ends where its last record does. A file that cannot be read has its error where its
                    // records are read, and the others go on.
                    None if segment.error.is_none() => {
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

    fn read(&self, py: Python<'_>, life: u64, slot: u8, number: u32, start: u32, most: u32) -> PyResult<Read> {
        let name = SegmentName { life, slot, number };
        let read = py.detach(|| self.segments.read(name, start, most)).map_err(io_error)?;
        let (mut entries, mut denials, mut doubts) = (Vec::with_capacity(read.records.len()), Vec::new(), Vec::new());
        for record in &read.records {
            match record.kind {
                RecordKind::Entry => entries.push(Fields::of(name, record)),
                RecordKind::Denials => denials.push(denial(record)),
                RecordKind::Doubt => doubts.extend(doubt::decode(&record.payload).map(doubted)),
            }
        }
        let damage = damage(&read);
        Ok((Entries(entries), denials, doubts, read.next, damage))
    }

    fn status(&self, py: Python<'_>) -> PyResult<(u64, usize, Option<String>)> {
        py.detach(|| {
            let slots = self.cells.slots()?;
            let segments = self.segments.lives()?.iter().map(|life| life.segments.len()).sum();
            let unsynced = slots.iter().map(|slot| slot.unsynced).sum();
            let is_any = |state| slots.iter().any(|slot| slot.ledger == state);
            let fault = if is_any(LedgerState::Displaced) {
                let dir = self.segments.dir().display();
                Some(format!(
                    "files of the ledger were removed or moved, and cannot be written anew (the log line ledger_refuses says why): calls are refused with 503 until the folder {dir} is there again. Put it back; where it is lost, make it anew (mkdir -p {dir})"
                ))
            } else if is_any(LedgerState::Full) {
                Some("the disk of the data folder is full: calls are refused with 503 until there is room for the ledger".to_owned())
            } else if is_any(LedgerState::Failing) {
                Some("the ledger cannot be put on its disk: look at the kernel's log, and move the data folder to a sound disk".to_owned())
            } else {
                self.cells.waiting().map(|Waiting { calls, why }| {
                    format!(
                        "{calls} call(s) of killed workers wait, since their entries may be in a segment that cannot be read ({why}): make it readable, or move it out of the folder ledger/ for good, and they get entries anew"
                    )
                })
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
        let (records, they) = if lost == 1 { ("record", "it was") } else { ("records", "they were") };
        texts.push(format!("{lost} {records} cannot be read: {they} damaged on the disk"));
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
