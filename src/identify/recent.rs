//! Keys that were presented a moment ago: so that a client that calls again costs one short hash and one line of memory.
//!
//! In: a key, and what the keys in force say of it. Out: the same, as long as exactly those keys are in force: one change
//! of any key, and everything here is forgotten. A key is held as 128 bits of a hash under a secret that is made at start
//! and never leaves the process; its own bytes are not kept. It says nothing of keys that are unknown, and does not judge.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::Mutex;

use crate::sip;
use crate::snapshot::{Credential, Found, Keys, Uuid};

/// Words of an entry: hash 2, content of the keys 1, numbers 1, id 2, expires 1, record 1. Exactly one line of memory.
const WORDS: usize = 8;
/// Entries in a set: the last one used stands first.
const WAYS: usize = 2;
/// Sets; 8 MiB in all, of which only what is used is ever touched.
const SETS: usize = 1 << 16;

type Entry = [u64; WORDS];

/// What one worker has seen.
pub(super) struct Recent {
    secret: [u64; 2],
    /// Made by the first key. Whoever finds it locked does without: there is one thread that asks.
    table: Mutex<Table>,
}

/// Lines of memory, from the first whole one on.
#[derive(Default)]
struct Table {
    words: Vec<u64>,
    first: usize,
}

/// A key's hash: where it may be, and what tells it apart.
#[derive(Clone, Copy)]
pub(super) struct Mark([u64; 2]);

impl Recent {
    /// An empty memory. `seed` is secret; a random part is added to it.
    pub(super) fn new(seed: [u64; 2]) -> Self {
        let random = RandomState::new();
        Self { secret: [seed[0] ^ random.hash_one(0), seed[1] ^ random.hash_one(1)], table: Mutex::default() }
    }

    #[inline]
    pub(super) fn mark(&self, key: &[u8]) -> Mark {
        Mark(sip::words::<1, 3>(self.secret, key))
    }

    /// What these keys said of it when it was last presented.
    #[inline]
    pub(super) fn get(&self, keys: &Keys, mark: Mark) -> Option<Found> {
        let table = self.table.try_lock().ok()?;
        let set = table.words.get(table.range(mark))?;
        set.as_chunks::<WORDS>().0.iter().find_map(|entry| read(entry, keys.content(), mark))
    }

    /// Remember what these keys said of it.
    pub(super) fn put(&self, keys: &Keys, mark: Mark, found: &Found) {
        let Ok(mut table) = self.table.try_lock() else { return };
        if table.words.is_empty() {
            table.make();
        }
        let range = table.range(mark);
        let Some(set) = table.words.get_mut(range) else { return };
        set.copy_within(..(WAYS - 1) * WORDS, WORDS);
        set[..WORDS].copy_from_slice(&write(keys.content(), mark, found));
    }
}

impl Table {
    /// Zeroed memory that nobody touched is none yet.
    fn make(&mut self) {
        self.words = vec![0; SETS * WAYS * WORDS + WORDS];
        self.first = self.words.as_ptr().align_offset(64).min(WORDS);
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // cut to the number of sets anyway
    fn range(&self, mark: Mark) -> std::ops::Range<usize> {
        let at = self.first + (mark.0[0] as usize % SETS) * WAYS * WORDS;
        at..at + WAYS * WORDS
    }
}

fn write(content: u64, mark: Mark, found: &Found) -> Entry {
    let Found { credential: Credential { n, id, consumer, expires_at }, record } = *found;
    let (id, _) = id.as_bytes().as_chunks::<8>();
    let [low, high] = [u64::from_le_bytes(id[0]), u64::from_le_bytes(id[1])];
    let numbers = u64::from(n) | u64::from(consumer) << 32;
    [mark.0[0], mark.0[1], content, numbers, low, high, expires_at, u64::from(record)]
}

#[inline]
#[allow(clippy::cast_possible_truncation)] // the halves of a word, and a word that was written as 32 bits
fn read(entry: &Entry, content: u64, mark: Mark) -> Option<Found> {
    let [first, second, seen, numbers, low, high, expires_at, record] = *entry;
    // All in one: how far a guess was right cannot be told by the time it took.
    let differs = (first ^ mark.0[0]) | (second ^ mark.0[1]) | (seen ^ content);
    if differs != 0 || content == 0 {
        return None;
    }
    let mut id = [0; 16];
    id[..8].copy_from_slice(&low.to_le_bytes());
    id[8..].copy_from_slice(&high.to_le_bytes());
    let credential =
        Credential { n: numbers as u32, id: Uuid::from_bytes(id), consumer: (numbers >> 32) as u32, expires_at };
    Some(Found { credential, record: record as u32 })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshot::KeysBuilder;
    use std::sync::Arc;

    fn found(n: u32) -> Found {
        let id = Uuid::from_bytes([n.to_le_bytes()[0]; 16]);
        Found { credential: Credential { n, id, consumer: n * 3, expires_at: u64::from(n) << 33 }, record: n * 7 }
    }

    fn keys() -> Keys {
        Keys::open(Arc::new(KeysBuilder::new().finish(1).unwrap())).unwrap()
    }

    #[test]
    fn what_was_put_is_found_under_the_same_keys_only() {
        let (recent, keys) = (Recent::new([1, 2]), keys());
        assert_eq!(recent.get(&keys, recent.mark(b"a")), None);
        for n in 0..1_000_u32 {
            recent.put(&keys, recent.mark(&n.to_le_bytes()), &found(n));
            assert_eq!(recent.get(&keys, recent.mark(&n.to_le_bytes())), Some(found(n)));
            assert_eq!(recent.get(&keys.clone(), recent.mark(&n.to_le_bytes())), Some(found(n)));
        }
        let other = self::keys();
        assert!((0..1_000_u32).all(|n| recent.get(&other, recent.mark(&n.to_le_bytes())).is_none()));
        assert!((0..1_000_u32).all(|n| recent.get(&Keys::empty(), recent.mark(&n.to_le_bytes())).is_none()));
    }

    #[test]
    fn no_bytes_of_a_key_are_kept_and_no_two_memories_hash_alike() {
        let (one, other) = (Recent::new([1, 2]), Recent::new([1, 2]));
        assert_ne!(one.mark(b"a key").0, other.mark(b"a key").0);
        assert_ne!(one.mark(b"a key").0, one.mark(b"a kez").0);
    }
}
