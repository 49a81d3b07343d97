//! The worker as its upstream thread sees it, and the bell that cancels a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aigw_core::accept::room::Room;
use aigw_core::balance::Origin;
use aigw_core::cells::CounterSpace;
use aigw_core::in_force::InForce;
use aigw_core::settle::Shutdown;
use aigw_core::surface::EndedCall;
use aigw_core::units::Moment;

use super::notice::Notice;

/// The worker that owns an upstream thread.
pub trait CallObserver: Send + Sync + 'static {
    /// The counters that its permits hold.
    type Space: CounterSpace + 'static;

    /// How far its shutdown has come.
    fn shutdown(&self) -> Shutdown;
    /// The wall clock.
    fn now(&self) -> Moment;
    /// The configuration in force.
    fn in_force(&self) -> Arc<InForce>;
    /// A call is over and settled; its last event is not delivered yet.
    fn ended(&self, call: &EndedCall);
    /// Waits until the entries of all calls that have ended survive a loss of power.
    fn recorded(&self) -> impl Future<Output = ()>;
    /// An event that an operator should hear of.
    fn notice(&self, notice: Notice);
    /// The memory of bodies and answers.
    fn room(&self) -> &Arc<Room>;
    /// Whether the configuration in force has this origin.
    fn uses(&self, origin: &Origin) -> bool;
}

/// A flag with a bell: any thread sets it, the call's task waits for it.
#[derive(Debug, Default)]
pub struct Cancel {
    set: AtomicBool,
    bell: tokio::sync::Notify,
}

impl Cancel {
    /// Asks the call to stop; idempotent.
    pub fn cancel(&self) {
        self.set.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Whether the call was asked to stop.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::Acquire)
    }

    pub(crate) async fn wait(&self) {
        while !self.is_set() {
            self.bell.notified().await;
        }
    }
}
