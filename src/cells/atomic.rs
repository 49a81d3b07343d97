//! The atomics of all cells: the processor's. A build with `--cfg shuttle` has a model checker's in their place, which chooses the
//! order of all threads' steps.

#[cfg(not(shuttle))]
pub use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(shuttle)]
pub use shuttle::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
