//! Request ids: 32 hex digits, unique over workers and restarts.

use aigw_core::units::RequestId;
use std::sync::atomic::{AtomicU64, Ordering};

/// Makes request ids: a random 64-bit word of this worker's, and a mixed counter.
pub(super) struct Ids {
    worker: u64,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> std::io::Result<Self> {
        let mut seed = [0_u8; 16];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        let (worker, start) = seed.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        Ok(Self { worker: word(worker), next: AtomicU64::new(word(start)) })
    }

    pub(super) fn next(&self) -> String {
        // An odd step walks through all 64-bit words before it repeats one.
        let n = self.next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        format!("{:016x}{n:016x}", self.worker)
    }

    pub(super) fn number(text: &str) -> RequestId {
        let word = |part: Option<&str>| part.and_then(|part| u64::from_str_radix(part, 16).ok()).unwrap_or(0);
        RequestId([word(text.get(..16)), word(text.get(16..))])
    }
}
