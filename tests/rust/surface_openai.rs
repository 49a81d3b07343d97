//! The stages of a request on `/v1`: each refuses, in their order, and only the last one takes.
#![allow(clippy::unwrap_used)]

mod world;

use std::sync::Arc;

use aigw_core::r#match::probe::Probe;
use aigw_core::refusal::{Reason, answer};
use aigw_core::request::BodyLength;
use aigw_core::surface::{HeadOutcome, Rejected};
use http::Method;
use serde_json::{Value, json};
use world::{ANN, EVE, MODEL, SHORT, Spec, World, header, policy};

/// A fault of a request or of its tier, and the refusal that it alone gets.
type Fault = (Reason, fn(&mut Spec, &mut Value));

/// One fault for each stage, in the order of the stages.
const FAULTS: [Fault; 14] = [
    (Reason::BadHost, |request, _| request.headers.push(("host".into(), "other".into()))),
    (Reason::BadPath, |request, _| request.path = "/v1//models".into()),
    (Reason::UnsupportedEndpoint, |request, _| request.path = "/v1/nothing".into()),
    (Reason::UnsupportedMethod, |request, _| request.method = Method::GET),
    (Reason::InvalidApiKey, |request, _| request.key = Some("nobody")),
    (Reason::NoTier, |request, _| request.key = Some("eve")),
    (Reason::ContentEncoding, |request, _| request.headers.push(("content-encoding".into(), "compress".into()))),
    (Reason::SizeLimited, |request, _| request.length = BodyLength::Known(1_000)),
    (Reason::QuotaExhausted, |_, policy| policy["tiers"][0]["limits"][0]["fields"]["requests"] = json!(0)),
    // With the body.
    (Reason::SizeLimited, |request, _| {
        request.length = BodyLength::Chunked;
        request.body = vec![b'x'; 1_000];
    }),
    (Reason::InvalidJson, |request, _| set_body(request, b"{")),
    (Reason::ModelNotAllowed, |_, policy| policy["tiers"][0]["models"] = json!(["twin"])),
    (Reason::FeatureNotInTier, |request, _| set_body(request, br#"{"model":"small","messages":[{}],"tools":[{}]}"#)),
    (Reason::RateLimited, |_, policy| policy["tiers"][0]["limits"][1]["fields"]["requests"] = json!(0)),
];

/// Another body, unless the request is to have a large one.
fn set_body(request: &mut Spec, body: &[u8]) {
    request.body = body.to_vec();
    request.length = BodyLength::Known(body.len() as u64);
}

/// The refusal of a request with these faults.
fn rejected(faults: &[&Fault]) -> Option<Box<Rejected>> {
    let (mut request, mut policy) = (Spec::chat(), policy());
    for (_, spoil) in faults {
        spoil(&mut request, &mut policy);
    }
    World::of_refusals(&policy).request(&request).err()
}

/// Its reason.
fn refused(faults: &[&Fault]) -> Option<Reason> {
    rejected(faults).map(|rejected| rejected.refusal.reason)
}

#[test]
fn sound_call_passes() {
    assert_eq!(refused(&[]), None);
}

#[test]
fn each_stage_refuses_its_fault() {
    for fault in &FAULTS {
        assert_eq!(refused(&[fault]), Some(fault.0), "{:?}", fault.0);
    }
}

#[test]
fn earlier_stage_wins_over_every_later_one() {
    for (at, first) in FAULTS.iter().enumerate() {
        for second in &FAULTS[at + 1..] {
            // The later fault is made first, so that where both write one field the earlier one stands.
            assert_eq!(refused(&[second, first]), Some(first.0), "{:?} before {:?}", first.0, second.0);
        }
    }
}

#[test]
fn refusal_of_a_known_caller_names_caller_and_tier() {
    let known = FAULTS.iter().position(|(reason, _)| *reason == Reason::NoTier).unwrap();
    for (at, fault) in FAULTS.iter().enumerate() {
        let context = rejected(&[fault]).unwrap().context;
        let names = (context.consumer.is_some(), context.consumer_n.is_some(), context.tier.is_some());
        assert_eq!(names, (at >= known, at >= known, at > known), "{:?}", fault.0);
    }
}

#[test]
fn refusal_outside_of_the_stages_names_caller_and_tier() {
    let world = World::new(&policy());
    let (_, accepted) = world.accepted(&Spec::chat());
    let body = accepted.rejected(Reason::BodyTimeout);
    let mut usage = world.accepted(&Spec::get("/v1/usage")).1;
    let question = usage.question().unwrap().rejected(Reason::Overloaded);
    let call = world.call(&Spec::chat()).rejected(Reason::Overloaded);
    for rejected in [body, question, call] {
        let context = rejected.context;
        assert_eq!((context.consumer_n, context.tier), (Some(ANN), Some(0)), "{:?}", rejected.refusal.reason);
        assert!(Arc::ptr_eq(&rejected.in_force, &world.in_force));
    }
}

#[test]
fn exhausted_quota_wins_over_model_that_is_not_allowed() {
    let world = World::new(&policy());
    let large = Spec::chat().with_body(br#"{"model":"large","messages":[{}]}"#);
    assert_eq!(world.reason(&large), Some(Reason::ModelNotAllowed));
    let mut quota = policy();
    quota["tiers"][0]["limits"][0]["fields"]["requests"] = json!(0);
    assert_eq!(World::new(&quota).reason(&large), Some(Reason::QuotaExhausted));
}

#[test]
fn refused_gates_take_nothing() {
    let world = World::new(&policy());
    for body in [
        &b"{"[..],
        br#"{"model":"none","messages":[{}]}"#,
        br#"{"model":"large","messages":[{}]}"#,
        br#"{"model":"small","messages":[{}],"tools":[{}]}"#,
        br#"{"model":"small","messages":[{}],"n":2}"#,
    ] {
        assert!(world.reason(&Spec::chat().with_body(body)).is_some());
    }
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn head_takes_nothing_and_body_takes_from_all_limits() {
    let world = World::new(&policy());
    for _ in 0..5 {
        world.accepted(&Spec::chat());
    }
    assert_eq!(world.counts(ANN), [0, 0, 0]);
    let admitted = world.request(&Spec::chat()).ok().unwrap();
    assert_eq!(world.counts(ANN), [0, 1, 1]);
    drop(admitted);
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn limit_of_model_refuses_and_gives_back_limit_of_tier() {
    let world = World::new(&policy());
    assert_eq!(world.use_up(&Spec::chat()), 2);
    assert_eq!((world.reason(&Spec::chat()), world.counts(ANN)), (Some(Reason::RateLimited), [0, 2, 2]));
}

#[test]
fn model_without_target_gives_back_all_that_it_took() {
    let mut sealed = policy();
    sealed["models"][0]["upstreams"][0]["api_key"] = json!("cannot be opened");
    let world = World::new(&sealed);
    assert_eq!((world.reason(&Spec::chat()), world.counts(ANN)), (Some(Reason::Internal), [0, 0, 0]));
}

#[test]
fn shadow_limit_counts_and_never_refuses() {
    let mut shadow = policy();
    shadow["tiers"][0]["limits"][1]["fields"]["requests"] = json!(1);
    shadow["tiers"][0]["limits"][1]["shadow"] = json!(true);
    let world = World::new(&shadow);
    let shadowed: Vec<_> = (0..3)
        .map(|_| {
            let admitted = world.request(&Spec::chat()).ok().unwrap();
            let tier = admitted.shadowed_tier();
            let _ = admitted.into_parts().1.completed(SHORT);
            tier
        })
        .collect();
    assert_eq!(shadowed, [None, Some(1), Some(1)]);
    assert_eq!(world.reason(&Spec::chat()), Some(Reason::QuotaExhausted), "the enforced limit still holds");
}

#[test]
fn documents_are_answers_and_take_nothing() {
    let world = World::new(&policy());
    let document = |path: &str| match world.head(&mut Spec::get(path).head()).unwrap() {
        HeadOutcome::Document(context, body) => (context.tier, String::from_utf8(body.to_vec()).unwrap()),
        _ => unreachable!(),
    };
    let (tier, models) = document("/v1/models");
    assert!(tier == Some(0) && models.contains("\"small\"") && !models.contains("\"large\""), "{models}");
    assert!(document("/v1/models/twin").1.contains("\"twin\""));
    assert_eq!(document("/v1/limits").1, "free:1:1");
    let reason = |path: &str| world.head(&mut Spec::get(path).head()).unwrap_err().refusal.reason;
    assert_eq!(
        (reason("/v1/models/large"), reason("/v1/models/none")),
        (Reason::ModelNotAllowed, Reason::ModelNotFound)
    );
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn usage_is_a_question_about_the_caller_and_takes_nothing() {
    let world = World::new(&policy());
    let spec = Spec::get("/v1/usage");
    let mut head = spec.head();
    head.query = "after=1&apikey=x&consumer=2".into();
    let Ok(HeadOutcome::Accepted(mut accepted)) = world.head(&mut head) else { unreachable!() };
    let question = accepted.question().unwrap();
    assert_eq!((question.context.consumer_n, question.context.tier), (Some(ANN), Some(0)));
    let line: Value = serde_json::from_str(question.line.strip_suffix('\n').unwrap()).unwrap();
    assert_eq!(line, json!({"question": "usage", "consumer": ANN, "query": "after=1&consumer=2"}));
    let (_, mut call) = world.accepted(&Spec::chat());
    assert!(call.question().is_none());
    assert_eq!(world.reason(&Spec { key: None, ..spec }), Some(Reason::NoApiKey));
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn refusals_are_written_in_openais_form() {
    let world = World::new(&policy());
    let body = |request: &Spec| -> (u16, Value) {
        let answer = world.answer(request);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    };
    let (status, error) = body(&Spec { key: None, ..Spec::chat() });
    assert_eq!((status, &error["error"]["code"]), (401, &json!("invalid_api_key")));
    assert_eq!(world.use_up(&Spec::chat()), 2);
    let limited = world.answer(&Spec::chat());
    assert_eq!((limited.status, header(&limited, "x-aigw-scope")), (429, Some("model")));
    assert_eq!((header(&limited, "x-should-retry"), header(&limited, "x-aigw-tier")), (Some("false"), Some("free")));
    let (_, error) = body(&Spec::chat());
    assert_eq!(error["error"]["aigw"]["tier"], "free");
    let (status, _) = body(&Spec::chat().by("eve"));
    assert_eq!((status, world.counts(EVE)), (403, [0, 0, 0]));
}

#[test]
fn attempts_rename_model_and_leave_key_behind() {
    let world = World::new(&policy());
    let twin = Spec::chat().with_body(br#"{"model":"twin","messages":[{}]}"#);
    let (dispatch, _call) = world.request(&twin).ok().unwrap().into_parts();
    let attempts: Vec<_> = std::iter::once(dispatch.attempts.first).chain(dispatch.attempts.others.unwrap()).collect();
    let mut ports: Vec<_> = attempts.iter().map(|attempt| attempt.origin.port).collect();
    ports.sort_unstable();
    assert_eq!(ports, [9100, 9200]);
    for attempt in &attempts {
        let body: Value = serde_json::from_slice(&attempt.body).unwrap();
        let wanted = if attempt.origin.port == 9100 { "twin-1" } else { "twin-2" };
        assert_eq!((body["model"].as_str(), attempt.headers.get("apikey")), (Some(wanted), None));
        assert_eq!(attempt.target, "/v1/chat/completions");
    }
    assert_eq!(world.count(MODEL, ANN), 1);
}

#[test]
fn azures_paths_are_calls_of_the_model_that_they_name() {
    let world = World::new(&policy());
    for (path, body) in [
        ("/openai/deployments/small/chat/completions", &br#"{"messages":[{}]}"#[..]),
        ("/openai/deployments/small/chat/completions", br#"{"model":"large","messages":[{}]}"#),
        ("/openai/v1/chat/completions", br#"{"model":"small","messages":[{}]}"#),
    ] {
        let mut request = Spec::chat().with_body(body);
        request.path = path.into();
        let (dispatch, call) = world.request(&request).ok().unwrap().into_parts();
        let sent: Value = serde_json::from_slice(&dispatch.attempts.first.body).unwrap();
        assert_eq!((&sent["model"], &*dispatch.attempts.first.target), (&json!("small-1"), "/v1/chat/completions"));
        drop(call);
    }
    let mut large = Spec::chat();
    large.path = "/openai/deployments/large/chat/completions".into();
    assert_eq!(world.reason(&large), Some(Reason::ModelNotAllowed));
}

#[test]
fn route_below_openai_keeps_its_requests() {
    let mut routed = policy();
    routed["routes"][0]["paths"] = json!(["/openai/deployments"]);
    let mut request = Spec::chat();
    request.path = "/openai/deployments/small/chat/completions".into();
    let mut head = request.head();
    let _ = World::new(&routed).head(&mut head);
    assert_eq!(head.surface, aigw_core::request::Surface::Kong);
    for paths in [json!(["/"]), json!(["/openaix"])] {
        routed["routes"][0]["paths"] = paths;
        let mut head = request.head();
        let _ = World::new(&routed).head(&mut head);
        assert_eq!(head.surface, aigw_core::request::Surface::OpenAi);
    }
}

#[test]
fn compressed_body_is_read_and_goes_on_plain() {
    use flate2::write::GzEncoder;
    use std::io::Write as _;
    let world = World::new(&policy());
    let packed = |plain: &[u8]| {
        let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    };
    let request = |plain: &[u8]| {
        let mut request = Spec::chat().with_body(&packed(plain));
        request.headers.push(("content-encoding".into(), "gzip".into()));
        request
    };
    let plain = "\u{feff}{\"model\":\"small\",\"messages\":[{}]}";
    let (dispatch, call) = world.request(&request(plain.as_bytes())).ok().unwrap().into_parts();
    let first = &dispatch.attempts.first;
    assert_eq!(
        (&*first.body, first.headers.get("content-encoding")),
        (&br#"{"model":"small-1","messages":[{}]}"#[..], None)
    );
    drop(call);
    // The tier's bound is on the decoded bytes, and so is the gateway's.
    assert_eq!(world.reason(&request(&[b' '; 201])), Some(Reason::SizeLimited));
    assert_eq!(world.reason(&request(&[b' '; 5000])), Some(Reason::SizeLimited));
    let mut broken = Spec::chat();
    broken.headers.push(("content-encoding".into(), "zstd".into()));
    assert_eq!(world.reason(&broken), Some(Reason::InvalidRequest));
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn probe_is_answered_by_its_status_alone() {
    let world = World::new(&policy());
    let mut head = Spec::get("/readyz").head();
    assert!(matches!(world.head(&mut head), Ok(HeadOutcome::Probe(Probe::Ready))));
    assert!(matches!(world.head(&mut Spec::get("/livez").head()), Ok(HeadOutcome::Probe(Probe::Live))));
    for (well, status) in [(true, 200), (false, 503)] {
        let answer = answer::probe(&head, well, !well);
        assert_eq!((answer.status, answer.body.len(), answer.close), (status, 0, !well));
    }
}

#[test]
fn preflight_needs_no_key_and_answers_need_rules() {
    let mut with = policy();
    with["v1_cors"] = json!({"origins": [{"is": "https://app.example"}], "always": null, "methods": "GET, HEAD, POST",
        "headers": null, "exposed": "x-request-id", "max_age": 600, "credentials": false, "preflight_continue": false,
        "private_network": false, "origin_absent": false});
    let mut asked = Spec::chat().by("nobody");
    asked.method = Method::OPTIONS;
    for (name, value) in [("origin", "https://app.example"), ("access-control-request-method", "POST")] {
        asked.headers.push((name.into(), value.into()));
    }
    let Ok(HeadOutcome::Preflight(_, headers)) = World::new(&with).head(&mut asked.head()) else { unreachable!() };
    assert!(headers.contains(&("access-control-allow-origin", "https://app.example".into())));
    assert_eq!(World::new(&policy()).reason(&asked), Some(Reason::UnsupportedMethod));
}

#[test]
fn tokenize_counts_a_body_and_takes_nothing() {
    let world = World::new(&policy());
    let ask = |body: &[u8]| {
        let mut asked = Spec::chat().with_body(body);
        asked.path = "/v1/tokenize".into();
        let counted = world.tokenized(&asked).map(|document| serde_json::from_slice::<Value>(&document).unwrap());
        counted.map(|counted| counted["tokens"].as_u64().unwrap())
    };
    // The world counts bytes.
    let short = ask(br#"{"model":"small","messages":[{"content":"abc"}]}"#).unwrap();
    let long = ask(br#"{"model":"small","messages":[{"content":"abcdefgh"}]}"#).unwrap();
    assert_eq!(long - short, 5);
    assert_eq!(ask(br#"{"model":"small","input":["ab",[1,2,3]]}"#), Ok(5));
    assert_eq!(ask(br#"{"model":"small"}"#), Err(Reason::InvalidRequest));
    assert_eq!(ask(b"[]"), Err(Reason::InvalidJson));
    assert_eq!(ask(br#"{"model":"large","messages":[{}]}"#), Err(Reason::ModelNotAllowed));
    assert_eq!(ask(br#"{"model":"none","messages":[{}]}"#), Err(Reason::ModelNotFound));
    let mut get = Spec::get("/v1/tokenize").head();
    assert_eq!(world.head(&mut get).unwrap_err().refusal.reason, Reason::UnsupportedMethod);
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn tier_bounds_choices_and_names_the_parameter_that_asks_for_them() {
    let mut two = policy();
    two["tiers"][0]["parameters"]["n"] = json!(2);
    let world = World::of_refusals(&two);
    let refused = |path: &str, body: &Value| {
        let request = Spec { path: path.into(), ..Spec::chat() }.with_body(body.to_string().as_bytes());
        world.request(&request).err().map(|rejected| {
            let refusal = rejected.refusal;
            (refusal.param.clone().unwrap_or_default().into_owned(), refusal.message().to_owned())
        })
    };
    let chat = |n: u32| refused("/v1/chat/completions", &json!({"model": "small", "messages": [{}], "n": n}));
    let said = "Your tier 'free' allows at most 2 choices per request.";
    assert_eq!((chat(1), chat(2)), (None, None));
    for n in [3, 4] {
        assert_eq!(chat(n), Some(("n".into(), said.into())));
    }
    let prompts = |prompts: &[&str]| refused("/v1/completions", &json!({"model": "small", "prompt": prompts}));
    assert_eq!(prompts(&["a", "b"]), None);
    for asked in [&["a", "b", "c"][..], &["a", "b", "c", "d"]] {
        assert_eq!(prompts(asked), Some(("prompt".into(), format!("{said} Each prompt makes its own."))));
    }
}

#[test]
fn refusals_by_limits_say_their_policy_and_their_renewal() {
    let said = |policy: &Value| {
        let world = World::new(policy);
        world.use_up(&Spec::chat());
        world.request(&Spec::chat()).err().unwrap().refusal.message().to_owned()
    };
    let mut limits = policy();
    assert!(said(&limits).starts_with("Rate limit reached in tier 'free': 2 requests per hour. Please try again in "));
    limits["tiers"][0]["limits"][0]["fields"]["requests"] = json!(1);
    assert!(
        said(&limits)
            .starts_with("You exceeded your current quota of 1 requests per day in tier 'free'. It is renewed in ")
    );
}
