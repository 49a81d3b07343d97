//! One record of a ledger's segment: 32 words, in a place of its own that is written once.
//!
//! Word 0 is published last: kind, version and mark in its upper half, and in its lower half the CRC-32C of the other 252 bytes of the
//! record (its upper half, then words 1 to 31, little-endian). Word 1 is the record's number in its segment, so a record in
//! another's place is no record. Words 2 to 31 are the payload; its meaning belongs to the kind.
//!
//! A place whose words are all 0 is empty. A place with word 0 at 0 and other words set is unfinished: its writer died in the
//! middle, and told nobody of the record.

use crate::cells::atomic::{AtomicU64, Ordering};

/// Words of a record, with its word 0 and its number.
pub const RECORD_WORDS: usize = 32;

/// Words that a record carries.
pub const PAYLOAD_WORDS: usize = 30;

/// Records that a segment has places for: 1 MiB of places, of which its header takes the first.
pub const SEGMENT_RECORDS: u32 = 4_095;

const VERSION: u64 = 1;
const MARK: u64 = 0xa1;
const KIND_AT: u32 = 32;
const VERSION_AT: u32 = 40;
const MARK_AT: u32 = 56;
const LOWER: u64 = 0xffff_ffff;

/// The words of a record's payload.
pub type Payload = [u64; PAYLOAD_WORDS];

/// The sort of a record: it says how to read the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The priced result of one attempt.
    Entry = 1,
    /// Refusals of a minute.
    Denials = 2,
    /// Amounts that a counter may have too much, since a worker died.
    Doubt = 3,
}

impl RecordKind {
    fn of(number: u64) -> Option<Self> {
        match number {
            1 => Some(Self::Entry),
            2 => Some(Self::Denials),
            3 => Some(Self::Doubt),
            _ => None,
        }
    }
}

/// A record that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// How to read the payload.
    pub kind: RecordKind,
    /// Its number in its segment, from 0 on.
    pub sequence: u32,
    /// Its words.
    pub payload: Payload,
}

/// Why a place holds no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// Nothing was written there.
    Empty,
    /// Its writer died before it published the record.
    Unfinished,
    /// The words are not those of a record with this number: flipped, torn or cut.
    Damaged,
    /// Whole, of a version or a kind that this program does not know.
    Newer,
}

/// The words of a record.
#[inline]
pub fn encode(kind: RecordKind, sequence: u32, payload: &Payload) -> [u64; RECORD_WORDS] {
    let mut words = [0; RECORD_WORDS];
    words[0] = MARK << MARK_AT | VERSION << VERSION_AT | (kind as u64) << KIND_AT;
    words[1] = sequence.into();
    words[2..].copy_from_slice(payload);
    words[0] |= check(&words);
    words
}

/// The record with this number, from the words of its place.
pub fn decode(words: &[u64; RECORD_WORDS], sequence: u32) -> Result<Record, Flaw> {
    let first = words[0];
    if first == 0 {
        return Err(if *words == [0; RECORD_WORDS] { Flaw::Empty } else { Flaw::Unfinished });
    }
    if first >> MARK_AT != MARK || first & LOWER != check(words) || words[1] != u64::from(sequence) {
        return Err(Flaw::Damaged);
    }
    if first >> VERSION_AT & 0xffff != VERSION {
        return Err(Flaw::Newer);
    }
    let kind = RecordKind::of(first >> KIND_AT & 0xff).ok_or(Flaw::Newer)?;
    let mut payload = [0; PAYLOAD_WORDS];
    payload.copy_from_slice(&words[2..]);
    Ok(Record { kind, sequence, payload })
}

/// Writes a record into its place, word 0 last: a reader of word 0 finds the others, in this process, in another, and after a
/// kill at any instant.
#[inline]
pub fn publish(place: &[AtomicU64], words: &[u64; RECORD_WORDS]) {
    for (to, &word) in place.iter().zip(words).skip(1) {
        to.store(word, Ordering::Relaxed);
    }
    if let Some(first) = place.first() {
        first.store(words[0], Ordering::Release);
    }
}

/// The CRC-32C of words, little-endian.
pub fn checksum(words: &[u64]) -> u32 {
    words.iter().fold(0, |sum, word| crc32c::crc32c_append(sum, &word.to_le_bytes()))
}

#[inline]
fn check(words: &[u64; RECORD_WORDS]) -> u64 {
    let mut bytes = [0_u8; RECORD_WORDS * 8];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_le_bytes());
    }
    crc32c::crc32c(&bytes[4..]).into()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn payload() -> Payload {
        std::array::from_fn(|n| (n as u64 + 1) << 40 | 7)
    }

    #[test]
    fn decode_reverses_encode() {
        for kind in [RecordKind::Entry, RecordKind::Denials, RecordKind::Doubt] {
            let words = encode(kind, 4_094, &payload());
            assert_eq!(decode(&words, 4_094), Ok(Record { kind, sequence: 4_094, payload: payload() }));
        }
    }

    #[test]
    fn layout_stays_as_files_have_it() {
        let words = encode(RecordKind::Entry, 3, &payload());
        assert_eq!(words[0] >> 32, 0xa100_0101, "mark, version and kind");
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(words[0] & LOWER, u64::from(crc32c::crc32c(&bytes[4..])));
        // The check value of CRC-32C (Castagnoli), from its catalogue.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(checksum(&[u64::from_le_bytes(*b"12345678")]), crc32c::crc32c(b"12345678"));
    }

    #[test]
    fn every_flipped_bit_is_damage() {
        let words = encode(RecordKind::Entry, 9, &payload());
        for bit in 0..RECORD_WORDS * 64 {
            let mut flipped = words;
            flipped[bit / 64] ^= 1 << (bit % 64);
            assert_eq!(decode(&flipped, 9), Err(Flaw::Damaged), "bit {bit}");
        }
    }

    #[test]
    fn records_in_a_foreign_place_are_damage() {
        assert_eq!(decode(&encode(RecordKind::Entry, 9, &payload()), 10), Err(Flaw::Damaged));
    }

    #[test]
    fn unfinished_and_empty_places_are_told_apart() {
        assert_eq!(decode(&[0; RECORD_WORDS], 0), Err(Flaw::Empty));
        let mut words = encode(RecordKind::Entry, 0, &payload());
        words[0] = 0;
        assert_eq!(decode(&words, 0), Err(Flaw::Unfinished));
    }

    #[test]
    fn whole_records_of_a_later_version_are_newer() {
        for (at, value) in [(VERSION_AT, 2), (VERSION_AT, 0x0101), (KIND_AT, 4), (KIND_AT, 0)] {
            let mut words = encode(RecordKind::Entry, 5, &payload());
            let mask = if at == KIND_AT { 0xff } else { 0xffff };
            words[0] = words[0] & !(mask << at) & !LOWER | value << at;
            words[0] |= check(&words);
            assert_eq!(decode(&words, 5), Err(Flaw::Newer));
        }
    }

    #[test]
    fn publish_writes_the_words_of_encode() {
        let place: Vec<AtomicU64> = (0..RECORD_WORDS).map(|_| AtomicU64::new(0)).collect();
        let words = encode(RecordKind::Denials, 1, &payload());
        publish(&place, &words);
        assert!(place.iter().zip(words).all(|(place, word)| place.load(Ordering::Relaxed) == word));
    }
}
