//! Stage `accept`, after the head: what a body asks for.
//!
//! Heads are judged where they are read (`aigw-io`); here the bodies of known dialects are.

pub mod openai;
mod spelling;
mod values;
