//! The access log: one JSON line a request, formatted and written by a thread of its own.
//!
//! In: a [`Line`] from the thread that answered. Out: a line on stdout or in a file. The request path pays for moving the
//! line into a bounded channel; when the writer cannot keep up lines are dropped and counted, never waited for.
//! Lines never contain credentials: queries are left out, because they may hold keys.

use serde::Serialize;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileTypeExt as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Lines that may wait for the writer.
const QUEUE: usize = 16 * 1024;
/// Bound of the wait for the last lines.
const END: Duration = Duration::from_secs(1);
/// Approximate bytes of one write.
const BATCH: usize = 64 * 1024;

/// The fields of a line in their order: name, meaning, and whether a line without a value leaves it out (else it is null).
pub const FIELDS: &[(&str, &str, bool)] = &[
    ("time", "Unix time of the request's arrival, in seconds with a fraction.", false),
    ("request_id", "The gateway's id of the request: 32 hex digits, as in `X-Request-Id`.", false),
    ("client", "Address of the TCP connection.", false),
    ("method", "Method.", false),
    ("path", "Decoded path. The query is left out: it may hold a key.", false),
    ("status", "Status of the answer; 499 when the client left before one.", false),
    ("bytes", "Bytes of the answer's body.", false),
    ("source", "Author of the answer: `upstream` or `gateway`.", false),
    ("denial", "Code of the [denial](denials.md), where the gateway refused or failed the request.", true),
    (
        "outcome",
        "`completed`; `refused` before anything was sent; `client_cut`: the client left first, or did not read its answer; `limit_cut`: a budget of the caller ended the stream; `upstream_cut`: the upstream stopped in the middle of its answer, or the gateway's own stop cut it (`error_type` is `drained`); `upstream_error`: no answer came, or on `/v1` an error.",
        false,
    ),
    (
        "error_type",
        "Why the request failed: a code of a denial, the status of an error that a model's upstream sent, `error_in_answer`, `empty_answer`, `empty_stream` or `client_stalled`. As the metrics' label, where rare statuses are `4xx` and `5xx`.",
        true,
    ),
    ("route", "Id of the route.", false),
    ("service", "Id of the service.", false),
    ("consumer", "Id of the consumer.", false),
    ("consumer_name", "Username of the consumer, else its custom id.", false),
    ("tier", "Name of the consumer's tier.", false),
    ("model", "Public name of the model that was called.", false),
    ("upstream", "Host and port of the upstream that was asked last.", true),
    ("attempts", "Upstreams that were asked, one after another.", true),
    ("input_tokens", "Input tokens without those of a cache.", true),
    ("cached_input_tokens", "Input tokens read from a cache.", true),
    ("cache_write_input_tokens", "Input tokens written to a cache.", true),
    ("output_tokens", "Output tokens without reasoning.", true),
    ("reasoning_tokens", "Output tokens of reasoning.", true),
    (
        "usage_source",
        "Source of the tokens: `provider`: the upstream reported them; `counted`: the gateway counted the text that passed; `reserved`: the amount that the budgets held, because nothing was known.",
        true,
    ),
    (
        "service_tier",
        "The service tier that a model's answer named: `default`, `standard`, `on_demand`, `flex`, `priority`, `scale`, `performance` or `batch`.",
        true,
    ),
    (
        "price_nanodollars",
        "Price of the call in nano-dollars, where the tier has prices and the tokens are known.",
        true,
    ),
    (
        "overrun",
        "`true`: the call used more than its budgets had reserved, and was charged in full. Only where a token or spend limit counts the call.",
        true,
    ),
    (
        "understated",
        "`true`: the upstream reported less output than had passed by the count of the model's tokenizer, so one of the two is wrong. Only where `overrun` is.",
        true,
    ),
    ("latency_ms", "Milliseconds from arrival to the end of the answer.", false),
    ("upstream_ms", "Milliseconds from arrival to the head of the upstream's answer.", true),
];

/// One request, as it is logged. [`FIELDS`] describes its fields.
#[derive(Debug, Serialize)]
pub struct Line {
    /// Unix time of arrival, seconds with a fraction.
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
    /// `upstream` or `gateway`: the author of the answer.
    pub source: &'static str,
    /// The machine name of the refusal, if it is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denial: Option<&'static str>,
    /// The outcome: `completed`, `client_cut`, `limit_cut`, `upstream_cut`, `upstream_error`, `refused`.
    pub outcome: &'static str,
    /// Why it failed: the reason of the refusal or of the cut, or the status of the upstream's error.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_type: Option<&'static str>,
    /// Route id.
    pub route: Option<String>,
    /// Service id.
    pub service: Option<String>,
    /// Consumer id.
    pub consumer: Option<String>,
    /// Its username, else its custom id.
    pub consumer_name: Option<String>,
    /// Name of its tier.
    pub tier: Option<String>,
    /// Public name of the model that was called.
    pub model: Option<String>,
    /// Host and port of the upstream that was asked last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<String>,
    /// Upstream addresses that were asked, one after another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The tokens of a model's call.
    #[serde(flatten)]
    pub tokens: Option<Tokens>,
    /// Their price in nano-dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_nanodollars: Option<u64>,
    /// The call used more than its budgets had reserved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overrun: Option<bool>,
    /// Its upstream reported less output than had passed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub understated: Option<bool>,
    /// From arrival to the end of the answer.
    pub latency_ms: f64,
    /// From arrival to the head of the upstream's answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_ms: Option<f64>,
}

/// Tokens of a call in disjoint classes.
#[derive(Debug, Serialize)]
pub struct Tokens {
    /// Input that was not cached.
    pub input_tokens: u64,
    /// Input read from a cache.
    pub cached_input_tokens: u64,
    /// Input written to a cache.
    pub cache_write_input_tokens: u64,
    /// Output without reasoning.
    pub output_tokens: u64,
    /// Output of reasoning.
    pub reasoning_tokens: u64,
    /// `provider`, `counted` or `reserved`.
    pub usage_source: &'static str,
    /// The service tier that the answer named.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_tier: Option<&'static str>,
}

/// The handle of the access log, for the threads that answer.
#[derive(Debug)]
pub struct AccessLog {
    lines: Mutex<Option<SyncSender<Line>>>,
    writer: Mutex<Option<Receiver<()>>>,
    on: bool,
    fate: Arc<Fate>,
}

/// Counters of lines that were not written.
#[derive(Debug, Default)]
struct Fate {
    dropped: AtomicU64,
    /// Faults that the writer survived.
    panics: AtomicU64,
    /// The error of the last batch; `None` after a success.
    error: Mutex<Option<String>>,
}

impl Fate {
    fn error(&self) -> MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessLog {
    /// Open the log: `"-"` is stdout, `"off"` none, anything else a file that is appended to.
    pub fn open(target: &str) -> std::io::Result<Self> {
        match target {
            "off" => Ok(Self { lines: Mutex::default(), writer: Mutex::default(), on: false, fate: Arc::default() }),
            "-" => Self::to(Box::new(std::io::stdout())),
            path => Self::to(Box::new(open(Path::new(path))?)),
        }
    }

    fn to(out: Box<dyn Write + Send>) -> std::io::Result<Self> {
        let fate = Arc::new(Fate::default());
        let (sender, receiver) = sync_channel(QUEUE);
        let counted = Arc::clone(&fate);
        let (ends, writer) = sync_channel(0);
        std::thread::Builder::new().name("access-log".into()).spawn(move || {
            let _ends: SyncSender<()> = ends; // dropped with the thread
            write_all(&receiver, out, counted);
        })?;
        Ok(Self { lines: Mutex::new(Some(sender)), writer: Mutex::new(Some(writer)), on: true, fate })
    }

    /// Whether the log is on. Ask before making a line.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.on
    }

    /// Hand a line to the writer. A line that finds the channel full is dropped and counted.
    pub fn write(&self, line: Line) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lines) = lines.as_ref()
            && lines.try_send(line).is_err()
        {
            self.fate.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines dropped since the last call.
    #[must_use]
    pub fn take_dropped(&self) -> u64 {
        self.fate.dropped.swap(0, Ordering::Relaxed)
    }

    /// Faults that the writer's thread survived since the last call.
    #[must_use]
    pub fn take_panics(&self) -> u64 {
        self.fate.panics.swap(0, Ordering::Relaxed)
    }

    /// The current write error; `None` while writing works.
    #[must_use]
    pub fn error(&self) -> Option<String> {
        self.fate.error().clone()
    }

    /// Write the waiting lines, then stop; a reader that takes none is not waited for longer than [`END`].
    pub fn close(&self) {
        drop(self.lines.lock().unwrap_or_else(PoisonError::into_inner).take());
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let _ = writer.recv_timeout(END);
        }
    }
}

/// Opens a file that is appended to. A pipe is opened for reading, too: without a reader that would wait otherwise.
fn open(path: &Path) -> std::io::Result<File> {
    let is_pipe = path.metadata().is_ok_and(|found| found.file_type().is_fifo());
    OpenOptions::new().create(true).append(true).read(is_pipe).open(path)
}

/// Lines on their way out: one write per batch, whole lines only, since several workers share a file or a pipe.
struct Batch {
    out: Box<dyn Write + Send>,
    text: Vec<u8>,
    lines: u64,
    fate: Arc<Fate>,
}

impl Batch {
    fn push(&mut self, line: &Line) {
        let before = self.text.len();
        if serde_json::to_writer(&mut self.text, line).is_err() {
            self.text.truncate(before);
            self.fate.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.text.push(b'\n');
        self.lines += 1;
        if self.text.len() >= BATCH {
            self.flush();
        }
    }

    /// Write the batch. Lines that cannot be written are dropped and counted: kept lines would only come late.
    fn flush(&mut self) {
        if self.lines == 0 {
            return;
        }
        let written = self.out.write_all(&self.text).and_then(|()| self.out.flush());
        if written.is_err() {
            self.fate.dropped.fetch_add(self.lines, Ordering::Relaxed);
        }
        *self.fate.error() = written.err().map(|error| error.to_string());
        self.text.clear();
        self.lines = 0;
    }

    /// Write until all senders are gone.
    fn serve(&mut self, lines: &Receiver<Line>) {
        while let Ok(first) = lines.recv() {
            self.push(&first);
            while let Ok(line) = lines.try_recv() {
                self.push(&line);
            }
            self.flush();
        }
    }
}

fn write_all(lines: &Receiver<Line>, out: Box<dyn Write + Send>, fate: Arc<Fate>) {
    let mut batch = Batch { out, text: Vec::with_capacity(BATCH), lines: 0, fate };
    while catch_unwind(AssertUnwindSafe(|| batch.serve(lines))).is_err() {
        // The batch in work is lost and counted. The thread goes on; otherwise all later lines would be lost.
        batch.fate.panics.fetch_add(1, Ordering::Relaxed);
        batch.fate.dropped.fetch_add(batch.lines, Ordering::Relaxed);
        batch.text.clear();
        batch.lines = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn line() -> Line {
        Line {
            time: 0.0,
            request_id: "ab".into(),
            client: None,
            method: "GET".into(),
            path: "/".into(),
            status: 200,
            bytes: 0,
            source: "upstream",
            denial: None,
            outcome: "completed",
            error_type: None,
            route: None,
            service: None,
            consumer: None,
            consumer_name: None,
            tier: None,
            model: None,
            upstream: None,
            attempts: None,
            tokens: None,
            price_nanodollars: None,
            overrun: None,
            understated: None,
            latency_ms: 1.0,
            upstream_ms: None,
        }
    }

    /// A line with a value in every field, and its names in the order of the text.
    fn names(line: &Line) -> Vec<String> {
        let text = serde_json::to_string(line).unwrap();
        let members = text.trim_matches(['{', '}']).split(",\"");
        members.map(|member| member.split('"').find(|part| !part.is_empty()).unwrap().to_owned()).collect()
    }

    #[test]
    fn each_field_is_described() {
        let all = FIELDS.iter().map(|(name, ..)| *name);
        let always = FIELDS.iter().filter(|(_, _, optional)| !optional).map(|(name, ..)| *name);
        assert_eq!(names(&line()), always.collect::<Vec<_>>());
        let tokens = Tokens {
            input_tokens: 1,
            cached_input_tokens: 1,
            cache_write_input_tokens: 1,
            output_tokens: 1,
            reasoning_tokens: 1,
            usage_source: "provider",
            service_tier: Some("flex"),
        };
        let full = Line {
            denial: Some("a"),
            error_type: Some("a"),
            upstream: Some("a".into()),
            attempts: Some(1),
            tokens: Some(tokens),
            price_nanodollars: Some(1),
            overrun: Some(true),
            understated: Some(true),
            upstream_ms: Some(1.0),
            ..line()
        };
        assert_eq!(names(&full), all.collect::<Vec<_>>());
    }

    #[test]
    fn log_counts_lines_lost_to_a_full_disk() {
        let log = AccessLog::open("/dev/full").unwrap();
        for _ in 0..5 {
            log.write(line());
        }
        log.close();
        assert_eq!(log.take_dropped(), 5);
        assert!(log.error().is_some_and(|error| error.contains("No space left")));
    }

    #[test]
    fn a_fault_costs_the_lines_at_hand_and_is_counted() {
        struct Faulty(bool, std::sync::mpsc::Sender<usize>);
        impl Write for Faulty {
            fn write(&mut self, text: &[u8]) -> std::io::Result<usize> {
                assert!(std::mem::replace(&mut self.0, true), "the first time");
                self.1.send(text.len()).unwrap();
                Ok(text.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let (sender, wrote) = std::sync::mpsc::channel();
        let log = AccessLog::to(Box::new(Faulty(false, sender))).unwrap();
        log.write(line());
        while log.take_panics() == 0 {
            std::thread::yield_now();
        }
        log.write(line());
        assert!(wrote.recv().unwrap() > 0);
        log.close();
        assert_eq!(log.take_dropped(), 1);
    }

    #[test]
    fn pipe_without_a_reader_holds_nothing_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
        let log = AccessLog::open(path.to_str().unwrap()).unwrap();
        for _ in 0..QUEUE + 4096 {
            log.write(line());
        }
        assert!(log.take_dropped() > 0);
        log.close();
    }

    #[test]
    fn log_writes_whole_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let log = AccessLog::open(path.to_str().unwrap()).unwrap();
        for _ in 0..1_000 {
            log.write(line());
        }
        log.close();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!((text.lines().count(), log.take_dropped(), log.error()), (1_000, 0, None));
        assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
    }
}
