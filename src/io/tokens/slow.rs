//! The bytes of a body that may be counted slowly.
//!
//! Some pieces of text cost a hundred times as much as others. Of them a body has so many bytes counted exactly; the bytes of the
//! further ones count as tokens. The counts of one body run on one thread, so a thread keeps the number.

use std::cell::Cell;

/// Bytes of slow pieces that a body has counted exactly: 0.5 µs for a byte is 8 ms (`benches/core/tokens.rs`).
const MOST: u64 = 16 * 1024;

thread_local! {
    /// Bytes that the body on this thread may still have counted so; `None` outside of a body.
    static LEFT: Cell<Option<u64>> = const { Cell::new(None) };
}

/// The bytes that are left, while one text is counted.
pub(super) struct Slow {
    left: u64,
}

impl Slow {
    /// The bytes that the body of this text has left; all of them for a text of no body.
    pub fn of_text() -> Self {
        Self { left: LEFT.get().unwrap_or(MOST) }
    }

    /// Takes a slow piece of so many bytes. False: too few are left, and the piece that asked for more ends them.
    pub fn allows(&mut self, bytes: u64) -> bool {
        let allowed = bytes <= self.left;
        self.left = self.left.saturating_sub(bytes);
        allowed
    }

    /// Runs `count` for the texts of one body.
    pub fn in_body(count: &dyn Fn() -> u64) -> u64 {
        LEFT.set(Some(MOST));
        let tokens = count();
        LEFT.set(None);
        tokens
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        if LEFT.get().is_some() {
            LEFT.set(Some(self.left));
        }
    }
}
