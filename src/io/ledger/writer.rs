//! A worker's ledger: claims at admission, records at the end of calls, and a thread that puts them on disk.
//!
//! `append` copies a record into mapped memory under a mutex that is never held across a system call. A full disk ends the admission of
//! calls when no place is left that nobody has claimed, and calls that hold a claim still end in the ledger.

use std::io::{Error, ErrorKind, Result};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aigw_core::entry::record::{Payload, RecordKind};

use super::files::{Disk, Files};
use super::parts::{OnDisk, Parts};
use super::place::make_dir;
use super::state::Position;
use super::syncer::{GROUP, HURRY, RETRY, Syncer};
use crate::store::StoreId;

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
    /// Files whose sync failed, or whose name was lost.
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
    /// The error while the writer cannot write a removed or moved file again, and the worker admits no call. `None` while all files are in their places.
    pub place_error: Option<String>,
}

/// The effect of a ledger on calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerState {
    /// Calls are admitted.
    Well = 0,
    /// It has no room for another record, and no segment can be made: calls are refused.
    Full = 1,
    /// Records cannot be put on disk; calls are admitted while there is room.
    Failing = 2,
    /// The writer cannot write a removed or moved file again. The worker refuses calls.
    Displaced = 3,
}

impl LedgerState {
    /// Whether no new call is admitted.
    pub fn refuses(self) -> bool {
        matches!(self, Self::Full | Self::Displaced)
    }

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Full => "full",
            Self::Failing => "failing",
            Self::Displaced => "displaced",
        }
    }
}

impl LedgerStatus {
    /// The worst of it. More claims than room for a moment, while a segment is being made, are nothing to tell.
    pub fn state(&self) -> LedgerState {
        if self.place_error.is_some() {
            LedgerState::Displaced
        } else if self.room <= self.reserved && self.room_error.is_some() {
            LedgerState::Full
        } else if self.sync_error.is_some() {
            LedgerState::Failing
        } else {
            LedgerState::Well
        }
    }
}

/// Writes the records of one worker. Dropped, it is closed.
#[derive(Debug)]
pub struct LedgerWriter {
    shared: Arc<Parts>,
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
        let shared = Arc::new(Parts::new(files, dir, store, slot, life));
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
        self.through(position.index() + 1).await
    }

    /// Waits until every record of now survives a loss of power, as [`LedgerWriter::synced`] does.
    pub async fn all_synced(&self) -> bool {
        let appended = self.shared.state().appended();
        self.through(appended).await
    }

    /// Waits until so many records, from the first on, survive a loss of power.
    async fn through(&self, records: u64) -> bool {
        let mut on_disk = self.shared.on_disk.subscribe();
        let is_there = |on_disk: &OnDisk| records <= on_disk.through;
        if !is_there(&on_disk.borrow()) {
            self.shared.hurry();
        }
        on_disk.wait_for(|now| now.over || is_there(now)).await.is_ok_and(|now| is_there(&now))
    }

    /// How it stands.
    pub fn status(&self) -> LedgerStatus {
        let [room_error, sync_error, place_error] =
            self.shared.errors.lock().unwrap_or_else(PoisonError::into_inner).clone();
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
            place_error,
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
fn run(shared: &Parts, mut syncer: Syncer) -> Syncer {
    while !shared.stop.load(Ordering::SeqCst) {
        let start = Instant::now();
        // Before the round looks at the records: those of the calls that wait by now are among them.
        shared.hurried.store(false, Ordering::SeqCst);
        let pause = round(shared, &mut syncer);
        rest(shared, start, pause);
    }
    syncer
}

/// Pauses until the next round is due: at an append or `pause` after the round's `start`, and then not before the group's time since
/// `start` is over. The first append behind a round would else cause the next one at once.
fn rest(shared: &Parts, start: Instant, pause: Duration) {
    let park = |until: Duration, is_due: &dyn Fn() -> bool| {
        let left = until.saturating_sub(start.elapsed());
        let goes_on = !left.is_zero() && !is_due() && !shared.stop.load(Ordering::SeqCst);
        if goes_on {
            thread::park_timeout(left);
        }
        goes_on
    };
    shared.asleep.store(pause > GROUP, Ordering::SeqCst);
    let is_hurried = || shared.hurried.load(Ordering::SeqCst);
    // An append from before this word would not wake us.
    if pause > GROUP && shared.state().unsynced() == 0 {
        while park(pause, &|| is_hurried() || !shared.asleep.load(Ordering::SeqCst)) {}
    }
    shared.asleep.store(false, Ordering::SeqCst);
    let group = pause.min(GROUP);
    while park(if is_hurried() { group.min(HURRY) } else { group }, &|| false) {}
}

/// One round, which may panic: it is counted, and the next round comes.
fn round(shared: &Parts, syncer: &mut Syncer) -> Duration {
    catch_unwind(AssertUnwindSafe(|| syncer.work(Instant::now()))).unwrap_or_else(|_| {
        shared.panics.fetch_add(1, Ordering::Relaxed);
        RETRY
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    fn parts() -> Arc<Parts> {
        Arc::new(Parts::new(Arc::new(Disk), Path::new("unused"), [7, 7], 1, 1))
    }

    fn stop(parts: &Parts) {
        parts.stop.store(true, Ordering::SeqCst);
        parts.thread.get().unwrap().unpark();
    }

    #[test]
    fn append_waiting_call_and_stop_end_a_pause() {
        for (ask, least) in [(Parts::wake as fn(&Parts), GROUP), (Parts::hurry, HURRY), (stop, Duration::ZERO)] {
            let (parts, start) = (parts(), Instant::now());
            let resting = Arc::clone(&parts);
            let thread = thread::spawn(move || rest(&resting, start, HOUR));
            parts.thread.set(thread.thread().clone()).unwrap();
            while !thread.is_finished() {
                ask(&parts);
                thread::yield_now();
            }
            thread.join().unwrap();
            assert!(!parts.asleep.load(Ordering::SeqCst));
            assert!(start.elapsed() >= least, "records that come together are one group");
        }
    }

    #[test]
    fn call_that_waits_before_a_pause_shortens_it() {
        let parts = parts();
        parts.hurry();
        rest(&parts, Instant::now(), HOUR);
        assert!(parts.hurried.load(Ordering::SeqCst), "the next round takes the mark away");
    }
}
