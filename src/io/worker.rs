//! A worker: the files, the clock, the log and the ids that the stages of its requests need. It decides nothing.
//!
//! In: a request's head, then its body. Out: the answer of the core's stages, recorded; or an admitted request for the
//! upstream client.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use aigw_core::accept::room::Room;
use aigw_core::admit::Admitter;
use aigw_core::balance::Origin;
use aigw_core::cells::Cells as _;
use aigw_core::clock::Clock as _;
use aigw_core::identify::{KeyHasher, KeyHolder};
use aigw_core::in_force::InForce;
use aigw_core::r#match::probe::Probe;
use aigw_core::refusal::{Reason, answer};
use aigw_core::request::{Answer, Head};
use aigw_core::settle::{End, LogContext, Shutdown, Traffic};
use aigw_core::snapshot::{Offer, Tier, Tokenizer};
use aigw_core::surface::{
    Accepted, Admitted, Bounds, EndedCall, HeadOutcome, Question, Rejected, Stages, cors, question,
};
use aigw_core::telemetry::Counter;
use aigw_core::telemetry::budgets::{self, IN_FLIGHT};
use aigw_core::telemetry::handshakes::Handshake;
use aigw_core::telemetry::upstreams::{self, UPSTREAMS};
use aigw_core::tokens::TokenCounter;
use aigw_core::units::{Moment, RequestId};
use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::access_log::AccessLog;
use crate::cells::{Part, SlotState, WorkerCells};
use crate::clock::{SystemClock, machine_millis};
use crate::control::ControlSocket;
use crate::denials::{Denials, Refused};
use crate::ids::Ids;
use crate::ledger::News;
use crate::record::Recorder;
use crate::refusals::Refusals;
use crate::secret::Sealer;
use crate::snapshot::SnapshotReader;
use crate::standing::Standing;
use crate::tls_listener::{self, Certificates, Unusable};
use crate::tokens::{Timed, Vocabularies};
use crate::upstream::{CallObserver, Cancel, Notice};

/// One worker.
pub struct Worker {
    in_force: ArcSwap<InForce>,
    /// Held while the next configuration is prepared.
    preparing: Mutex<()>,
    /// Of the configuration in force or of the one that comes into force next; none while the worker serves no TLS.
    certificates: ArcSwap<Certificates>,
    serves_tls: AtomicBool,
    reader: SnapshotReader,
    sealer: Sealer,
    vocabularies: Vocabularies,
    cells: Arc<WorkerCells>,
    stages: Stages<WorkerCells>,
    standing: Standing,
    recorder: Recorder,
    clock: SystemClock,
    ids: Ids,
    draining: AtomicBool,
    cutting: AtomicBool,
    log: OnceLock<Box<ProcessLog>>,
    ledger_news: Mutex<News>,
    refusals: Refusals,
    denials: Denials,
    control: ControlSocket,
}

/// Writes a line of the process log: the event, then names and texts of its facts.
pub type ProcessLog = dyn Fn(&'static str, &[(&'static str, String)]) + Send + Sync;

/// The result of a body.
pub enum BodyResult {
    /// It goes to an upstream.
    Admitted(Box<Admitted<WorkerCells>>),
    /// It is answered: refused, or with a document.
    Answered(Answer),
    /// The control process is to be asked: [`Worker::ask`].
    Asks(Question),
}

/// The result of a head.
pub enum HeadResult {
    /// Its body is wanted.
    Accepted(Box<Accepted>),
    /// It is answered: refused, or with a document.
    Answered(Answer),
}

impl Worker {
    /// Takes a slot of the data folder. `NotFound` before a control process has prepared the folder, `InvalidData` when its
    /// files are of another version.
    pub fn open(data: &Path, access_log: &str, bounds: Bounds) -> std::io::Result<Self> {
        let reader = SnapshotReader::open(data)?;
        let cells = Arc::new(WorkerCells::open(&data.join("cells"), reader.store())?);
        let recorder = Recorder::new(Arc::clone(&cells), AccessLog::open(access_log)?);
        // A worker that starts finds no upstream down, whatever the one before in this slot found.
        upstreams::forget(&|at| cells.dense(UPSTREAMS.0, at), cells.slot());
        budgets::forget(&|at| cells.dense(IN_FLIGHT.0, at), cells.lane());
        let secret = crate::secret::load(data)?;
        Ok(Self {
            in_force: ArcSwap::from_pointee(InForce::empty()),
            preparing: Mutex::new(()),
            certificates: ArcSwap::from_pointee(Certificates::none().map_err(std::io::Error::other)?),
            serves_tls: AtomicBool::new(false),
            sealer: Sealer::new(&secret),
            vocabularies: Vocabularies::of(data),
            standing: Standing::new(&data.join("cells"), reader.store()),
            reader,
            stages: Stages::new(KeyHasher::new(&secret), Admitter::new(Arc::clone(&cells)), bounds),
            cells,
            recorder,
            clock: SystemClock::new(),
            ids: Ids::new()?,
            draining: AtomicBool::new(false),
            cutting: AtomicBool::new(false),
            log: OnceLock::new(),
            ledger_news: Mutex::default(),
            refusals: Refusals::default(),
            denials: Denials::default(),
            control: ControlSocket::of(data)?,
        })
    }

    /// Gives the worker its process log. Once.
    pub fn log_to(&self, log: Box<ProcessLog>) {
        let _ = self.log.set(log);
    }

    /// Loads the newest published generation. False while nothing is published. `Err`: why it cannot be loaded.
    pub fn refresh(&self) -> Result<bool, String> {
        let generation = self.current().snapshot.generation;
        if generation != 0 { Ok(true) } else { self.reader.error().map_or(Ok(false), Err) }
    }

    /// The configuration in force. A generation that cannot be loaded leaves the one before; `/status` shows the worker behind.
    fn current(&self) -> Arc<InForce> {
        let held = self.in_force.load();
        if held.snapshot.generation == self.reader.generation() {
            return Arc::clone(&held);
        }
        drop(held);
        self.next()
    }

    /// Prepares the newest generation. Heads and streams ask on two threads: one prepares it, and no older one follows.
    #[cold]
    fn next(&self) -> Arc<InForce> {
        let _one = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let (held, snapshot) = (self.in_force.load_full(), self.reader.current());
        if Arc::ptr_eq(&held.snapshot, &snapshot) {
            return held;
        }
        let next = Arc::new(held.next(snapshot, |sealed| self.sealer.open(sealed), |of| self.counter(of)));
        self.vocabularies.prepare(&next.snapshot.policy.offer);
        let has_changed = !Arc::ptr_eq(&held.snapshot.policy, &next.snapshot.policy);
        if has_changed && self.serves_tls.load(Ordering::Relaxed) {
            self.renew_certificates(&next);
        }
        self.recorder.count(Counter::SnapshotLoaded, 1);
        self.cells.status().set_generation(next.snapshot.generation);
        self.in_force.store(Arc::clone(&next));
        next
    }

    /// Puts the certificates of a configuration in force. `preparing` is held.
    fn renew_certificates(&self, next: &InForce) {
        let held = self.certificates.load_full();
        let (renewed, unusable) = match held.with_policy(next.policy(), |sealed| self.sealer.open(sealed)) {
            Ok(renewed) => renewed,
            Err(why) => (None, vec![Unusable { at: "certificates".to_owned(), why }]),
        };
        for Unusable { at, why } in unusable {
            self.recorder.count(Counter::CertificateUnusable, 1);
            if let Some(log) = self.log.get() {
                log("certificate_unusable", &[("at", at), ("why", why)]);
            }
        }
        if let Some(renewed) = renewed {
            self.certificates.store(Arc::new(renewed));
        }
    }

    /// The worker serves TLS from now on, with the certificates of its configurations.
    pub fn serve_tls(&self) {
        let _one = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        self.serves_tls.store(true, Ordering::Relaxed);
        self.renew_certificates(&self.in_force.load_full());
    }

    /// Gives clients whose name no other certificate serves this pair, from their next handshake on. `pem`: chain and key.
    /// Fails for a pair that cannot be used; the one before stays.
    pub fn serve_pair(&self, pem: &[u8]) -> Result<(), String> {
        let _one = self.preparing.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = self.certificates.load().with_default(pem)?;
        self.certificates.store(Arc::new(renewed));
        Ok(())
    }

    /// The counter of a vocabulary, which records the time that it takes.
    fn counter(&self, tokenizer: &Tokenizer) -> Arc<dyn TokenCounter> {
        Arc::new(Timed::new(self.vocabularies.counter(tokenizer), Arc::clone(&self.cells)))
    }

    /// The recorder, for events outside of requests.
    pub fn recorder(&self) -> &Recorder {
        &self.recorder
    }

    /// Shows that the event loop moves, and whether the server's threads do.
    pub fn beat_loop(&self, server: bool) {
        let (status, now) = (self.cells.status(), machine_millis());
        status.beat(Part::Loop, now);
        if server {
            status.beat(Part::Server, now);
        }
    }

    /// Shows that the upstream thread moves, and counts what happened outside of requests since the last beat.
    pub fn beat(&self) {
        self.cells.status().beat(Part::Upstream, machine_millis());
        self.recorder.count_log();
        self.count_dropped(self.denials.write_due(self.cells.ledger(), self.clock.moment()));
        let ledger = self.cells.ledger().status();
        self.cells.status().set_ledger(ledger.unsynced, ledger.state());
        if let Some(log) = self.log.get() {
            for (event, error) in self.ledger_news.lock().unwrap_or_else(PoisonError::into_inner).of(&ledger) {
                log(event, &error.map(|error| ("error", error)).into_iter().collect::<Vec<_>>());
            }
        }
        let failures = self.reader.take_failures();
        if failures > 0 {
            self.recorder.count(Counter::SnapshotFailed, failures);
        }
        if let Some((texts, why)) = self.vocabularies.take_faults() {
            self.recorder.count(Counter::TokenizerFailed, texts);
            if let Some(log) = self.log.get() {
                log("tokenizer_failed", &[("texts", texts.to_string()), ("why", why)]);
            }
        }
    }

    /// Counts refusals that the ledger had no room for.
    fn count_dropped(&self, dropped: u64) {
        if dropped > 0 {
            self.recorder.count(Counter::DenialDropped, dropped);
        }
    }

    /// The memory of bodies and answers.
    pub fn room(&self) -> &Arc<Room> {
        self.stages.room()
    }

    /// A new request id, unique over workers and restarts.
    pub fn request_id(&self) -> RequestId {
        self.ids.next()
    }

    /// Judges a head, and records it when it is answered here.
    pub fn on_head(&self, head: &mut Head) -> HeadResult {
        let (in_force, now) = (self.current(), self.clock.moment());
        let standing = |offer: &Offer, tier: &Tier, caller: &KeyHolder| {
            self.standing.of(offer, tier, caller, now).ok().map(Bytes::from)
        };
        HeadResult::Answered(match self.stages.head(&in_force, head, now, &standing) {
            Ok(HeadOutcome::Accepted(accepted)) => return HeadResult::Accepted(accepted),
            Ok(HeadOutcome::Document(context, body)) => self.show(&in_force, &context, head, body),
            Ok(HeadOutcome::Preflight(context, headers)) => {
                let answer = answer::preflight(head, headers, self.shutdown().draining);
                self.record_answer(&in_force, head, &context, &answer, None);
                answer
            }
            Ok(HeadOutcome::Probe(probe)) => {
                let draining = self.shutdown().draining;
                let is_ready = !draining && !self.cells.ledger().status().state().refuses();
                let answer = answer::probe(head, probe == Probe::Live || is_ready, draining);
                self.record_answer(&in_force, head, &LogContext::default(), &answer, None);
                answer
            }
            Err(rejected) => self.refuse(head, *rejected),
        })
    }

    /// Admits a request whose body is whole, or answers it: with a refusal, or with the count of its tokens.
    pub fn on_body(&self, mut accepted: Accepted, head: &Arc<Head>, body: Bytes) -> BodyResult {
        if let Some(question) = accepted.question() {
            return BodyResult::Asks(question);
        }
        if accepted.is_counted() {
            return BodyResult::Answered(self.tokenize(accepted, head, body));
        }
        match self.stages.body(accepted, head, body, self.clock.moment()) {
            Ok(admitted) => {
                if let Some(tier) = admitted.shadowed_tier() {
                    self.recorder.shadow(tier);
                }
                BodyResult::Admitted(Box::new(admitted))
            }
            Err(rejected) => BodyResult::Answered(self.refuse(head, *rejected)),
        }
    }

    /// Asks the control process, and answers with its document or with a refusal.
    pub async fn ask(&self, question: Question, head: &Head, cancel: &Cancel) -> Answer {
        let Question { in_force, context, line } = question;
        let document = tokio::select! {
            biased;
            () = cancel.wait() => Err(self.cut_reason().into()),
            reply = self.control.ask(&line) => match reply {
                Ok(reply) => question::document(&reply),
                Err(_) => Err(Reason::ControlAway.into()),
            },
        };
        match document {
            Ok(document) => self.show(&in_force, &context, head, document),
            Err(refusal) => self.refuse(head, Rejected { refusal, context, in_force }),
        }
    }

    /// Why a request that is no call is cut.
    fn cut_reason(&self) -> Reason {
        if self.cutting.load(Ordering::Relaxed) { Reason::Draining } else { Reason::ClientGone }
    }

    fn tokenize(&self, accepted: Accepted, head: &Head, body: Bytes) -> Answer {
        let (in_force, context, counted) = match self.stages.tokenize(accepted, head, body, self.clock.moment()) {
            Ok(counted) => counted,
            Err(rejected) => return self.refuse(head, *rejected),
        };
        self.show(&in_force, &context, head, counted)
    }

    /// The answer that shows a document.
    fn show(&self, in_force: &InForce, context: &LogContext, head: &Head, document: Bytes) -> Answer {
        let mut answer = answer::document(head, document, self.shutdown().draining);
        cors::append(in_force, context, head, &mut answer.headers);
        self.record_answer(in_force, head, context, &answer, None);
        answer
    }

    /// The refusal of a request that no stage has seen.
    pub fn deny(&self, head: &Head, reason: Reason) -> Answer {
        self.refuse(head, Rejected::new(reason, LogContext::default(), &self.in_force.load()))
    }

    /// The refusal of an admitted request that cannot be sent: its permit is given back.
    pub fn turn_away(&self, admitted: Admitted<WorkerCells>, reason: Reason) -> Answer {
        let (_, call) = admitted.into_parts();
        self.refuse(call.request(), call.rejected(reason))
    }

    /// The refusal of a request, recorded with all that is known of it: by a stage, or for a reason outside of the stages (its body is
    /// too large or too slow, or the worker is full).
    pub fn refuse(&self, head: &Head, rejected: Rejected) -> Answer {
        let Rejected { refusal, context, in_force } = rejected;
        let (reason, tier) = (refusal.reason, context.tier(&in_force));
        let name = tier.map(|tier| &*tier.name);
        let mut answer = answer::refuse(head, refusal, name, head.arrived.elapsed(), self.shutdown().draining);
        cors::append(&in_force, &context, head, &mut answer.headers);
        if let Some(tier) = tier {
            self.recorder.tier_denial(tier.n, reason);
        }
        self.record_answer(&in_force, head, &context, &answer, Some(reason));
        answer
    }

    fn record_answer(
        &self,
        in_force: &InForce,
        head: &Head,
        context: &LogContext,
        answer: &Answer,
        reason: Option<Reason>,
    ) {
        if let Some(reason) = reason {
            self.denials.count(refused(in_force, context, reason), self.clock.moment());
        }
        let end = End::answered(answer.status, answer.body.len(), reason);
        self.recorder.end(head, &context.report(in_force, end, Traffic::default(), head.arrived.elapsed()));
    }

    /// The worker serves from now on.
    pub fn ready(&self, inline: bool) {
        let status = self.cells.status();
        status.set_inline(inline);
        status.begin_beats(machine_millis());
        status.set_state(SlotState::Ready);
    }

    /// Every answer from now on closes its connection.
    pub fn begin_drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
        self.cells.status().set_state(SlotState::Draining);
    }

    /// Calls in flight are cut from now on.
    pub fn begin_cut(&self) {
        self.cutting.store(true, Ordering::Relaxed);
    }

    /// The count of requests in flight that the slot shows.
    pub fn in_flight(&self) -> &AtomicU64 {
        self.cells.status().in_flight()
    }

    /// Why lines of the access log cannot be written; `None` while they can.
    pub fn access_log_error(&self) -> Option<String> {
        self.recorder.log_error()
    }

    /// Writes the rest of the access log.
    pub fn close(&self) {
        self.count_dropped(self.denials.write(self.cells.ledger()));
        self.recorder.close();
        if let Err(error) = self.cells.ledger().close()
            && let Some(log) = self.log.get()
        {
            log("ledger_not_closed", &[("error", error.to_string())]);
        }
    }
}

/// The subject of a refusal in the ledger.
fn refused(in_force: &InForce, context: &LogContext, reason: Reason) -> Refused {
    let model = context.model.and_then(|model| in_force.offer().models.get(model));
    Refused {
        consumer: context.consumer_n.unwrap_or(0),
        tier: context.tier(in_force).map_or(0, |tier| tier.n),
        model: model.map_or(0, |model| model.n),
        reason,
    }
}

impl tls_listener::Host for Worker {
    fn certificates(&self) -> Arc<Certificates> {
        // Certificates come into force before their generation does.
        self.current();
        self.certificates.load_full()
    }

    fn connections(&self) -> &AtomicU64 {
        self.cells.status().tls_connections()
    }

    fn handshake(&self, result: Handshake) {
        self.recorder.handshake(result);
    }

    fn panicked(&self) {
        self.recorder.panic();
    }
}

impl CallObserver for Worker {
    type Space = WorkerCells;

    fn shutdown(&self) -> Shutdown {
        Shutdown { draining: self.draining.load(Ordering::Relaxed), cutting: self.cutting.load(Ordering::Relaxed) }
    }

    fn now(&self) -> Moment {
        self.clock.moment()
    }

    fn in_force(&self) -> Arc<InForce> {
        self.current()
    }

    fn ended(&self, call: &EndedCall) {
        let report = call.report();
        if let Some((names, call_report)) = call.call_report(&report) {
            let series = self.recorder.call(names, &call_report, call.failed_attempts());
            if let Some((tier, budgets)) = call.budget_report() {
                self.recorder.budgets(tier, series, &budgets);
            }
        }
        self.recorder.end(call.request(), &report);
        if call.failed_attempts().is_empty() {
            return;
        }
        for (event, facts) in self.refusals.due(call, self.now()) {
            if let Some(log) = self.log.get() {
                log(event, &facts);
            }
        }
    }

    async fn recorded(&self) {
        self.cells.ledger().all_synced().await;
    }

    fn notice(&self, notice: Notice) {
        let run = |at| self.cells.dense(UPSTREAMS.0, at);
        let slot = self.cells.slot();
        let news = match &notice {
            Notice::Down { upstream, fault, .. } => {
                upstreams::down(&run, upstream, slot, self.now().0 / 1_000_000, *fault)
            }
            Notice::Up { upstream } | Notice::Forgotten { upstream } => upstreams::up(&run, upstream, slot),
            _ => true,
        };
        if let (true, Some(log), Some((event, facts))) = (news, self.log.get(), notice.line()) {
            log(event, &facts);
        }
    }

    fn room(&self) -> &Arc<Room> {
        self.stages.room()
    }

    fn uses(&self, origin: &Origin) -> bool {
        let in_force = self.in_force.load();
        let services = in_force.services.iter().flat_map(|service| &service.targets).map(|target| &target.origin);
        let models = in_force.models.iter().flat_map(|model| &model.targets).map(|target| &target.origin);
        services.chain(models).any(|used| **used == *origin)
    }
}
