//! The whole error mapping: Rust errors -> Python exceptions.
//!
//! The disk and the system become `OSError` with an errno, so that Python sees its usual subclasses; wrong input becomes
//! `ValueError`. A refusal of a request is a value (`aigw_core::denial`), never an exception.

use std::io;

use aigw_core::snapshot::SnapshotError;
use aigw_io::snapshot::PublishError;
use aigw_io::yaml::Fault;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;

/// An `OSError` with errno, also where the text was added to on the way and the number was lost.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(crate) fn io_error(error: io::Error) -> PyErr {
    let number = error.raw_os_error().or(match error.kind() {
        io::ErrorKind::NotFound => Some(2),
        io::ErrorKind::PermissionDenied => Some(13),
        io::ErrorKind::ResourceBusy => Some(16),
        io::ErrorKind::AlreadyExists => Some(17),
        io::ErrorKind::NotADirectory => Some(20),
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

/// `ValueError`: what was handed over is wrong.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(crate) fn snapshot_error(error: SnapshotError) -> PyErr {
    PyValueError::new_err(error.to_string())
}

/// `OSError` for the disk, `ValueError` for input.
pub(crate) fn publish_error(error: PublishError) -> PyErr {
    match error {
        PublishError::Io(error) => io_error(error),
        PublishError::Snapshot(error) => snapshot_error(error),
        PublishError::NoPolicy => PyValueError::new_err(error.to_string()),
        PublishError::NoDelta(_) => PyOSError::new_err((5, error.to_string())),
    }
}

/// `ValueError(message, line, column, length, offset)`: a file that cannot be understood from there on.
#[allow(clippy::needless_pass_by_value)] // made for `map_err`
pub(crate) fn yaml_error(fault: Fault) -> PyErr {
    PyValueError::new_err((fault.message, fault.mark.line, fault.mark.column, fault.mark.length, fault.offset))
}
