//! Two words that count a large amount in a window of time: tokens and money.
//!
//! The first word has a tag (8 bits) and the amount (56 bits), the second the end of its window in Unix seconds. A window
//! never moves backwards. The next window begins in three steps, each by compare-and-swap or maximum: the first word becomes
//! a note that names the new end, the second word takes that end, the first word becomes 0 under the next tag. Every process
//! that meets the note does the remaining steps, so a killed one holds nobody up. The tag changes with each window: a
//! thread that was stopped between reading and changing cannot change a later window, unless 255 windows have passed.

use super::atomic::{AtomicU64, Ordering};

use crate::units::UnixSeconds;

/// The highest amount that a cell counts; more stays at this value.
pub const MOST: u64 = (1 << VALUE) - 1;
/// Words of a cell.
pub const WORDS: u32 = 2;

const VALUE: u32 = 56;
/// The tag of a note. Its other bits: the tag before (8 bits from 32 on), and the end of the new window (32 bits).
const NOTE: u64 = 0xff;

/// The amount counted in a window, and the window's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BudgetState {
    /// The amount.
    pub amount: u64,
    /// The end of the window; 0 for a cell that never counted.
    pub end: UnixSeconds,
}

/// The outcome of an attempt to take. The state is the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Taken.
    Took(BudgetState),
    /// The amount would have passed the limit; nothing was taken.
    Full(BudgetState),
}

/// One cell.
#[derive(Clone, Copy, Debug)]
pub struct BudgetCell<'a> {
    value: &'a AtomicU64,
    end: &'a AtomicU64,
}

impl<'a> BudgetCell<'a> {
    /// Over the words of a row; `None` when there are fewer than two.
    #[inline]
    pub fn new(row: &'a [AtomicU64]) -> Option<Self> {
        match row {
            [value, end, ..] => Some(Self { value, end }),
            _ => None,
        }
    }

    /// Reads, and writes nothing: the window of the clock ends at `own`, and a later one in the cell counts instead.
    #[inline]
    pub fn look(self, own: UnixSeconds) -> BudgetState {
        let state = self.read();
        if state.end < own { BudgetState { amount: 0, end: own } } else { state }
    }

    /// Reads the window that the cell counts in.
    #[inline]
    pub fn read(self) -> BudgetState {
        loop {
            let word = self.value.load(Ordering::Acquire);
            if let Some((_, end)) = note(word) {
                return BudgetState { amount: 0, end };
            }
            let end = self.end.load(Ordering::Acquire);
            if self.value.load(Ordering::Acquire) == word {
                return BudgetState { amount: word & MOST, end: UnixSeconds::saturating(end) };
            }
        }
    }

    /// Takes an amount if no more than `limit` is counted with it, in the window that ends at `own` or the cell's later one.
    #[inline]
    pub fn take(self, own: UnixSeconds, amount: u64, limit: u64) -> Take {
        let most = limit.min(MOST);
        loop {
            let (word, state) = self.settled();
            if state.end < own {
                self.roll(word, own);
                continue;
            }
            if amount > most || state.amount > most - amount {
                return Take::Full(state);
            }
            if self.swap(word, word + amount) {
                return Take::Took(state);
            }
        }
    }

    /// Gives an amount back to the window that ends at `end`; nothing when another window counts.
    #[inline]
    pub fn give_back(self, end: UnixSeconds, amount: u64) {
        self.change(end, |counted| counted.saturating_sub(amount));
    }

    /// Counts an amount that was used already in the window that ends at `end`, past the limit if need be.
    #[inline]
    pub fn charge(self, end: UnixSeconds, amount: u64) {
        self.change(end, |counted| counted.saturating_add(amount).min(MOST));
    }

    #[inline]
    fn change(self, end: UnixSeconds, next: impl Fn(u64) -> u64) {
        loop {
            let (word, state) = self.settled();
            if state.end != end || self.swap(word, word & !MOST | next(state.amount)) {
                return;
            }
        }
    }

    /// The first word without a note, and the state that it belongs to.
    #[inline]
    fn settled(self) -> (u64, BudgetState) {
        loop {
            let word = self.value.load(Ordering::Acquire);
            if let Some((tag, end)) = note(word) {
                self.finish(word, tag, end);
                continue;
            }
            let end = UnixSeconds::saturating(self.end.load(Ordering::Acquire));
            if self.value.load(Ordering::Acquire) == word {
                return (word, BudgetState { amount: word & MOST, end });
            }
        }
    }

    /// Begins the window that ends at `own`.
    #[cold]
    fn roll(self, word: u64, own: UnixSeconds) {
        let tag = word >> VALUE;
        let noted = noted(tag, own);
        if self.swap(word, noted) {
            self.finish(noted, tag, own);
        }
    }

    /// The second and the third step of a new window, by whom ever meets its note.
    #[cold]
    fn finish(self, noted: u64, tag: u64, end: UnixSeconds) {
        self.end.fetch_max(u64::from(end.0), Ordering::AcqRel);
        let next = if tag + 1 >= NOTE { 0 } else { tag + 1 };
        self.swap(noted, next << VALUE);
    }

    #[inline]
    fn swap(self, from: u64, to: u64) -> bool {
        self.value.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// The note of a new window: the tag before it, and its end.
#[inline]
fn noted(tag: u64, end: UnixSeconds) -> u64 {
    NOTE << VALUE | tag << 32 | u64::from(end.0)
}

/// The tag before and the end of the new window, of a note.
#[inline]
fn note(word: u64) -> Option<(u64, UnixSeconds)> {
    (word >> VALUE == NOTE).then(|| (word >> 32 & NOTE, UnixSeconds::saturating(word & 0xffff_ffff)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn row() -> [AtomicU64; 2] {
        [AtomicU64::new(0), AtomicU64::new(0)]
    }

    /// A process that died after each step of a new window holds nobody up, and loses no count.
    #[test]
    fn a_window_begun_and_left_at_any_step_is_finished_by_the_next() {
        for cut in 0..3 {
            let row = row();
            let cell = BudgetCell::new(&row).unwrap();
            assert!(matches!(cell.take(UnixSeconds(60), 5, 10), Take::Took(_)));
            let word = row[0].load(Ordering::SeqCst);
            row[0].store(noted(word >> VALUE, UnixSeconds(0x78)), Ordering::SeqCst);
            if cut > 0 {
                row[1].store(0x78, Ordering::SeqCst);
            }
            if cut > 1 {
                row[0].store(((word >> VALUE) + 1) << VALUE, Ordering::SeqCst);
            }
            assert_eq!(cell.look(UnixSeconds(120)), BudgetState { amount: 0, end: UnixSeconds(120) });
            cell.give_back(UnixSeconds(60), 5);
            let before = BudgetState { amount: 0, end: UnixSeconds(120) };
            assert_eq!(cell.take(UnixSeconds(120), 7, 10), Take::Took(before));
            assert_eq!(cell.take(UnixSeconds(60), 4, 10), Take::Full(BudgetState { amount: 7, ..before }));
        }
    }

    #[test]
    fn note_tells_its_tag_and_its_end() {
        for (tag, end) in [(0, 0), (1, 60), (0x95, 0x8000_0001), (NOTE - 1, u32::MAX - 1)] {
            assert_eq!(note(noted(tag, UnixSeconds(end))), Some((tag, UnixSeconds(end))));
        }
        assert_eq!(MOST, 0x00ff_ffff_ffff_ffff);
        assert_eq!(noted(3, UnixSeconds(120)), 0xff00_0003_0000_0078);
        assert_eq!(note((NOTE - 1) << VALUE | MOST), None);
    }

    #[test]
    fn tags_go_round_and_amounts_stay_within_their_bits() {
        let row = row();
        let cell = BudgetCell::new(&row).unwrap();
        for n in 1..=2 * NOTE {
            let end = UnixSeconds::saturating(n * 60);
            assert!(matches!(cell.take(end, 3, 3), Take::Took(BudgetState { amount: 0, .. })));
            cell.charge(end, u64::MAX);
            assert_eq!(cell.read(), BudgetState { amount: MOST, end });
            assert_eq!(row[0].load(Ordering::SeqCst) >> VALUE, n % NOTE, "each window has the next tag, of 255");
            cell.give_back(end, u64::MAX);
            cell.charge(UnixSeconds(end.0 - 60), 9);
            assert_eq!(cell.read(), BudgetState { amount: 0, end });
            assert!(matches!(cell.take(end, u64::MAX, u64::MAX), Take::Full(_)));
        }
    }
}
