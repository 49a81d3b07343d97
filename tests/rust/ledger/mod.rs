//! Folders, payloads and a disk for the tests of the ledger's segments.
#![allow(dead_code, clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{Error, Result};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, OnceLock, PoisonError};

use aigw_core::entry::record::{PAYLOAD_WORDS, Payload, Record};
use aigw_core::entry::recover::{Gap, Tail};
use aigw_io::ledger::{Files, SegmentName, Segments};

pub const STORE: [u64; 2] = [11, 22];
pub const LIFE: u64 = 0x18a0_0000_0000_0001;
pub const SLOT: u8 = 3;

/// A folder that goes with the test.
pub struct Folder(pub PathBuf);

impl Folder {
    /// In memory where there is such a file system: the disk's own pace is no part of most tests.
    pub fn new(name: &str) -> Self {
        let memory = Path::new("/dev/shm");
        if memory.is_dir() { Self::below(memory, name) } else { Self::on_disk(name) }
    }

    pub fn on_disk(name: &str) -> Self {
        Self::below(Path::new(env!("CARGO_TARGET_TMPDIR")), name)
    }

    fn below(above: &Path, name: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = above.join(format!("aigw-ledger-{}-{n}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub fn copy(&self, name: &str) -> Self {
        copy(&self.0, name)
    }
}

/// A copy of a folder as it stands: the files of a process that was killed now.
pub fn copy(dir: &Path, name: &str) -> Folder {
    let copy = Folder::new(name);
    for entry in fs::read_dir(dir).unwrap() {
        let from = entry.unwrap().path();
        fs::copy(&from, copy.0.join(from.file_name().unwrap())).unwrap();
    }
    copy
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Small steps of a pseudo-random walk (xorshift).
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

/// The payload of the n-th record: no word of it is 0.
pub fn payload(n: u64) -> Payload {
    let mut words = [n.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1; PAYLOAD_WORDS];
    words[0] = n;
    words
}

pub fn name(number: u32) -> SegmentName {
    SegmentName { life: LIFE, slot: SLOT, number }
}

/// All that can be read of a folder.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order of their ids.
    pub records: Vec<(SegmentName, Record)>,
    pub gaps: Vec<(SegmentName, Gap)>,
    pub tails: Vec<(SegmentName, Tail)>,
    /// Damaged headers and short files.
    pub files: Vec<SegmentName>,
    pub unfinished: Vec<SegmentName>,
}

impl Found {
    pub fn is_whole(&self) -> bool {
        self.gaps.is_empty() && self.tails.is_empty() && self.files.is_empty()
    }

    /// The numbers that the payloads carry.
    pub fn numbers(&self) -> Vec<u64> {
        for (name, record) in &self.records {
            assert_eq!(record.payload, payload(record.payload[0]), "{name} has a wrong record");
        }
        self.records.iter().map(|(_, record)| record.payload[0]).collect()
    }
}

/// Reads a folder in pages of `most` places.
pub fn read_all(dir: &Path, most: u32) -> Found {
    let segments = Segments::open(dir, STORE);
    let mut found = Found::default();
    for life in segments.lives().unwrap() {
        for report in life.segments {
            let name = SegmentName { life: life.life, slot: life.slot, number: report.number };
            let mut next = 0;
            loop {
                let read = segments.read(name, next, most).unwrap();
                found.records.extend(read.records.iter().map(|&record| (name, record)));
                found.gaps.extend(read.gaps.iter().map(|&gap| (name, gap)));
                if read.is_finished && read.tail != Tail::Clean {
                    found.tails.push((name, read.tail));
                }
                if next == 0 && (read.header_is_damaged || read.missing_bytes > 0) {
                    found.files.push(name);
                }
                if read.is_finished {
                    break;
                }
                if read.next == next {
                    found.unfinished.push(name);
                    break;
                }
                next = read.next;
            }
        }
    }
    found
}

/// The fault of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error of the system, before the call does anything.
    Error(i32),
    /// The thread panics before the call.
    PanicBefore,
    /// The thread panics after the call.
    PanicAfter,
}

/// Leaves the panics that tests ask for out of their output.
pub fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let text = panic.payload().downcast_ref::<String>();
            if !text.is_some_and(|text| text.starts_with("a test asks for")) {
                hook(panic);
            }
        }));
    });
}

/// A disk that keeps only synced bytes when the power goes, and fails calls by their numbers.
#[derive(Default)]
pub struct PowerDisk {
    books: Mutex<Books>,
    /// Runs before and after each call.
    between: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

#[derive(Default)]
struct Books {
    calls: u64,
    faults: HashMap<u64, Fault>,
    is_full: bool,
    /// Bytes of each file as of its last sync, by inode.
    synced: HashMap<u64, Vec<u8>>,
    names: BTreeMap<PathBuf, u64>,
    /// Files whose sync failed.
    failed: HashSet<u64>,
    /// Every file that was made, so that inodes are not used again.
    files: HashMap<u64, File>,
}

impl PowerDisk {
    pub fn failing(faults: impl IntoIterator<Item = (u64, Fault)>) -> Self {
        let disk = Self::default();
        disk.fail(faults);
        disk
    }

    /// Fails calls by their numbers.
    pub fn fail(&self, faults: impl IntoIterator<Item = (u64, Fault)>) {
        hush();
        self.books().faults.extend(faults);
    }

    /// Fails no call from now on.
    pub fn heal(&self) {
        self.books().faults.clear();
    }

    /// Some of the tests' panics come while it is locked.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn calls(&self) -> u64 {
        self.books().calls
    }

    pub fn fill(&self, is_full: bool) {
        self.books().is_full = is_full;
    }

    /// Runs this before and after each call, with no lock of the disk held.
    pub fn between(&self, work: impl Fn() + Send + Sync + 'static) {
        assert!(self.between.set(Box::new(work)).is_ok());
    }

    /// Fails the next calls like this.
    pub fn fail_next(&self, calls: u64, fault: Fault) {
        hush();
        let mut books = self.books();
        let from = books.calls;
        books.faults.extend((from..from + calls).map(|call| (call, fault)));
    }

    /// The folder after a loss of power: names as of their last sync or as they are, and each sector of a file as of its last sync or
    /// as it is.
    pub fn lose_power(&self, dir: &Path, dice: &mut Dice, name: &str) -> Folder {
        let books = self.books();
        let after = Folder::new(name);
        let names = if dice.roll(2) == 0 { books.names.clone() } else { names_in(dir) };
        for (path, inode) in names {
            let Some(file) = books.files.get(&inode) else { continue };
            let mut now = vec![0; usize::try_from(file.metadata().unwrap().len()).unwrap()];
            file.read_exact_at(&mut now, 0).unwrap();
            let synced = books.synced.get(&inode);
            // Mostly the disk has few sectors newer than the last sync.
            let sides = 1 + dice.roll(20);
            for (n, sector) in now.chunks_mut(512).enumerate() {
                let was = synced.map_or(&[0; 512][..sector.len()], |synced| &synced[n * 512..n * 512 + sector.len()]);
                if sector != was && dice.roll(sides) > 0 {
                    sector.copy_from_slice(was);
                }
            }
            fs::write(after.0.join(path.file_name().unwrap()), now).unwrap();
        }
        after
    }

    fn call<R>(&self, work: impl FnOnce(&mut Books) -> Result<R>) -> Result<R> {
        let between = || self.between.get().into_iter().for_each(|between| between());
        between();
        let result = self.locked_call(work);
        between();
        result
    }

    fn locked_call<R>(&self, work: impl FnOnce(&mut Books) -> Result<R>) -> Result<R> {
        let mut books = self.books();
        let call = books.calls;
        books.calls += 1;
        let fault = books.faults.get(&call).copied();
        match fault {
            Some(Fault::Error(errno)) => return Err(Error::from_raw_os_error(errno)),
            Some(Fault::PanicBefore) => panic!("a test asks for a panic before call {call}"),
            _ => {}
        }
        let result = work(&mut books);
        assert!(fault != Some(Fault::PanicAfter), "a test asks for a panic after call {call}");
        result
    }
}

fn names_in(dir: &Path) -> BTreeMap<PathBuf, u64> {
    let names = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap());
    names.map(|entry| (entry.path(), entry.metadata().unwrap().ino())).collect()
}

fn inode(file: &File) -> u64 {
    file.metadata().unwrap().ino()
}

impl Files for PowerDisk {
    fn create(&self, path: &Path) -> Result<File> {
        self.call(|books| {
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
            books.files.insert(inode(&file), OpenOptions::new().read(true).open(path)?);
            Ok(file)
        })
    }

    fn allocate(&self, file: &File, bytes: u64) -> Result<()> {
        self.call(|books| if books.is_full { Err(Error::from_raw_os_error(28)) } else { file.set_len(bytes) })
    }

    fn fdatasync(&self, file: &File) -> Result<()> {
        let was = self.books().failed.contains(&inode(file));
        assert!(!was, "a file is synced again after its sync failed");
        let result = self.call(|books| {
            let mut bytes = vec![0; usize::try_from(file.metadata()?.len()).unwrap()];
            file.read_exact_at(&mut bytes, 0)?;
            books.synced.insert(inode(file), bytes);
            Ok(())
        });
        if result.is_err() {
            self.books().failed.insert(inode(file));
        }
        result
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.call(|books| {
            books.names.retain(|path, _| path.parent() != Some(dir));
            books.names.extend(names_in(dir));
            Ok(())
        })
    }

    fn metadata(&self, path: &Path) -> Result<fs::Metadata> {
        self.call(|_| fs::metadata(path))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(|_| fs::rename(from, to))
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        self.call(|_| fs::remove_file(path))
    }
}
