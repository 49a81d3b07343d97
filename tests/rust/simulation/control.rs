//! The control process: it ends the permits of dead workers with the product's `reclaim` and `DeadBooks`, and moves entries into the store.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use aigw_core::admit::{Books as Rows, NotNow, Reclaimed, reclaim};
use aigw_core::cells::heap::{HeapLock, HeapWords};
use aigw_core::cells::journal::{DRAFT_WORDS, TakenAmount};
use aigw_core::cells::{Cells, OpenArea, Words};
use aigw_core::entry::record::RecordKind;
use aigw_core::limits::Usage;
use aigw_core::units::{Moment, RequestId};
use aigw_io::ledger::{DeadBooks, LedgerWriter, SegmentName, Segments, Syncer};

use crate::books::Books;
use crate::disk::VirtualDisk;
use crate::drawn::Drawn;
use crate::memory::{Life, Memory, WIDTHS, row};
use crate::plan::Planted;
use crate::store::{Batch, Listed, Store, is_over, list, read, text};

/// The control process.
pub struct Control {
    pub life: Arc<Life>,
    pub writer: Arc<LedgerWriter>,
    pub syncer: Syncer,
    columns: Vec<HeapWords>,
    area: OpenArea<HeapWords, HeapLock>,
    round: Round,
}

/// The step of the compactor's round.
enum Round {
    Idle,
    Listed(Vec<Listed>),
    Read(Vec<Listed>, Batch),
    /// Planted: the entries are committed, the cursors are not.
    Apart(Vec<Listed>, Batch),
    Removing(Vec<Listed>),
}

impl Control {
    pub fn new(memory: &Memory, writer: Arc<LedgerWriter>, syncer: Syncer) -> Self {
        let life = Life::new();
        Self {
            columns: memory.columns.to_vec(),
            area: OpenArea::new(memory.area.clone(), HeapLock::default()).unwrap(),
            life,
            writer,
            syncer,
            round: Round::Idle,
        }
    }

    /// Ends the permits in a dead worker's ring. `None`: the control process died on the way.
    pub fn reclaim(
        &self,
        ring: &[AtomicU64],
        left: Left,
        segments: &Segments,
        now: Moment,
    ) -> Result<Option<Reclaimed>, String> {
        let rows = DeadBooks::open(segments, left.life, left.slot, true, &self.writer, now).map_err(text)?;
        let mut rows = MortalBooks { rows, life: &self.life };
        let work = || reclaim(ring, self, left.same_boot, &mut rows);
        match catch_unwind(AssertUnwindSafe(work)) {
            Ok(found) => Ok(Some(found)),
            Err(panic) if panic.is::<Killed>() => Ok(None),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// One step of the compactor.
    pub fn compact(&mut self, at: &mut Shelf<'_>) -> Result<(), String> {
        self.round = match std::mem::replace(&mut self.round, Round::Idle) {
            Round::Idle => Round::Listed(list(at.segments)?),
            Round::Listed(listed) => {
                let most = 1 + u32::try_from(at.dice.below(20)).unwrap_or(0);
                let batch = read(at.segments, at.store, &listed, most)?;
                Round::Read(listed, batch)
            }
            Round::Read(listed, batch) => {
                at.books.tell(|| format!("{batch:?} is committed"));
                at.store.commit(&batch, at.planted)?;
                if at.planted == Some(Planted::CursorApart) {
                    Round::Apart(listed, batch)
                } else {
                    Round::Removing(listed)
                }
            }
            Round::Apart(listed, batch) => {
                at.store.commit_cursors(&batch);
                Round::Removing(listed)
            }
            Round::Removing(mut listed) => match listed.pop() {
                None => Round::Idle,
                Some(one) => {
                    remove(&one, at)?;
                    Round::Removing(listed)
                }
            },
        };
        Ok(())
    }

    pub fn is_idle(&self) -> bool {
        matches!(self.round, Round::Idle)
    }
}

/// The worker that has left a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Left {
    pub slot: u8,
    pub life: u64,
    pub same_boot: bool,
}

/// The parts of a world that the compactor works on.
pub struct Shelf<'a> {
    pub segments: &'a Segments,
    pub store: &'a mut Store,
    pub disk: &'a VirtualDisk,
    pub books: &'a Books,
    pub dice: &'a mut Drawn,
    pub planted: Option<Planted>,
    pub has_permits: &'a dyn Fn(u8, u64) -> bool,
}

impl Shelf<'_> {
    /// All records of a segment that is about to go are in the store.
    fn check_removal(&self, name: SegmentName) -> Result<(), String> {
        let read = self.segments.read(name, 0, u32::MAX).map_err(text)?;
        let mut entries = read.records.iter().filter(|record| record.kind == RecordKind::Entry);
        let missing = entries.find(|record| !self.store.has((name, record.sequence)));
        missing.map_or(Ok(()), |record| {
            Err(format!("{name} is removed, and its record {} is not in the store", record.sequence))
        })
    }
}

/// Removes a segment that nobody needs.
fn remove(one: &Listed, at: &mut Shelf<'_>) -> Result<(), String> {
    let Some(name) = is_over(at.segments, at.store, one, at.has_permits)? else { return Ok(()) };
    at.books.tell(|| format!("{name} is removed"));
    at.check_removal(name)?;
    match at.segments.remove(name) {
        Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => Ok(()),
        removed => {
            at.disk.removed(name);
            removed.map_err(text)
        }
    }
}

/// The end of the thread of a killed process.
struct Killed;

/// The dead worker's books, for a process that may die, too.
struct MortalBooks<'a> {
    rows: DeadBooks<'a>,
    life: &'a Life,
}

fn live(life: &Life) {
    if life.touch() < 0 {
        resume_unwind(Box::new(Killed));
    }
}

impl Rows for MortalBooks<'_> {
    fn used(&mut self, request: RequestId) -> Option<Usage> {
        live(self.life);
        self.rows.used(request)
    }

    fn add(&mut self, draft: &[u64; DRAFT_WORDS], progress: Option<[u64; 3]>) -> Result<Option<Usage>, NotNow> {
        live(self.life);
        let added = self.rows.add(draft, progress);
        live(self.life);
        added
    }

    fn doubt(&mut self, request: RequestId, lines: impl Iterator<Item = TakenAmount>) -> Result<(), NotNow> {
        live(self.life);
        self.rows.doubt(request, lines)
    }
}

impl Cells for Control {
    type Words = HeapWords;
    type Lock = HeapLock;

    fn dense(&self, column: u32, row: u32) -> Option<&AtomicU64> {
        self.row(column, row)?.first()
    }

    fn row(&self, column: u32, consumer: u32) -> Option<&[AtomicU64]> {
        live(&self.life);
        let column = column as usize;
        (column < WIDTHS.len()).then(|| row(self.columns[column].words(), column, consumer as usize))
    }

    fn column(&self, _: u32) -> &[AtomicU64] {
        &[]
    }

    fn open(&self) -> &OpenArea<HeapWords, HeapLock> {
        &self.area
    }
}
