//! A policy file's bytes -> checked, compiled [`Policy`].
//!
//! In: the whole file. Out: the policy, or why it is refused. Invariant: nothing of a damaged file is taken.
//! [`seal`] writes the header that [`policy`] verifies, so that the two cannot differ.

use std::collections::HashSet;

use sha2::{Digest, Sha256};

use super::compiled::Policy;
use super::{compile, wire};
use crate::snapshot::error::SnapshotError;

const MAGIC: &[u8] = b"aigw-policy 3 ";
/// Hex digits of the hash in the header.
const HASH: usize = 64;

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

/// A policy that workers can load: the content of its file, and the highest numbers in it.
#[derive(Debug)]
pub struct Sealed {
    /// Header and JSON.
    pub file: Vec<u8>,
    /// The numbers by which the counters of metrics are laid out.
    pub highest: Highest,
    /// Its compiled form.
    pub policy: Policy,
}

/// The highest numbers of a policy, 0 where it has none of a kind, and its numbers of pairs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Highest {
    /// Of a route.
    pub route: u32,
    /// Of a tier.
    pub tier: u32,
    /// Pairs of a tier and a model: so many rows of metrics may be called for.
    pub series: u32,
    /// Pairs of a tier and a numbered upstream.
    pub calls: u32,
}

impl Sealed {
    /// Whether the policy was compiled from this JSON.
    #[must_use]
    pub fn holds(&self, json: &[u8]) -> bool {
        self.file.len() == MAGIC.len() + HASH + 1 + json.len() && self.file.ends_with(json)
    }
}

/// Checks and compiles this JSON as [`policy`] does, and makes its file: a file that workers cannot load is never written.
pub fn seal(json: &[u8]) -> Result<Sealed, SnapshotError> {
    let wire: wire::Policy = serde_json::from_slice(json)?;
    let pairs = |of_tier: usize| u32::try_from(wire.tiers.len().saturating_mul(of_tier)).unwrap_or(u32::MAX);
    let upstreams = wire.models.iter().flat_map(|model| &model.upstreams).map(|one| one.number);
    let highest = Highest {
        route: wire.routes.iter().map(|route| route.n).max().unwrap_or(0),
        tier: wire.tiers.iter().map(|tier| tier.n).max().unwrap_or(0),
        series: pairs(wire.models.len()),
        calls: pairs(upstreams.collect::<HashSet<_>>().len()),
    };
    let policy = compile::policy(wire)?;
    let mut file = Vec::with_capacity(json.len() + MAGIC.len() + HASH + 1);
    file.extend_from_slice(MAGIC);
    file.extend_from_slice(hash(json).as_bytes());
    file.push(b'\n');
    file.extend_from_slice(json);
    Ok(Sealed { file, highest, policy })
}

fn hash(json: &[u8]) -> String {
    base16ct::lower::encode_string(&Sha256::digest(json))
}
