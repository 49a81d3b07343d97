//! The ledger's segments from both sides: random runs with kills and damage, every cut of a last record, every flipped bit of the
//! last 4 KiB, threads that append at once, and calls that wait for the disk.
#![allow(clippy::unwrap_used)]

mod ledger;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use aigw_core::entry::record::{RecordKind, SEGMENT_RECORDS};
use aigw_core::entry::recover::{Gap, Tail};
use aigw_io::ledger::{LedgerWriter, Position, SegmentName, Segments, Syncer};
use ledger::{Dice, Folder, LIFE, PowerDisk, SLOT, STORE, name, payload, read_all};
use proptest::prelude::*;

const RECORD: u64 = 256;

fn by_hand(dir: &Path) -> (Arc<LedgerWriter>, Syncer) {
    let (writer, mut syncer) = LedgerWriter::by_hand(Arc::new(PowerDisk::default()), dir, STORE, SLOT, LIFE);
    syncer.work(Instant::now());
    (writer, syncer)
}

fn append(writer: &LedgerWriter, numbers: std::ops::Range<u64>) {
    for n in numbers {
        assert!(writer.reserve(1));
        writer.append(RecordKind::Entry, &payload(n)).unwrap();
    }
}

fn file(dir: &Path, number: u32) -> PathBuf {
    dir.join(name(number).to_string())
}

fn flip(path: &Path, byte: u64, bit: u8) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut one = [0];
    file.read_exact_at(&mut one, byte).unwrap();
    file.write_all_at(&[one[0] ^ 1 << bit], byte).unwrap();
}

fn cut(path: &Path, bytes: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(bytes).unwrap();
}

/// A folder of a killed process: so many records, and nothing of them sealed by an end in order.
fn killed(records: u64) -> Folder {
    let folder = Folder::new("writing");
    let (writer, mut syncer) = by_hand(&folder.0);
    for n in 0..records {
        append(&writer, n..n + 1);
        if n % 3_000 == 10 {
            syncer.work(Instant::now());
        }
    }
    folder.copy("killed")
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64),
    Round,
    Kill,
    Cut { segment: u32, byte: u64 },
    Flip { segment: u32, byte: u64, bit: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    // Near the records that the runs write as often as anywhere.
    let byte = prop_oneof![0..1_048_576_u64, 0..20_000_u64, 1_030_000..1_048_576_u64];
    prop_oneof![
        4 => prop_oneof![1..40_u64, 1_000..3_000_u64].prop_map(Step::Append),
        3 => Just(Step::Round),
        1 => Just(Step::Kill),
        1 => (0..4_u32, byte.clone()).prop_map(|(segment, byte)| Step::Cut { segment, byte }),
        1 => (0..4_u32, byte, 0..8_u8).prop_map(|(segment, byte, bit)| Step::Flip { segment, byte, bit }),
    ]
}

/// Reads a killed process's folder after its damage: each record that is read is right and in order, and whatever is missing is reported.
fn check_damaged(folder: &Folder, records: u64, step: &Step) -> Result<(), TestCaseError> {
    let (Step::Cut { segment, byte } | Step::Flip { segment, byte, .. }) = *step else { return Ok(()) };
    let path = file(&folder.0, segment);
    if !path.exists() {
        return Ok(());
    }
    match step {
        Step::Flip { bit, .. } => flip(&path, byte, *bit),
        _ => cut(&path, byte),
    }
    let found = read_all(&folder.0, 1_500);
    let numbers = found.numbers();
    prop_assert!(numbers.is_sorted_by(|one, next| one < next));
    prop_assert!(numbers.iter().all(|&n| n < records));
    prop_assert!(!found.is_whole() || is_padding(step), "{step:?} is not reported");
    // Records before the damage, and those of other segments.
    let first = u64::from(segment) * u64::from(SEGMENT_RECORDS);
    let hit = first + (byte / RECORD).saturating_sub(1);
    let end = first + u64::from(SEGMENT_RECORDS);
    let sound = (0..records).filter(|&n| n < hit || n >= end);
    let kept: BTreeSet<u64> = numbers.iter().copied().collect();
    prop_assert!(sound.into_iter().all(|n| kept.contains(&n)), "{step:?} costs a record before it");
    if matches!(step, Step::Flip { .. }) {
        prop_assert!(
            numbers.len() as u64 + found.gaps.iter().map(|(_, gap)| u64::from(gap.records)).sum::<u64>() <= records
        );
    }
    Ok(())
}

/// A flip in a word of the header that nothing uses.
fn is_padding(step: &Step) -> bool {
    matches!(step, Step::Flip { byte, .. } if (72..128).contains(byte) || (160..256).contains(byte))
}

fn check_killed(folder: &Folder, records: u64) -> Result<(), TestCaseError> {
    let found = read_all(&folder.0, 1_000);
    prop_assert!(found.is_whole(), "{:?} {:?} {:?}", found.gaps, found.tails, found.files);
    prop_assert_eq!(found.numbers(), (0..records).collect::<Vec<_>>());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn random_runs_lose_nothing_and_report_all_damage(steps in prop::collection::vec(step(), 1..14)) {
        let folder = Folder::new("random");
        let (writer, mut syncer) = by_hand(&folder.0);
        let segments = Segments::open(&folder.0, STORE);
        let (mut records, mut place, mut seen) = (0, Position { segment: 0, sequence: 0 }, 0);
        for step in &steps {
            match step {
                Step::Append(more) => {
                    let more = (*more).min(writer.status().room);
                    append(&writer, records..records + more);
                    records += more;
                }
                Step::Round => { syncer.work(Instant::now()); }
                Step::Kill => check_killed(&folder.copy("killed"), records)?,
                damage => check_damaged(&folder.copy("damaged"), records, damage)?,
            }
            // The live reader goes on from its own place.
            loop {
                let read = segments.read(name(place.segment), place.sequence, 700).unwrap();
                prop_assert!(read.gaps.is_empty() && read.tail == Tail::Clean);
                for record in &read.records {
                    prop_assert_eq!(record.payload, payload(seen));
                    seen += 1;
                }
                let moved = read.next > place.sequence;
                place.sequence = read.next;
                if read.is_finished {
                    place = Position { segment: place.segment + 1, sequence: 0 };
                } else if !moved {
                    break;
                }
            }
            prop_assert_eq!(seen, records - writer.status().unsynced);
        }
    }
}

#[test]
fn last_record_is_kept_or_reported_at_every_cut() {
    let folder = killed(100);
    let path = file(&folder.0, 0);
    let whole = fs::read(&path).unwrap();
    let end = RECORD * 101;
    for byte in end - RECORD..=end {
        fs::write(&path, &whole).unwrap();
        cut(&path, byte);
        let found = read_all(&folder.0, u32::MAX);
        let kept = if byte == end { 100 } else { 99 };
        assert_eq!(found.numbers(), (0..kept).collect::<Vec<_>>(), "cut at {byte}");
        assert_eq!(found.files, [name(0)]);
        let torn = (name(0), Tail::Torn { first: 99, places: 1, sound: 0 });
        assert_eq!(
            found.tails,
            if (end - RECORD + 1..end).contains(&byte) { vec![torn] } else { vec![] },
            "cut at {byte}"
        );
    }
}

#[test]
fn every_flipped_bit_of_the_last_4_kib_is_reported() {
    // 4,090 records of a killed process, whose end nobody has written down, and a full segment, whose successor knows its end.
    for (records, known) in [(4_090, false), (SEGMENT_RECORDS, true)] {
        let folder = killed(u64::from(records) + u64::from(known));
        let path = file(&folder.0, 0);
        let segments = Segments::open(&folder.0, STORE);
        let whole = segments.read(name(0), 0, u32::MAX).unwrap();
        assert_eq!((whole.records.len(), whole.tail), (records as usize, Tail::Clean));
        let first = records - 18;
        let end = RECORD * (u64::from(records) + 1);
        for (byte, bit) in (end - 4_096..end).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            flip(&path, byte, bit);
            let hit = u32::try_from(byte / RECORD - 1).unwrap();
            let read = segments.read(name(0), first, u32::MAX).unwrap();
            let sequences: Vec<u32> = read.records.iter().map(|record| record.sequence).collect();
            if known {
                assert_eq!(
                    sequences,
                    (first..records).filter(|&n| n != hit).collect::<Vec<_>>(),
                    "byte {byte}, bit {bit}"
                );
                assert_eq!(read.gaps, [Gap { first: hit, records: 1, empty: 0 }]);
            } else {
                assert_eq!(sequences, (first..hit).collect::<Vec<_>>(), "byte {byte}, bit {bit}");
                let (places, sound) = (records - hit, records - hit - 1);
                assert_eq!(read.tail, Tail::Torn { first: hit, places, sound });
            }
            flip(&path, byte, bit);
        }
    }
}

#[test]
fn sealed_end_of_a_segment_is_known_without_its_header() {
    let folder = killed(u64::from(SEGMENT_RECORDS) + 10);
    // `sealed` of segment 0: the next one knows where it ends.
    flip(&file(&folder.0, 0), 18 * 8, 1);
    flip(&file(&folder.0, 0), RECORD * 50, 1);
    let read = Segments::open(&folder.0, STORE).read(name(0), 0, u32::MAX).unwrap();
    assert!(read.header_is_damaged && read.is_finished);
    assert_eq!((read.records.len(), read.gaps[0].first), (4_094, 49));
}

#[test]
fn threads_append_each_record_once_and_without_holes() {
    const THREADS: u64 = 4;
    const EACH: u64 = 5_000;
    let folder = Folder::new("threads");
    let writer = LedgerWriter::open_on(Arc::new(PowerDisk::default()), &folder.0, STORE, SLOT, LIFE).unwrap();
    let refused = AtomicU64::new(0);
    let given: Vec<Vec<(Position, u64)>> = thread::scope(|scope| {
        let append = |thread: u64| {
            let (writer, refused) = (&writer, &refused);
            scope.spawn(move || {
                let mut given = Vec::new();
                for n in thread * EACH..(thread + 1) * EACH {
                    // A claim of two, of which one is given back: as calls that never reached an upstream.
                    while !writer.reserve(2) {
                        refused.fetch_add(1, Ordering::Relaxed);
                        thread::yield_now();
                    }
                    given.push((writer.append(RecordKind::Entry, &payload(n)).unwrap(), n));
                    writer.release(1);
                }
                given
            })
        };
        let threads: Vec<_> = (0..THREADS).map(append).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let status = writer.status();
    assert_eq!((status.appended, status.reserved), (THREADS * EACH, 0));
    writer.close().unwrap();
    let found = read_all(&folder.0, 1_000);
    assert!(found.is_whole());
    let mut given: Vec<_> = given.into_iter().flatten().collect();
    given.sort_unstable();
    let read: Vec<_> = found
        .records
        .iter()
        .map(|(name, record)| (Position { segment: name.number, sequence: record.sequence }, record.payload[0]))
        .collect();
    assert!(read == given, "positions and payloads are those that the threads were given");
    let dense = read.iter().enumerate().all(|(n, (position, _))| {
        let n = u32::try_from(n).unwrap();
        *position == Position { segment: n / SEGMENT_RECORDS, sequence: n % SEGMENT_RECORDS }
    });
    assert!(dense);
}

#[test]
fn claims_are_exact_under_threads() {
    let folder = Folder::new("claims");
    let (writer, mut syncer) = by_hand(&folder.0);
    let claimed: u64 = thread::scope(|scope| {
        let threads: Vec<_> = (0..4_u32)
            .map(|thread| {
                let writer = &writer;
                scope.spawn(move || {
                    (0..10_000)
                        .filter(|n| writer.reserve(1 + (n + thread) % 2))
                        .map(|n| u64::from(1 + (n + thread) % 2))
                        .sum::<u64>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((claimed, writer.status().reserved, writer.status().room), (8_190, 8_190, 8_190));
    assert!(!writer.reserve(1));
    thread::scope(|scope| {
        for part in 0..4 {
            let writer = &writer;
            scope.spawn(move || {
                for n in (0..8_190).filter(|n| n % 4 == part) {
                    writer.append(RecordKind::Entry, &payload(n)).unwrap();
                }
            });
        }
    });
    assert!(!writer.reserve(1));
    syncer.work(Instant::now());
    assert!(writer.reserve(1), "a new spare is new room");
}

#[tokio::test]
async fn strict_call_waits_for_the_disk() {
    let folder = Folder::new("strict");
    let (writer, mut syncer) = by_hand(&folder.0);
    append(&writer, 0..4_094);
    assert!(writer.reserve(2));
    let last = writer.append(RecordKind::Entry, &payload(4_094)).unwrap();
    let next = writer.append(RecordKind::Entry, &payload(4_095)).unwrap();
    assert_eq!(next, Position { segment: 1, sequence: 0 });
    assert!(!writer.is_synced(last));
    let waiting = {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move { writer.synced(last).await && writer.synced(next).await })
    };
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    syncer.work(Instant::now());
    assert!(waiting.await.unwrap());
    assert!(writer.is_synced(last) && writer.is_synced(next));
    syncer.finish().unwrap();
    assert!(writer.synced(next).await, "a record that is on disk stays so");
    assert!(!writer.synced(Position { segment: 1, sequence: 1 }).await, "a closed writer lets its waiters go");
    assert!(!writer.reserve(1));
    assert!(writer.append(RecordKind::Entry, &payload(0)).is_err());
}

#[tokio::test]
async fn thread_syncs_without_being_asked() {
    let folder = Folder::on_disk("real");
    let writer = LedgerWriter::open(&folder.0, STORE, SLOT, LIFE).unwrap();
    for n in 0..20 {
        assert!(writer.reserve(1));
        let position = writer.append(RecordKind::Entry, &payload(n)).unwrap();
        assert!(writer.synced(position).await);
    }
    let life = &Segments::open(&folder.0, STORE).lives().unwrap()[0];
    assert!(life.is_alive && !life.is_closed);
    assert!(life.segments.iter().all(|segment| segment.is_owned));
    assert_eq!(life.segments.iter().map(|segment| segment.is_spare).collect::<Vec<_>>(), [false, true]);
    writer.close().unwrap();
    writer.close().unwrap();
    let life = &Segments::open(&folder.0, STORE).lives().unwrap()[0];
    assert!(!life.is_alive && life.is_closed);
    assert_eq!(life.segments.len(), 1, "the spare goes with its worker");
    assert_eq!((life.segments[0].records, life.segments[0].synced), (Some(20), 20));
}

#[test]
fn only_segments_without_an_owner_are_removed() {
    let folder = Folder::new("removed");
    let (writer, mut syncer) = by_hand(&folder.0);
    append(&writer, 0..4_100);
    let segments = Segments::open(&folder.0, STORE);
    assert_eq!(segments.remove(name(0)).unwrap_err().kind(), ErrorKind::ResourceBusy, "full, and not on disk");
    syncer.work(Instant::now());
    segments.remove(name(0)).unwrap();
    segments.remove(name(0)).unwrap();
    for number in [1, 2] {
        assert_eq!(segments.remove(name(number)).unwrap_err().kind(), ErrorKind::ResourceBusy);
    }
    assert_eq!(segments.read(name(0), 0, 1).unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(folder.0.join("18a0000000000001-03-00000009.new"), b"left by a kill").unwrap();
    assert_eq!(segments.sweep().unwrap(), 1);
    assert_eq!(segments.lives().unwrap()[0].segments.len(), 2);
}

#[test]
fn files_of_others_are_errors_and_stay() {
    let folder = killed(5);
    let other = Segments::open(&folder.0, [1, 1]);
    let error = other.read(name(0), 0, 10).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
    assert!(error.to_string().contains("another store"), "{error}");
    assert!(other.lives().unwrap()[0].segments[0].error.as_ref().unwrap().contains("another store"));
    assert!(other.remove(name(0)).is_err());
    fs::rename(file(&folder.0, 0), file(&folder.0, 7)).unwrap();
    let error = Segments::open(&folder.0, STORE).read(name(7), 0, 10).unwrap_err();
    assert!(error.to_string().contains(&name(0).to_string()), "{error}");
    assert!(file(&folder.0, 7).exists());
    assert!(Segments::open(&folder.0.join("nowhere"), STORE).lives().unwrap().is_empty());
}

#[test]
fn lives_are_apart() {
    let folder = Folder::new("lives");
    let mut dice = Dice(3);
    let mut expected = Vec::new();
    for (life, slot) in [(LIFE, 0), (LIFE, 99), (LIFE + 1, 0)] {
        let (writer, mut syncer) = LedgerWriter::by_hand(Arc::new(PowerDisk::default()), &folder.0, STORE, slot, life);
        syncer.work(Instant::now());
        let records = 1 + dice.roll(9);
        append(&writer, 0..records);
        syncer.finish().unwrap();
        expected.push((life, slot, records));
    }
    let segments = Segments::open(&folder.0, STORE);
    let found: Vec<_> = segments
        .lives()
        .unwrap()
        .iter()
        .map(|life| {
            let name = SegmentName { life: life.life, slot: life.slot, number: 0 };
            (life.life, life.slot, segments.read(name, 0, 100).unwrap().records.len() as u64)
        })
        .collect();
    assert_eq!(found, expected);
}
