//! The upstream thread: takes calls from any thread, runs each as a task, and hands events back in batches.

use super::answer::{self, Way};
use super::pool::Pool;
use super::resolve::Resolver;
use super::tls::Tls;
use super::{Call, Event, Failure, Origin, Ticket, UpstreamCounters};
use http::Request;
use http_body_util::Full;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

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
    /// `deliver` gets every batch of events; `tick` is called every `every`, between events.
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
                    deliver(outbox.ready.take());
                }
            });
            let sweeper = Rc::clone(&side);
            tokio::task::spawn_local(async move {
                let mut beat = tokio::time::interval(every);
                beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
                loop {
                    beat.tick().await;
                    tick();
                    sweeper.sweep();
                }
            });
            while let Some((ticket, call)) = inbox.calls.recv().await {
                let exchange = Exchange { side: Rc::clone(&side), ticket: Rc::new(ticket), over: Cell::new(false) };
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
            for pool in self.pools.borrow().values() {
                pool.sweep();
            }
        }
    }
}

/// One call being served. Dropped without a last event (a panic), it reports a fault of ours: no client waits for ever.
pub(super) struct Exchange<T: Ticket> {
    side: Rc<Side<T>>,
    pub(super) ticket: Rc<T>,
    over: Cell<bool>,
}

impl<T: Ticket> Exchange<T> {
    pub(super) fn push(&self, event: Event) {
        if matches!(event, Event::Full { .. } | Event::End | Event::Failed(_)) {
            self.over.set(true);
        }
        self.side.ready.borrow_mut().push((Rc::clone(&self.ticket), event));
        if !self.side.rung.replace(true) {
            self.side.bell.notify_one();
        }
    }

    async fn run(self, call: Call) {
        let total = call.deadlines.total;
        let outcome = tokio::select! {
            biased;
            () = self.ticket.cancel().wait() => Err(Failure::Cancelled),
            outcome = tokio::time::timeout(total, self.exchange(call)) => outcome.unwrap_or(Err(Failure::TotalTimeout)),
        };
        if let Err(failure) = outcome {
            self.push(Event::Failed(failure));
        }
    }

    async fn exchange(&self, call: Call) -> Result<(), Failure> {
        let pool = self.side.pool(&call.origin);
        let way = Way { deadlines: call.deadlines, peer: call.peer, max_answer: call.max_answer };
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        *request.uri_mut() = call.target.parse().map_err(|_| Failure::Internal)?;
        *request.headers_mut() = call.headers;
        let no_body = request.method() == http::Method::HEAD;
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
            match tokio::time::timeout(way.deadlines.first_byte, sender.try_send_request(request)).await {
                Err(_) => return Err(Failure::FirstByteTimeout),
                Ok(Ok(answer)) => {
                    if pooled {
                        self.side.counters.reused.fetch_add(1, Ordering::Relaxed);
                    }
                    if answer::pass(self, answer, no_body, way).await? {
                        pool.give_back(sender);
                    }
                    return Ok(());
                }
                Ok(Err(mut error)) => match error.take_message() {
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
