//! Inline stepping: the callable that stands in for `loop.call_soon_threadsafe`, the method through which the server enters
//! Python from its own thread.
//!
//! In: the server's calls. A new request arrives as `(_run, coroutine, ...)`, a body that is ready as `(exchange, future)`.
//! Out: both are stepped right here, on the server's thread; the coroutine of an exchange that waits is kept by the exchange
//! and ended after its answer. Everything else goes to the loop's own method, so that a server that changes its ways
//! is slower and never wrong. User coroutines are never stepped here: the loop's thread may be inside a task of its own.

use crate::coroutine::{Step, step};
use crate::exchange::Exchange;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Stands for no call at work.
const IDLE: u64 = u64::MAX;

/// Stands in for a loop's `call_soon_threadsafe`; see the module's story.
///
/// Args:
///     original: the loop's own bound method, for everything that is not stepped here.
#[pyclass(frozen, module = "aigw._native")]
pub struct InlineSubmit {
    original: Py<PyAny>,
    /// The server's `_run` callable seen last, by address; `seen` keeps it alive.
    run: AtomicUsize,
    seen: Mutex<Vec<Py<PyAny>>>,
    /// The code of the first `_run`: each server of the process has a `_run` of its own, with the same code.
    code: std::sync::OnceLock<Py<PyAny>>,
    /// Calls that began and that ended: the difference is at work.
    begun: AtomicU64,
    ended: AtomicU64,
    inlined: AtomicU64,
    passed_on: AtomicU64,
    /// The calls that had ended when they were last looked at, if one was at work then.
    held: AtomicU64,
}

#[pymethods]
impl InlineSubmit {
    #[new]
    fn new(original: Py<PyAny>) -> Self {
        Self {
            original,
            run: AtomicUsize::new(0),
            seen: Mutex::new(Vec::new()),
            code: std::sync::OnceLock::new(),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            inlined: AtomicU64::new(0),
            passed_on: AtomicU64::new(0),
            held: AtomicU64::new(IDLE),
        }
    }

    /// Whether no call is at work, or one has ended since the last time this was asked.
    fn moves(&self) -> bool {
        let ended = self.ended.load(Ordering::Relaxed);
        let held = if self.begun.load(Ordering::Relaxed) == ended { IDLE } else { ended };
        self.held.swap(held, Ordering::Relaxed) != held || held == IDLE
    }

    /// How often a step ran inline, and how often a call went to the loop instead: `(inlined, passed_on)`.
    #[getter]
    fn counts(&self) -> (u64, u64) {
        (self.inlined.load(Ordering::Relaxed), self.passed_on.load(Ordering::Relaxed))
    }

    #[pyo3(signature = (callback, *args, context=None))]
    fn __call__<'py>(
        &self,
        py: Python<'py>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.begun.fetch_add(1, Ordering::Relaxed);
        let done = self.submit(py, callback, args, context);
        self.ended.fetch_add(1, Ordering::Relaxed);
        done
    }
}

impl InlineSubmit {
    fn submit<'py>(
        &self,
        py: Python<'py>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if let Ok(exchange) = callback.cast_exact::<Exchange>() {
            Exchange::ready(exchange, &args.get_item(0)?)?;
            self.inlined.fetch_add(1, Ordering::Relaxed);
            return Ok(py.None().into_bound(py));
        }
        if self.is_run(callback) && args.len() > 0 {
            let coroutine = args.get_item(0)?;
            match step(&coroutine)? {
                Step::Ended => {}
                Step::Waits(value) => match value.cast_exact::<Exchange>() {
                    Ok(exchange) => exchange.get().park(&coroutine)?,
                    // A bare yield is how a Python application asks for the loop: hand it over where it stands.
                    Err(_) if value.is_none() => return self.pass_on(py, callback, args, context),
                    Err(_) => {
                        let error = PyRuntimeError::new_err(
                            "the application waited for something this loop cannot step inline",
                        );
                        coroutine.call_method1("throw", (error.into_value(py),))?;
                    }
                },
            }
            self.inlined.fetch_add(1, Ordering::Relaxed);
            return Ok(py.None().into_bound(py));
        }
        self.pass_on(py, callback, args, context)
    }

    /// Whether this is the server's own scheduling function (`_run` in every release of the pinned range).
    fn is_run(&self, callback: &Bound<'_, PyAny>) -> bool {
        let address = callback.as_ptr() as usize;
        if self.run.load(Ordering::Relaxed) == address {
            return true;
        }
        let Ok(code) = callback.getattr("__code__") else { return false };
        let named = match self.code.get() {
            Some(known) => known.is(&code),
            None => {
                callback.getattr("__name__").is_ok_and(|name| name.extract::<String>().is_ok_and(|name| name == "_run"))
            }
        };
        if named {
            let _ = self.code.set(code.unbind());
            self.remember(callback);
            self.run.store(address, Ordering::Relaxed);
        }
        named
    }

    /// Keep a `_run` alive, so that its address stays its own. A process has one for each certificate it has served.
    fn remember(&self, callback: &Bound<'_, PyAny>) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if !seen.iter().any(|known| known.is(callback)) {
            seen.push(callback.clone().unbind());
        }
    }

    fn pass_on<'py>(
        &self,
        py: Python<'py>,
        callback: &Bound<'py, PyAny>,
        args: &Bound<'py, PyTuple>,
        context: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.passed_on.fetch_add(1, Ordering::Relaxed);
        let keywords = PyDict::new(py);
        keywords.set_item("context", context)?;
        let all: Vec<_> = std::iter::once(callback.clone()).chain(args.iter()).collect();
        self.original.bind(py).call(PyTuple::new(py, all)?, Some(&keywords))
    }
}
