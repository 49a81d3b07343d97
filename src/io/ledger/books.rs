//! The ledger of a dead worker, while its permits are ended.
//!
//! In: the segments that it has left, and those of the control process. Out: the amounts of a call that has a row, and a row for each call
//! that has none. A worker appends the row of a call at its end, so the last segments of a life have the rows of all calls that it was
//! about to end when it died.
//!
//! A row that cannot be read now, and may be read later, must not be written again: the call would be billed twice. So while a segment
//! that may have such a row cannot be read, calls without a row wait. A damaged place never becomes a row, and a segment of another
//! store has none of ours: both hold nobody up.

use std::collections::HashMap;
use std::io;

use aigw_core::admit::{Books, NotNow};
use aigw_core::cells::journal::{DRAFT_WORDS, TakenAmount};
use aigw_core::entry::record::{RecordKind, SEGMENT_RECORDS};
use aigw_core::entry::{Entry, doubt};
use aigw_core::limits::Usage;
use aigw_core::units::{Moment, RequestId};

use super::name::SegmentName;
use super::reader::{SegmentReport, Segments};
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
    /// Why a segment that may have a row of this worker's calls cannot be read.
    unread: Option<String>,
}

impl<'a> DeadBooks<'a> {
    /// The books of the worker that started at `life` with this slot. New rows go to `writer`. `is_earlier`: an earlier control process
    /// may have written rows of its calls.
    pub fn open(
        segments: &Segments,
        life: u64,
        slot: u8,
        is_earlier: bool,
        writer: &'a LedgerWriter,
        now: Moment,
    ) -> io::Result<Self> {
        let (mut written, mut unread) = (HashMap::new(), None);
        if !segments.dir().is_dir() {
            unread = Some(format!("{}: this folder is gone", segments.dir().display()));
        }
        for found in segments.lives()? {
            let is_dead_workers = (found.life, found.slot) == (life, slot);
            if !is_dead_workers && found.slot != CONTROL_SLOT {
                continue;
            }
            let may_have_rows = |segment: &&SegmentReport| !segment.is_spare && !segment.is_of_another_store;
            for segment in found.segments.iter().rev().filter(may_have_rows).take(SEARCHED) {
                let name = SegmentName { life: found.life, slot: found.slot, number: segment.number };
                let fault = match segments.read(name, 0, SEGMENT_RECORDS) {
                    Ok(read) => {
                        let entries = read.records.iter().filter(|record| record.kind == RecordKind::Entry);
                        let last = entries.map(|record| Entry::decode(&record.payload)).filter(|entry| entry.last);
                        written.extend(last.map(|entry| (entry.request, entry.used())));
                        // Its lock goes a moment after that of the slot. A control process that lives is this one.
                        let is_ending = segment.is_owned && is_dead_workers;
                        let ends_early = !segment.is_owned && !read.is_finished;
                        (is_ending || ends_early)
                            .then(|| format!("{name}: not all of it can be read by this version now"))
                    }
                    Err(error) => Some(error.to_string()),
                };
                if is_dead_workers || is_earlier {
                    unread = unread.or(fault);
                }
            }
        }
        Ok(Self { writer, now, written, unread })
    }

    /// Why calls without a row wait; `None`: they do not.
    pub fn unread(&self) -> Option<&str> {
        self.unread.as_deref()
    }
}

impl Books for DeadBooks<'_> {
    fn used(&mut self, request: RequestId) -> Option<Usage> {
        self.written.get(&request).copied()
    }

    fn add(&mut self, draft: &[u64; DRAFT_WORDS], progress: Option<[u64; 3]>) -> Result<Option<Usage>, NotNow> {
        if self.unread.is_some() {
            return Err(NotNow);
        }
        let entry = Entry::crashed(draft, progress, self.now);
        if !self.writer.reserve(1) {
            return Err(NotNow);
        }
        self.writer.append(RecordKind::Entry, &entry.encode()).map_err(|_| NotNow)?;
        Ok(Some(entry.used()))
    }

    fn doubt(&mut self, request: RequestId, lines: impl Iterator<Item = TakenAmount>) -> Result<(), NotNow> {
        for record in doubt::encode(request, lines) {
            if !self.writer.reserve(1) {
                return Err(NotNow);
            }
            self.writer.append(RecordKind::Doubt, &record).map_err(|_| NotNow)?;
        }
        Ok(())
    }
}
