//! The stages of a request on Kong's routes: each refuses, in their order, and only the last one takes.
#![allow(clippy::unwrap_used)]

mod world;

use aigw_core::refusal::{LimitFacts, Reason};
use aigw_core::request::BodyLength;
use aigw_core::surface::{HeadOutcome, Rejected};
use http::Method;
use serde_json::{Value, json};
use world::{ANN, BOB, ROUTE, SHORT, Spec, TIER, World, header, policy};

/// A fault of a request or of its route, and the refusal that it alone gets.
type Fault = (Reason, fn(&mut Spec, &mut Value));

/// One fault for each stage, in the order of the stages.
const FAULTS: [Fault; 11] = [
    (Reason::BadHost, |request, _| request.headers.push(("host".into(), "other".into()))),
    (Reason::BadPath, |request, _| request.path = "/ai//get".into()),
    (Reason::NoRoute, |_, policy| policy["routes"][0]["methods"] = json!(["PATCH"])),
    (Reason::HttpsRequired, |_, policy| policy["routes"][0]["protocols"] = json!(["https"])),
    (Reason::NoService, |_, policy| policy["routes"][0]["service"] = json!(null)),
    (Reason::NoTarget, |_, policy| {
        let passive = json!({"http_failures": 0, "http_statuses": [], "tcp_failures": 0, "timeouts": 0});
        policy["services"][0]["upstream"] =
            json!({"host_header": null, "hash": [], "least_connections": false, "passive": passive, "targets": []});
    }),
    (Reason::NoApiKey, |request, _| request.key = None),
    (Reason::SizeLimited, |request, _| request.length = BodyLength::Known(1_000)),
    (Reason::AclForbidden, |_, policy| policy["acl"][0]["allow"] = json!(["silver"])),
    (Reason::RateLimited, |_, policy| policy["rate_limiting"][0]["limits"][0]["fields"]["requests"] = json!(0)),
    // A chunked body has no declared size: its real one is too large.
    (Reason::SizeLimited, |request, _| {
        request.length = BodyLength::Chunked;
        request.body = vec![b'x'; 1_000];
    }),
];

/// The refusal of a request with these faults.
fn rejected(faults: &[&Fault]) -> Option<Box<Rejected>> {
    let (mut request, mut policy) = (Spec::route(), policy());
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
fn route_lets_sound_request_pass() {
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
fn limit_of_plugin_refuses_before_limit_of_tier() {
    let mut both = policy();
    both["rate_limiting"][0]["limits"][0]["fields"]["requests"] = json!(0);
    both["rate_limiting"][0]["error_code"] = json!(400);
    assert_eq!(World::new(&both).answer(&Spec::route()).status, 400);
    let mut tier = policy();
    tier["tiers"][0]["limits"][0]["fields"]["requests"] = json!(0);
    tier["rate_limiting"][0]["error_code"] = json!(400);
    let answer = World::new(&tier).answer(&Spec::route());
    assert_eq!((answer.status, header(&answer, "x-aigw-tier")), (429, Some("free")));
}

#[test]
fn refusal_says_how_far_request_got() {
    let world = World::new(&policy());
    let rejected = |request: Spec| world.head(&mut request.head()).unwrap_err().context;
    let lost = rejected(Spec { path: "/nowhere".into(), ..Spec::route() });
    assert_eq!((lost.route, lost.consumer, lost.tier), (None, None, None));
    let keyless = rejected(Spec { key: None, ..Spec::route() });
    assert_eq!((keyless.route, keyless.consumer), (Some(0), None));
    let forbidden = rejected(Spec::route().by("bob"));
    assert!(forbidden.route == Some(0) && forbidden.consumer.is_some() && forbidden.tier == Some(0));
    world.use_up(&Spec::route());
    assert_eq!(rejected(Spec::route()).tier, Some(0));
}

#[test]
fn refusal_of_a_known_caller_names_caller_tier_and_route() {
    let known = FAULTS.iter().position(|(reason, _)| *reason == Reason::NoApiKey).unwrap() + 1;
    for fault in &FAULTS[known..] {
        let context = rejected(&[fault]).unwrap().context;
        assert_eq!((context.consumer_n, context.tier, context.route), (Some(ANN), Some(0), Some(0)), "{:?}", fault.0);
    }
}

#[test]
fn refusal_outside_of_the_stages_names_caller_tier_and_route() {
    let world = World::new(&policy());
    let body = world.accepted(&Spec::route()).1.rejected(Reason::BodyMemory);
    let call = world.call(&Spec::route()).rejected(Reason::Overloaded);
    for rejected in [body, call] {
        let context = rejected.context;
        assert_eq!((context.consumer_n, context.tier, context.route), (Some(ANN), Some(0), Some(0)));
    }
}

#[test]
fn head_takes_nothing() {
    let world = World::new(&policy());
    for _ in 0..5 {
        world.accepted(&Spec::route());
    }
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn body_takes_from_plugin_and_tier_at_once() {
    let world = World::new(&policy());
    let admitted = world.request(&Spec::route()).ok().unwrap();
    assert_eq!(world.counts(ANN), [1, 1, 0]);
    drop(admitted);
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn limit_used_up_between_head_and_body_refuses_and_gives_back() {
    let mut policy = policy();
    policy["tiers"][0]["limits"][0]["fields"]["requests"] = json!(1);
    let world = World::new(&policy);
    let (head, accepted) = world.accepted(&Spec::route());
    let _ = world.call(&Spec::route()).completed(SHORT);
    let rejected = world.body(&head, accepted, b"hello").err().unwrap();
    assert_eq!((rejected.refusal.reason, world.counts(ANN)), (Reason::RateLimited, [1, 1, 0]));
}

#[test]
fn request_without_body_is_refused_by_take() {
    let world = World::new(&policy());
    let get = Spec { method: Method::GET, ..Spec::route() }.with_body(b"");
    let get = Spec { length: BodyLength::None, ..get };
    assert_eq!(world.use_up(&get), 2);
    let (head, accepted) = world.accepted(&get);
    assert_eq!(world.body(&head, accepted, b"").err().unwrap().refusal.reason, Reason::RateLimited);
    assert_eq!((world.count(ROUTE, ANN), world.count(TIER, ANN)), (2, 2));
}

#[test]
fn path_that_becomes_ambiguous_upstream_takes_nothing() {
    let world = World::new(&policy());
    assert_eq!(world.reason(&Spec { path: "/ai../secret".into(), ..Spec::route() }), Some(Reason::BadPath));
    assert_eq!(world.counts(ANN), [0, 0, 0]);
}

#[test]
fn answer_has_challenge_and_headers_of_limits() {
    let world = World::new(&policy());
    let keyless = world.answer(&Spec { key: None, ..Spec::route() });
    assert_eq!((keyless.status, header(&keyless, "www-authenticate")), (401, Some("Key")));
    assert_eq!(world.use_up(&Spec::route()), 2);
    let limited = world.answer(&Spec::route());
    assert_eq!((limited.status, header(&limited, "retry-after")), (429, Some("15")));
    assert_eq!(header(&limited, "x-ratelimit-remaining-minute"), Some("0"));
    assert_eq!(header(&limited, "x-ratelimit-remaining-day"), Some("1"));
    assert_eq!(header(&limited, "x-aigw-scope"), Some("consumer"));
}

#[test]
fn request_meets_the_plugins_of_its_protocol() {
    let mut policy = policy();
    policy["routes"][0]["over_tls"] =
        json!({"key_auth": null, "rate_limiting": null, "size_limiting": null, "acl": null, "cors": null});
    let world = World::of_refusals(&policy);
    let keyless = |tls| Spec { key: None, tls, ..Spec::route() };
    assert_eq!([keyless(false), keyless(true)].map(|spec| world.reason(&spec)), [Some(Reason::NoApiKey), None]);
}

#[test]
fn plain_request_is_sent_to_tls() {
    let mut policy = policy();
    policy["routes"][0]["protocols"] = json!(["https"]);
    let upgrade = World::new(&policy).answer(&Spec::route());
    assert_eq!((upgrade.status, header(&upgrade, "upgrade")), (426, Some("TLS/1.2, HTTP/1.1")));
    policy["routes"][0]["https_redirect_status_code"] = json!(308);
    let redirect = World::new(&policy).answer(&Spec::route());
    assert_eq!((redirect.status, header(&redirect, "location")), (308, Some("https://localhost/ai/get")));
    assert_eq!(World::new(&policy).reason(&Spec { tls: true, ..Spec::route() }), None);
}

#[test]
fn attempt_is_rebuilt_from_its_parts() {
    let world = World::new(&policy());
    let (dispatch, _call) = world.request(&Spec::route()).ok().unwrap().into_parts();
    let attempt = dispatch.attempts.first;
    assert_eq!((&*attempt.target, attempt.origin.port, &attempt.body[..]), ("/get", 5000, &b"hello"[..]));
    let value = |name: &str| attempt.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!(value("apikey"), None, "the key is hidden");
    assert_eq!(value("x-consumer-username").as_deref(), Some("ann"));
    assert_eq!(value("x-consumer-groups").as_deref(), Some("gold"));
    assert_eq!(value("x-forwarded-prefix").as_deref(), Some("/ai"));
    assert!(dispatch.attempts.others.is_none());
}

#[test]
fn v1_is_kongs_without_models() {
    let mut routes = policy();
    world::without_models(&mut routes);
    let world = World::new(&routes);
    assert_eq!(world.reason(&Spec { path: "/v1/models".into(), ..Spec::route() }), Some(Reason::NoRoute));
    let mut head = Spec::route().head();
    assert!(matches!(world.head(&mut head), Ok(HeadOutcome::Accepted(_))));
    assert_eq!(world.reason(&Spec::route().by("bob")), Some(Reason::AclForbidden));
    assert_eq!(world.counts(BOB), [0, 0, 0]);
}

#[test]
fn refusal_tells_its_limit_and_the_message_of_the_plugin() {
    let mut own = policy();
    own["rate_limiting"][0]["error_message"] = json!("slow down");
    let world = World::new(&own);
    world.use_up(&Spec::route());
    let refusal = world.request(&Spec::route()).err().unwrap().refusal;
    assert_eq!((refusal.message(), refusal.status), ("slow down", Some(429)));
    let wanted = LimitFacts {
        policy: "2 requests per minute".into(),
        meter: "requests",
        per: Some("minute".into()),
        limit: 2,
        used: 2,
        reserved: None,
        needs: None,
        left: None,
        tokens: false,
        scope: "consumer",
        reset_at: world.now.seconds().0.next_multiple_of(60),
    };
    assert_eq!(refusal.limit.as_deref(), Some(&wanted));
}

#[test]
fn plugin_that_hides_its_limits_shows_none() {
    let mut hiding = policy();
    hiding["rate_limiting"][0]["hide_client_headers"] = json!(true);
    let world = World::new(&hiding);
    assert_eq!(world.use_up(&Spec::route()), 2);
    let limited = world.answer(&Spec::route());
    assert_eq!((limited.status, header(&limited, "retry-after")), (429, None));
    assert!(limited.headers.iter().all(|(name, _)| !name.contains("ratelimit") && !name.starts_with("x-aigw-")));
}

#[test]
fn limit_by_path_counts_other_paths_by_address() {
    let mut by_path = policy();
    let profile = &mut by_path["rate_limiting"][0];
    (profile["limit_by"], profile["path"]) = (json!("path"), json!("/ai/get"));
    by_path["tiers"][0]["limits"][0]["fields"]["requests"] = json!(100);
    let world = World::new(&by_path);
    let uses = |path: &str| world.use_up(&Spec { path: path.into(), ..Spec::route() });
    assert_eq!((uses("/ai/get"), uses("/ai/one"), uses("/ai/other")), (2, 2, 0));
}

#[test]
fn limit_by_credential_counts_in_its_row() {
    for by in ["consumer", "credential"] {
        let mut limited = policy();
        limited["rate_limiting"][0]["limit_by"] = json!(by);
        let world = World::new(&limited);
        let _call = world.call(&Spec::route());
        assert_eq!(world.count(ROUTE, ANN), 1, "{by}");
    }
}
