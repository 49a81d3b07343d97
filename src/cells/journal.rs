//! A worker's ring of permits: the amounts it holds in which counters, written where others can read it after its death.
//!
//! The intent is written before a counter is touched, and each later step before its effect, so at every instant the
//! ring names every count that may have to be undone. An entry is 120 words: state, time, request id (2), number of
//! cells, progress (3), triples (cell, window, amount), whether one of them moved on to a later window, then the draft of the call's row in the ledger; the limit kind in the cell
//! knows how it numbers windows.
//! States: FREE -> INTENT (cells may be taken) -> HELD (all are taken) -> SENT (an upstream may have seen the request)
//! -> FREE, or from any of them -> GIVING (being given back or corrected) -> FREE.
//! Only the owning process knows which entries are free. Readers in other processes see whole permits: the state word
//! carries a number that changes with each use of the entry.

use super::atomic::{AtomicU64, Ordering, fence};

use super::stack::Stack;
use super::{CellRef, Words};
use crate::units::{RequestId, UnixSeconds};

/// Permits a worker can hold at once; few under the model checker, which visits each word of them.
pub const ENTRIES: u32 = if cfg!(shuttle) { 4 } else { 8_192 };
/// Words of one entry.
pub const ENTRY_WORDS: usize = DRAFT + DRAFT_WORDS;
/// Words of a draft.
pub const DRAFT_WORDS: usize = 24;
/// Counters one permit can hold.
pub const MAX_CELLS: usize = 29;
/// Words of a whole ring.
pub const RING_WORDS: usize = ENTRIES as usize * ENTRY_WORDS;

/// Words of an entry as layout 2 had it: without a draft.
const ENTRY_WORDS_V2: usize = DRAFT;
/// Words of a whole ring of layout 2.
pub const RING_WORDS_V2: usize = ENTRIES as usize * ENTRY_WORDS_V2;

const STATE: usize = 0;
const STARTED: usize = 1;
const REQUEST: usize = 2;
const CELLS: usize = 4;
const PROGRESS: usize = 5;
const TRIPLES: usize = 8;
const MOVED: usize = TRIPLES + 3 * MAX_CELLS;
const DRAFT: usize = MOVED + 1;

/// The step of a permit's life. The low byte of an entry's first word; the rest counts the uses of the entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// The entry is free.
    Free = 0,
    /// About to take, or taking.
    Intent = 1,
    /// Everything is taken; nothing has been sent.
    Held = 2,
    /// The request may have reached an upstream.
    Sent = 3,
    /// Being given back; some of it may be already.
    Giving = 4,
}

impl State {
    /// The state in a word. An unknown state is doubt, and doubt counts as taken.
    pub(super) fn of(word: u64) -> Self {
        match word & 0xff {
            0 => Self::Free,
            1 => Self::Intent,
            2 => Self::Held,
            3 => Self::Sent,
            _ => Self::Giving,
        }
    }
}

/// The amount that a permit holds in one counter, or nothing in none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakenAmount {
    /// The counter.
    pub cell: CellRef,
    /// The window that the amount was taken from, as the limit kind numbers windows; 0 for kinds without windows.
    pub window: u64,
    /// The amount in units of the limit's meter. 0: nothing was taken, and nothing goes back.
    pub amount: u64,
}

impl TakenAmount {
    /// In place of an amount that was not taken: a full limit in shadow mode. No kind of limits has its number.
    pub const NOTHING: Self = Self { cell: CellRef { kind: 0, open: false, column: 0, row: 0 }, window: 0, amount: 0 };

    #[inline]
    fn store(self, [cell, window, amount]: &Line) {
        cell.store(self.cell.pack(), Ordering::Relaxed);
        window.store(self.window, Ordering::Relaxed);
        amount.store(self.amount, Ordering::Relaxed);
    }

    #[inline]
    fn load([cell, window, amount]: &Line) -> Self {
        let [cell, window, amount] = [cell, window, amount].map(|word| word.load(Ordering::Relaxed));
        Self { cell: CellRef::unpack(cell), window, amount }
    }

    /// Whether nothing was taken.
    pub fn is_nothing(self) -> bool {
        self.cell.kind == Self::NOTHING.cell.kind
    }
}

/// The words of a cell in an entry.
type Line = [AtomicU64; 3];

/// The ring, held by the one process that owns it.
pub struct Ring<W> {
    words: W,
    first: usize,
    free: Stack,
}

/// An entry in use: the right to write it.
#[derive(Debug)]
pub struct Entry {
    index: u32,
    uses: u64,
}

impl<W: Words> Ring<W> {
    /// A ring over [`RING_WORDS`] words from `first` on; `None` if there are fewer. All entries must be free:
    /// [`super::reclaim::reclaim`] has run after the last owner.
    pub fn new(words: W, first: usize) -> Option<Self> {
        let fits = words.words().len().checked_sub(first)? >= RING_WORDS;
        fits.then(|| Self { words, first, free: Stack::full(ENTRIES) })
    }

    /// The ring's words, for readers in this process.
    pub fn words(&self) -> &[AtomicU64] {
        self.words.words().get(self.first..self.first + RING_WORDS).unwrap_or_default()
    }

    /// An entry to write in; `None` when all are in use.
    #[inline]
    pub(crate) fn begin(&self, started: UnixSeconds, request: RequestId, cells: usize) -> Option<Entry> {
        let index = self.free.pop()?;
        let mut entry = Entry { index, uses: 0 };
        let words = self.entry(&entry);
        entry.uses = (words[STATE].load(Ordering::Relaxed) & !0xff).wrapping_add(0x100);
        // A reader must not take a word of this use for one of the use before.
        fence(Ordering::Release);
        words[STARTED].store(u64::from(started.0), Ordering::Relaxed);
        words[REQUEST].store(request.0[0], Ordering::Relaxed);
        words[REQUEST + 1].store(request.0[1], Ordering::Relaxed);
        words[CELLS].store(cells.min(MAX_CELLS) as u64, Ordering::Relaxed);
        words[PROGRESS].store(0, Ordering::Relaxed);
        words[MOVED].store(0, Ordering::Relaxed);
        Some(entry)
    }

    /// Names an amount that is about to be taken, or was taken in another window than intended.
    #[inline]
    pub(crate) fn write(&self, entry: &Entry, n: usize, taken: TakenAmount) {
        if let Some(line) = lines(self.entry(entry)).get(n) {
            taken.store(line);
        }
    }

    /// Names the amounts that are about to be taken, from the entry's first cell on.
    #[inline]
    pub(crate) fn write_all(&self, entry: &Entry, taken: impl Iterator<Item = TakenAmount>) {
        lines(self.entry(entry)).iter().zip(taken).for_each(|(line, taken)| taken.store(line));
    }

    /// Names an amount of a later window in place of the one that cell `n` has: its earlier window is over. The window is written
    /// last: until then the line changes nothing in a counter that has moved on.
    pub(crate) fn move_on(&self, entry: &Entry, n: usize, taken: TakenAmount) {
        let words = self.entry(entry);
        if let Some([_, window, amount]) = lines(words).get(n) {
            words[MOVED].store(1, Ordering::Relaxed);
            amount.store(taken.amount, Ordering::Relaxed);
            window.store(taken.window, Ordering::Release);
        }
    }

    /// The amount that the entry names for its cell `n`.
    #[inline]
    pub(crate) fn read(&self, entry: &Entry, n: usize) -> TakenAmount {
        lines(self.entry(entry)).get(n).map_or(TakenAmount::NOTHING, TakenAmount::load)
    }

    /// The amounts that the entry names.
    #[inline]
    pub(crate) fn taken(&self, entry: &Entry) -> impl DoubleEndedIterator<Item = TakenAmount> {
        taken(self.entry(entry))
    }

    /// The number of cells that the entry has.
    #[inline]
    pub(crate) fn cells(&self, entry: &Entry) -> usize {
        cells(self.entry(entry))
    }

    /// Notes the amounts that a call on its way has used so far: input tokens, output tokens, nano-dollars. The first word is
    /// one more than its amount, so that 0 is a call without progress, and it is written last.
    #[inline]
    pub(crate) fn progress(&self, entry: &Entry, used: [u64; 3]) {
        let words = self.entry(entry);
        words[PROGRESS + 2].store(used[2], Ordering::Relaxed);
        words[PROGRESS + 1].store(used[1], Ordering::Relaxed);
        words[PROGRESS].store(used[0].saturating_add(1), Ordering::Release);
    }

    /// Notes the row that the ledger gets when the process dies: before the call goes upstream.
    #[inline]
    pub(crate) fn draft(&self, entry: &Entry, draft: &[u64; DRAFT_WORDS]) {
        for (word, value) in self.entry(entry)[DRAFT..].iter().zip(draft) {
            word.store(*value, Ordering::Relaxed);
        }
    }

    /// Steps the entry on. A reader that sees the new state sees everything that was done before it.
    #[inline]
    pub(crate) fn step(&self, entry: &Entry, state: State) {
        self.entry(entry)[STATE].store(entry.uses | u64::from(state as u8), Ordering::Release);
    }

    /// Ends the entry's use.
    #[inline]
    pub(crate) fn end(&self, entry: &Entry) {
        self.step(entry, State::Free);
        self.free.push(entry.index);
    }

    #[inline]
    fn entry(&self, entry: &Entry) -> &[AtomicU64; ENTRY_WORDS] {
        let (entries, _) = self.words.words()[self.first..].as_chunks();
        &entries[entry.index as usize]
    }
}

/// The words of each cell's line.
#[inline]
fn lines(entry: &[AtomicU64]) -> &[Line] {
    entry.get(TRIPLES..MOVED).unwrap_or_default().as_chunks().0
}

fn cells(entry: &[AtomicU64]) -> usize {
    usize::try_from(entry[CELLS].load(Ordering::Relaxed)).unwrap_or(MAX_CELLS).min(MAX_CELLS)
}

#[inline]
fn taken(entry: &[AtomicU64]) -> impl DoubleEndedIterator<Item = TakenAmount> {
    lines(entry).iter().take(cells(entry)).map(TakenAmount::load)
}

/// One permit, as another process sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenPermit {
    /// The step of its life.
    pub state: State,
    /// The time of the request.
    pub started: UnixSeconds,
    /// Id of the request.
    pub request: RequestId,
    /// The amounts it holds. In state `Intent` it may hold less, in `Giving` a part may be given back already.
    pub held: Vec<TakenAmount>,
}

/// Every permit that is open in a ring, each read whole. Permits that change while they are read may be left out.
pub fn open_permits(ring: &[AtomicU64]) -> impl Iterator<Item = OpenPermit> {
    ring.chunks_exact(ENTRY_WORDS).filter_map(|entry| {
        let before = entry[STATE].load(Ordering::Acquire);
        let state = State::of(before);
        if state == State::Free {
            return None;
        }
        let permit = OpenPermit {
            state,
            started: UnixSeconds::saturating(entry[STARTED].load(Ordering::Relaxed)),
            request: RequestId([entry[REQUEST].load(Ordering::Relaxed), entry[REQUEST + 1].load(Ordering::Relaxed)]),
            held: taken(entry).collect(),
        };
        fence(Ordering::Acquire);
        let after = entry[STATE].load(Ordering::Relaxed);
        (after >> 8 == before >> 8 && State::of(after) != State::Free).then_some(permit)
    })
}

/// Entries that were never used and may stand before one that is: several threads begin at once.
const GAP: usize = 64;

/// The amount that open permits of a ring hold in a counter's window. Entries are used from the lowest on, so those that never were
/// end the search.
pub fn held(ring: &[AtomicU64], cell: CellRef, window: u64) -> u64 {
    let (mut sum, mut unused) = (0_u64, 0);
    for entry in ring.chunks_exact(ENTRY_WORDS) {
        let word = entry[STATE].load(Ordering::Acquire);
        unused = if word == 0 { unused + 1 } else { 0 };
        if unused > GAP {
            break;
        }
        if State::of(word) != State::Free {
            let own = taken(entry).filter(|taken| taken.cell == cell && taken.window == window);
            sum = own.fold(sum, |sum, taken| sum.saturating_add(taken.amount));
        }
    }
    sum
}

/// The entries of a dead owner's ring.
pub fn entries(ring: &[AtomicU64]) -> impl Iterator<Item = DeadEntry<'_>> {
    ring.chunks_exact(ENTRY_WORDS).map(DeadEntry)
}

/// The entries of a dead owner's ring of layout 2.
pub fn entries_v2(ring: &[AtomicU64]) -> impl Iterator<Item = DeadEntry<'_>> {
    ring.chunks_exact(ENTRY_WORDS_V2).map(DeadEntry)
}

/// An entry whose owner is dead.
pub struct DeadEntry<'a>(&'a [AtomicU64]);

impl DeadEntry<'_> {
    /// The step of its permit's life.
    pub fn state(&self) -> State {
        State::of(self.0[STATE].load(Ordering::Acquire))
    }

    /// Steps it on.
    pub fn step(&self, state: State) {
        step(&self.0[STATE], state);
    }

    /// The amounts that its call had used: input tokens, output tokens, nano-dollars. `None`: its owner noted no progress.
    pub fn progress(&self) -> Option<[u64; 3]> {
        let input = self.0[PROGRESS].load(Ordering::Acquire).checked_sub(1)?;
        let word = |at: usize| self.0[PROGRESS + at].load(Ordering::Relaxed);
        Some([input, word(1), word(2)])
    }

    /// Id of its request.
    pub fn request(&self) -> RequestId {
        RequestId([REQUEST, REQUEST + 1].map(|at| self.0[at].load(Ordering::Relaxed)))
    }

    /// Whether earlier windows have given a part of its amounts, which the entry does not name.
    pub fn has_moved(&self) -> bool {
        self.0[MOVED].load(Ordering::Relaxed) != 0
    }

    /// The row that its owner had noted for the ledger. Only of a call that was sent.
    pub fn draft(&self) -> [u64; DRAFT_WORDS] {
        std::array::from_fn(|at| self.0.get(DRAFT + at).map_or(0, |word| word.load(Ordering::Relaxed)))
    }

    /// The amounts it names.
    pub fn taken(&self) -> impl Iterator<Item = TakenAmount> {
        taken(self.0)
    }
}

/// Changes the state in a word, and keeps the rest.
pub(super) fn step(word: &AtomicU64, state: State) {
    let uses = word.load(Ordering::Relaxed) & !0xff;
    word.store(uses | u64::from(state as u8), Ordering::Release);
}
