//! The refusal of a request whose checks did not all pass, in the words of its surface.
//!
//! In: the checks as `peek` or `take` left them, and why nothing was taken. Out: a [`Refusal`] with the headers of the limits.
//! A refusal without a limit says that the worker is full, or that the configuration is damaged.

use serde::Serialize;

use super::wait::{self, Refused};
use super::{Check, NotTaken, headers, needs};
use crate::refusal::{LimitFacts, Reason, Refusal};
use crate::request::Header;
use crate::snapshot::{Profile, Tier};
use crate::units::{Moment, RequestId};

/// The limits of a request on Kong's routes, as far as a refusal names them.
#[derive(Debug, Clone, Copy)]
pub struct RouteLimits<'a> {
    /// The rate-limiting instance that runs.
    pub profile: Option<&'a Profile>,
    /// The number of checks that are the instance's; the others are the tier's.
    pub own: usize,
    /// The caller's tier.
    pub tier: Option<&'a Tier>,
}

/// The refusal on Kong's routes: the instance's own status and message, or the table's for a limit of the tier.
pub fn kong(why: NotTaken, limits: RouteLimits<'_>, checks: &[Check], now: Moment, id: RequestId) -> Refusal {
    let (reason, refused) = reason(why, checks);
    let Some((index, check)) = refused else { return reason.into() };
    let mut own = Vec::new();
    // An instance that hides its limits shows no limit in its own refusal: the client could not place the tier's.
    if !check.hidden {
        own.reserve(12);
        headers::rate_limit(checks, now, Some(Refused { index, id }), &mut own);
        own.push(("x-aigw-scope", check.scope.into()));
        own.extend(limits.tier.map(|tier| -> Header { ("x-aigw-tier", tier.name.to_string().into()) }));
    }
    // Kong has one reason for limits; `quota` is OpenAI's word.
    let reason = if reason == Reason::QuotaExhausted { Reason::RateLimited } else { reason };
    let refusal = Refusal { headers: own, limit: Some(facts(check).into()), ..reason.into() };
    match limits.profile.filter(|_| index < limits.own && reason == Reason::RateLimited) {
        Some(profile) => {
            Refusal { message: Some(profile.error_message.clone()), status: Some(profile.error_code), ..refusal }
        }
        None => refusal,
    }
}

/// The refusal on `/v1`.
pub fn openai(why: NotTaken, tier: &Tier, checks: &[Check], now: Moment, id: RequestId) -> Refusal {
    let (reason, refused) = reason(why, checks);
    let Some((index, check)) = refused else { return reason.into() };
    let (name, policy, wait) = (&tier.name, check.limit.describe(), wait::words(check.resets_in(now).max(1)));
    let message = match reason {
        Reason::QuotaExhausted => {
            format!("You exceeded your current quota of {policy} in tier '{name}'. It is renewed in {wait}.")
        }
        Reason::AboveLimit => format!("The request takes more than tier '{name}' ever allows: {policy}."),
        Reason::RateLimited if check.is_held() => {
            format!(
                "Your calls in flight hold the rest of {policy} in tier '{name}'. Please try again when one has ended."
            )
        }
        Reason::ConcurrencyLimited => format!("Tier '{name}' allows {policy}. Please try again when one has ended."),
        _ => format!("Rate limit reached in tier '{name}': {policy}. Please try again in {wait}."),
    };
    let (facts_of, used) = (check.facts(), check.state.used);
    let more = match reason {
        Reason::AboveLimit => needs::never(&facts_of, check.amount),
        _ => needs::sentence(&facts_of, check.amount, used),
    };
    let message = match more {
        Some(more) => format!("{message} {more}"),
        None => message,
    };
    let mut own: Vec<Header> = Vec::with_capacity(12);
    headers::openai(checks, now, Some(Refused { index, id }), &mut own);
    own.push(("x-aigw-limit", policy.into()));
    own.push(("x-aigw-scope", check.scope.into()));
    own.push(("x-aigw-tier", name.to_string().into()));
    own.push(("x-aigw-reset", check.resets_at().to_string().into()));
    Refusal { headers: own, limit: Some(facts(check).into()), ..Refusal::because(reason, message) }
}

/// The limit that ends a stream on its way, as the member `aigw` of the last chunk. `check`: its counter as it is now.
pub fn cut(check: &Check, tier: Option<&str>, now: Moment) -> String {
    #[derive(Serialize)]
    struct Cut<'a> {
        code: &'static str,
        message: String,
        #[serde(skip_serializing_if = "Option::is_none")]
        tier: Option<&'a str>,
        #[serde(flatten)]
        limit: LimitFacts,
    }
    let (policy, wait) = (check.limit.describe(), wait::words(check.resets_in(now).max(1)));
    let message = format!("The answer ends here, since your limit of {policy} is used up. It is renewed in {wait}.");
    let limit = LimitFacts { needs: None, ..facts(check) };
    // A struct of strings and numbers always has a JSON text.
    serde_json::to_string(&Cut { code: "budget_exhausted", message, tier, limit }).unwrap_or_default()
}

fn facts(check: &Check) -> LimitFacts {
    let facts = check.facts();
    let sized = facts.sized;
    LimitFacts {
        policy: check.limit.describe(),
        meter: facts.meter,
        per: facts.per.map(|per| per.to_string()),
        limit: facts.limit,
        used: check.state.used.saturating_sub(check.state.held),
        reserved: Some(check.state.held).filter(|held| *held > 0),
        // A look at the head does not know the size of the call.
        needs: Some(check.amount).filter(|needs| sized && *needs > 0),
        left: sized.then(|| check.left()),
        tokens: sized && facts.meter != needs::SPEND,
        scope: check.scope,
        reset_at: check.resets_at().0,
    }
}

/// The reason, and the check that refused with its index. A limit that comes back only after a day or more is a quota.
fn reason(why: NotTaken, checks: &[Check]) -> (Reason, Option<(usize, &Check)>) {
    match why {
        NotTaken::Full | NotTaken::Busy(_) => (Reason::Overloaded, None),
        NotTaken::NoLedger => (Reason::LedgerFull, None),
        NotTaken::Missing { .. } | NotTaken::TooMany => (Reason::Internal, None),
        NotTaken::Exceeded(index) | NotTaken::Never(index) => match checks.get(index) {
            None => (Reason::Internal, None),
            Some(check) if matches!(why, NotTaken::Never(_)) => (Reason::AboveLimit, Some((index, check))),
            Some(check) if needs::is_concurrency(&check.facts()) => (Reason::ConcurrencyLimited, Some((index, check))),
            Some(check) if check.is_held() => (Reason::RateLimited, Some((index, check))),
            Some(check) if check.facts().quota => (Reason::QuotaExhausted, Some((index, check))),
            Some(check) => (Reason::RateLimited, Some((index, check))),
        },
    }
}
