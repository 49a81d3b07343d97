//! The bounds of a file: they keep time and memory finite for any bytes.

/// Bytes of the largest bound: positions have 32 bits.
pub const MOST_BYTES: usize = 2 << 30;
/// Mappings and lists inside each other, aliases written out.
pub const MAX_DEPTH: usize = 64;
/// Keys and values for each MiB of a bound; a consumer with a tier and one key has 10.
pub const NODES_OF_MIB: usize = 62_500;
/// Keys and values that all aliases of a file stand for together.
pub const MAX_ALIASED: usize = 1_000_000;
/// Problems kept for one file.
pub(super) const MAX_PROBLEMS: usize = 1000;

/// The bounds of one file. The process settings set the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of the file.
    pub bytes: usize,
    /// Keys and values.
    pub nodes: usize,
}

impl Bounds {
    /// The largest bounds.
    pub const MOST: Self = Self::of(MOST_BYTES);

    /// The bounds of a file of at most so many bytes; at most [`MOST_BYTES`].
    #[must_use]
    pub const fn of(bytes: usize) -> Self {
        let bytes = if bytes < MOST_BYTES { bytes } else { MOST_BYTES };
        Self { bytes, nodes: bytes.saturating_mul(NODES_OF_MIB) >> 20 }
    }
}
