//! `_native.Period`: a period of limits, for the checks of the configuration.
//!
//! In: a text. Out: the canonical text and the length, as the core's parser reads them for workers.

use aigw_core::limits::Period as CorePeriod;
use aigw_core::units::UnixSeconds;
use pyo3::prelude::*;

use crate::errors::value_error;

/// 1972-01-01: the first year after the epoch with 366 days, whose first month has 31.
const LEAP_YEAR: UnixSeconds = UnixSeconds(730 * 86_400);

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct Period(CorePeriod);

#[pymethods]
impl Period {
    #[new]
    fn new(text: &str) -> PyResult<Self> {
        text.parse().map(Self).map_err(value_error)
    }

    #[classattr]
    #[pyo3(name = "WORDS")]
    fn words() -> [String; 6] {
        use CorePeriod::{Day, Hour, Minute, Month, Second, Year};
        [Second, Minute, Hour, Day, Month, Year].map(|word| word.to_string())
    }

    #[getter]
    fn seconds(&self) -> u32 {
        let window = self.0.window(LEAP_YEAR);
        window.end.0 - window.start.0
    }

    #[getter]
    fn canonical(&self) -> String {
        use CorePeriod::{Day, Every, Hour, Minute, Second};
        let Every(seconds, _) = self.0 else { return self.0.to_string() };
        // One length has one counter, however it is written.
        let word = [Second, Minute, Hour, Day].into_iter().find(|word| word.seconds() == Some(seconds.get()));
        word.map_or_else(|| format!("{seconds}s"), |word| word.to_string())
    }

    fn __str__(&self) -> String {
        self.0.to_string()
    }
}
