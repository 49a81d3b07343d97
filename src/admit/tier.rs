//! A tier's limits as checks of one request: on `/v1` and on every authenticated route.

use std::mem::discriminant;

use super::{Admitter, Check};
use crate::cells::{CellKey, CounterSpace};
use crate::request::Head;
use crate::snapshot::{Subject, Tier, TierLimit};

/// The row numbers that a caller's counters have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerRows {
    /// The consumer's.
    pub consumer: u32,
    /// The credential's; 0 for the anonymous consumer, whose callers share a counter.
    pub credential: u32,
}

/// The work that a request asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// A call of a route: no tokens, no money.
    Route,
    /// A call of a model that reads, and generates nothing.
    Reading,
    /// A call of a model that generates text.
    Generating,
}

impl Work {
    /// Whether a limit counts such work. Others neither take from it nor are refused by it.
    fn is_counted(self, limit: &TierLimit) -> bool {
        match self {
            Self::Generating => true,
            Self::Reading => limit.limit.facts().meter != "output_tokens",
            Self::Route => !limit.limit.facts().sized,
        }
    }
}

/// Adds the checks of a tier that hold for every model.
pub fn checks<P: CounterSpace>(
    tier: &Tier,
    work: Work,
    caller: CallerRows,
    head: &Head,
    admitter: &Admitter<P>,
    checks: &mut Vec<Check>,
) {
    for limit in tier.limits.iter().filter(|limit| work.is_counted(limit)) {
        let Some(&column) = limit.columns.first() else { continue };
        let key = match limit.subject {
            Subject::Consumer => CellKey::Dense { column, row: caller.consumer },
            Subject::Credential => CellKey::Dense { column, row: caller.credential },
            Subject::Ip => admitter.open_key(column, format!("{} {}", caller.consumer, head.address()).as_bytes()),
            Subject::Model => continue,
        };
        checks.push(check(limit, key));
    }
}

/// Adds the checks of a tier that count each model by itself.
pub fn model_checks(tier: &Tier, work: Work, caller: CallerRows, model: usize, checks: &mut Vec<Check>) {
    let of_model = |limit: &&TierLimit| limit.subject == Subject::Model && work.is_counted(limit);
    for limit in tier.limits.iter().filter(of_model) {
        if let Some(&column) = limit.columns.get(model) {
            checks.push(check(limit, CellKey::Dense { column, row: caller.consumer }));
        }
    }
}

/// Gives the checks of a call in flight the limits that its tier has now, by their columns. A limit that the tier has no more only
/// counts, and a new one does not concern the call, which holds nothing of it.
pub fn renew(tier: &Tier, checks: &mut [Check]) {
    for check in checks {
        let CellKey::Dense { column, .. } = check.key else { continue };
        let same = |limit: &&TierLimit| {
            limit.columns.contains(&column) && discriminant(&limit.limit) == discriminant(&check.limit)
        };
        match tier.limits.iter().find(same) {
            Some(limit) => (check.limit, check.shadow) = (limit.limit, limit.shadow),
            None => check.shadow = true,
        }
    }
}

/// Whether a limit in shadow mode would have refused the request.
pub fn shadowed(checks: &[Check]) -> bool {
    checks.iter().any(|check| check.shadow && check.exhausted())
}

fn check(limit: &TierLimit, key: CellKey) -> Check {
    Check { shadow: limit.shadow, scope: limit.subject.name(), ..Check::new(limit.limit, key) }
}
