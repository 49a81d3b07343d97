//! What an answer says of the limits it was checked against: Kong's headers, and OpenAI's.
//!
//! In: checks as `peek` or `take` left them, and which of them refused. Out: header names and values. Kong shows what
//! remains after this call; a refused call is not counted against the limits that did not refuse it. Source: the
//! `rate-limiting` plugin (`handler.lua`), except that windows are calendar ones to the end, so a month's reset is true.

use std::borrow::Cow;

use super::check::Check;
use crate::limits::{Period, Rate};
use crate::units::Moment;

/// A response header: lower-case name, value.
pub type Header = (&'static str, Cow<'static, str>);

/// A longer wait than this is none that a client's own retry should sit out.
const RETRY_WITHIN_S: u32 = 60;
/// What says so to OpenAI's clients, on routes as on `/v1`.
const HOPELESS: Header = ("x-should-retry", Cow::Borrowed("false"));

/// Kong's headers for `checks` at `now`; `refused` is the check that refused (the exhausted one that resets last). Of
/// several limits with one period the tighter is shown.
pub fn rate_limit(checks: &[Check], now: impl Into<Moment>, refused: Option<usize>, out: &mut Vec<Header>) {
    kong(checks, now.into(), refused.is_none(), refused, out);
}

/// Kong's headers of a call whose taking is given back: what remains is as if it had never been asked.
pub fn rate_limit_given_back(checks: &[Check], now: impl Into<Moment>, out: &mut Vec<Header>) {
    kong(checks, now.into(), false, None, out);
}

fn kong(checks: &[Check], now: Moment, counted: bool, refused: Option<usize>, out: &mut Vec<Header>) {
    let shown = || checks.iter().filter(|check| !check.hidden && !check.shadow);
    let remains = |check: &Check| remaining(check, counted);
    for (index, check) in shown().enumerate() {
        let Some((limit, remaining)) = names(check.period) else { continue };
        let left = remains(check);
        let tighter = |(at, other): (usize, &Check)| {
            at != index && other.period == check.period && (remains(other), at) < (left, index)
        };
        if !shown().enumerate().any(tighter) {
            out.push((limit, check.limit.to_string().into()));
            out.push((remaining, left.to_string().into()));
        }
    }
    let Some(check) = least(shown(), counted) else { return };
    out.push(("ratelimit-limit", check.limit.to_string().into()));
    out.push(("ratelimit-remaining", remains(check).to_string().into()));
    out.push(("ratelimit-reset", check.resets_in(now).max(1).to_string().into()));
    if let Some(check) = refused.and_then(|index| checks.get(index)).filter(|check| !check.hidden) {
        let seconds = check.resets_in(now).max(1);
        out.push(("retry-after", seconds.to_string().into()));
        if is_hopeless(check, seconds) {
            out.push(HOPELESS);
        }
        out.push(("x-aigw-limit", check.words().into()));
        out.push(("x-aigw-reset", check.window.end.to_string().into()));
    }
}

/// OpenAI's headers, of the limit with least remaining; with `refused` of the one that refused, and when to come back:
/// `Retry-After`, in milliseconds too where that is soon, `x-should-retry: false` where it is not.
pub fn openai(checks: &[Check], now: impl Into<Moment>, refused: Option<usize>, out: &mut Vec<Header>) {
    models(checks, now.into(), refused.is_none(), refused, out);
}

/// OpenAI's headers of a call whose taking is given back.
pub fn openai_given_back(checks: &[Check], now: impl Into<Moment>, out: &mut Vec<Header>) {
    models(checks, now.into(), false, None, out);
}

fn models(checks: &[Check], now: Moment, counted: bool, refused: Option<usize>, out: &mut Vec<Header>) {
    let enforced = checks.iter().filter(|check| !check.shadow);
    let named = refused.and_then(|index| checks.get(index));
    let Some(check) = named.or_else(|| least(enforced, counted)) else { return };
    let left = remaining(check, counted);
    out.push(("x-ratelimit-limit-requests", check.limit.to_string().into()));
    out.push(("x-ratelimit-remaining-requests", left.to_string().into()));
    // Until it is as if nothing had been asked: this call, where it passed, comes back as well.
    let own = check.rate.filter(|_| counted).map_or(0, Rate::cost);
    out.push(("x-ratelimit-reset-requests", go_duration(check.full_at.since(now) + own).into()));
    if refused.is_some() {
        let seconds = check.resets_in(now).max(1);
        out.push(("retry-after", seconds.to_string().into()));
        if is_hopeless(check, seconds) {
            out.push(HOPELESS);
        } else {
            out.push(("retry-after-ms", check.wait(now).div_ceil(1_000_000).max(1).to_string().into()));
        }
    }
}

/// Whether a client's own retry is in vain: the wait is too long, or nothing ever passes.
fn is_hopeless(check: &Check, seconds: u32) -> bool {
    seconds > RETRY_WITHIN_S || check.limit == 0
}

/// What remains after this call; one that was refused is not `counted` against the limits that did not refuse it.
fn remaining(check: &Check, counted: bool) -> u32 {
    check.limit.saturating_sub(check.used).saturating_sub(u32::from(counted || check.exhausted()))
}

/// The check with least remaining; at a tie the one that resets later.
fn least<'a>(checks: impl Iterator<Item = &'a Check>, counted: bool) -> Option<&'a Check> {
    let mut least: Option<(u32, &Check)> = None;
    for check in checks {
        let left = remaining(check, counted);
        let tighter =
            least.is_none_or(|(other, widest)| left < other || (left == other && check.window.end > widest.window.end));
        if tighter {
            least = Some((left, check));
        }
    }
    least.map(|(_, check)| check)
}

/// A wait as Go prints durations, to the millisecond: `12ms`, `1.5s`, `6m0s`, `23h0m5s`.
fn go_duration(nanos: u64) -> String {
    let millis = nanos.div_ceil(1_000_000);
    let (seconds, rest) = (millis / 1_000, millis % 1_000);
    let (hours, minutes) = (seconds / 3_600, seconds / 60 % 60);
    let fraction = if rest == 0 { String::new() } else { format!(".{rest:03}").trim_end_matches('0').to_owned() };
    match (seconds, hours, minutes) {
        (0, ..) => format!("{millis}ms"),
        (_, 0, 0) => format!("{seconds}{fraction}s"),
        (_, 0, _) => format!("{minutes}m{}{fraction}s", seconds % 60),
        _ => format!("{hours}h{minutes}m{}{fraction}s", seconds % 60),
    }
}

/// The two header names of a Kong period; a duration has none.
fn names(period: Period) -> Option<(&'static str, &'static str)> {
    Some(match period {
        Period::Second => ("x-ratelimit-limit-second", "x-ratelimit-remaining-second"),
        Period::Minute => ("x-ratelimit-limit-minute", "x-ratelimit-remaining-minute"),
        Period::Hour => ("x-ratelimit-limit-hour", "x-ratelimit-remaining-hour"),
        Period::Day => ("x-ratelimit-limit-day", "x-ratelimit-remaining-day"),
        Period::Month => ("x-ratelimit-limit-month", "x-ratelimit-remaining-month"),
        Period::Year => ("x-ratelimit-limit-year", "x-ratelimit-remaining-year"),
        Period::Every(..) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CellKey;
    use crate::units::UnixSeconds;

    fn check(limit: u32, used: u32, period: Period, now: UnixSeconds) -> Check {
        let mut check = Check::new(limit, period, CellKey::Dense { column: 1, row: 1 });
        check.used = used;
        check.window = period.window(now);
        check.free_at = check.window.end.into();
        check.full_at = check.free_at;
        check
    }

    fn value<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
        headers.iter().find(|(own, _)| *own == name).map(|(_, value)| &**value)
    }

    #[test]
    fn remaining_counts_the_admitted_call() {
        let now = UnixSeconds(90);
        let mut headers = Vec::new();
        rate_limit(&[check(5, 2, Period::Minute, now), check(100, 2, Period::Hour, now)], now, None, &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-remaining-minute"), Some("2"));
        assert_eq!(value(&headers, "x-ratelimit-remaining-hour"), Some("97"));
        assert_eq!(value(&headers, "ratelimit-limit"), Some("5"));
        assert_eq!(value(&headers, "ratelimit-reset"), Some("30"));
        assert_eq!(value(&headers, "retry-after"), None);
    }

    #[test]
    fn a_refused_call_counts_only_where_it_was_refused() {
        let now = UnixSeconds(90);
        let mut headers = Vec::new();
        rate_limit(&[check(5, 5, Period::Minute, now), check(100, 5, Period::Hour, now)], now, Some(0), &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-remaining-minute"), Some("0"));
        assert_eq!(value(&headers, "x-ratelimit-remaining-hour"), Some("95"));
        assert_eq!((value(&headers, "retry-after"), value(&headers, "x-should-retry")), (Some("30"), None));
    }

    #[test]
    fn of_two_exhausted_limits_the_one_that_resets_last_is_named() {
        let now = UnixSeconds(90);
        let mut headers = Vec::new();
        rate_limit(&[check(5, 5, Period::Minute, now), check(5, 5, Period::Hour, now)], now, Some(1), &mut headers);
        assert_eq!((value(&headers, "retry-after"), value(&headers, "x-should-retry")), (Some("3510"), Some("false")));
        assert_eq!(value(&headers, "ratelimit-reset"), Some("3510"));
        assert_eq!(value(&headers, "x-aigw-limit"), Some("5 requests per hour"));
    }

    #[test]
    fn of_two_limits_with_one_period_the_tighter_is_shown_and_shadows_are_not() {
        let now = UnixSeconds(90);
        let mut shadow = check(1, 1, Period::Hour, now);
        shadow.shadow = true;
        let checks = [check(9, 2, Period::Day, now), check(5, 2, Period::Day, now), shadow];
        let mut headers = Vec::new();
        rate_limit(&checks, now, None, &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-limit-day"), Some("5"));
        assert_eq!(headers.iter().filter(|(name, _)| *name == "x-ratelimit-remaining-day").count(), 1);
        assert_eq!(value(&headers, "x-ratelimit-limit-hour"), None);
        headers.clear();
        openai(&checks, now, None, &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-limit-requests"), Some("5"));
        assert_eq!(value(&headers, "x-ratelimit-remaining-requests"), Some("2"));
        assert_eq!(value(&headers, "x-ratelimit-reset-requests"), Some("23h58m30s"));
    }

    #[test]
    fn a_burst_is_worth_a_retry_and_a_day_is_not() {
        let now = Moment(90_000_000_000);
        let rate = Rate::new(5, 1, 10).unwrap_or_else(|| unreachable!());
        let mut burst = Check::bucket(rate, Period::Second, CellKey::Dense { column: 1, row: 1 });
        (burst.used, burst.free_at) = (10, Moment(now.0 + 150_000_001));
        burst.full_at = Moment(now.0 + 1_950_000_000);
        let mut headers = Vec::new();
        openai(&[burst], now, Some(0), &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-limit-requests"), Some("10"));
        assert_eq!(value(&headers, "x-ratelimit-reset-requests"), Some("1.95s"));
        assert_eq!(value(&headers, "retry-after"), Some("1"));
        assert_eq!(value(&headers, "retry-after-ms"), Some("151"));
        assert_eq!(value(&headers, "x-should-retry"), None);
        headers.clear();
        openai(&[check(100, 100, Period::Day, UnixSeconds(90))], now, Some(0), &mut headers);
        assert_eq!(value(&headers, "retry-after"), Some("86310"));
        assert_eq!(value(&headers, "x-should-retry"), Some("false"));
        assert_eq!(value(&headers, "retry-after-ms"), None);
    }

    #[test]
    fn remaining_rises_after_give_back() {
        let now = UnixSeconds(90);
        let checks = [check(5, 0, Period::Minute, now), check(9, 8, Period::Day, now)];
        let mut headers = Vec::new();
        rate_limit_given_back(&checks, now, &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-remaining-minute"), Some("5"));
        assert_eq!((value(&headers, "ratelimit-remaining"), value(&headers, "retry-after")), (Some("1"), None));
        headers.clear();
        openai_given_back(&checks, now, &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-remaining-requests"), Some("1"));
    }

    #[test]
    fn nobody_is_told_to_come_back_for_nothing() {
        let now = UnixSeconds(90);
        let nothing = [check(0, 0, Period::Second, now)];
        for headers in [rate_limit, openai].map(|make| {
            let mut headers = Vec::new();
            make(&nothing, now, Some(0), &mut headers);
            headers
        }) {
            assert_eq!(value(&headers, "x-should-retry"), Some("false"));
            assert_eq!(value(&headers, "retry-after-ms"), None);
        }
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (millis, wanted) in
            [(0, "0ms"), (12, "12ms"), (1_000, "1s"), (1_500, "1.5s"), (360_000, "6m0s"), (3_600_020, "1h0m0.02s")]
        {
            assert_eq!(go_duration(millis * 1_000_000), wanted);
        }
    }
}
