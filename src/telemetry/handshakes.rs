//! Handshakes of the TLS address, by their result, in the gateway's run.
//!
//! In: the result of one. Out: words, and the samples made of them. Requests on a connection are counted with all others.

use super::metric::{Metric, MetricType};
use super::page::{Sink, Value};
use super::words::{Run, add, get};

/// The result of a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Handshake {
    /// The connection carries requests.
    Done,
    /// The client speaks no TLS that the gateway speaks, trusts no certificate, or left.
    Failed,
    /// No certificate serves the name, or none in a kind of key that the client can verify.
    NoCertificate,
    /// It took longer than 10 s.
    TimedOut,
    /// It was the oldest of too many.
    Displaced,
    /// It was done, and the worker's server took no connection.
    Lost,
}

const RESULTS: [(Handshake, &str); 6] = [
    (Handshake::Done, "done"),
    (Handshake::Failed, "failed"),
    (Handshake::NoCertificate, "no_certificate"),
    (Handshake::TimedOut, "timeout"),
    (Handshake::Displaced, "displaced"),
    (Handshake::Lost, "lost"),
];
/// Index of the first word in the gateway's run.
pub(super) const FIRST: u32 = 112;
/// The first word behind them.
pub(super) const END: u32 = FIRST + 6;

pub(super) const HANDSHAKES: Metric = Metric {
    name: "aigw_tls_handshakes_total",
    kind: MetricType::Counter,
    help: "Handshakes at the TLS address by result: done, failed, no_certificate (for the client's server name), timeout (10 s), displaced (the oldest of too many), lost (done, but the worker's server took no connection).",
    labels: &["result"],
};

/// Counts a handshake in the gateway's run.
pub fn count<'a>(gateway: &impl Run<'a>, result: Handshake) {
    add(gateway, FIRST + result as u32, 1);
}

/// Hands the counters to `sink`.
pub(super) fn walk(gateway: &[u64], sink: &mut impl Sink) {
    sink.metric(&HANDSHAKES);
    for (result, name) in RESULTS {
        sink.sample("", &[("result", name)], Value::Whole(get(gateway, FIRST + result as u32)));
    }
}
