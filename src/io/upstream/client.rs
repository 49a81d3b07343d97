//! The upstream thread: takes calls from any thread, runs each as a task, and hands events back in batches.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use aigw_core::balance::Reach;
use aigw_core::request::Answer;
use aigw_core::surface::Admitted;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;

use super::counters::UpstreamCounters;
use super::observer::{CallObserver, Cancel};
use super::outbox::{Batch, Outbox, Promise, Ready};
use super::shared::Shared;
use super::task::CallTask;

/// A handle on the upstream thread; usable from any thread.
pub struct Upstream<O: CallObserver, T> {
    work: mpsc::UnboundedSender<Submitted<O, T>>,
    counters: Arc<UpstreamCounters>,
}

/// Work on its way to the upstream thread.
enum Submitted<O: CallObserver, T> {
    Call(Admission<O, T>),
    Answer(Answering, T),
}

impl<O: CallObserver, T: Send + 'static> Submitted<O, T> {
    /// Begins the work as a task.
    fn begin(self, shared: &Rc<Shared>, ready: &Rc<Ready<O, T>>) {
        match self {
            Self::Call(Admission { admitted, cancel, waiter }) => {
                let (dispatch, call) = admitted.into_parts();
                let outbox = Outbox::new(Rc::clone(ready), waiter, call);
                let task = CallTask { shared: Rc::clone(shared), outbox };
                // In a box: tokio moves a task's future several times, and the whole of it at the end, and this one has kilobytes.
                tokio::task::spawn_local(Box::pin(async move { task.run(dispatch, cancel).await }));
            }
            Self::Answer(answering, waiter) => {
                let promise = Promise::new(Rc::clone(ready), waiter);
                tokio::task::spawn_local(async move { promise.keep(answering.await) });
            }
        }
    }
}

/// Work of the worker's own that ends with an answer.
pub type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// An admitted request on its way to the upstream thread.
struct Admission<O: CallObserver, T> {
    /// In a box: it has a kilobyte, and crosses the channel in several moves.
    admitted: Box<Admitted<O::Space>>,
    cancel: Arc<Cancel>,
    waiter: T,
}

/// The runtime that [`Upstream::run`] serves on. Fails where the system has no files for it.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

impl<O: CallObserver, T: Send + 'static> Upstream<O, T> {
    /// Serves calls until every handle is gone. Blocks; run it on a thread of its own.
    ///
    /// `deliver` gets every batch of events; `tick` is called every `every`, between events. A panic of either is counted.
    pub fn run(
        runtime: &Runtime,
        mut inbox: Inbox<O, T>,
        observer: Arc<O>,
        every: Duration,
        deliver: impl Fn(Batch<T>) + 'static,
        tick: impl Fn() + 'static,
    ) {
        let local = tokio::task::LocalSet::new();
        local.block_on(runtime, async move {
            let shared = Rc::new(Shared::new(Arc::clone(&inbox.counters), inbox.reach, &observer));
            let ready = Rc::new(Ready::new(observer));
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
                    sweeper.survive(|| sweeper.tend());
                }
            });
            while let Some(submitted) = inbox.work.recv().await {
                submitted.begin(&shared, &ready);
            }
        });
    }

    /// A handle and the inbox that `run` serves. `reach`: the addresses that upstreams may have.
    #[must_use]
    pub fn channel(reach: Reach) -> (Self, Inbox<O, T>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let counters = Arc::new(UpstreamCounters::default());
        (Self { work: sender, counters: Arc::clone(&counters) }, Inbox { work: receiver, counters, reach })
    }

    /// Sends an admitted request; `waiter` gets its events. Gives the request back when the thread is gone.
    pub fn submit(
        &self,
        admitted: Box<Admitted<O::Space>>,
        cancel: Arc<Cancel>,
        waiter: T,
    ) -> Result<(), Box<Admitted<O::Space>>> {
        let admission = Admission { admitted, cancel, waiter };
        self.work.send(Submitted::Call(admission)).map_err(|unsent| match unsent.0 {
            Submitted::Call(admission) => admission.admitted,
            Submitted::Answer(..) => unreachable!("a call was sent"),
        })
    }

    /// Runs work of the worker's own beside the calls; `waiter` gets its answer. False when the thread is gone.
    pub fn answer(&self, answering: Answering, waiter: T) -> bool {
        self.work.send(Submitted::Answer(answering, waiter)).is_ok()
    }

    /// The counters of this thread.
    #[must_use]
    pub fn counters(&self) -> &UpstreamCounters {
        &self.counters
    }
}

/// The receiving end of [`Upstream::channel`].
pub struct Inbox<O: CallObserver, T> {
    work: mpsc::UnboundedReceiver<Submitted<O, T>>,
    counters: Arc<UpstreamCounters>,
    reach: Reach,
}
