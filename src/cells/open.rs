//! The hash area: counters for identifiers without a row (addresses, header values, paths).
//!
//! An identifier's tag names two buckets of eight entries `[tag, window word]`; its entry is in one of them. Lookups
//! and takes need no lock. Entries change hands only under the lock, and only when the old owner's window is over,
//! which is the same as never used. Three invariants make that exact, never loose:
//! 1. *Handing over is seen.* The word is swapped to `LOCKED`, the tag replaced, then the word set to (end of the
//!    new owner's window, 0): later than any end it ever had. So a take whose swap succeeds still owned the entry, and
//!    a refund finds its own window or nothing.
//! 2. *The area's time never goes back.* `MARK` is the latest time an entry was handed over at. A request with an earlier
//!    time (a stale or stepped clock) counts in the window of the mark, since an older one may be gone.
//! 3. *One counter per identifier and window.* When both buckets are full of live windows, the column's one overflow cell is
//!    used by all newcomers, and the column gets no new entry until its window ends. A request that was sent to the overflow
//!    cell for one window looks again when it finds a later one there.
//!
//! A process that dies while it hands over leaves the lock free and a note; the next holder takes the half-moved
//! entry back. The area does not grow and does not know identifiers, only tags.

use super::atomic::{AtomicU64, Ordering};

use super::counter::{self, LOCKED, Take, WindowState};
use super::shared::{CellFile, HEADER_WORDS, header};
use super::tag::TagKey;
use super::{Busy, CellKey, Exclusive, LayoutError, Tag, Words};
use crate::period::{Period, Window};
use crate::units::UnixSeconds;

/// Header words.
const BUCKETS: usize = header::OWN;
const KEY: usize = header::OWN + 1;
const MARK: usize = header::OWN + 3;
/// The note of a hand-over in progress: index of the entry's tag (0: none), and the word it will have.
const MOVING: usize = header::OWN + 4;
const MOVING_WORD: usize = header::OWN + 5;

/// The steady clock of the gateway's processes, which has nothing to do with the area: this file is the one that all of them have.
const CLOCK: usize = header::OWN + 6;

/// One shared cell for each column. Columns 4,096 apart share one, which is too strict and never too loose.
const OVERFLOW_CELLS: usize = 4_096;
const BUCKET_ENTRIES: usize = 8;
const ENTRY_WORDS: usize = 2;
const FIRST_BUCKET: usize = HEADER_WORDS + OVERFLOW_CELLS;

/// A take starts over at most this often because its entry changed hands.
const PATIENCE: usize = 64;

/// The number of words of an area with this many buckets (a power of two; each holds eight identifiers in 128 bytes).
pub const fn area_words(buckets: usize) -> usize {
    FIRST_BUCKET + buckets * BUCKET_ENTRIES * ENTRY_WORDS
}

/// The area, over words with another owner.
pub struct OpenArea<W, L> {
    words: W,
    lock: L,
    mask: usize,
    key: TagKey,
}

/// The identifier to count for, and the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// Column number.
    pub column: u32,
    /// The identifier, as [`OpenArea::key`] named it.
    pub tag: Tag,
    /// Length of the column's windows.
    pub period: Period,
    /// The time.
    pub now: UnixSeconds,
}

/// The counter of an identifier, and its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Index of the word in the area.
    pub index: u32,
    /// The window, never one before the area's mark.
    pub window: Window,
    still: Still,
}

/// The condition under which a changed word is the identifier's one counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Still {
    /// The entry is the tag's own.
    Owned(Tag),
    /// The overflow cell counts in the window until then. In a later one the identifier may have an entry.
    Until(UnixSeconds),
}

/// Makes an area of zeroed words.
///
/// The key is as secret and as random as the caller can make it, and stays with the area: under another one its
/// counts could never be found again.
pub fn format(words: &[AtomicU64], store: [u64; 2], key: TagKey) -> Result<(), LayoutError> {
    let buckets = words.len().saturating_sub(FIRST_BUCKET) / (BUCKET_ENTRIES * ENTRY_WORDS);
    if !buckets.is_power_of_two() || words.len() != area_words(buckets) {
        return Err(LayoutError::Foreign("open area"));
    }
    words[BUCKETS].store(buckets as u64, Ordering::Relaxed);
    words[KEY].store(key.0[0], Ordering::Relaxed);
    words[KEY + 1].store(key.0[1], Ordering::Relaxed);
    CellFile::Open.format(words, store)
}

impl<W: Words, L: Exclusive> OpenArea<W, L> {
    /// Checks that the words are an area.
    pub fn new(words: W, lock: L) -> Result<Self, LayoutError> {
        let all = words.words();
        CellFile::Open.check(all)?;
        let buckets = usize::try_from(all[BUCKETS].load(Ordering::Relaxed)).unwrap_or(0);
        // Below 2^27 buckets every index fits the 32 bits that a journal has for it.
        if !buckets.is_power_of_two() || buckets > 1 << 27 || all.len() != area_words(buckets) {
            return Err(LayoutError::Foreign("open area"));
        }
        let key = TagKey([all[KEY].load(Ordering::Relaxed), all[KEY + 1].load(Ordering::Relaxed)]);
        Ok(Self { words, lock, mask: buckets - 1, key })
    }

    /// The name of an identifier's counter.
    #[inline]
    pub fn key(&self, column: u32, identifier: &[u8]) -> CellKey {
        CellKey::Open { column, tag: self.key.tag(column, identifier) }
    }

    /// Two words for the clock that the gateway's processes share. No counter is in them.
    pub fn clock(&self) -> Option<&[AtomicU64; 2]> {
        self.words.words().get(CLOCK..CLOCK + 2)?.first_chunk()
    }

    /// The word at an index; only counters, never the header or a tag.
    pub(super) fn word(&self, index: u32) -> Option<&AtomicU64> {
        let index = index as usize;
        let overflow = (HEADER_WORDS..FIRST_BUCKET).contains(&index);
        let entry = index.checked_sub(FIRST_BUCKET).is_some_and(|at| at % ENTRY_WORDS == 1);
        (overflow || entry).then(|| self.words.words().get(index)).flatten()
    }

    /// Reads an identifier's count without making an entry for it. The second value is its window.
    pub fn look(&self, ask: Ask) -> (WindowState, Window) {
        let window = self.window(ask);
        let overflow = || self.overflows(ask.column, window).map(|_| overflow_index(ask.column));
        let index = self.find(ask.tag).or_else(overflow);
        let state = index.and_then(|index| counter::look(&self.words.words()[index], window));
        // An entry in motion has no owner: the window of the old one is over.
        (state.unwrap_or(WindowState::unused(window)), window)
    }

    /// Takes for an identifier, making its entry if it has none.
    ///
    /// `intend` gets the word before it is touched, each time another one is tried.
    pub fn take(&self, ask: Ask, amount: u64, limit: u32, mut intend: impl FnMut(Spot)) -> Result<(Take, Spot), Busy> {
        let words = self.words.words();
        for _ in 0..PATIENCE {
            let spot = self.locate(ask)?;
            intend(spot);
            let index = spot.index as usize;
            let mine = |seen| match spot.still {
                Still::Owned(tag) => words[index - 1].load(Ordering::Acquire) == tag.0,
                Still::Until(end) => counter::unpack(seen).end == end,
            };
            match counter::take_if(&words[index], spot.window, amount, limit, mine) {
                // Another thread moves the entry, or died while it did: under the lock the entry is whole again.
                Take::Moved => self.lock.alone(|| self.finish_move())?,
                done => return Ok((done, spot)),
            }
        }
        Err(Busy)
    }

    /// The identifier's counter now.
    fn locate(&self, ask: Ask) -> Result<Spot, Busy> {
        let Ask { column, tag, .. } = ask;
        loop {
            let mark = self.mark();
            let window = self.window(ask);
            // Asked before the lookup: an entry cannot appear afterwards as long as the column overflows.
            let overflows = self.overflows(column, window);
            if let Some(index) = self.find(tag) {
                return Ok(spot(index, window, Still::Owned(tag)));
            }
            let Some(end) = overflows else { return self.lock.alone(|| self.insert(ask)) };
            // The entry may have been missed because it was just handed over; then the mark has moved.
            if self.mark() == mark {
                return Ok(spot(overflow_index(column), window, Still::Until(end)));
            }
        }
    }

    /// Under the lock: the entry that has appeared meanwhile, a new one, or the overflow cell.
    fn insert(&self, ask: Ask) -> Spot {
        let Ask { column, tag, now, .. } = ask;
        self.finish_move();
        let words = self.words.words();
        let window = self.window(ask);
        if let Some(index) = self.find(tag) {
            return spot(index, window, Still::Owned(tag));
        }
        if self.overflows(column, window).is_none() {
            let at = now.max(self.mark());
            let mut candidates = self.buckets(tag).map(|bucket| (bucket, self.free_entries(bucket, at)));
            candidates.sort_by_key(|&(_, free)| core::cmp::Reverse(free));
            for (bucket, _) in candidates {
                for entry in entries(bucket) {
                    if self.hand_over(entry, tag, at, window.end) {
                        return spot(entry + 1, window, Still::Owned(tag));
                    }
                }
            }
        }
        // Opens the overflow cell for this window, so that the column gets no new entry in it from now on.
        let opened = words[overflow_index(column)].try_update(Ordering::AcqRel, Ordering::Acquire, |seen| {
            (counter::unpack(seen).end < window.end).then(|| counter::pack(window.end, 0))
        });
        let end = opened.map_or_else(|seen| counter::unpack(seen).end, |_| window.end);
        spot(overflow_index(column), window, Still::Until(end))
    }

    /// Under the lock: gives the entry to `tag` if its window is over at `at`.
    fn hand_over(&self, entry: usize, tag: Tag, at: UnixSeconds, end: UnixSeconds) -> bool {
        let words = self.words.words();
        let seen = words[entry + 1].load(Ordering::Acquire);
        if seen == LOCKED || counter::unpack(seen).end > at {
            return false;
        }
        let fresh = counter::pack(end, 0);
        words[MOVING_WORD].store(fresh, Ordering::Relaxed);
        words[MOVING].store(entry as u64, Ordering::Release);
        // Before the old owner's entry is gone: a reader that misses it must see the new mark.
        words[MARK].fetch_max(u64::from(at.0), Ordering::AcqRel);
        let locked = words[entry + 1].compare_exchange(seen, LOCKED, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if locked {
            words[entry].store(tag.0, Ordering::Release);
            words[entry + 1].store(fresh, Ordering::Release);
        }
        words[MOVING].store(0, Ordering::Release);
        locked
    }

    /// Under the lock: frees an entry whose last mover died half-way. Neither owner had counted on it yet.
    fn finish_move(&self) {
        let words = self.words.words();
        let entry = usize::try_from(words[MOVING].load(Ordering::Acquire)).unwrap_or(0);
        // A damaged note names no entry.
        let named = (FIRST_BUCKET..words.len() - 1).contains(&entry);
        if named && words[entry + 1].load(Ordering::Acquire) == LOCKED {
            words[entry].store(0, Ordering::Release);
            words[entry + 1].store(words[MOVING_WORD].load(Ordering::Relaxed), Ordering::Release);
        }
        words[MOVING].store(0, Ordering::Release);
    }

    fn find(&self, tag: Tag) -> Option<usize> {
        let words = self.words.words();
        let mut entries = self.buckets(tag).into_iter().flat_map(entries);
        entries.find(|&entry| words[entry].load(Ordering::Acquire) == tag.0).map(|entry| entry + 1)
    }

    fn free_entries(&self, bucket: usize, at: UnixSeconds) -> usize {
        let words = self.words.words();
        entries(bucket).filter(|&entry| counter::unpack(words[entry + 1].load(Ordering::Relaxed)).end <= at).count()
    }

    fn buckets(&self, tag: Tag) -> [usize; 2] {
        let (low, high) = ((tag.0 & 0xffff_ffff) as usize, (tag.0 >> 32) as usize);
        [low, high].map(|hash| FIRST_BUCKET + (hash & self.mask) * BUCKET_ENTRIES * ENTRY_WORDS)
    }

    /// The end of the window that the column's overflow cell counts in, if it is this window or a later one.
    fn overflows(&self, column: u32, window: Window) -> Option<UnixSeconds> {
        let end = counter::unpack(self.words.words()[overflow_index(column)].load(Ordering::Acquire)).end;
        (end >= window.end).then_some(end)
    }

    fn mark(&self) -> UnixSeconds {
        UnixSeconds::saturating(self.words.words()[MARK].load(Ordering::Acquire))
    }

    fn window(&self, ask: Ask) -> Window {
        ask.period.window(ask.now.max(self.mark()))
    }
}

fn entries(bucket: usize) -> impl Iterator<Item = usize> {
    (bucket..bucket + BUCKET_ENTRIES * ENTRY_WORDS).step_by(ENTRY_WORDS)
}

fn overflow_index(column: u32) -> usize {
    HEADER_WORDS + column as usize % OVERFLOW_CELLS
}

fn spot(index: usize, window: Window, still: Still) -> Spot {
    Spot { index: u32::try_from(index).unwrap_or(u32::MAX), window, still }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cells::heap::{HeapLock, HeapWords};

    const NOW: UnixSeconds = UnixSeconds(6_000);

    fn take(area: &OpenArea<HeapWords, HeapLock>, who: u8, now: UnixSeconds) -> (Take, Spot) {
        let tag = area.key.tag(1, &[who]);
        area.take(Ask { column: 1, tag, period: Period::Minute, now }, 1, 1, |_| ()).unwrap()
    }

    fn area() -> (OpenArea<HeapWords, HeapLock>, HeapWords) {
        let words = HeapWords::zeroed(area_words(1));
        format(words.words(), [1, 2], TagKey([3, 4])).unwrap();
        (OpenArea::new(words.clone(), HeapLock::default()).unwrap(), words)
    }

    #[test]
    fn note_of_an_entry_that_was_not_locked_takes_nothing_from_its_owner() {
        let (area, words) = area();
        let index = (0..7).map(|who| take(&area, who, NOW).1.index).nth(3).unwrap() as usize;
        words.words()[MOVING].store(index as u64 - 1, Ordering::SeqCst);
        assert!(matches!(take(&area, 7, NOW).0, Take::Took(_)), "a newcomer finishes the move");
        assert!(matches!(take(&area, 3, NOW).0, Take::Full(_)), "the owner has taken its one request");
    }

    #[test]
    fn entry_is_found_where_it_was_made() {
        let (area, _) = area();
        let ask = |who| Ask { column: 1, tag: area.key.tag(1, &[who]), period: Period::Minute, now: NOW };
        for who in 0..8 {
            let made = area.insert(ask(who));
            assert_eq!((area.locate(ask(who)).unwrap(), area.insert(ask(who))), (made, made));
            assert_eq!(made.still, Still::Owned(ask(who).tag));
        }
        let (window, bucket) = (Period::Minute.window(NOW), area.buckets(ask(0).tag)[0]);
        assert_eq!((area.overflows(1, window), area.free_entries(bucket, NOW)), (None, 0));
        assert_eq!(area.free_entries(bucket, window.end), 8);
        let index = u32::try_from(overflow_index(1)).unwrap();
        let shared = Spot { index, window, still: Still::Until(window.end) };
        assert_eq!(area.insert(ask(8)), shared);
        assert_eq!((area.overflows(1, window), area.locate(ask(9)).unwrap()), (Some(window.end), shared));
    }

    #[test]
    fn overflow_cell_that_is_open_keeps_its_count() {
        let (area, words) = area();
        let ask = |who| Ask { column: 1, tag: area.key.tag(1, &[who]), period: Period::Minute, now: NOW };
        for who in 0..9 {
            area.insert(ask(who));
        }
        let counted = counter::pack(Period::Minute.window(NOW).end, 5);
        words.words()[overflow_index(1)].store(counted, Ordering::SeqCst);
        area.insert(ask(9));
        assert_eq!(words.words()[overflow_index(1)].load(Ordering::SeqCst), counted);
    }

    #[test]
    fn area_has_a_power_of_two_of_buckets() {
        for (words, fits) in [
            (0, false),
            (area_words(1), true),
            (area_words(1) + 1, false),
            (area_words(2), true),
            (area_words(3), false),
        ] {
            let words = HeapWords::zeroed(words);
            assert_eq!(format(words.words(), [1, 2], TagKey([3, 4])).is_ok(), fits);
            assert_eq!(OpenArea::new(words, HeapLock::default()).is_ok(), fits);
        }
    }

    #[test]
    fn words_that_journals_may_name_are_counters() {
        let (area, words) = area();
        let named = |index: usize| area.word(u32::try_from(index).unwrap()).is_some();
        assert!((0..HEADER_WORDS).all(|index| !named(index)));
        assert!((HEADER_WORDS..FIRST_BUCKET).all(named));
        assert!((FIRST_BUCKET..words.words().len()).all(|index| named(index) == ((index - FIRST_BUCKET) % 2 == 1)));
        assert!((0..9).all(|more| !named(words.words().len() + more)));
    }

    #[test]
    fn damaged_note_is_cleared() {
        let (area, words) = area();
        for (who, note) in [(0, u64::MAX), (1, area_words(1) as u64 - 1), (2, 1), (3, FIRST_BUCKET as u64 - 1)] {
            words.words()[MOVING].store(note, Ordering::SeqCst);
            assert!(matches!(take(&area, who, NOW).0, Take::Took(_)));
            assert_eq!(words.words()[MOVING].load(Ordering::SeqCst), 0);
        }
    }

    /// Both halves of a tag name a bucket, in files of every version.
    #[test]
    fn tag_names_the_same_two_buckets_for_ever() {
        let words = HeapWords::zeroed(area_words(4));
        format(words.words(), [1, 2], TagKey([3, 4])).unwrap();
        let area = OpenArea::new(words, HeapLock::default()).unwrap();
        assert_eq!((area.key.0, [BUCKETS, KEY, MARK, MOVING, MOVING_WORD]), ([3, 4], [4, 5, 7, 8, 9]));
        assert_eq!([area_words(1), area_words(4)], [4_608 + 16, 4_608 + 64]);
        let buckets = area.buckets(Tag(0x0000_0006_ffff_fff1));
        assert_eq!(buckets, [HEADER_WORDS + 4_096 + 16, HEADER_WORDS + 4_096 + 32]);
        assert_eq!(entries(buckets[0]).collect::<Vec<_>>(), (0..8).map(|n| buckets[0] + 2 * n).collect::<Vec<_>>());
    }

    #[test]
    fn each_of_4096_columns_has_its_own_overflow_cell() {
        let cells: std::collections::BTreeSet<_> = (0..4_096).map(overflow_index).collect();
        assert_eq!((cells.len(), cells.first(), cells.last()), (4_096, Some(&HEADER_WORDS), Some(&(FIRST_BUCKET - 1))));
        assert_eq!(overflow_index(4_096 + 7), overflow_index(7));
    }

    /// A mover that died after each of its steps leaves an entry that serves on, and no count is lost by it.
    #[test]
    fn a_hand_over_cut_at_any_step_is_undone_by_the_next() {
        for (cut, first) in (0..4).flat_map(|cut| [(cut, 3), (cut, 20)]) {
            let words = HeapWords::zeroed(area_words(1));
            format(words.words(), [1, 2], TagKey([3, 4])).unwrap();
            let area = OpenArea::new(words.clone(), HeapLock::default()).unwrap();
            let old: Vec<_> = (0..8).map(|who| take(&area, who, NOW)).collect();
            let index = old[3].1.index as usize;
            let later = UnixSeconds(NOW.0 + 60);
            // The steps of `hand_over`, as far as the mover came.
            let fresh = counter::pack(UnixSeconds(later.0 + 60), 0);
            let words = words.words();
            words[MOVING_WORD].store(fresh, Ordering::SeqCst);
            words[MOVING].store(index as u64 - 1, Ordering::SeqCst);
            words[MARK].store(later.0.into(), Ordering::SeqCst);
            for (step, (at, value)) in [(index, LOCKED), (index - 1, 77), (index, fresh)].into_iter().enumerate() {
                if step < cut {
                    words[at].store(value, Ordering::SeqCst);
                }
            }
            // The entry's old owner and seven others, or eight others, are admitted once each in the new window.
            assert!(matches!(take(&area, first, later).0, Take::Took(_)), "cut after step {cut}");
            let took = (20..28).filter(|&who| matches!(take(&area, who, later).0, Take::Took(_))).count();
            assert!(took >= 7, "cut after step {cut}");
            assert!((20..28).all(|who| matches!(take(&area, who, later).0, Take::Full(_))), "cut after step {cut}");
            assert!(words[FIRST_BUCKET..].iter().all(|word| word.load(Ordering::SeqCst) != LOCKED));
            assert_eq!(words[MOVING].load(Ordering::SeqCst), 0);
        }
    }
}
