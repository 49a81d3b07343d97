//! Keys that were presented a moment ago: so that a client that calls again costs one short hash and one line of memory.
//!
//! In: a key, and where the keys in force say its holder is. Out: the same, as long as exactly those keys are in force: one
//! change of any key, and everything here is forgotten. An entry is five short words, so that what a hundred thousand keys
//! need stays in a processor's cache: 64 bits of a hash under a secret that is made at start and never leaves the process,
//! and three numbers. A key's own bytes are not kept. Only keys that never expire are here, and none that are unknown.
//!
//! Readers take no lock: who reads while an entry is written finds nothing.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock};

use crate::sip;
use crate::snapshot::{Found, Keys};

/// Words of an entry: hash 2, consumer, credential, class.
const WORDS: usize = 5;
/// Words of a line of memory; three entries fit in it.
const LINE: usize = 16;
/// Entries of a set, the newest first: three lines, of which the first is mostly enough.
const WAYS: usize = 9;
const SET: usize = WAYS / 3 * LINE;
/// Sets; 6 MiB in all. A set that has more keys than entries costs those keys the long way: rare up to 150,000 keys.
const SETS: usize = 1 << 15;

/// What one worker has seen.
pub(super) struct Recent {
    secret: [u64; 2],
    /// Made by the first key.
    table: OnceLock<Table>,
    /// Odd while an entry is written; another number after each.
    writes: AtomicU64,
    writing: Mutex<()>,
}

/// Lines of memory, from the first whole one on.
struct Table {
    words: Box<[AtomicU32]>,
    first: usize,
}

/// A key's hash under some keys: where it may be, and what tells it apart.
#[derive(Clone, Copy)]
pub(super) struct Mark([u64; 2]);

impl Recent {
    /// An empty memory. `seed` is secret; a random part is added to it.
    pub(super) fn new(seed: [u64; 2]) -> Self {
        let random = RandomState::new();
        let secret = [seed[0] ^ random.hash_one(0), seed[1] ^ random.hash_one(1)];
        Self { secret, table: OnceLock::new(), writes: AtomicU64::new(0), writing: Mutex::new(()) }
    }

    /// What the key is called here while these keys are in force; after any change of them, otherwise.
    #[inline]
    pub(super) fn mark(&self, keys: &Keys, key: &[u8]) -> Mark {
        let [place, name] = sip::words::<1, 3>(self.secret, key);
        Mark([place, name ^ keys.content()])
    }

    /// What the keys of the mark said of it when it was last presented.
    #[inline]
    pub(super) fn get(&self, mark: Mark) -> Option<Found> {
        let table = self.table.get()?;
        let before = self.writes.load(Ordering::Acquire);
        let found = (0..WAYS).find_map(|way| read(table.entry(mark, way)?, mark));
        fence(Ordering::Acquire);
        let quiet = before.is_multiple_of(2) && self.writes.load(Ordering::Relaxed) == before;
        found.filter(|_| quiet)
    }

    /// Remember what the keys of the mark said of it.
    pub(super) fn put(&self, mark: Mark, found: &Found) {
        // Whoever comes while another one writes does without.
        let Ok(_alone) = self.writing.try_lock() else { return };
        let table = self.table.get_or_init(Table::new);
        let writes = self.writes.load(Ordering::Relaxed);
        self.writes.store(writes | 1, Ordering::Relaxed);
        fence(Ordering::Release);
        for way in (1..WAYS).rev() {
            if let (Some(from), Some(to)) = (table.entry(mark, way - 1), table.entry(mark, way)) {
                for (from, to) in from.iter().zip(to) {
                    to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
                }
            }
        }
        if let Some(entry) = table.entry(mark, 0) {
            for (to, word) in entry.iter().zip(words(mark, found)) {
                to.store(word, Ordering::Relaxed);
            }
        }
        self.writes.store((writes | 1).wrapping_add(1), Ordering::Release);
    }
}

impl Table {
    fn new() -> Self {
        let words: Box<[_]> = (0..SETS * SET + LINE).map(|_| AtomicU32::new(0)).collect();
        let first = words.as_ptr().align_offset(LINE * size_of::<AtomicU32>()).min(LINE);
        Self { words, first }
    }

    #[inline]
    #[allow(clippy::cast_possible_truncation)] // cut to the number of sets anyway
    fn entry(&self, mark: Mark, way: usize) -> Option<&[AtomicU32; WORDS]> {
        let at = self.first + (mark.0[0] as usize % SETS) * SET + way / 3 * LINE + way % 3 * WORDS;
        self.words.get(at..)?.first_chunk()
    }
}

#[allow(clippy::cast_possible_truncation)] // the halves of a word
fn words(mark: Mark, found: &Found) -> [u32; WORDS] {
    let Found { consumer, credential, class } = *found;
    [mark.0[1] as u32, (mark.0[1] >> 32) as u32, consumer, credential, class]
}

#[inline]
fn read(entry: &[AtomicU32; WORDS], mark: Mark) -> Option<Found> {
    let [low, high, consumer, credential, class] = entry.each_ref().map(|word| word.load(Ordering::Relaxed));
    // All in one: how far a guess was right cannot be told by the time it took. Consumers are numbered from 1.
    let differs = (u64::from(low) | u64::from(high) << 32) ^ mark.0[1];
    (differs == 0 && consumer != 0).then_some(Found { consumer, credential, class })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshot::KeysBuilder;
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn found(n: u32) -> Found {
        Found { consumer: n + 1, credential: n * 3, class: n * 7 }
    }

    fn keys() -> Keys {
        Keys::open(Arc::new(KeysBuilder::new().finish(1).unwrap())).unwrap()
    }

    #[test]
    fn what_was_put_is_found_under_the_same_keys_only() {
        let (recent, keys) = (Recent::new([1, 2]), keys());
        let get = |keys: &Keys, n: u32| recent.get(recent.mark(keys, &n.to_le_bytes()));
        assert_eq!(get(&keys, 0), None);
        for n in 0..1_000_u32 {
            recent.put(recent.mark(&keys, &n.to_le_bytes()), &found(n));
            assert_eq!(get(&keys, n), Some(found(n)));
            assert_eq!(get(&keys.clone(), n), Some(found(n)));
        }
        let other = self::keys();
        assert!((0..1_000_u32).all(|n| get(&other, n).is_none()));
        assert!((0..1_000_u32).all(|n| get(&Keys::empty(), n).is_none()));
    }

    #[test]
    fn the_newest_of_a_set_stay() {
        let recent = Recent::new([1, 2]);
        let mark = |n: u32| Mark([7, u64::from(n) + 1]);
        for n in 0..100 {
            recent.put(mark(n), &found(n));
            let kept: Vec<u32> = (0..=n).filter(|n| recent.get(mark(*n)) == Some(found(*n))).collect();
            assert_eq!(kept, (n.saturating_sub(8)..=n).collect::<Vec<_>>());
        }
        assert_eq!(recent.get(Mark([8, 100])), None);
    }

    #[test]
    fn nobody_is_taken_for_another_while_entries_are_written() {
        let recent = Recent::new([1, 2]);
        let mark = |n: u32| Mark([7, u64::from(n) << 33 | 1]);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        for n in 0..12 {
                            assert!(recent.get(mark(n)).is_none_or(|is| is == found(n)));
                        }
                    }
                });
            }
            for n in 0..200_000 {
                recent.put(mark(n % 12), &found(n % 12));
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn no_bytes_of_a_key_are_kept_and_no_two_memories_hash_alike() {
        let (one, other, keys) = (Recent::new([1, 2]), Recent::new([1, 2]), keys());
        assert_ne!(one.mark(&keys, b"a key").0, other.mark(&keys, b"a key").0);
        assert_ne!(one.mark(&keys, b"a key").0, one.mark(&keys, b"a kez").0);
    }
}
