//! The cost of one request's decisions: `cargo bench --bench decision`. Time is an argument, no I/O, one thread.
//!
//! Keys are drawn at random, so the tables for a million keys are as cold as in a busy gateway.
#![allow(missing_docs, clippy::unwrap_used, clippy::cast_possible_truncation)]

mod cpu;
mod percentiles;

use std::array;
use std::hint::black_box;
use std::sync::Arc;

use aigw_core::admit::{Admitter, Check};
use aigw_core::cells::CellKey;
use aigw_core::cells::heap::HeapSpace;
use aigw_core::cells::journal::DRAFT_WORDS;
use aigw_core::identify::{KeyHasher, Request, identify};
use aigw_core::limits::{Amounts, Demand, KINDS, Limit, Usage};
use aigw_core::r#match::{Authority, CanonicalPath, PathRule, Query, RouteRule, Router, upstream_path::upstream_path};
use aigw_core::snapshot::{
    Anonymous, Credential, KeyAuth, Keys, KeysBuilder, MAX_CREDENTIAL, NewConsumer, Ref, Uuid, delta,
};
use aigw_core::units::{RequestId, UnixSeconds};
use cpu::CpuTime;
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use serde_json::json;

const NOW: u64 = 1_800_000_000;

fn key_auth() -> KeyAuth {
    KeyAuth {
        names: ["apikey".into()].into(),
        header_names: ["apikey".into()].into(),
        in_header: true,
        in_query: true,
        hide: false,
        run_on_preflight: true,
        challenge: "Key".into(),
        anonymous: Anonymous::Refused,
    }
}

fn key(n: u32) -> String {
    format!("{:032x}", u128::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn id(n: u32) -> Uuid {
    Uuid::from_bytes((u128::from(n) << 64 | 0x4000).to_le_bytes())
}

/// `count` consumers with one key and one plugin each; every hundredth key is in the delta.
fn keys(count: u32, hasher: &KeyHasher) -> Keys {
    let mut builder = KeysBuilder::new();
    let mut changes = delta::header(1).to_vec();
    for n in 1..=count {
        let name = format!("consumer-{n}");
        let refs = [Ref { route: 0, service: 0, kind: 0, profile: n % 3 }];
        builder
            .consumer(&NewConsumer {
                n,
                id: id(n),
                username: Some(&name),
                custom_id: None,
                refs: &refs,
                tier: 0,
                groups: &[],
            })
            .unwrap();
        let credential = Credential { n, id: id(n), consumer: n, expires_at: 0 };
        let digest = hasher.digest(key(n).as_bytes());
        if n % 100 == 0 {
            delta::encode(&delta::Change::Credential(credential, digest), &mut changes).unwrap();
        } else {
            builder.credential(credential, digest);
        }
    }
    let mut keys = Keys::open(Arc::new(builder.finish(1).unwrap())).unwrap();
    keys.apply(&changes).unwrap();
    keys
}

fn identity(c: &mut Criterion<CpuTime>) {
    let hasher = KeyHasher::new(&[7; 32]);
    let auth = key_auth();
    let mut group = c.benchmark_group("identify");
    group.bench_function("hmac", |b| {
        let key = key(1);
        b.iter(|| hasher.digest(black_box(key.as_bytes())));
    });
    for count in [100_000_u32, 1_000_000] {
        let keys = keys(count, &hasher);
        // The order of presentation differs from the order in the tables.
        let presented: Vec<String> = (0..65_536_u32).map(|i| key(i.wrapping_mul(2_654_435_761) % count + 1)).collect();
        let mut next = (0..presented.len()).cycle();
        group.bench_function(BenchmarkId::new("hmac_and_lookup", count), |b| {
            b.iter(|| {
                let key = &presented[next.next().unwrap_or(0)];
                let headers = [("host", "localhost"), ("user-agent", "bench"), ("apikey", key.as_str())];
                let request = Request { method: "GET", headers: &headers, query: "" };
                let caller = identify(&auth, &hasher, &keys, &request, NOW).unwrap();
                black_box(caller.consumer.unwrap().refs.iter().next())
            });
        });
        group.bench_function(BenchmarkId::new("unknown_key", count), |b| {
            let headers = [("host", "localhost"), ("user-agent", "bench"), ("apikey", "an unknown key")];
            let request = Request { method: "GET", headers: &headers, query: "" };
            b.iter(|| identify(&auth, &hasher, &keys, &request, NOW).unwrap_err());
        });
        group.bench_function(BenchmarkId::new("one_key_more", count), |b| {
            let mut change = Vec::new();
            let credential = Credential { n: MAX_CREDENTIAL, id: id(0), consumer: 1, expires_at: 0 };
            let digest = hasher.digest(b"one key more");
            delta::encode(&delta::Change::Credential(credential, digest), &mut change).unwrap();
            b.iter(|| {
                let mut newer = keys.clone();
                newer.apply(&change).unwrap();
                newer
            });
        });
    }
    group.finish();
}

/// A limit, and the words of its counters.
fn limit(kind: &str, fields: &serde_json::Value) -> (Limit, usize) {
    let words = KINDS.iter().find(|row| row.name == kind).unwrap().words;
    (Limit::build(kind, fields).unwrap(), words as usize)
}

fn window(per: &str) -> (Limit, usize) {
    limit("window", &json!({"requests": u32::MAX, "per": per}))
}

/// Four windows, a budget of tokens, a budget of money, and calls at once.
fn every_kind() -> [(Limit, usize); 7] {
    let [minute, hour, day, month] = ["minute", "hour", "day", "month"].map(window);
    let tokens = limit("tokens", &json!({"amount": 1_u64 << 40, "per": "day"}));
    let spend = limit("spend", &json!({"amount": 1_u64 << 40, "per": "month"}));
    [minute, hour, day, month, tokens, spend, limit("concurrency", &json!({"calls": 8}))]
}

fn decisions(c: &mut Criterion<CpuTime>) {
    for (count, hot) in [(100_000_u32, 1), (100_000, u32::MAX), (1_000_000, u32::MAX)] {
        decision(c, "decision", ["minute", "month"].map(window), count, hot);
    }
    for hot in [1, u32::MAX] {
        decision(c, "decision_every_kind", every_kind(), 100_000, hot);
    }
}

/// A gateway with the keys of many consumers, and the same limits for each.
struct Gateway<const N: usize> {
    auth: KeyAuth,
    hasher: KeyHasher,
    keys: Keys,
    limits: [Limit; N],
    admitter: Admitter<HeapSpace>,
    demand: Demand,
    used: Usage,
}

impl<const N: usize> Gateway<N> {
    /// The parts of a decision.
    const PARTS: [&str; 3] = ["identify", "take", "settle"];

    fn new(limits: [(Limit, usize); N], count: u32) -> Self {
        let hasher = KeyHasher::new(&[7; 32]);
        let columns: Vec<_> = (1..).zip(limits).map(|(n, (_, words))| (n, count as usize + 1, words)).collect();
        let bound = Amounts { input_tokens: 1024, output_tokens: 256, spend: 900_000 };
        let amounts = Amounts { input_tokens: 259, output_tokens: 16, spend: 200_000 };
        Self {
            auth: key_auth(),
            keys: keys(count, &hasher),
            hasher,
            limits: limits.map(|(limit, _)| limit),
            admitter: Admitter::new(Arc::new(HeapSpace::wide(&columns, 1 << 12).unwrap())),
            demand: Demand { body: 1024, bound, ..Demand::default() },
            used: Usage { amounts, ..Usage::ANSWERED },
        }
    }

    /// One decision, with a call of `lap` behind each part: the consumer of the key; the limits looked at, journalled and taken;
    /// the amounts settled. No text is counted.
    #[inline]
    fn decide(&self, key: &str, mut lap: impl FnMut()) {
        let headers = [("host", "localhost"), ("user-agent", "bench"), ("apikey", key)];
        let request = Request { method: "GET", headers: &headers, query: "" };
        let consumer = identify(&self.auth, &self.hasher, &self.keys, &request, NOW).unwrap().consumer.unwrap();
        black_box(consumer.refs.iter().next());
        let row = consumer.n;
        lap();
        let mut checks: [Check; N] =
            array::from_fn(|n| Check::new(self.limits[n], CellKey::Dense { column: n as u32 + 1, row }));
        let now = UnixSeconds(NOW as u32);
        let mut permit = self.admitter.take(&mut checks, &self.demand, now, RequestId([1, 2])).unwrap();
        permit.mark_sent(&[0; DRAFT_WORDS]);
        lap();
        permit.settle(&self.used);
        lap();
    }
}

fn decision<const N: usize>(
    c: &mut Criterion<CpuTime>,
    title: &str,
    limits: [(Limit, usize); N],
    count: u32,
    hot: u32,
) {
    let gateway = Gateway::new(limits, count);
    let mut drawn = 0..;
    let mut present = || key(scattered(drawn.next().unwrap_or(0)) % count.min(hot) + 1);
    // The key's bytes are warm in the cache, like those of a request that just arrived.
    let whole = |key: &mut String| gateway.decide(key, || ());
    let mut group = c.benchmark_group(title);
    let name = if hot == 1 { "one hot key of" } else { "random keys of" };
    group.bench_function(BenchmarkId::new(name, count), |b| {
        // State of a gateway that has run for a while: every key was presented before, more than once.
        (0..3 * count).map(|n| key(n % count + 1)).for_each(|mut key| whole(&mut key));
        b.iter_batched_ref(&mut present, whole, BatchSize::NumIterations(512));
    });
    group.finish();
    let title = format!("{title}/{name}/{count}");
    percentiles::print(&title, &mut present, whole);
    percentiles::print_parts(&title, Gateway::<N>::PARTS, present, |key, lap| gateway.decide(key, lap));
}

/// A pseudo-random number of 32 bits for each `n`.
fn scattered(n: u32) -> u32 {
    let mixed = u64::from(n).wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32) as u32
}

fn rule(path: &str) -> RouteRule {
    RouteRule {
        methods: Box::default(),
        hosts: Box::default(),
        paths: [PathRule::parse(path).unwrap()].into(),
        headers: Box::default(),
        regex_priority: 0,
        created_at: 0,
    }
}

fn matching(c: &mut Criterion<CpuTime>) {
    let mut group = c.benchmark_group("match");
    let headers = [("host", "localhost"), ("user-agent", "bench")];
    for count in [4_usize, 1_000] {
        let router = Router::new((0..count).map(|i| rule(&format!("/service-{i}/v1"))).collect());
        let text = format!("/service-{}/v1/chat/completions", count / 2);
        group.bench_function(BenchmarkId::new("path_check_route_and_rewrite", count), |b| {
            b.iter(|| {
                let authority = Authority::parse(black_box("localhost:8000")).unwrap();
                let path = CanonicalPath::new(black_box(&text)).unwrap();
                let query = Query { method: "POST", authority: &authority, tls: false, path, headers: &headers };
                let found = router.find(&query).unwrap();
                black_box(upstream_path(None, path, found.prefix_len, true).unwrap().len())
            });
        });
    }
    group.finish();
}

criterion_group! { name = benches; config = cpu::config(); targets = identity, decisions, matching }
criterion_main!(benches);
