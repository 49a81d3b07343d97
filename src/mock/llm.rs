//! The mock model server: OpenAI's endpoints with answers of a known size, at a known pace, with known faults.
//!
//! In: a [`Plan`], fixed at start. Out: whole answers or event streams, and the counters at `GET /__stats`.
//! A prompt has a quarter of its bytes as tokens, and an answer repeats one word: sizes are repeatable, texts have no
//! meaning.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::sleep;

use super::fault::{Fault, Faults};
use super::paced::{Event, Paced};
use super::service::{Answer, Service, json};
use super::stats::{Flight, STATS_PATH, Stats, Usage};
use super::wire::{self, Asked, Endpoint};

/// The sizes, delays and faults to imitate.
#[derive(Debug)]
pub struct Plan {
    /// Delay before the head of an answer.
    pub first_byte: Duration,
    /// Delay between two events of a stream.
    pub chunk: Duration,
    /// Output tokens of an answer, one event each in a stream, unless the request's cap is lower.
    pub chunks: u64,
    /// Tokens of each prompt that the usage reports as cached; at most the whole prompt.
    pub cached: u64,
    /// Output tokens that the usage reports as reasoning: they count towards the request's cap and are not shown.
    pub reasoning: u64,
    /// Report usage (in a stream: when the request asks); false: never.
    pub usage: bool,
    /// Requests to spoil.
    pub faults: Option<Faults>,
}

/// The mock model server.
pub struct Llm {
    plan: Plan,
    stats: Arc<Stats>,
}

impl Llm {
    /// A server that follows `plan`.
    pub fn new(plan: Plan) -> Self {
        Self { plan, stats: Arc::default() }
    }

    async fn complete(&self, endpoint: Endpoint, request: Request<Incoming>) -> io::Result<Answer> {
        let mut flight = Flight::begin(&self.stats);
        let body = request.into_body().collect().await.map_err(io::Error::other)?.to_bytes();
        let asked = Asked::read(&body);
        let prompt = (body.len() as u64).div_ceil(4);
        let spoilt = self.faults().and_then(Faults::for_answer);
        if let Some(Fault::Status(status)) = spoilt {
            let text = wire::error(status);
            flight.sent(text.len(), 0);
            flight.complete();
            return Ok(json(status, text));
        }
        let all = self.plan.chunks.saturating_add(self.plan.reasoning);
        let completion = if endpoint == Endpoint::Embeddings { 0 } else { asked.output_tokens(all) };
        let reasoning = self.plan.reasoning.min(completion);
        let usage = Usage { prompt, cached: self.plan.cached.min(prompt), completion, reasoning };
        if !self.plan.first_byte.is_zero() {
            sleep(self.plan.first_byte).await;
        }
        if asked.stream() && endpoint != Endpoint::Embeddings {
            let with_usage = self.plan.usage && asked.include_usage();
            flight.stream();
            let events = wire::events(endpoint, &asked, usage, with_usage);
            let cut = spoilt == Some(Fault::Cut);
            let mut answer = Response::new(BodyExt::boxed(Paced::new(events, self.plan.chunk, cut, flight)));
            let headers = answer.headers_mut();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
            headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
            return Ok(answer);
        }
        let text = wire::answer(endpoint, &asked, usage, self.plan.usage);
        if spoilt == Some(Fault::Cut) {
            let (first, rest) = text.split_at(text.len() / 2);
            let halves = [first, rest].map(|half| Event::new(half.to_owned(), 0));
            let body = BodyExt::boxed(Paced::new(halves.into(), Duration::ZERO, true, flight));
            let mut answer = Response::new(body);
            answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            return Ok(answer);
        }
        flight.sent(text.len(), completion - reasoning);
        if self.plan.usage {
            flight.reports(usage);
        }
        flight.complete();
        Ok(json(StatusCode::OK, text))
    }
}

impl Service for Llm {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, _peer: SocketAddr) -> io::Result<Answer> {
        let endpoint = match (request.method(), request.uri().path()) {
            (&Method::GET, STATS_PATH) => return Ok(json(StatusCode::OK, self.stats.json())),
            (&Method::POST, "/v1/chat/completions") => Endpoint::Chat,
            (&Method::POST, "/v1/completions") => Endpoint::Text,
            (&Method::POST, "/v1/embeddings") => Endpoint::Embeddings,
            (method, path) => {
                let known = method == Method::GET && path == "/v1/models";
                let text = if known { wire::models() } else { "{\"ok\":true}" };
                let mut flight = Flight::begin(&self.stats);
                // A body that is left unread would cost the client its connection.
                request.into_body().collect().await.map_err(io::Error::other)?;
                flight.sent(text.len(), 0);
                flight.complete();
                return Ok(json(StatusCode::OK, text));
            }
        };
        self.complete(endpoint, request).await
    }

    fn faults(&self) -> Option<&Faults> {
        self.plan.faults.as_ref()
    }
}
