//! A worker's ledger: claims at admission, records at the end of calls, and a thread that puts them on disk.
//!
//! `append` copies a record into mapped memory under a mutex that is never held across a system call. A full disk ends the admission of
//! calls when no place is left that nobody has claimed, and calls that hold a claim still end in the ledger.

use std::io::{Error, ErrorKind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::{self, JoinHandle, Thread};
use std::time::{Duration, Instant};

use aigw_core::entry::record::{Payload, RecordKind};
use tokio::sync::watch;

use super::files::{Disk, Files};
use super::state::{Held, Position, State};
use super::syncer::{RETRY, Syncer, TICK, make_dir};
use crate::cells::StoreId;

/// An append without a claim, where every place that is left has been claimed: a defect of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a call ended without a place in the ledger: it was admitted without a claim")]
pub struct NoRoom;

/// The ledger of a worker, as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LedgerStatus {
    /// Records written by this process.
    pub appended: u64,
    /// Records among them that a loss of power would take.
    pub unsynced: u64,
    /// Segments that are open.
    pub segments: usize,
    /// Places that records can be written to.
    pub room: u64,
    /// Places among them that calls in flight have claimed.
    pub reserved: u64,
    /// Files whose sync failed.
    pub failures: u64,
    /// The last of them, with its error.
    pub last_failure: Option<String>,
    /// Records that the kernel had dropped from memory after a failed sync.
    pub lost: u64,
    /// Panics of the thread, which went on.
    pub panics: u64,
    /// Why no segment can be made; `None` while they can.
    pub room_error: Option<String>,
    /// Why records cannot be put on disk; `None` while they can.
    pub sync_error: Option<String>,
}

/// The records that are on disk, as calls that wait for theirs see them.
#[derive(Clone, Copy, Debug, Default)]
struct OnDisk {
    /// All records with a lower index.
    through: u64,
    /// No more will come.
    over: bool,
}

/// The parts that the writer and its thread share.
pub(super) struct Shared {
    pub dir: PathBuf,
    pub store: StoreId,
    pub slot: u8,
    pub life: u64,
    pub files: Arc<dyn Files>,
    state: Mutex<State>,
    on_disk: watch::Sender<OnDisk>,
    /// The thread pauses until it is woken.
    asleep: AtomicBool,
    stop: AtomicBool,
    thread: OnceLock<Thread>,
    failures: AtomicU64,
    last_failure: Mutex<Option<String>>,
    lost: AtomicU64,
    panics: AtomicU32,
    /// By the syncer's steps.
    errors: Mutex<[Option<String>; 2]>,
}

impl Shared {
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

    fn wake(&self) {
        if self.asleep.load(Ordering::SeqCst)
            && self.asleep.swap(false, Ordering::SeqCst)
            && let Some(thread) = self.thread.get()
        {
            thread.unpark();
        }
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Shared").field("dir", &self.dir).field("slot", &self.slot).finish_non_exhaustive()
    }
}

/// Writes the records of one worker. Dropped, it is closed.
#[derive(Debug)]
pub struct LedgerWriter {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<Syncer>>>,
}

impl LedgerWriter {
    /// Opens the ledger in `dir` (`DATA/ledger`) for a process that starts at `life` (unix nanoseconds) with this slot, and starts the
    /// thread. A full disk is no error: nothing can be claimed until there is room.
    pub fn open(dir: &Path, store: StoreId, slot: u8, life: u64) -> Result<Arc<Self>> {
        Self::open_on(Arc::new(Disk), dir, store, slot, life)
    }

    /// The same, on other files than the file system's.
    pub fn open_on(files: Arc<dyn Files>, dir: &Path, store: StoreId, slot: u8, life: u64) -> Result<Arc<Self>> {
        match make_dir(dir) {
            Err(error) if !matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                return Err(error);
            }
            _ => {}
        }
        let (writer, mut syncer) = Self::by_hand(files, dir, store, slot, life);
        round(&writer.shared, &mut syncer);
        let shared = Arc::clone(&writer.shared);
        let thread = thread::Builder::new().name("aigw-ledger".into()).spawn(move || run(&shared, syncer))?;
        let _ = writer.shared.thread.set(thread.thread().clone());
        *writer.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(writer)
    }

    /// A writer without a thread, and the work of its thread: for simulations, which choose when a round comes.
    pub fn by_hand(files: Arc<dyn Files>, dir: &Path, store: StoreId, slot: u8, life: u64) -> (Arc<Self>, Syncer) {
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            store,
            slot,
            life,
            files,
            state: Mutex::new(State::new()),
            on_disk: watch::Sender::new(OnDisk::default()),
            asleep: AtomicBool::new(false),
            stop: AtomicBool::new(false),
            thread: OnceLock::new(),
            failures: AtomicU64::new(0),
            last_failure: Mutex::default(),
            lost: AtomicU64::new(0),
            panics: AtomicU32::new(0),
            errors: Mutex::default(),
        });
        let syncer = Syncer::new(Arc::clone(&shared));
        (Arc::new(Self { shared, thread: Mutex::new(None) }), syncer)
    }

    /// Claims places for `n` records. False where fewer are free: the call must not be admitted.
    #[inline]
    pub fn reserve(&self, n: u32) -> bool {
        self.shared.state().reserve(n)
    }

    /// Gives back claims that no record needs.
    #[inline]
    pub fn release(&self, n: u32) {
        self.shared.state().release(n);
    }

    /// Writes a record, and uses up one claim. With a claim it never fails. Afterwards the record survives the process.
    #[inline]
    pub fn append(&self, kind: RecordKind, payload: &Payload) -> std::result::Result<Position, NoRoom> {
        let position = self.shared.state().append(kind, payload);
        self.shared.wake();
        position.ok_or(NoRoom)
    }

    /// Whether a record survives a loss of power.
    pub fn is_synced(&self, position: Position) -> bool {
        position.index() < self.shared.on_disk.borrow().through
    }

    /// Waits until a record survives a loss of power. False where the writer was closed before. There is no bound on the wait: a disk that
    /// fails is tried again and again.
    pub async fn synced(&self, position: Position) -> bool {
        let mut on_disk = self.shared.on_disk.subscribe();
        let is_there = |on_disk: &OnDisk| position.index() < on_disk.through;
        on_disk.wait_for(|now| now.over || is_there(now)).await.is_ok_and(|now| is_there(&now))
    }

    /// How it stands.
    pub fn status(&self) -> LedgerStatus {
        let [room_error, sync_error] = self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let last_failure = self.shared.last_failure.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let state = self.shared.state();
        LedgerStatus {
            appended: state.appended(),
            unsynced: state.unsynced(),
            segments: state.segments(),
            room: state.room(),
            reserved: state.reserved(),
            failures: self.shared.failures.load(Ordering::Relaxed),
            last_failure,
            lost: self.shared.lost.load(Ordering::Relaxed),
            panics: self.shared.panics.load(Ordering::Relaxed).into(),
            room_error,
            sync_error,
        }
    }

    /// Ends the writing in order: no claim and no record is taken any more, and all records are on disk, or an error says why not.
    pub fn close(&self) -> Result<()> {
        let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        self.shared.stop.store(true, Ordering::SeqCst);
        thread.thread().unpark();
        let panicked = |_| Error::other("the ledger's thread panicked at its end: its last records may not be on disk");
        let mut syncer = thread.join().map_err(panicked)?;
        let finished = catch_unwind(AssertUnwindSafe(|| syncer.finish())).map_err(panicked);
        self.shared.end_of_syncs();
        finished?
    }
}

impl Drop for LedgerWriter {
    fn drop(&mut self) {
        // The status had the error before, and nobody is left to ask.
        let _ = self.close();
    }
}

/// The thread: round by round until it is stopped.
fn run(shared: &Shared, mut syncer: Syncer) -> Syncer {
    while !shared.stop.load(Ordering::SeqCst) {
        let start = Instant::now();
        let pause = round(shared, &mut syncer);
        if pause > TICK {
            shared.asleep.store(true, Ordering::SeqCst);
            // An append from before this word would not wake us.
            if shared.state().unsynced() > 0 {
                shared.asleep.store(false, Ordering::SeqCst);
                continue;
            }
        }
        if !shared.stop.load(Ordering::SeqCst) {
            thread::park_timeout(pause.saturating_sub(start.elapsed()));
        }
        shared.asleep.store(false, Ordering::SeqCst);
    }
    syncer
}

/// One round, which may panic: it is counted, and the next round comes.
fn round(shared: &Shared, syncer: &mut Syncer) -> Duration {
    catch_unwind(AssertUnwindSafe(|| syncer.work(Instant::now()))).unwrap_or_else(|_| {
        shared.panics.fetch_add(1, Ordering::Relaxed);
        RETRY
    })
}
