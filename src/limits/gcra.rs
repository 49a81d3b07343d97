//! The arithmetic of buckets: one word that lets a burst pass at once and refills steadily (GCRA).
//!
//! The word is the theoretical arrival time: how far the requests that passed reach when they are spread at their rate. Its
//! low bits name that rate, one of those whose costs the column keeps. A request moves the time by its cost, from no
//! earlier than now; it passes if the time is then at most `burst` costs ahead of now. 0 is a full bucket. Under another
//! rate than the word's, used amounts stay used: the time ahead of now is scaled by the two costs, and the word is
//! rewritten. A time further ahead than a whole burst (a smaller bucket, a clock that was set back) becomes an empty bucket of
//! requests, which refills from now on; a bucket of tokens owes the rest, of calls that used more than they took, for a day.
//! The word changes by compare-and-swap only, by any thread of any process that maps it.
//! Source: ITU-T I.371, the generic cell rate algorithm in its virtual scheduling form.

use crate::cells::atomic::{AtomicU64, Ordering};

use crate::cells::shared::COLUMN_WORDS;
use crate::units::Moment;

/// Nanoseconds of a word's unit of time. Its 56 bits last until the year 2116.
const TICK: u64 = 64;
/// Bits of a word that name the cost of its time.
const WHICH: u32 = 8;
/// Costs that a column keeps. A further rate takes the number of an earlier one.
pub const COSTS: usize = COLUMN_WORDS;
const _: () = assert!(COSTS == 1 << WHICH, "a word names one of its column's costs");

/// The longest time that a bucket owes beyond its burst, where that is longer than its burst.
const MOST_OWED: u64 = 86_400_000_000_000 / TICK;
/// The longest time that an empty bucket may take to fill, in nanoseconds: 73 years. A moment must not run over the end of its
/// word, where every amount would look as if it had come back.
const LONGEST: u64 = 1 << 61;

/// An amount per seconds, and the burst that may pass at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that one unit takes to come back.
    cost: u64,
    /// Units that an idle caller may take at once.
    burst: u64,
    /// Whether the bucket owes the units that calls used beyond it.
    owes: bool,
}

/// A bucket's state at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketState {
    /// Units that have passed and not come back yet.
    pub used: u64,
    /// The time when the amount passes: now, or later.
    pub free_at: Moment,
    /// When the bucket is full again.
    pub full_at: Moment,
}

/// The outcome of an attempt to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Taken; the state is the one before.
    Took(BucketState),
    /// The amount would have passed the rate; nothing was taken.
    Full(BucketState),
}

impl Rate {
    /// Requests: each costs whole ticks. `None` for zero requests or seconds, and for a bucket that would take 73 years to fill.
    pub fn new(requests: u32, seconds: u32, burst: u32) -> Option<Self> {
        let cost = cost(requests.into(), seconds)?.checked_next_multiple_of(TICK)?;
        Self { cost, burst: burst.into(), owes: false }.checked()
    }

    /// Tokens. `None` where requests have none, and for more than 15,625,000 a second: each costs a tick at least.
    pub fn of_tokens(tokens: u64, seconds: u32, burst: u64) -> Option<Self> {
        let most = u64::from(seconds) * (1_000_000_000 / TICK);
        let cost = cost(tokens, seconds).filter(|_| tokens <= most)?;
        Self { cost, burst, owes: true }.checked()
    }

    fn checked(self) -> Option<Self> {
        (1..=LONGEST).contains(&self.cost.checked_mul(self.burst)?).then_some(self)
    }

    /// Nanoseconds that one unit costs.
    pub fn cost(self) -> u64 {
        self.cost
    }

    /// Size of the bucket.
    pub fn burst(self) -> u64 {
        self.burst
    }

    /// Ticks that an amount costs, of at most one burst.
    #[inline]
    fn ticks(self, amount: u64) -> u64 {
        (self.cost * amount.min(self.burst)).div_ceil(TICK)
    }

    /// Most ticks that a word may be ahead of now when an amount passes. A cost of broken ticks is rounded up with each amount:
    /// the room for that, 1,024 ticks or half a unit, is less than a whole unit.
    #[inline]
    fn room(self) -> u64 {
        let broken = if self.cost.is_multiple_of(TICK) { 0 } else { (self.cost / (2 * TICK)).min(1_024) };
        self.ticks(self.burst) + broken
    }

    /// Most ticks that a word is ahead of now, whatever was used.
    #[inline]
    fn most(self) -> u64 {
        self.room() + if self.owes { MOST_OWED.max(self.room()) } else { 0 }
    }

    /// The units that are used when a word is so many ticks ahead of now: exactly those without which the rest still passes.
    #[inline]
    fn used(self, owed: u64) -> u64 {
        match self.room().checked_sub(owed) {
            Some(left) => self.burst.saturating_sub(left * TICK / self.cost),
            None => self.burst + ((owed - self.room()) * TICK).div_ceil(self.cost),
        }
    }
}

/// Nanoseconds that one of so many units costs.
fn cost(units: u64, seconds: u32) -> Option<u64> {
    // Zero seconds make a cost of 0, which `checked` refuses.
    (units > 0).then(|| (u64::from(seconds) * 1_000_000_000).div_ceil(units))
}

/// A bucket's word, and the costs that its column's words name.
#[derive(Clone, Copy, Debug)]
pub struct BucketCell<'a> {
    word: &'a AtomicU64,
    costs: &'a [AtomicU64],
}

/// A word at a rate.
struct Seen {
    /// Ticks ahead of now.
    owed: u64,
    /// The word was written under another rate, or is further ahead than it may be: rewrite it.
    foreign: bool,
    state: BucketState,
}

impl<'a> BucketCell<'a> {
    /// `costs`: [`COSTS`] words that all buckets of a column share.
    pub fn new(word: &'a AtomicU64, costs: &'a [AtomicU64]) -> Self {
        Self { word, costs }
    }

    /// Reads without taking, and writes nothing.
    pub fn read(self, rate: Rate, now: Moment) -> BucketState {
        self.seen(self.word.load(Ordering::Acquire), rate, 1, now).state
    }

    /// Reads without taking. A word of another rate is rewritten.
    #[inline]
    pub fn look(self, rate: Rate, amount: u64, now: Moment) -> BucketState {
        let word = self.word.load(Ordering::Acquire);
        let seen = self.seen(word, rate, amount, now);
        if seen.foreign {
            self.adopt(word, &seen, rate, now);
        }
        seen.state
    }

    /// Takes an amount if the bucket has it.
    #[inline]
    pub fn take(self, rate: Rate, amount: u64, now: Moment) -> Take {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let seen = self.seen(word, rate, amount, now);
            if amount > 0 && (amount > rate.burst || seen.owed + rate.ticks(amount) > rate.room()) {
                if seen.foreign {
                    self.adopt(word, &seen, rate, now);
                }
                return Take::Full(seen.state);
            }
            let after = pack(now.0 / TICK + seen.owed + rate.ticks(amount), self.which(word, rate));
            match self.word.compare_exchange_weak(word, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Take::Took(seen.state),
                Err(other) => word = other,
            }
        }
    }

    /// Gives an amount back, at whatever rate the word names by now. A part that has refilled meanwhile stays refilled.
    #[inline]
    pub fn give_back(self, amount: u64) {
        self.change(|ticks, cost| ticks.saturating_sub(cost.saturating_mul(amount) / TICK));
    }

    /// Takes an amount that was used already, whether the bucket has it or not. A bucket that has been full for long
    /// refills at once: the time is moved from where it was.
    pub fn charge(self, amount: u64) {
        self.change(|ticks, cost| ticks.saturating_add(cost.saturating_mul(amount).div_ceil(TICK)));
    }

    #[inline]
    fn change(self, next: impl Fn(u64, u64) -> u64) {
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (ticks, which) = unpack(word);
            Some(pack(next(ticks, self.cost(which)), which))
        });
    }

    fn seen(self, word: u64, rate: Rate, amount: u64, now: Moment) -> Seen {
        let (ticks, which) = unpack(word);
        let now_ticks = now.0 / TICK;
        let ahead = ticks.saturating_sub(now_ticks);
        let other = match self.cost(which) {
            // A cost that was lost with the machine's power: there is only this rate to read it by.
            0 => None,
            cost => (cost != rate.cost).then_some(cost),
        };
        let owed = match other {
            Some(cost) if ahead > 0 => scaled(ahead, rate.cost, cost),
            _ => ahead,
        };
        let foreign = ahead > 0 && (other.is_some() || owed > rate.most());
        let owed = owed.min(rate.most());
        let at = |owed: u64| if owed == 0 { now } else { Moment((now_ticks + owed) * TICK) };
        let used = rate.used(owed);
        let free_at = at((owed + rate.ticks(amount)).saturating_sub(rate.room()));
        Seen { owed, foreign, state: BucketState { used, free_at, full_at: at(owed) } }
    }

    /// Rewrites a word under this rate. A thread that was faster has written the same.
    #[cold]
    fn adopt(self, word: u64, seen: &Seen, rate: Rate, now: Moment) {
        let own = pack(now.0 / TICK + seen.owed, self.which(word, rate));
        let _ = self.word.compare_exchange(word, own, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Nanoseconds; 0 for one that is not kept.
    #[inline]
    fn cost(self, which: u64) -> u64 {
        self.kept(which).map_or(0, |cost| cost.load(Ordering::Acquire))
    }

    #[inline]
    fn kept(self, which: u64) -> Option<&'a AtomicU64> {
        usize::try_from(which).ok().and_then(|at| self.costs.get(at))
    }

    /// The number of the rate's cost: mostly the one that the word has.
    #[inline]
    fn which(self, word: u64, rate: Rate) -> u64 {
        let (_, which) = unpack(word);
        if self.cost(which) == rate.cost { which } else { self.find(rate.cost) }
    }

    /// The number of a cost, which is kept from now on.
    #[cold]
    fn find(self, cost: u64) -> u64 {
        let home = cost.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - WHICH);
        for which in (home..home + COSTS as u64).map(|at| at % COSTS as u64) {
            let Some(kept) = self.kept(which) else { continue };
            match kept.compare_exchange(0, cost, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return which,
                Err(other) if other == cost => return which,
                Err(_) => {}
            }
        }
        if let Some(kept) = self.kept(home) {
            kept.store(cost, Ordering::Release);
        }
        home
    }
}

fn pack(ticks: u64, which: u64) -> u64 {
    ticks.min(u64::MAX >> WHICH) << WHICH | which
}

fn unpack(word: u64) -> (u64, u64) {
    (word >> WHICH, word & (COSTS as u64 - 1))
}

/// `ticks` at a cost of `from` as ticks at a cost of `to`, rounded up: whole units stay whole.
fn scaled(ticks: u64, to: u64, from: u64) -> u64 {
    u64::try_from((u128::from(ticks) * u128::from(to)).div_ceil(u128::from(from))).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The room for rounding is 0 where a unit costs whole ticks, else half a unit, and 1,024 ticks at most.
    #[test]
    fn room_is_the_burst_and_less_than_a_unit() {
        for (tokens, seconds, burst, cost, room) in [
            (15_625_000, 1, 10, 64, 10),
            (1_000_000, 1, 10, 1_000, 157 + 7),
            (3, 1, 2, 333_333_334, 10_416_667 + 1_024),
            (1, 1, 2, 1_000_000_000, 31_250_000),
        ] {
            let rate = Rate::of_tokens(tokens, seconds, burst).unwrap();
            assert_eq!((rate.cost(), rate.burst(), rate.room()), (cost, burst, room));
            assert_eq!(rate.most(), room + 1_350_000_000_000);
            assert_eq!(rate.used(0), 0);
            assert_eq!((rate.used(rate.ticks(1)), rate.used(rate.ticks(burst))), (1, burst));
            assert_eq!(rate.used(rate.ticks(burst) + rate.ticks(burst)), 2 * burst);
        }
        let requests = Rate::new(1_000_000, 1, 10).unwrap();
        assert_eq!((requests.cost(), requests.room(), requests.most()), (1_024, 160, 160));
    }

    #[test]
    fn rates_are_bounded() {
        assert!(Rate::of_tokens(15_625_000, 1, 1).is_some() && Rate::of_tokens(15_625_001, 1, 1).is_none());
        assert!(Rate::of_tokens(31_250_000, 2, 1).is_some() && Rate::of_tokens(31_250_001, 2, 1).is_none());
        assert!(
            Rate::of_tokens(0, 1, 1).is_none()
                && Rate::of_tokens(1, 0, 1).is_none()
                && Rate::of_tokens(1, 1, 0).is_none()
        );
        // 2^61 nanoseconds.
        assert!(Rate::of_tokens(1, 1, 2_305_843_009).is_some() && Rate::of_tokens(1, 1, 2_305_843_010).is_none());
        assert!(Rate::of_tokens(1, 1, u64::MAX).is_none());
    }

    #[test]
    fn words_and_costs_convert_as_they_are_written() {
        assert_eq!((pack(5, 3), unpack(0x503)), (0x503, (5, 3)));
        assert_eq!(unpack(pack(u64::MAX, 255)), (u64::MAX >> 8, 255));
        assert_eq!((scaled(3, 5, 2), scaled(4, 5, 2), scaled(u64::MAX, 3, 2)), (8, 10, u64::MAX));
        assert_eq!(
            (cost(3, 1), cost(1, 2), cost(0, 1), cost(1, 0)),
            (Some(333_333_334), Some(2_000_000_000), None, Some(0))
        );
    }

    #[test]
    fn costs_of_one_home_are_kept_side_by_side() {
        let home = |cost: u64| cost.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
        for at in [0, 1, 254] {
            let word = AtomicU64::new(0);
            let costs: Vec<_> = (0..COSTS).map(|_| AtomicU64::new(0)).collect();
            let cell = BucketCell::new(&word, &costs);
            let of_home: Vec<u64> = (1..).filter(|cost| home(*cost) == at).take(4).collect();
            for _ in 0..2 {
                let found: Vec<_> = of_home.iter().map(|cost| cell.find(*cost)).collect();
                assert_eq!(found, [0, 1, 2, 3].map(|more| (at + more) % 256));
            }
        }
    }
}
