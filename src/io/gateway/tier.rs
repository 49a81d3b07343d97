//! A tier's limits as checks of one request: on `/v1` and on every authenticated route.

use super::Gateway;
use crate::accept::Arrival;
use aigw_core::admit::{Check, Refusal};
use aigw_core::cells::CellKey;
use aigw_core::denial::Reason;
use aigw_core::limits::Period;
use aigw_core::snapshot::{Subject, Tier, TierLimit};

/// Whose limits they are: row numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Who {
    pub(super) consumer: u32,
    /// 0 for a caller without a key of its own (the anonymous consumer): all of these share a counter.
    pub(super) credential: u32,
}

impl Gateway {
    /// Adds the checks of a tier that hold whatever the model.
    pub(super) fn tier_checks(&self, tier: &Tier, who: Who, arrival: &Arrival, checks: &mut Vec<Check>) {
        for limit in &tier.limits {
            let Some(&column) = limit.columns.first() else { continue };
            let key = match limit.subject {
                Subject::Consumer => CellKey::Dense { column, row: who.consumer },
                Subject::Credential => CellKey::Dense { column, row: who.credential },
                Subject::Ip => {
                    let address = arrival.peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
                    self.admitter.open_key(column, format!("{} {address}", who.consumer).as_bytes())
                }
                Subject::Model => continue,
            };
            checks.push(check(limit, key));
        }
    }

    /// Adds the checks of a tier that count each model on its own.
    pub(super) fn model_checks(tier: &Tier, who: Who, model: usize, checks: &mut Vec<Check>) {
        for limit in tier.limits.iter().filter(|limit| limit.subject == Subject::Model) {
            if let Some(&column) = limit.columns.get(model) {
                checks.push(check(limit, CellKey::Dense { column, row: who.consumer }));
            }
        }
    }

    /// Counts the limits in shadow mode that would have refused.
    pub(super) fn count_shadows(&self, tier: &Tier, checks: &[Check]) {
        if checks.iter().any(|check| check.shadow && check.exhausted()) {
            self.recorder.shadow(tier.n);
        }
    }
}

fn check(limit: &TierLimit, key: CellKey) -> Check {
    let mut check = match limit.rate {
        Some(rate) => Check::bucket(rate, limit.per, key),
        None => Check::new(limit.limit, limit.per, key),
    };
    check.shadow = limit.shadow;
    check.scope = limit.subject.name();
    check
}

/// The reason of a check that refused on `/v1`: what comes back only after a day or more is a quota.
pub(super) fn reason(check: &Check) -> Reason {
    let quota = match check.period {
        Period::Day | Period::Month | Period::Year => true,
        Period::Every(seconds, _) => seconds.get() >= 86_400,
        Period::Second | Period::Minute | Period::Hour => false,
    };
    if quota && check.rate.is_none() { Reason::QuotaExhausted } else { Reason::RateLimited }
}

/// The reason of a refusal that names no limit.
pub(super) fn without_limit(refusal: Refusal) -> Reason {
    match refusal {
        Refusal::Full | Refusal::Busy(_) => Reason::Overloaded,
        Refusal::Exceeded(_) | Refusal::Missing { .. } | Refusal::TooMany => Reason::Internal,
    }
}
