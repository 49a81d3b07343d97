//! The upstream thread: takes calls from any thread, runs each as a task, and hands events back in batches.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::call::Call;
use super::counters::UpstreamCounters;
use super::outbox::{Batch, Outbox, Ready};
use super::shared::Shared;
use super::task::CallTask;
use super::ticket::Ticket;

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
            let shared = Rc::new(Shared::new(Arc::clone(&inbox.counters)));
            let ready = Rc::new(Ready::new());
            let (postman, filled) = (Rc::clone(&shared), Rc::clone(&ready));
            tokio::task::spawn_local(async move {
                loop {
                    let batch = filled.next().await;
                    postman.survive(|| deliver(batch));
                }
            });
            let sweeper = Rc::clone(&shared);
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
                let task = CallTask { shared: Rc::clone(&shared), outbox: Outbox::new(Rc::clone(&ready), ticket) };
                tokio::task::spawn_local(task.run(call));
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
