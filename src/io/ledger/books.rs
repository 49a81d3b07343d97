//! The ledger of a dead worker, while its permits are ended.
//!
//! In: the segments that it has left, and those of the control process. Out: the amounts of a call that has a row, and a row for each call
//! that has none. A worker appends the row of a call at its end, so the last segments of a life have the rows of all calls that it was
//! about to end when it died.

use std::collections::HashMap;
use std::io;

use aigw_core::admit::{Books, NoRoom};
use aigw_core::cells::journal::{DRAFT_WORDS, TakenAmount};
use aigw_core::entry::record::{RecordKind, SEGMENT_RECORDS};
use aigw_core::entry::{Entry, doubt};
use aigw_core::limits::Usage;
use aigw_core::units::{Moment, RequestId};

use super::name::SegmentName;
use super::reader::Segments;
use super::writer::LedgerWriter;

/// The slot of the control process in the names of segments.
pub const CONTROL_SLOT: u8 = 99;
/// Segments of a life that are searched. A journal has 8,192 permits and a segment 4,095 records: rows that are written while a
/// worker dies are in the last three.
const SEARCHED: usize = 3;

/// The ledger of one dead worker.
pub struct DeadBooks<'a> {
    writer: &'a LedgerWriter,
    now: Moment,
    written: HashMap<RequestId, Usage>,
}

impl<'a> DeadBooks<'a> {
    /// The books of the worker that started at `life` with this slot. New rows go to `writer`.
    pub fn open(segments: &Segments, life: u64, slot: u8, writer: &'a LedgerWriter, now: Moment) -> io::Result<Self> {
        let mut written = HashMap::new();
        for found in segments.lives()? {
            let is_dead_workers = (found.life, found.slot) == (life, slot);
            if !is_dead_workers && found.slot != CONTROL_SLOT {
                continue;
            }
            for segment in found.segments.iter().rev().filter(|segment| !segment.is_spare).take(SEARCHED) {
                let name = SegmentName { life: found.life, slot: found.slot, number: segment.number };
                let read = segments.read(name, 0, SEGMENT_RECORDS)?;
                let entries = read.records.iter().filter(|record| record.kind == RecordKind::Entry);
                let last = entries.map(|record| Entry::decode(&record.payload)).filter(|entry| entry.last);
                written.extend(last.map(|entry| (entry.request, entry.used())));
            }
        }
        Ok(Self { writer, now, written })
    }
}

impl Books for DeadBooks<'_> {
    fn used(&mut self, request: RequestId) -> Option<Usage> {
        self.written.get(&request).copied()
    }

    fn add(&mut self, draft: &[u64; DRAFT_WORDS], progress: Option<[u64; 3]>) -> Result<Option<Usage>, NoRoom> {
        let entry = Entry::crashed(draft, progress, self.now);
        if !self.writer.reserve(1) {
            return Err(NoRoom);
        }
        self.writer.append(RecordKind::Entry, &entry.encode()).map_err(|_| NoRoom)?;
        Ok(Some(entry.used()))
    }

    fn doubt(&mut self, request: RequestId, lines: impl Iterator<Item = TakenAmount>) -> Result<(), NoRoom> {
        for record in doubt::encode(request, lines) {
            if !self.writer.reserve(1) {
                return Err(NoRoom);
            }
            self.writer.append(RecordKind::Doubt, &record).map_err(|_| NoRoom)?;
        }
        Ok(())
    }
}
