//! The boundary: the list of what Python sees. Each item lives in the file of its stage.
use pyo3::prelude::*;

/// The native half of aigw.
#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    Ok(())
}
