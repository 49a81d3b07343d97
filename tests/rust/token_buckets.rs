//! Buckets of tokens: reservations, extensions and settlements of any order against a plain model, overruns, crashes, and the
//! calls of models that meet one.
#![allow(clippy::unwrap_used)]

mod column;
mod without_ledger;
mod world;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use aigw_core::admit::{Admitter, Check, NotTaken, reclaim};
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::{CellKey, CounterSpace};
use aigw_core::limits::gcra::{Rate, Take};
use aigw_core::limits::{Amounts, Demand, Limit, Usage};
use aigw_core::refusal::Reason;
use aigw_core::units::{Moment, RequestId};
use column::Column;
use proptest::prelude::*;
use serde_json::{Value, json};
use without_ledger::{DRAFT, NoLedger};
use world::{ANN, MODEL, NOW, ROUTE, SHORT, Spec, TIER, World, policy};

const SECOND: u64 = 1_000_000_000;
const BUCKET: u32 = 7;
const KEY: CellKey = CellKey::Dense { column: BUCKET, row: ANN };
const ID: RequestId = RequestId([1, 2]);

fn limit(amount: u64, burst: u64) -> Limit {
    Limit::build("tokens_bucket", &json!({"amount": amount, "per": "second", "burst": burst})).unwrap()
}

fn space() -> Arc<HeapSpace> {
    Arc::new(HeapSpace::new(&[(ROUTE, 4), (TIER, 4), (MODEL, 4), (BUCKET, 4)], 8).unwrap())
}

fn later(millis: u64) -> Moment {
    Moment(NOW.0 + millis * 1_000_000)
}

fn output(tokens: u64) -> Amounts {
    Amounts { output_tokens: tokens, ..Amounts::NONE }
}

fn used(tokens: u64) -> Usage {
    Usage { requests: 1, amounts: output(tokens) }
}

#[derive(Clone, Debug)]
enum Step {
    Take(u64),
    /// Settle a call, by number, to so many tokens.
    Settle(usize, u64),
    /// So many nanoseconds.
    Pass(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..6_000_u64).prop_map(Step::Take),
        4 => (any::<usize>(), 0..7_000_u64).prop_map(|(which, tokens)| Step::Settle(which, tokens)),
        2 => (0..8_000_000_000_u64).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

/// The amounts settled and reserved never grow faster than the burst and the refill, in any stretch of time; a bucket of a plain
/// count that never owes lets nothing pass that this one refuses.
fn against_model(amount: u64, burst: u64, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let (column, rate) = (Column::new(), Rate::of_tokens(amount, 1, burst).unwrap());
    let (mut now, mut level) = (NOW.0, i128::from(burst) * i128::from(SECOND));
    let full = level;
    let mut open: Vec<u64> = Vec::new();
    // Settled and reserved, before and after each take; amounts used beyond a reservation are nobody's leave to take.
    let (mut counted, mut beyond, mut history) = (0_i128, 0_i128, Vec::new());
    for step in steps {
        match step {
            Step::Pass(nanos) => {
                now += nanos;
                level = (level + i128::from(nanos) * i128::from(amount)).min(full);
            }
            Step::Take(tokens) => {
                history.push((now, counted - beyond));
                let took = matches!(column.bucket().take(rate, tokens, Moment(now)), Take::Took(_));
                let cost = i128::from(tokens) * i128::from(SECOND);
                prop_assert!(took || level < cost + i128::from(SECOND) || tokens > burst, "{tokens} of {level}");
                if took {
                    level -= cost;
                    counted += i128::from(tokens);
                    open.push(tokens);
                    for (then, before) in &history {
                        let refilled = i128::from(now - then) * i128::from(amount) / i128::from(SECOND);
                        prop_assert!(counted - beyond - before <= i128::from(burst) + refilled + 1);
                    }
                }
            }
            Step::Settle(..) if open.is_empty() => {}
            Step::Settle(which, tokens) => {
                let held = open.swap_remove(which % open.len());
                match tokens.checked_sub(held) {
                    Some(more) => column.bucket().charge(more),
                    None => column.bucket().give_back(held - tokens),
                }
                let change = i128::from(tokens) - i128::from(held);
                counted += change;
                beyond += change.max(0);
                level = (level - change * i128::from(SECOND)).min(full);
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn tokens_counted_never_pass_burst_and_refill(
        amount in prop::sample::select(vec![1_u64, 3, 997, 1_000, 333_333, 15_000_000]), burst in 1..6_000_u64, steps in steps(),
    ) {
        against_model(amount, burst, steps)?;
    }

    #[test]
    fn reservation_that_is_settled_counts_as_its_use(
        amount in 1..2_000_u64, calls in prop::collection::vec((0..400_u64, 0..400_u64, 0..100_u64), 1..10),
    ) {
        let (space, limit) = (space(), limit(amount, 9_000));
        let admitter = Admitter::new(Arc::clone(&space));
        let mut checks = [Check::new(limit, KEY)];
        let (mut open, mut expected) = (Vec::new(), 0);
        for (first, more, share) in calls {
            let demand = Demand { bound: output(first), ..Demand::default() };
            let mut permit = admitter.take(&mut checks, &demand, NOW, ID).unwrap();
            prop_assert!(permit.extend(&checks, &output(more), NOW).is_ok());
            expected += (first + more) * share / 100;
            open.push((permit, (first + more) * share / 100));
        }
        open.into_iter().rev().for_each(|(permit, tokens)| permit.settle(&used(tokens)));
        prop_assert_eq!(limit.standing(&*space, KEY, NOW.into()).taken, expected);
    }
}

#[test]
fn overrun_makes_the_next_call_wait_longer() {
    let (space, limit) = (space(), limit(10, 100));
    let admitter = Admitter::new(Arc::clone(&space));
    let mut checks = [Check::new(limit, KEY)];
    let demand = |tokens| Demand { bound: output(tokens), ..Demand::default() };
    admitter.take(&mut checks, &demand(40), NOW, ID).unwrap().settle(&used(400));
    assert!(matches!(admitter.take(&mut checks, &demand(1), NOW, ID), Err(NotTaken::Exceeded(0))));
    assert_eq!((checks[0].state.used, checks[0].wait(NOW)), (400, 30_100_000_000), "301 tokens at ten a second");
    assert_eq!(admitter.peek(&mut checks, &demand(0), NOW), Ok(()), "a head tells no size: its call may wait");
    assert!(admitter.take(&mut checks, &demand(1), later(30_099), ID).is_err());
    admitter.take(&mut checks, &demand(1), later(30_100), ID).unwrap().give_back();
    // An absurd report is owed for a day.
    admitter.take(&mut checks, &demand(1), later(30_100), ID).unwrap().settle(&used(u64::MAX));
    assert!(admitter.take(&mut checks, &demand(1), later(86_400_000), ID).is_err());
    assert!(admitter.take(&mut checks, &demand(1), later(3 * 86_400_000), ID).is_ok(), "a day after the look before");
}

#[test]
fn permit_of_a_dead_worker_goes_back_to_the_bucket() {
    let (space, limit) = (space(), limit(1, 1_000));
    let admitter = Admitter::new(Arc::clone(&space));
    let mut checks = [Check::new(limit, KEY)];
    let mut take =
        |tokens| admitter.take(&mut checks, &Demand { bound: output(tokens), ..Demand::default() }, NOW, ID).unwrap();
    let (held, mut streamed, mut sent) = (take(100), take(200), take(300));
    streamed.mark_sent(&DRAFT);
    streamed.progress(&output(30));
    sent.mark_sent(&DRAFT);
    assert_eq!(limit.standing(&*space, KEY, NOW.into()).taken, 600);
    std::mem::forget((held, streamed, sent));
    let before: Vec<u64> = space.ring().words()[..512].iter().map(|word| word.load(Ordering::SeqCst)).collect();
    let found = reclaim(space.ring().words(), &*space, false, &mut NoLedger);
    assert_eq!(
        (found.open, found.given_back, found.settled),
        (3, 0, 0),
        "ring and counters may be of different moments"
    );
    assert_eq!(limit.standing(&*space, KEY, NOW.into()).taken, 600);
    space.ring().words().iter().zip(before).for_each(|(word, before)| word.store(before, Ordering::SeqCst));
    let found = reclaim(space.ring().words(), &*space, true, &mut NoLedger);
    assert_eq!((found.open, found.given_back, found.settled), (3, 1, 1));
    assert_eq!(limit.standing(&*space, KEY, NOW.into()).taken, 330);
}

#[test]
fn bucket_refills_at_the_rate_of_its_fields_to_the_token() {
    for (amount, burst) in [(1_000, 5_000), (3, 7), (333_333, 1_000_000), (1 << 20, 1 << 40)] {
        let (space, limit) = (space(), limit(amount, burst));
        let admitter = Admitter::new(Arc::clone(&space));
        let mut checks = [Check::new(limit, KEY)];
        let demand = |tokens| Demand { bound: output(tokens), ..Demand::default() };
        let mut take =
            |tokens, at| admitter.take(&mut checks, &demand(tokens), at, ID).map(|permit| permit.settle(&used(tokens)));
        take(burst, NOW).unwrap();
        assert!(take(1, NOW).is_err());
        assert!(take(amount + amount / 1_000 + 2, later(1_000)).is_err(), "{amount}");
        take(amount - amount / 500 - 1, later(1_000)).unwrap();
    }
}

#[test]
fn large_burst_stays_within_its_bits() {
    let limit =
        Limit::build("tokens_bucket", &json!({"amount": 1_u64 << 40, "per": "day", "burst": 1_u64 << 48})).unwrap();
    let space = space();
    let admitter = Admitter::new(Arc::clone(&space));
    let mut checks = [Check::new(limit, KEY)];
    let demand = Demand { bound: output(1 << 48), ..Demand::default() };
    let permit = admitter.take(&mut checks, &demand, NOW, ID).unwrap();
    assert_eq!(limit.standing(&*space, KEY, NOW.into()).taken, 1 << 48);
    assert!(matches!(admitter.take(&mut checks, &demand, NOW, ID), Err(NotTaken::Exceeded(0))));
    permit.give_back();
    assert_eq!(limit.standing(&*space, KEY, NOW.into()).taken, 0);
}

/// A world whose tier has a bucket of tokens.
fn world(amount: u64, burst: u64) -> World {
    let mut policy = policy();
    let fields = json!({"amount": amount, "per": "second", "burst": burst});
    policy["tiers"][0]["limits"] = json!([{"kind": "tokens_bucket", "fields": fields, "scope": "consumer", "shadow": false,
        "column": BUCKET, "by_model": []}]);
    policy["tiers"][0]["prompt_max_bytes"] = json!(null);
    let column = json!({"n": BUCKET, "kind": "dense", "words": 1, "key": "bucket"});
    policy["columns"].as_array_mut().unwrap().push(column);
    World::over(space(), &policy)
}

fn chat(more: &Value) -> Spec {
    let mut body = json!({"model": "small", "messages": [{"role": "user", "content": "hello"}]});
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    Spec::chat().with_body(body.to_string().as_bytes())
}

fn told(answer: &aigw_core::request::Answer, name: &str) -> Option<String> {
    answer.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value.to_string())
}

#[test]
fn call_that_the_bucket_has_not_waits_for_its_whole_amount() {
    let mut world = world(100, 1_000);
    let first = world.call(&chat(&json!({"max_tokens": 900})));
    let second = chat(&json!({"max_tokens": 500}));
    let answer = world.answer(&second);
    assert_eq!(world.reason(&second), Some(Reason::RateLimited));
    let wait: u64 = told(&answer, "retry-after-ms").unwrap().parse().unwrap();
    assert!((4_000..6_200).contains(&wait), "{wait}");
    assert_eq!(told(&answer, "x-should-retry"), None);
    assert_eq!(told(&answer, "x-ratelimit-limit-tokens").as_deref(), Some("1000"));
    world.now = Moment(world.now.0 + wait * 1_000_000);
    drop(world.call(&second));
    drop(first);
    drop(world.call(&chat(&json!({"max_tokens": 900}))));
}

#[test]
fn cap_above_the_burst_is_lowered_to_it_and_a_prompt_above_it_never_passes() {
    let world = world(100, 200);
    let (dispatch, call) = world.request(&chat(&json!({"max_tokens": 5_000}))).ok().unwrap().into_parts();
    let sent: Value = serde_json::from_slice(&dispatch.attempts.first.body).unwrap();
    assert!(sent["max_tokens"].as_u64().is_some_and(|cap| (50..200).contains(&cap)), "{sent}");
    drop(call);
    let long = "x".repeat(300);
    let spec = chat(&json!({"messages": [{"role": "user", "content": long}]}));
    assert_eq!(world.reason(&spec), Some(Reason::AboveLimit));
    let answer = world.answer(&spec);
    assert_eq!((told(&answer, "x-should-retry").as_deref(), told(&answer, "retry-after-ms")), (Some("false"), None));
}

#[test]
fn stream_may_be_longer_than_the_burst_and_a_route_needs_no_tokens() {
    let world = world(100, 200);
    let (dispatch, call) =
        world.request(&chat(&json!({"max_tokens": 5_000, "stream": true}))).ok().unwrap().into_parts();
    let sent: Value = serde_json::from_slice(&dispatch.attempts.first.body).unwrap();
    assert_eq!(sent["max_tokens"], 5_000);
    assert!(world.request(&chat(&json!({}))).is_err(), "the stream holds the bucket");
    drop(world.request(&Spec::route()).ok().unwrap().into_parts().1.completed(SHORT));
    drop(call);
}
