//! Prices for the control process: `_native.PriceList`, the arithmetic of the workers over recorded entries.
//!
//! In: the JSON of prices as a policy has it, and columns of entries. Out: nano-dollars. It converts and delegates to the core.

use aigw_core::entry::{Ended, Entry, TokenSource};
use aigw_core::price::{Classes, Media, Prices, ServiceTier};
use aigw_core::snapshot::prices_of;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// The columns of an entry, in the order of the stub.
type Columns = [u64; 13];

/// See the stub.
#[pyclass(frozen, module = "aigw._native")]
pub struct PriceList {
    prices: Prices,
}

#[pymethods]
impl PriceList {
    #[new]
    fn new(prices: &[u8]) -> PyResult<Self> {
        let prices = prices_of(prices).map_err(|error| PyValueError::new_err(error.to_string()))?;
        Ok(Self { prices })
    }

    #[getter]
    fn version(&self) -> u64 {
        self.prices.version()
    }

    fn bound(&self, input: u64, output: u64) -> u64 {
        self.prices.bound(input, output)
    }

    #[allow(clippy::needless_pass_by_value)] // converted from a list
    fn worth(&self, entries: Vec<Columns>) -> Vec<u64> {
        entries.iter().map(|columns| entry(columns).worth(&self.prices)).collect()
    }
}

fn entry(columns: &Columns) -> Entry {
    let [flags, outcome, source, input, cached_input, cache_write, output, reasoning, rest @ ..] = *columns;
    let [image_input, audio_input, image_output, audio_output] = [rest[0], rest[1], rest[2], rest[3]].map(small);
    let media = Media { image_input, audio_input, image_output, audio_output };
    let service = ServiceTier::of_number(byte(rest[4]));
    Entry {
        counted: flags & 1 != 0,
        ended: Ended::of_number(byte(outcome)),
        source: TokenSource::of_number(byte(source)),
        tokens: Classes { input, cached_input, cache_write, output, reasoning, media, service },
        ..Entry::default()
    }
}

fn small(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn byte(number: u64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}
