//! The access log: one JSON line a request, formatted and written by a thread of its own.
//!
//! In: a [`Line`] from the thread that answered. Out: a line on stdout or in a file. The request path pays for moving the
//! line into a bounded channel; when the writer cannot keep up lines are dropped and counted, never waited for.
//! Nothing of a credential is ever in a line: queries are left out, since keys may stand there.

use serde::Serialize;
use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Lines that may wait for the writer.
const QUEUE: usize = 16 * 1024;
/// A quiet log is flushed this often.
const FLUSH: Duration = Duration::from_millis(200);

/// One request, as it is logged.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Unix time of arrival, seconds with milliseconds.
    pub time: f64,
    /// 32 hex digits.
    pub request_id: String,
    /// The client's address.
    pub client: Option<String>,
    /// Method.
    pub method: String,
    /// The decoded path; no query.
    pub path: String,
    /// Status of the answer; 0 when the client left before one.
    pub status: u16,
    /// Bytes of the answer's body.
    pub bytes: u64,
    /// `upstream` or `gateway`: who made the answer.
    pub source: &'static str,
    /// The machine name of the refusal, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<&'static str>,
    /// How it ended: `completed`, `client_cut`, `upstream_cut`, `unanswered`, `refused`.
    pub outcome: &'static str,
    /// Route id.
    pub route: Option<String>,
    /// Service id.
    pub service: Option<String>,
    /// Consumer id.
    pub consumer: Option<String>,
    /// Name of its tier.
    pub tier: Option<String>,
    /// Public name of the model that was called.
    pub model: Option<String>,
    /// From arrival to the end of the answer.
    pub latency_ms: f64,
    /// From arrival to the head of the upstream's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
}

/// Where lines go.
#[derive(Debug)]
pub struct AccessLog {
    lines: Mutex<Option<SyncSender<Line>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    on: bool,
    dropped: Arc<AtomicU64>,
}

impl AccessLog {
    /// Open the log: `"-"` is stdout, `"off"` none, anything else a file that is appended to.
    pub fn open(target: &str) -> std::io::Result<Self> {
        let dropped = Arc::new(AtomicU64::new(0));
        if target == "off" {
            return Ok(Self { lines: Mutex::default(), writer: Mutex::default(), on: false, dropped });
        }
        let out: Box<dyn Write + Send> = if target == "-" {
            Box::new(std::io::stdout())
        } else {
            Box::new(OpenOptions::new().create(true).append(true).open(Path::new(target))?)
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let lost = Arc::clone(&dropped);
        let writer =
            std::thread::Builder::new().name("access-log".into()).spawn(move || write_all(&receiver, out, &lost))?;
        Ok(Self { lines: Mutex::new(Some(sender)), writer: Mutex::new(Some(writer)), on: true, dropped })
    }

    /// Whether lines are wanted: ask before making one.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Hand a line over; dropped and counted when the writer is behind.
    pub fn write(&self, line: Line) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = lines.as_ref()
            && lines.try_send(line).is_err()
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines dropped since it was last asked.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Write what waits and stop.
    pub fn close(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            // A writer that panicked has lost its lines already; there is nobody left to tell.
            let _ = writer.join();
        }
    }
}

fn write_all(lines: &Receiver<Line>, out: Box<dyn Write + Send>, dropped: &AtomicU64) {
    // One write per batch, whole lines only: several workers share a file or a pipe.
    let mut out = BufWriter::with_capacity(64 * 1024, out);
    let mut text = Vec::with_capacity(1024);
    loop {
        let first = match lines.recv_timeout(FLUSH) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                let _ = out.flush();
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        };
        let mut next = Some(first);
        while let Some(line) = next {
            text.clear();
            let written = serde_json::to_writer(&mut text, &line).is_ok()
                && {
                    text.push(b'\n');
                    if out.buffer().len() + text.len() > out.capacity() { out.flush().is_ok() } else { true }
                }
                && out.write_all(&text).is_ok();
            if !written {
                dropped.fetch_add(1, Ordering::Relaxed);
            }
            next = lines.try_recv().ok();
        }
        let _ = out.flush();
    }
    let _ = out.flush();
}
