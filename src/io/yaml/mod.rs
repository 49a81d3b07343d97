//! YAML as a configuration file may use it -> a tree that knows where each of its parts was written.
//!
//! In: the bytes of a file. Out: a `Document`, with what it may not hold listed as problems (a key twice, a tag, a key
//! that is no text), or the `Fault` that ended the parse. Time and memory are linear in the bytes and bounded for any
//! bytes: size, depth, values, and what aliases stand for have limits. Scalars are those of YAML's core schema
//! (`scalar`): `no` and `12:30` are text. It does not know what a configuration means.

mod build;
mod document;
mod scalar;

pub use build::load;
pub use document::{Content, Document, Mark, NodeId, Placed, Step};

/// Bytes of the largest file.
pub const MAX_BYTES: usize = 64 << 20;
/// Mappings and lists inside each other, aliases written out.
pub const MAX_DEPTH: usize = 64;
/// Keys and values of one file.
pub const MAX_NODES: usize = 4_000_000;
/// Keys and values that all aliases of a file stand for together.
pub const MAX_ALIASED: usize = 1_000_000;
/// Problems that are kept of one file.
const MAX_PROBLEMS: usize = 1000;

/// What is wrong at one place. Lines and columns count from 1, columns and length in characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// For a person, without the place.
    pub message: String,
    /// Where, and how much of that line.
    pub mark: Mark,
    /// The same as an offset in bytes.
    pub offset: usize,
    /// The path of what is meant, as far as the tree knows it.
    pub path: Vec<Step>,
}

#[cfg(test)]
mod tests;
