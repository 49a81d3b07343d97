//! The hash area's file, and the lock that guards its changes.
//!
//! The lock is the kernel's on the file (dropped when its holder dies, however it dies), with a mutex in front for the
//! threads of this process. Waiting is bounded: a request that cannot have the lock in time is refused.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use aigw_core::cells::shared::{CellFile, HEADER_WORDS};
use aigw_core::cells::tag::TagKey;
use aigw_core::cells::{Busy, Exclusive, OpenArea, Words, open};

use super::files;
use crate::map::{WordMap, allocate};
use crate::store::StoreId;

/// The hash area as workers and control have it.
pub(super) type Open = OpenArea<WordMap, FileLock>;

/// 8 MiB of entries: half a million identifiers with a live window.
const BUCKETS: usize = 1 << 16;
const WORDS: usize = open::area_words(BUCKETS);

/// Tries without and with a pause: about 20 ms together; the work under the lock takes less than one.
const EAGER_TRIES: usize = 64;
const PATIENT_TRIES: usize = 200;
const PAUSE: Duration = Duration::from_micros(100);

fn path(dir: &Path) -> PathBuf {
    dir.join("open")
}

/// Opens the area, or makes it.
pub(super) fn open(dir: &Path, store: StoreId) -> io::Result<Open> {
    let path = path(dir);
    let file = files::open_or_make(&path, |file| {
        allocate(file, 0, WORDS as u64 * 8)?;
        let words = WordMap::new(file, 0, WORDS)?;
        open::format(words.words(), store, random_key()?).map_err(|error| files::invalid(&path, &error))
    })?;
    let len = usize::try_from(file.metadata()?.len() / 8).unwrap_or(0);
    let words = WordMap::new(&file, 0, len).map_err(|error| files::at(&path, error))?;
    files::check(CellFile::Open, &path, &words, store)?;
    Open::new(words, FileLock(Mutex::new(file))).map_err(|error| files::invalid(&path, &error))
}

/// The store that the folder's counters belong to.
pub(super) fn store_of(dir: &Path) -> io::Result<StoreId> {
    let path = path(dir);
    let words = WordMap::new(&files::open(&path)?, 0, HEADER_WORDS).map_err(|error| files::at(&path, error))?;
    CellFile::Open.check(words.words()).map_err(|error| files::invalid(&path, &error))
}

fn random_key() -> io::Result<TagKey> {
    let mut bytes = [[0; 8]; 2];
    File::open("/dev/urandom")?.read_exact(bytes.as_flattened_mut())?;
    Ok(TagKey(bytes.map(u64::from_le_bytes)))
}

/// An exclusive lock on a file that this process opens for locking only here.
pub struct FileLock(Mutex<File>);

impl Exclusive for FileLock {
    fn alone<R>(&self, work: impl FnOnce() -> R) -> Result<R, Busy> {
        // A thread that panicked under the lock equals one that died: the area repairs itself.
        let file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for attempt in 0..EAGER_TRIES + PATIENT_TRIES {
            match file.try_lock() {
                Ok(()) => {
                    let held = LockGuard(&file);
                    let done = work();
                    drop(held);
                    return Ok(done);
                }
                Err(TryLockError::WouldBlock) if attempt < EAGER_TRIES => thread::yield_now(),
                Err(TryLockError::WouldBlock) => thread::sleep(PAUSE),
                Err(TryLockError::Error(_)) => return Err(Busy),
            }
        }
        Err(Busy)
    }
}

struct LockGuard<'a>(&'a File);

impl Drop for LockGuard<'_> {
    fn drop(&mut self) {
        // Cannot fail on a lock that is held; closing the file lets go of it in any case.
        let _ = self.0.unlock();
    }
}
