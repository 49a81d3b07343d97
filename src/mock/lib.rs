//! Servers to try the gateway with and to measure it against: an OpenAI-like model server and an httpbin-like echo service.
//!
//! They are a Python module of their own, `aigw._mock`, which only `aigw mock-llm` and `aigw echo` load: nothing of them is
//! in the gateway. HTTP/1.1 only, no TLS.
//!
//! - `llm`: the model server; `asked` reads a request, `said` and `schema` make the content of its answer, `wire` writes it, `paced`
//!   sends it; `fault` has its faults, `stats` its counters
//! - `echo`: the echo service
//! - `server`, `service`: the socket, and one request
//! - `python`: the module

mod asked;
pub mod echo;
pub mod fault;
pub mod llm;
mod paced;
// Its symbols are the interpreter's: a test binary of this crate has none.
#[cfg(not(test))]
mod python;
mod said;
mod schema;
pub mod server;
pub mod service;
pub mod stats;
mod wire;
