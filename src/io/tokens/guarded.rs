//! A border for the library that counts by users' files: it panics for some files and texts.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs code of the library. The error is its panic.
pub(super) fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied().or(panic.downcast_ref::<String>().map(|text| &**text));
        format!("its library failed: {}", text.unwrap_or("no reason given"))
    })
}
