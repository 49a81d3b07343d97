//! The bucket: one word that lets a burst pass at once and refills steadily (GCRA).
//!
//! The word is the theoretical arrival time, how far the requests that passed reach were they spread at their rate, and
//! which rate that was: one of those that its column keeps the costs of. A request moves the time by its cost, from no
//! earlier than now; it passes if the time is then at most `burst` costs ahead of now. 0 is a full bucket. Where another rate
//! is asked for than the word speaks of, what was used stays used: the time ahead of now is scaled by the two costs, and the
//! word written anew. A time further ahead than a whole burst (a smaller bucket, a clock that was set back) becomes an empty
//! bucket, which refills from now on. Changed by compare-and-swap only, by any thread of any process that maps it.
//! Source: ITU-T I.371, the generic cell rate algorithm in its virtual scheduling form.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::units::Moment;

/// Nanoseconds of a word's unit of time. Its 56 bits last until the year 2116.
const TICK: u64 = 64;
/// Bits of a word that say which cost its time is in.
const WHICH: u32 = 8;
/// Costs that a column keeps. Of more rates than that over its life, one takes the place of another.
pub const COSTS: usize = 1 << WHICH;

/// So many requests per so many seconds, `burst` of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that one request takes to come back: whole ticks.
    cost: u64,
    /// Requests that an idle caller may send at once.
    burst: u32,
    /// As configured, for words.
    requests: u32,
}

/// What a word said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Requests that have passed and not come back yet.
    pub used: u32,
    /// When one more passes: now, or later.
    pub free_at: Moment,
    /// When the bucket is full again.
    pub full_at: Moment,
}

/// What came of a try to take one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// Taken; the reading is from before.
    Took(Reading),
    /// It would have passed the rate; nothing was taken.
    Full(Reading),
}

impl Rate {
    /// `None` for no requests at all, or no time, or a bucket that would take 73 years to fill: a moment must not run over
    /// the end of its word, where every request would look as if it had come back.
    pub fn new(requests: u32, seconds: u32, burst: u32) -> Option<Self> {
        if requests == 0 || seconds == 0 || burst == 0 {
            return None;
        }
        let cost = (u64::from(seconds) * 1_000_000_000).div_ceil(u64::from(requests)).next_multiple_of(TICK);
        let room = cost.checked_mul(u64::from(burst)).filter(|room| *room <= 1 << 61)?;
        (room > 0).then_some(Self { cost, burst, requests })
    }

    /// Nanoseconds that one request costs.
    pub fn cost(self) -> u64 {
        self.cost
    }

    /// Size of the bucket.
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// Requests per period, as configured.
    pub fn requests(self) -> u32 {
        self.requests
    }

    /// How many ticks a word may be ahead of now.
    fn room(self) -> u64 {
        self.cost / TICK * u64::from(self.burst)
    }
}

/// A bucket's word, and the costs that its column's words speak of.
#[derive(Clone, Copy, Debug)]
pub struct Bucket<'a> {
    word: &'a AtomicU64,
    costs: &'a [AtomicU64],
}

/// A word as a rate has it.
struct Seen {
    /// Ticks ahead of now.
    owed: u64,
    /// It says the same in the terms of another rate, or more than a whole burst.
    foreign: bool,
    reading: Reading,
}

impl<'a> Bucket<'a> {
    /// `costs`: [`COSTS`] words that all buckets of a column share.
    pub fn new(word: &'a AtomicU64, costs: &'a [AtomicU64]) -> Self {
        Self { word, costs }
    }

    /// Reads without taking, and writes nothing.
    pub fn read(self, rate: Rate, now: Moment) -> Reading {
        self.seen(self.word.load(Ordering::Acquire), rate, now).reading
    }

    /// Reads without taking. A word in the terms of another rate is written anew.
    #[inline]
    pub fn peek(self, rate: Rate, now: Moment) -> Reading {
        let word = self.word.load(Ordering::Acquire);
        let seen = self.seen(word, rate, now);
        if seen.foreign {
            self.adopt(word, &seen, rate, now);
        }
        seen.reading
    }

    /// Takes one request if the bucket has it.
    #[inline]
    pub fn take(self, rate: Rate, now: Moment) -> Take {
        let mut word = self.word.load(Ordering::Acquire);
        loop {
            let seen = self.seen(word, rate, now);
            if seen.reading.used >= rate.burst {
                if seen.foreign {
                    self.adopt(word, &seen, rate, now);
                }
                return Take::Full(seen.reading);
            }
            let after = pack(now.0 / TICK + seen.owed + rate.cost / TICK, self.which(word, rate));
            match self.word.compare_exchange_weak(word, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Take::Took(seen.reading),
                Err(other) => word = other,
            }
        }
    }

    /// Gives so many requests back, at whatever rate the word speaks of by now. What has refilled meanwhile stays full.
    #[inline]
    pub fn give_back(self, requests: u32) {
        let _ = self.word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| {
            let (ticks, which) = unpack(word);
            let given = (self.cost(which) / TICK).saturating_mul(u64::from(requests));
            Some(pack(ticks.saturating_sub(given), which))
        });
    }

    fn seen(self, word: u64, rate: Rate, now: Moment) -> Seen {
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
        let foreign = ahead > 0 && (other.is_some() || owed > rate.room());
        let owed = owed.min(rate.room());
        let cost = rate.cost / TICK;
        let at = |owed: u64| if owed == 0 { now } else { Moment((now_ticks + owed) * TICK) };
        let used = u32::try_from(owed.div_ceil(cost)).unwrap_or(u32::MAX);
        let free_at = at((owed + cost).saturating_sub(rate.room()));
        Seen { owed, foreign, reading: Reading { used, free_at, full_at: at(owed) } }
    }

    /// Writes what a word says in the terms of this rate. Whoever was faster has the word; it says the same.
    #[cold]
    fn adopt(self, word: u64, seen: &Seen, rate: Rate, now: Moment) {
        let own = pack(now.0 / TICK + seen.owed, self.which(word, rate));
        let _ = self.word.compare_exchange(word, own, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Nanoseconds; 0 for one that is not kept.
    #[inline]
    fn cost(self, which: u64) -> u64 {
        self.place(which).map_or(0, |cost| cost.load(Ordering::Acquire))
    }

    #[inline]
    fn place(self, which: u64) -> Option<&'a AtomicU64> {
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
            let Some(place) = self.place(which) else { continue };
            match place.compare_exchange(0, cost, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return which,
                Err(kept) if kept == cost => return which,
                Err(_) => {}
            }
        }
        if let Some(place) = self.place(home) {
            place.store(cost, Ordering::Release);
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

/// `ticks` at a cost of `from` as ticks at a cost of `to`, rounded up: whole requests stay whole.
fn scaled(ticks: u64, to: u64, from: u64) -> u64 {
    u64::try_from((u128::from(ticks) * u128::from(to)).div_ceil(u128::from(from))).unwrap_or(u64::MAX)
}
