//! Stage `record`: the counters and the access-log line of a request that is over.
//!
//! In: its head and its report. Out: words in the shared columns, a line in the log's channel. Nothing here waits.

use crate::access_log::{AccessLog, Line, Tokens};
use crate::cells::WorkerCells;
use aigw_core::balance::Origin;
use aigw_core::cells::Cells;
use aigw_core::price::Classes;
use aigw_core::refusal::Reason;
use aigw_core::request::Head;
use aigw_core::settle::{Report, UsageSource};
use aigw_core::snapshot::Uuid;
use aigw_core::surface::FailedAttempt;
use aigw_core::telemetry::ErrorType;
use aigw_core::telemetry::budgets::{self, BUDGET_WORDS, BUDGETS, BudgetReport};
use aigw_core::telemetry::calls;
use aigw_core::telemetry::consumers::{self, CONSUMERS};
use aigw_core::telemetry::failed_durations::FAILED;
use aigw_core::telemetry::failures::{self, FAILURE_WORDS, FAILURES};
use aigw_core::telemetry::handshakes::{self, Handshake};
use aigw_core::telemetry::roster::{self, OF_CALLS, OF_SERIES, Roster};
use aigw_core::telemetry::series::{self, CallNames, CallReport};
use aigw_core::telemetry::{self, Counter, Latency, Source};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The recorder of a worker.
pub struct Recorder {
    cells: Arc<WorkerCells>,
    log: AccessLog,
    series: Roster,
    calls: Roster,
}

impl Recorder {
    /// Record into these columns and this log.
    #[must_use]
    pub fn new(cells: Arc<WorkerCells>, log: AccessLog) -> Self {
        Self { cells, log, series: Roster::default(), calls: Roster::default() }
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

    /// A handshake at the TLS address ended.
    pub fn handshake(&self, result: Handshake) {
        handshakes::count(&self.gateway_run(), result);
    }

    /// A client went away early.
    pub fn client_gone(&self) {
        self.count(Counter::ClientGone, 1);
    }

    /// Record a request that is over.
    pub fn end(&self, head: &Head, report: &Report<'_>) {
        let (end, traffic) = (report.end, report.traffic);
        let (column, first) = (telemetry::ROUTES.0, report.route_n.saturating_mul(telemetry::ROUTE_WORDS));
        let run = |at: u32| self.cells.dense(column, first.saturating_add(at));
        if !report.consumer_n.is_some_and(|consumer| self.count_consumer(consumer, report)) {
            telemetry::count_answer(&run, report.source, end.status);
        }
        telemetry::count_bytes(&run, traffic.ingress, end.egress);
        let first = report.route_n.saturating_mul(telemetry::SLOW_WORDS);
        let slow = |at: u32| self.cells.dense(telemetry::SLOW.0, first.saturating_add(at));
        telemetry::count_latency(&run, &slow, Latency::Request, micros(report.took));
        if let Some(sent) = traffic.sent_after {
            telemetry::count_latency(&run, &slow, Latency::Gateway, micros(sent));
            if let Some(head) = traffic.head_after {
                telemetry::count_latency(&run, &slow, Latency::Upstream, micros(head.saturating_sub(sent)));
            }
        }
        if let Some(reason) = end.reason {
            telemetry::count_denial(&self.gateway_run(), reason);
        }
        if self.log.is_on() {
            self.log.write(line(head, report));
        }
    }

    /// Count an answer by its consumer; false where that is off, or has no room.
    fn count_consumer(&self, consumer: u32, report: &Report<'_>) -> bool {
        let is_on = self.gateway_run()(telemetry::BY_CONSUMER).is_some_and(|word| word.load(Ordering::Relaxed) == 1);
        let row = |row: u32| self.cells.row(CONSUMERS.0, row);
        is_on && consumers::count(&row, consumer, report.route_n, report.source, report.end.status)
    }

    /// Count a call of a model, and its attempts that failed, in its rows. Returns the row of its tier and model.
    pub fn call(&self, names: CallNames, report: &CallReport, failed: &[FailedAttempt]) -> u32 {
        let roster = |column: u32| move |at: u32| self.cells.dense(column, at);
        let series = self.series.row(&roster(OF_SERIES.0), roster::key(names.tier, names.model));
        let run = |column: u32, row: u32, words: u32| {
            let first = row.saturating_mul(words);
            move |at: u32| self.cells.dense(column, first.saturating_add(at))
        };
        series::count_call(&run(series::SERIES.0, series, series::SERIES_WORDS), report);
        if let Some((upstream, endpoint)) = names.upstream {
            let row = self.calls.row(&roster(OF_CALLS.0), roster::key(names.tier, upstream));
            let row = calls::run_of(row, endpoint);
            calls::count_call(row, &run(calls::CALLS.0, row, calls::CALL_WORDS), &run(FAILED.0, 0, 0), report);
        }
        if let Some(price) = report.price {
            budgets::count_price(&run(BUDGETS.0, series, BUDGET_WORDS), price);
        }
        let run = run(FAILURES.0, series, FAILURE_WORDS);
        if let Some(error) = report.error {
            failures::count_failure(&run, report.outcome, error);
        }
        for attempt in failed {
            failures::count_attempt(&run, attempt.error);
        }
        series
    }

    /// Count the budgets of a call of tier `n`. `series`: the row of its tier and model.
    pub fn budgets(&self, n: u32, series: u32, report: &BudgetReport) {
        let first = series.saturating_mul(BUDGET_WORDS);
        let run = |at: u32| self.cells.dense(BUDGETS.0, first.saturating_add(at));
        budgets::count_call(&self.tier_run(n), &run, report);
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

    /// Why lines of the log cannot be written; `None` while they can.
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

fn line(head: &Head, report: &Report<'_>) -> Line {
    let millis = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Line {
        time: millis(now.saturating_sub(report.took)) / 1e3,
        request_id: head.request_id.clone(),
        client: head.peer.map(|_| head.address()),
        method: head.method.to_string(),
        path: head.path.clone(),
        status: report.end.status,
        bytes: report.end.egress,
        source: if report.source == Source::Service { "upstream" } else { "gateway" },
        denial: report.end.reason.map(Reason::code),
        outcome: report.end.outcome.name(),
        // A refusal before a call has a reason that no call's metric has.
        error_type: report.end.reason.map(Reason::code).or(report.end.error.map(ErrorType::name)),
        route: report.route.as_ref().map(Uuid::to_string),
        service: report.service.as_ref().map(Uuid::to_string),
        consumer: report.consumer.as_ref().map(Uuid::to_string),
        consumer_name: report.consumer_name().map(str::to_owned),
        tier: report.tier.map(|tier| tier.name.to_string()),
        model: report.model.map(str::to_owned),
        upstream: report.upstream.map(Origin::to_string),
        attempts: Some(report.attempts).filter(|attempts| *attempts > 0),
        tokens: report.tokens().map(tokens),
        price_nanodollars: report.price(),
        overrun: report.settled.map(|settled| settled.overrun),
        understated: report.settled.map(|settled| settled.understated),
        latency_ms: millis(report.took),
        upstream_ms: report.traffic.head_after.map(millis),
    }
}

fn tokens((classes, source): (Classes, UsageSource)) -> Tokens {
    Tokens {
        input_tokens: classes.input,
        cached_input_tokens: classes.cached_input,
        cache_write_input_tokens: classes.cache_write,
        output_tokens: classes.output,
        reasoning_tokens: classes.reasoning,
        usage_source: source.name(),
        service_tier: classes.service.name(),
    }
}
