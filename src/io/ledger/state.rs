//! The files in use and the room in them: everything that the writer's mutex guards. It makes no system call.
//!
//! `room` counts the places left in the current segment and in the spare; a call is admitted when a place is left that no other
//! call has claimed. So an append with a claim never fails: a full segment is left for the spare in the same step.
//!
//! A file whose `fdatasync` failed, or whose name was taken away, gets a copy. From the moment that the copy is whole (`copy` is set) until it has the file's
//! name, each append writes both: whichever of them has the name after a kill, it has every record.

use std::collections::VecDeque;
use std::sync::Arc;

use aigw_core::entry::record::{Payload, RecordKind, SEGMENT_RECORDS};

use super::header::{FIRST, Word};
use super::segment::Segment;

/// The place of a record: with life and slot its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Number of its segment.
    pub segment: u32,
    /// Its number in the segment.
    pub sequence: u32,
}

impl Position {
    /// Its number among all records of its life and slot: a segment is only left when it is full.
    pub(super) fn index(self) -> u64 {
        u64::from(self.segment) * u64::from(SEGMENT_RECORDS) + u64::from(self.sequence)
    }
}

/// A segment with records that are not on disk yet, or may come.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub segment: Arc<Segment>,
    /// Takes the place of `segment`, which has `failed`.
    pub copy: Option<Arc<Segment>>,
    /// Its records.
    pub records: u32,
    /// Records that are on disk.
    pub synced: u32,
    /// Its `fdatasync` failed, and the kernel may have dropped pages, or its name is lost: this file is never synced again.
    pub failed: bool,
    /// The copy may have the file's name already.
    pub renaming: bool,
}

impl Held {
    fn begin(segment: Arc<Segment>, before: u32) -> Self {
        segment.set(Word::Begun, before);
        Self { segment, copy: None, records: 0, synced: 0, failed: false, renaming: false }
    }

    fn files(&self) -> impl Iterator<Item = &Arc<Segment>> {
        [&self.segment].into_iter().chain(&self.copy)
    }

    fn set(&self, word: Word, value: u32) {
        self.files().for_each(|file| file.set(word, value));
    }

    fn is_full(&self) -> bool {
        self.records == self.segment.places
    }

    pub fn number(&self) -> u32 {
        self.segment.name.number
    }
}

/// Behind the writer's mutex.
#[derive(Debug, Default)]
pub(super) struct State {
    current: Option<Held>,
    spare: Option<Arc<Segment>>,
    /// Left, and not on disk as a whole yet. Oldest first.
    left: VecDeque<Held>,
    reserved: u64,
    appended: u64,
    closed: bool,
    /// An open file is not at its path, and the writer cannot write the file there again. The worker admits no new call then.
    displaced: bool,
}

impl State {
    pub fn new() -> Self {
        // Two would do while files can be synced: an append never waits for memory.
        Self { left: VecDeque::with_capacity(64), ..Self::default() }
    }

    /// Places that records can be written to.
    #[inline]
    pub fn room(&self) -> u64 {
        let current = self.current.as_ref().map_or(0, |held| u64::from(held.segment.places - held.records));
        current + self.spare.as_ref().map_or(0, |spare| u64::from(spare.places))
    }

    #[inline]
    pub fn reserve(&mut self, n: u32) -> bool {
        let wanted = self.reserved.saturating_add(n.into());
        let fits = !(self.closed | self.displaced) && wanted <= self.room();
        if fits {
            self.reserved = wanted;
        }
        fits
    }

    #[inline]
    pub fn release(&mut self, n: u32) {
        self.reserved = self.reserved.saturating_sub(n.into());
    }

    /// Writes a record and takes one claim. `None` without a claim, where every place that is left has been claimed.
    #[inline]
    pub fn append(&mut self, kind: RecordKind, payload: &Payload) -> Option<Position> {
        if self.reserved == 0 && self.room() == 0 {
            return None;
        }
        if self.current.as_ref().is_none_or(Held::is_full) {
            self.turn()?;
        }
        let held = self.current.as_mut()?;
        held.segment.write(held.records, kind, payload);
        if let Some(copy) = &held.copy {
            copy.write(held.records, kind, payload);
        }
        let position = Position { segment: held.number(), sequence: held.records };
        held.records += 1;
        self.reserved = self.reserved.saturating_sub(1);
        self.appended += 1;
        Some(position)
    }

    /// Leaves the full segment for the spare. The spare is begun first: from that word on, readers know where the full one ends.
    #[cold]
    fn turn(&mut self) -> Option<()> {
        let next = self.spare.take()?;
        let before = self.current.as_ref().map_or(FIRST, |held| held.records);
        let left = self.current.replace(Held::begin(next, before));
        self.leave(left);
        Some(())
    }

    fn leave(&mut self, held: Option<Held>) {
        if let Some(held) = held {
            held.set(Word::Sealed, held.records + 1);
            self.left.push_back(held);
        }
    }

    /// Whether a new segment has a place to go to.
    pub fn wants_segment(&self) -> bool {
        !self.closed && (self.current.is_none() || self.spare.is_none())
    }

    /// Takes a segment that is on disk, empty, under its name.
    pub fn install(&mut self, segment: Arc<Segment>) {
        if self.current.is_none() {
            let before = if segment.name.number == 0 { FIRST } else { segment.places };
            self.current = Some(Held::begin(segment, before));
        } else {
            self.spare = Some(segment);
        }
    }

    /// Takes a new file for the spare, unless the spare has become the current segment.
    pub fn renew_spare(&mut self, segment: &Arc<Segment>) -> bool {
        let is_spare = self.spare.as_ref().is_some_and(|spare| spare.name == segment.name);
        if is_spare {
            self.spare = Some(Arc::clone(segment));
        }
        is_spare
    }

    /// Whether calls are refused because a file is not at its path.
    pub fn set_displaced(&mut self, displaced: bool) {
        self.displaced = displaced;
    }

    /// The files that are open, oldest first.
    pub fn files(&self) -> Vec<Arc<Segment>> {
        let held = self.left.iter().chain(&self.current).map(|held| &held.segment);
        held.chain(&self.spare).cloned().collect()
    }

    /// Ends the writing in order; returns the spare, which is not needed any more.
    pub fn close(&mut self) -> Option<Arc<Segment>> {
        self.closed = true;
        if let Some(held) = self.current.take() {
            held.set(Word::Closed, 1);
            self.leave(Some(held));
        }
        self.spare.take()
    }

    /// The segment to sync next: the oldest that was left, else the current one where it has news or has `failed`.
    pub fn due(&self) -> Option<Held> {
        let current = self.current.as_ref().filter(|held| held.failed || held.records > held.synced);
        self.left.front().or(current).cloned()
    }

    pub fn is_current(&self, number: u32) -> bool {
        self.current.as_ref().is_some_and(|held| held.number() == number)
    }

    pub fn held(&mut self, number: u32) -> Option<&mut Held> {
        self.left.iter_mut().chain(&mut self.current).find(|held| held.number() == number)
    }

    /// Notes that the first `records` of a segment are on disk. Returns the segment where nothing is left to do for it.
    pub fn note_synced(&mut self, number: u32, records: u32) -> Option<Held> {
        if let Some(held) = self.held(number) {
            held.synced = records;
            held.set(Word::Synced, records);
        }
        // Not where it was left after its sync had begun, with records that the sync did not see.
        self.left.pop_front_if(|held| held.number() == number && held.synced == held.records)
    }

    /// Records that are not on disk.
    pub fn unsynced(&self) -> u64 {
        self.left.iter().chain(&self.current).map(|held| u64::from(held.records - held.synced)).sum()
    }

    pub fn reserved(&self) -> u64 {
        self.reserved
    }

    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Files that are open.
    pub fn segments(&self) -> usize {
        self.left.len() + usize::from(self.current.is_some()) + usize::from(self.spare.is_some())
    }
}
