//! Budgets of calls of models, from admission to settlement: plain calls, streams, cuts.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::Arc;

use aigw_core::cells::CellKey;
use aigw_core::cells::heap::HeapSpace;
use aigw_core::in_force::InForce;
use aigw_core::limits::{Amounts, Limit};
use aigw_core::refusal::Reason;
use aigw_core::settle::{Failure, Outcome, Shutdown, UsageSource};
use aigw_core::surface::{Call, EndedCall};
use aigw_core::tokens::{BytesCounter, TokenCounter};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use world::{ANN, MODEL, ROUTE, SHORT, Spec, TIER, World, policy};

const TOKENS: u32 = 7;
const SPEND: u32 = 8;
const RUNNING: Shutdown = Shutdown { draining: false, cutting: false };
/// 1 USD for a million tokens of input, 2 of output, and 1,000 nano-dollars for a request.
const PRICE: &str = r#"{"input":1000000000,"cached_input":1000000000,"cache_write":1000000000,"output":2000000000,"reasoning":2000000000,"request":1000}"#;

/// A token for every four bytes.
struct Fours;

impl TokenCounter for Fours {
    fn count(&self, text: &str) -> u64 {
        (text.len() as u64).div_ceil(4)
    }
}

/// A world whose tier has a token budget and a spend budget.
struct Budgets {
    world: World,
    policy: Value,
    limits: [(Limit, u32); 2],
}

impl Budgets {
    fn new(tokens: u64, spend: u64) -> Self {
        Self::with(tokens, spend, |_| {})
    }

    fn with(tokens: u64, spend: u64, change: impl FnOnce(&mut Value)) -> Self {
        Self::counted_by(|| Arc::new(BytesCounter), tokens, spend, change)
    }

    /// A world whose models count tokens of four bytes.
    fn exact(tokens: u64, spend: u64) -> Self {
        Self::counted_by(|| Arc::new(Fours), tokens, spend, |_| ())
    }

    fn counted_by(
        counter: fn() -> Arc<dyn TokenCounter>,
        tokens: u64,
        spend: u64,
        change: impl FnOnce(&mut Value),
    ) -> Self {
        let mut policy = policy();
        let fields = [json!({"amount": tokens, "per": "day"}), json!({"amount": spend, "per": "month"})];
        let limit = |kind: &str, fields: &Value, column: u32| json!({"kind": kind, "fields": fields, "scope": "consumer", "shadow": false, "column": column, "by_model": []});
        policy["tiers"][0]["limits"] = json!([limit("tokens", &fields[0], TOKENS), limit("spend", &fields[1], SPEND)]);
        policy["tiers"][0]["price"] = serde_json::from_str(PRICE).unwrap();
        policy["tiers"][0]["prompt_max_bytes"] = json!(null);
        policy["tiers"][0]["parameters"]["n"] = json!(8);
        for column in [TOKENS, SPEND] {
            let column = json!({"n": column, "kind": "dense", "words": 2, "key": format!("budget:{column}")});
            policy["columns"].as_array_mut().unwrap().push(column);
        }
        change(&mut policy);
        let columns = [(ROUTE, 4, 1), (TIER, 4, 1), (MODEL, 4, 1), (TOKENS, 4, 2), (SPEND, 4, 2)];
        let world = World::counted_by(counter, Arc::new(HeapSpace::wide(&columns, 8).unwrap()), &policy);
        let build = |kind: &str, fields: &Value| Limit::build(kind, fields).unwrap();
        let limits = [(build("tokens", &fields[0]), TOKENS), (build("spend", &fields[1]), SPEND)];
        Self { world, policy, limits }
    }

    /// The configuration after a reload that changes the tier.
    fn reloaded(&self, change: impl FnOnce(&mut Value)) -> Arc<InForce> {
        let mut policy = self.policy.clone();
        change(&mut policy["tiers"][0]);
        self.world.reloaded(&policy)
    }

    /// Tokens and nano-dollars that are taken.
    fn taken(&self) -> [u64; 2] {
        self.limits.map(|(limit, column)| {
            limit.standing(&*self.world.space, CellKey::Dense { column, row: ANN }, self.world.now.into()).taken
        })
    }

    fn call(&self, body: &Value) -> Call<HeapSpace> {
        let (dispatch, mut call) = self.world.request(&chat(body)).ok().unwrap().into_parts();
        call.attempt(&dispatch.attempts.first.origin, dispatch.attempts.first.upstream);
        call.sending(SHORT);
        call
    }

    /// One event with a token, under the configuration that admitted the call: the test's counter has a token for each byte.
    fn token(&self, call: &mut Call<HeapSpace>) -> Bytes {
        token_under(call, &self.world.in_force)
    }

    /// The tokens of a stream until it is over.
    fn pass_all(&self, call: &mut Call<HeapSpace>) -> u64 {
        let mut passed = 0;
        loop {
            self.token(call);
            if call.is_over() {
                return passed;
            }
            passed += 1;
        }
    }
}

fn chat(body: &Value) -> Spec {
    Spec::chat().with_body(body.to_string().as_bytes())
}

fn ask(more: &Value) -> Value {
    let mut body = json!({"model": "small", "messages": [{"role": "user", "content": "hello"}]});
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    body
}

/// Answers a call with a document.
fn answer(mut call: Call<HeapSpace>, status: u16, body: &str) -> EndedCall {
    let media = HeaderValue::from_static("application/json");
    let mut headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, media)]);
    call.head(StatusCode::from_u16(status).unwrap(), &mut headers, b"", SHORT, false);
    piece(&mut call, body.as_bytes());
    rest(&mut call);
    call.completed(SHORT)
}

/// The configuration in force of a piece without output, which asks for no tokens.
fn unasked() -> Arc<InForce> {
    Arc::new(InForce::empty())
}

/// A piece of an answer without output of a stream.
fn piece(call: &mut Call<HeapSpace>, bytes: &[u8]) -> Bytes {
    call.piece(Bytes::copy_from_slice(bytes), SHORT, &unasked)
}

fn rest(call: &mut Call<HeapSpace>) {
    call.rest(SHORT, &unasked);
}

fn begin(call: &mut Call<HeapSpace>) {
    let media = HeaderValue::from_static("text/event-stream");
    call.head(StatusCode::OK, &mut HeaderMap::from_iter([(http::header::CONTENT_TYPE, media)]), b"", SHORT, false);
}

/// One event with a token, under this configuration.
fn token_under(call: &mut Call<HeapSpace>, current: &Arc<InForce>) -> Bytes {
    let event = b"data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"x\"}}]}\n\n";
    call.piece(Bytes::from_static(event), SHORT, &|| Arc::clone(current))
}

#[test]
fn plain_call_reserves_its_bound_and_settles_to_its_usage() {
    let budgets = Budgets::new(10_000, 1_000_000_000);
    let call = budgets.call(&ask(&json!({"max_tokens": 100, "n": 2})));
    let [tokens, spend] = budgets.taken();
    let input = tokens - 200;
    assert!(input > 5 && input < 200, "{input}");
    assert_eq!(spend, 1_000 + input * 1_000 + 200 * 2_000);
    let ended = answer(call, 200, r#"{"usage":{"prompt_tokens":9,"completion_tokens":20}}"#);
    assert_eq!(budgets.taken(), [29, 1_000 + 9_000 + 40_000]);
    let settled = ended.settled().unwrap();
    assert_eq!((settled.source, settled.price, settled.overrun), (UsageSource::Reported, Some(50_000), false));
}

#[test]
fn failed_call_gives_everything_back() {
    let budgets = Budgets::new(10_000, 1_000_000_000);
    for status in [401, 429, 500, 503] {
        answer(budgets.call(&ask(&json!({"max_tokens": 100}))), status, "{}");
        assert_eq!(budgets.taken(), [0, 0], "{status}");
    }
    drop(budgets.call(&ask(&json!({"stream": true}))));
    assert_eq!(budgets.taken(), [0, 0]);
}

#[test]
fn error_about_the_request_costs_the_request_alone() {
    let budgets = Budgets::new(10_000, 1_000_000_000);
    answer(budgets.call(&ask(&json!({"max_tokens": 100}))), 400, r#"{"error":{"message":"x"}}"#);
    assert_eq!(budgets.taken(), [0, 1_000]);
}

#[test]
fn cap_of_the_model_goes_upstream_where_a_budget_counts_on_it() {
    let budgets = Budgets::with(10_000, 1_000_000_000, |policy| policy["models"][0]["max_output_tokens"] = json!(700));
    for asked in [json!({}), json!({"stream": true}), json!({"max_tokens": 5_000})] {
        let (dispatch, call) = budgets.world.request(&chat(&ask(&asked))).ok().unwrap().into_parts();
        let sent: Value = serde_json::from_slice(&dispatch.attempts.first.body).unwrap();
        let cap = sent.get("max_tokens").or(sent.get("max_completion_tokens")).and_then(Value::as_u64);
        assert_eq!(cap, Some(700), "{asked}: {sent}");
        drop(call);
    }
}

#[test]
fn cap_is_lowered_to_the_grant_and_a_call_that_does_not_fit_is_refused() {
    let budgets = Budgets::new(300, 1_000_000_000);
    let (dispatch, call) = budgets.world.request(&chat(&ask(&json!({"max_tokens": 1000})))).ok().unwrap().into_parts();
    assert_eq!(budgets.taken()[0], 300, "the whole budget is reserved");
    let sent = String::from_utf8(dispatch.attempts.first.body.to_vec()).unwrap();
    let sent: Value = serde_json::from_str(&sent).unwrap();
    assert!(sent["max_tokens"].as_u64().unwrap() < 300, "{sent}");
    assert!(budgets.world.request(&chat(&ask(&json!({})))).is_err());
    drop(call);
    assert_eq!(budgets.taken(), [0, 0]);
    assert!(Budgets::new(10, 1_000_000_000).world.request(&chat(&ask(&json!({})))).is_err());
}

#[test]
fn stream_is_extended_on_its_way_and_settles_to_its_usage() {
    let budgets = Budgets::new(10_000, 1_000_000_000);
    let mut call = budgets.call(&ask(&json!({"stream": true, "max_tokens": 2000})));
    let input = budgets.taken()[0] - 256;
    begin(&mut call);
    for passed in 1..=1_000 {
        assert!(!budgets.token(&mut call).is_empty());
        let held = budgets.taken()[0] - input;
        assert!(held >= passed && held <= passed + 64 + 256, "{passed} {held}");
    }
    piece(&mut call, b"data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":1000}}\n\n");
    piece(&mut call, b"data: [DONE]\n\n");
    rest(&mut call);
    assert_eq!(call.completed(SHORT).report().end.outcome, Outcome::Completed);
    assert_eq!(budgets.taken(), [1_009, 1_000 + 9_000 + 2_000_000]);
}

#[test]
fn stream_holds_no_more_than_its_output_cap() {
    for (cap, choices) in [(40, 1), (300, 1), (150, 2)] {
        let budgets = Budgets::new(10_000, 1_000_000_000);
        let mut call = budgets.call(&ask(&json!({"stream": true, "max_tokens": cap, "n": choices})));
        let most = cap * choices;
        let input = budgets.taken()[0] - most.min(256 * choices);
        begin(&mut call);
        for _ in 0..most {
            assert!(!budgets.token(&mut call).is_empty());
            assert!(budgets.taken()[0] <= input + most, "{cap} {choices}");
        }
        assert_eq!(budgets.taken(), [input + most, 1_000 + input * 1_000 + most * 2_000]);
        // An upstream that ignores the cap goes on, token by token.
        budgets.token(&mut call);
        assert_eq!(budgets.taken()[0], input + most + 1);
    }
}

#[test]
fn stream_ends_at_the_boundary_of_either_budget() {
    for (tokens, spend) in [(700, 1_000_000_000), (1_000_000, 1_000_000)] {
        let budgets = Budgets::new(tokens, spend);
        let mut call = budgets.call(&ask(&json!({"stream": true})));
        let input = budgets.taken()[0] - 256;
        begin(&mut call);
        let mut passed = 0;
        while !call.is_over() {
            let piece = String::from_utf8(budgets.token(&mut call).to_vec()).unwrap();
            if call.is_over() {
                assert!(
                    piece.contains("\"finish_reason\":\"length\"") && piece.contains("budget_exhausted"),
                    "{piece}"
                );
                assert!(piece.ends_with("data: [DONE]\n\n"), "{piece}");
            } else {
                passed += 1;
            }
        }
        rest(&mut call);
        let ended = call.completed(SHORT);
        assert_eq!(ended.report().end.outcome, Outcome::LimitCut);
        let price = 1_000 + input * 1_000 + passed * 2_000;
        assert_eq!(budgets.taken(), [input + passed, price]);
        assert!(input + passed == tokens || price + 2_000 > spend, "the budget is used to its last token");
        assert!(input + passed <= tokens && price <= spend);
        assert_eq!(ended.settled().unwrap().source, UsageSource::Counted);
    }
}

#[test]
fn stream_whose_input_was_bounded_by_bytes_uses_the_budget_to_its_last_token() {
    let body =
        ask(&json!({"stream": true, "max_tokens": 10, "messages": [{"role": "user", "content": "word".repeat(100)}]}));
    let ample = Budgets::exact(1_000_000, 1_000_000_000);
    let mut call = ample.call(&body);
    let bound = ample.taken()[0] - 10;
    begin(&mut call);
    ample.token(&mut call);
    ample.world.fail(call, Failure::Cancelled, true, RUNNING);
    let exact = ample.taken()[0] - 1;
    assert!(exact < bound / 2, "{exact} {bound}");
    // The upstream ignores the cap of 10 tokens, which the budget holds next to the bound.
    let room = bound + 300;
    let dear = 1_000 + room * 1_000;
    for (tokens, spend) in [(room, 1_000_000_000), (1_000_000, dear)] {
        let budgets = Budgets::exact(tokens, spend);
        let mut call = budgets.call(&body);
        assert_eq!(budgets.taken()[0], bound + 10, "the bytes prove the budgets ample");
        begin(&mut call);
        let passed = budgets.pass_all(&mut call);
        let price = 1_000 + exact * 1_000 + passed * 2_000;
        assert_eq!(budgets.taken(), [exact + passed, price]);
        assert!(exact + passed == tokens || price + 2_000 > spend, "{passed} of {tokens} tokens, {price} of {spend}");
        assert!(exact + passed <= tokens && price <= spend);
        let ended = call.completed(SHORT);
        assert_eq!((ended.report().end.outcome, ended.settled().unwrap().overrun), (Outcome::LimitCut, false));
        assert_eq!(budgets.taken(), [exact + passed, price]);
    }
}

/// The tokens of a stream under this configuration, at most 3,000, and the last piece where it is over.
fn pass_under(call: &mut Call<HeapSpace>, current: &Arc<InForce>) -> (u64, Option<String>) {
    for passed in 0..3_000 {
        let piece = token_under(call, current);
        if call.is_over() {
            return (passed, Some(String::from_utf8(piece.to_vec()).unwrap()));
        }
    }
    (3_000, None)
}

fn amount(limit: usize, amount: u64) -> impl Fn(&mut Value) {
    move |tier| tier["limits"][limit]["fields"]["amount"] = json!(amount)
}

#[test]
fn lowered_limit_grants_a_running_stream_no_more() {
    for (limit, lowered, policy) in [(0, 100, "100 tokens per day"), (1, 3_000, "0.000003 USD per month")] {
        let budgets = Budgets::new(100_000, 1_000_000_000);
        let mut call = budgets.call(&ask(&json!({"stream": true})));
        let input = budgets.taken()[0] - 256;
        begin(&mut call);
        (0..10).for_each(|_| drop(budgets.token(&mut call)));
        let before = budgets.taken();
        let (passed, last) = pass_under(&mut call, &budgets.reloaded(amount(limit, lowered)));
        assert_eq!(passed, 246, "the amounts that were reserved before stay");
        let last = last.unwrap();
        assert!(last.contains(policy) && last.contains("budget_exhausted") && !last.contains("needs"), "{last}");
        assert_eq!(budgets.taken(), before);
        assert_eq!(call.completed(SHORT).report().end.outcome, Outcome::LimitCut);
        assert_eq!(budgets.taken(), [input + 256, 1_000 + input * 1_000 + 256 * 2_000]);
    }
}

#[test]
fn lowered_limit_that_is_not_used_up_grants_a_running_stream_its_rest() {
    let budgets = Budgets::new(100_000, 1_000_000_000);
    let mut call = budgets.call(&ask(&json!({"stream": true})));
    let input = budgets.taken()[0] - 256;
    begin(&mut call);
    budgets.token(&mut call);
    let (passed, _) = pass_under(&mut call, &budgets.reloaded(amount(0, 900)));
    assert_eq!(input + 1 + passed, 900);
    assert_eq!(budgets.taken()[0], 900);
}

#[test]
fn raised_limit_grants_a_running_stream_more() {
    let budgets = Budgets::new(700, 1_000_000_000);
    let mut call = budgets.call(&ask(&json!({"stream": true})));
    let input = budgets.taken()[0] - 256;
    begin(&mut call);
    (0..700 - input).for_each(|_| assert!(!budgets.token(&mut call).is_empty()));
    assert!(!call.is_over() && budgets.taken()[0] == 700);
    let (passed, _) = pass_under(&mut call, &budgets.reloaded(amount(0, 1_000)));
    assert_eq!(passed, 300);
    call.completed(SHORT);
    assert_eq!(budgets.taken()[0], 1_000);
}

#[test]
fn removed_limit_bounds_a_running_stream_no_longer_and_counts_it() {
    let budgets = Budgets::new(700, 1_000_000_000);
    let mut call = budgets.call(&ask(&json!({"stream": true})));
    let input = budgets.taken()[0] - 256;
    begin(&mut call);
    let removed = budgets.reloaded(|tier| drop(tier["limits"].as_array_mut().unwrap().remove(0)));
    assert_eq!(pass_under(&mut call, &removed), (3_000, None));
    assert!(budgets.taken()[0] <= 700);
    // The limit is back, and spent.
    assert!(pass_under(&mut call, &budgets.reloaded(amount(0, 800))).1.is_some());
    call.completed(SHORT);
    assert!(budgets.taken()[0] >= input + 3_000);
}

#[test]
fn new_limit_and_new_prices_do_not_concern_a_running_stream() {
    let budgets = Budgets::with(100_000, 0, |policy| drop(policy["tiers"][0]["limits"].as_array_mut().unwrap().pop()));
    let mut call = budgets.call(&ask(&json!({"stream": true})));
    let input = budgets.taken()[0] - 256;
    begin(&mut call);
    let changed = budgets.reloaded(|tier| {
        let new = json!({"kind": "spend", "fields": {"amount": 1, "per": "month"}, "scope": "consumer", "shadow": false, "column": SPEND, "by_model": []});
        tier["limits"].as_array_mut().unwrap().push(new);
        tier["price"]["output"] = json!(9_000_000_000_u64);
    });
    assert_eq!(pass_under(&mut call, &changed), (3_000, None));
    let settled = *call.completed(SHORT).settled().unwrap();
    assert_eq!(budgets.taken(), [input + 3_000, 0]);
    assert_eq!(settled.price, Some(1_000 + input * 1_000 + 3_000 * 2_000));
}

#[test]
fn limits_of_a_tier_that_is_gone_bound_a_running_stream() {
    let budgets = Budgets::new(700, 1_000_000_000);
    let mut call = budgets.call(&ask(&json!({"stream": true})));
    begin(&mut call);
    pass_under(&mut call, &Arc::new(InForce::empty()));
    assert!(call.is_over());
    assert_eq!(budgets.taken()[0], 700);
}

#[test]
fn cut_stream_is_settled_to_what_had_passed() {
    for failure in [Failure::Cancelled, Failure::CutShort, Failure::BetweenTimeout] {
        let budgets = Budgets::new(10_000, 1_000_000_000);
        let mut call = budgets.call(&ask(&json!({"stream": true})));
        let input = budgets.taken()[0] - 256;
        begin(&mut call);
        (0..300).for_each(|_| drop(budgets.token(&mut call)));
        budgets.world.fail(call, failure, true, RUNNING);
        assert_eq!(budgets.taken(), [input + 300, 1_000 + input * 1_000 + 600_000], "{failure:?}");
    }
}

#[test]
fn bad_usage_is_never_free_and_never_wraps() {
    for (usage, tokens) in [
        (r#"{"usage":{"prompt_tokens":-1,"completion_tokens":5}}"#, None),
        (r#"{"usage":{"prompt_tokens":"9","completion_tokens":"5"}}"#, None),
        (r#"{"usage":{"prompt_tokens":1000000000000000000,"completion_tokens":5}}"#, None),
        (r#"{"usage":null}"#, None),
        ("{}", None),
        (r#"{"usage":{"prompt_tokens":9,"completion_tokens":5000}}"#, Some(5_009)),
        (r#"{"usage":{"prompt_tokens":9,"completion_tokens":0}}"#, Some(9)),
    ] {
        let budgets = Budgets::new(10_000, 1_000_000_000);
        let call = budgets.call(&ask(&json!({"max_tokens": 100})));
        let reserved = budgets.taken()[0];
        let ended = answer(call, 200, usage);
        assert_eq!(budgets.taken()[0], tokens.unwrap_or(reserved), "{usage}");
        assert_eq!(ended.settled().unwrap().overrun, tokens == Some(5_009), "{usage}");
    }
}

#[test]
fn ceilings_bound_one_call() {
    let small = Budgets::with(10_000, 1_000_000_000, |policy| policy["tiers"][0]["prompt_max_tokens"] = json!(10));
    let rejected = small.world.request(&chat(&ask(&json!({})))).err().unwrap();
    assert!(rejected.refusal.message().contains("allows 10"), "{}", rejected.refusal.message());
    let cheap = Budgets::with(10_000, 1_000_000_000, |policy| policy["tiers"][0]["request_max_spend"] = json!(300_000));
    drop(cheap.call(&ask(&json!({"max_tokens": 5_000}))));
    let (dispatch, _call) = cheap.world.request(&chat(&ask(&json!({"max_tokens": 5_000})))).ok().unwrap().into_parts();
    assert!(cheap.taken()[1] <= 300_000);
    assert!(!dispatch.attempts.first.body.is_empty());
    let dear = Budgets::with(10_000, 1_000_000_000, |policy| policy["tiers"][0]["request_max_spend"] = json!(2_000));
    assert!(dear.world.request(&chat(&ask(&json!({})))).err().unwrap().refusal.message().contains("0.000002"));
}

#[test]
fn report_shows_reserved_settled_extensions_and_the_cut() {
    let budgets = Budgets::new(700, 1_000_000_000);
    let mut call = budgets.call(&ask(&json!({"stream": true})));
    let input = budgets.taken()[0] - 256;
    begin(&mut call);
    while !call.is_over() {
        budgets.token(&mut call);
    }
    let held = 700 - input;
    let (tier, report) = call.completed(SHORT).budget_report().unwrap();
    assert_eq!((tier, report.cut, report.overrun), (1, true, false));
    assert_eq!((report.reserved.input_tokens, report.reserved.output_tokens), (input, held));
    assert_eq!((report.settled.input_tokens, report.settled.output_tokens), (input, held));
    assert!(report.granted >= 1 && report.refused >= 1, "{report:?}");

    let budgets = Budgets::new(10_000, 1_000_000_000);
    let usage = r#"{"usage":{"prompt_tokens":9,"completion_tokens":500}}"#;
    let report = answer(budgets.call(&ask(&json!({"max_tokens": 100}))), 200, usage).budget_report().unwrap().1;
    assert_eq!((report.overrun, report.reserved.output_tokens, report.settled.output_tokens), (true, 100, 500));
    let report = answer(budgets.call(&ask(&json!({"max_tokens": 100}))), 503, "{}").budget_report().unwrap().1;
    assert_eq!((report.reserved.output_tokens, report.settled), (100, Amounts::NONE));
}

#[test]
fn log_line_has_the_tokens_that_were_settled() {
    let budgets = Budgets::new(10_000, 1_000_000_000);
    let ended = answer(budgets.call(&ask(&json!({"max_tokens": 100}))), 200, "{}");
    let (classes, source) = ended.report().tokens().unwrap();
    assert_eq!((classes.output, source.name()), (100, "reserved"));
    assert_eq!(ended.report().price(), ended.settled().unwrap().price);
    let usage = r#"{"usage":{"prompt_tokens":9,"completion_tokens":20}}"#;
    let ended = answer(budgets.call(&ask(&json!({"max_tokens": 100}))), 200, usage);
    let (classes, source) = ended.report().tokens().unwrap();
    assert_eq!((classes.input, classes.output, source.name()), (9, 20, "provider"));
}

/// A stream of so many tokens, with this usage at its end.
fn stream(budgets: &Budgets, body: &Value, tokens: u64, usage: &Value) -> EndedCall {
    let mut call = budgets.call(body);
    begin(&mut call);
    (0..tokens).for_each(|_| drop(budgets.token(&mut call)));
    piece(&mut call, format!("data: {}\n\ndata: [DONE]\n\n", json!({"choices": [], "usage": usage})).as_bytes());
    rest(&mut call);
    call.completed(SHORT)
}

fn usage(output: u64, reasoning: u64) -> Value {
    json!({"prompt_tokens": 9, "completion_tokens": output, "completion_tokens_details": {"reasoning_tokens": reasoning}})
}

/// Output tokens that a stream holds at its begin. `more`: members of its body.
fn held_at_first(budgets: &Budgets, more: &Value) -> u64 {
    let mut body = ask(&json!({"stream": true, "max_tokens": 2_000}));
    more.as_object().unwrap().iter().for_each(|(name, value)| body[name] = value.clone());
    let before = budgets.taken()[0];
    let call = budgets.call(&body);
    let (_, report) = budgets.world.fail(call, Failure::Refused, false, RUNNING).ended.budget_report().unwrap();
    assert_eq!(budgets.taken()[0], before);
    report.reserved.output_tokens
}

#[test]
fn stream_that_asks_for_reasoning_holds_its_whole_cap_until_the_model_shows_it() {
    let budgets = Budgets::new(100_000, 1_000_000_000);
    for (more, held) in [
        (json!({}), 256),
        (json!({"reasoning_effort": "none"}), 256),
        (json!({"reasoning_effort": null, "reasoning": null}), 256),
        (json!({"reasoning_effort": "minimal"}), 2_000),
        (json!({"reasoning_effort": "high", "n": 3}), 6_000),
        (json!({"reasoning": {"max_tokens": 100}}), 2_000),
    ] {
        assert_eq!(held_at_first(&budgets, &more), held, "{more}");
    }
    let body = ask(&json!({"stream": true, "reasoning_effort": "low", "max_tokens": 500}));
    stream(&budgets, &body, 40, &usage(40, 30));
    assert_eq!(held_at_first(&budgets, &json!({"reasoning_effort": "high"})), 256, "its streams show their reasoning");
    stream(&budgets, &body, 10, &usage(40, 30));
    assert_eq!(held_at_first(&budgets, &json!({})), 2_000, "one that hid some outweighs");
    stream(&budgets, &body, 40, &usage(40, 30));
    assert_eq!(held_at_first(&budgets, &json!({})), 2_000);
}

#[test]
fn hidden_reasoning_exceeds_no_limit_once_a_stream_had_some() {
    for (limits, most) in [((10_000, 1_000_000_000), 10_000), ((1_000_000, 20_000_000), 9_999)] {
        let budgets = Budgets::new(limits.0, limits.1);
        // Within the first chunk.
        let ended = stream(&budgets, &ask(&json!({"stream": true, "max_tokens": 300})), 10, &usage(200, 190));
        assert!(!ended.settled().unwrap().overrun);
        let used = budgets.taken()[0];
        let body = ask(&json!({"stream": true}));
        let mut call = budgets.call(&body);
        assert!(budgets.world.request(&chat(&body)).is_err(), "it holds all that is left");
        begin(&mut call);
        (0..5).for_each(|_| drop(budgets.token(&mut call)));
        // The upstream stops at the cap that it got: all of it but the five tokens was reasoning.
        let cap = most.min(budgets.taken()[0]) - used - 9;
        let told = json!({"choices": [], "usage": usage(cap - 500, cap - 505)});
        piece(&mut call, format!("data: {told}\n\n").as_bytes());
        rest(&mut call);
        let ended = call.completed(SHORT);
        assert!(!ended.settled().unwrap().overrun);
        let [tokens, spend] = budgets.taken();
        assert!(tokens <= limits.0 && spend <= limits.1, "{tokens} {spend}");
        assert_eq!(tokens, used + 9 + cap - 500);
    }
}

#[test]
fn output_beyond_the_held_tokens_is_remembered_as_hidden_only_within_the_cap() {
    for (reported, held) in [(256, 256), (257, 2_000), (2_000, 2_000), (2_001, 256)] {
        let budgets = Budgets::new(100_000, 1_000_000_000);
        let body = ask(&json!({"stream": true, "max_tokens": 2_000}));
        let ended = stream(&budgets, &body, 10, &json!({"prompt_tokens": 9, "completion_tokens": reported}));
        assert_eq!(ended.settled().unwrap().overrun, reported > 256);
        assert_eq!(held_at_first(&budgets, &json!({})), held, "{reported}");
        let reloaded = budgets.reloaded(|tier| tier["price"]["output"] = json!(3_000_000_000_u64));
        assert_eq!(reloaded.models[0].may_hide_output(false), held == 2_000, "a reload forgets nothing");
    }
}

#[test]
fn usage_below_the_streamed_text_is_settled_as_it_came_and_marked() {
    let understated = |tokens: u64, told: u64| {
        let budgets = Budgets::new(10_000, 1_000_000_000);
        let ended = stream(&budgets, &ask(&json!({"stream": true})), tokens, &usage(told, 0));
        let (settled, report) = (*ended.settled().unwrap(), ended.budget_report().unwrap().1);
        assert_eq!(report.understated, settled.understated);
        (settled.amounts.output_tokens, settled.source.name(), settled.understated)
    };
    assert_eq!(understated(20, 20), (20, "provider", false));
    assert_eq!(understated(20, 21), (21, "provider", false));
    assert_eq!(understated(20, 19), (19, "provider", true));
    assert_eq!(understated(20, 0), (20, "counted", true));
    assert_eq!(understated(0, 0), (0, "provider", false));
}

#[test]
fn usage_of_a_stream_that_broke_off_and_a_bound_by_bytes_understate_nothing() {
    let budgets = Budgets::new(10_000, 1_000_000_000);
    let mut call = budgets.call(&ask(&json!({"stream": true})));
    begin(&mut call);
    (0..20).for_each(|_| drop(budgets.token(&mut call)));
    piece(&mut call, format!("data: {}\n\n", json!({"choices": [], "usage": usage(5, 0)})).as_bytes());
    let ended = budgets.world.fail(call, Failure::CutShort, true, RUNNING).ended;
    assert_eq!((ended.settled().unwrap().amounts.output_tokens, ended.settled().unwrap().understated), (20, false));
    let bytes = Budgets::with(10_000, 1_000_000_000, |policy| policy["models"][0]["tokenizer"] = json!("bytes"));
    let ended = stream(&bytes, &ask(&json!({"stream": true})), 20, &usage(5, 0));
    assert_eq!((ended.settled().unwrap().amounts.output_tokens, ended.settled().unwrap().understated), (5, false));
}

#[test]
fn budgets_concern_only_work_that_uses_them() {
    let nothing = Budgets::new(0, 0);
    assert!(nothing.world.request(&Spec::route()).is_ok(), "a route uses no tokens");
    assert!(nothing.world.request(&chat(&ask(&json!({})))).is_err());
    let embed = Spec { path: "/v1/embeddings".into(), ..Spec::chat() }
        .with_body(json!({"model": "small", "input": "hello"}).to_string().as_bytes());
    assert!(nothing.world.request(&embed).is_err());
    let output =
        Budgets::with(0, 1_000_000_000, |policy| policy["tiers"][0]["limits"][0]["kind"] = json!("output_tokens"));
    assert!(output.world.request(&embed).is_ok(), "it generates nothing");
    assert!(output.world.request(&chat(&ask(&json!({})))).is_err());
}

#[test]
fn refusal_by_a_budget_tells_its_need_and_the_part_in_flight() {
    let budgets = Budgets::new(300, 1_000_000_000);
    let refusal = || budgets.world.request(&chat(&ask(&json!({"max_tokens": 100})))).err().unwrap().refusal;
    let held = budgets.call(&ask(&json!({"max_tokens": 1000})));
    let first = refusal();
    assert!(first.message().starts_with("Your calls in flight hold the rest of 300 tokens per day in tier 'free'."));
    let facts = *first.limit.unwrap();
    assert_eq!((facts.limit, facts.used, facts.reserved, facts.left), (300, 0, Some(300), Some(0)));
    // The head of a call tells no size.
    assert_eq!((facts.needs, facts.tokens, facts.meter), (None, true, "tokens"));
    drop(held);
    let world = &budgets.world;
    let two = json!({"max_tokens": 100, "messages": [{"role": "user", "content": "x".repeat(400)}]});
    let refusal = world.request(&chat(&ask(&two))).err().unwrap().refusal;
    assert!(refusal.message().starts_with("The request takes more than tier 'free' ever allows: 300 tokens per day."));
    assert!(refusal.message().ends_with(": send a shorter prompt, or ask for fewer choices with n."));
    let facts = *refusal.limit.unwrap();
    assert!(facts.needs.is_some_and(|needs| needs > 300) && facts.reserved.is_none() && facts.left == Some(300));
    let poor = Budgets::new(1_000_000, 10_000);
    let refusal = poor.world.request(&chat(&ask(&json!({"max_tokens": 100})))).err().unwrap().refusal;
    let facts = *refusal.limit.clone().unwrap();
    assert_eq!((facts.meter, facts.tokens, facts.left), ("spend", false, Some(10_000)), "{}", refusal.message());
}

#[test]
fn each_of_two_budgets_of_one_meter_keeps_its_limit_over_a_reload() {
    let two = |policy: &mut Value| {
        let limit = &mut policy["tiers"][0]["limits"][1];
        (limit["kind"], limit["fields"]) = (json!("tokens"), json!({"amount": 1_000, "per": "hour"}));
    };
    let budgets = Budgets::with(100_000, 0, two);
    let mut call = budgets.call(&ask(&json!({"stream": true})));
    begin(&mut call);
    let (passed, last) = pass_under(&mut call, &budgets.reloaded(|_| ()));
    assert!(passed < 1_000 && last.unwrap().contains("1000 tokens per hour"), "{passed}");
}

#[test]
fn bound_on_calls_at_once_has_its_own_reason() {
    let one = |policy: &mut Value| {
        let limit = &mut policy["tiers"][0]["limits"][0];
        (limit["kind"], limit["fields"]) = (json!("concurrency"), json!({"calls": 1}));
    };
    let budgets = Budgets::with(0, 1_000_000_000, one);
    let _call = budgets.call(&ask(&json!({"max_tokens": 10})));
    let refusal = budgets.world.request(&chat(&ask(&json!({"max_tokens": 10})))).err().unwrap().refusal;
    assert_eq!(refusal.reason, Reason::ConcurrencyLimited);
    assert_eq!(refusal.message(), "Tier 'free' allows 1 call at once. Please try again when one has ended.");
}
