//! Failures of a model's upstreams: whether the call counts, the headers that show it, the outcome and the error type.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::Arc;
use std::time::Duration;

use aigw_core::cells::heap::HeapSpace;
use aigw_core::refusal::Reason;
use aigw_core::request::Header;
use aigw_core::settle::{Failure, Outcome, Shutdown};
use aigw_core::surface::{Call, EndedCall, Judged};
use aigw_core::telemetry::ErrorType;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};
use world::{ANN, SHORT, Spec, World, header, policy};

const RUNNING: Shutdown = Shutdown { draining: false, cutting: false };
const TOOK: [u32; 3] = [0, 1, 1];
const GIVEN_BACK: [u32; 3] = [0, 0, 0];

fn status(status: u16) -> StatusCode {
    StatusCode::from_u16(status).unwrap()
}

/// A call of a model whose one attempt got this answer's head.
fn answered(world: &World, request: &Spec, with: u16, media: &'static str) -> (Call<HeapSpace>, Vec<Header>) {
    let (dispatch, mut call) = world.request(request).ok().unwrap().into_parts();
    call.attempt(&dispatch.attempts.first.origin, dispatch.attempts.first.upstream);
    call.sending(SHORT);
    call.judge(status(with), None);
    let mut theirs = HeaderMap::from_iter([(http::header::CONTENT_TYPE, HeaderValue::from_static(media))]);
    let own = call.head(status(with), &mut theirs, b"", SHORT, false);
    (call, own)
}

fn errors(ended: &EndedCall) -> Vec<ErrorType> {
    ended.failed_attempts().iter().map(|attempt| attempt.error).collect()
}

fn remaining(own: &[Header]) -> Option<&str> {
    own.iter().find(|(name, _)| *name == "x-ratelimit-remaining-requests").map(|(_, value)| &**value)
}

#[test]
fn failures_of_fleet_go_back_and_errors_of_request_count() {
    for (with, counts, error) in [
        (200, TOOK, None),
        (400, TOOK, Some("400")),
        (404, TOOK, Some("404")),
        (413, TOOK, Some("413")),
        (422, TOOK, Some("422")),
        (418, TOOK, Some("4xx")),
        (408, GIVEN_BACK, Some("408")),
        (429, GIVEN_BACK, Some("429")),
        (500, GIVEN_BACK, Some("500")),
        (501, GIVEN_BACK, Some("5xx")),
        (503, GIVEN_BACK, Some("503")),
        (529, GIVEN_BACK, Some("529")),
    ] {
        for media in ["application/json", "text/event-stream"] {
            let world = World::new(&policy());
            let (mut call, own) = answered(&world, &Spec::chat(), with, media);
            assert_eq!(remaining(&own), Some(if counts == TOOK { "1" } else { "2" }), "{with}");
            call.piece(Bytes::from_static(b"data: {}\n\n"), SHORT, &|| Arc::clone(&world.in_force));
            let ended = call.completed(SHORT);
            let end = ended.report().end;
            let outcome = if error.is_none() { Outcome::Completed } else { Outcome::UpstreamError };
            assert_eq!((end.outcome, end.status, end.error.map(ErrorType::name)), (outcome, with, error), "{with}");
            assert_eq!(ended.call_report(&ended.report()).unwrap().1.error, end.error);
            assert_eq!(errors(&ended), end.error.as_slice());
            assert_eq!(world.counts(ANN), counts, "{with} {media}");
        }
    }
}

#[test]
fn failures_of_fleet_go_back_when_their_body_breaks_off() {
    for (with, failure, counts, outcome, error) in [
        (503, Failure::CutShort, GIVEN_BACK, Outcome::UpstreamError, "503"),
        (429, Failure::Cancelled, GIVEN_BACK, Outcome::UpstreamError, "429"),
        (404, Failure::CutShort, TOOK, Outcome::UpstreamCut, "upstream_reset"),
        (200, Failure::BetweenTimeout, TOOK, Outcome::UpstreamCut, "upstream_timeout"),
        (200, Failure::Cancelled, TOOK, Outcome::ClientCut, "client_gone"),
        (200, Failure::ClientStalled, TOOK, Outcome::ClientCut, "client_stalled"),
        (503, Failure::ClientStalled, GIVEN_BACK, Outcome::UpstreamError, "503"),
    ] {
        let world = World::new(&policy());
        let (call, _) = answered(&world, &Spec::chat(), with, "application/json");
        let end = world.fail(call, failure, true, RUNNING).ended.report().end;
        assert_eq!((end.outcome, end.error.map(ErrorType::name)), (outcome, Some(error)), "{with}");
        assert_eq!(world.counts(ANN), counts, "{with}");
    }
}

#[test]
fn client_that_leaves_pays_for_no_failure_of_fleet() {
    for (heads, counts) in [(&[503][..], GIVEN_BACK), (&[401, 429], GIVEN_BACK), (&[], TOOK), (&[400], TOOK)] {
        for asked_again in [false, true] {
            let world = World::new(&policy());
            let (dispatch, mut call) = world.request(&Spec::chat()).ok().unwrap().into_parts();
            let first = &dispatch.attempts.first;
            for with in heads {
                call.attempt(&first.origin, first.upstream);
                call.sending(SHORT);
                call.judge(status(*with), None);
            }
            if asked_again || heads.is_empty() {
                call.attempt(&first.origin, first.upstream);
                call.sending(SHORT);
            }
            let end = world.fail(call, Failure::Cancelled, false, RUNNING).ended.report().end;
            assert_eq!(end.outcome, Outcome::ClientCut);
            // The upstream that was asked last may work on it.
            assert_eq!(world.counts(ANN), if asked_again { TOOK } else { counts }, "{heads:?} {asked_again}");
        }
    }
}

#[test]
fn usage_of_a_failure_of_fleet_is_neither_priced_nor_counted() {
    let world = World::new(&policy());
    let (mut call, _) = answered(&world, &Spec::chat(), 503, "application/json");
    let told = Bytes::from_static(b"{\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":4}}");
    call.piece(told, SHORT, &|| Arc::clone(&world.in_force));
    let ended = call.completed(SHORT);
    let report = ended.report();
    assert_eq!((report.usage.is_some(), report.tokens(), report.price()), (true, None, None));
    assert_eq!(world.counts(ANN), GIVEN_BACK);
}

#[test]
fn client_that_leaves_before_the_next_upstream_has_a_byte_pays_nothing() {
    let world = World::new(&policy());
    let (dispatch, mut call) = world.request(&Spec::chat()).ok().unwrap().into_parts();
    let first = &dispatch.attempts.first;
    call.attempt(&first.origin, first.upstream);
    call.sending(SHORT);
    call.judge(status(503), None);
    // Its connection does not stand yet.
    call.attempt(&first.origin, first.upstream);
    let end = world.fail(call, Failure::Cancelled, false, RUNNING).ended.report().end;
    assert_eq!((end.outcome, world.counts(ANN)), (Outcome::ClientCut, GIVEN_BACK));
}

#[test]
fn refused_keys_and_redirects_are_told_in_own_words() {
    for (with, failure, reason) in [
        (401, Failure::Unauthorized, Reason::UpstreamAuth),
        (402, Failure::Unauthorized, Reason::UpstreamAuth),
        (403, Failure::Unauthorized, Reason::UpstreamAuth),
        (407, Failure::Unauthorized, Reason::UpstreamAuth),
        (302, Failure::Redirected, Reason::UpstreamRedirect),
        (307, Failure::Redirected, Reason::UpstreamRedirect),
    ] {
        let world = World::new(&policy());
        let mut call = world.call(&Spec::chat());
        call.sending(SHORT);
        let followed = matches!(with, 401..=403);
        assert_eq!(call.judge(status(with), None), Judged::Refused { stand_in: Some(failure), followed });
        let failed = world.fail(call, failure, false, RUNNING);
        let end = failed.ended.report().end;
        assert_eq!((end.outcome, end.error), (Outcome::UpstreamError, Some(ErrorType::of_reason(reason))));
        let answer = failed.answer.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["error"]["aigw"]["reason"]), (502, &reason.code().into()));
        assert_eq!(header(&answer, "x-should-retry"), Some("false"), "only the operator can mend it");
        assert_eq!(header(&answer, "x-ratelimit-remaining-requests"), Some("2"));
        assert_eq!(world.counts(ANN), GIVEN_BACK);
    }
}

#[test]
fn answers_on_routes_pass_and_count_as_they_are() {
    for with in [302, 401, 404, 429, 500, 503] {
        let world = World::new(&policy());
        let mut call = world.call(&Spec::route());
        call.sending(SHORT);
        assert_eq!(call.judge(status(with), None), Judged::Passes);
        assert!(call.follows_failure(), "the service may have another target");
        call.head(status(with), &mut HeaderMap::new(), b"", SHORT, false);
        let end = call.completed(SHORT).report().end;
        assert_eq!((end.outcome, end.error, world.counts(ANN)), (Outcome::Completed, None, [1, 1, 0]));
    }
}

#[test]
fn faults_inside_successful_streams_are_errors_that_count() {
    let stream = Spec::chat().with_body(br#"{"model":"small","messages":[{}],"stream":true}"#);
    for (body, error) in [
        (&b"data: {\"error\":{\"message\":\"overloaded\"}}\n\n"[..], Some(ErrorType::IN_ANSWER)),
        (b"", Some(ErrorType::EMPTY_STREAM)),
        (b": ping\n\n", Some(ErrorType::EMPTY_STREAM)),
        (b"data: {\"choices\":[]}\n\n", None),
    ] {
        let world = World::new(&policy());
        let (mut call, own) = answered(&world, &stream, 200, "text/event-stream");
        assert_eq!(remaining(&own), Some("1"));
        call.piece(Bytes::copy_from_slice(body), SHORT, &|| Arc::clone(&world.in_force));
        let ended = call.completed(Duration::from_millis(9));
        let end = ended.report().end;
        let outcome = if error.is_none() { Outcome::Completed } else { Outcome::UpstreamError };
        assert_eq!((end.outcome, end.error, world.counts(ANN)), (outcome, error, TOOK));
        assert_eq!(errors(&ended), error.as_slice());
    }
}

#[test]
fn plain_success_without_a_body_is_an_error_that_costs_no_tokens() {
    for (code, body, error) in [
        (200, &b""[..], Some(ErrorType::EMPTY_ANSWER)),
        (204, b"", Some(ErrorType::EMPTY_ANSWER)),
        (200, b" \r\n", Some(ErrorType::EMPTY_ANSWER)),
        (200, b"{}", None),
    ] {
        let world = World::new(&policy());
        let (mut call, _) = answered(&world, &Spec::chat(), code, "application/json");
        call.piece(Bytes::copy_from_slice(body), SHORT, &|| Arc::clone(&world.in_force));
        let ended = call.completed(Duration::from_millis(9));
        let end = ended.report().end;
        let outcome = if error.is_none() { Outcome::Completed } else { Outcome::UpstreamError };
        assert_eq!((end.outcome, end.error, world.counts(ANN)), (outcome, error, TOOK), "{code} {body:?}");
    }
}

#[test]
fn each_attempt_that_failed_is_reported_once() {
    let world = World::new(&policy());
    let twin = Spec::chat().with_body(br#"{"model":"twin","messages":[{}]}"#);
    let (dispatch, mut call) = world.request(&twin).ok().unwrap().into_parts();
    let refused = ErrorType::of_reason(Reason::UpstreamRefused);
    for attempt in std::iter::once(dispatch.attempts.first).chain(dispatch.attempts.others.unwrap()) {
        call.attempt(&attempt.origin, attempt.upstream);
        call.attempt_failed(refused);
    }
    let failed = world.fail(call, Failure::Refused, false, RUNNING);
    let report = failed.ended.report();
    assert_eq!((report.attempts, report.upstream.is_some()), (2, true));
    assert_eq!(errors(&failed.ended), [refused, refused]);
}
