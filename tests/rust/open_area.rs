//! The hash area against a model, and under threads: no identifier is ever admitted above its limit in a window,
//! whatever is evicted, however full the area is, and however the clock is set.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use aigw_core::cells::counter::{self, Take};
use aigw_core::cells::heap::{HeapLock, HeapWords};
use aigw_core::cells::open::{self, Ask, OpenArea};
use aigw_core::cells::tag::TagKey;
use aigw_core::cells::{CellKey, Words};
use aigw_core::limits::Period;
use aigw_core::units::UnixSeconds;
use proptest::prelude::*;

type Area = OpenArea<HeapWords, HeapLock>;

fn area(buckets: usize) -> (Area, HeapWords) {
    let words = HeapWords::zeroed(open::area_words(buckets));
    open::format(words.words(), [1, 2], TagKey([7, 9])).unwrap();
    (OpenArea::new(words.clone(), HeapLock::default()).unwrap(), words)
}

/// An identifier's take of one; the end of the window it counts in and the index of its word, if admitted.
fn take(
    area: &Area,
    column: u32,
    who: u32,
    period: Period,
    now: UnixSeconds,
    limit: u32,
) -> Option<(UnixSeconds, u32)> {
    let CellKey::Open { column, tag } = area.key(column, &who.to_le_bytes()) else { panic!("an open key") };
    match area.take(Ask { column, tag, period, now }, 1, limit, |_| ()).unwrap() {
        (Take::Took(before), spot) => {
            assert!(before.count < limit);
            Some((before.end, spot.index))
        }
        _ => None,
    }
}

#[test]
fn with_room_every_identifier_has_its_whole_limit() {
    let (area, _) = area(256);
    for round in 0..5 {
        for who in 0..1_000 {
            let admitted = take(&area, 3, who, Period::Minute, UnixSeconds(600), 4).is_some();
            assert_eq!(admitted, round < 4, "identifier {who}, round {round}");
        }
    }
    // A minute later all begin anew, in the same entries.
    assert!((0..1_000).all(|who| take(&area, 3, who, Period::Minute, UnixSeconds(660), 4).is_some()));
}

#[test]
fn entries_whose_window_is_over_serve_others() {
    let (area, _) = area(4);
    for minute in 0..500 {
        let newcomers = minute * 20..minute * 20 + 20;
        let now = UnixSeconds(600 + 60 * minute);
        for who in newcomers {
            assert!(take(&area, 3, who, Period::Minute, now, 1).is_some(), "32 entries hold 20 newcomers a minute");
            assert!(take(&area, 3, who, Period::Minute, now, 1).is_none());
        }
    }
}

#[test]
fn a_full_area_lets_newcomers_share_one_cell() {
    let (area, _) = area(1);
    let now = UnixSeconds(600);
    let admitted = (0..100).filter(|&who| take(&area, 3, who, Period::Minute, now, 5).is_some()).count();
    // Eight have an entry, the other 92 have five requests between them.
    assert_eq!(admitted, 13);
    // Another column has an overflow cell of its own, and the next minute is a new one.
    assert!(take(&area, 4, 1_000, Period::Minute, now, 5).is_some());
    assert!(take(&area, 3, 99, Period::Minute, UnixSeconds(660), 5).is_some());
}

#[test]
fn look_makes_no_entry_and_sees_the_count_of_a_take() {
    let (area, words) = area(1);
    let before: Vec<u64> = words.words().iter().map(|word| word.load(Ordering::SeqCst)).collect();
    let CellKey::Open { column, tag } = area.key(3, b"somebody") else { panic!("an open key") };
    let ask = Ask { column, tag, period: Period::Minute, now: UnixSeconds(600) };
    assert_eq!(area.look(ask).0.count, 0);
    let after: Vec<u64> = words.words().iter().map(|word| word.load(Ordering::SeqCst)).collect();
    assert_eq!(before, after);
    for count in 1..4 {
        area.take(ask, 1, 10, |_| ()).unwrap();
        assert_eq!(area.look(ask).0.count, count);
    }
}

#[test]
fn give_back_of_a_former_owner_leaves_the_new_one_alone() {
    // At the very end of the former owners' window, and later.
    for later in [660, 720] {
        let (area, words) = area(1);
        let held: Vec<_> = (0..8).filter_map(|who| take(&area, 3, who, Period::Minute, UnixSeconds(600), 1)).collect();
        assert_eq!(held.len(), 8);
        for who in 8..16 {
            let (area, tag) = (&area, area.key(3, &[who]));
            let CellKey::Open { column, tag } = tag else { panic!("an open key") };
            // Takes nothing, so that the word is as the hand-over left it.
            let ask = Ask { column, tag, period: Period::Minute, now: UnixSeconds(later) };
            assert!(matches!(area.take(ask, 1, 0, |_| ()).unwrap().0, Take::Full(_)));
        }
        for (end, index) in held {
            assert!(!counter::give_back(&words.words()[index as usize], end, 1));
        }
        // Then the clock is set back to where the former owners were: that window may be gone, it is not used.
        for who in 0..16 {
            let again = take(&area, 3, who, Period::Minute, UnixSeconds(600), 1);
            assert!(again.is_none_or(|(end, _)| end == UnixSeconds(later + 60)));
        }
    }
}

#[test]
fn threads_that_race_for_entries_never_pass_a_limit() {
    const LIMIT: u32 = 3;
    for seed in 0..60 {
        let (area, words) = area(2);
        let clock = AtomicU32::new(6_000 + seed);
        let admitted: Mutex<HashMap<(u32, UnixSeconds), u32>> = Mutex::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u32 {
                let (area, words, clock, admitted) = (&area, &words, &clock, &admitted);
                scope.spawn(move || {
                    let mut mine: HashMap<(u32, UnixSeconds), u32> = HashMap::new();
                    let mut random = u64::from(seed * 4 + thread) + 1;
                    for _ in 0..3_000 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let who = (random >> 33) as u32 % 40;
                        // Some come with a time they read long ago.
                        let late = (random >> 40) as u32 % 4;
                        let now = UnixSeconds(clock.load(Ordering::SeqCst) - late);
                        if let Some((end, index)) = take(area, 3, who, Period::Second, now, LIMIT) {
                            if random >> 60 == 0 {
                                counter::give_back(&words.words()[index as usize], end, 1);
                            } else {
                                *mine.entry((who, end)).or_default() += 1;
                            }
                        }
                        if (random >> 50) % 64 == 0 {
                            clock.fetch_add(1, Ordering::SeqCst);
                        }
                    }
                    let mut all = admitted.lock().unwrap();
                    for (key, count) in mine {
                        *all.entry(key).or_default() += count;
                    }
                });
            }
        });
        let admitted = admitted.into_inner().unwrap();
        assert!(admitted.len() > 100, "the race must be about something");
        for ((who, end), count) in admitted {
            assert!(count <= LIMIT, "seed {seed}: identifier {who} had {count} in the window until {end}");
        }
    }
}

#[test]
fn one_identifier_that_all_threads_insert_at_once_has_one_count() {
    for round in 0..200 {
        let (area, _) = area(2);
        let took = AtomicU32::new(0);
        let start = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    start.wait();
                    for _ in 0..5 {
                        let admitted = take(&area, 3, round, Period::Hour, UnixSeconds(7_200), 7).is_some();
                        took.fetch_add(u32::from(admitted), Ordering::Relaxed);
                    }
                });
            }
        });
        assert_eq!(took.into_inner(), 7);
    }
}

proptest! {
    #[test]
    fn the_area_is_never_loose(
        buckets in prop_oneof![Just(1_usize), Just(2), Just(4)],
        limit in 1..4_u32,
        steps in prop::collection::vec((0..60_u32, 0..3_u32, -90..90_i32, 0..5_u8), 1..400),
    ) {
        let (area, words) = area(buckets);
        let mut now = UnixSeconds(1_000_000);
        let mut admitted: HashMap<(u32, u32, UnixSeconds), u32> = HashMap::new();
        for (who, column, by, what) in steps {
            if what == 0 {
                now = UnixSeconds(now.0.saturating_add_signed(by));
                continue;
            }
            let period = [Period::Second, Period::Minute, "45s".parse().unwrap()][column as usize];
            let Some((end, index)) = take(&area, column, who, period, now, limit) else { continue };
            if what == 1 {
                counter::give_back(&words.words()[index as usize], end, 1);
                continue;
            }
            let count = admitted.entry((column, who, end)).or_default();
            *count += 1;
            prop_assert!(*count <= limit);
            prop_assert!(end > now, "a window that is over is not counted in");
        }
    }
}
