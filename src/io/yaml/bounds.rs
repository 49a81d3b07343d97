//! The bounds of a file: they keep time and memory finite for any bytes.

/// Bytes of the largest file.
pub const MAX_BYTES: usize = 64 << 20;
/// Mappings and lists inside each other, aliases written out.
pub const MAX_DEPTH: usize = 64;
/// Keys and values of one file.
pub const MAX_NODES: usize = 4_000_000;
/// Keys and values that all aliases of a file stand for together.
pub const MAX_ALIASED: usize = 1_000_000;
/// Problems kept for one file.
pub(super) const MAX_PROBLEMS: usize = 1000;
