//! Limits while the wall clock is set forward and back: those below a day, and all buckets, decide as if it had never been set; a day
//! follows UTC, restarts once, and never passes its limit twice.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use aigw_core::admit::{Admitter, Check};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::{CellKey, Cells};
use aigw_core::limits::{Amounts, Demand, KINDS, Limit, Times, Usage};
use aigw_core::units::{Moment, RequestId};
use proptest::prelude::*;
use serde_json::json;

const SECOND: u64 = 1_000_000_000;
const DAY: u64 = 86_400;
/// The middle of a day.
const NOON: u64 = (1_700_000_000 / DAY * DAY + DAY / 2) * SECOND;
const ID: RequestId = RequestId([1, 2]);

/// Counters, and a wall clock that is so many seconds ahead of the steady one.
struct World {
    admitter: Admitter<HeapSpace>,
    space: Arc<HeapSpace>,
    checks: Vec<Check>,
    steady: u64,
    ahead: i64,
}

impl World {
    fn new(limits: &[(&str, serde_json::Value, bool)]) -> Self {
        let width = KINDS.iter().map(|kind| kind.words as usize).max().unwrap();
        let columns: Vec<_> = (1..=u32::try_from(limits.len()).unwrap()).map(|n| (n, 4, width)).collect();
        let space = Arc::new(HeapSpace::wide(&columns, 8).unwrap());
        let admitter = Admitter::new(Arc::clone(&space));
        let check = |(n, (kind, fields, open)): (u32, &(&str, serde_json::Value, bool))| {
            let key = if *open { admitter.open_key(n, b"192.0.2.1") } else { CellKey::Dense { column: n, row: 2 } };
            Check::new(Limit::build(kind, fields).unwrap(), key)
        };
        let checks = (1..).zip(limits).map(check).collect();
        Self { admitter, space, checks, steady: NOON, ahead: 0 }
    }

    fn now(&self) -> Moment {
        Moment(self.steady.saturating_add_signed(self.ahead * 1_000_000_000))
    }

    /// Sets the wall clock so many seconds ahead of the steady one.
    fn set(&mut self, ahead: i64) {
        self.ahead = ahead;
        self.space.step_to(ahead * 1_000_000_000);
    }

    fn pass(&mut self, millis: u64) {
        self.steady += millis * 1_000_000;
    }

    /// One call against one of the limits: whether it passed, the amount before it, and its wait.
    fn call(&mut self, which: usize, tokens: u64, uses: u64) -> (bool, u64, u64) {
        let (at, now) = (which % self.checks.len(), self.now());
        let bound = Amounts { output_tokens: tokens, ..Amounts::NONE };
        let checks = std::slice::from_mut(&mut self.checks[at]);
        let took = self.admitter.take(checks, &Demand { bound, ..Demand::default() }, now, ID);
        let passed = took.is_ok();
        if let Ok(permit) = took {
            let amounts = Amounts { output_tokens: uses.min(tokens), ..Amounts::NONE };
            permit.settle(&Usage { requests: 1, amounts });
        }
        let check = &self.checks[at];
        (passed, check.state.used, check.wait(now))
    }
}

fn below_a_day() -> World {
    World::new(&[
        ("window", json!({"requests": 3, "per": "second"}), false),
        ("window", json!({"requests": 3, "per": "minute"}), false),
        ("window", json!({"requests": 5, "per": "90s"}), false),
        ("window", json!({"requests": 4, "per": "hour"}), true),
        ("window", json!({"requests": 4, "per": "day"}), true),
        ("bucket", json!({"requests": 2, "per": "7s", "burst": 3}), false),
        ("tokens", json!({"amount": 100, "per": "minute"}), false),
        ("tokens", json!({"amount": 300, "per": "5h"}), false),
    ])
}

#[derive(Clone, Debug)]
enum Move {
    Pass(u64),
    Set(i64),
    Call(usize, u64, u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let ahead = prop_oneof![Just(0), -200_000..200_000_i64, -120..120_i64, Just(86_400), Just(-60)];
    let one = prop_oneof![
        2 => (0..40_000_u64).prop_map(Move::Pass),
        1 => (0..4_000_000_u64).prop_map(Move::Pass),
        2 => ahead.prop_map(Move::Set),
        6 => (any::<usize>(), 0..90_u64, 0..90_u64).prop_map(|(which, tokens, uses)| Move::Call(which, tokens, uses)),
    ];
    prop::collection::vec(one, 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn limit_below_a_day_decides_as_if_the_clock_had_never_been_set(moves in moves()) {
        let (mut stepped, mut twin) = (below_a_day(), below_a_day());
        for one in moves {
            match one {
                Move::Pass(millis) => {
                    stepped.pass(millis);
                    twin.pass(millis);
                }
                Move::Set(ahead) => stepped.set(ahead),
                Move::Call(which, tokens, uses) => {
                    prop_assert_eq!(stepped.call(which, tokens, uses), twin.call(which, tokens, uses));
                }
            }
        }
    }

    #[test]
    fn day_never_passes_its_limit_and_begins_anew_once(moves in moves()) {
        let mut world = World::new(&[("window", json!({"requests": 3, "per": "day"}), false)]);
        let (mut passed, mut latest) = (std::collections::HashMap::<u64, u32>::new(), 0);
        for one in moves {
            match one {
                Move::Pass(millis) => world.pass(millis),
                Move::Set(ahead) => world.set(ahead),
                Move::Call(..) => {
                    latest = latest.max(world.now().0 / SECOND / DAY);
                    let count = passed.entry(latest).or_default();
                    let (took, ..) = world.call(0, 0, 0);
                    // A clock that was set back counts in the latest day that was seen.
                    prop_assert_eq!(took, *count < 3);
                    *count += u32::from(took);
                }
            }
        }
    }
}

#[test]
fn day_ahead_for_two_seconds_and_a_minute_back_refuse_nobody() {
    let mut world = World::new(&[("window", json!({"requests": 20, "per": "second"}), false)]);
    for ahead in [0, 86_400, 0, -60] {
        world.set(ahead);
        for _ in 0..10 {
            assert!(world.call(0, 0, 0).0, "{ahead}");
            world.pass(200);
        }
    }
}

#[test]
fn wait_of_a_refused_call_is_the_steady_one() {
    let mut world = World::new(&[("window", json!({"requests": 1, "per": "minute"}), false)]);
    assert!(world.call(0, 0, 0).0);
    let wait = world.call(0, 0, 0).2;
    for ahead in [86_400, -86_400, 59] {
        world.set(ahead);
        let (passed, used, now) = world.call(0, 0, 0);
        assert_eq!((passed, used, now), (false, 1, wait));
        let check = &world.checks[0];
        let standing =
            check.limit.standing(&*world.space, check.key, Times::new(world.now(), world.space.steady(world.now())));
        let reset = u64::from(standing.resets_at.unwrap().0);
        assert_eq!((standing.taken, reset), (1, (world.now().0 + wait) / SECOND));
    }
}
