//! A worker dies between any two steps: the result of a reclaim on its memory.
//!
//! The place under test copies all shared memory each time the code under test reaches for it, which is between any
//! two of its steps. Each copy is one death; each is reclaimed, with a reclaimer that dies at each step in turn.
#![allow(clippy::unwrap_used)]

#[macro_use]
mod without_ledger;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use aigw_core::admit::{Admitter, Check, Permit, Reclaimed, reclaim};
use aigw_core::cells::heap::{HeapLock, HeapSpace, HeapWords};
use aigw_core::cells::journal::{ENTRY_WORDS, RING_WORDS, State};
use aigw_core::cells::tag::TagKey;
use aigw_core::cells::{CellKey, CellRef, Cells, CounterSpace, OpenArea, Ring, Words, counter, journal, open};
use aigw_core::limits::{Demand, Limit, Period, Usage};
use aigw_core::units::{RequestId, UnixSeconds};
use proptest::prelude::*;
use without_ledger::{DRAFT, NoLedger};

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);
const COLUMNS: usize = 2;
/// Entries that a test can have in use: only these are copied.
const COPIED: usize = 16 * ENTRY_WORDS;

/// The memory of a dead worker, and the effects that had really happened.
struct Death {
    counts: Vec<u64>,
    ring: Vec<u64>,
    truth: Truth,
}

#[derive(Clone, Copy, Default)]
struct Truth {
    /// Answered: must stay counted.
    settled: u32,
    /// May have reached an upstream: must stay counted.
    sent: u32,
    /// Taken and surely not sent.
    held: u32,
    /// At some step between two of these.
    unsure: u32,
}

struct Watched {
    columns: HeapWords,
    open: Arc<OpenArea<HeapWords, HeapLock>>,
    /// A dead worker's place has the words only.
    ring: Option<Ring<HeapWords>>,
    ring_words: HeapWords,
    truth: Mutex<Truth>,
    deaths: Mutex<Vec<Death>>,
}

fn load(words: &[AtomicU64]) -> Vec<u64> {
    words.iter().map(|word| word.load(Ordering::SeqCst)).collect()
}

/// Not used by these limits.
static OPEN: LazyLock<Arc<OpenArea<HeapWords, HeapLock>>> = LazyLock::new(|| {
    let area = HeapWords::zeroed(open::area_words(1));
    open::format(area.words(), [1, 2], TagKey([3, 4])).unwrap();
    Arc::new(OpenArea::new(area, HeapLock::default()).unwrap())
});

impl Watched {
    fn alive() -> Self {
        let mut place = Self::left_by(&[], &[]);
        place.ring_words = HeapWords::zeroed(RING_WORDS);
        place.ring = Ring::new(place.ring_words.clone(), 0);
        place
    }

    fn left_by(counts: &[u64], ring: &[u64]) -> Self {
        let (columns, ring_words) = (HeapWords::zeroed(COLUMNS), HeapWords::zeroed(COPIED));
        for (words, values) in [(&columns, counts), (&ring_words, ring)] {
            for (word, &value) in words.words().iter().zip(values) {
                word.store(value, Ordering::SeqCst);
            }
        }
        Self {
            columns,
            open: Arc::clone(&OPEN),
            ring: None,
            ring_words,
            truth: Mutex::default(),
            deaths: Mutex::default(),
        }
    }

    fn copy(&self) {
        let (counts, ring) = (load(self.columns.words()), load(&self.ring_words.words()[..COPIED]));
        let truth = *self.truth.lock().unwrap();
        self.deaths.lock().unwrap().push(Death { counts, ring, truth });
    }

    fn now_true(&self, change: impl FnOnce(&mut Truth)) {
        change(&mut self.truth.lock().unwrap());
        self.copy();
    }
}

impl Cells for Watched {
    type Words = HeapWords;
    type Lock = HeapLock;
    fn dense(&self, column: u32, _: u32) -> Option<&AtomicU64> {
        self.copy();
        self.columns.words().get(column as usize)
    }
    fn row(&self, column: u32, row: u32) -> Option<&[AtomicU64]> {
        self.dense(column, row).map(std::slice::from_ref)
    }
    fn column(&self, _: u32) -> &[AtomicU64] {
        &[]
    }
    fn open(&self) -> &OpenArea<HeapWords, HeapLock> {
        &self.open
    }
}

no_rows!(Watched);

impl CounterSpace for Watched {
    fn ring(&self) -> &Ring<HeapWords> {
        self.copy();
        self.ring.as_ref().unwrap()
    }

    fn held(&self, cell: CellRef, window: u64) -> u64 {
        journal::held(self.ring().words(), cell, window)
    }
}

fn window(requests: u32, per: Period) -> Limit {
    Limit::build("window", &serde_json::json!({"requests": requests, "per": per.to_string()})).unwrap()
}

fn checks(limits: [u32; COLUMNS]) -> [Check; COLUMNS] {
    let check = |n: usize, period| {
        let column = u32::try_from(n).unwrap();
        Check::new(window(limits[n], period), CellKey::Dense { column, row: 0 })
    };
    [check(0, Period::Minute), check(1, Period::Day)]
}

fn reclaimed(death: &Death) -> (Watched, Reclaimed) {
    let place = Watched::left_by(&death.counts, &death.ring);
    let found = reclaim(&place.ring_words.words()[..COPIED], &place, true, &mut NoLedger);
    (place, found)
}

fn assert_right(counts: &[u64], truth: &Truth, held_may_stay: bool) {
    for &word in counts {
        let count = counter::unpack(word).count;
        let least = truth.settled + truth.sent;
        let most = least + truth.unsure + if held_may_stay { truth.held } else { 0 };
        assert!((least..=most).contains(&count), "{count} is not in {least}..={most}");
    }
}

fn die_everywhere(deaths: &[Death]) {
    for death in deaths {
        assert_right(&death.counts, &death.truth, true);
        let (place, found) = reclaimed(death);
        assert_right(&load(place.columns.words()), &death.truth, false);
        assert!(found.given_back >= death.truth.held as usize && found.given_back <= found.open);
        assert_eq!(reclaim(&place.ring_words.words()[..COPIED], &place, true, &mut NoLedger), Reclaimed::default());
        // The reclaimer dies at each of its steps, and the next one finishes: the permit in work stays counted.
        for second in place.deaths.lock().unwrap().iter() {
            let (after, _) = reclaimed(second);
            assert_right(&load(after.columns.words()), &death.truth, true);
        }
        // After a power loss nothing is given back.
        let unpowered = Watched::left_by(&death.counts, &death.ring);
        let found = reclaim(&unpowered.ring_words.words()[..COPIED], &unpowered, false, &mut NoLedger);
        assert_eq!((found.given_back, load(unpowered.columns.words())), (0, death.counts.clone()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_death_costs_at_most_the_calls_in_flight(
        limits in prop::array::uniform2(1..6_u32),
        steps in prop::collection::vec((0..6_u8, any::<usize>()), 1..25),
    ) {
        let place = Arc::new(Watched::alive());
        let admitter = Admitter::new(Arc::clone(&place));
        let mut checks = checks(limits);
        let (mut held, mut sent): (Vec<Permit<Watched>>, Vec<Permit<Watched>>) = Default::default();
        for (what, which) in steps {
            match what {
                0 | 1 => {
                    place.now_true(|truth| truth.unsure += 1);
                    let permit = admitter.take(&mut checks, &Demand::default(), NOW, RequestId([1, 2]));
                    place.now_true(|truth| { truth.unsure -= 1; truth.held += u32::from(permit.is_ok()); });
                    held.extend(permit);
                }
                2 if !held.is_empty() => {
                    let mut permit = held.swap_remove(which % held.len());
                    place.now_true(|truth| { truth.held -= 1; truth.unsure += 1; });
                    permit.mark_sent(&DRAFT);
                    place.now_true(|truth| { truth.unsure -= 1; truth.sent += 1; });
                    sent.push(permit);
                }
                3 if !sent.is_empty() => {
                    // Settling does not change the amounts that must stay counted.
                    sent.swap_remove(which % sent.len()).settle(&Usage::ANSWERED);
                    place.now_true(|truth| { truth.sent -= 1; truth.settled += 1; });
                }
                4 if !(held.is_empty() && sent.is_empty()) => {
                    let from_sent = held.is_empty();
                    let permits = if from_sent { &mut sent } else { &mut held };
                    let permit = permits.swap_remove(which % permits.len());
                    place.now_true(|truth| {
                        *(if from_sent { &mut truth.sent } else { &mut truth.held }) -= 1;
                        truth.unsure += 1;
                    });
                    drop(permit);
                    place.now_true(|truth| truth.unsure -= 1);
                }
                5 if !(held.is_empty() && sent.is_empty()) => {
                    // A correction gives the unused rest back, whether the call was sent or not.
                    let from_sent = held.is_empty();
                    let permits = if from_sent { &mut sent } else { &mut held };
                    let permit = permits.swap_remove(which % permits.len());
                    place.now_true(|truth| {
                        *(if from_sent { &mut truth.sent } else { &mut truth.held }) -= 1;
                        truth.unsure += 1;
                    });
                    permit.settle(&Usage { requests: 0, ..Usage::ANSWERED });
                    place.now_true(|truth| truth.unsure -= 1);
                }
                _ => {}
            }
        }
        let deaths = std::mem::take(&mut *place.deaths.lock().unwrap());
        die_everywhere(&deaths);
    }
}

/// Readers know by the number of uses that an entry has changed hands while they read it.
#[test]
fn state_word_counts_the_uses_of_its_entry() {
    let space = Arc::new(HeapSpace::new(&[(1, 4)], 8).unwrap());
    let admitter = Admitter::new(Arc::clone(&space));
    let mut checks = [Check::new(window(100, Period::Minute), CellKey::Dense { column: 1, row: 2 })];
    let word = || space.ring().words()[0].load(Ordering::SeqCst);
    let mut permit = || admitter.take(&mut checks, &Demand::default(), NOW, RequestId([1, 2])).unwrap();
    for uses in 1..=5 {
        let held = permit();
        assert_eq!(word(), uses << 8 | State::Held as u64);
        drop(held);
        assert_eq!(word(), uses << 8);
    }
    std::mem::forget(permit());
    let entry = journal::entries(space.ring().words()).next().unwrap();
    for state in [State::Free, State::Intent, State::Held, State::Sent, State::Giving] {
        entry.step(state);
        assert_eq!((entry.state(), word()), (state, 6 << 8 | state as u64));
    }
    assert_eq!(reclaim(space.ring().words(), &*space, true, &mut NoLedger).open, 1);
    assert_eq!(word(), 6 << 8, "a reclaim keeps the number");
}

#[test]
fn journal_sums_what_open_permits_hold_in_one_window_of_one_counter() {
    let space = Arc::new(HeapSpace::new(&[(1, 4)], 8).unwrap());
    let admitter = Admitter::new(Arc::clone(&space));
    let take = |row, at| {
        let mut checks = [Check::new(window(1_000, Period::Minute), CellKey::Dense { column: 1, row })];
        admitter.take(&mut checks, &Demand::default(), UnixSeconds(at), RequestId([1, 2])).unwrap()
    };
    let cell = |row| CellRef { kind: 1, open: false, column: 1, row };
    let (first, second) = (NOW.0 + 40, NOW.0 + 100);
    let held = |row, end: u32| journal::held(space.ring().words(), cell(row), end.into());
    let mut early: Vec<_> = (0..80).map(|_| take(1, NOW.0)).collect();
    let _late: Vec<_> = (0..120).map(|_| take(1, second - 1)).collect();
    let _other = take(2, NOW.0);
    assert_eq!((held(1, first), held(1, second), held(2, first), held(3, first)), (80, 120, 1, 0));
    early.truncate(3);
    assert_eq!((held(1, first), held(1, second)), (3, 120), "ended permits hold nothing, and end no search");
    // Threads that begin at once may use a later entry first.
    let entry = |n: usize| &space.ring().words()[n * ENTRY_WORDS..(n + 1) * ENTRY_WORDS];
    for (unused, wanted) in [(1, 1), (63, 1), (64, 1), (65, 0)] {
        let ring = HeapWords::zeroed((unused + 1) * ENTRY_WORDS);
        for (to, from) in ring.words()[unused * ENTRY_WORDS..].iter().zip(entry(0)) {
            to.store(from.load(Ordering::SeqCst), Ordering::SeqCst);
        }
        assert_eq!(journal::held(ring.words(), cell(1), first.into()), wanted, "after {unused} unused entries");
    }
}
