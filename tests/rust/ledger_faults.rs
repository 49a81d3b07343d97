//! The ledger's segments on a disk that fails: each call of a scripted run fails once, the disk is full, the power goes at any
//! instant, the thread panics. No record is lost that was appended, none is read twice, and a record that counts as synced survives
//! the loss of power.
#![allow(clippy::unwrap_used)]

mod ledger;

use std::io::ErrorKind;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aigw_core::entry::record::RecordKind;
use aigw_io::ledger::{Files, LedgerWriter, Position, Segments, Syncer};
use ledger::{Dice, Fault, Folder, LIFE, PowerDisk, SLOT, STORE, name, payload, read_all};

const EIO: i32 = 5;
const RETRY: Duration = Duration::from_millis(250);

/// A writer whose rounds the test chooses, and a clock that moves by a retry's time each round.
struct Run {
    folder: Folder,
    disk: Arc<PowerDisk>,
    writer: Arc<LedgerWriter>,
    syncer: Syncer,
    now: Instant,
    panics: u32,
    /// Positions of the records, in order.
    appended: Vec<Position>,
}

impl Run {
    fn new(folder: &str, disk: PowerDisk) -> Self {
        let (folder, disk) = (Folder::new(folder), Arc::new(disk));
        let files: Arc<dyn Files> = disk.clone();
        let (writer, syncer) = LedgerWriter::by_hand(files, &folder.0.join("l"), STORE, SLOT, LIFE);
        Self { folder, disk, writer, syncer, now: Instant::now(), panics: 0, appended: Vec::new() }
    }

    fn dir(&self) -> std::path::PathBuf {
        self.folder.0.join("l")
    }

    fn round(&mut self) {
        let worked = catch_unwind(AssertUnwindSafe(|| self.syncer.work(self.now)));
        self.panics += u32::from(worked.is_err());
        self.now += RETRY;
    }

    /// Appends records, each as soon as there is room for it, and rounds until then.
    fn append(&mut self, records: u64) {
        for _ in 0..records {
            let mut rounds = 0;
            while !self.writer.reserve(1) {
                self.round();
                rounds += 1;
                assert!(rounds < 20, "there is no room: {:?}", self.writer.status());
            }
            let n = self.appended.len() as u64;
            self.appended.push(self.writer.append(RecordKind::Entry, &payload(n)).unwrap());
        }
    }

    fn settle(&mut self) {
        for _ in 0..20 {
            if self.writer.status().unsynced == 0 && self.writer.status().segments == 2 {
                return;
            }
            self.round();
        }
        let status = self.writer.status();
        assert!(status.unsynced == 0, "records stay unsynced: {status:?}");
    }

    fn synced(&self) -> usize {
        synced(&self.writer, &self.appended)
    }

    fn check(&self, case: &str, dice: &mut Dice) {
        check(case, &self.writer, &self.disk, &self.dir(), &self.appended, dice);
    }

    fn end(mut self, case: &str) {
        self.settle();
        assert_eq!(self.synced(), self.appended.len(), "{case}");
        assert_eq!(self.writer.status().lost, 0, "{case}");
        self.disk.heal();
        self.syncer.finish().unwrap();
        let found = read_all(&self.dir(), 777);
        assert!(found.numbers() == (0..self.appended.len() as u64).collect::<Vec<_>>(), "{case}");
        assert!(found.is_whole() && found.unfinished.is_empty(), "{case}: {found:?}");
        let ids: Vec<Position> = found
            .records
            .iter()
            .map(|(name, record)| Position { segment: name.number, sequence: record.sequence })
            .collect();
        assert!(ids == self.appended, "{case}: a record's id is not the one that its writer was given");
        let life = &Segments::open(&self.dir(), STORE).lives().unwrap()[0];
        assert!(life.is_closed && !life.is_alive, "{case}");
    }
}

/// Records that are said to be on disk: a first part of all.
fn synced(writer: &LedgerWriter, appended: &[Position]) -> usize {
    let synced = appended.iter().take_while(|&&position| writer.is_synced(position)).count();
    assert!(appended[synced..].iter().all(|&position| !writer.is_synced(position)));
    synced
}

/// The process is killed now, and the power goes now: neither loses nor doubles a record that it must not.
fn check(case: &str, writer: &LedgerWriter, disk: &PowerDisk, dir: &Path, appended: &[Position], dice: &mut Dice) {
    let all: Vec<u64> = (0..appended.len() as u64).collect();
    if !dir.exists() {
        assert!(all.is_empty());
        return;
    }
    let synced = synced(writer, appended);
    let live = read_all(dir, 1_000).numbers();
    assert!(all.starts_with(&live), "{case}: a live reader has {}", live.len());
    let killed = ledger::copy(dir, "killed");
    let found = read_all(&killed.0, u32::MAX);
    assert!(found.numbers() == all, "{case}: a kill keeps {} of {}", found.records.len(), all.len());
    assert!(found.is_whole(), "{case}: {:?}", found.gaps);
    let after = disk.lose_power(dir, dice, "power");
    let kept = read_all(&after.0, 1_000).numbers();
    assert!(kept.is_sorted_by(|one, next| one < next), "{case}: a record is read twice");
    assert!(
        kept.starts_with(&all[..synced.max(live.len())]),
        "{case}: the power took records that were synced or read"
    );
    assert!(kept.len() <= all.len());
}

/// A run over the end of a segment, whose faults strike in a current segment, in one that was left, and in spares.
fn script(case: &str, disk: PowerDisk) -> Run {
    let mut run = Run::new("script", disk);
    let mut dice = Dice(7);
    for step in [5, 1, 4_060, 40, 3] {
        run.append(step);
        run.round();
        run.append(1);
        run.check(case, &mut dice);
    }
    run
}

#[test]
fn every_call_of_a_run_may_fail_once() {
    let run = script("clean", PowerDisk::default());
    let calls = run.disk.calls();
    run.end("clean");
    assert!(calls > 20, "{calls} calls");
    for fault in [Fault::Error(EIO), Fault::PanicBefore, Fault::PanicAfter] {
        for call in 0..calls {
            let case = format!("{fault:?} at call {call}");
            let run = script(&case, PowerDisk::failing([(call, fault)]));
            assert_eq!(run.panics > 0, !matches!(fault, Fault::Error(_)), "{case}");
            run.end(&case);
        }
    }
}

#[test]
fn faults_may_come_in_rows() {
    let mut dice = Dice(0x5eed);
    for case in 0..30 {
        let faults: Vec<_> = (0..6)
            .flat_map(|_| {
                let (first, length) = (dice.roll(60), 1 + dice.roll(5));
                let fault =
                    [Fault::Error(EIO), Fault::PanicBefore, Fault::PanicAfter][usize::try_from(dice.roll(3)).unwrap()];
                (first..first + length).map(move |call| (call, fault))
            })
            .collect();
        let case = format!("case {case}: {faults:?}");
        script(&case, PowerDisk::failing(faults)).end(&case);
    }
}

/// Before and after each call of the rounds a record is appended, and then the process is killed and the power goes, in copies.
fn storm(case: &str, faults: Vec<(u64, Fault)>, records: u64) -> u64 {
    let mut run = Run::new("storm", PowerDisk::default());
    run.round();
    run.append(records);
    let base = run.disk.calls();
    let appended = Arc::new(Mutex::new(std::mem::take(&mut run.appended)));
    let (writer, disk, dir) = (Arc::downgrade(&run.writer), Arc::downgrade(&run.disk), run.dir());
    let on = Arc::new(AtomicBool::new(true));
    let going = Arc::clone(&on);
    let (books, text, dice) = (Arc::clone(&appended), case.to_owned(), Mutex::new(Dice(records + 1)));
    run.disk.between(move || {
        let (true, Some(writer), Some(disk)) = (going.load(Ordering::Relaxed), writer.upgrade(), disk.upgrade()) else {
            return;
        };
        let mut books = books.lock().unwrap();
        if writer.reserve(1) {
            let n = books.len() as u64;
            books.push(writer.append(RecordKind::Entry, &payload(n)).unwrap());
        }
        check(&text, &writer, &disk, &dir, &books, &mut dice.lock().unwrap());
    });
    run.disk.fail(faults.into_iter().map(|(call, fault)| (base + call, fault)));
    for _ in 0..3 {
        run.round();
    }
    let calls = run.disk.calls() - base;
    on.store(false, Ordering::Relaxed);
    run.appended = std::mem::take(&mut *appended.lock().unwrap());
    run.end(case);
    calls
}

#[test]
fn process_may_end_between_any_two_calls() {
    // The first call of a round after appends is the sync of the current segment, or of the full one that was left.
    for records in [10, 4_096] {
        let failed = vec![(0, Fault::Error(EIO))];
        let calls = storm("one failed sync", failed.clone(), records);
        assert!(calls > 6, "{calls} calls");
        let most = if records == 10 { calls.min(16) } else { 7 };
        for call in 1..most {
            for fault in [Fault::Error(EIO), Fault::PanicAfter] {
                let case = format!("a failed sync after {records} records, and {fault:?} at call {call}");
                storm(&case, [failed.clone(), vec![(call, fault)]].concat(), records);
            }
        }
    }
}

#[test]
fn positions_stay_through_a_failed_sync() {
    let mut run = Run::new("positions", PowerDisk::default());
    run.round();
    run.append(3);
    run.disk.fail_next(1, Fault::Error(EIO));
    run.round();
    let status = run.writer.status();
    assert_eq!((status.failures, status.unsynced, status.sync_error), (1, 0, None));
    assert!(status.last_failure.unwrap().contains("00000000.segment"));
    assert_eq!(run.synced(), 3);
    run.append(2);
    run.end("positions");
}

#[test]
fn full_disk_refuses_claims_and_ends_with_it() {
    let mut run = Run::new("full", PowerDisk::default());
    run.disk.fill(true);
    run.round();
    assert!(!run.writer.reserve(1), "a start on a full disk admits nothing");
    let status = run.writer.status();
    assert!(status.room_error.unwrap().contains("No space left"));
    assert!(!run.dir().join(name(0).to_string()).exists());
    assert_eq!(std::fs::read_dir(run.dir()).unwrap().count(), 0, "no half-made file takes the last blocks");

    run.disk.fill(false);
    run.round();
    assert_eq!((run.writer.status().room, run.writer.status().room_error), (2 * 4_095, None));
    run.disk.fill(true);
    run.append(4_095 + 4_000);
    assert!(run.writer.reserve(95), "each place that is left can be claimed");
    assert!(!run.writer.reserve(1), "and none twice");
    run.round();
    assert!(!run.writer.reserve(1));
    for n in 8_095..8_190 {
        run.appended.push(run.writer.append(RecordKind::Entry, &payload(n)).unwrap());
    }
    assert!(run.writer.append(RecordKind::Entry, &payload(0)).is_err(), "an append without a claim finds no place");
    run.round();
    assert!(run.writer.status().room_error.is_some());
    assert_eq!(run.synced(), 8_190, "a full disk still syncs");
    run.disk.fill(false);
    run.round();
    assert!(run.writer.reserve(1));
    run.writer.release(1);
    run.append(10);
    run.end("full");
}

#[test]
fn thread_survives_panics_and_a_real_writer_recovers_by_itself() {
    let folder = Folder::new("thread");
    let disk = Arc::new(PowerDisk::failing((0..3).map(|call| (call, Fault::PanicBefore))));
    let writer = LedgerWriter::open_on(disk.clone(), &folder.0, STORE, SLOT, LIFE).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    while !writer.reserve(1) {
        std::thread::yield_now();
    }
    assert!(writer.status().panics >= 1);
    let first = writer.append(RecordKind::Entry, &payload(0)).unwrap();
    assert!(runtime.block_on(writer.synced(first)));
    disk.fail_next(1, Fault::PanicBefore);
    assert!(writer.reserve(1));
    let second = writer.append(RecordKind::Denials, &payload(1)).unwrap();
    assert!(runtime.block_on(writer.synced(second)));
    writer.close().unwrap();
    assert_eq!(read_all(&folder.0, 1).numbers(), [0, 1]);
}

#[test]
fn close_says_that_records_are_not_on_disk() {
    let mut run = Run::new("unclosed", PowerDisk::default());
    run.round();
    run.append(5);
    run.disk.fail_next(100, Fault::Error(EIO));
    let error = run.syncer.finish().unwrap_err();
    assert!(error.to_string().contains("unclosed"), "the error names no file: {error}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    assert!(!runtime.block_on(run.writer.synced(run.appended[0])), "waiters are told, and do not hang");
    let killed = ledger::copy(&run.dir(), "killed");
    assert_eq!(read_all(&killed.0, 100).numbers(), [0, 1, 2, 3, 4]);
}

#[test]
fn folder_that_cannot_be_made_is_an_error() {
    let folder = Folder::new("file");
    std::fs::write(folder.0.join("ledger"), b"no folder").unwrap();
    let error = LedgerWriter::open(&folder.0.join("ledger"), STORE, SLOT, LIFE).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::NotADirectory), "{error}");
}
