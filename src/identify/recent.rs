//! Remembers recently presented keys, so a repeated call costs one short hash and two cache lines.
//!
//! In: a key, and the location of its holder in the keys in force. Out: the same location, while exactly these keys are in
//! force: any change of a key invalidates all entries. An entry is two words, so 100,000 keys fit in the few megabytes of
//! cache that a virtual machine has: 60 bits of a hash under a secret that is made at start and never leaves the process, and
//! the location. Key bytes are not kept. Only known keys without expiry are remembered.
//!
//! An entry is in one of two cache lines, which are fetched together (Fan and others, "Cuckoo Filter", 2014). Readers take no
//! lock: a reader that meets a write in progress finds nothing.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Mutex, OnceLock};

use siphasher::sip128::SipHasher13;

use crate::snapshot::{CHANGED, Found, Keys, OWN_CLASS};

/// Words of a cache line.
const LINE: usize = 8;
/// Entries of a line, of two words each: name and holder.
const WAYS: usize = LINE / 2;
/// Lines: 2 MiB. Above 120,000 equally frequent keys some are forgotten and take the long way (HMAC and tables).
const LINES: usize = 1 << LINE_BITS;
const LINE_BITS: u32 = 15;
/// The bits of a name that hold the era, the version of the keys: entries of older eras are replaced first.
const ERA: u64 = 0xf;

/// The recently presented keys of one worker.
pub(super) struct Recent {
    /// Keyed, with nothing written.
    hasher: SipHasher13,
    /// Allocated at the first key.
    table: OnceLock<Table>,
    /// Odd while an entry is written; another number after each.
    writes: AtomicU64,
    writing: Mutex<()>,
}

/// A presented key under one version of the keys: one of its lines, and its name in the line.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    line: usize,
    name: u64,
}

impl Recent {
    /// An empty table. `seed` is secret; a random part is added to it.
    pub(super) fn new(seed: [u64; 2]) -> Self {
        let random = RandomState::new();
        let hasher = SipHasher13::new_with_keys(seed[0] ^ random.hash_one(0), seed[1] ^ random.hash_one(1));
        Self { hasher, table: OnceLock::new(), writes: AtomicU64::new(0), writing: Mutex::new(()) }
    }

    /// The mark of a key. Any change of the keys changes all marks.
    #[inline]
    #[allow(clippy::cast_possible_truncation)] // cut to the number of lines anyway
    pub(super) fn mark(&self, keys: &Keys, key: &[u8]) -> Mark {
        let hash = self.hasher.hash(key);
        let content = keys.content();
        Mark { line: hash.h1 as usize % LINES, name: (hash.h2 ^ content << 4) & !ERA | content & ERA }
    }

    /// The holder that was remembered for the mark.
    #[inline]
    pub(super) fn get(&self, mark: Mark) -> Option<Found> {
        let table = self.table.get()?;
        let before = self.writes.load(Ordering::Acquire);
        let holder = table.holder(mark)?;
        fence(Ordering::Acquire);
        let quiet = before.is_multiple_of(2) && self.writes.load(Ordering::Relaxed) == before;
        unpack(holder).filter(|_| quiet)
    }

    /// Remember the holder of the mark.
    pub(super) fn put(&self, mark: Mark, found: &Found) {
        let Some(holder) = pack(found) else { return };
        // One writer at a time: a second one skips its write.
        let Ok(_alone) = self.writing.try_lock() else { return };
        let table = self.table.get_or_init(Table::new);
        let writes = self.writes.load(Ordering::Relaxed);
        self.writes.store(writes | 1, Ordering::Relaxed);
        fence(Ordering::Release);
        table.put(mark, holder, writes >> 1);
        self.writes.store((writes | 1).wrapping_add(1), Ordering::Release);
    }
}

struct Table {
    words: Box<[AtomicU64]>,
    /// Index of the first word that starts a cache line.
    first: usize,
}

impl Table {
    fn new() -> Self {
        let words: Box<[_]> = (0..(LINES + 1) * LINE).map(|_| AtomicU64::new(0)).collect();
        let first = words.as_ptr().align_offset(LINE * size_of::<AtomicU64>()).min(LINE);
        Self { words, first }
    }

    /// The entries of a line.
    #[inline]
    fn line(&self, line: usize) -> Option<&[[AtomicU64; 2]; WAYS]> {
        self.words.get(self.first + line * LINE..)?.as_chunks().0.first_chunk()
    }

    /// The holder of the key; 0 for an unknown key. Reads all entries of both lines without a branch: the time is constant
    /// and reveals nothing about a guessed key.
    #[inline]
    fn holder(&self, mark: Mark) -> Option<u64> {
        let lines = [self.line(mark.line)?, self.line(other(mark.line, mark.name))?];
        Some(lines.into_iter().flatten().fold(0, |found, [name, holder]| {
            let same = u64::from(name.load(Ordering::Relaxed) == mark.name);
            found | (holder.load(Ordering::Relaxed) & same.wrapping_neg())
        }))
    }

    /// Writes the entry into a free slot, or over another key.
    fn put(&self, mark: Mark, holder: u64, some: u64) {
        if self.holder(mark) != Some(0) {
            return;
        }
        let lines = [mark.line, other(mark.line, mark.name)];
        let room = lines.iter().find_map(|line| self.room(*line, mark.name & ERA));
        let moved = || lines.iter().find_map(|line| self.line(*line)?.iter().find(|entry| self.moves(*line, entry)));
        #[allow(clippy::cast_possible_truncation)] // cut to two bits
        let given = || self.line(lines[some as usize % 2])?.get(some as usize / 2 % WAYS);
        if let Some(entry) = room.or_else(moved).or_else(given) {
            write(entry, mark.name, holder);
        }
    }

    /// An entry of the line that is free or belongs to an older version of the keys.
    fn room(&self, line: usize, era: u64) -> Option<&[AtomicU64; 2]> {
        self.line(line)?
            .iter()
            .find(|[name, holder]| holder.load(Ordering::Relaxed) == 0 || name.load(Ordering::Relaxed) & ERA != era)
    }

    /// Copies an entry of this line to its other line, if that has a free entry.
    fn moves(&self, line: usize, [name, holder]: &[AtomicU64; 2]) -> bool {
        let (name, holder) = (name.load(Ordering::Relaxed), holder.load(Ordering::Relaxed));
        let room = self.room(other(line, name), name & ERA);
        room.inspect(|entry| write(entry, name, holder)).is_some()
    }
}

/// The other line of a name; from there, this one.
#[inline]
#[allow(clippy::cast_possible_truncation)] // as many bits as a line's number has
fn other(line: usize, name: u64) -> usize {
    line ^ (name.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - LINE_BITS)) as usize
}

fn write([at_name, at_holder]: &[AtomicU64; 2], name: u64, holder: u64) {
    at_name.store(name, Ordering::Relaxed);
    at_holder.store(holder, Ordering::Relaxed);
}

/// Packs a holder into one word: the consumer's number, the credential's location or number with a bit for the delta, and the
/// class's location. A holder that does not fit is not remembered; a class that does not fit is looked up by number.
const CONSUMERS: u32 = 1 << 22;
const CREDENTIALS: u32 = 1 << 24;
const NO_CLASS: u32 = (1 << 17) - 1;

fn pack(found: &Found) -> Option<u64> {
    let Found { consumer, credential, class } = *found;
    let (location, changed) = (credential & !CHANGED, u64::from(credential & CHANGED != 0));
    let fits = consumer < CONSUMERS && location < CREDENTIALS;
    fits.then_some(
        u64::from(consumer) << 42 | changed << 41 | u64::from(location) << 17 | u64::from(class.min(NO_CLASS)),
    )
}

/// Consumer numbers start at 1, so 0 means no holder.
#[inline]
#[allow(clippy::cast_possible_truncation)] // each is cut to its bits
fn unpack(holder: u64) -> Option<Found> {
    let consumer = (holder >> 42) as u32;
    let changed = if holder >> 41 & 1 == 0 { 0 } else { CHANGED };
    let credential = ((holder >> 17) as u32 % CREDENTIALS) | changed;
    let class = match holder as u32 & NO_CLASS {
        NO_CLASS => OWN_CLASS,
        class => class,
    };
    (consumer != 0).then_some(Found { consumer, credential, class })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::snapshot::{KeysBuilder, MAX_CREDENTIAL};
    use std::sync::Arc;
    use std::sync::atomic::AtomicBool;

    fn found(n: u32) -> Found {
        Found { consumer: n + 1, credential: n * 3, class: n % 7 }
    }

    fn keys() -> Keys {
        Keys::open(Arc::new(KeysBuilder::new().finish(1).unwrap())).unwrap()
    }

    #[test]
    fn recent_finds_an_entry_under_its_own_keys_only() {
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
    fn a_hundred_thousand_keys_find_room_and_more_leave_some_of_the_others() {
        let (recent, keys) = (Recent::new([1, 2]), keys());
        let mark = |n: u32| recent.mark(&keys, &n.to_le_bytes());
        let kept = |count: u32| (0..count).filter(|n| recent.get(mark(*n)) == Some(found(*n))).count();
        (0..100_000).for_each(|n| recent.put(mark(n), &found(n)));
        assert!(kept(100_000) > 99_900, "{}", kept(100_000));
        for n in 100_000..200_000 {
            recent.put(mark(n), &found(n));
            assert_eq!(recent.get(mark(n)), Some(found(n)));
        }
        assert!(kept(200_000) > LINES * WAYS * 99 / 100, "{}", kept(200_000));
    }

    #[test]
    fn entries_of_older_keys_make_room_first() {
        let recent = Recent::new([1, 2]);
        let put =
            |keys: &Keys| (0..100_000_u32).for_each(|n| recent.put(recent.mark(keys, &n.to_le_bytes()), &found(n)));
        for keys in [keys(), keys(), keys()] {
            put(&keys);
            let kept = (0..100_000_u32).filter(|n| recent.get(recent.mark(&keys, &n.to_le_bytes())).is_some()).count();
            assert!(kept > 99_900, "{kept}");
        }
    }

    #[test]
    fn a_holder_is_packed_whole_or_not_at_all() {
        for consumer in [1, CONSUMERS - 1, CONSUMERS] {
            for credential in [
                0,
                CREDENTIALS - 1,
                CREDENTIALS,
                MAX_CREDENTIAL,
                CHANGED,
                CHANGED | (CREDENTIALS - 1),
                CHANGED | CREDENTIALS,
            ] {
                for class in [0, NO_CLASS - 1, NO_CLASS, OWN_CLASS] {
                    let whole = Found { consumer, credential, class };
                    let class = if class < NO_CLASS { class } else { OWN_CLASS };
                    let fits = consumer < CONSUMERS && credential & !CHANGED < CREDENTIALS;
                    let kept = fits.then_some(Some(Found { class, ..whole }));
                    assert_eq!(pack(&whole).map(unpack), kept, "{whole:?}");
                }
            }
        }
        assert_eq!(unpack(0), None);
    }

    #[test]
    fn nobody_is_taken_for_another_while_entries_are_written() {
        let recent = Recent::new([1, 2]);
        let mark = |n: u32| Mark { line: 7, name: u64::from(n) << 4 };
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
        assert_ne!(one.mark(&keys, b"a key").name, other.mark(&keys, b"a key").name);
        assert_ne!(one.mark(&keys, b"a key").name, one.mark(&keys, b"a kez").name);
    }
}
