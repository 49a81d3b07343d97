//! Policy files that are accepted or refused, and the rate-limiting instance that runs.
#![allow(clippy::unwrap_used)]

use aigw_core::balance::ServiceTarget;
use aigw_core::r#match::{Authority, CanonicalPath, Query};
use aigw_core::price::{MediaRates, Prices};
use aigw_core::snapshot::plan::rate_limiting;
use aigw_core::snapshot::policy::{InputBounds, Template, Tokenizer};
use aigw_core::snapshot::{Anonymous, Keys, KeysBuilder, NewConsumer, Policy, Ref, SnapshotError, file, parse_uuid};
use serde_json::{Value, json};
use std::sync::Arc;

const ID: &str = "0123abcd-0000-4000-8000-00000000000f";

fn limits() -> Value {
    json!([{"kind": "window", "fields": {"requests": 5, "per": "minute"}, "dense": 3, "open": 4}])
}

fn profile(message: &str) -> Value {
    json!({"limit_by": "consumer", "header_name": null, "path": null, "limits": limits(),
           "hide_client_headers": false, "error_code": 429, "error_message": message})
}

fn whole() -> Value {
    json!({
        "services": [{"n": 7, "id": ID, "name": "ai-service", "protocol": "http", "host": "127.0.0.1", "port": 5000,
            "path": null, "retries": 5, "connect_timeout_ms": 60000, "write_timeout_ms": 60000, "read_timeout_ms": 60000,
            "tls_verify": null}],
        "routes": [{"n": 2, "id": ID, "name": null, "service": 7, "protocols": ["http", "https"],
            "https_redirect_status_code": 426, "hosts": [], "methods": [], "paths": ["/ai"],
            "headers": [["X-Version", ["v1", "~*v[23]"]]], "regex_priority": 0, "created_at": 1_700_000_000,
            "strip_path": true, "preserve_host": false, "key_auth": 0, "rate_limiting": {"rank": 3, "profile": 0},
            "size_limiting": null, "acl": null}],
        "key_auth": [{"key_names": ["ApiKey"], "key_in_header": true, "key_in_query": true, "key_in_body": false,
            "hide_credentials": false, "run_on_preflight": true, "realm": "lab", "anonymous": null,
            "anonymous_missing": null}],
        "rate_limiting": [profile("zero"), profile("one"), profile("two")],
        "size_limiting": [{"bytes": 1024, "require_content_length": false}],
        "acl": [{"allow": ["gold"], "deny": [], "hide_groups_header": false}],
        "default_tier": 1,
        "tiers": [{"n": 1, "id": ID, "name": "free", "features": ["standard"], "models": ["small-*"],
            "limits": [{"kind": "window", "fields": {"requests": 5, "per": "minute"}, "scope": "consumer", "shadow": false, "column": 3, "by_model": []},
                       {"kind": "bucket", "fields": {"requests": 5, "per": "second", "burst": 10}, "scope": "model", "shadow": true, "column": null, "by_model": [[4, 3]]}],
            "parameters": {"tools": false, "n": 1, "logprobs": true, "stream": true, "response_format": true,
                "reasoning_effort": true},
            "prompt_max_bytes": 1000, "output_max_tokens": 512, "first_byte_ms": 10000, "total_ms": null}],
        "models": [{"n": 4, "id": ID, "name": "small-chat", "features": ["standard"], "max_output_tokens": 4096,
            "created_at": 1_700_000_000, "upstreams": [{"number": 9, "protocol": "http", "host": "127.0.0.1", "port": 9100, "path": "/v1",
                "model": "small", "weight": 1, "api_key": null, "tls_verify": true}]}],
        "columns": [{"n": 3, "kind": "dense", "words": 1, "key": "requests:-,-:consumer:minute"},
                    {"n": 4, "kind": "open", "words": 0, "key": "requests:-,-:consumer:minute"}]
    })
}

fn compile(policy: &Value) -> Result<Policy, SnapshotError> {
    file::policy(&file::seal(policy.to_string().as_bytes())?.file)
}

fn with(pointer: &str, value: Value) -> Value {
    let mut policy = whole();
    let (parent, name) = pointer.rsplit_once('/').unwrap();
    match policy.pointer_mut(parent).unwrap() {
        Value::Object(members) => drop(members.insert(name.to_owned(), value)),
        other => *other.pointer_mut(&format!("/{name}")).unwrap() = value,
    }
    policy
}

#[test]
fn a_whole_policy_is_compiled() {
    let policy = compile(&whole()).unwrap();
    let route = &policy.routes[0];
    assert_eq!(policy.service_of(route).unwrap().n, 7);
    let auth = policy.key_auth_of(route).unwrap();
    assert_eq!((&*auth.names[0], &*auth.header_names[0]), ("ApiKey", "apikey"));
    assert_eq!((&*auth.challenge, &auth.anonymous), ("Key realm=\"lab\"", &Anonymous::Refused));
    let authority = Authority::parse("localhost:8000").unwrap();
    let path = CanonicalPath::new("/ai/get").unwrap();
    let mut query = Query { method: "GET", authority: &authority, tls: false, path, headers: &[("x-version", "V2")] };
    assert_eq!(policy.router.find(&query).map(|m| (m.route, m.prefix_len)), Some((0, 3)));
    query.headers = &[];
    assert_eq!(policy.router.find(&query), None);
}

#[test]
fn a_whole_offer_is_compiled() {
    let offer = compile(&whole()).unwrap().offer;
    let (index, tier) = offer.tier(0).unwrap();
    assert_eq!((index, tier.n, offer.tier(1).is_some(), offer.tier(2).is_some()), (0, 1, true, false));
    let (at, model) = offer.model("small-chat").unwrap();
    assert!(tier.models.hold(&model.name) && tier.features.hold("standard") && !tier.features.hold("reasoning"));
    assert_eq!((offer.upstream_number(at, 0), offer.upstream_number(at, 1)), (Some(9), None));
    assert_eq!((&*tier.limits[0].columns, &*tier.limits[1].columns), (&[3][..], &[3][..]));
    assert_eq!(tier.limits[1].limit.describe(), "5 requests per second (burst 10)");
    assert!(offer.model("small").is_none());
}

fn prices(input: u64) -> Value {
    json!({"input": input, "cached_input": 2, "cache_write": 3, "output": 4, "reasoning": 5, "request": 6})
}

#[test]
fn prices_and_the_properties_of_counting_are_compiled() {
    let mut policy = whole();
    let (tier, model) = (&mut policy["tiers"][0], json!({"per_message": 7, "per_request": 8}));
    tier["price"] = prices(1);
    tier["prompt_max_tokens"] = json!(4000);
    tier["request_max_spend"] = json!(50_000_000);
    policy["models"][0]["cost"] = prices(9);
    policy["models"][0]["template"] = model;
    policy["models"][0]["input_bounds"] = json!({"image": 1, "audio": 2, "file": 3});
    policy["models"][0]["tokenizer"] = json!({"file": {"name": "0a1b", "per_byte": 3}});
    let offer = compile(&policy).unwrap().offer;
    let (tier, model) = (&offer.tiers[0], &offer.models[0]);
    let wanted =
        Prices { input: 1, cached_input: 2, cache_write: 3, output: 4, reasoning: 5, request: 6, special: None };
    assert_eq!((&tier.price, &model.cost), (&Some(wanted.clone()), &Some(Prices { input: 9, ..wanted })));
    assert_eq!((tier.prompt_max_tokens, tier.request_max_spend), (Some(4000), Some(50_000_000)));
    assert_eq!(model.template, Template { per_message: 7, per_request: 8 });
    assert_eq!(model.input_bounds, InputBounds { image: 1, audio: 2, file: 3 });
    assert_eq!(model.tokenizer, Tokenizer::File { name: "0a1b".into(), per_byte: 3 });
}

#[test]
fn special_prices_are_compiled_and_those_that_change_nothing_left_out() {
    let media = json!({"image_input": 7, "audio_input": 8, "image_output": 9, "audio_output": 10});
    let above = json!({"tokens": 200_000, "input": 11, "cached_input": 12, "cache_write": 13, "output": 14, "reasoning": 15,
        "media": media});
    let mut policy = whole();
    policy["tiers"][0]["price"] = prices(1);
    policy["tiers"][0]["price"]["special"] =
        json!({"media": media, "above": above, "service_tiers": {"flex": 500_000, "priority": 2_000_000}});
    policy["models"][0]["cost"] = prices(1);
    let plain = json!({"image_input": 1, "audio_input": 1, "image_output": 4, "audio_output": 4});
    let mut same = prices(1);
    same["tokens"] = json!(5);
    same["media"] = plain.clone();
    same.as_object_mut().unwrap().remove("request");
    policy["models"][0]["cost"]["special"] =
        json!({"media": plain, "above": same, "service_tiers": {"flex": 1_000_000}});
    let offer = compile(&policy).unwrap().offer;
    let (price, cost) = (offer.tiers[0].price.clone().unwrap(), offer.models[0].cost.clone().unwrap());
    let media = MediaRates { image_input: 7, audio_input: 8, image_output: 9, audio_output: 10 };
    let special = price.special.as_deref().unwrap();
    assert_eq!((special.media, special.above.unwrap().tokens), (media, 200_000));
    assert_eq!((special.above.unwrap().rates.reasoning, special.above.unwrap().rates.media), (15, media));
    assert_eq!(
        special.factors,
        [1_000_000, 1_000_000, 1_000_000, 1_000_000, 500_000, 2_000_000, 1_000_000, 1_000_000, 1_000_000]
    );
    assert_eq!(cost.special, None);
    assert_ne!(price.version(), cost.version());
    for wrong in ["Flex", "turbo", ""] {
        policy["models"][0]["cost"]["special"]["service_tiers"] = json!({ (wrong): 1 });
        assert!(compile(&policy).is_err(), "{wrong}");
    }
}

#[test]
fn a_policy_of_before_gets_the_defaults_of_counting() {
    let offer = compile(&whole()).unwrap().offer;
    let (tier, model) = (&offer.tiers[0], &offer.models[0]);
    assert_eq!((&tier.price, &model.cost), (&None, &None));
    assert_eq!((tier.prompt_max_tokens, tier.request_max_spend), (None, None));
    assert_eq!(model.template, Template { per_message: 4, per_request: 3 });
    assert_eq!(model.input_bounds, InputBounds { image: 2048, audio: 8192, file: 65536 });
    assert_eq!(model.tokenizer, Tokenizer::O200kBase);
}

#[test]
fn compile_refuses_and_names_wrong_values() {
    for (pointer, value, wanted) in [
        ("/routes/0/acl", json!(1), "route 2 refers to acl 1"),
        ("/routes/0/size_limiting", json!({"rank": 3, "profile": 1}), "route 2 refers to size_limiting 1"),
        ("/acl/0/deny", json!(["x"]), "exactly one of allow and deny"),
        ("/default_tier", json!(9), "refers to tier 9"),
        ("/tiers/0/limits/0/column", json!(null), "lacks the column"),
        ("/tiers/0/limits/0/column", json!(4), "refers to column 4"),
        ("/tiers/0/limits/1/by_model", json!([]), "lacks the column of a model"),
        ("/tiers/0/limits/1/fields/per", json!("month"), "a period of fixed length"),
        ("/tiers/0/limits/0/kind", json!("none"), "no kind of limit called"),
        ("/tiers/0/limits/0/fields", json!({"per": "day"}), "requests"),
        ("/tiers/0/limits/0/fields/per", json!("5w"), "is not a period"),
        ("/models/0/upstreams", json!([]), "at least one upstream"),
        (
            "/models/0/tokenizer",
            json!({"file": {"name": "../secret", "per_byte": 1}}),
            "named by the hash of its content",
        ),
        ("/models/0/tokenizer", json!({"file": {"name": "0a", "per_byte": 0}}), "at least one token"),
        ("/models/0/tokenizer", json!("p50k_base"), "unknown variant"),
        ("/tiers/0/prompt_max_tokens", json!(0), "caps must be above 0"),
        ("/tiers/0/price", json!({"input": -1}), "invalid value"),
        ("/models/0/upstreams/0/path", json!("/v1/../x"), "path must start with"),
        ("/routes/0/service", json!(8), "route 2 refers to service 8"),
        ("/routes/0/key_auth", json!(1), "route 2 refers to key_auth 1"),
        ("/routes/0/rate_limiting/profile", json!(3), "route 2 refers to profile 3"),
        ("/routes/0/rate_limiting/rank", json!(4), "rank of a plugin without a consumer"),
        ("/routes/0/paths", json!(["~/("]), "route 2: \"/(\" is not a supported regular expression"),
        ("/routes/0/protocols", json!([]), "protocols must name"),
        ("/routes/0/https_redirect_status_code", json!(200), "https_redirect_status_code must be"),
        ("/routes/0/id", json!("x"), "route 2: id must be a UUID"),
        ("/routes/0/n", json!(0), "n starts at 1"),
        ("/services/0/port", json!(0), "port must be"),
        ("/services/0/port", json!(65536), "65536"),
        ("/services/0/host", json!("a/b"), "host must be"),
        ("/services/0/path", json!("/a/../b"), "path must start"),
        ("/services/0/path", json!("/a b"), "path must start"),
        ("/services/0/read_timeout_ms", json!(0), "timeouts must be"),
        ("/key_auth/0/key_in_body", json!(true), "not supported in this version"),
        ("/key_auth/0/key_names", json!([]), "key_names must hold"),
        ("/key_auth/0/realm", json!("a\"b"), "realm must be"),
        ("/rate_limiting/1/limits", json!([]), "at least one limit"),
        ("/rate_limiting/1/limits/0/fields/per", json!("fortnight"), "fortnight"),
        ("/rate_limiting/1/limits/0/dense", json!(4), "rate_limiting at index 1 refers to column 4"),
        ("/rate_limiting/1/limits/0/dense", json!(null), "lacks the column"),
        ("/rate_limiting/1/limit_by", json!("header"), "limit_by header needs"),
        ("/rate_limiting/1/error_code", json!(42), "error_code must be"),
        ("/columns/1/n", json!(3), "column 3 appears twice"),
        ("/columns/0/words", json!(0), "at least one word"),
    ] {
        let error = compile(&with(pointer, value)).unwrap_err().to_string();
        assert!(error.contains(wanted), "{pointer}: {error}");
    }
}

#[test]
fn keys_of_the_json_are_neither_missing_nor_unknown() {
    for object in
        ["", "/services/0", "/routes/0", "/key_auth/0", "/rate_limiting/0", "/rate_limiting/0/limits/0", "/columns/0"]
    {
        let keys: Vec<String> = whole().pointer(object).unwrap().as_object().unwrap().keys().cloned().collect();
        for key in keys {
            let mut policy = whole();
            policy.pointer_mut(object).unwrap().as_object_mut().unwrap().remove(&key);
            assert!(compile(&policy).unwrap_err().to_string().contains(&key), "{object} without {key}");
        }
        let mut policy = whole();
        policy.pointer_mut(object).unwrap().as_object_mut().unwrap().insert("surprise".into(), json!(1));
        assert!(compile(&policy).unwrap_err().to_string().contains("surprise"), "{object}");
    }
}

#[test]
fn policy_of_an_earlier_version_is_compiled_without_its_rows_of_metrics() {
    let mut policy = whole();
    policy["series"] = json!([[1, 4, 7]]);
    policy["calls"] = json!([[1, 4, 0, 9]]);
    policy["models"][0]["upstreams"][0].as_object_mut().unwrap().remove("number");
    assert_eq!(compile(&policy).unwrap().offer.upstream_number(0, 0), None);
    let pairs = |policy: &Value| file::seal(policy.to_string().as_bytes()).unwrap().highest;
    assert_eq!((pairs(&policy).series, pairs(&whole()).calls), (1, 1));
}

#[test]
fn a_damaged_file_is_refused() {
    let file = file::seal(whole().to_string().as_bytes()).unwrap().file;
    for at in 0..file.len() {
        let mut damaged = file.clone();
        damaged[at] ^= 1;
        assert!(file::policy(&damaged).is_err(), "byte {at}");
    }
    for cut in 0..file.len() {
        assert!(file::policy(&file[..cut]).is_err(), "cut at {cut}");
    }
}

fn plan(policy: &Policy, refs: &[Ref]) -> Result<Option<u32>, u32> {
    plan_over(policy, refs, false)
}

fn plan_over(policy: &Policy, refs: &[Ref], tls: bool) -> Result<Option<u32>, u32> {
    let id = parse_uuid(ID).unwrap();
    let mut builder = KeysBuilder::new();
    builder.consumer(&NewConsumer { n: 1, id, username: None, custom_id: None, refs, tier: 0, groups: &[] }).unwrap();
    let keys = Keys::open(Arc::new(builder.finish(1).unwrap())).unwrap();
    let consumer = keys.consumer(1).unwrap();
    rate_limiting(policy, &policy.routes[0], consumer.refs, tls)
        .map(|p| p.map(|(index, _)| index))
        .map_err(|e| e.profile)
}

#[test]
fn the_instance_of_highest_rank_runs() {
    let own = |route, service, profile| Ref { route, service, kind: 0, profile };
    // The route of `whole` is 2, its service 7.
    for (base, refs, wanted) in [
        (json!(null), vec![], Ok(None)),
        (json!({"rank": 5, "profile": 0}), vec![], Ok(Some(0))),
        (json!({"rank": 3, "profile": 0}), vec![own(0, 0, 1)], Ok(Some(1))),
        (json!({"rank": 5, "profile": 0}), vec![own(0, 0, 1)], Ok(Some(0))),
        (json!({"rank": 5, "profile": 0}), vec![own(0, 7, 1)], Ok(Some(1))),
        (json!({"rank": 1, "profile": 0}), vec![own(0, 8, 1), own(3, 0, 2)], Ok(Some(0))),
        (json!(null), vec![own(0, 7, 0), own(2, 0, 1)], Ok(Some(1))),
        (json!(null), vec![own(2, 7, 2), own(2, 0, 1), own(0, 0, 0)], Ok(Some(2))),
        (json!(null), vec![own(2, 8, 2), own(3, 7, 1)], Ok(None)),
        (json!(null), vec![own(0, 0, 9)], Err(9)),
        (json!(null), vec![own(9, 9, 9)], Ok(None)),
    ] {
        let policy = compile(&with("/routes/0/rate_limiting", base.clone())).unwrap();
        assert_eq!(plan(&policy, &refs), wanted, "{base} {refs:?}");
    }
    let mut no_service = with("/routes/0/service", json!(null));
    no_service["routes"][0]["rate_limiting"] = json!(null);
    assert_eq!(
        plan(&compile(&no_service).unwrap(), &[own(0, 7, 1)]),
        Ok(None),
        "a service's instance needs the service"
    );
}

#[test]
fn own_instance_of_one_protocol_runs_for_it_alone() {
    let own = |kind, profile| Ref { route: 0, service: 0, kind, profile };
    let policy = compile(&with("/routes/0/rate_limiting", json!({"rank": 3, "profile": 0}))).unwrap();
    let refs = [own(1 << 8, 1), own(1 << 9, 2), own(1 | 1 << 9, 0)];
    assert_eq!([false, true].map(|tls| plan_over(&policy, &refs, tls)), [Ok(Some(1)), Ok(Some(2))]);
    assert_eq!([false, true].map(|tls| plan_over(&policy, &refs[1..], tls)), [Ok(Some(0)), Ok(Some(2))]);
    assert_eq!([false, true].map(|tls| plan_over(&policy, &[own(0, 2)], tls)), [Ok(Some(2)), Ok(Some(2))]);
}

#[test]
fn route_has_other_plugins_over_tls() {
    let none = json!({"key_auth": null, "rate_limiting": null, "size_limiting": null, "acl": null, "cors": null});
    let compiled = compile(&with("/routes/0/over_tls", none.clone())).unwrap();
    let [plain, secure] = &compiled.routes[..] else { unreachable!("one route, twice") };
    assert_eq!((plain.over_tls, secure.over_tls, plain.n), (Some(1), None, secure.n));
    assert_eq!((plain.plugins.key_auth, secure.plugins.key_auth), (Some(0), None));
    assert!(plain.plugins.rate_limiting.is_some() && secure.plugins.rate_limiting.is_none());
    assert_eq!(compile(&whole()).unwrap().routes[0].over_tls, None);
    for (field, value) in [("acl", json!(9)), ("rate_limiting", json!({"rank": 3, "profile": 9})), ("other", json!(1))]
    {
        let mut wrong = none.clone();
        wrong[field] = value;
        assert!(compile(&with("/routes/0/over_tls", wrong)).is_err(), "{field}");
    }
}

#[test]
fn service_has_authorities_and_a_certificate_with_its_key() {
    let tls = |ca, cert, key| with("/services/0/tls", json!({"ca": ca, "cert": cert, "key": key}));
    assert_eq!(compile(&whole()).unwrap().services[0].tls, None);
    let compiled = compile(&tls(Some("CA"), Some("CERT"), Some("00ff"))).unwrap();
    let open = |sealed: &str| (sealed == "00ff").then(|| b"KEY".to_vec());
    let target = ServiceTarget::new(&compiled.services[0], open);
    let settings = target.targets[0].origin.settings.as_deref().unwrap();
    assert_eq!((&*settings.ca, &*settings.cert, &*settings.key), (&b"CA"[..], &b"CERT"[..], &b"KEY"[..]));
    assert!(!format!("{settings:?}").contains("KEY"), "a key is never shown");
    let shut = ServiceTarget::new(&compiled.services[0], |_| None);
    assert!(shut.targets.is_empty(), "a call without the certificate would be another call");
    let trusting = compile(&tls(Some("CA"), None, None)).unwrap();
    assert_eq!(ServiceTarget::new(&trusting.services[0], |_| None).targets.len(), 1, "there is nothing to open");
    for wrong in [tls(None, Some("CERT"), None), tls(None, None, Some("00ff"))] {
        assert!(compile(&wrong).unwrap_err().to_string().contains("go together"));
    }
}

#[test]
fn certificates_are_found_by_their_names() {
    let pair = json!({"chain": "-----BEGIN CERTIFICATE-----", "key": "00ff"});
    let mut policy = whole();
    assert!(compile(&policy).unwrap().certificates.is_empty());
    policy["certificates"] = json!([
        {"names": ["A.example", "*.b.example"], "pairs": [pair, pair]},
        {"names": [], "pairs": [pair]},
        {"names": ["*"], "pairs": [pair]},
    ]);
    let compiled = compile(&policy).unwrap();
    let found = |name| compiled.server_names.find(Some(name)).collect::<Vec<_>>();
    assert_eq!((found("a.example"), found("x.b.example"), found("other")), (vec![0, 2], vec![0, 2], vec![2]));
    assert_eq!(compiled.certificates.iter().map(|one| one.pairs.len()).collect::<Vec<_>>(), [2, 1, 1]);
    assert_eq!(&*compiled.certificates[0].pairs[0].key, "00ff");
    assert!(!format!("{:?}", compiled.certificates).contains("00ff"), "a key is never shown");
    for wrong in [
        json!([{"names": [], "pairs": []}]),
        json!([{"names": ["a..b"], "pairs": [pair]}]),
        json!([{"names": ["a.b"], "pairs": [pair]}, {"names": ["A.b"], "pairs": [pair]}]),
        json!([{"names": ["a.b"], "pairs": [{"chain": "x", "key": "y", "alt": 1}]}]),
        json!([{"names": ["a.b"], "pairs": [{"chain": "x"}]}]),
    ] {
        policy["certificates"] = wrong.clone();
        assert!(compile(&policy).is_err(), "{wrong}");
    }
}
