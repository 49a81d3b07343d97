//! Reading the records of a segment back, whatever happened to its file: pure, over words.
//!
//! A segment's extent is known (its owner sealed it, or the next segment says where it ends) or open (its owner died: only a
//! first part is known to be on disk). In the known part a place without a record is a gap: it is reported, and the records behind
//! it are read. In the open part the first place without a record ends the reading; all behind it is reported, and none of it is read.
//! Nothing is repaired here, and a place is never read as a record unless its check holds.

use super::record::{Flaw, RECORD_WORDS, Record, SEGMENT_RECORDS, decode};

/// How far the records of a segment go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// There are exactly this many.
    Known(u32),
    /// There are at least this many, which were on disk.
    AtLeast(u32),
}

/// Places in the known part of a segment that hold no record: entries that are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Number of its first place.
    pub first: u32,
    /// Number of its places.
    pub records: u32,
    /// Places among them without any bit set: never written, or cut off.
    pub empty: u32,
}

/// The end of an open segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// Nothing stands behind the last record, or its extent is known.
    Clean,
    /// The place behind the last record is unfinished, and nothing follows: a kill interrupted its writer, who had told nobody.
    Unfinished,
    /// Words that are no record follow, or records behind a place that has none.
    Torn {
        /// Number of the first place without a record.
        first: u32,
        /// Places from there on that are not empty.
        places: u32,
        /// Places among them whose check holds: records behind the break, which are not read.
        sound: u32,
    },
}

/// The result of [`recover`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// The records, in order.
    pub records: Vec<Record>,
    /// The place to read on from. Gaps before it are behind us, too.
    pub next: u32,
    /// Whether all that can be read was read: the end of a known extent, or of the records of an open one.
    pub ended: bool,
    /// Places without a record in the known part, between the places read first and next.
    pub gaps: Vec<Gap>,
    /// The end of an open segment; [`Tail::Clean`] before `ended`.
    pub tail: Tail,
    /// Number of a whole record that only a later version of this program can read: reading ends before it.
    pub newer: Option<u32>,
}

/// Reads at most `most` places from place `from` on. `words` begins with place `from`; words that it does not have count as 0. To
/// judge the tail of an open segment it goes to the end of the segment.
pub fn recover(words: &[u64], from: u32, most: u32, extent: Extent) -> Recovered {
    let (known, end) = match extent {
        Extent::Known(end) => (end.min(SEGMENT_RECORDS), end.min(SEGMENT_RECORDS)),
        Extent::AtLeast(known) => (known, SEGMENT_RECORDS),
    };
    let stop = end.min(from.saturating_add(most));
    let mut found =
        Recovered { records: Vec::new(), next: from, ended: false, gaps: Vec::new(), tail: Tail::Clean, newer: None };
    while found.next < stop {
        match decode(&place(words, found.next - from), found.next) {
            Ok(record) => found.records.push(record),
            Err(Flaw::Newer) => {
                found.newer = Some(found.next);
                return found;
            }
            Err(flaw) if found.next < known => note(&mut found.gaps, found.next, flaw),
            Err(_) => {
                found.tail = tail(words, from, found.next);
                found.ended = true;
                return found;
            }
        }
        found.next += 1;
    }
    found.ended = found.next >= end;
    found
}

/// The words of the n-th place of a run.
fn place(words: &[u64], n: u32) -> [u64; RECORD_WORDS] {
    let mut place = [0; RECORD_WORDS];
    let rest = words.get(n as usize * RECORD_WORDS..).unwrap_or_default();
    let there = rest.len().min(RECORD_WORDS);
    place[..there].copy_from_slice(&rest[..there]);
    place
}

fn note(gaps: &mut Vec<Gap>, at: u32, flaw: Flaw) {
    let empty = u32::from(flaw == Flaw::Empty);
    match gaps.last_mut() {
        Some(gap) if gap.first + gap.records == at => {
            gap.records += 1;
            gap.empty += empty;
        }
        _ => gaps.push(Gap { first: at, records: 1, empty }),
    }
}

fn tail(words: &[u64], from: u32, first: u32) -> Tail {
    let (mut places, mut sound, mut unfinished) = (0, 0, false);
    // Words that are not there are empty places.
    let there = u32::try_from(words.len().div_ceil(RECORD_WORDS)).unwrap_or(SEGMENT_RECORDS);
    for sequence in first..SEGMENT_RECORDS.min(from.saturating_add(there)) {
        match decode(&place(words, sequence - from), sequence) {
            Err(Flaw::Empty) => continue,
            Err(Flaw::Unfinished) => unfinished = sequence == first,
            Err(Flaw::Damaged) => {}
            Ok(_) | Err(Flaw::Newer) => sound += 1,
        }
        places += 1;
    }
    match places {
        0 => Tail::Clean,
        1 if unfinished => Tail::Unfinished,
        _ => Tail::Torn { first, places, sound },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::record::{PAYLOAD_WORDS, RecordKind, encode};
    use super::*;

    /// A segment with so many records, and no other bit set.
    fn segment(records: u32) -> Vec<u64> {
        let mut words: Vec<u64> =
            (0..records).flat_map(|n| encode(RecordKind::Entry, n, &[u64::from(n) + 1; PAYLOAD_WORDS])).collect();
        words.resize(SEGMENT_RECORDS as usize * RECORD_WORDS, 0);
        words
    }

    fn numbers(found: &Recovered) -> Vec<u32> {
        found.records.iter().map(|record| record.sequence).collect()
    }

    fn flip(words: &mut [u64], record: usize, word: usize) {
        words[record * RECORD_WORDS + word] ^= 1 << 20;
    }

    #[test]
    fn open_segment_keeps_its_valid_prefix() {
        let mut words = segment(10);
        flip(&mut words, 7, 5);
        let found = recover(&words, 0, u32::MAX, Extent::AtLeast(4));
        assert_eq!((numbers(&found), found.next, found.ended), ((0..7).collect(), 7, true));
        assert_eq!(found.tail, Tail::Torn { first: 7, places: 3, sound: 2 });
        assert!(found.gaps.is_empty());
    }

    #[test]
    fn known_part_is_read_past_gaps() {
        let mut words = segment(10);
        for record in [2, 3, 9] {
            flip(&mut words, record, 31);
        }
        words[3 * RECORD_WORDS..4 * RECORD_WORDS].fill(0);
        let found = recover(&words, 0, u32::MAX, Extent::Known(10));
        assert_eq!(numbers(&found), [0, 1, 4, 5, 6, 7, 8]);
        assert_eq!(found.gaps, [Gap { first: 2, records: 2, empty: 1 }, Gap { first: 9, records: 1, empty: 0 }]);
        assert_eq!((found.next, found.ended, found.tail), (10, true, Tail::Clean));
    }

    #[test]
    fn known_part_of_an_open_segment_is_read_past_gaps() {
        let mut words = segment(10);
        flip(&mut words, 1, 0);
        let found = recover(&words, 0, u32::MAX, Extent::AtLeast(5));
        assert_eq!((found.records.len(), found.next, found.ended, found.tail), (9, 10, true, Tail::Clean));
        assert_eq!(found.gaps, [Gap { first: 1, records: 1, empty: 0 }]);
    }

    #[test]
    fn unfinished_record_is_no_damage() {
        let mut words = segment(10);
        words[9 * RECORD_WORDS] = 0;
        let found = recover(&words, 0, u32::MAX, Extent::AtLeast(0));
        assert_eq!((found.next, found.tail), (9, Tail::Unfinished));
    }

    #[test]
    fn records_behind_an_empty_place_are_reported() {
        let mut words = segment(10);
        words[4 * RECORD_WORDS..5 * RECORD_WORDS].fill(0);
        let found = recover(&words, 0, u32::MAX, Extent::AtLeast(0));
        assert_eq!((found.next, found.tail), (4, Tail::Torn { first: 4, places: 5, sound: 5 }));
    }

    #[test]
    fn pages_read_each_record_once() {
        let mut words = segment(100);
        flip(&mut words, 41, 3);
        for extent in [Extent::Known(100), Extent::AtLeast(60)] {
            let (mut next, mut seen, mut gaps) = (0, Vec::new(), 0);
            loop {
                let found = recover(&words[next as usize * RECORD_WORDS..], next, 7, extent);
                seen.extend(numbers(&found));
                gaps += found.gaps.len();
                next = found.next;
                if found.ended {
                    break;
                }
            }
            assert_eq!((seen.len(), gaps, next), (99, 1, 100));
        }
    }

    #[test]
    fn missing_words_count_as_empty() {
        let words = &segment(10)[..9 * RECORD_WORDS + 12];
        let found = recover(words, 0, u32::MAX, Extent::Known(10));
        assert_eq!(found.gaps, [Gap { first: 9, records: 1, empty: 0 }]);
        assert_eq!(recover(words, 0, u32::MAX, Extent::AtLeast(0)).tail, Tail::Torn { first: 9, places: 1, sound: 0 });
        assert_eq!(recover(&[], 0, 5, Extent::AtLeast(0)).tail, Tail::Clean);
    }

    #[test]
    fn full_segment_ends_at_its_last_place() {
        let found = recover(&segment(SEGMENT_RECORDS), 4_000, u32::MAX, Extent::Known(SEGMENT_RECORDS));
        assert_eq!((found.next, found.ended), (SEGMENT_RECORDS, true));
        let found = recover(&segment(SEGMENT_RECORDS), 0, u32::MAX, Extent::AtLeast(0));
        assert_eq!((found.records.len(), found.ended, found.tail), (4_095, true, Tail::Clean));
    }
}
