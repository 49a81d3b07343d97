//! Servers to try the gateway with and to measure it against: an OpenAI-like model server and an httpbin-like echo service.
//!
//! They are a Python module of their own, `aigw._mock`, which only `aigw mock-llm` and `aigw echo` load: nothing of them is
//! in the gateway. HTTP/1.1 only, no TLS.
//!
//! - `llm`: the model server; `wire` its JSON, `paced` its streams, `fault` its faults, `stats` its counters
//! - `echo`: the echo service
//! - `server`, `service`: the socket, and one request
//! - `python`: the module

pub mod echo;
pub mod fault;
pub mod llm;
mod paced;
// Its symbols are the interpreter's: a test binary of this crate has none.
#[cfg(not(test))]
mod python;
pub mod server;
pub mod service;
pub mod stats;
mod wire;
