//! The refusal of a request whose checks did not all pass, in the words of its surface.
//!
//! In: the checks as `peek` or `take` left them, and why nothing was taken. Out: a [`Refusal`] with the headers of the limits.
//! A refusal without a limit says that the worker is full, or that the configuration is damaged.

use super::{Check, NotTaken, headers};
use crate::limits::Period;
use crate::refusal::{LimitFacts, Reason, Refusal};
use crate::request::Header;
use crate::snapshot::{Profile, Tier};
use crate::units::Moment;

/// The limits of a request on Kong's routes, as far as a refusal names them.
#[derive(Debug, Clone, Copy)]
pub struct RouteLimits<'a> {
    /// The rate-limiting instance that runs.
    pub profile: Option<&'a Profile>,
    /// How many of the checks are the instance's; the others are the tier's.
    pub own: usize,
    /// The caller's tier.
    pub tier: Option<&'a Tier>,
}

/// The refusal on Kong's routes: the instance's own status and message, or the table's for a limit of the tier.
pub fn kong(why: NotTaken, limits: RouteLimits<'_>, checks: &[Check], now: Moment) -> Refusal {
    let NotTaken::Exceeded(index) = why else { return without_limit(why) };
    let Some(check) = checks.get(index) else { return Reason::Internal.into() };
    let mut own = Vec::new();
    // An instance that hides its limits shows none in a refusal of its own: the client could not place the others.
    if !check.hidden {
        own.reserve(12);
        headers::rate_limit(checks, now, Some(index), &mut own);
        own.push(("x-aigw-scope", check.scope.into()));
        own.extend(limits.tier.map(|tier| -> Header { ("x-aigw-tier", tier.name.to_string().into()) }));
    }
    let refusal = Refusal { headers: own, limit: Some(facts(check).into()), ..Reason::RateLimited.into() };
    match limits.profile.filter(|_| index < limits.own) {
        Some(profile) => {
            Refusal { message: Some(profile.error_message.clone()), status: Some(profile.error_code), ..refusal }
        }
        None => refusal,
    }
}

/// The refusal on `/v1`.
pub fn openai(why: NotTaken, tier: &Tier, checks: &[Check], now: Moment) -> Refusal {
    let NotTaken::Exceeded(index) = why else { return without_limit(why) };
    let Some(check) = checks.get(index) else { return Reason::Internal.into() };
    let (reason, name) = (reason(check), &tier.name);
    let wait = check.resets_in(now).max(1);
    let message = if reason == Reason::QuotaExhausted {
        format!("You exceeded your current quota of {} in tier '{name}'. It is renewed in {wait} s.", check.words())
    } else {
        format!("Rate limit reached in tier '{name}': {}. Please try again in {wait} s.", check.words())
    };
    let mut own: Vec<Header> = Vec::with_capacity(12);
    headers::openai(checks, now, Some(index), &mut own);
    own.push(("x-aigw-limit", check.words().into()));
    own.push(("x-aigw-scope", check.scope.into()));
    own.push(("x-aigw-tier", name.to_string().into()));
    own.push(("x-aigw-reset", check.window.end.to_string().into()));
    Refusal { headers: own, limit: Some(facts(check).into()), ..Refusal::because(reason, message) }
}

fn facts(check: &Check) -> LimitFacts {
    LimitFacts {
        policy: check.words(),
        limit: check.limit,
        used: check.used,
        scope: check.scope,
        reset_at: check.free_at.seconds_up().0,
    }
}

/// A limit that comes back only after a day or more is a quota.
fn reason(check: &Check) -> Reason {
    let quota = match check.period {
        Period::Day | Period::Month | Period::Year => true,
        Period::Every(seconds, _) => seconds.get() >= 86_400,
        Period::Second | Period::Minute | Period::Hour => false,
    };
    if quota && check.rate.is_none() { Reason::QuotaExhausted } else { Reason::RateLimited }
}

fn without_limit(why: NotTaken) -> Refusal {
    match why {
        NotTaken::Full | NotTaken::Busy(_) => Reason::Overloaded,
        NotTaken::Exceeded(_) | NotTaken::Missing { .. } | NotTaken::TooMany => Reason::Internal,
    }
    .into()
}
