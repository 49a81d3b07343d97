//! Files of the ledger that are removed or moved while their writer holds them: every record is found in the end, under the name of its
//! segment, and while it could not be found no call is admitted.
#![allow(clippy::unwrap_used)]

mod ledger;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aigw_core::entry::record::RecordKind;
use aigw_io::ledger::{Files, LedgerState, LedgerWriter, Syncer};
use ledger::{Dice, Fault, Folder, LIFE, PowerDisk, SLOT, STORE, name, payload, read_all};

const PLACES: u64 = 4_095;
/// Rounds until the writer has looked at its files once more, at a retry's time each.
const LOOK: u32 = 5;

struct Run {
    folder: Folder,
    disk: Arc<PowerDisk>,
    writer: Arc<LedgerWriter>,
    syncer: Syncer,
    now: Instant,
    appended: u64,
}

impl Run {
    /// With ten records on disk.
    fn new(folder: &str) -> Self {
        let (folder, disk) = (Folder::new(folder), Arc::new(PowerDisk::default()));
        let files: Arc<dyn Files> = disk.clone();
        fs::create_dir(folder.0.join("data")).unwrap();
        let (writer, syncer) = LedgerWriter::by_hand(files, &folder.0.join("data/ledger"), STORE, SLOT, LIFE);
        let mut run = Self { folder, disk, writer, syncer, now: Instant::now(), appended: 0 };
        run.rounds(1);
        run.append(10);
        run.rounds(1);
        assert_eq!(run.writer.status().unsynced, 0);
        run
    }

    fn data(&self) -> PathBuf {
        self.folder.0.join("data")
    }

    fn dir(&self) -> PathBuf {
        self.data().join("ledger")
    }

    fn away(&self) -> PathBuf {
        self.folder.0.join("away")
    }

    fn segment(&self, number: u32) -> PathBuf {
        self.dir().join(name(number).to_string())
    }

    fn rounds(&mut self, rounds: u32) {
        for _ in 0..rounds {
            self.syncer.work(self.now);
            self.now += Duration::from_millis(250);
        }
    }

    /// Appends as calls do that were admitted before.
    fn append(&mut self, records: u64) {
        for _ in 0..records {
            self.writer.append(RecordKind::Entry, &payload(self.appended)).unwrap();
            self.appended += 1;
        }
    }

    fn state(&self) -> LedgerState {
        self.writer.status().state()
    }

    fn is_refused(&self) -> bool {
        let refused = !self.writer.reserve(1);
        if !refused {
            self.writer.release(1);
        }
        refused
    }

    /// The folder has every record, also after a kill.
    fn is_whole(&self, case: &str) {
        let killed = ledger::copy(&self.dir(), "killed");
        let found = read_all(&killed.0, u32::MAX);
        assert!(found.numbers() == (0..self.appended).collect::<Vec<_>>(), "{case}: {}", found.records.len());
        assert!(found.is_whole(), "{case}: {found:?}");
    }

    fn ends(mut self, case: &str) {
        assert!(!self.is_refused(), "{case}");
        assert_eq!((self.state(), self.writer.status().lost), (LedgerState::Well, 0), "{case}");
        self.append(5);
        self.rounds(1);
        self.is_whole(case);
        self.append(1);
        self.syncer.finish().unwrap();
        self.is_whole(case);
    }
}

#[test]
fn removed_file_is_written_anew_and_no_call_is_refused() {
    for number in [0, 1] {
        let mut run = Run::new("removed");
        fs::remove_file(run.segment(number)).unwrap();
        run.append(3);
        for _ in 0..LOOK {
            run.rounds(1);
            assert!(!run.is_refused());
        }
        let status = run.writer.status();
        assert_eq!((status.failures, status.unsynced), (1, 0));
        assert!(status.last_failure.unwrap().contains("was removed or moved"));
        let seen = read_all(&run.dir(), 100);
        assert_eq!(seen.numbers(), (0..13).collect::<Vec<_>>(), "a live reader has them, too");
        run.is_whole("removed");
        // Past the end of the first segment: the spare is in its place, too.
        run.append(PLACES);
        run.rounds(LOOK);
        run.ends("removed");
    }
}

#[test]
fn files_that_change_their_names_stay_where_they_are_and_have_copies() {
    let mut run = Run::new("moved");
    fs::create_dir(run.away()).unwrap();
    for number in [0, 1] {
        fs::rename(run.segment(number), run.away().join(name(number).to_string())).unwrap();
    }
    run.append(3);
    run.rounds(LOOK);
    run.ends("moved");
}

#[test]
fn full_segment_that_is_removed_is_kept_until_its_copy_is_on_disk() {
    let mut run = Run::new("left");
    run.append(PLACES - 20);
    run.rounds(1);
    fs::remove_file(run.segment(0)).unwrap();
    // Nobody looks at it before it is left: with its last sync the writer would let go of it.
    run.append(30);
    run.rounds(2);
    run.is_whole("left");
    run.ends("left");
}

#[test]
fn spare_that_is_removed_and_taken_at_once_has_its_records() {
    let mut run = Run::new("spare");
    fs::remove_file(run.segment(1)).unwrap();
    run.append(PLACES + 40);
    run.rounds(LOOK);
    run.ends("spare");
}

#[test]
fn without_its_folder_no_call_is_admitted_until_there_is_one() {
    let mut run = Run::new("folder");
    fs::remove_dir_all(run.dir()).unwrap();
    run.append(3);
    run.rounds(LOOK);
    assert!(run.is_refused());
    assert!(!run.dir().exists(), "a folder that is put back finds its place free");
    let status = run.writer.status();
    assert_eq!(status.state(), LedgerState::Displaced);
    assert!(
        status.place_error.unwrap().contains("this folder is gone: put it back; where it is lost, make it anew (mkdir")
    );
    assert!(status.unsynced > 0, "records of a removed file are on no disk");
    run.append(3);
    fs::create_dir(run.dir()).unwrap();
    run.rounds(2);
    run.is_whole("folder");
    run.ends("folder");
}

#[test]
fn folder_that_is_moved_and_comes_back_has_every_record() {
    for moved in [Run::dir, Run::data] {
        let mut run = Run::new("back");
        fs::rename(moved(&run), run.away()).unwrap();
        run.append(3);
        run.rounds(LOOK);
        assert!(run.is_refused());
        assert_eq!(run.writer.status().unsynced, 0, "a moved file is on its disk");
        run.append(3);
        run.rounds(1);
        assert!(!moved(&run).exists());
        fs::rename(run.away(), moved(&run)).unwrap();
        run.rounds(2);
        assert_eq!(run.writer.status().failures, 0);
        run.ends("back");
    }
}

#[test]
fn nothing_is_written_to_another_data_folder() {
    let mut run = Run::new("other");
    fs::rename(run.data(), run.away()).unwrap();
    fs::create_dir_all(run.dir()).unwrap();
    run.append(3);
    run.rounds(LOOK);
    assert!(run.is_refused());
    assert_eq!(fs::read_dir(run.dir()).unwrap().count(), 0);
    assert!(run.writer.status().place_error.unwrap().contains("another folder took the place of the data folder"));
    fs::remove_dir_all(run.data()).unwrap();
    fs::rename(run.away(), run.data()).unwrap();
    run.rounds(2);
    run.ends("other");
}

#[test]
fn end_of_a_writer_whose_folder_was_removed_makes_it_once_more() {
    for rounds in [0, LOOK] {
        let mut run = Run::new("end");
        run.append(3);
        fs::remove_dir_all(run.dir()).unwrap();
        run.append(2);
        run.rounds(rounds);
        run.syncer.finish().unwrap();
        run.is_whole("end");
    }
    let mut run = Run::new("end-moved");
    fs::rename(run.dir(), run.away()).unwrap();
    run.append(2);
    run.syncer.finish().unwrap();
    assert!(!run.dir().exists(), "the moved folder has them all");
    fs::rename(run.away(), run.dir()).unwrap();
    run.is_whole("end-moved");
}

/// Each call of the rounds that mend a removal may fail.
#[test]
fn mending_goes_on_after_any_fault() {
    let mut dice = Dice(3);
    for fault in [Fault::Error(5), Fault::PanicBefore, Fault::PanicAfter] {
        for call in 0..24 {
            let case = format!("{fault:?} at call {call}");
            let mut run = Run::new("faults");
            run.append(dice.roll(5));
            let removed = dice.roll(3);
            for number in [0, 1] {
                if removed != u64::from(number) {
                    fs::remove_file(run.segment(number)).unwrap();
                }
            }
            run.disk.fail([(run.disk.calls() + call, fault)]);
            for _ in 0..4 * LOOK {
                let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run.syncer.work(run.now)));
                assert!(worked.is_ok() || !matches!(fault, Fault::Error(_)), "{case}");
                run.now += Duration::from_millis(250);
                if !run.is_refused() {
                    run.append(dice.roll(3));
                }
            }
            run.disk.heal();
            run.rounds(LOOK);
            run.is_whole(&case);
            run.ends(&case);
        }
    }
}
