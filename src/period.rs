//! Periods of limits, and the window of a period that a moment lies in.
//!
//! In: a name (`minute`, `90s`, `5h`), printed again with the same unit, or a moment. Out: a window `[start, end)` in UTC. Months and years are calendar ones; a duration of n seconds aligns to `floor(epoch / n) * n`. Every moment
//! lies in exactly one window of a period.

use core::fmt;
use core::num::NonZeroU32;
use core::str::FromStr;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::units::UnixSeconds;

const DAY: u32 = 86_400;

/// A unit of durations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Unit {
    /// `s`.
    Second,
    /// `m`.
    Minute,
    /// `h`.
    Hour,
    /// `d`: 24 hours.
    Day,
}

impl Unit {
    /// Its letter, and its length in seconds.
    const fn letter_and_length(self) -> (char, u32) {
        match self {
            Self::Second => ('s', 1),
            Self::Minute => ('m', 60),
            Self::Hour => ('h', 3_600),
            Self::Day => ('d', DAY),
        }
    }
}

/// The length of time that a limit is defined for. Ordered by length, shortest first, except durations, which come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Period {
    /// One second.
    Second,
    /// 60 seconds, from second 0 of a minute.
    Minute,
    /// From minute 0 of an hour.
    Hour,
    /// From midnight UTC.
    Day,
    /// A calendar month, UTC.
    Month,
    /// A calendar year, UTC.
    Year,
    /// So many seconds, aligned to the epoch, and the unit that the configuration has them in.
    Every(NonZeroU32, Unit),
}

/// One window of a period: from `start`, up to but not including `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Window {
    /// First second of the window.
    pub start: UnixSeconds,
    /// First second after it.
    pub end: UnixSeconds,
}

/// Why a text is not a period.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a period: write second, minute, hour, day, month, year, or a duration as in \"90s\", \"15m\", \"5h\" or \"7d\""
)]
pub struct PeriodError {
    text: String,
}

impl Period {
    /// Its length in seconds; `None` for a month and a year, which differ.
    pub const fn seconds(self) -> Option<u32> {
        Some(match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => DAY,
            Self::Every(seconds, _) => seconds.get(),
            Self::Month | Self::Year => return None,
        })
    }

    /// Whether it is a day or longer.
    pub const fn is_day_or_longer(self) -> bool {
        match self.seconds() {
            Some(seconds) => seconds >= DAY,
            None => true,
        }
    }

    /// The window that `now` lies in.
    #[inline]
    pub fn window(self, now: UnixSeconds) -> Window {
        match self {
            Self::Second => aligned(now, 1),
            Self::Minute => aligned(now, 60),
            Self::Hour => aligned(now, 3_600),
            Self::Day => aligned(now, DAY),
            Self::Every(seconds, _) => aligned(now, seconds.get()),
            Self::Month => MONTH.window(now, month),
            Self::Year => YEAR.window(now, year),
        }
    }
}

fn aligned(now: UnixSeconds, seconds: u32) -> Window {
    let start = now.0 - now.0 % seconds;
    Window { start: UnixSeconds(start), end: UnixSeconds::saturating(u64::from(start) + u64::from(seconds)) }
}

/// The window that a calendar computed last. Most moments lie in it: a load costs 1 ns, the calendar's arithmetic 10 ns.
struct Last(AtomicU64);

static MONTH: Last = Last(AtomicU64::new(0));
static YEAR: Last = Last(AtomicU64::new(0));

impl Last {
    /// One word has both ends of the window, so that no reader meets halves of two.
    #[inline]
    fn window(&self, now: UnixSeconds, compute: fn(UnixSeconds) -> Window) -> Window {
        let word = self.0.load(Ordering::Relaxed);
        let kept = Window { start: UnixSeconds((word >> 32) as u32), end: UnixSeconds((word & 0xffff_ffff) as u32) };
        if kept.start <= now && now < kept.end { kept } else { self.keep(compute(now)) }
    }

    #[cold]
    fn keep(&self, window: Window) -> Window {
        self.0.store(u64::from(window.start.0) << 32 | u64::from(window.end.0), Ordering::Relaxed);
        window
    }
}

fn month(now: UnixSeconds) -> Window {
    let (year, month) = year_and_month(now.0 / DAY);
    let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    days(first_day(year, month), first_day(next_year, next_month))
}

fn year(now: UnixSeconds) -> Window {
    let (year, _) = year_and_month(now.0 / DAY);
    days(first_day(year, 1), first_day(year + 1, 1))
}

fn days(first: u32, next: u32) -> Window {
    let at = |day: u32| UnixSeconds::saturating(u64::from(day) * u64::from(DAY));
    Window { start: at(first), end: at(next) }
}

// The calendar below counts years from 1 March, so that the leap day is a year's last and a month's first day is
// linear in the month. 719_468 is the day number of 1970-01-01 counted from 0000-03-01.

/// Year and month (1..=12) of a day since the epoch.
fn year_and_month(day: u32) -> (u32, u32) {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (era * 400 + year_of_era + u32::from(month <= 2), month)
}

/// Day since the epoch of the first of a month, for years from 1970.
fn first_day(year: u32, month: u32) -> u32 {
    let year = year - u32::from(month <= 2);
    let (era, year_of_era) = (year / 400, year % 400);
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * from_march + 2) / 5;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

impl FromStr for Period {
    type Err = PeriodError;

    /// `second` ... `year`, or `<n>s`, `<n>m`, `<n>h`, `<n>d` with n from 1.
    fn from_str(text: &str) -> Result<Self, PeriodError> {
        let duration = || {
            let units = [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day];
            let (digits, unit) =
                units.into_iter().find_map(|unit| Some((text.strip_suffix(unit.letter_and_length().0)?, unit)))?;
            let count: u32 = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())??;
            Some(Self::Every(NonZeroU32::new(count.checked_mul(unit.letter_and_length().1)?)?, unit))
        };
        match text {
            "second" => Ok(Self::Second),
            "minute" => Ok(Self::Minute),
            "hour" => Ok(Self::Hour),
            "day" => Ok(Self::Day),
            "month" => Ok(Self::Month),
            "year" => Ok(Self::Year),
            _ => duration().ok_or_else(|| PeriodError { text: text.to_owned() }),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Month => "month",
            Self::Year => "year",
            Self::Every(seconds, unit) => {
                let (letter, length) = unit.letter_and_length();
                return write!(f, "{}{letter}", seconds.get() / length);
            }
        })
    }
}
