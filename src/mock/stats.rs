//! Counters of the mock model server, which tests read at `GET /__stats`.
//!
//! A request is in flight from its head until its last byte was handed to the connection (completed), or until the client
//! went away (cancelled). [`Flight`] counts one of the two, once, when it is dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Where the counters are served.
pub const STATS_PATH: &str = "/__stats";

/// The counters since start; only `in_flight` falls.
#[derive(Debug, Default)]
pub struct Stats {
    requests: AtomicU64,
    streams: AtomicU64,
    cancelled: AtomicU64,
    completed: AtomicU64,
    bytes: AtomicU64,
    tokens: AtomicU64,
    prompt_tokens: AtomicU64,
    cached_tokens: AtomicU64,
    completion_tokens: AtomicU64,
    reasoning_tokens: AtomicU64,
    in_flight: AtomicU64,
}

impl Stats {
    /// The counters as JSON.
    pub fn json(&self) -> String {
        format!(
            "{{\"requests\":{},\"streams\":{},\"cancelled\":{},\"completed\":{},\"bytes\":{},\"tokens\":{},\"prompt_tokens\":{},\"cached_tokens\":{},\"completion_tokens\":{},\"reasoning_tokens\":{},\"in_flight\":{}}}\n",
            self.requests.load(Relaxed),
            self.streams.load(Relaxed),
            self.cancelled.load(Relaxed),
            self.completed.load(Relaxed),
            self.bytes.load(Relaxed),
            self.tokens.load(Relaxed),
            self.prompt_tokens.load(Relaxed),
            self.cached_tokens.load(Relaxed),
            self.completion_tokens.load(Relaxed),
            self.reasoning_tokens.load(Relaxed),
            self.in_flight.load(Relaxed),
        )
    }
}

/// The usage that an answer reports; cached and audio tokens are among those of the prompt, reasoning among the completion's.
#[derive(Clone, Copy, Debug)]
pub struct Usage {
    /// `prompt_tokens`.
    pub prompt: u64,
    /// `cached_tokens`.
    pub cached: u64,
    /// `audio_tokens` of the prompt.
    pub audio: u64,
    /// `completion_tokens`.
    pub completion: u64,
    /// `reasoning_tokens`.
    pub reasoning: u64,
}

/// One request being answered. Dropped before `complete`: the client went away.
#[must_use]
pub struct Flight {
    stats: Arc<Stats>,
    done: bool,
}

impl Flight {
    /// A request has arrived.
    pub fn begin(stats: &Arc<Stats>) -> Self {
        stats.requests.fetch_add(1, Relaxed);
        stats.in_flight.fetch_add(1, Relaxed);
        Self { stats: Arc::clone(stats), done: false }
    }

    /// The answer is a stream.
    pub fn stream(&self) {
        self.stats.streams.fetch_add(1, Relaxed);
    }

    /// `bytes` of the answer's body, holding `tokens` output tokens, go out.
    pub fn sent(&self, bytes: usize, tokens: u64) {
        self.stats.bytes.fetch_add(bytes as u64, Relaxed);
        self.stats.tokens.fetch_add(tokens, Relaxed);
    }

    /// A usage object goes out.
    pub fn reports(&self, usage: Usage) {
        self.stats.prompt_tokens.fetch_add(usage.prompt, Relaxed);
        self.stats.cached_tokens.fetch_add(usage.cached, Relaxed);
        self.stats.completion_tokens.fetch_add(usage.completion, Relaxed);
        self.stats.reasoning_tokens.fetch_add(usage.reasoning, Relaxed);
    }

    /// The last byte was handed over.
    pub fn complete(&mut self) {
        self.done = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let end = if self.done { &self.stats.completed } else { &self.stats.cancelled };
        end.fetch_add(1, Relaxed);
        self.stats.in_flight.fetch_sub(1, Relaxed);
    }
}
