//! Slots: each worker's lock file with its status and its journal.
//!
//! A worker owns a slot by the kernel's lock on its file, which only its exit or death ends. A slot that is marked in use
//! and not locked had an owner that died: the control process ends its permits, and then the slot is free. Workers pass it by until
//! then. Files are never removed, so every process locks the same file.

use std::array;
use std::fs::{self, File, TryLockError};
use std::io::{self, Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::admit::{Books, Reclaimed, reclaim, reclaim_v1, reclaim_v2};
use aigw_core::cells::journal::{RING_WORDS, RING_WORDS_V2};
use aigw_core::cells::shared::{CellFile, HEADER_WORDS, header};
use aigw_core::cells::{Cells, Ring, Words, journal_v1};

use super::files;
use crate::ledger::LedgerState;
use crate::map::{WordMap, allocate};
use crate::store::StoreId;

/// Most workers with slots at once.
pub const SLOTS: u8 = 64;

const PID: usize = header::OWN;
const STATE: usize = header::OWN + 1;
const BOOT: usize = header::OWN + 2;
const GENERATION: usize = header::OWN + 3;
const IN_FLIGHT: usize = header::OWN + 4;
const INLINE: usize = header::OWN + 5;
const LIFE: usize = header::OWN + 6;
const UNSYNCED: usize = header::OWN + 7;
const FAULTS: usize = header::OWN + 8;
/// First of one word for each [`Part`]. The supervisor reads them, too (`serve/beats.py`).
const BEATS: usize = header::OWN + 9;
const TLS_CONNECTIONS: usize = BEATS + Part::ALL.len();

const FREE: u64 = 0;
const WORDS: usize = HEADER_WORDS + RING_WORDS;

/// The step of a worker's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// Not serving yet.
    Starting = 1,
    /// Serving.
    Ready = 2,
    /// Finishing its requests.
    Draining = 3,
    /// Serving, but it stands still. No worker stores this: the reader of its beats finds it.
    Silent = 4,
}

/// Milliseconds without a beat after which a serving worker stands still: it beats twice a second.
const SILENT_MS: u64 = 2000;

impl SlotState {
    /// The state's name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Silent => "silent",
        }
    }
}

/// A part of a worker that must go on for its requests to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The event loop of its main thread.
    Loop,
    /// The server's threads, as far as they run our code.
    Server,
    /// The upstream thread.
    Upstream,
}

impl Part {
    const ALL: [Self; 3] = [Self::Loop, Self::Server, Self::Upstream];
}

/// A slot in use, as the control process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotReport {
    /// Its number.
    pub slot: u8,
    /// Process id of its owner.
    pub pid: u32,
    /// Its state.
    pub state: SlotState,
    /// The configuration generation that the owner serves.
    pub generation: u64,
    /// Requests in flight.
    pub in_flight: u64,
    /// Connections that are open at the TLS address.
    pub tls_connections: u64,
    /// Whether the owner's requests are stepped inline.
    pub inline: bool,
    /// Milliseconds since the part of it that moved least recently; 0 while it starts.
    pub silent_ms: u64,
    /// Records of its ledger that a loss of power would take.
    pub unsynced: u64,
    /// The state of its ledger.
    pub ledger: LedgerState,
}

/// The status that a worker shows. Each word has one writer, the worker.
#[derive(Clone, Copy)]
pub struct SlotStatus<'a>(&'a [AtomicU64]);

impl<'a> SlotStatus<'a> {
    /// Shows the worker's state.
    pub fn set_state(self, state: SlotState) {
        self.0[STATE].store(state as u64, Ordering::Release);
    }

    /// Shows the configuration generation that the worker serves.
    pub fn set_generation(self, generation: u64) {
        self.0[GENERATION].store(generation, Ordering::Release);
    }

    /// Shows whether requests are stepped inline.
    pub fn set_inline(self, inline: bool) {
        self.0[INLINE].store(u64::from(inline), Ordering::Release);
    }

    /// Shows the ledger: records that a loss of power would take, and its state.
    pub fn set_ledger(self, unsynced: u64, state: LedgerState) {
        self.0[UNSYNCED].store(unsynced, Ordering::Relaxed);
        self.0[FAULTS].store(state as u64, Ordering::Release);
    }

    /// Shows that a part of the worker moves. `now`: [`machine_millis`](crate::clock::machine_millis).
    pub fn beat(self, part: Part, now: u64) {
        self.0[BEATS + part as usize].store(now, Ordering::Relaxed);
    }

    /// Shows that all parts move: the worker serves from now on.
    pub fn begin_beats(self, now: u64) {
        for part in Part::ALL {
            self.beat(part, now);
        }
    }

    /// The count of requests in flight, to be added to and subtracted from.
    pub fn in_flight(self) -> &'a AtomicU64 {
        &self.0[IN_FLIGHT]
    }

    /// The count of open connections at the TLS address, to be added to and subtracted from.
    pub fn tls_connections(self) -> &'a AtomicU64 {
        &self.0[TLS_CONNECTIONS]
    }
}

/// A worker's own slot, held until it is dropped or the process dies.
pub(super) struct Slot {
    number: u8,
    head: WordMap,
    /// Holds the lock.
    _file: File,
}

impl Slot {
    /// Takes the first free slot, and its journal, empty. `life`: the start of the process, unix nanoseconds.
    pub(super) fn acquire(
        dir: &Path,
        store: StoreId,
        cells: &impl Cells,
        life: u64,
    ) -> io::Result<(Self, Ring<WordMap>)> {
        for number in 0..SLOTS {
            let path = path(dir, number);
            let file = files::open_or_make(&path, |file| {
                allocate(file, 0, WORDS as u64 * 8)?;
                let head = WordMap::new(file, 0, HEADER_WORDS)?;
                CellFile::Slot.format(head.words(), store).map_err(|error| files::invalid(&path, &error))
            })?;
            if !lock(&file)? {
                continue;
            }
            let head = WordMap::new(&file, 0, HEADER_WORDS).map_err(|error| files::at(&path, error))?;
            bring_up(&file, head.words(), cells).map_err(|error| files::at(&path, error))?;
            files::check(CellFile::Slot, &path, &head, store)?;
            if head.words()[STATE].load(Ordering::Acquire) != FREE {
                continue;
            }
            let whole = WordMap::new(&file, 0, WORDS).map_err(|error| files::at(&path, error))?;
            let words = head.words();
            words[PID].store(u64::from(std::process::id()), Ordering::Relaxed);
            words[BOOT].store(boot(), Ordering::Relaxed);
            words[LIFE].store(life, Ordering::Relaxed);
            for word in [GENERATION, IN_FLIGHT, INLINE, UNSYNCED, FAULTS, BEATS, BEATS + 1, BEATS + 2, TLS_CONNECTIONS]
            {
                words[word].store(0, Ordering::Relaxed);
            }
            words[STATE].store(SlotState::Starting as u64, Ordering::Release);
            let ring = Ring::new(whole, HEADER_WORDS).ok_or(ErrorKind::InvalidData)?;
            return Ok((Self { number, head, _file: file }, ring));
        }
        let text = format!("all {SLOTS} slots in {} are held: so many workers cannot run at once", dir.display());
        Err(Error::new(ErrorKind::ResourceBusy, text))
    }

    pub(super) fn status(&self) -> SlotStatus<'_> {
        SlotStatus(self.head.words())
    }

    pub(super) fn number(&self) -> u8 {
        self.number
    }
}

/// Gives a slot of an older version today's layout; the caller holds its lock. Repeated safely after a crash: the version word
/// changes last, and a zeroed entry is free in all layouts.
fn bring_up(file: &File, head: &[AtomicU64], cells: &impl Cells) -> io::Result<()> {
    let layout = CellFile::Slot.found_layout(head);
    let words = match layout {
        Ok(1) => journal_v1::RING_WORDS,
        Ok(2) => RING_WORDS_V2,
        _ => return Ok(()),
    };
    let old = WordMap::new(file, 0, HEADER_WORDS + words)?;
    let ring = &old.words()[HEADER_WORDS..];
    if head[STATE].load(Ordering::Acquire) != FREE {
        let same_boot = is_same_boot(head);
        if layout == Ok(1) {
            reclaim_v1(ring, cells, same_boot)
        } else {
            reclaim_v2(ring, cells, same_boot)
        };
        head[STATE].store(FREE, Ordering::Release);
    }
    for word in ring {
        word.store(0, Ordering::Relaxed);
    }
    allocate(file, 0, WORDS as u64 * 8)?;
    head[header::VERSION].store(CellFile::Slot.layout(), Ordering::Release);
    Ok(())
}

fn is_old(head: &[AtomicU64]) -> bool {
    matches!(CellFile::Slot.found_layout(head), Ok(1 | 2))
}

/// Whether the machine has not restarted since the slot's owner started.
fn is_same_boot(head: &[AtomicU64]) -> bool {
    let (theirs, ours) = (head[BOOT].load(Ordering::Relaxed), boot());
    theirs == ours && ours != 0
}

/// Ends the permits of a slot whose lock the caller holds. It is free when none waits for its row in the ledger.
fn release(slot: &[AtomicU64], cells: &impl Cells, books: &mut impl Books) -> Reclaimed {
    let found = reclaim(&slot[HEADER_WORDS..], cells, is_same_boot(slot), books);
    if found.waiting == 0 {
        slot[STATE].store(FREE, Ordering::Release);
    }
    found
}

/// Opens the slot of another process, for the control process. `None` without a file.
fn open(dir: &Path, store: StoreId, number: u8, cells: &impl Cells) -> io::Result<Option<WordMap>> {
    let path = path(dir, number);
    let file = match files::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let at = |error| files::at(&path, error);
    let head = WordMap::new(&file, 0, HEADER_WORDS).map_err(at)?;
    if is_old(head.words()) && lock(&file)? {
        bring_up(&file, head.words(), cells).map_err(at)?;
    }
    let words = WordMap::new(&file, 0, WORDS).map_err(at)?;
    files::check(CellFile::Slot, &path, &words, store)?;
    Ok(Some(words))
}

/// The slots of all workers, each opened once.
pub(super) struct OpenSlots {
    dir: PathBuf,
    store: StoreId,
    slots: [OnceLock<WordMap>; SLOTS as usize],
}

impl OpenSlots {
    pub(super) fn new(dir: &Path, store: StoreId) -> Self {
        Self { dir: dir.to_owned(), store, slots: array::from_fn(|_| OnceLock::new()) }
    }

    /// Number and words of each slot that has a file.
    pub(super) fn open(&self, cells: &impl Cells) -> io::Result<Vec<(u8, &WordMap)>> {
        let mut found = Vec::new();
        for (number, place) in (0..SLOTS).zip(&self.slots) {
            if let Some(words) = place.get() {
                found.push((number, words));
            } else if let Some(words) = open(&self.dir, self.store, number, cells)? {
                found.push((number, place.get_or_init(|| words)));
            } else {
                // Slots are taken from the lowest on: the first missing file ends the list.
                break;
            }
        }
        Ok(found)
    }
}

/// Reclaims a slot if its owner is dead. `books`: the ledger of an owner that started at this moment (unix nanoseconds).
pub(super) fn reclaim_dead<B: Books>(
    dir: &Path,
    number: u8,
    slot: &WordMap,
    cells: &impl Cells,
    books: impl FnOnce(u64) -> io::Result<B>,
) -> io::Result<Option<Reclaimed>> {
    if slot.words()[STATE].load(Ordering::Acquire) == FREE {
        return Ok(None);
    }
    let file = files::open(&path(dir, number))?;
    // Again under the lock: the slot may have been freed meanwhile, or taken by a new owner that died.
    if !lock(&file)? || slot.words()[STATE].load(Ordering::Acquire) == FREE {
        return Ok(None);
    }
    let mut books = books(slot.words()[LIFE].load(Ordering::Relaxed))?;
    Ok(Some(release(slot.words(), cells, &mut books)))
}

/// Whether a slot has a dead owner whose permits nobody has ended yet. Nobody may be ending them meanwhile.
pub(super) fn is_left(dir: &Path, number: u8, slot: &WordMap) -> io::Result<bool> {
    let is_in_use = || slot.words()[STATE].load(Ordering::Acquire) != FREE;
    // Again under the lock, which a new owner may have had meanwhile.
    Ok(is_in_use() && lock(&files::open(&path(dir, number))?)? && is_in_use())
}

/// Whether a slot is in use by the owner that started at `life`.
pub(super) fn is_left_by(slot: &WordMap, life: u64) -> bool {
    self::life(slot) == Some(life)
}

/// The start of a slot's owner, unix nanoseconds; `None` for a free slot.
pub(super) fn life(slot: &WordMap) -> Option<u64> {
    let words = slot.words();
    (words[STATE].load(Ordering::Acquire) != FREE).then(|| words[LIFE].load(Ordering::Relaxed))
}

/// The status of a slot's owner; `None` for a free slot. `now`: [`machine_millis`](crate::clock::machine_millis).
pub(super) fn report(number: u8, slot: &WordMap, now: u64) -> Option<SlotReport> {
    let word = |n: usize| slot.words()[n].load(Ordering::Acquire);
    let state = match word(STATE) {
        1 => SlotState::Starting,
        2 => SlotState::Ready,
        3 => SlotState::Draining,
        _ => return None,
    };
    let oldest = Part::ALL.iter().map(|part| word(BEATS + *part as usize)).min().unwrap_or(0);
    let silent_ms = if state == SlotState::Starting { 0 } else { now.saturating_sub(oldest) };
    Some(SlotReport {
        slot: number,
        pid: u32::try_from(word(PID)).unwrap_or(0),
        state: if state == SlotState::Ready && silent_ms >= SILENT_MS { SlotState::Silent } else { state },
        generation: word(GENERATION),
        in_flight: word(IN_FLIGHT),
        tls_connections: word(TLS_CONNECTIONS),
        inline: word(INLINE) != 0,
        silent_ms,
        unsynced: word(UNSYNCED),
        ledger: match word(FAULTS) {
            1 => LedgerState::Full,
            2 => LedgerState::Failing,
            3 => LedgerState::Displaced,
            _ => LedgerState::Well,
        },
    })
}

/// The journal in a slot.
pub(super) fn ring(slot: &WordMap) -> &[AtomicU64] {
    &slot.words()[HEADER_WORDS..]
}

fn path(dir: &Path, number: u8) -> PathBuf {
    dir.join(format!("slot-{number:02}"))
}

fn lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A word that changes when the machine restarts; 0 when the kernel has none.
pub(super) fn boot() -> u64 {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
    u64::from_str_radix(&digits, 16).unwrap_or(0)
}
