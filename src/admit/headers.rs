//! Headers about the limits that a request was checked against: Kong's, and OpenAI's.
//!
//! In: checks as `peek` or `take` left them, and the index of the one that refused. Out: header names and values, from
//! the facts of each limit. Kong shows the amount that remains after this call; a refused call is not counted against the
//! limits that did not refuse it. Source: the `rate-limiting` plugin (`handler.lua`), except that windows follow the
//! calendar to their end, so a month's reset is true.

use std::borrow::Cow;

use super::check::Check;
use super::needs::{SPEND, is_spent_for_long};
use super::wait::{self, Refused};
use crate::limits::{Amounts, Demand, Period};
use crate::price::dollars;
use crate::units::{Moment, RequestId};

/// A response header: lower-case name, value.
pub type Header = (&'static str, Cow<'static, str>);

/// Clients are asked not to retry when the wait is longer than this: their users prefer the error.
const RETRY_WITHIN_S: u32 = 60;
/// The header that OpenAI's clients obey, on Kong's routes and on `/v1`.
const DO_NOT_RETRY: Header = ("x-should-retry", Cow::Borrowed("false"));
/// USD that remain, on `/v1`.
const REMAINING_SPEND: &str = "x-aigw-remaining-spend";
/// The meter that Kong's headers are about.
const KONGS_METER: &str = "requests";

/// Kong's headers for `checks` at `now`; `refused` names the check that refused. Among limits with one period
/// the tightest is shown.
pub fn rate_limit(checks: &[Check], now: impl Into<Moment>, refused: Option<Refused>, out: &mut Vec<Header>) {
    kong(checks, now.into(), refused.is_none(), refused, out);
}

/// Kong's headers of a call whose amounts are given back: the amount that remains is the one before the call.
pub fn rate_limit_given_back(checks: &[Check], now: impl Into<Moment>, out: &mut Vec<Header>) {
    kong(checks, now.into(), false, None, out);
}

fn kong(checks: &[Check], now: Moment, counted: bool, refused: Option<Refused>, out: &mut Vec<Header>) {
    let visible = |check: &&Check| !check.hidden && !check.shadow && check.facts().meter == KONGS_METER;
    let shown = || checks.iter().filter(visible);
    let remains = |check: &Check| remaining(check, counted);
    for (index, check) in shown().enumerate() {
        let Some((limit, remaining)) = check.facts().per.and_then(names) else { continue };
        let left = remains(check);
        let tighter = |(at, other): (usize, &Check)| {
            at != index && other.facts().per == check.facts().per && (remains(other), at) < (left, index)
        };
        if !shown().enumerate().any(tighter) {
            out.push((limit, check.facts().limit.to_string().into()));
            out.push((remaining, left.to_string().into()));
        }
    }
    if let Some(check) = least(shown(), counted) {
        out.push(("ratelimit-limit", check.facts().limit.to_string().into()));
        out.push(("ratelimit-remaining", remains(check).to_string().into()));
        out.push(("ratelimit-reset", check.resets_in(now).max(1).to_string().into()));
    }
    if let Some((check, id)) = named(checks, refused).filter(|(check, _)| !check.hidden) {
        // Kong knows no bursts, and clients of its windows no milliseconds.
        if !retry(check, now, id, out) && check.facts().refill > 0 {
            out.push(("retry-after-ms", wait::spread_ms(check, now, id).to_string().into()));
        }
        if check.never_passes() {
            out.push(DO_NOT_RETRY);
        }
        out.push(("x-aigw-limit", check.limit.describe().into()));
        out.push(("x-aigw-reset", check.resets_at().to_string().into()));
    }
}

/// OpenAI's headers, for each meter those of the limit with least remaining. With `refused` they are about the limit that
/// refused, and name the time to come back: `Retry-After`, also in milliseconds where that is soon, `x-should-retry: false`
/// where it is not.
pub fn openai(checks: &[Check], now: impl Into<Moment>, refused: Option<Refused>, out: &mut Vec<Header>) {
    models(checks, now.into(), refused.is_none(), refused, out);
}

/// Replaces the headers of budgets by those of a call that has used these amounts.
pub fn openai_settled(checks: &mut [Check], used: &Amounts, now: impl Into<Moment>, out: &mut Vec<Header>) {
    let demand = Demand { bound: *used, ..Demand::default() };
    for check in checks.iter_mut().filter(|check| check.facts().sized) {
        check.amount = check.limit.amount(&demand);
    }
    let mut all = Vec::with_capacity(8);
    openai(checks, now, None, &mut all);
    for (name, value) in all.into_iter().filter(|(name, _)| name.ends_with("-tokens") || *name == REMAINING_SPEND) {
        if let Some(header) = out.iter_mut().find(|(own, _)| *own == name) {
            header.1 = value;
        }
    }
}

/// OpenAI's headers of a call whose amounts are given back.
pub fn openai_given_back(checks: &[Check], now: impl Into<Moment>, out: &mut Vec<Header>) {
    models(checks, now.into(), false, None, out);
}

fn models(checks: &[Check], now: Moment, counted: bool, refused: Option<Refused>, out: &mut Vec<Header>) {
    let refused = named(checks, refused);
    let named = refused.map(|(check, _)| check);
    let enforced = || checks.iter().filter(|check| !check.shadow);
    for (at, names) in enforced().map(|check| check.facts().headers).enumerate() {
        let Some([limit, remains, reset]) = names else { continue };
        if enforced().take(at).any(|check| check.facts().headers == names) {
            continue;
        }
        let of_meter = || enforced().filter(|check| check.facts().headers == names);
        let named = named.filter(|check| check.facts().headers == names);
        let Some(check) = named.or_else(|| least(of_meter(), counted)) else { continue };
        let facts = check.facts();
        out.push((limit, facts.limit.to_string().into()));
        out.push((remains, remaining(check, counted).to_string().into()));
        // The time until the counter would be unused: the own amount of an admitted call comes back as well.
        let own = if counted { facts.refill.saturating_mul(check.amount) } else { 0 };
        out.push((reset, go_duration(check.state.full_at.since(now).saturating_add(own)).into()));
    }
    if let Some(check) = least(enforced().filter(|check| check.facts().meter == SPEND), counted) {
        out.push((REMAINING_SPEND, dollars(remaining(check, counted)).into()));
    }
    let waiting = refused.filter(|(check, _)| !check.never_passes());
    if let Some((check, id)) = waiting.filter(|(check, id)| !retry(check, now, *id, out)) {
        out.push(("retry-after-ms", wait::spread_ms(check, now, id).to_string().into()));
    }
}

fn named(checks: &[Check], refused: Option<Refused>) -> Option<(&Check, RequestId)> {
    let Refused { index, id } = refused?;
    Some((checks.get(index)?, id))
}

/// The time to come back. Returns whether a client's own retry is in vain: the wait is too long, or nothing ever passes.
/// An amount that never passes has no such time. The seconds of a window are exact, those of a bucket spread as its milliseconds
/// are.
fn retry(check: &Check, now: Moment, id: RequestId, out: &mut Vec<Header>) -> bool {
    if check.never_passes() {
        return true;
    }
    let seconds = check.resets_in(now).max(1);
    let spread = if check.facts().refill > 0 { wait::spread_ms(check, now, id).div_ceil(1_000) } else { 0 };
    out.push(("retry-after", spread.max(u64::from(seconds)).to_string().into()));
    let vain =
        seconds > RETRY_WITHIN_S || check.facts().limit == 0 || !check.is_held() && is_spent_for_long(&check.facts());
    if vain {
        out.push(DO_NOT_RETRY);
    }
    vain
}

/// The amount that remains after this call; a refused call is not `counted` against the limits that did not refuse it.
fn remaining(check: &Check, counted: bool) -> u64 {
    let own = if counted { check.amount } else { 0 };
    check.left().saturating_sub(own)
}

/// The check with least remaining; at a tie the one that resets later.
fn least<'a>(checks: impl Iterator<Item = &'a Check>, counted: bool) -> Option<&'a Check> {
    let mut least: Option<(u64, &Check)> = None;
    for check in checks {
        let left = remaining(check, counted);
        let tighter = least
            .is_none_or(|(other, widest)| left < other || (left == other && check.resets_at() > widest.resets_at()));
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
    let mut text = String::with_capacity(24);
    let mut number = itoa::Buffer::new();
    let mut put = |value: u64, unit: &str| {
        text.push_str(number.format(value));
        text.push_str(unit);
    };
    if seconds == 0 {
        put(millis, "ms");
        return text;
    }
    if hours > 0 {
        put(hours, "h");
    }
    if seconds >= 60 {
        put(minutes, "m");
    }
    put(seconds % 60, "");
    if rest > 0 {
        text.push('.');
        // The digit in front keeps the zeros behind it.
        text.push_str(number.format(1_000 + rest).get(1..).unwrap_or_default().trim_end_matches('0'));
    }
    text.push('s');
    text
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
    use crate::limits::Limit;
    use crate::units::UnixSeconds;
    use serde_json::json;

    fn first() -> Refused {
        Refused { index: 0, id: RequestId([1, 2]) }
    }

    fn limit(kind: &str, fields: &serde_json::Value) -> Limit {
        Limit::build(kind, fields).unwrap_or_else(|error| unreachable!("{error}"))
    }

    fn check(limit: u32, used: u64, per: Period, now: UnixSeconds) -> Check {
        let limit = self::limit("window", &json!({"requests": limit, "per": per.to_string()}));
        let mut check = Check::new(limit, CellKey::Dense { column: 1, row: 1 });
        check.state.used = used;
        check.state.free_at = per.window(now).end.into();
        check.state.full_at = check.state.free_at;
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
        rate_limit(
            &[check(5, 5, Period::Minute, now), check(100, 5, Period::Hour, now)],
            now,
            Some(first()),
            &mut headers,
        );
        assert_eq!(value(&headers, "x-ratelimit-remaining-minute"), Some("0"));
        assert_eq!(value(&headers, "x-ratelimit-remaining-hour"), Some("95"));
        assert_eq!((value(&headers, "retry-after"), value(&headers, "x-should-retry")), (Some("30"), None));
        assert_eq!(value(&headers, "retry-after-ms"), None, "Kong's clients of windows know no milliseconds");
    }

    #[test]
    fn of_two_exhausted_limits_the_one_that_resets_last_is_named() {
        let now = UnixSeconds(90);
        let mut headers = Vec::new();
        rate_limit(
            &[check(5, 5, Period::Minute, now), check(5, 5, Period::Hour, now)],
            now,
            Some(Refused { index: 1, id: RequestId([1, 2]) }),
            &mut headers,
        );
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
        let limit = limit("bucket", &json!({"requests": 5, "per": "second", "burst": 10}));
        let mut burst = Check::new(limit, CellKey::Dense { column: 1, row: 1 });
        (burst.state.used, burst.state.free_at) = (10, Moment(now.0 + 150_000_001));
        burst.state.full_at = Moment(now.0 + 1_950_000_000);
        let mut headers = Vec::new();
        openai(&[burst], now, Some(first()), &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-limit-requests"), Some("10"));
        assert_eq!(value(&headers, "x-ratelimit-reset-requests"), Some("1.95s"));
        assert_eq!(value(&headers, "retry-after"), Some("1"));
        let told = |headers: &[Header]| value(headers, "retry-after-ms").and_then(|text| text.parse::<u64>().ok());
        assert!(told(&headers).is_some_and(|wait| (151..=351).contains(&wait)));
        assert_eq!(value(&headers, "x-should-retry"), None);
        headers.clear();
        rate_limit(&[burst], now, Some(first()), &mut headers);
        assert_eq!(value(&headers, "retry-after"), Some("1"));
        assert!(told(&headers).is_some_and(|wait| (151..=351).contains(&wait)));
        headers.clear();
        openai(&[check(100, 100, Period::Day, UnixSeconds(90))], now, Some(first()), &mut headers);
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
    fn limit_of_zero_advises_against_a_retry() {
        let now = UnixSeconds(90);
        let nothing = [check(0, 0, Period::Second, now)];
        for headers in [rate_limit, openai].map(|make| {
            let mut headers = Vec::new();
            make(&nothing, now, Some(first()), &mut headers);
            headers
        }) {
            assert_eq!(value(&headers, "x-should-retry"), Some("false"));
            assert_eq!(value(&headers, "retry-after-ms"), None);
        }
    }

    /// A budget that had `used` before a call of `amount`, and resets so many seconds after 90.
    fn budget(kind: &str, limit: u64, used: u64, amount: u64, resets_in: u64) -> Check {
        let limit = self::limit(kind, &json!({"amount": limit, "per": "hour"}));
        let mut check = Check::new(limit, CellKey::Dense { column: 1, row: 1 });
        (check.amount, check.state.used) = (amount, used);
        check.state.free_at = Moment((90 + resets_in) * 1_000_000_000);
        check.state.full_at = check.state.free_at;
        check
    }

    fn written(headers: &[Header]) -> Vec<String> {
        headers.iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    #[test]
    fn each_meter_shows_its_tightest_limit() {
        let now = UnixSeconds(90);
        let checks = [
            check(5, 2, Period::Minute, now),
            budget("input_tokens", 1_000, 100, 50, 3_510),
            budget("tokens", 900, 500, 100, 3_510),
            budget("spend", 5_000_000_000, 1_000_000_000, 500_000_000, 3_510),
            budget("spend", 4_000_000_000, 500_000_000, 500_000_000, 3_510),
        ];
        let mut headers = Vec::new();
        openai(&checks, now, None, &mut headers);
        let admitted = [
            "x-ratelimit-limit-requests: 5",
            "x-ratelimit-remaining-requests: 2",
            "x-ratelimit-reset-requests: 30s",
            "x-ratelimit-limit-tokens: 900",
            "x-ratelimit-remaining-tokens: 300",
            "x-ratelimit-reset-tokens: 58m30s",
            "x-aigw-remaining-spend: 3",
        ];
        assert_eq!(written(&headers), admitted);
        // Settled to its use, which is smaller.
        let used = Amounts { input_tokens: 20, output_tokens: 10, spend: 100_000_000 };
        openai_settled(&mut checks.clone(), &used, now, &mut headers);
        let mut settled = admitted.map(str::to_owned);
        settled[4] = "x-ratelimit-remaining-tokens: 370".into();
        settled[6] = "x-aigw-remaining-spend: 3.4".into();
        assert_eq!(written(&headers), settled);
        headers.clear();
        openai_given_back(&checks, now, &mut headers);
        assert_eq!(value(&headers, "x-ratelimit-remaining-tokens"), Some("400"));
    }

    #[test]
    fn of_two_limits_that_are_equally_tight_the_first_is_shown_unless_the_other_resets_later() {
        let now = UnixSeconds(90);
        for (checks, limit) in [
            ([check(5, 2, Period::Minute, now), check(6, 3, Period::Minute, now)], "5"),
            ([check(5, 2, Period::Minute, now), check(6, 3, Period::Hour, now)], "6"),
            ([check(5, 2, Period::Hour, now), check(6, 3, Period::Minute, now)], "5"),
        ] {
            let mut headers = Vec::new();
            rate_limit(&checks, now, None, &mut headers);
            assert_eq!(value(&headers, "ratelimit-limit"), Some(limit));
        }
    }

    #[test]
    fn seconds_of_a_bucket_are_spread_as_its_milliseconds() {
        let now = Moment(90_000_000_000);
        let limit = limit("bucket", &json!({"requests": 5, "per": "second", "burst": 10}));
        let mut burst = Check::new(limit, CellKey::Dense { column: 1, row: 1 });
        (burst.amount, burst.state.used, burst.state.free_at) = (5, 10, Moment(now.0 + 1_500_000_000));
        let mut seen = std::collections::BTreeSet::new();
        for n in 0..100 {
            let mut headers = Vec::new();
            openai(&[burst], now, Some(Refused { index: 0, id: RequestId([n, 7 * n]) }), &mut headers);
            let number = |name| value(&headers, name).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
            assert_eq!(number("retry-after"), number("retry-after-ms").div_ceil(1_000));
            seen.insert(number("retry-after"));
        }
        assert_eq!(seen.into_iter().collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn refusal_shows_the_limit_that_refused_and_the_tightest_of_other_meters() {
        let now = UnixSeconds(90);
        let checks = [
            check(5, 2, Period::Minute, now),
            check(9, 3, Period::Day, now),
            budget("input_tokens", 1_000, 950, 10, 3_510),
            budget("tokens", 900, 700, 300, 30),
        ];
        let mut headers = Vec::new();
        openai(&checks, now, Some(Refused { index: 3, ..first() }), &mut headers);
        let wait = value(&headers, "retry-after-ms").and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
        assert!((30_000..=31_000).contains(&wait));
        headers.retain(|(name, _)| *name != "retry-after-ms");
        assert_eq!(
            written(&headers),
            [
                "x-ratelimit-limit-requests: 5",
                "x-ratelimit-remaining-requests: 3",
                "x-ratelimit-reset-requests: 30s",
                "x-ratelimit-limit-tokens: 900",
                "x-ratelimit-remaining-tokens: 200",
                "x-ratelimit-reset-tokens: 30s",
                "retry-after: 30",
            ]
        );
    }

    #[test]
    fn wait_of_a_minute_is_worth_a_retry_and_a_longer_one_is_not() {
        for (seconds, advised) in [(59, true), (60, true), (61, false)] {
            let checks = [budget("tokens", 900, 700, 300, seconds)];
            for make in [openai, rate_limit] {
                let mut headers = Vec::new();
                make(&checks, UnixSeconds(90), Some(first()), &mut headers);
                assert_eq!(value(&headers, "retry-after"), Some(&*seconds.to_string()));
                assert_eq!(value(&headers, "x-should-retry"), (!advised).then_some("false"), "{seconds}");
            }
        }
        // Money comes back only with calls in flight.
        for (held, advised) in [(0, false), (500, true)] {
            let mut money = budget("spend", 1_000, 900, 300, 30);
            money.state.held = held;
            let mut headers = Vec::new();
            openai(&[money], UnixSeconds(90), Some(first()), &mut headers);
            assert_eq!(value(&headers, "x-should-retry"), (!advised).then_some("false"));
            assert_eq!(value(&headers, "retry-after-ms").is_some(), advised);
        }
        // A bucket that is empty for long, on Kong's routes.
        let limit = limit("bucket", &json!({"requests": 5, "per": "day", "burst": 10}));
        let mut slow = Check::new(limit, CellKey::Dense { column: 1, row: 1 });
        (slow.state.used, slow.state.free_at) = (10, Moment(200_000_000_000));
        let mut headers = Vec::new();
        rate_limit(&[slow], Moment(90_000_000_000), Some(first()), &mut headers);
        assert_eq!((value(&headers, "x-should-retry"), value(&headers, "retry-after-ms")), (Some("false"), None));
    }

    #[test]
    fn call_above_the_whole_limit_has_no_time_to_come_back() {
        let now = UnixSeconds(90);
        for make in [openai, rate_limit] {
            let mut headers = Vec::new();
            make(&[budget("tokens", 900, 0, 901, 30)], now, Some(first()), &mut headers);
            assert_eq!((value(&headers, "retry-after"), value(&headers, "retry-after-ms")), (None, None));
        }
        let mut headers = Vec::new();
        rate_limit(&[budget("tokens", 900, 0, 901, 30)], now, Some(first()), &mut headers);
        assert_eq!(
            written(&headers),
            ["x-should-retry: false", "x-aigw-limit: 900 tokens per hour", "x-aigw-reset: 120"]
        );
    }

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (millis, wanted) in [
            (0, "0ms"),
            (12, "12ms"),
            (1_000, "1s"),
            (1_500, "1.5s"),
            (360_000, "6m0s"),
            (3_600_020, "1h0m0.02s"),
            (59_999, "59.999s"),
            (60_000, "1m0s"),
            (3_599_000, "59m59s"),
            (7_384_001, "2h3m4.001s"),
            (90_061_000, "25h1m1s"),
        ] {
            assert_eq!(go_duration(millis * 1_000_000), wanted);
        }
        assert_eq!(go_duration(12_000_001), "13ms");
    }
}
