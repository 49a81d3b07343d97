//! When another target is asked after one has failed, and the failure that the client hears of when all have.
//!
//! In: the end of each attempt. Out: at last the most useful end. A request that an upstream may have begun to work on is not
//! sent twice: another target is asked only after a failure before sending, or after an answer whose status is a refusal, both
//! as the model's `failover_on` says. A failure after sending ends the call at once.

/// The use of an attempt's end for the client, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Worth {
    /// Only the operator can mend it: the fleet's key, or a redirect.
    Operators,
    /// No connection: the next try may find one.
    Unreachable,
    /// A refusal that broke off.
    Torn,
    /// A whole refusal: it has the upstream's own status and advice.
    Whole,
}

/// The most useful end of the attempts so far; of equal ones the last.
#[derive(Debug)]
pub struct Best<E>(Option<(Worth, E)>);

impl<E> Default for Best<E> {
    fn default() -> Self {
        Self(None)
    }
}

impl<E> Best<E> {
    /// One more attempt ended so.
    pub fn add(&mut self, worth: Worth, end: E) {
        if self.0.as_ref().is_none_or(|(best, _)| worth >= *best) {
            self.0 = Some((worth, end));
        }
    }

    /// The most useful end; `None` before the first.
    pub fn take(self) -> Option<E> {
        self.0.map(|(_, end)| end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Worth::{Operators, Torn, Unreachable, Whole};

    #[test]
    fn best_is_the_last_of_the_most_useful() {
        for (ends, wanted) in [
            (&[Operators][..], Some(0)),
            (&[Operators, Operators], Some(1)),
            (&[Whole, Whole], Some(1)),
            (&[Whole, Unreachable, Operators], Some(0)),
            (&[Operators, Unreachable], Some(1)),
            (&[Unreachable, Operators], Some(0)),
            (&[Torn, Unreachable, Whole, Torn], Some(2)),
            (&[], None),
        ] {
            let mut best = Best::default();
            for (n, worth) in ends.iter().enumerate() {
                best.add(*worth, n);
            }
            assert_eq!(best.take(), wanted, "{ends:?}");
        }
    }
}
