//! The mock model server: OpenAI's endpoints with answers of a known size, at a known pace, with known faults.
//!
//! In: a [`Plan`], fixed at start. Out: whole answers or event streams, and the counters at `GET /__stats`.
//! A prompt has a token for each word, and an answer repeats one word, which is a token: sizes are repeatable, texts have no
//! meaning. With `tools` an answer is a call, with `response_format` a JSON text that its schema accepts.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::sleep;

use super::asked::{Asked, Wrong};
use super::fault::{Fault, Faults};
use super::paced::{Event, Paced};
use super::said::Said;
use super::service::{Answer, Service, json};
use super::stats::{Flight, STATS_PATH, Stats, Usage};
use super::wire::{self, Endpoint};

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
    /// Tokens of each prompt that the usage reports as audio; at most the whole prompt.
    pub audio: u64,
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
        let spoilt = self.faults().and_then(Faults::for_answer);
        if let Some(Fault::Status(status)) = spoilt {
            return Ok(refused(flight, status, wire::error(status)));
        }
        if !self.plan.first_byte.is_zero() {
            sleep(self.plan.first_byte).await;
        }
        let cut = spoilt == Some(Fault::Cut);
        match self.respond(endpoint, &body) {
            Err(wrong) => Ok(refused(flight, StatusCode::BAD_REQUEST, wire::refusal(&wrong))),
            Ok(Reply::Stream(events)) => {
                flight.stream();
                let mut answer = Response::new(BodyExt::boxed(Paced::new(events, self.plan.chunk, cut, flight)));
                let headers = answer.headers_mut();
                headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
                Ok(answer)
            }
            Ok(Reply::Whole { text, .. }) if cut => {
                let (first, rest) = text.split_at(text.floor_char_boundary(text.len() / 2));
                let halves = [first, rest].map(|half| Event::new(half.to_owned(), 0));
                let body = BodyExt::boxed(Paced::new(halves.into(), Duration::ZERO, true, flight));
                let mut answer = Response::new(body);
                answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                Ok(answer)
            }
            Ok(Reply::Whole { text, usage }) => {
                flight.sent(text.len(), usage.completion - usage.reasoning);
                if self.plan.usage {
                    flight.reports(usage);
                }
                flight.complete();
                Ok(json(StatusCode::OK, text))
            }
        }
    }

    /// The answer to a body, with its usage.
    fn respond(&self, endpoint: Endpoint, body: &[u8]) -> Result<Reply, Wrong> {
        let asked = Asked::read(body)?;
        let prompt = asked.prompt_tokens();
        let used = |choices: u64, said: Option<&Said>| {
            let reasoning = choices * said.map_or(0, |said| said.reasoning);
            let completion = reasoning + choices * said.map_or(0, Said::shown);
            let (cached, audio) = (self.plan.cached.min(prompt), self.plan.audio.min(prompt));
            Usage { prompt, cached, audio, completion, reasoning }
        };
        let said = match endpoint {
            Endpoint::Chat => Said::chat(&asked, self.plan.chunks, self.plan.reasoning)?,
            Endpoint::Text => Said::words(&asked, self.plan.chunks, self.plan.reasoning),
            Endpoint::Embeddings => {
                let usage = used(0, None);
                return Ok(Reply::Whole { text: wire::embeddings(&asked, usage, self.plan.usage), usage });
            }
        };
        let usage = used(asked.choices() as u64, Some(&said));
        if asked.stream() {
            let with_usage = self.plan.usage && asked.include_usage();
            return Ok(Reply::Stream(wire::events(endpoint, &asked, &said, usage, with_usage)));
        }
        Ok(Reply::Whole { text: wire::answer(endpoint, &asked, &said, usage, self.plan.usage), usage })
    }
}

/// An answer before it is sent.
enum Reply {
    Whole { text: String, usage: Usage },
    Stream(Vec<Event>),
}

fn refused(mut flight: Flight, status: StatusCode, text: String) -> Answer {
    flight.sent(text.len(), 0);
    flight.complete();
    json(status, text)
}

impl Service for Llm {
    async fn answer(self: Arc<Self>, request: Request<Incoming>, _peer: SocketAddr) -> io::Result<Answer> {
        // The end of the path decides: a base URL may have any path.
        let path = request.uri().path();
        let endpoint = match *request.method() {
            Method::GET if path == STATS_PATH => return Ok(json(StatusCode::OK, self.stats.json())),
            Method::POST if path.ends_with("/chat/completions") => Endpoint::Chat,
            Method::POST if path.ends_with("/completions") => Endpoint::Text,
            Method::POST if path.ends_with("/embeddings") => Endpoint::Embeddings,
            ref method => {
                let named = path.split_once("/v1/models/").map(|(_, name)| name);
                let text = match named {
                    Some(name) if method == Method::GET => wire::model(name),
                    None if method == Method::GET && path.ends_with("/models") => wire::models(),
                    _ => "{\"ok\":true}".to_owned(),
                };
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
