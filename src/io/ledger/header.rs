//! The first 32 words of a segment.
//!
//! Words 0 to 8 never change: magic, layout, store (2), life, slot, number, time of making, and the check of these eight. Words 16
//! to 19 are stored by the owner as it goes, each by itself: `begun`, `synced`, `sealed`, `closed`. Each holds its value twice, the
//! second time inverted, so a flipped bit makes it unreadable and never another number; 0 is a word that was not stored.

use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::entry::record::checksum;

use super::name::SegmentName;
use crate::store::StoreId;

/// Words of a header: as many as a record's, so records never cross a page or a sector.
pub(super) const HEADER_WORDS: usize = 32;

const MAGIC: u64 = u64::from_le_bytes(*b"AIGWSEG1");
const LAYOUT: u64 = 1;
const LAYOUT_WORD: usize = 1;
const CHECK_WORD: usize = 8;

/// [`Word::Begun`] of a segment with number 0: it has no segment before it.
pub(super) const FIRST: u32 = u32::MAX;

/// A word that its owner stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// Records in the segment before it ([`FIRST`] for the first), stored when it becomes the one that is written. Not stored: a
    /// spare.
    Begun = 16,
    /// Records that are on disk.
    Synced = 17,
    /// 1 + its records, stored when no more will come.
    Sealed = 18,
    /// 1, when its owner ended in order: no segment follows.
    Closed = 19,
}

impl Word {
    const ALL: [Self; 4] = [Self::Begun, Self::Synced, Self::Sealed, Self::Closed];

    pub(super) fn store(self, words: &[AtomicU64], value: u32) {
        words[self as usize].store(u64::from(!value) << 32 | u64::from(value), Ordering::Release);
    }
}

/// Writes the words that never change.
pub(super) fn format(words: &[AtomicU64], store: StoreId, name: SegmentName, made_at: u64) {
    let fixed = [MAGIC, LAYOUT, store[0], store[1], name.life, name.slot.into(), name.number.into(), made_at];
    for (word, value) in words.iter().zip(fixed) {
        word.store(value, Ordering::Relaxed);
    }
    words[CHECK_WORD].store(checksum(&fixed).into(), Ordering::Relaxed);
}

/// Gives the words that the owner stores to a copy of the segment.
pub(super) fn copy(from: &[AtomicU64], to: &[AtomicU64]) {
    for word in Word::ALL {
        to[word as usize].store(from[word as usize].load(Ordering::Acquire), Ordering::Release);
    }
}

/// A header as it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    /// Unix nanoseconds; 0 where they cannot be read.
    pub made_at: u64,
    pub begun: Option<u32>,
    pub synced: Option<u32>,
    /// Number of all records.
    pub records: Option<u32>,
    pub closed: bool,
    /// Some of it is not as it was written.
    pub damaged: bool,
}

/// Why this program does not read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Foreign {
    #[error(
        "this segment belongs to another store: nothing was changed; move the ledger folder to the data folder that it came from"
    )]
    Store,
    #[error(
        "layout {0} of the ledger's segments is not supported (this version knows {LAYOUT}): nothing was changed; run the version that wrote it, or a later one"
    )]
    Layout(u64),
    #[error("this segment is another one than its name says: nothing was changed; give it back its name, {0}")]
    Name(SegmentName),
}

/// Reads a header. One whose check fails is damaged, and its records are still worth reading; one that is whole must be of this
/// store, name and layout.
pub(super) fn read(words: &[u64], store: StoreId, name: SegmentName) -> Result<Header, Foreign> {
    let mut header = Header::default();
    let fixed = &words[..CHECK_WORD];
    if words[0] == MAGIC && words[CHECK_WORD] == u64::from(checksum(fixed)) {
        if fixed[LAYOUT_WORD] != LAYOUT {
            return Err(Foreign::Layout(fixed[LAYOUT_WORD]));
        }
        if fixed[2..4] != store {
            return Err(Foreign::Store);
        }
        let own = SegmentName { life: fixed[4], slot: narrow(fixed[5]), number: narrow(fixed[6]) };
        if own != name {
            return Err(Foreign::Name(own));
        }
        header.made_at = fixed[7];
    } else {
        header.damaged = true;
    }
    let mut value = |word: Word| {
        let found = words[word as usize];
        let value: u32 = narrow(found & u64::from(u32::MAX));
        let sound = found >> 32 == u64::from(!value);
        header.damaged |= found != 0 && !sound;
        (found != 0 && sound).then_some(value)
    };
    (header.begun, header.synced) = (value(Word::Begun), value(Word::Synced));
    let (sealed, closed) = (value(Word::Sealed), value(Word::Closed));
    header.records = sealed.and_then(|sealed| sealed.checked_sub(1));
    header.closed = closed == Some(1);
    Ok(header)
}

fn narrow<T: TryFrom<u64> + Default>(word: u64) -> T {
    T::try_from(word).unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const STORE: StoreId = [3, 4];
    const NAME: SegmentName = SegmentName { life: 5, slot: 6, number: 7 };

    fn written() -> Vec<u64> {
        let words: Vec<AtomicU64> = (0..HEADER_WORDS).map(|_| AtomicU64::new(0)).collect();
        format(&words, STORE, NAME, 99);
        Word::Begun.store(&words, 4_095);
        Word::Synced.store(&words, 0);
        Word::Sealed.store(&words, 4_096);
        words.into_iter().map(AtomicU64::into_inner).collect()
    }

    #[test]
    fn read_finds_the_stored_values() {
        let found = read(&written(), STORE, NAME).unwrap();
        let expected =
            Header { made_at: 99, begun: Some(4_095), synced: Some(0), records: Some(4_095), ..Header::default() };
        assert_eq!(found, expected);
    }

    #[test]
    fn flipped_bits_are_damage_and_never_another_value() {
        let whole = read(&written(), STORE, NAME).unwrap();
        for bit in (0..9 * 64).chain(16 * 64..20 * 64) {
            let mut words = written();
            words[bit / 64] ^= 1 << (bit % 64);
            let found = read(&words, STORE, NAME).unwrap();
            assert!(found.damaged, "bit {bit}");
            assert!(found.begun.is_none_or(|value| Some(value) == whole.begun), "bit {bit}");
            assert!(found.synced.is_none_or(|value| Some(value) == whole.synced), "bit {bit}");
            assert!(found.records.is_none_or(|value| Some(value) == whole.records), "bit {bit}");
            assert!(!found.closed, "bit {bit}");
        }
    }

    #[test]
    fn whole_headers_of_others_are_refused() {
        assert_eq!(read(&written(), [3, 5], NAME), Err(Foreign::Store));
        let other = SegmentName { number: 8, ..NAME };
        assert_eq!(read(&written(), STORE, other), Err(Foreign::Name(NAME)));
        let mut words = written();
        words[LAYOUT_WORD] = 2;
        words[CHECK_WORD] = checksum(&words[..CHECK_WORD]).into();
        assert_eq!(read(&words, STORE, NAME), Err(Foreign::Layout(2)));
    }
}
