//! The party that waits for an exchange to end: a coroutine (inline stepping) or a callback (stock loop).
//!
//! In: the party, and once the end. Out: the party to wake, exactly once, also when the end comes first. The lock is released
//! while Python runs.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::prelude::*;

/// A callback, and the context to call it in.
type Callback = (Py<PyAny>, Option<Py<PyAny>>);

#[derive(Default)]
struct Parked {
    over: bool,
    coroutine: Option<Py<PyAny>>,
    callback: Option<Callback>,
}

/// The waiting party of one exchange.
#[derive(Default)]
pub(super) struct Waiter(Mutex<Parked>);

impl Waiter {
    fn parked(&self) -> MutexGuard<'_, Parked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the coroutine until the end. False when the exchange is over: the caller wakes it.
    pub(super) fn park(&self, coroutine: &Bound<'_, PyAny>) -> bool {
        let mut parked = self.parked();
        if !parked.over {
            parked.coroutine = Some(coroutine.clone().unbind());
        }
        !parked.over
    }

    /// Keeps the callback until the end; returns it when the exchange is over.
    pub(super) fn add_callback(&self, callback: Py<PyAny>, context: Option<Py<PyAny>>) -> Option<Callback> {
        let mut parked = self.parked();
        if parked.over {
            return Some((callback, context));
        }
        parked.callback = Some((callback, context));
        None
    }

    /// The exchange is over: returns the party to wake.
    pub(super) fn end(&self) -> (Option<Py<PyAny>>, Option<Callback>) {
        let mut parked = self.parked();
        parked.over = true;
        (parked.coroutine.take(), parked.callback.take())
    }
}
