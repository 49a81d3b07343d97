//! The upstream thread: takes calls from any thread, runs each as a task, and hands events back in batches.

use super::answer::{self, Way};
use super::outgoing::Outgoing;
use super::pool::{Pool, Sender};
use super::resolve::Resolver;
use super::tls::Tls;
use super::{Attempt, Call, Event, Failure, Origin, Ticket, UpstreamCounters};
use crate::socket::Reader;
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

/// A refusal of an upstream is kept, to be passed on where no other answers; a larger one is none.
const MAX_REFUSAL: u64 = 1024 * 1024;
/// How long the last of a torn answer may take to reach its client.
const LAST_WORDS: Duration = Duration::from_millis(250);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// Events that are ready together: ticket and event, in order per ticket. The ticket is given up with its last event.
pub type Batch<T> = Vec<(Rc<T>, Event)>;

/// A handle on the upstream thread; cheap to clone, usable from any thread.
#[derive(Debug)]
pub struct Upstream<T> {
    calls: mpsc::UnboundedSender<(T, Call)>,
    counters: Arc<UpstreamCounters>,
}

impl<T> Clone for Upstream<T> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone(), counters: Arc::clone(&self.counters) }
    }
}

impl<T: Ticket> Upstream<T> {
    /// Start the thread body's runtime and serve calls until every handle is gone. Blocks; run it on a thread of its own.
    ///
    /// `deliver` gets every batch of events; `tick` is called every `every`, between events. A panic of either is counted.
    pub fn run(
        mut inbox: Inbox<T>,
        every: Duration,
        deliver: impl Fn(Batch<T>) + 'static,
        tick: impl Fn() + 'static,
    ) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async move {
            let side = Rc::new(Side::new(Arc::clone(&inbox.counters)));
            let outbox = Rc::clone(&side);
            tokio::task::spawn_local(async move {
                loop {
                    outbox.bell.notified().await;
                    outbox.rung.set(false);
                    let batch = outbox.ready.take();
                    outbox.survive(|| deliver(batch));
                }
            });
            let sweeper = Rc::clone(&side);
            tokio::task::spawn_local(async move {
                let mut beat = tokio::time::interval(every);
                beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    beat.tick().await;
                    sweeper.survive(&tick);
                    sweeper.survive(|| sweeper.sweep());
                }
            });
            while let Some((ticket, call)) = inbox.calls.recv().await {
                let exchange = Exchange {
                    side: Rc::clone(&side),
                    ticket: Rc::new(ticket),
                    over: Cell::new(false),
                    sent: Cell::new(None),
                };
                tokio::task::spawn_local(exchange.run(call));
            }
        });
        Ok(())
    }

    /// A handle and the inbox that `run` serves.
    #[must_use]
    pub fn channel() -> (Self, Inbox<T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let counters = Arc::new(UpstreamCounters::default());
        (Self { calls: sender, counters: Arc::clone(&counters) }, Inbox { calls: receiver, counters })
    }

    /// Hand a call over; gives the ticket back when the thread is gone.
    pub fn submit(&self, ticket: T, call: Call) -> Result<(), T> {
        self.calls.send((ticket, call)).map_err(|unsent| unsent.0.0)
    }

    /// The counters of this thread.
    #[must_use]
    pub fn counters(&self) -> &UpstreamCounters {
        &self.counters
    }
}

/// The receiving end of [`Upstream::channel`].
#[derive(Debug)]
pub struct Inbox<T> {
    calls: mpsc::UnboundedReceiver<(T, Call)>,
    counters: Arc<UpstreamCounters>,
}

/// What the tasks of the upstream thread share.
pub(super) struct Side<T> {
    pools: RefCell<HashMap<Arc<Origin>, Rc<Pool>>>,
    resolver: Resolver,
    tls: Tls,
    counters: Arc<UpstreamCounters>,
    ready: RefCell<Batch<T>>,
    bell: Notify,
    rung: Cell<bool>,
    swept: Cell<Option<Instant>>,
}

impl<T> Side<T> {
    fn new(counters: Arc<UpstreamCounters>) -> Self {
        Self {
            pools: RefCell::default(),
            resolver: Resolver::default(),
            tls: Tls::default(),
            counters,
            ready: RefCell::default(),
            bell: Notify::new(),
            rung: Cell::new(false),
            swept: Cell::new(None),
        }
    }

    /// Do it, and go on whatever comes of it: a task that ends would leave all exchanges without what it does.
    fn survive(&self, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            self.counters.panics.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn pool(&self, origin: &Arc<Origin>) -> Rc<Pool> {
        let mut pools = self.pools.borrow_mut();
        if let Some(pool) = pools.get(origin) {
            return Rc::clone(pool);
        }
        let pool = Rc::new(Pool::new(Arc::clone(origin)));
        pools.insert(Arc::clone(origin), Rc::clone(&pool));
        pool
    }

    fn sweep(&self) {
        let now = Instant::now();
        if self.swept.get().is_none_or(|last| now - last > Duration::from_secs(5)) {
            self.swept.set(Some(now));
            self.pools.borrow_mut().retain(|_, pool| pool.sweep() || Rc::strong_count(pool) > 1);
            self.resolver.sweep();
        }
    }
}

/// One call being served. Dropped without a last event (a panic), it reports a fault of ours: no client waits for ever.
pub(super) struct Exchange<T: Ticket> {
    side: Rc<Side<T>>,
    pub(super) ticket: Rc<T>,
    over: Cell<bool>,
    /// Bytes of the answer handed over, once its head was.
    sent: Cell<Option<u64>>,
}

impl<T: Ticket> Exchange<T> {
    /// Hand over an event; what the ticket has to say of it first.
    pub(super) fn push(&self, event: Event) {
        match event {
            Event::Full { status, mut headers, body } => {
                self.ticket.head(status, &mut headers);
                let body = self.ticket.piece(body);
                let rest = self.ticket.rest();
                let body = if rest.is_empty() { body } else { [body, rest].concat().into() };
                self.hand_over(Event::Full { status, headers, body });
            }
            Event::Head { status, mut headers } => {
                self.ticket.head(status, &mut headers);
                self.sent.set(Some(0));
                self.hand_over(Event::Head { status, headers });
            }
            Event::Chunk(piece) => self.chunk(self.ticket.piece(piece)),
            Event::End => {
                self.chunk(self.ticket.rest());
                self.hand_over(Event::End);
            }
            Event::Failed(_) => self.hand_over(event),
        }
    }

    fn chunk(&self, piece: Bytes) {
        if !piece.is_empty() {
            self.sent.set(self.sent.get().map(|sent| sent + piece.len() as u64));
            self.hand_over(Event::Chunk(piece));
        }
    }

    fn hand_over(&self, event: Event) {
        if event.is_last() {
            self.over.set(true);
        }
        self.side.ready.borrow_mut().push((Rc::clone(&self.ticket), event));
        if !self.side.rung.replace(true) {
            self.side.bell.notify_one();
        }
    }

    async fn run(self, call: Call) {
        let total = call.deadlines.total;
        let peer = call.peer;
        let outcome = tokio::select! {
            biased;
            () = self.ticket.cancel().wait() => Err(Failure::Cancelled),
            outcome = tokio::time::timeout(total, self.exchange(call)) => outcome.unwrap_or(Err(Failure::TotalTimeout)),
        };
        if let Err(failure) = outcome {
            if let Some(sent) = self.sent.get() {
                let words = self.ticket.last_words(failure);
                // A client that left has nothing to hear; one that a shutdown cuts has.
                if failure != Failure::Cancelled || words.is_some() {
                    self.conclude(words.unwrap_or_default(), sent, peer).await;
                }
            }
            self.push(Event::Failed(failure));
        }
    }

    /// A cut follows: it must not overtake what was passed on, nor what is still to be said.
    async fn conclude(&self, words: Bytes, sent: u64, peer: Option<SocketAddr>) {
        let all = sent + words.len() as u64;
        let reader = peer.and_then(|peer| Reader::find(peer, sent));
        self.chunk(words);
        let by = Instant::now() + LAST_WORDS;
        tokio::time::sleep(LOOK).await;
        while reader.as_ref().is_some_and(|reader| reader.behind(all) > 0) && Instant::now() < by {
            tokio::time::sleep(LOOK).await;
        }
    }

    async fn exchange(&self, call: Call) -> Result<(), Failure> {
        let Call { method, mut attempt, mut others, deadlines, peer, max_answer, whole } = call;
        let way = Way { deadlines, peer, max_answer, whole };
        let no_body = method == Method::HEAD;
        let mut kept = None;
        loop {
            let sent = self.send(method.clone(), attempt, way).await;
            let next = match &sent {
                Ok((_, _, answer)) if !may_be_another(answer.status()) => None,
                Err(failure) if !failure.is_before_sending() => None,
                _ => others.as_mut().and_then(|others| others.next()),
            };
            match (sent, next) {
                (Ok((sender, pool, answer)), None) => {
                    answer::pass(self, answer, no_body, way).await?;
                    pool.give_back(sender);
                    return Ok(());
                }
                (Err(failure), None) => {
                    // Another upstream's whole answer says more than that this one cannot be reached.
                    return match kept {
                        Some((status, headers, body)) if failure.is_before_sending() => {
                            self.push(Event::Full { status, headers, body });
                            Ok(())
                        }
                        _ => Err(failure),
                    };
                }
                (sent, Some(next)) => {
                    if let Ok((sender, pool, answer)) = sent {
                        kept = Some(self.keep(answer, way).await?);
                        pool.give_back(sender);
                    }
                    self.side.counters.failovers.fetch_add(1, Ordering::Relaxed);
                    attempt = next;
                }
            }
        }
    }

    /// Read a refusal of an upstream to its end: only a whole one leaves no doubt.
    async fn keep(&self, answer: Response<Incoming>, way: Way) -> Result<Whole, Failure> {
        let (mut head, mut body) = answer.into_parts();
        let mut held = BytesMut::new();
        while let Some(data) = answer::next(&mut body, way.deadlines.between).await? {
            held.extend_from_slice(&data);
            if held.len() as u64 > MAX_REFUSAL {
                return Err(Failure::TooLarge);
            }
        }
        answer::strip_hop_by_hop(&mut head.headers);
        head.headers.remove(CONTENT_LENGTH);
        Ok((head.status, head.headers, held.freeze()))
    }

    /// Send one attempt and wait for the head of its answer.
    async fn send(&self, method: Method, attempt: Attempt, way: Way) -> Result<Sent, Failure> {
        let pool = self.side.pool(&attempt.origin);
        let unsaid = attempt.body.is_empty() && matches!(method, Method::POST | Method::PUT | Method::PATCH);
        let mut request = Request::new(Outgoing::new(attempt.body));
        *request.method_mut() = method;
        *request.uri_mut() = attempt.target.parse().map_err(|_| Failure::Internal)?;
        *request.headers_mut() = attempt.headers;
        if unsaid {
            // Servers may demand a length where a body is usual (411), and for an empty one the client's library says none.
            request.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        let mut idle = pool.idle();
        loop {
            let pooled = idle.is_some();
            let mut sender = match idle.take() {
                Some(sender) => sender,
                None => {
                    pool.connect(&self.side.resolver, &self.side.tls, way.deadlines.connect, &self.side.counters)
                        .await?
                }
            };
            self.ticket.sending();
            let taken = request.body().taken();
            let answer = sender.try_send_request(request);
            let answered = match taken {
                None => tokio::time::timeout(way.deadlines.first_byte, answer).await.ok(),
                Some(taken) => taken.wait_for(answer, way.deadlines).await,
            };
            match answered {
                None => return Err(Failure::FirstByteTimeout),
                Some(Ok(answer)) => {
                    if pooled {
                        self.side.counters.reused.fetch_add(1, Ordering::Relaxed);
                    }
                    return Ok((sender, pool, answer));
                }
                Some(Err(mut error)) => match error.take_message() {
                    // Nothing of it was written: the pooled socket was seen closed before. Any other is as good.
                    Some(unsent) if pooled => {
                        request = unsent;
                        idle = pool.idle();
                    }
                    _ => return Err(failure_of(error.error())),
                },
            }
        }
    }
}

/// A connection, the pool it belongs to, and the answer whose head came over it.
type Sent = (Sender, Rc<Pool>, Response<Incoming>);
/// A whole answer.
type Whole = (StatusCode, HeaderMap<HeaderValue>, Bytes);

/// Refusals of an upstream that another may not share.
fn may_be_another(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE)
}

impl Failure {
    /// Nothing was sent: the request cannot have been acted upon.
    fn is_before_sending(self) -> bool {
        matches!(self, Self::Refused | Self::Unresolved | Self::Out | Self::Tls | Self::ConnectTimeout)
    }
}

impl<T: Ticket> Drop for Exchange<T> {
    fn drop(&mut self) {
        if !self.over.get() {
            self.side.counters.panics.fetch_add(1, Ordering::Relaxed);
            self.push(Event::Failed(Failure::Internal));
        }
    }
}

fn failure_of(error: &hyper::Error) -> Failure {
    if error.is_parse() || error.is_parse_status() || error.is_parse_too_large() {
        Failure::Garbage
    } else {
        Failure::Reset
    }
}
