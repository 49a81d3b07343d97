//! Periods against a calendar counted day by day, and the window word against a model: never above the limit,
//! refunds can be taken again, the reset is exact, and no window ever moves backwards.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aigw_core::cells::counter::{self, Take};
use aigw_core::clock::{Clock, FakeClock};
use aigw_core::limits::{Period, Window};
use aigw_core::units::UnixSeconds;
use proptest::prelude::*;

const DAY: u64 = 86_400;

fn leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

/// First days of all months from 1970 to 2105, by counting.
fn months() -> Vec<(u64, u64, u64)> {
    let mut day = 0;
    let mut months = Vec::new();
    for year in 1970..=2105 {
        for month in 1..=12 {
            months.push((day, year, month));
            day += match month {
                2 if leap(year) => 29,
                2 => 28,
                4 | 6 | 9 | 11 => 30,
                _ => 31,
            };
        }
    }
    months
}

fn period() -> impl Strategy<Value = Period> {
    prop_oneof![
        Just(Period::Second),
        Just(Period::Minute),
        Just(Period::Hour),
        Just(Period::Day),
        Just(Period::Month),
        Just(Period::Year),
        // As long as a file may say: the end of a longer one may be behind the last second that there is a number for.
        prop_oneof![
            (1..10_000_u32, "[smh]").prop_map(|(n, unit)| format!("{n}{unit}")),
            (1..=366_u32).prop_map(|n| format!("{n}d")),
        ]
        .prop_map(|text| text.parse().unwrap()),
    ]
}

/// The window of the last moment is kept: a clock that goes back, or jumps, finds its own.
#[test]
fn a_clock_set_back_finds_the_month_and_the_year_of_its_time() {
    let firsts: Vec<_> = months().iter().map(|(first, ..)| UnixSeconds::saturating(first * DAY)).collect();
    for pair in firsts.windows(2).rev() {
        assert_eq!(Period::Month.window(UnixSeconds(pair[1].0 - 1)), Window { start: pair[0], end: pair[1] });
        let (whole, leap) = (Period::Year.window(pair[0]), Period::Year.window(UnixSeconds(2_000 * 86_400)));
        assert!(whole.start <= pair[0] && pair[0] < whole.end);
        assert_eq!((leap.start.0 / 86_400, leap.end.0 / 86_400), (1_826, 2_191), "1975");
    }
}

#[test]
fn months_and_years_are_those_of_the_calendar() {
    let months = months();
    for pair in months.windows(2) {
        let [(first, year, month), (next, next_year, _)] = pair else { unreachable!() };
        let (start, end) = (UnixSeconds::saturating(first * DAY), UnixSeconds::saturating(next * DAY));
        for now in [start, UnixSeconds(start.0 + 1), UnixSeconds(end.0 - 1)] {
            assert_eq!(Period::Month.window(now), Window { start, end }, "{year}-{month}");
        }
        if year != next_year {
            let january = months.iter().find(|(_, y, _)| y == year).unwrap().0;
            let start = UnixSeconds::saturating(january * DAY);
            assert_eq!(Period::Year.window(UnixSeconds(end.0 - 1)), Window { start, end }, "{year}");
        }
    }
}

#[test]
fn known_moments() {
    // 2024-02-29 12:34:56 UTC: a leap day.
    let now = UnixSeconds(1_709_210_096);
    let window = |period: &str| {
        let Window { start, end } = period.parse::<Period>().unwrap().window(now);
        (start.0, end.0)
    };
    assert_eq!(window("second"), (1_709_210_096, 1_709_210_097));
    assert_eq!(window("minute"), (1_709_210_040, 1_709_210_100));
    assert_eq!(window("hour"), (1_709_208_000, 1_709_211_600));
    assert_eq!(window("day"), (1_709_164_800, 1_709_251_200));
    assert_eq!(window("month"), (1_706_745_600, 1_709_251_200));
    assert_eq!(window("year"), (1_704_067_200, 1_735_689_600));
    assert_eq!(window("90s"), (1_709_210_070, 1_709_210_160));
}

#[test]
fn duration_prints_with_its_own_unit() {
    for (text, seconds) in [
        ("90s", 90),
        ("120s", 120),
        ("61m", 3_660),
        ("172800s", 172_800),
        ("48h", 172_800),
        ("2d", 172_800),
        ("5h", 18_000),
    ] {
        let period: Period = text.parse().unwrap();
        let Window { start, end } = period.window(UnixSeconds(1_709_210_096));
        assert_eq!((end.0 - start.0, start.0 % seconds), (seconds, 0));
        assert_eq!(period.to_string(), text);
    }
}

#[test]
fn period_refuses_other_words_and_names_the_valid_ones() {
    for text in [
        "",
        "s",
        "0s",
        "-1s",
        "+1s",
        "1.5s",
        "h",
        "0h",
        "5w",
        "0d",
        "h5",
        "Minute",
        "minutes",
        "4294967296s",
        "1193047h",
        "49711d",
        " 90s",
    ] {
        let error = text.parse::<Period>().unwrap_err().to_string();
        assert!(error.contains(&format!("{text:?}")) && error.contains("\"90s\""), "{error}");
    }
}

#[test]
fn a_count_at_the_top_is_full_and_does_not_wrap() {
    let word = AtomicU64::new(0);
    let window = Period::Minute.window(UnixSeconds(600));
    assert!(matches!(counter::take(&word, window, u32::MAX.into(), u32::MAX), Take::Took(_)));
    for amount in [1, 7, u32::MAX.into(), u64::MAX] {
        assert!(
            matches!(counter::take(&word, window, amount, u32::MAX), Take::Full(before) if before.count == u32::MAX)
        );
    }
    assert_eq!(counter::unpack(word.load(Ordering::SeqCst)).end, window.end);
}

#[test]
fn racing_threads_take_the_limit_and_not_one_more() {
    let word = AtomicU64::new(0);
    let window = Period::Day.window(UnixSeconds(1_000));
    let took = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..20_000 {
                    if matches!(counter::take(&word, window, 1, 30_000), Take::Took(_)) {
                        took.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(took.into_inner(), 30_000);
}

#[derive(Clone, Debug)]
enum Step {
    Take(u32),
    GiveBack(usize),
    Pass(u32),
    SetClock(i32),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..4_u32).prop_map(Step::Take),
        2 => any::<usize>().prop_map(Step::GiveBack),
        1 => (1..100_u32).prop_map(Step::Pass),
        1 => (-300..300_i32).prop_map(Step::SetClock),
    ]
}

proptest! {
    #[test]
    fn every_moment_is_in_exactly_one_window(period in period(), now in 0..4_102_444_800_u32) {
        let window = period.window(UnixSeconds(now));
        prop_assert!(window.start.0 <= now && now < window.end.0);
        prop_assert_eq!(period.window(window.start), window);
        prop_assert_eq!(period.window(UnixSeconds(window.end.0 - 1)), window);
        prop_assert_eq!(period.window(window.end).start, window.end);
    }

    #[test]
    fn a_period_reads_back_as_it_is_written(period in period()) {
        prop_assert_eq!(period.to_string().parse::<Period>(), Ok(period));
    }

    #[test]
    fn the_word_follows_its_model(
        period in period().prop_filter("short enough to end", |p| !matches!(p, Period::Month | Period::Year)),
        limit in 0..12_u32,
        steps in prop::collection::vec(step(), 1..200),
    ) {
        let clock = FakeClock::at(UnixSeconds(1_700_000_000));
        let word = AtomicU64::new(0);
        let mut counts: BTreeMap<UnixSeconds, u32> = BTreeMap::new();
        let mut outstanding: Vec<(UnixSeconds, u32)> = Vec::new();
        let mut latest = UnixSeconds(0);
        for step in steps {
            let own = period.window(clock.now());
            match step {
                Step::Pass(seconds) => clock.advance(Duration::from_secs(seconds.into())),
                Step::SetClock(by) => clock.step_to(UnixSeconds(clock.now().0.saturating_add_signed(by))),
                Step::GiveBack(which) if !outstanding.is_empty() => {
                    let (end, amount) = outstanding.swap_remove(which % outstanding.len());
                    let counts_still = counter::give_back(&word, end, amount.into());
                    prop_assert_eq!(counts_still, end == latest);
                    *counts.get_mut(&end).unwrap() -= amount;
                }
                Step::GiveBack(_) => {}
                Step::Take(amount) => {
                    // The window of the word if that is later, the caller's own otherwise, and then from zero.
                    let end = own.end.max(latest);
                    let used = counts.get(&end).copied().unwrap_or(0);
                    let seen = counter::look(&word, own).unwrap();
                    prop_assert_eq!((seen.count, seen.end), (used, end));
                    match counter::take(&word, own, amount.into(), limit) {
                        Take::Took(before) => {
                            prop_assert!(used + amount <= limit);
                            prop_assert_eq!((before.count, before.end), (used, end));
                            latest = end;
                            *counts.entry(end).or_default() += amount;
                            outstanding.push((end, amount));
                        }
                        Take::Full(before) => {
                            prop_assert!(used + amount > limit);
                            prop_assert_eq!((before.count, before.end), (used, end));
                        }
                        Take::Moved => prop_assert!(false, "nobody moves this word"),
                    }
                }
            }
            let now = counter::unpack(word.load(Ordering::SeqCst));
            prop_assert_eq!(now.end, latest);
            prop_assert!(now.count <= limit);
            prop_assert_eq!(now.count, counts.get(&latest).copied().unwrap_or(0));
        }
    }
}
