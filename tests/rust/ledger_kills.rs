//! Processes that append to the ledger and are killed with -9 at any instant: every record that they had appended is read, once, and in
//! its place. Writer processes are this test binary, run again as `a_writer_process`.
#![allow(clippy::unwrap_used)]

mod ledger;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Lines};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use aigw_core::entry::record::RecordKind;
use aigw_core::entry::recover::Tail;
use aigw_io::ledger::{LedgerWriter, SegmentName, Segments};
use ledger::{Folder, STORE, payload};

const KILLS: u64 = 30;
const THREADS: u64 = 2;

/// The program of the processes, not a test by itself: threads append records with numbers of their own, and note each number
/// in a file after its append.
#[test]
fn a_writer_process() {
    let Ok(dir) = std::env::var("AIGW_TEST_LEDGER") else { return };
    let life: u64 = std::env::var("AIGW_TEST_LIFE").unwrap().parse().unwrap();
    let books = std::env::var("AIGW_TEST_BOOKS").unwrap();
    let writer = LedgerWriter::open(Path::new(&dir), STORE, 0, life).unwrap();
    let next = AtomicU64::new(0);
    thread::scope(|scope| {
        for row in 0..THREADS {
            let (writer, next) = (&writer, &next);
            let books =
                OpenOptions::new().write(true).create(true).truncate(false).open(format!("{books}-{row}")).unwrap();
            scope.spawn(move || {
                for count in 0_u64.. {
                    while !writer.reserve(1) {
                        thread::yield_now();
                    }
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let position = writer.append(RecordKind::Entry, &payload(n)).unwrap();
                    let noted = [n, position.segment.into(), position.sequence.into()].map(u64::to_le_bytes).concat();
                    books.write_all_at(&noted, count * 24).unwrap();
                    if count % 700 == 100 {
                        println!("\nworking");
                    }
                }
            });
        }
    });
}

struct Process {
    child: Child,
    said: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(dir: &Path, books: &Path, life: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_writer_process", "--nocapture", "--test-threads=1"])
            .env("AIGW_TEST_LEDGER", dir)
            .env("AIGW_TEST_BOOKS", books)
            .env("AIGW_TEST_LIFE", life.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, said }
    }

    /// Waits until a thread has appended 700 records more.
    fn work(&mut self) {
        assert!(self.said.by_ref().map_while(Result::ok).any(|said| said == "working"));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// (number, segment, sequence) of each record whose append had returned.
fn noted(books: &Path) -> Vec<[u64; 3]> {
    let rows = (0..THREADS).map(|row| std::fs::read(format!("{}-{row}", books.display())).unwrap());
    let words = |bytes: &[u8]| std::array::from_fn(|n| u64::from_le_bytes(bytes[n * 8..n * 8 + 8].try_into().unwrap()));
    rows.flat_map(|row| row.chunks_exact(24).map(words).collect::<Vec<_>>()).collect()
}

#[test]
fn killed_processes_lose_no_record() {
    let folder = Folder::on_disk("kills");
    let dir = folder.0.join("ledger");
    let segments = Segments::open(&dir, STORE);
    let mut total = 0;
    for life in 1..=KILLS {
        let books = folder.0.join("books");
        let mut process = Process::start(&dir, &books, life);
        // Both threads have appended; later kills come in the second and third segment.
        for _ in 0..2 + life % 11 {
            process.work();
            let live = &segments.lives().unwrap()[0];
            assert!(live.is_alive && !live.is_closed, "its files are locked");
            let name = SegmentName { life, slot: 0, number: 0 };
            let read = segments.read(name, 0, 1_000).unwrap();
            assert!(read.gaps.is_empty() && read.tail == Tail::Clean, "{read:?}");
        }
        drop(process);

        let found = &segments.lives().unwrap()[0];
        assert!(!found.is_alive && !found.is_closed);
        let mut read = Vec::new();
        for segment in &found.segments {
            let name = SegmentName { life, slot: 0, number: segment.number };
            let one = segments.read(name, 0, u32::MAX).unwrap();
            assert!(one.is_finished && one.gaps.is_empty() && !one.header_is_damaged);
            assert!(matches!(one.tail, Tail::Clean | Tail::Unfinished), "{:?}", one.tail);
            for record in one.records {
                assert_eq!(record.payload, payload(record.payload[0]));
                read.push([record.payload[0], segment.number.into(), record.sequence.into()]);
            }
            segments.remove(name).unwrap();
        }
        let mut noted = noted(&books);
        let lost = noted.iter().filter(|one| !read.contains_place(one)).count();
        assert_eq!(lost, 0, "of {} records", noted.len());
        noted.sort_unstable();
        let extra = read.len() - noted.len();
        assert!(extra <= usize::try_from(THREADS).unwrap(), "{extra} records whose append had not returned");
        total += read.len();
        for row in 0..THREADS {
            std::fs::remove_file(format!("{}-{row}", books.display())).unwrap();
        }
        segments.sweep().unwrap();
        assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0, "a life leaves nothing");
    }
    println!("{total} records of {KILLS} processes");
}

trait Places {
    /// Whether a record is in its place; the list is in the order of places, each of which it has.
    fn contains_place(&self, one: &[u64; 3]) -> bool;
}

impl Places for Vec<[u64; 3]> {
    fn contains_place(&self, one: &[u64; 3]) -> bool {
        let index = usize::try_from(one[1] * 4_095 + one[2]).unwrap();
        self.get(index) == Some(one)
    }
}
