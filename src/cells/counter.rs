//! A counter of one word: how much was taken in the window that ends at a given second.
//!
//! The word is the window's end in Unix seconds (high 32 bits) | the count (low 32). It changes by compare-and-swap only,
//! by any thread of any process that maps it. A word whose end is later than the caller's own window is used unchanged:
//! a counter never moves back to an earlier window. An earlier end counts as zero. The count never passes the limit that
//! it is held to and never wraps. A refund reaches only the window that the amount was taken from.

use super::atomic::{AtomicU64, Ordering};

use crate::period::Window;
use crate::units::UnixSeconds;

/// Marks a word that is being handed to another owner: requests must not count in it.
pub const LOCKED: u64 = u64::MAX;

/// A window's end, and the amount taken in that window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowState {
    /// Amount taken so far in the window.
    pub count: u32,
    /// The end of the window that counts now: the caller's own, or a later one.
    pub end: UnixSeconds,
}

impl WindowState {
    /// A window in which nothing was taken.
    pub const fn unused(window: Window) -> Self {
        Self { count: 0, end: window.end }
    }
}

/// The outcome of an attempt to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Taken; the state is the one before.
    Took(WindowState),
    /// The amount would have passed the limit; nothing was taken.
    Full(WindowState),
    /// The word has another owner by now; nothing was taken.
    Moved,
}

/// Packs an end and a count into a word.
pub const fn pack(end: UnixSeconds, count: u32) -> u64 {
    ((end.0 as u64) << 32) | count as u64
}

/// The end and the count in a word, whatever the time.
pub const fn unpack(word: u64) -> WindowState {
    WindowState { count: (word & 0xffff_ffff) as u32, end: UnixSeconds((word >> 32) as u32) }
}

fn as_of(word: u64, window: Window) -> WindowState {
    let state = unpack(word);
    if state.end >= window.end { state } else { WindowState::unused(window) }
}

/// Reads without taking; `None` while the word has no owner.
#[inline]
pub fn look(word: &AtomicU64, window: Window) -> Option<WindowState> {
    let seen = word.load(Ordering::Acquire);
    (seen != LOCKED).then(|| as_of(seen, window))
}

/// Takes `amount` if the count stays within `limit`.
#[inline]
pub fn take(word: &AtomicU64, window: Window, amount: u64, limit: u32) -> Take {
    take_if(word, window, amount, limit, |_| true)
}

/// Takes as [`take`] does, if `mine` still holds when the word changes.
///
/// `mine` gets the value loaded, between the load and the swap. That is enough where every change of owner gives the word
/// a value that it never had before: a swap that succeeds then proves that the owner did not change in between.
#[inline]
pub fn take_if(word: &AtomicU64, window: Window, amount: u64, limit: u32, mine: impl Fn(u64) -> bool) -> Take {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        if seen == LOCKED || !mine(seen) {
            return Take::Moved;
        }
        let before = as_of(seen, window);
        let count = u64::from(before.count).checked_add(amount).filter(|&count| count <= u64::from(limit));
        let Some(count) = count.and_then(|count| u32::try_from(count).ok()) else { return Take::Full(before) };
        match word.compare_exchange_weak(seen, pack(before.end, count), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Take::Took(before),
            Err(now) => seen = now,
        }
    }
}

/// Gives `amount` back to the window that ends at `end`. Returns whether that window still counted.
#[inline]
pub fn give_back(word: &AtomicU64, end: UnixSeconds, amount: u64) -> bool {
    let amount = u32::try_from(amount).unwrap_or(u32::MAX);
    change(word, end, |count| count.saturating_sub(amount))
}

/// Adds `amount` to the window that ends at `end`, past any limit: it was used already. Returns whether that window still
/// counted.
#[inline]
pub fn charge(word: &AtomicU64, end: UnixSeconds, amount: u64) -> bool {
    let amount = u32::try_from(amount).unwrap_or(u32::MAX);
    change(word, end, |count| count.saturating_add(amount))
}

fn change(word: &AtomicU64, end: UnixSeconds, next: impl Fn(u32) -> u32) -> bool {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        let now = unpack(seen);
        if seen == LOCKED || now.end != end {
            return false;
        }
        match word.compare_exchange_weak(seen, pack(end, next(now.count)), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(other) => seen = other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn word_is_the_end_of_its_window_and_its_count() {
        let (end, count) = (UnixSeconds(0x8123_4567), 0x89ab_cdef);
        assert_eq!(
            (pack(end, count), unpack(0x8123_4567_89ab_cdef)),
            (0x8123_4567_89ab_cdef, WindowState { count, end })
        );
        let window = Window { start: UnixSeconds(60), end: UnixSeconds(120) };
        assert_eq!(WindowState::unused(window), WindowState { count: 0, end: UnixSeconds(120) });
        for (word, wanted) in
            [(pack(UnixSeconds(60), 5), 0), (pack(UnixSeconds(120), 5), 5), (pack(UnixSeconds(180), 7), 7)]
        {
            assert_eq!(look(&AtomicU64::new(word), window).map(|state| state.count), Some(wanted));
        }
        assert_eq!(look(&AtomicU64::new(LOCKED), window), None);
    }

    #[test]
    fn refund_and_charge_change_their_own_window_only() {
        let (end, other) = (UnixSeconds(120), UnixSeconds(180));
        let word = AtomicU64::new(pack(end, 5));
        assert!(
            !give_back(&word, other, 1) && !charge(&word, other, 1) && unpack(word.load(Ordering::SeqCst)).count == 5
        );
        assert!(give_back(&word, end, 2) && charge(&word, end, 4) && unpack(word.load(Ordering::SeqCst)).count == 7);
        assert!(give_back(&word, end, u64::MAX) && unpack(word.load(Ordering::SeqCst)).count == 0);
        assert!(charge(&word, end, u64::MAX) && word.load(Ordering::SeqCst) == pack(end, u32::MAX));
        word.store(LOCKED, Ordering::SeqCst);
        assert!(!charge(&word, unpack(LOCKED).end, 1), "a word without an owner has no window");
    }
}
