//! The memory that the bodies and answers in one worker may take, and the part of it that one caller may.
//!
//! In: a claim before bytes are held. Out: a [`Claim`], or the reason of the refusal. The bytes carry their claim
//! ([`Claim::keep`]), so the room is free again when the bytes are. A caller that holds nothing gets one body of any
//! allowed size. Bytes of an answer are held in any case: they narrow how far the worker reads ahead ([`Room::ahead`]).

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::refusal::Reason;

/// The bytes that a worker may hold, unless a setting says otherwise: 256 MiB.
pub const MOST: u64 = 256 * 1024 * 1024;
/// Bytes of one answer that wait in a worker for its client, beside the 128 KiB that the kernel takes: a look at the client finds them
/// gone after a millisecond.
const AHEAD: u64 = 32 * 1024;
/// The same while a 32nd of the room is held: a hundred clients that never read.
const AHEAD_NARROW: u64 = 8 * 1024;

/// The room of one worker.
#[derive(Debug)]
pub struct Room {
    most: u64,
    part: u64,
    held: Mutex<Held>,
    /// The same total, for looks that hold no lock.
    total: AtomicU64,
    /// Bytes given back since the begin.
    released: AtomicU64,
}

#[derive(Debug, Default)]
struct Held {
    total: u64,
    by: HashMap<Holder, u64>,
}

/// A caller that bytes are held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A consumer, by its row number.
    Consumer(u32),
    /// A caller without a consumer, by its address.
    Address(Option<IpAddr>),
}

/// Bytes of the room; dropped, they are free again.
#[derive(Debug)]
pub struct Claim {
    room: Arc<Room>,
    holder: Holder,
    bytes: u64,
}

/// Bytes that hold their claim.
struct Kept {
    bytes: Bytes,
    _claim: Claim,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Default for Room {
    fn default() -> Self {
        Self::new(MOST, MOST / 4)
    }
}

impl Room {
    /// A room of `most` bytes, of which one caller may hold `part`.
    pub fn new(most: u64, part: u64) -> Self {
        Self { most, part, held: Mutex::default(), total: AtomicU64::new(0), released: AtomicU64::new(0) }
    }

    /// Claims bytes for a body, or tells why they are refused.
    pub fn claim(self: &Arc<Self>, holder: Holder, bytes: u64) -> Result<Claim, Reason> {
        let mut claim = self.nothing(holder);
        claim.grow(bytes)?;
        Ok(claim)
    }

    /// A claim of nothing.
    pub fn nothing(self: &Arc<Self>, holder: Holder) -> Claim {
        Claim { room: Arc::clone(self), holder, bytes: 0 }
    }

    /// Bytes that are held.
    pub fn held(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// The bytes of one answer that may wait in the worker for its client.
    pub fn ahead(&self) -> u64 {
        if self.held() < self.most / 32 { AHEAD } else { AHEAD_NARROW }
    }

    /// Bytes given back since the begin.
    pub fn released(&self) -> u64 {
        self.released.load(Ordering::Relaxed)
    }

    fn locked(&self) -> MutexGuard<'_, Held> {
        // The sums are whole after a panic elsewhere: no code that panics runs under the lock.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, held: &mut Held, holder: Holder, bytes: u64) {
        held.total = held.total.saturating_add(bytes);
        let own = held.by.entry(holder).or_default();
        *own = own.saturating_add(bytes);
        self.total.store(held.total, Ordering::Relaxed);
    }

    fn give_back(&self, holder: Holder, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let mut held = self.locked();
        held.total = held.total.saturating_sub(bytes);
        if let Some(own) = held.by.get_mut(&holder) {
            *own = own.saturating_sub(bytes);
            if *own == 0 {
                held.by.remove(&holder);
            }
        }
        self.total.store(held.total, Ordering::Relaxed);
        self.released.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl Claim {
    /// The caller that it is of.
    pub fn holder(&self) -> Holder {
        self.holder
    }

    /// Bytes claimed.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Claims more bytes of the same body, or tells why they are refused.
    pub fn grow(&mut self, more: u64) -> Result<(), Reason> {
        let room = &self.room;
        let mut held = room.locked();
        // The holder's only claim is this one: one body of any allowed size passes.
        let others = held.by.get(&self.holder).map_or(0, |own| own.saturating_sub(self.bytes));
        let all = self.bytes.saturating_add(more);
        if others > 0 && others.saturating_add(all) > room.part {
            return Err(Reason::BodyMemory);
        }
        if held.total > self.bytes && held.total.saturating_add(more) > room.most {
            return Err(Reason::Overloaded);
        }
        room.add(&mut held, self.holder, more);
        drop(held);
        self.bytes = all;
        Ok(())
    }

    /// Holds so many bytes of an answer, no more and no less, whatever the room.
    pub fn hold(&mut self, bytes: u64) {
        if bytes > self.bytes {
            self.room.add(&mut self.room.locked(), self.holder, bytes - self.bytes);
        } else {
            self.room.give_back(self.holder, self.bytes - bytes);
        }
        self.bytes = bytes;
    }

    /// The same bytes, which give the claim back when they are freed.
    pub fn keep(self, bytes: Bytes) -> Bytes {
        if self.bytes == 0 { bytes } else { Bytes::from_owner(Kept { bytes, _claim: self }) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.room.give_back(self.holder, self.bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const ANN: Holder = Holder::Consumer(1);
    const BEN: Holder = Holder::Consumer(2);

    #[test]
    fn caller_beyond_its_part_is_refused_and_the_others_are_not() {
        let room = Arc::new(Room::new(100, 25));
        let first = room.claim(ANN, 20).unwrap();
        assert_eq!(room.claim(ANN, 6).unwrap_err(), Reason::BodyMemory);
        let others: Vec<_> = (2..6).map(|n| room.claim(Holder::Consumer(n), 20).unwrap()).collect();
        assert_eq!(room.claim(Holder::Consumer(9), 1).unwrap_err(), Reason::Overloaded);
        drop(first);
        assert!(room.claim(Holder::Consumer(9), 20).is_ok());
        drop(others);
        assert_eq!((room.held(), room.released(), room.locked().by.len()), (0, 120, 0));
    }

    #[test]
    fn caller_that_holds_nothing_gets_one_body() {
        let room = Arc::new(Room::new(100, 25));
        let mut large = room.claim(ANN, 60).unwrap();
        large.grow(30).unwrap();
        assert_eq!(room.claim(ANN, 1).unwrap_err(), Reason::BodyMemory);
        assert_eq!(room.claim(BEN, 60).unwrap_err(), Reason::Overloaded);
        drop(large);
        assert_eq!(room.claim(BEN, 200).unwrap().bytes(), 200);
    }

    #[test]
    fn bytes_keep_their_claim() {
        let room = Arc::new(Room::new(100, 100));
        let kept = room.claim(ANN, 10).unwrap().keep(Bytes::from_static(b"0123456789"));
        let part = kept.slice(2..4);
        drop(kept);
        assert_eq!((&*part, room.held()), (&b"23"[..], 10));
        drop(part);
        assert_eq!(room.held(), 0);
    }

    #[test]
    fn answers_narrow_the_way_ahead() {
        let room = Arc::new(Room::new(100, 25));
        let mut answer = room.nothing(ANN);
        answer.hold(2);
        assert_eq!(room.ahead(), AHEAD);
        answer.hold(1000);
        assert_eq!((room.ahead(), room.held()), (AHEAD_NARROW, 1000));
        answer.hold(0);
        assert_eq!((room.ahead(), room.held()), (AHEAD, 0));
    }

    proptest! {
        #[test]
        fn sums_are_those_of_the_claims(steps in prop::collection::vec((0_u32..4, 0_u64..40, any::<bool>()), 0..60)) {
            let room = Arc::new(Room::new(100, 30));
            let mut claims: Vec<Claim> = Vec::new();
            for (who, bytes, ends) in steps {
                if ends {
                    claims.pop();
                } else if let Ok(claim) = room.claim(Holder::Consumer(who), bytes) {
                    claims.push(claim);
                }
                let total: u64 = claims.iter().map(Claim::bytes).sum();
                prop_assert_eq!(room.held(), total);
                prop_assert!(total <= 100);
                for who in 0..4 {
                    let own: Vec<_> = claims.iter().filter(|claim| claim.holder == Holder::Consumer(who)).collect();
                    let sum: u64 = own.iter().map(|claim| claim.bytes()).sum();
                    prop_assert!(sum <= 30 || own.iter().filter(|claim| claim.bytes() > 0).count() == 1);
                }
            }
        }
    }
}
