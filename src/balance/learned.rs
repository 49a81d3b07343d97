//! Facts that the gateway learned about a target from its answers: which parameters it refuses, and whether its
//! streams hide a part of their output.
//!
//! A target keeps its facts over reloads for as long as its address and model stay. Each worker learns by itself. Threads
//! may write at the same time: the last answer wins, and a wrong fact costs one more request. Hidden output alone is never forgotten: a
//! stream of a budget that holds too little would exceed it.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::snapshot::CapParameter;

/// A target's facts. All are unknown at first.
#[derive(Debug, Default)]
pub struct Learned {
    usage: AtomicU8,
    cap: AtomicU8,
    output: AtomicU8,
}

const UNKNOWN: u8 = 0;
const TAKES: u8 = 1;
const REFUSES: u8 = 2;
const MAX_TOKENS: u8 = 1;
const MAX_COMPLETION_TOKENS: u8 = 2;
const SHOWS: u8 = 1;
const HIDES: u8 = 2;

impl Learned {
    /// Whether it takes `stream_options`; `None`: unknown.
    pub fn takes_usage(&self) -> Option<bool> {
        match self.usage.load(Ordering::Relaxed) {
            UNKNOWN => None,
            fact => Some(fact == TAKES),
        }
    }

    /// It answered a stream with `stream_options` with a success, or one without after it had refused them.
    pub fn set_takes_usage(&self, takes: bool) {
        let fact = if takes { TAKES } else { REFUSES };
        if self.usage.load(Ordering::Relaxed) != fact {
            self.usage.store(fact, Ordering::Relaxed);
        }
    }

    /// The only name of the output cap that it takes; `Auto`: unknown.
    pub fn cap(&self) -> CapParameter {
        match self.cap.load(Ordering::Relaxed) {
            MAX_TOKENS => CapParameter::MaxTokens,
            MAX_COMPLETION_TOKENS => CapParameter::MaxCompletionTokens,
            _ => CapParameter::Auto,
        }
    }

    /// It took this name of the output cap after it had refused the other.
    pub fn set_cap(&self, name: CapParameter) {
        let fact = match name {
            CapParameter::MaxTokens => MAX_TOKENS,
            CapParameter::MaxCompletionTokens => MAX_COMPLETION_TOKENS,
            CapParameter::Auto | CapParameter::None => UNKNOWN,
        };
        self.cap.store(fact, Ordering::Relaxed);
    }

    /// Whether its streams hide a part of the output that their usage reports; `None`: unknown.
    pub fn hides_output(&self) -> Option<bool> {
        match self.output.load(Ordering::Relaxed) {
            UNKNOWN => None,
            fact => Some(fact == HIDES),
        }
    }

    /// A stream of it reported reasoning that it had shown, or output that it had hidden. One that hid some outweighs all others.
    pub fn set_hides_output(&self, hides: bool) {
        self.output.fetch_max(if hides { HIDES } else { SHOWS }, Ordering::Relaxed);
    }
}
