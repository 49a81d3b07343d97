//! Every end of a call: whether it counts, the answer to the client, and the record.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::Arc;
use std::time::Duration;

use aigw_core::accept::openai::Endpoint;
use aigw_core::cells::heap::HeapSpace;
use aigw_core::refusal::Reason;
use aigw_core::settle::{Failure, Outcome, Shutdown};
use aigw_core::surface::{Call, EndedCall, FailedCall};
use aigw_core::telemetry::series::CallNames;
use aigw_core::telemetry::{ErrorType, Source};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use world::{ANN, SHORT, Spec, World, header, policy};

const RUNNING: Shutdown = Shutdown { draining: false, cutting: false };
const CUTTING: Shutdown = Shutdown { draining: true, cutting: true };
const EVENTS: &str = "text/event-stream";

fn world() -> World {
    World::new(&policy())
}

/// A call whose first upstream is asked.
fn asked(world: &World, request: &Spec) -> Call<HeapSpace> {
    let (dispatch, mut call) = world.request(request).ok().unwrap().into_parts();
    call.attempt(&dispatch.attempts.first.origin, dispatch.attempts.first.upstream);
    call
}

fn headers(media: &'static str) -> HeaderMap<HeaderValue> {
    HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(media))])
}

fn ended(failed: &FailedCall) -> (Outcome, Option<Reason>, Option<u16>) {
    let end = failed.ended.report().end;
    (end.outcome, end.reason, failed.answer.as_ref().map(|answer| answer.status))
}

#[test]
fn completed_call_counts() {
    let world = world();
    let mut call = world.call(&Spec::route());
    call.sending(Duration::from_millis(1));
    let own = call.head(StatusCode::OK, &mut headers("text/plain"), b"", SHORT, false);
    assert!(own.iter().any(|(name, value)| *name == "x-ratelimit-remaining-minute" && value == "1"));
    assert!(own.iter().any(|(name, value)| *name == "x-kong-proxy-latency" && value == "1"));
    assert_eq!(call.piece(Bytes::from_static(b"hello"), SHORT, &|| Arc::clone(&world.in_force)), "hello");
    let ended = call.completed(SHORT);
    let report = ended.report();
    assert_eq!((report.end.outcome, report.end.status, report.end.egress), (Outcome::Completed, 200, 5));
    assert_eq!((report.source, report.route_n, report.traffic.ingress), (Source::Service, 2, 5));
    assert_eq!(report.traffic.sent_after, Some(Duration::from_millis(1)));
    assert!(ended.call_report(&ended.report()).is_none());
    assert_eq!(world.counts(ANN), [1, 1, 0]);
}

#[test]
fn permit_ends_before_answer_goes_out() {
    let world = world();
    assert_eq!(world.use_up(&Spec::route()), 2, "no permit is left behind that the next request would meet");
}

#[test]
fn client_that_leaves_before_sending_does_not_count() {
    let world = world();
    let failed = world.fail(world.call(&Spec::route()), Failure::Cancelled, false, RUNNING);
    assert_eq!(ended(&failed), (Outcome::ClientCut, Some(Reason::ClientGone), Some(499)));
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn client_that_leaves_after_sending_counts() {
    let world = world();
    for began in [false, true] {
        let mut call = world.call(&Spec::route());
        call.sending(SHORT);
        assert_eq!(ended(&world.fail(call, Failure::Cancelled, began, RUNNING)).0, Outcome::ClientCut);
    }
    assert_eq!(world.counts(ANN), [2, 2, 0]);
}

#[test]
fn client_that_does_not_read_is_cut_by_itself_and_counts() {
    for request in [Spec::route(), Spec::chat()] {
        for shutdown in [RUNNING, CUTTING] {
            let world = world();
            let mut call = asked(&world, &request);
            call.sending(SHORT);
            call.judge(StatusCode::OK, None);
            call.head(StatusCode::OK, &mut headers("application/json"), b"", SHORT, false);
            let failed = world.fail(call, Failure::ClientStalled, true, shutdown);
            assert_eq!(ended(&failed), (Outcome::ClientCut, None, None));
            assert_eq!(failed.ended.report().end.error.map(ErrorType::name), Some("client_stalled"));
            assert!(failed.ended.failed_attempts().is_empty(), "no upstream failed");
            assert_eq!(world.count(world::TIER, ANN), 1);
        }
    }
}

#[test]
fn client_that_does_not_read_gets_no_last_words() {
    let mut call = asked(&world(), &Spec::chat().with_body(br#"{"model":"small","messages":[{}],"stream":true}"#));
    call.sending(SHORT);
    call.head(StatusCode::OK, &mut headers(EVENTS), b"", SHORT, false);
    assert!(call.last_words(Failure::ClientStalled, false).is_none());
}

#[test]
fn upstream_that_cuts_its_answer_counts() {
    let world = world();
    let mut call = world.call(&Spec::route());
    call.sending(SHORT);
    call.head(StatusCode::OK, &mut headers("text/plain"), b"", SHORT, false);
    let failed = world.fail(call, Failure::CutShort, true, RUNNING);
    assert_eq!(ended(&failed), (Outcome::UpstreamCut, None, None));
    assert_eq!(failed.ended.report().end.status, 200);
    assert_eq!(world.counts(ANN), [1, 1, 0]);
}

#[test]
fn small_answer_that_breaks_off_is_refused_and_given_back() {
    let world = world();
    let mut call = world.call(&Spec::route());
    call.sending(SHORT);
    let failed = world.fail(call, Failure::CutShort, false, RUNNING);
    assert_eq!(ended(&failed), (Outcome::UpstreamError, Some(Reason::UpstreamReset), Some(502)));
    let answer = failed.answer.unwrap();
    assert_eq!(header(&answer, "x-should-retry"), Some("false"));
    assert_eq!(header(&answer, "x-ratelimit-remaining-minute"), Some("2"), "as if it had never been asked");
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn each_failure_has_its_refusal_and_gives_back() {
    let world = world();
    for (failure, reason, status) in [
        (Failure::Refused, Reason::UpstreamRefused, 502),
        (Failure::Unresolved, Reason::UpstreamUnresolved, 503),
        (Failure::Out, Reason::UpstreamOut, 503),
        (Failure::Tls, Reason::UpstreamTls, 502),
        (Failure::ConnectTimeout, Reason::UpstreamConnectTimeout, 504),
        (Failure::Reset, Reason::UpstreamReset, 502),
        (Failure::Garbage, Reason::UpstreamGarbage, 502),
        (Failure::TooLarge, Reason::UpstreamGarbage, 502),
        (Failure::FirstByteTimeout, Reason::UpstreamTimeout, 504),
        (Failure::TotalTimeout, Reason::UpstreamTimeout, 504),
        (Failure::BetweenTimeout, Reason::UpstreamTimeout, 504),
        (Failure::Internal, Reason::Internal, 500),
    ] {
        for request in [Spec::route(), Spec::chat()] {
            let failed = world.fail(world.call(&request), failure, false, RUNNING);
            assert_eq!(ended(&failed), (Outcome::UpstreamError, Some(reason), Some(status)), "{failure:?}");
            let wait = header(failed.answer.as_ref().unwrap(), "retry-after");
            assert_eq!(wait, (failure == Failure::Out).then_some("10"), "{failure:?}");
        }
    }
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn shutdown_that_cuts_is_not_the_clients_fault() {
    let world = world();
    let unsent = world.fail(world.call(&Spec::route()), Failure::Cancelled, false, CUTTING);
    assert_eq!(ended(&unsent), (Outcome::UpstreamError, Some(Reason::Draining), Some(503)));
    let mut call = world.call(&Spec::route());
    call.sending(SHORT);
    let sent = world.fail(call, Failure::Cancelled, false, CUTTING);
    assert_eq!(ended(&sent), (Outcome::UpstreamError, Some(Reason::Drained), Some(503)));
    assert!(sent.answer.unwrap().close);
    assert_eq!(world.counts(ANN), [0, 0, 0]);
    let mut call = world.call(&Spec::route());
    call.sending(SHORT);
    assert_eq!(ended(&world.fail(call, Failure::Cancelled, true, CUTTING)), (Outcome::UpstreamCut, None, None));
    assert_eq!(world.counts(ANN), [1, 1, 0]);
}

#[test]
fn dropped_call_gives_back_even_after_sending() {
    let world = world();
    let mut call = world.call(&Spec::chat());
    call.sending(SHORT);
    assert_eq!(world.counts(ANN), [0, 1, 1]);
    drop(call);
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn answer_of_model_is_read_and_loses_headers_of_account() {
    let world = world();
    let mut call = asked(&world, &Spec::chat());
    call.sending(Duration::from_millis(1));
    let mut head = headers("application/json");
    for name in ["x-ratelimit-limit-requests", "openai-organization", "set-cookie", "x-aigw-tier"] {
        head.insert(name, HeaderValue::from_static("theirs"));
    }
    let own = call.head(StatusCode::OK, &mut head, b"", SHORT, true);
    assert_eq!(head.keys().map(http::HeaderName::as_str).collect::<Vec<_>>(), ["content-type"]);
    assert!(own.iter().any(|(name, value)| *name == "connection" && value == "close"));
    assert!(own.iter().all(|(name, _)| !name.starts_with("x-kong-")));
    let body = br#"{"usage":{"prompt_tokens":7,"completion_tokens":2,"total_tokens":9}}"#;
    call.piece(Bytes::from_static(body), SHORT, &|| Arc::clone(&world.in_force));
    let ended = call.completed(SHORT);
    let (names, report) = ended.call_report(&ended.report()).unwrap();
    let usage = report.usage.unwrap();
    assert_eq!(names, CallNames { tier: 1, model: 4, upstream: Some((1, Endpoint::Chat)) });
    assert_eq!((report.outcome, report.error, usage.input, usage.output), (0, None, 7, 2));
}

#[test]
fn failed_call_of_model_is_reported_by_reason_and_upstream() {
    let end = |end: &dyn Fn(Call<HeapSpace>) -> EndedCall| {
        let mut call = asked(&world(), &Spec::chat());
        call.sending(SHORT);
        let ended = end(call);
        let (names, report) = ended.call_report(&ended.report()).unwrap();
        (names.upstream.map(|(number, _)| number), report.error.map(ErrorType::name))
    };
    let refused = end(&|mut call| {
        call.judge(StatusCode::TOO_MANY_REQUESTS, None);
        call.head(StatusCode::TOO_MANY_REQUESTS, &mut headers("application/json"), b"", SHORT, false);
        call.completed(SHORT)
    });
    assert_eq!(refused, (Some(1), Some("429")));
    let failed =
        |failure, began| move |call: Call<HeapSpace>| call.failed(failure, began, RUNNING, world::NOW, SHORT).ended;
    assert_eq!(end(&failed(Failure::Reset, false)), (Some(1), Some("upstream_reset")));
    assert_eq!(end(&failed(Failure::Reset, true)), (Some(1), Some("upstream_reset")));
    assert_eq!(end(&failed(Failure::Cancelled, true)), (Some(1), Some("client_gone")));
}

#[test]
fn broken_stream_of_model_ends_with_error_event() {
    let world = world();
    let stream = Spec::chat().with_body(br#"{"model":"small","messages":[{}],"stream":true}"#);
    let begin = |media: &'static str| {
        let mut call = world.call(&stream);
        call.sending(SHORT);
        call.head(StatusCode::OK, &mut headers(media), b"", SHORT, false);
        call
    };
    let mut call = begin(EVENTS);
    let words = call.last_words(Failure::CutShort, false).unwrap();
    assert!(words.starts_with(b"\n\ndata: {\"error\":{") && words.ends_with(b"\n\n"));
    let failed = world.fail(call, Failure::CutShort, true, RUNNING);
    assert_eq!(failed.ended.report().end.egress, words.len() as u64);
    assert_eq!(failed.ended.call_report(&failed.ended.report()).unwrap().1.outcome, 2);
    assert!(begin(EVENTS).last_words(Failure::Cancelled, false).is_none(), "a client that left reads nothing");
    assert!(begin(EVENTS).last_words(Failure::Cancelled, true).is_some(), "a client that a shutdown cuts does");
    assert!(begin("application/json").last_words(Failure::CutShort, false).is_none());
}

#[test]
fn call_is_sent_once_however_often_it_is_tried() {
    let world = world();
    let mut call = world.call(&Spec::route());
    call.sending(Duration::from_millis(1));
    call.sending(Duration::from_millis(9));
    assert_eq!(call.completed(SHORT).report().traffic.sent_after, Some(Duration::from_millis(1)));
}
