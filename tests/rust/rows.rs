//! The rows of calls in the ledger: one for each attempt that was answered or that counts, before the amounts change.
#![allow(clippy::unwrap_used, clippy::panic)]

mod world;

use std::sync::Arc;

use aigw_core::admit::{Books, NotNow, reclaim};
use aigw_core::cells::CounterSpace as _;
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::journal::{DRAFT_WORDS, TakenAmount};
use aigw_core::entry::doubt::{self, Doubt};
use aigw_core::entry::{Ended, Entry, TokenSource};
use aigw_core::limits::Usage;
use aigw_core::price::{Media, ServiceTier};
use aigw_core::refusal::Reason;
use aigw_core::settle::{Failure, Outcome, Shutdown};
use aigw_core::surface::Call;
use aigw_core::units::{Moment, RequestId};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use world::{ANN, NOW, SHORT, Spec, World, policy};

const RUNNING: Shutdown = Shutdown { draining: false, cutting: false };

fn rows(world: &World) -> Vec<Entry> {
    world.space.rows().iter().map(Entry::decode).collect()
}

/// A call that was sent.
fn sent(world: &World, request: &Spec) -> Call<HeapSpace> {
    let (dispatch, mut call) = world.request(request).ok().unwrap().into_parts();
    call.attempt(&dispatch.attempts.first.origin, dispatch.attempts.first.upstream);
    call.sending(SHORT);
    call
}

/// Its attempt is answered, and the answer passes.
fn answered(world: &World, call: &mut Call<HeapSpace>, with: u16, body: &'static str) {
    let status = StatusCode::from_u16(with).unwrap();
    call.judge(status, None);
    let media = if body.starts_with("data") { "text/event-stream" } else { "application/json" };
    let mut theirs = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(media))]);
    call.head(status, &mut theirs, body.as_bytes(), SHORT, false);
    call.piece(Bytes::from_static(body.as_bytes()), SHORT, &|| Arc::clone(&world.in_force));
}

const ANSWER: &str = r#"{"choices":[{"index":0,"message":{"content":"Hi"}}],"usage":{"prompt_tokens":9,"completion_tokens":4,
    "prompt_tokens_details":{"cached_tokens":3},"completion_tokens_details":{"reasoning_tokens":1}}}"#;

#[test]
fn completed_call_has_one_row_of_its_usage() {
    let world = World::new(&policy());
    let mut call = sent(&world, &Spec::chat());
    answered(&world, &mut call, 200, ANSWER);
    assert!(rows(&world).is_empty(), "no row before the end");
    let _ = call.completed(SHORT);
    let [row] = rows(&world)[..] else { panic!() };
    assert_eq!((row.consumer, row.credential, row.model > 0, row.tier > 0), (ANN, ANN, true, true));
    assert_eq!((row.status, row.attempt, row.ended, row.source), (200, 1, Ended::Completed, TokenSource::Provider));
    let tokens = row.tokens;
    assert_eq!([tokens.input, tokens.cached_input, tokens.output, tokens.reasoning], [6, 3, 3, 1]);
    assert!(row.counted && row.last && !row.stream && !row.overrun);
    assert_eq!((row.admitted_at, row.request, row.latency), (NOW, RequestId([1, 2]), 3_000));
    assert_eq!(world.space.claimed(), 0);
}

#[test]
fn answer_without_usage_has_a_row_of_the_gateways_count() {
    let world = World::new(&policy());
    let mut call = sent(&world, &Spec::chat());
    answered(&world, &mut call, 200, r#"{"choices":[{"index":0,"message":{"content":"Hello"}}]}"#);
    let _ = call.completed(SHORT);
    let [row] = rows(&world)[..] else { panic!() };
    assert_eq!((row.source, row.tokens.output), (TokenSource::Counted, 5), "bytes are the tokens of this world");
    assert!(row.tokens.input > 0);
}

#[test]
fn call_on_a_route_has_a_row_without_tokens() {
    let world = World::new(&policy());
    let mut call = sent(&world, &Spec::route());
    answered(&world, &mut call, 503, "down");
    let _ = call.completed(SHORT);
    let [row] = rows(&world)[..] else { panic!() };
    assert_eq!((row.route > 0, row.service > 0, row.model, row.status), (true, true, 0, 503));
    assert_eq!((row.source, row.price, row.counted), (TokenSource::None, None, true));
}

#[test]
fn answer_that_goes_back_has_a_row_that_counts_nothing() {
    let world = World::new(&policy());
    let mut call = sent(&world, &Spec::chat());
    answered(&world, &mut call, 500, ANSWER);
    let _ = call.completed(SHORT);
    let [row] = rows(&world)[..] else { panic!() };
    assert_eq!((row.ended, row.status, row.counted, row.source), (Ended::UpstreamError, 500, false, TokenSource::None));
    assert_eq!(row.used().requests, 0);
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

/// A gateway's refusal of a loop: the call itself was answered by nobody.
fn looped(world: &World, call: &mut Call<HeapSpace>, server: &'static str) {
    let mut theirs = HeaderMap::from_iter([(http::header::SERVER, HeaderValue::from_static(server))]);
    call.judge(StatusCode::LOOP_DETECTED, Some(&theirs));
    call.head(StatusCode::LOOP_DETECTED, &mut theirs, b"{}", SHORT, false);
    call.piece(Bytes::from_static(b"{}"), SHORT, &|| Arc::clone(&world.in_force));
}

#[test]
fn loop_has_no_row_and_is_no_call_or_error_of_a_model() {
    for request in [Spec::route(), Spec::chat()] {
        let world = World::new(&policy());
        let mut call = sent(&world, &request);
        looped(&world, &mut call, "aigw/0.1.0");
        let ended = call.completed(SHORT);
        assert!(rows(&world).is_empty());
        assert!(ended.call_report(&ended.report()).is_none() && ended.failed_attempts().is_empty());
        assert_eq!((ended.report().end.outcome, ended.report().end.status), (Outcome::UpstreamError, 508));
        assert_eq!((world.counts(ANN), world.space.claimed()), ([0, 0, 0], 0));
    }
}

#[test]
fn servers_own_508_has_a_row_and_is_an_error_of_its_model() {
    let world = World::new(&policy());
    let mut call = sent(&world, &Spec::chat());
    looped(&world, &mut call, "nginx");
    let ended = call.completed(SHORT);
    assert_eq!(rows(&world).iter().map(|row| row.status).collect::<Vec<_>>(), [508]);
    assert!(ended.call_report(&ended.report()).is_some() && ended.failed_attempts().len() == 1);
}

#[test]
fn call_without_an_answer_has_a_row_only_where_it_counts() {
    for (failure, ended) in
        [(Failure::Reset, None), (Failure::FirstByteTimeout, None), (Failure::Cancelled, Some(Ended::ClientCut))]
    {
        let world = World::new(&policy());
        let call = sent(&world, &Spec::chat());
        let _ = world.fail(call, failure, false, RUNNING);
        assert_eq!(rows(&world).first().map(|row| row.ended), ended, "{failure:?}");
        assert_eq!(world.space.claimed(), 0);
    }
}

#[test]
fn attempt_that_was_answered_before_another_has_a_row_of_its_own() {
    let world = World::new(&policy());
    let mut call = sent(&world, &Spec::chat());
    call.judge(StatusCode::SERVICE_UNAVAILABLE, None);
    let (dispatch, _) = world.request(&Spec::chat()).ok().unwrap().into_parts();
    call.attempt(&dispatch.attempts.first.origin, dispatch.attempts.first.upstream);
    answered(&world, &mut call, 200, ANSWER);
    let _ = call.completed(SHORT);
    let rows = rows(&world);
    let facts: Vec<_> = rows.iter().map(|row| (row.attempt, row.status, row.counted, row.last)).collect();
    assert_eq!(facts, [(1, 503, false, false), (2, 200, true, true)]);
}

#[test]
fn worker_that_dies_after_a_failover_leaves_a_row_for_each_attempt() {
    let world = World::new(&policy());
    let twin = Spec::chat().with_body(br#"{"model":"twin","messages":[{}]}"#);
    let mut call = sent(&world, &twin);
    call.judge(StatusCode::SERVICE_UNAVAILABLE, None);
    let (dispatch, _) = world.request(&twin).ok().unwrap().into_parts();
    let mut others = dispatch.attempts.others.unwrap();
    let second = others.next().unwrap();
    call.attempt(&second.origin, second.upstream);
    call.sending(SHORT);
    std::mem::forget(call);
    let [first] = rows(&world)[..] else { panic!() };
    assert_eq!((first.attempt, first.status, first.counted, first.last), (1, 503, false, false));
    let mut ledger = Ledger(&world, Vec::new(), Vec::new());
    reclaim(world.space.ring().words(), &*world.space, true, &mut ledger);
    let [row] = ledger.1[..] else { panic!() };
    assert_eq!((row.attempt, row.ended, row.counted, row.last), (2, Ended::Crashed, true, true));
    assert_eq!(row.request, first.request);
    assert_ne!(row.upstream, first.upstream);
}

#[test]
fn call_without_room_for_its_row_is_refused_and_takes_nothing() {
    let world = World::new(&policy());
    world.space.leave_room(1);
    let held = world.call(&Spec::chat());
    for request in [Spec::chat(), Spec::route()] {
        assert_eq!(world.reason(&request), Some(Reason::LedgerFull));
    }
    assert_eq!(world.counts(ANN)[1], 1, "the one that is on its way");
    let _ = world.fail(held, Failure::Reset, false, RUNNING);
    assert_eq!(world.reason(&Spec::chat()), None, "its room is free again");
    assert_eq!((world.space.claimed(), rows(&world).len()), (0, 0));
}

/// A policy whose tier has a price, and each of whose models has a cost, with prices of every sort.
fn priced() -> Value {
    let mut policy = policy();
    let media = json!({"image_input": 9_000_000, "audio_input": 50_000_000, "image_output": 8_000_000, "audio_output": 70_000_000});
    let special = json!({"media": media, "service_tiers": {"flex": 500_000, "priority": 3_000_000},
        "above": {"tokens": 100, "input": 20_000_000, "cached_input": 20_000_000, "cache_write": 20_000_000, "output": 60_000_000,
                  "reasoning": 60_000_000, "media": media}});
    let price = json!({"input": 10_000_000, "cached_input": 5_000_000, "cache_write": 10_000_000, "output": 40_000_000,
        "reasoning": 40_000_000, "request": 100, "special": special});
    policy["tiers"][0]["price"] = price.clone();
    for model in policy["models"].as_array_mut().unwrap() {
        model["cost"] = price.clone();
        model["cost"]["request"] = json!(7);
    }
    policy
}

/// The row of a call with this body: its price and its cost are those that its tokens have when they are priced again.
fn row_of(body: &str, answer: &'static str, end: impl FnOnce(&World, Call<HeapSpace>)) -> Entry {
    let world = World::new(&priced());
    let mut call = sent(&world, &Spec::chat().with_body(body.as_bytes()));
    answered(&world, &mut call, if answer.contains("error") { 500 } else { 200 }, answer);
    end(&world, call);
    let [row] = rows(&world)[..] else { panic!("{body}") };
    let offer = world.in_force.offer();
    let (price, cost) = (offer.tiers[0].price.as_ref().unwrap(), offer.models[0].cost.as_ref().unwrap());
    assert_eq!((row.price, row.cost), (Some(row.worth(price)), Some(row.worth(cost))), "{row:?}");
    assert_eq!((row.price_version, row.cost_version), (price.version(), cost.version()));
    row
}

fn completes(_: &World, call: Call<HeapSpace>) {
    let _ = call.completed(SHORT);
}

const PLAIN: &str = r#"{"model":"small","messages":[{}]}"#;
const STREAM: &str = r#"{"model":"small","messages":[{}],"stream":true}"#;

#[test]
fn row_has_the_tokens_that_prices_differ_by() {
    let answer = r#"{"service_tier":"flex","choices":[],"usage":{"prompt_tokens":30,"completion_tokens":10,
        "prompt_tokens_details":{"cached_tokens":5,"audio_tokens":4},"completion_tokens_details":{"image_tokens":2}}}"#;
    let row = row_of(PLAIN, answer, completes);
    assert_eq!(row.tokens.service, ServiceTier::Flex);
    assert_eq!(row.tokens.media, Media { audio_input: 4, image_output: 2, ..Media::default() });
    let wanted = 21 * 10 + 5 * 5 + 4 * 50 + 8 * 40 + 2 * 8 + 100;
    assert_eq!(row.price, Some(wanted / 2 + wanted % 2));
    let long = r#"{"service_tier":"scale","choices":[],"usage":{"prompt_tokens":101,"completion_tokens":1}}"#;
    assert_eq!(row_of(PLAIN, long, completes).price, Some(101 * 20 + 60 + 100));
}

#[test]
fn streams_have_the_service_tier_that_their_chunks_name_also_without_usage() {
    let told =
        "data: {\"service_tier\":\"priority\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\"Hello\"}}]}\n\n";
    let row = row_of(STREAM, told, |world, call| drop(world.fail(call, Failure::Cancelled, true, RUNNING)));
    assert_eq!(
        (row.ended, row.source, row.tokens.service),
        (Ended::ClientCut, TokenSource::Counted, ServiceTier::Priority)
    );
    let usage = "data: {\"service_tier\":\"auto\",\"choices\":[]}\n\ndata: {\"service_tier\":\"flex\",\"choices\":[],\
        \"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}}\n\ndata: [DONE]\n\n";
    let row = row_of(STREAM, usage, completes);
    assert_eq!((row.source, row.tokens.service, row.price), (TokenSource::Provider, ServiceTier::Flex, Some(105)));
}

#[test]
fn rows_without_usage_have_the_price_of_their_kind() {
    let counted = row_of(PLAIN, r#"{"choices":[{"index":0,"message":{"content":"Hello"}}]}"#, completes);
    assert_eq!(counted.source, TokenSource::Counted);
    let unread = row_of(PLAIN, "<html>", |world, call| drop(world.fail(call, Failure::Cancelled, true, RUNNING)));
    assert!(unread.counted);
    let back = row_of(PLAIN, r#"{"error":{"usage":{"prompt_tokens":9}}}"#, completes);
    assert_eq!((back.counted, back.price, back.cost), (false, Some(0), Some(0)));
}

#[test]
fn draft_of_a_call_is_worth_the_dearest_of_its_reservation() {
    let mut policy = priced();
    policy["tiers"][0]["limits"] = json!([{"kind": "tokens", "fields": {"amount": 100_000, "per": "day"}, "scope": "consumer",
        "shadow": false, "column": 9, "by_model": []}]);
    policy["tiers"][0]["output_max_tokens"] = json!(50);
    policy["columns"].as_array_mut().unwrap().push(json!({"n": 9, "kind": "dense", "words": 2, "key": "tokens:9"}));
    let columns = [(world::ROUTE, 4, 1), (world::TIER, 4, 1), (world::MODEL, 4, 1), (9, 4, 2)];
    let space = HeapSpace::wide(&columns, 8).unwrap();
    let world = World::over(Arc::new(space), &policy);
    std::mem::forget(sent(&world, &Spec::chat()));
    let mut ledger = Ledger(&world, Vec::new(), Vec::new());
    reclaim(world.space.ring().words(), &*world.space, true, &mut ledger);
    let [row] = ledger.1[..] else { panic!() };
    let offer = world.in_force.offer();
    let price = offer.tiers[0].price.as_ref().unwrap();
    assert_eq!((row.source, row.ended, row.tokens.output), (TokenSource::Reserved, Ended::Crashed, 50));
    assert_eq!(row.price, Some(row.worth(price)));
    assert_eq!(row.cost, Some(row.worth(offer.models[0].cost.as_ref().unwrap())));
    assert!(row.price > Some(3 * 50 * 70), "three times audio for each token");
}

/// The ledger of dead workers, over the rows of a space.
struct Ledger<'a>(&'a World, Vec<Entry>, Vec<Doubt>);

impl Books for Ledger<'_> {
    fn used(&mut self, request: RequestId) -> Option<Usage> {
        rows(self.0).iter().find(|row| row.request == request && row.last).map(Entry::used)
    }

    fn add(&mut self, draft: &[u64; DRAFT_WORDS], progress: Option<[u64; 3]>) -> Result<Option<Usage>, NotNow> {
        let entry = Entry::crashed(draft, progress, Moment(NOW.0 + 5_000_000_000));
        self.1.push(entry);
        Ok(Some(entry.used()))
    }

    fn doubt(&mut self, request: RequestId, lines: impl Iterator<Item = TakenAmount>) -> Result<(), NotNow> {
        self.2.extend(doubt::encode(request, lines).iter().flat_map(doubt::decode));
        Ok(())
    }
}

#[test]
fn call_of_a_dead_worker_gets_one_row_and_counts_what_it_says() {
    let world = World::new(&policy());
    std::mem::forget(sent(&world, &Spec::chat()));
    std::mem::forget(world.call(&Spec::chat()));
    let mut ledger = Ledger(&world, Vec::new(), Vec::new());
    let found = reclaim(world.space.ring().words(), &*world.space, true, &mut ledger);
    assert_eq!((found.open, found.given_back, found.settled), (2, 1, 1));
    let [row] = ledger.1[..] else { panic!() };
    assert_eq!(
        (row.consumer, row.model > 0, row.ended, row.counted, row.last),
        (ANN, true, Ended::Crashed, true, true)
    );
    assert_eq!((row.latency, row.request), (5_000_000, RequestId([1, 2])));
    assert_eq!(world.counts(ANN)[1], 1);
    assert_eq!(reclaim(world.space.ring().words(), &*world.space, true, &mut ledger).open, 0);
}

/// The row of the call may be in the store already, and its segment gone.
#[test]
fn call_of_before_a_loss_of_power_gets_no_second_row_and_stays_counted() {
    let world = World::new(&policy());
    std::mem::forget(sent(&world, &Spec::chat()));
    let mut ledger = Ledger(&world, Vec::new(), Vec::new());
    let found = reclaim(world.space.ring().words(), &*world.space, false, &mut ledger);
    assert_eq!((found.open, found.given_back, found.settled, found.waiting), (1, 0, 0, 0));
    assert_eq!((ledger.1.len(), world.counts(ANN)[1]), (0, 1));
    let doubts: Vec<_> = ledger.2.iter().map(|one| (one.request, one.column, one.row, one.amount)).collect();
    assert_eq!(doubts, [(RequestId([1, 2]), world::TIER, ANN, 1), (RequestId([1, 2]), world::MODEL, ANN, 1)]);
}
