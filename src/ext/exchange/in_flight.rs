//! The exchanges in flight of one worker, by index.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::PyClass;
use pyo3::prelude::*;

/// Most exchanges in the list.
pub(crate) struct InFlight<E> {
    slots: Mutex<Slots<E>>,
    count: AtomicUsize,
    most: usize,
}

struct Slots<E> {
    exchanges: Vec<Option<Py<E>>>,
    free: Vec<u32>,
}

impl<E: PyClass> InFlight<E> {
    pub(super) fn new(most: usize) -> Self {
        let slots = Slots { exchanges: Vec::new(), free: Vec::new() };
        Self { slots: Mutex::new(slots), count: AtomicUsize::new(0), most }
    }

    fn slots(&self) -> MutexGuard<'_, Slots<E>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of exchanges.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Adds an exchange and returns its index; `None` when the list is full.
    pub(super) fn enter(&self, exchange: &Bound<'_, E>) -> Option<u32> {
        let mut slots = self.slots();
        if self.count() >= self.most {
            return None;
        }
        let held = Some(exchange.clone().unbind());
        let index = if let Some(index) = slots.free.pop() {
            slots.exchanges[index as usize] = held;
            index
        } else {
            let index = u32::try_from(slots.exchanges.len()).ok()?;
            slots.exchanges.push(held);
            index
        };
        self.count.fetch_add(1, Ordering::Relaxed);
        Some(index)
    }

    /// Forgets the exchange at an index.
    pub(super) fn leave(&self, index: u32) {
        let gone = {
            let mut slots = self.slots();
            slots.free.push(index);
            slots.exchanges.get_mut(index as usize).and_then(Option::take)
        };
        self.count.fetch_sub(1, Ordering::Relaxed);
        // The exchange may be dropped here: outside the lock.
        drop(gone);
    }

    /// Whether the predicate holds for one of them.
    pub(super) fn any(&self, is: impl Fn(&Py<E>) -> bool) -> bool {
        self.slots().exchanges.iter().flatten().any(is)
    }

    /// A fact of each of them.
    pub(super) fn map<T, C: FromIterator<T>>(&self, fact: impl Fn(&Py<E>) -> T) -> C {
        self.slots().exchanges.iter().flatten().map(fact).collect()
    }

    /// All exchanges.
    pub(super) fn all(&self, py: Python<'_>) -> Vec<Py<E>> {
        self.slots().exchanges.iter().flatten().map(|exchange| exchange.clone_ref(py)).collect()
    }
}
