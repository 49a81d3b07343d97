//! Words that count calls in flight: a lane of 16 bits for each worker's slot.
//!
//! A worker adds to its own lane, then sums all lanes; above the limit it takes its place back. Of two that add at once the
//! later one in the order of all changes sees both, so no more than the limit are ever admitted. A killed worker's lane is
//! emptied from the entries of its journal: nobody else wrote to it, so there is no doubt.

use super::atomic::{AtomicU64, Ordering};

/// Words of a row: lanes for all 64 slots.
pub const WORDS: u32 = 16;
const LANES: u64 = 4;
const LANE: u64 = 0xffff;
/// Every second lane of a word, with room for sums.
const PAIR: u64 = LANE << 32 | LANE;
/// Attempts of a taker that met others: each round lets one more of them through, and a machine runs few at one instant.
const TRIES: u64 = 8;

/// The places of one row.
#[derive(Clone, Copy, Debug)]
pub struct Places<'a>(&'a [AtomicU64]);

impl<'a> Places<'a> {
    /// Over the words of a row.
    #[inline]
    pub fn new(row: &'a [AtomicU64]) -> Self {
        Self(row)
    }

    /// The places taken, over all lanes.
    #[inline]
    pub fn sum(self) -> u64 {
        let [mut even, mut odd] = [0; 2];
        for word in self.0 {
            let word = word.load(Ordering::SeqCst);
            // Most workers' slots are free: a branch costs less than the sums of their lanes.
            if word == 0 {
                continue;
            }
            even += word & PAIR;
            odd += word >> 16 & PAIR;
        }
        // Each half has at most 16 lanes of 16 bits in it.
        let both = even + odd;
        (both >> 32) + (both & u64::from(u32::MAX))
    }

    /// Takes `amount` places in this lane if no more than `limit` are taken with them. The number is that of the places
    /// which others hold. Takers that see each other at the limit may all turn back, so
    /// each tries again after a pause that differs by lane.
    #[inline]
    pub fn take(self, lane: u64, amount: u64, limit: u64) -> Result<u64, u64> {
        let mut others = 0;
        for attempt in 0..TRIES {
            if !self.add(lane, amount) {
                return Err(self.sum());
            }
            others = self.sum().saturating_sub(amount);
            if others.saturating_add(amount) <= limit {
                return Ok(others);
            }
            self.give_back(lane, amount);
            (0..attempt * (lane + 1)).for_each(|_| core::hint::spin_loop());
        }
        Err(others)
    }

    /// Gives places of a lane back.
    #[inline]
    pub fn give_back(self, lane: u64, amount: u64) {
        self.change(lane, |held| Some(held.saturating_sub(amount)));
    }

    /// Empties the lane of a worker that is dead.
    pub fn empty(self, lane: u64) {
        self.change(lane, |_| Some(0));
    }

    #[inline]
    fn add(self, lane: u64, amount: u64) -> bool {
        self.change(lane, |held| held.checked_add(amount).filter(|sum| *sum <= LANE))
    }

    #[inline]
    fn change(self, lane: u64, next: impl Fn(u64) -> Option<u64>) -> bool {
        let Some(word) = usize::try_from(lane / LANES).ok().and_then(|at| self.0.get(at)) else { return false };
        let shift = lane % LANES * 16;
        let changed = word.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |seen| {
            next(seen >> shift & LANE).map(|held| seen & !(LANE << shift) | held << shift)
        });
        changed.is_ok()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lanes_do_not_touch_each_other() {
        let row: Vec<AtomicU64> = (0..WORDS).map(|_| AtomicU64::new(0)).collect();
        let places = Places::new(&row);
        for lane in 0..64 {
            assert_eq!(places.take(lane, 1, 64), Ok(lane));
        }
        assert_eq!(places.take(5, 1, 64), Err(64));
        places.give_back(7, 9);
        assert_eq!(places.sum(), 63);
        assert_eq!(places.take(3, LANE, u64::MAX), Err(63), "a lane does not run over");
        places.empty(3);
        assert_eq!(places.sum(), 62);
        assert_eq!(places.take(64, 1, 1_000), Err(62), "there is no such lane");
        for word in &row {
            word.store(u64::MAX, Ordering::SeqCst);
        }
        assert_eq!(places.sum(), 64 * LANE);
    }
}
