//! What an answer says of the limits it was checked against: Kong's headers.
//!
//! In: checks as `peek` or `take` left them, and which of them refused. Out: header names and values. Kong shows what
//! remains after this call; a refused call is not counted against the limits that did not refuse it. Source: the
//! `rate-limiting` plugin (`handler.lua`), except that windows are calendar ones to the end, so a month's reset is true.

use std::borrow::Cow;

use super::Period;
use crate::admit::Check;
use crate::units::UnixSeconds;

/// A response header: lower-case name, value.
pub type Header = (&'static str, Cow<'static, str>);

/// The headers for `checks` at `now`; `refused` is the check that refused (the exhausted one that resets last).
pub fn rate_limit(checks: &[Check], now: UnixSeconds, refused: Option<usize>, out: &mut Vec<Header>) {
    let mut least: Option<(u32, &Check)> = None;
    for check in checks {
        let left = check.limit.saturating_sub(check.used);
        let counted = refused.is_none() || check.exhausted();
        let remaining = if counted { left.saturating_sub(1) } else { left };
        if let Some((limit, remains)) = names(check.period) {
            out.push((limit, check.limit.to_string().into()));
            out.push((remains, remaining.to_string().into()));
        }
        let tighter = least.is_none_or(|(other, widest)| {
            remaining < other || (remaining == other && check.window.end > widest.window.end)
        });
        if tighter {
            least = Some((remaining, check));
        }
    }
    let Some((remaining, check)) = least else { return };
    let reset = check.resets_in(now).max(1).to_string();
    out.push(("ratelimit-limit", check.limit.to_string().into()));
    out.push(("ratelimit-remaining", remaining.to_string().into()));
    out.push(("ratelimit-reset", reset.into()));
    if let Some(check) = refused.and_then(|index| checks.get(index)) {
        out.push(("retry-after", check.resets_in(now).max(1).to_string().into()));
        out.push(("x-aigw-limit", format!("{} requests per {}", check.limit, check.period).into()));
        out.push(("x-aigw-reset", check.window.end.to_string().into()));
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
        Period::Every(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cells::CellKey;

    fn check(limit: u32, used: u32, period: Period, now: UnixSeconds) -> Check {
        let mut check = Check::new(limit, period, CellKey::Dense { column: 1, row: 1 });
        check.used = used;
        check.window = period.window(now);
        check
    }

    fn value<'a>(headers: &'a [Header], name: &str) -> Option<&'a str> {
        headers.iter().find(|(own, _)| *own == name).map(|(_, value)| &**value)
    }

    #[test]
    fn an_admitted_call_is_counted_in_what_remains() {
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
        assert_eq!(value(&headers, "retry-after"), Some("30"));
    }

    #[test]
    fn of_two_exhausted_limits_the_one_that_resets_last_is_named() {
        let now = UnixSeconds(90);
        let mut headers = Vec::new();
        rate_limit(&[check(5, 5, Period::Minute, now), check(5, 5, Period::Hour, now)], now, Some(1), &mut headers);
        assert_eq!(value(&headers, "retry-after"), Some("3510"));
        assert_eq!(value(&headers, "ratelimit-reset"), Some("3510"));
        assert_eq!(value(&headers, "x-aigw-limit"), Some("5 requests per hour"));
    }
}
