//! A counter whose counts of whole bodies are in the metrics, with the time that each took.

use std::sync::Arc;
use std::time::Instant;

use aigw_core::cells::Cells as _;
use aigw_core::telemetry::{GATEWAY, tokenizing};
use aigw_core::tokens::TokenCounter;

use crate::cells::WorkerCells;

/// A counter of a worker.
pub struct Timed {
    counter: Arc<dyn TokenCounter>,
    cells: Arc<WorkerCells>,
}

impl Timed {
    /// This counter, with its times in the gateway's run of these counters.
    pub fn new(counter: Arc<dyn TokenCounter>, cells: Arc<WorkerCells>) -> Self {
        Self { counter, cells }
    }
}

impl TokenCounter for Timed {
    fn count(&self, text: &str) -> u64 {
        self.counter.count(text)
    }

    fn bound(&self, text: &str) -> u64 {
        self.counter.bound(text)
    }

    fn timed(&self, count: &dyn Fn() -> u64) -> u64 {
        let began = Instant::now();
        let tokens = self.counter.timed(count);
        let micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        tokenizing::count(&|at| self.cells.dense(GATEWAY.0, at), micros);
        tokens
    }
}
