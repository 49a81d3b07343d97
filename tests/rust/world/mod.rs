//! A gateway in memory: a policy, three consumers, counters on the heap, and requests to it. No process, no folder, no clock.
#![allow(dead_code, clippy::unwrap_used, clippy::missing_panics_doc, missing_docs, unreachable_pub)]

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use aigw_core::admit::Admitter;
use aigw_core::cells::Cells as _;
use aigw_core::cells::counter;
use aigw_core::cells::heap::HeapSpace;
use aigw_core::identify::KeyHasher;
use aigw_core::in_force::InForce;
use aigw_core::r#match::probe::Probes;
use aigw_core::refusal::{Reason, answer};
use aigw_core::request::{Answer, BodyLength, Head, Headers, Surface};
use aigw_core::settle::{Failure, Shutdown};
use aigw_core::snapshot::{Credential, Keys, KeysBuilder, NewConsumer, Policy, Snapshot, Uuid, file};
use aigw_core::surface::{Accepted, Admitted, Bounds, Call, FailedCall, HeadOutcome, Rejected, Stages};
use aigw_core::tokens::{BytesCounter, TokenCounter};
use aigw_core::units::{Moment, RequestId, UnixSeconds};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

/// A moment in the middle of a day, an hour and a minute.
pub const NOW: Moment = Moment(1_700_000_025 * 1_000_000_000);
const ID: &str = "0123abcd-0000-4000-8000-00000000000f";

/// Columns of the limits: of the plugin on the route, of tier `free`, of its model limit.
pub const ROUTE: u32 = 3;
pub const TIER: u32 = 5;
pub const MODEL: u32 = 6;
/// Row numbers. `ann` is in group `gold`, `eve` has no tier.
pub const ANN: u32 = 1;
pub const BOB: u32 = 2;
pub const EVE: u32 = 3;

/// The policy: one route with every plugin, one tier, models that it may call and one that it may not.
pub fn policy() -> Value {
    let service = json!({"n": 7, "id": ID, "name": null, "protocol": "http", "host": "127.0.0.1", "port": 5000,
        "path": null, "retries": 5, "connect_timeout_ms": 60000, "write_timeout_ms": 60000, "read_timeout_ms": 60000,
        "tls_verify": null});
    let route = json!({"n": 2, "id": ID, "name": null, "service": 7, "protocols": ["http", "https"],
        "https_redirect_status_code": 426, "hosts": [], "methods": ["GET", "POST"], "paths": ["/ai"], "headers": [],
        "regex_priority": 0, "created_at": 0, "strip_path": true, "preserve_host": false, "key_auth": 0,
        "rate_limiting": {"rank": 3, "profile": 0}, "size_limiting": {"rank": 3, "profile": 0}, "acl": 0});
    let key_auth = json!({"key_names": ["apikey"], "key_in_header": true, "key_in_query": true, "key_in_body": false,
        "hide_credentials": true, "run_on_preflight": true, "realm": null, "anonymous": null, "anonymous_missing": null});
    let profile = json!({"limit_by": "consumer", "header_name": null, "path": null,
        "limits": [{"kind": "window", "fields": {"requests": 2, "per": "minute"}, "dense": ROUTE, "open": 4}],
        "hide_client_headers": false, "error_code": 429, "error_message": "API rate limit exceeded"});
    let tier = json!({"n": 1, "id": ID, "name": "free", "features": ["standard"], "models": ["small", "twin"],
        "limits": [{"kind": "window", "fields": {"requests": 3, "per": "day"}, "scope": "consumer", "shadow": false, "column": TIER, "by_model": []},
                   {"kind": "window", "fields": {"requests": 2, "per": "hour"}, "scope": "model", "shadow": false, "column": null,
                    "by_model": [[4, MODEL], [5, MODEL], [6, MODEL]]}],
        "parameters": {"tools": false, "n": 1, "logprobs": true, "stream": true, "response_format": true,
            "reasoning_effort": true},
        "prompt_max_bytes": 200, "output_max_tokens": null, "first_byte_ms": null, "total_ms": null});
    let upstream = |number: u32, port: u16, model: &str| {
        json!({"number": number, "protocol": "http", "host": "127.0.0.1", "port": port, "path": "/v1", "model": model, "weight": 1,
               "api_key": null, "tls_verify": true})
    };
    let model = |n: u32, name: &str, upstreams: Value| {
        json!({"n": n, "id": ID, "name": name, "features": ["standard"], "max_output_tokens": null, "created_at": 0,
               "upstreams": upstreams})
    };
    let column = |n: u32, open: bool| json!({"n": n, "kind": if open { "open" } else { "dense" }, "words": u32::from(!open), "key": format!("requests:{n}")});
    json!({"services": [service], "routes": [route], "key_auth": [key_auth], "rate_limiting": [profile],
        "size_limiting": [{"bytes": 100, "require_content_length": false}],
        "acl": [{"allow": ["gold"], "deny": [], "hide_groups_header": false}],
        "default_tier": null, "tiers": [tier],
        "models": [model(4, "small", json!([upstream(1, 9100, "small-1")])), model(5, "large", json!([upstream(2, 9100, "large-1")])),
                   model(6, "twin", json!([upstream(3, 9100, "twin-1"), upstream(4, 9200, "twin-2")]))],
        "columns": [column(ROUTE, false), column(4, true), column(TIER, false), column(MODEL, false)]})
}

/// The same policy without models: `/v1` belongs to the routes.
pub fn without_models(policy: &mut Value) {
    policy["models"] = json!([]);
    policy["tiers"][0]["limits"].as_array_mut().unwrap().pop();
}

/// One gateway.
pub struct World {
    pub space: Arc<HeapSpace>,
    pub in_force: Arc<InForce>,
    pub stages: Stages<HeapSpace>,
    pub now: Moment,
}

impl World {
    pub fn new(policy: &Value) -> Self {
        Self::over(Arc::new(HeapSpace::new(&[(ROUTE, 4), (TIER, 4), (MODEL, 4)], 8).unwrap()), policy)
    }

    /// A world whose requests take nothing that stays: its counters are shared, for they are slow to make.
    pub fn of_refusals(policy: &Value) -> Self {
        static SPACE: OnceLock<Arc<HeapSpace>> = OnceLock::new();
        let space = SPACE.get_or_init(|| Self::new(policy).space);
        Self::over(Arc::clone(space), policy)
    }

    pub fn over(space: Arc<HeapSpace>, policy: &Value) -> Self {
        Self::counted_by(|| Arc::new(BytesCounter), space, policy)
    }

    /// A world whose models have this vocabulary.
    pub fn counted_by(counter: fn() -> Arc<dyn TokenCounter>, space: Arc<HeapSpace>, policy: &Value) -> Self {
        let hasher = KeyHasher::new(&[7; 32]);
        let snapshot = Snapshot { generation: 1, policy: compiled(policy), keys: keys(&hasher) };
        let in_force = Arc::new(InForce::empty().next(Arc::new(snapshot), |_| None, |_| counter()));
        let stages = Stages::new(
            hasher,
            Admitter::new(Arc::clone(&space)),
            Bounds { max_body: 4096, max_members: 1000, probes: Probes::new(None), room: Arc::default() },
        );
        Self { space, in_force, stages, now: NOW }
    }

    /// The configuration after a reload with this policy. The world keeps its own.
    pub fn reloaded(&self, policy: &Value) -> Arc<InForce> {
        let before = &self.in_force.snapshot;
        let snapshot =
            Snapshot { generation: before.generation + 1, policy: compiled(policy), keys: before.keys.clone() };
        Arc::new(self.in_force.next(Arc::new(snapshot), |_| None, |_| Arc::new(BytesCounter)))
    }

    /// Requests counted in a row of a column.
    pub fn count(&self, column: u32, row: u32) -> u32 {
        counter::unpack(self.space.dense(column, row).unwrap().load(Ordering::SeqCst)).count
    }

    /// Every counter of a consumer: of the route, of the tier, of the model.
    pub fn counts(&self, row: u32) -> [u32; 3] {
        [ROUTE, TIER, MODEL].map(|column| self.count(column, row))
    }

    /// A head through its stages.
    pub fn head(&self, head: &mut Head) -> Result<HeadOutcome, Box<Rejected>> {
        self.stages.head(&self.in_force, head, self.now, &|_, tier, caller| {
            Some(format!("{}:{}:{}", tier.name, caller.consumer, caller.credential).into())
        })
    }

    /// A head that is accepted.
    pub fn accepted(&self, request: &Spec) -> (Arc<Head>, Accepted) {
        let mut head = request.head();
        match self.head(&mut head).unwrap() {
            HeadOutcome::Accepted(accepted) => (Arc::new(head), *accepted),
            _ => unreachable!(),
        }
    }

    /// A body through its stages, a moment after its head.
    pub fn body(
        &self,
        head: &Arc<Head>,
        accepted: Accepted,
        body: &[u8],
    ) -> Result<Admitted<HeapSpace>, Box<Rejected>> {
        self.stages.body(accepted, head, Bytes::copy_from_slice(body), self.now)
    }

    /// The count of a body on `/v1/tokenize`, or the reason of its refusal.
    #[allow(dead_code)]
    pub fn tokenized(&self, request: &Spec) -> Result<Bytes, Reason> {
        let (head, accepted) = self.accepted(request);
        let counted = self.stages.tokenize(accepted, &head, Bytes::copy_from_slice(&request.body), self.now);
        counted.map(|(_, _, document)| document).map_err(|rejected| rejected.refusal.reason)
    }

    /// A whole request through all stages up to its admission.
    pub fn request(&self, request: &Spec) -> Result<Admitted<HeapSpace>, Box<Rejected>> {
        let mut head = request.head();
        match self.head(&mut head)? {
            HeadOutcome::Accepted(accepted) => self.body(&Arc::new(head), *accepted, &request.body),
            _ => unreachable!(),
        }
    }

    /// The call of a request that passes.
    pub fn call(&self, request: &Spec) -> Call<HeapSpace> {
        self.request(request).map_err(|rejected| rejected.refusal).unwrap().into_parts().1
    }

    /// The reason of a request that is refused.
    pub fn reason(&self, request: &Spec) -> Option<Reason> {
        self.request(request).err().map(|rejected| rejected.refusal.reason)
    }

    /// The answer to a request that is refused.
    pub fn answer(&self, request: &Spec) -> Answer {
        let mut head = request.head();
        let rejected = match self.head(&mut head) {
            Err(rejected) => rejected,
            Ok(HeadOutcome::Accepted(accepted)) => {
                let head = Arc::new(request.head_like(&head));
                self.body(&head, *accepted, &request.body).err().unwrap()
            }
            Ok(_) => unreachable!(),
        };
        let tier = rejected.context.tier(&rejected.in_force).map(|tier| tier.name.to_string());
        answer::refuse(&head, rejected.refusal, tier.as_deref(), Duration::from_millis(2), false)
    }

    /// Ends a call by a failure, a moment after its arrival.
    pub fn fail(&self, call: Call<HeapSpace>, failure: Failure, began: bool, shutdown: Shutdown) -> FailedCall {
        call.failed(failure, began, shutdown, self.now, Duration::from_millis(5))
    }

    /// Completes requests until the limits refuse one; returns their number.
    pub fn use_up(&self, request: &Spec) -> usize {
        (0..10)
            .take_while(|_| self.request(request).map(|one| drop(one.into_parts().1.completed(SHORT))).is_ok())
            .count()
    }
}

/// From arrival to the end of a short request.
pub const SHORT: Duration = Duration::from_millis(3);

fn compiled(policy: &Value) -> Arc<Policy> {
    Arc::new(file::policy(&file::seal(policy.to_string().as_bytes()).unwrap().file).unwrap())
}

/// The consumers, made once: every world has the same.
fn keys(hasher: &KeyHasher) -> Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| make_keys(hasher)).clone()
}

fn make_keys(hasher: &KeyHasher) -> Keys {
    let mut builder = KeysBuilder::new();
    let id = Uuid::from_bytes([1; 16]);
    for (n, name, tier, groups) in [(ANN, "ann", 1, &["gold"][..]), (BOB, "bob", 1, &[]), (EVE, "eve", 0, &["gold"])] {
        let consumer = NewConsumer { n, id, username: Some(name), custom_id: None, refs: &[], tier, groups };
        builder.consumer(&consumer).unwrap();
        let credential = Credential { n, id, consumer: n, expires_at: 0 };
        builder.credential(credential, hasher.digest(name.as_bytes()));
    }
    Keys::open(Arc::new(builder.finish(1).unwrap())).unwrap()
}

/// A request to be made.
#[derive(Clone)]
pub struct Spec {
    pub method: Method,
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub key: Option<&'static str>,
    pub length: BodyLength,
    pub body: Vec<u8>,
    pub tls: bool,
}

impl Spec {
    fn new(method: Method, path: &str, key: &'static str, body: &[u8]) -> Self {
        let length = if body.is_empty() { BodyLength::None } else { BodyLength::Known(body.len() as u64) };
        Self { method, path: path.into(), headers: Vec::new(), key: Some(key), length, body: body.to_vec(), tls: false }
    }

    /// A small POST to the route.
    pub fn route() -> Self {
        Self::new(Method::POST, "/ai/get", "ann", b"hello")
    }

    /// A small call of a model.
    pub fn chat() -> Self {
        Self::new(Method::POST, "/v1/chat/completions", "ann", br#"{"model":"small","messages":[{}]}"#)
    }

    /// A GET below `/v1`.
    pub fn get(path: &str) -> Self {
        Self::new(Method::GET, path, "ann", b"")
    }

    #[must_use]
    pub fn with_body(mut self, body: &[u8]) -> Self {
        self.length = BodyLength::Known(body.len() as u64);
        self.body = body.to_vec();
        self
    }

    #[must_use]
    pub fn by(mut self, key: &'static str) -> Self {
        self.key = Some(key);
        self
    }

    /// Its head, as the server hands it over.
    pub fn head(&self) -> Head {
        let mut headers = Headers::with_capacity(8);
        headers.push("host", "localhost");
        if let Some(key) = self.key {
            headers.push("apikey", key);
        }
        for (name, value) in &self.headers {
            headers.push(name, value);
        }
        match self.length {
            BodyLength::None => {}
            BodyLength::Known(bytes) => headers.push("content-length", &bytes.to_string()),
            BodyLength::Chunked => headers.push("transfer-encoding", "chunked"),
        }
        Head {
            arrived: Instant::now(),
            id: RequestId([1, 2]),
            request_id: RequestId([1, 2]).to_string(),
            method: self.method.clone(),
            path: self.path.clone(),
            query: String::new(),
            headers,
            length: BodyLength::None,
            surface: Surface::Kong,
            peer: Some(([127, 0, 0, 1], 4000).into()),
            tls: self.tls,
            http10: false,
            closes: false,
            passes: 0,
            authority: None,
        }
    }

    fn head_like(&self, judged: &Head) -> Head {
        Head { surface: judged.surface, length: judged.length, ..self.head() }
    }
}

/// The value of a header of an answer.
pub fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.iter().find(|(own, _)| *own == name).map(|(_, value)| &**value)
}

/// The second at which tests run.
pub fn seconds() -> UnixSeconds {
    NOW.seconds()
}
