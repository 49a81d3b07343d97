//! The fixed window: one word that counts what was taken until the window ends.
//!
//! The word is window end in Unix seconds (high 32 bits) | count (low 32). It is changed by compare-and-swap only,
//! by any thread of any process that maps it. A word whose end is later than the caller's own window is used as it
//! is (a window never moves backwards); an earlier end counts as zero. The count never passes the limit it is held
//! to and never wraps. What is given back goes only into the window it was taken from.
//! Which words exist and where is the business of `cells`.

use core::sync::atomic::{AtomicU64, Ordering};

use super::Window;
use crate::units::UnixSeconds;

/// Marks a word that is being handed to another owner: nobody may count on it.
pub const LOCKED: u64 = u64::MAX;

/// What a word said: how much was taken in the window that ends at `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Taken so far in that window.
    pub count: u32,
    /// The end of the window that counts now: the caller's own, or a later one.
    pub end: UnixSeconds,
}

/// What came of a try to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Taken; the reading is from before.
    Took(Reading),
    /// It would have passed the limit; nothing was taken.
    Full(Reading),
    /// The word belongs to somebody else by now; nothing was taken.
    Moved,
}

/// Packs an end and a count into a word.
pub const fn pack(end: UnixSeconds, count: u32) -> u64 {
    ((end.0 as u64) << 32) | count as u64
}

/// The end and the count in a word, whatever the time.
pub const fn unpack(word: u64) -> Reading {
    Reading { count: (word & 0xffff_ffff) as u32, end: UnixSeconds((word >> 32) as u32) }
}

fn as_of(word: u64, window: Window) -> Reading {
    let reading = unpack(word);
    if reading.end >= window.end { reading } else { Reading { count: 0, end: window.end } }
}

/// Reads without taking; `None` when the word belongs to nobody at the moment.
#[inline]
pub fn peek(word: &AtomicU64, window: Window) -> Option<Reading> {
    let seen = word.load(Ordering::Acquire);
    (seen != LOCKED).then(|| as_of(seen, window))
}

/// Takes `amount` if the count stays within `limit`.
#[inline]
pub fn take(word: &AtomicU64, window: Window, amount: u32, limit: u32) -> Take {
    take_if(word, window, amount, limit, |_| true)
}

/// Takes as [`take`] does, if `mine` still holds when the word changes.
///
/// `mine` is asked between the load and the swap, of the value loaded. It is enough where handing a word over always changes the word to
/// a value that it never had before: then a swap that succeeds proves that the word was not handed over in between.
#[inline]
pub fn take_if(word: &AtomicU64, window: Window, amount: u32, limit: u32, mine: impl Fn(u64) -> bool) -> Take {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        if seen == LOCKED || !mine(seen) {
            return Take::Moved;
        }
        let before = as_of(seen, window);
        let Some(count) = before.count.checked_add(amount).filter(|&count| count <= limit) else {
            return Take::Full(before);
        };
        match word.compare_exchange_weak(seen, pack(before.end, count), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Take::Took(before),
            Err(now) => seen = now,
        }
    }
}

/// Gives `amount` back to the window that ends at `end`. Says whether that window still counted.
#[inline]
pub fn give_back(word: &AtomicU64, end: UnixSeconds, amount: u32) -> bool {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        let now = unpack(seen);
        if seen == LOCKED || now.end != end {
            return false;
        }
        let after = pack(end, now.count.saturating_sub(amount));
        match word.compare_exchange_weak(seen, after, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return true,
            Err(other) => seen = other,
        }
    }
}
