//! Gives memory of ended bodies and answers back to the system.
//!
//! In: the worker's room, about once a second. Out: nothing. A worker has three allocators: this library's, the C library's (the
//! interpreter's objects) and the server's. Each keeps freed pages for the next request, until somebody allocates again; a worker
//! that a burst has left alone would keep them for ever. The first two are told here, the server's own thread does it by itself
//! (`python/aigw/serve/server.py`). The control process calls [`give_back_memory`] after a large change. One of the places where `unsafe` is allowed (two functions of C).
#![allow(unsafe_code)]

use std::time::{Duration, Instant};

use aigw_core::accept::room::Room;
use pyo3::prelude::*;

/// Less is not worth a walk through the heaps.
const WORTH: u64 = 1024 * 1024;
/// The shortest time between two walks: one takes some milliseconds, and pages that are used again cost a fault each.
const BETWEEN: Duration = Duration::from_secs(3);

// SAFETY: the two signatures are those of mimalloc.h (linked in statically) and malloc.h.
unsafe extern "C" {
    fn mi_collect(force: bool);
    #[cfg(target_env = "gnu")]
    fn malloc_trim(pad: usize) -> core::ffi::c_int;
}

/// The bytes that had been freed at the last walk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freed {
    bytes: u64,
    walked: Instant,
    /// One more walk follows: pages that were free for a moment only stay behind at the first.
    again: bool,
}

impl Freed {
    pub(crate) fn new() -> Self {
        Self { bytes: 0, walked: Instant::now(), again: false }
    }

    /// Whether a walk is worth it; then it is noted.
    pub(crate) fn is_due(&mut self, room: &Room, now: Instant) -> bool {
        let bytes = room.released();
        let worth = bytes.saturating_sub(self.bytes) >= WORTH;
        if !(worth || self.again) || now.saturating_duration_since(self.walked) < BETWEEN {
            return false;
        }
        *self = Self { bytes, walked: now, again: worth };
        true
    }
}

/// Gives back this library's memory. Of a thread's own pages only the thread itself finds the free ones.
pub(crate) fn give_back_own() {
    // SAFETY: it takes the allocator's own locks, may be called from any thread, and frees no memory that is in use.
    unsafe { mi_collect(true) };
}

/// Gives back the C library's memory, of all threads.
pub(crate) fn give_back_system() {
    #[cfg(target_env = "gnu")]
    // SAFETY: as above.
    unsafe {
        malloc_trim(0);
    }
}

/// See the stub.
#[pyfunction]
pub fn give_back_memory(py: Python<'_>) {
    py.detach(|| {
        give_back_own();
        give_back_system();
    });
}
