//! The bounds of a file: they keep time and memory finite for any bytes.

/// Bytes of the largest file, where nobody sets another bound.
pub const MAX_BYTES: usize = 64 << 20;
/// Bytes of the largest bound: positions have 32 bits.
pub const MOST_BYTES: usize = 2 << 30;
/// Mappings and lists inside each other, aliases written out.
pub const MAX_DEPTH: usize = 64;
/// Keys and values of a file of [`MAX_BYTES`]; another bound has as many for its bytes.
pub const MAX_NODES: usize = 4_000_000;
/// Keys and values that all aliases of a file stand for together.
pub const MAX_ALIASED: usize = 1_000_000;
/// Problems kept for one file.
pub(super) const MAX_PROBLEMS: usize = 1000;

/// The bounds of one file that an operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the file.
    pub bytes: usize,
    /// Keys and values.
    pub nodes: usize,
}

impl Bounds {
    /// The bounds of a file of at most so many bytes; at most [`MOST_BYTES`].
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        let bytes = bytes.min(MOST_BYTES);
        Self { bytes, nodes: bytes.saturating_mul(MAX_NODES / 1000) / (MAX_BYTES / 1000) }
    }
}

impl Default for Bounds {
    fn default() -> Self {
        Self { bytes: MAX_BYTES, nodes: MAX_NODES }
    }
}
