//! The parts that a writer of the ledger and its thread share: the records under the mutex, the words that tell how it stands, and the bell of
//! the thread. The writer and the thread change them.

use std::io::Error;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use tokio::sync::watch;

use super::files::Files;
use super::state::{Held, Position, State};
use crate::store::StoreId;

/// The records that are on disk, as calls that wait for theirs see them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OnDisk {
    /// All records with a lower index.
    pub through: u64,
    /// No more will come.
    pub over: bool,
}

/// The parts that the writer and its thread share.
pub(super) struct Parts {
    pub dir: PathBuf,
    pub store: StoreId,
    pub slot: u8,
    pub life: u64,
    pub files: Arc<dyn Files>,
    pub state: Mutex<State>,
    pub on_disk: watch::Sender<OnDisk>,
    /// The thread pauses until it is woken.
    pub asleep: AtomicBool,
    /// A call waits for its record since the last round began.
    pub hurried: AtomicBool,
    pub stop: AtomicBool,
    pub thread: OnceLock<Thread>,
    pub failures: AtomicU64,
    pub last_failure: Mutex<Option<String>>,
    pub lost: AtomicU64,
    pub panics: AtomicU32,
    /// By the syncer's steps.
    pub errors: Mutex<[Option<String>; 3]>,
}

impl Parts {
    /// Of a writer in `dir` that has written nothing.
    pub fn new(files: Arc<dyn Files>, dir: &Path, store: StoreId, slot: u8, life: u64) -> Self {
        Self {
            dir: dir.to_owned(),
            store,
            slot,
            life,
            files,
            state: Mutex::new(State::new()),
            on_disk: watch::Sender::new(OnDisk::default()),
            asleep: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            thread: OnceLock::new(),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
            lost: AtomicU64::new(0),
            panics: AtomicU32::new(0),
            errors: Mutex::default(),
        }
    }

    /// Everything under the mutex is whole between any two steps, so a thread that panicked left it usable.
    #[inline]
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a segment that is not on disk yet.
    pub fn held<R>(&self, number: u32, change: impl FnOnce(&mut Held) -> R) -> Option<R> {
        self.state().held(number).map(change)
    }

    pub fn tell(&self, step: usize, error: Option<&Error>) {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)[step] = error.map(Error::to_string);
    }

    /// Counts a file whose sync failed.
    pub fn note_failure(&self, error: Error) -> Error {
        self.failures.fetch_add(1, Ordering::Relaxed);
        *self.last_failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        error
    }

    pub fn note_lost(&self, records: u32) {
        self.lost.fetch_add(records.into(), Ordering::Relaxed);
    }

    pub fn say_synced(&self, segment: u32, records: u32) {
        let through = Position { segment, sequence: records }.index();
        self.on_disk.send_modify(|on_disk| on_disk.through = through);
    }

    pub fn end_of_syncs(&self) {
        self.on_disk.send_modify(|on_disk| on_disk.over = true);
    }

    /// Ends the thread's sleep: there is a record.
    pub fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst) && self.asleep.swap(false, Ordering::SeqCst) {
            self.unpark();
        }
    }

    /// Shortens the thread's pause: a call waits for its record.
    pub fn hurry(&self) {
        if !self.hurried.swap(true, Ordering::SeqCst) {
            self.unpark();
        }
    }

    fn unpark(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Parts").field("dir", &self.dir).field("slot", &self.slot).finish_non_exhaustive()
    }
}
