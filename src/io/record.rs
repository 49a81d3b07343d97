//! Record: what is written of a request when it is over: its counters and its line in the access log.
//!
//! In: who, where, how it ended. Out: words in the shared columns, a line in the log's channel. Nothing here waits.

use crate::accept::Arrival;
use crate::access_log::{AccessLog, Line};
use crate::cells::Worker;
use aigw_core::cells::Cells;
use aigw_core::denial::Reason;
use aigw_core::snapshot::Uuid;
use aigw_core::telemetry::series::{self, CallReport};
use aigw_core::telemetry::{self, Counter, Latency, Source};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How a request ended, in the ledger's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was passed on.
    Completed,
    /// The client left first.
    ClientCut,
    /// The upstream stopped in the middle.
    Cut,
    /// No answer came from the upstream.
    Unanswered,
    /// The gateway refused it.
    Refused,
}

impl Outcome {
    fn name(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::ClientCut => "client_cut",
            Self::Cut => "upstream_cut",
            Self::Unanswered => "upstream_error",
            Self::Refused => "refused",
        }
    }
}

/// What is known of a request when it is over.
#[derive(Debug, Clone, Copy)]
pub struct Ending<'a> {
    /// Route number, 0 for none.
    pub route_n: u32,
    /// Route id.
    pub route: Option<Uuid>,
    /// Service id.
    pub service: Option<Uuid>,
    /// Consumer id.
    pub consumer: Option<Uuid>,
    /// Name of the caller's tier.
    pub tier: Option<&'a str>,
    /// Public name of the model that was called.
    pub model: Option<&'a str>,
    /// Status of the answer.
    pub status: u16,
    /// Who made it.
    pub source: Source,
    /// The refusal, if it is one.
    pub denial: Option<Reason>,
    /// How it ended.
    pub outcome: Outcome,
    /// Bytes of the request's body.
    pub ingress: u64,
    /// Bytes of the answer's body.
    pub egress: u64,
    /// From arrival to sending upstream.
    pub sent_after: Option<Duration>,
    /// From arrival to the answer's head.
    pub head_after: Option<Duration>,
}

/// The recorder of a worker.
pub struct Recorder {
    cells: Arc<Worker>,
    log: AccessLog,
}

impl Recorder {
    /// Record into these columns and this log.
    #[must_use]
    pub fn new(cells: Arc<Worker>, log: AccessLog) -> Self {
        Self { cells, log }
    }

    fn gateway_run<'a>(&'a self) -> impl Fn(u32) -> Option<&'a AtomicU64> + use<'a> {
        |at| self.cells.dense(telemetry::GATEWAY.0, at)
    }

    /// Count one of the gateway's own events.
    pub fn count(&self, what: Counter, n: u64) {
        telemetry::count(&self.gateway_run(), what, n);
    }

    /// A thread or task of ours failed and went on.
    pub fn panic(&self) {
        self.count(Counter::Panic, 1);
    }

    /// A client went away early.
    pub fn client_gone(&self) {
        self.count(Counter::ClientGone, 1);
    }

    /// Record a request that is over.
    pub fn end(&self, arrival: &Arrival, ending: &Ending<'_>) {
        let took = arrival.at.elapsed();
        let (column, first) = (telemetry::ROUTES.0, ending.route_n.saturating_mul(telemetry::ROUTE_WORDS));
        let run = |at: u32| self.cells.dense(column, first.saturating_add(at));
        telemetry::count_answer(&run, ending.source, ending.status, ending.ingress, ending.egress);
        telemetry::count_latency(&run, Latency::Request, micros(took));
        if let Some(sent) = ending.sent_after {
            telemetry::count_latency(&run, Latency::Gateway, micros(sent));
            if let Some(head) = ending.head_after {
                telemetry::count_latency(&run, Latency::Upstream, micros(head.saturating_sub(sent)));
            }
        }
        if let Some(denial) = ending.denial {
            telemetry::count_denial(&self.gateway_run(), denial);
        }
        if self.log.is_on() {
            self.log.write(line(arrival, ending, took));
        }
    }

    /// Count a call of a model, in this row of series.
    pub fn call(&self, row: u32, report: &CallReport) {
        let first = row.saturating_mul(series::SERIES_WORDS);
        let run = |at: u32| self.cells.dense(series::SERIES.0, first.saturating_add(at));
        series::count_call(&run, report);
    }

    /// Count a refusal of a caller of tier `n`.
    pub fn tier_denial(&self, n: u32, reason: Reason) {
        series::count_tier_denial(&self.tier_run(n), reason);
    }

    /// Count a request of a caller of tier `n` that a limit in shadow mode would have refused.
    pub fn shadow(&self, n: u32) {
        series::count_shadow(&self.tier_run(n));
    }

    fn tier_run<'a>(&'a self, n: u32) -> impl Fn(u32) -> Option<&'a AtomicU64> + use<'a> {
        let first = n.saturating_mul(series::TIER_WORDS);
        move |at| self.cells.dense(series::TIERS.0, first.saturating_add(at))
    }

    /// Why lines of the log cannot be written, while they cannot.
    pub fn log_error(&self) -> Option<String> {
        self.log.error()
    }

    /// Count the lines that the log had to drop, and the faults of its thread.
    pub fn count_log(&self) {
        for (what, n) in [(Counter::LogDropped, self.log.take_dropped()), (Counter::Panic, self.log.take_panics())] {
            if n > 0 {
                self.count(what, n);
            }
        }
    }

    /// Write what waits of the log and stop it.
    pub fn close(&self) {
        self.log.close();
        self.count_log();
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn line(arrival: &Arrival, ending: &Ending<'_>, took: Duration) -> Line {
    let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Line {
        time: millis(now.saturating_sub(took)) / 1e3,
        request_id: arrival.request_id.clone(),
        client: arrival.peer.map(|peer| peer.ip().to_canonical().to_string()),
        method: arrival.method.to_string(),
        path: arrival.path.clone(),
        status: ending.status,
        bytes: ending.egress,
        source: if ending.source == Source::Service { "upstream" } else { "gateway" },
        denial: ending.denial.map(Reason::code),
        outcome: ending.outcome.name(),
        route: ending.route.as_ref().map(Uuid::to_string),
        service: ending.service.as_ref().map(Uuid::to_string),
        consumer: ending.consumer.as_ref().map(Uuid::to_string),
        tier: ending.tier.map(str::to_owned),
        model: ending.model.map(str::to_owned),
        latency_ms: millis(took),
        upstream_ms: ending.head_after.map(millis),
    }
}
