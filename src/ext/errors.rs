//! The whole error mapping: Rust errors -> Python exceptions.
//!
//! The disk and the system become `OSError` with an errno, so that Python sees its usual subclasses; wrong input becomes
//! `ValueError`. A refusal of a request is a value (`aigw_core::refusal`), never an exception.

use std::io;

use aigw_core::snapshot::SnapshotError;
use aigw_io::snapshot;
use aigw_io::yaml::Fault;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::{PyTypeInfo as _, create_exception};

create_exception!(aigw._native, PublishError, PyValueError);

/// Adds the exceptions of the module. An instance has its own values of the class' attributes.
pub(crate) fn add(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let class = PublishError::type_object(module.py());
    class.setattr("kind", None::<&str>)?;
    class.setattr("n", None::<u32>)?;
    class.setattr("reason", "")?;
    module.add("PublishError", class)
}

/// An `OSError` with errno, also where the text was added to on the way and the number was lost.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(crate) fn io_error(error: io::Error) -> PyErr {
    let number = error.raw_os_error().or(match error.kind() {
        io::ErrorKind::NotFound => Some(2),
        io::ErrorKind::PermissionDenied => Some(13),
        io::ErrorKind::ResourceBusy => Some(16),
        io::ErrorKind::AlreadyExists => Some(17),
        io::ErrorKind::NotADirectory => Some(20),
        io::ErrorKind::IsADirectory => Some(21),
        io::ErrorKind::StorageFull => Some(28),
        io::ErrorKind::ReadOnlyFilesystem => Some(30),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Some(5),
        _ => None,
    });
    match number {
        // Python picks the subclass by the number.
        Some(number) => PyOSError::new_err((number, error.to_string())),
        None => PyOSError::new_err(error.to_string()),
    }
}

/// `ValueError`: the text of an error, or of a message.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(crate) fn value_error(error: impl std::fmt::Display) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// `PublishError`, a `ValueError`: an entity that no worker could load, as its `kind` and `n`, and the `reason` without them.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(crate) fn snapshot_error(error: SnapshotError) -> PyErr {
    let text = error.to_string();
    let (kind, n, reason) =
        error.entity().map_or_else(|| (None, None, text.clone()), |(kind, n, reason)| (Some(kind), Some(n), reason));
    let raised = PublishError::new_err(text);
    let named = Python::attach(|py| {
        let value = raised.value(py);
        value.setattr("kind", kind)?;
        value.setattr("n", n)?;
        value.setattr("reason", reason)
    });
    named.map_or_else(|error| error, |()| raised)
}

/// `OSError` for the disk, `ValueError` for input.
pub(crate) fn publish_error(error: snapshot::PublishError) -> PyErr {
    match error {
        snapshot::PublishError::Io(error) => io_error(error),
        snapshot::PublishError::Snapshot(error) => snapshot_error(error),
        snapshot::PublishError::NoPolicy => value_error(error),
        snapshot::PublishError::NoDelta(_) => PyOSError::new_err((5, error.to_string())),
    }
}

/// `ValueError(message, line, column, length, offset)`: a file that cannot be understood from there on.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(crate) fn yaml_error(fault: Fault) -> PyErr {
    PyValueError::new_err((fault.message, fault.mark.line, fault.mark.column, fault.mark.length, fault.offset))
}
