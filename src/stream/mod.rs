//! Stage `stream`: the answer of an upstream while it passes.
//!
//! [`head`] adds the gateway's headers, [`patience`] decides how long a head waits for its body, [`answer`] reads a model's
//! answer, as a document or as events ([`form`]). Its usage, [`usage`], has one form for all dialects: [`find`] takes it
//! out of a document of any size, [`sse`] out of a stream of events. `sse` splits the stream into lines, `chunk` judges an event and
//! removes the members that the caller did not ask for (`event` has its text, `member` finds them). [`gauge`] holds a stream
//! within its budgets, [`plain`] counts a document without usage, and [`bill`] tells the caller the tokens and the price of its call.

pub mod answer;
pub mod bill;
mod chunk;
mod delta;
mod event;
pub mod find;
pub mod form;
mod frame;
pub mod gauge;
pub mod head;
mod member;
pub mod patience;
pub mod plain;
pub mod sse;
pub mod usage;

pub use crate::tokens;
