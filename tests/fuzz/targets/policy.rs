//! Policy files: no bytes make the loader panic, and every file that `seal` writes is one that the loader takes.
//!
//! Input: the JSON of a policy; it is loaded as a file, too.

use aigw_core::snapshot::file;

/// Runs one input.
pub fn run(data: &[u8]) {
    let _ = file::policy(data);
    let Ok(file::Sealed { file: mut sealed, .. }) = file::seal(data) else { return };
    assert!(file::policy(&sealed).is_ok(), "sealed a file that does not load");
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    assert!(file::policy(&sealed).is_err(), "loaded a damaged file");
}
