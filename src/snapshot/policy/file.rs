//! A policy file's bytes -> checked, compiled [`Policy`].
//!
//! In: the whole file. Out: the policy, or why it is refused. Invariant: nothing of a damaged file is taken.
//! [`seal`] writes the header that [`policy`] verifies, so that the two cannot differ.

use sha2::{Digest, Sha256};

use super::compiled::Policy;
use super::{compile, wire};
use crate::snapshot::error::SnapshotError;

const MAGIC: &[u8] = b"aigw-policy 2 ";

/// Verifies header and hash, parses, checks every reference, compiles.
pub fn policy(file: &[u8]) -> Result<Policy, SnapshotError> {
    let line_end = file.iter().take(128).position(|&b| b == b'\n').ok_or(SnapshotError::Header)?;
    let claimed = file[..line_end].strip_prefix(MAGIC).ok_or(SnapshotError::Header)?;
    let json = &file[line_end + 1..];
    let hash = hash(json);
    if claimed != hash.as_bytes() {
        return Err(SnapshotError::Hash);
    }
    let wire: wire::Policy = serde_json::from_slice(json)?;
    compile::policy(wire)
}

/// The file content for this JSON, which must pass [`policy`] (a file that no worker could load is never written).
pub fn seal(json: &[u8]) -> Result<Vec<u8>, SnapshotError> {
    let mut file = Vec::with_capacity(json.len() + MAGIC.len() + 65);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(hash(json).as_bytes());
    file.push(b'\n');
    file.extend_from_slice(json);
    policy(&file)?;
    Ok(file)
}

fn hash(json: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(json).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
