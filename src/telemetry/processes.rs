//! Metrics outside the counter columns: those of workers come from their slots, those of the control process from itself.
//! They are rows of the one table; the owner of the values writes them.

use super::metric::{Metric, MetricType};

/// Metrics of the configuration and of the control process, which writes them itself, below the page.
pub const CONTROL: [Metric; 14] = [
    Metric {
        name: "aigw_config_reload_success",
        kind: MetricType::Gauge,
        help: "1 while the configuration that should be in force is; 0 after one with errors.",
        labels: &[],
    },
    Metric {
        name: "aigw_config_reloads_total",
        kind: MetricType::Counter,
        help: "Readings of the configuration file since the control process started: applied, unchanged, rejected.",
        labels: &["result"],
    },
    Metric {
        name: "aigw_config_info",
        kind: MetricType::Gauge,
        help: "1: hash and generation of the configuration in force.",
        labels: &["hash", "generation"],
    },
    Metric {
        name: "aigw_control_faults_total",
        kind: MetricType::Counter,
        help: "Faults that a thread of the control process outlived since that started; its log tells of each.",
        labels: &["thread"],
    },
    Metric {
        name: "aigw_admin_faults_total",
        kind: MetricType::Counter,
        help: "Requests of the Admin API that a defect answered with 500, since the control process started; its log has the request's id.",
        labels: &[],
    },
    Metric {
        name: "aigw_worker_hangs_total",
        kind: MetricType::Counter,
        help: "Workers that the supervisor killed because a part of them stood still, since the control process started.",
        labels: &[],
    },
    Metric {
        name: "aigw_process_log_dropped_total",
        kind: MetricType::Counter,
        help: "Lines of the process log that a process dropped because standard error took no more, since the control process started.",
        labels: &["process"],
    },
    Metric {
        name: "aigw_ledger_entries_total",
        kind: MetricType::Counter,
        help: "Entries in the ledger since it began, also those that its retention has deleted.",
        labels: &[],
    },
    Metric {
        name: "aigw_ledger_lag_seconds",
        kind: MetricType::Gauge,
        help: "Seconds since every readable entry was in the ledger: the age of the oldest one outside it is at most this.",
        labels: &[],
    },
    Metric {
        name: "aigw_ledger_unsynced_entries",
        kind: MetricType::Gauge,
        help: "Entries of workers that a power loss would take: they are written, and not on the disk yet.",
        labels: &[],
    },
    Metric { name: "aigw_ledger_segments", kind: MetricType::Gauge, help: "Segment files of the ledger.", labels: &[] },
    Metric {
        name: "aigw_ledger_damaged_segments",
        kind: MetricType::Gauge,
        help: "Segment files that are damaged or missing: `ledger.error` of `GET /status` names them with the repair.",
        labels: &[],
    },
    Metric {
        name: "aigw_ledger_error",
        kind: MetricType::Gauge,
        help: "1 while the ledger has a fault: `ledger.error` of `GET /status` says which.",
        labels: &[],
    },
    Metric {
        name: "aigw_unpriced_total",
        kind: MetricType::Counter,
        help: "Entries of models without a `cost`, which the ledger cannot tell the cost of; each counts once.",
        labels: &["tier", "model"],
    },
];

/// Gauges of a worker's slot, filled by the reader of slots.
pub const WORKERS: [Metric; 5] = [
    Metric {
        name: "aigw_worker_ready",
        kind: MetricType::Gauge,
        help: "1 while the worker of this slot serves; 0 while it starts, drains or stands still (two seconds without a beat).",
        labels: &["slot"],
    },
    Metric {
        name: "aigw_in_flight",
        kind: MetricType::Gauge,
        help: "Requests that the worker of this slot is at: being read, forwarded or streamed.",
        labels: &["slot"],
    },
    Metric {
        name: "aigw_tls_connections",
        kind: MetricType::Gauge,
        help: "Connections that are open at the TLS address of the worker of this slot, also those in their handshake.",
        labels: &["slot"],
    },
    Metric {
        name: "aigw_inline_stepping",
        kind: MetricType::Gauge,
        help: "1 when requests are stepped on the server's own thread, 0 when through the event loop.",
        labels: &["slot"],
    },
    Metric {
        name: "aigw_worker_silent_seconds",
        kind: MetricType::Gauge,
        help: "Seconds since each part of the worker of this slot moved; after AIGW_HANG_TIMEOUT it is killed and replaced.",
        labels: &["slot"],
    },
];
