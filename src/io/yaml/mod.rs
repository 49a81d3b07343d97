//! YAML -> a tree that has the position of each part in the file.
//!
//! In: the bytes of a file. Out: a [`Document`] with its problems (a key twice, a tag, a key that is not text), or the
//! [`Fault`] that ended the parse (`unclosed` finds its cause). Time and memory are linear in the bytes, and bounded for any bytes (`bounds`). Scalars
//! are those of YAML's core schema (`scalar`): `no` and `12:30` are text. The control plane knows the meaning of a
//! configuration.

mod bounds;
mod build;
mod document;
mod fault;
mod scalar;
mod section;
mod unclosed;

pub use bounds::{Bounds, MAX_ALIASED, MAX_DEPTH, MOST_BYTES, NODES_OF_MIB};
pub use build::{load, load_within};
pub use document::{Content, Document, NodeId, Placed};
pub use fault::{Fault, Mark, Step};
pub use section::{Section, load_without, section};

#[cfg(test)]
mod tests;
