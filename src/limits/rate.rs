//! The bucket: one word that lets a burst pass at once and refills steadily (GCRA).
//!
//! The word is the theoretical arrival time in nanoseconds since the epoch: how far the requests that passed reach, were
//! they spread at the rate. A request moves it by its cost, from no earlier than now; it passes if the word is then at
//! most `burst` costs ahead of now. 0 is a full bucket. Changed by compare-and-swap only, by any thread of any process
//! that maps it. A word further ahead than a whole burst (the clock was set back) counts as an empty bucket, which refills
//! from now on: never looser than the rate, never stuck until the old time comes again.
//! Source: ITU-T I.371, the generic cell rate algorithm in its virtual scheduling form.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::units::Moment;

/// So many requests per so many seconds, `burst` of them at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds that one request takes to come back.
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
    /// `None` for no requests at all, or no time, or a bucket that would take more than a century to fill: a moment must not
    /// run over the end of its word, where every request would look as if it had come back.
    pub fn new(requests: u32, seconds: u32, burst: u32) -> Option<Self> {
        if requests == 0 || seconds == 0 || burst == 0 {
            return None;
        }
        let cost = (u64::from(seconds) * 1_000_000_000).div_ceil(u64::from(requests));
        let room = cost.checked_mul(u64::from(burst)).filter(|room| *room <= 1 << 62)?;
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

    /// How far a word may be ahead of now.
    fn room(self) -> u64 {
        self.cost * u64::from(self.burst)
    }

    fn as_of(self, word: u64, now: Moment) -> (u64, Reading) {
        let reach = word.clamp(now.0, now.0.saturating_add(self.room()));
        let used = u32::try_from((reach - now.0).div_ceil(self.cost)).unwrap_or(u32::MAX);
        let free_at = Moment(reach.saturating_add(self.cost).saturating_sub(self.room()).max(now.0));
        (reach, Reading { used, free_at, full_at: Moment(reach) })
    }
}

/// Reads without taking.
#[inline]
pub fn peek(word: &AtomicU64, rate: Rate, now: Moment) -> Reading {
    rate.as_of(word.load(Ordering::Acquire), now).1
}

/// Takes one request if the bucket has it.
#[inline]
pub fn take(word: &AtomicU64, rate: Rate, now: Moment) -> Take {
    let mut seen = word.load(Ordering::Acquire);
    loop {
        let (reach, before) = rate.as_of(seen, now);
        if before.used >= rate.burst {
            return Take::Full(before);
        }
        let after = reach.saturating_add(rate.cost);
        match word.compare_exchange_weak(seen, after, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Take::Took(before),
            Err(now) => seen = now,
        }
    }
}

/// Gives one request of this cost back. What has refilled meanwhile stays full.
#[inline]
pub fn give_back(word: &AtomicU64, cost: u64) {
    let _ = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, |seen| Some(seen.saturating_sub(cost)));
}
