//! The turns in which the bodies of one worker read their small chunks: others' requests come between, and each caller comes to its turn.
//!
//! In: a caller that has read one more small chunk. Out: whether its body reads on at once, or at the next beat. In each beat a caller has
//! some turns of its own, which nobody takes from it; beyond them all callers have some in common. A body that is thrown away takes none
//! of the common ones: callers without a key would slow down the others.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use super::room::Holder;

/// A caller's own turns in a beat of 50 ms: 1,280 small chunks a second.
pub const OWN: u32 = 64;
/// The turns of all callers together: at 7 to 15 us for a chunk, 7 to 15 ms of a beat.
pub const COMMON: u32 = 1000;

/// The turns of a beat that are left.
#[derive(Debug, Default)]
pub struct Turns(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    common: u32,
    own: HashMap<Holder, u32>,
}

impl Turns {
    /// A beat: all turns again.
    pub fn begin_anew(&self) {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        taken.common = 0;
        taken.own.clear();
    }

    /// Takes a turn; false when none is left. `is_discarded`: the body is thrown away.
    pub fn take(&self, holder: Holder, is_discarded: bool) -> bool {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.own.entry(holder).or_default();
        if *own < OWN {
            *own += 1;
            return true;
        }
        let is_left = !is_discarded && taken.common < COMMON;
        taken.common += u32::from(is_left);
        is_left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(turns: &Turns, holder: Holder, is_discarded: bool) -> u32 {
        (0..10_000).map_while(|_| turns.take(holder, is_discarded).then_some(1)).sum()
    }

    #[test]
    fn caller_has_turns_that_nobody_takes_from_it() {
        let (turns, [greedy, other]) = (Turns::default(), [1, 2].map(Holder::Consumer));
        assert_eq!(taken(&turns, greedy, false), OWN + COMMON);
        assert_eq!(taken(&turns, other, false), OWN);
        assert_eq!(taken(&turns, other, false), 0);
        turns.begin_anew();
        assert_eq!(taken(&turns, other, false), OWN + COMMON);
    }

    #[test]
    fn bodies_that_are_thrown_away_take_no_common_turns() {
        let (turns, stranger) = (Turns::default(), Holder::Address(None));
        assert_eq!(taken(&turns, stranger, true), OWN);
        assert_eq!(taken(&turns, Holder::Consumer(1), false), OWN + COMMON);
    }
}
