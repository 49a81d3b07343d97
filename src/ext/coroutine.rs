//! One step of a coroutine, without an event loop.
//!
//! With `io/map` and `io/socket` the only file with `unsafe`: one call of the interpreter's that has no safe wrapper.
#![allow(unsafe_code)]

use pyo3::ffi;
use pyo3::prelude::*;

/// The result of a step.
pub(crate) enum Step<'py> {
    /// It returned.
    Ended,
    /// It yielded this.
    Waits(Bound<'py, PyAny>),
}

/// `coroutine.send(None)` without raising `StopIteration`.
pub(crate) fn step<'py>(coroutine: &Bound<'py, PyAny>) -> PyResult<Step<'py>> {
    let py = coroutine.py();
    let mut value: *mut ffi::PyObject = std::ptr::null_mut();
    // SAFETY: `coroutine` is a live object and the interpreter is attached (both by `Bound`); `value` is written with a new
    // reference in the two non-error cases, and owned by exactly one `Bound` below.
    let outcome = unsafe { ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut value) };
    match outcome {
        // SAFETY: a new reference, see above.
        ffi::PySendResult::PYGEN_NEXT => Ok(Step::Waits(unsafe { Bound::from_owned_ptr(py, value) })),
        ffi::PySendResult::PYGEN_RETURN => {
            // SAFETY: a new reference, see above.
            drop(unsafe { Bound::from_owned_ptr(py, value) });
            Ok(Step::Ended)
        }
        ffi::PySendResult::PYGEN_ERROR => Err(PyErr::fetch(py)),
    }
}
