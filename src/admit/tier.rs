//! A tier's limits as checks of one request: on `/v1` and on every authenticated route.

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

/// Adds the checks of a tier that hold for every model.
pub fn checks<P: CounterSpace>(
    tier: &Tier,
    caller: CallerRows,
    head: &Head,
    admitter: &Admitter<P>,
    checks: &mut Vec<Check>,
) {
    for limit in &tier.limits {
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
pub fn model_checks(tier: &Tier, caller: CallerRows, model: usize, checks: &mut Vec<Check>) {
    for limit in tier.limits.iter().filter(|limit| limit.subject == Subject::Model) {
        if let Some(&column) = limit.columns.get(model) {
            checks.push(check(limit, CellKey::Dense { column, row: caller.consumer }));
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
