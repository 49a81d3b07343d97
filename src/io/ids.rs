//! Request ids, unique over workers and restarts.

use std::sync::atomic::{AtomicU64, Ordering};

use aigw_core::units::RequestId;

/// Makes request ids: a random 64-bit word of this worker's, and a mixed counter.
pub(crate) struct Ids {
    worker: u64,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> std::io::Result<Self> {
        let mut seed = [0_u8; 16];
        rustix::rand::getrandom(&mut seed, rustix::rand::GetRandomFlags::empty())?;
        let (worker, start) = seed.split_at(8);
        let word = |bytes: &[u8]| bytes.iter().fold(0_u64, |word, byte| word << 8 | u64::from(*byte));
        Ok(Self { worker: word(worker), next: AtomicU64::new(word(start)) })
    }

    pub(crate) fn next(&self) -> RequestId {
        // An odd step walks through all 64-bit words before it repeats one.
        RequestId([self.worker, self.next.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed)])
    }
}
