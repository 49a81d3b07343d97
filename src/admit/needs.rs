//! Words and numbers of a refusal by a meter whose calls differ in size: the amount that the call needs, and the amount left.
//!
//! In: the facts of a limit, the amount of the call, the amount counted. Out: a sentence for the caller, amounts as text, and the
//! advice on a retry. Requests are all of one size, and calls at once have no size: both keep their own words.

use crate::limits::Facts;
use crate::price::dollars;

/// The meter of calls in flight.
const CONCURRENCY: &str = "concurrency";
/// The meter of money.
pub(super) const SPEND: &str = "spend";

/// Whether the limit bounds calls in flight.
pub(super) fn is_concurrency(facts: &Facts) -> bool {
    facts.meter == CONCURRENCY
}

/// Whether the limit is a budget: calls reserve a part of it, which may come back before its window ends.
pub(super) fn is_budget(facts: &Facts) -> bool {
    facts.sized && facts.refill == 0
}

/// Whether a client's own retry is in vain although the wait is short: money, and tokens of a day or longer.
pub(super) fn is_spent_for_long(facts: &Facts) -> bool {
    facts.meter == SPEND || facts.quota && facts.sized
}

/// The amount and the unit: `1 token`, `300 output tokens`, `0.002 USD`.
fn amount(meter: &str, amount: u64) -> String {
    let unit = meter.replace('_', " ");
    match (meter, amount) {
        (SPEND, nanos) => format!("{} USD", dollars(nanos)),
        (_, 1) => format!("1 {}", unit.trim_end_matches('s')),
        (_, amount) => format!("{amount} {unit}"),
    }
}

/// A sentence about a call that does not fit though something is left; `None` where nothing is, or the size does not matter.
pub(super) fn sentence(facts: &Facts, needs: u64, used: u64) -> Option<String> {
    let left = facts.limit.saturating_sub(used);
    (facts.sized && left > 0 && needs > left).then(|| {
        let (needs, left) = (amount(facts.meter, needs), amount(facts.meter, left));
        format!("This call needs up to {needs}, and {left} of it can be taken now.")
    })
}

/// A sentence about a call that is larger than the whole limit, with the repair. Its output cap is one token already: no smaller
/// `max_tokens` helps.
pub(super) fn never(facts: &Facts, needs: u64) -> Option<String> {
    facts.sized.then(|| {
        let repair = match facts.meter {
            "input_tokens" => "send a shorter prompt",
            "output_tokens" => "ask for fewer choices with n",
            _ => "send a shorter prompt, or ask for fewer choices with n",
        };
        format!("This call needs up to {}: {repair}.", amount(facts.meter, needs))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Period;

    fn facts(meter: &'static str, limit: u64, per: Option<Period>) -> Facts {
        let quota = per == Some(Period::Day);
        Facts { meter, sized: meter != "requests", per, limit, quota, refill: 0, headers: None }
    }

    #[test]
    fn a_call_that_does_not_fit_is_told_its_need_and_the_rest() {
        let tokens = facts("tokens", 1_000, Some(Period::Minute));
        let said = sentence(&tokens, 400, 999);
        assert_eq!(said.as_deref(), Some("This call needs up to 400 tokens, and 1 token of it can be taken now."));
        let money = facts(SPEND, 5_000_000, Some(Period::Day));
        let said = sentence(&money, 3_000_000, 4_000_000);
        assert_eq!(said.as_deref(), Some("This call needs up to 0.003 USD, and 0.001 USD of it can be taken now."));
    }

    #[test]
    fn a_spent_budget_and_a_limit_on_requests_have_no_rest_to_tell() {
        assert_eq!(sentence(&facts("tokens", 1_000, Some(Period::Minute)), 400, 1_000), None);
        assert_eq!(sentence(&facts("tokens", 1_000, Some(Period::Minute)), 400, 1_200), None);
        assert_eq!(sentence(&facts("tokens", 1_000, Some(Period::Minute)), 400, 600), None, "it fits by now");
        assert_eq!(sentence(&facts("requests", 5, Some(Period::Minute)), 7, 1), None);
        assert_eq!(never(&facts("requests", 5, Some(Period::Minute)), 7), None);
    }

    #[test]
    fn a_call_above_the_whole_limit_is_told_the_repair() {
        for (meter, repair) in [
            ("tokens", "4096 tokens: send a shorter prompt, or ask for fewer choices with n."),
            ("input_tokens", "4096 input tokens: send a shorter prompt."),
            ("output_tokens", "4096 output tokens: ask for fewer choices with n."),
        ] {
            let said = never(&facts(meter, 100, Some(Period::Day)), 4_096).unwrap_or_default();
            assert_eq!(said, format!("This call needs up to {repair}"));
        }
    }

    #[test]
    fn money_and_tokens_of_a_day_are_not_worth_a_retry() {
        for (meter, per, wanted) in [
            (SPEND, Period::Minute, true),
            ("tokens", Period::Day, true),
            ("input_tokens", Period::Minute, false),
            ("requests", Period::Day, false),
        ] {
            assert_eq!(is_spent_for_long(&facts(meter, 9, Some(per))), wanted, "{meter} per {per}");
        }
        assert!(is_concurrency(&facts(CONCURRENCY, 2, None)) && !is_spent_for_long(&facts(CONCURRENCY, 2, None)));
    }
}
