//! The core of aigw: decisions only.
//!
//! A request's life, stage by stage (the I/O around it is `aigw-io`, the boundary to Python `aigw-ext`):
//! `accept -> match -> identify -> admit -> balance -> forward -> stream -> settle -> record`.
#![forbid(unsafe_code)]

pub mod accept;
pub mod admit;
pub mod balance;
pub mod cells;
pub mod clock;
pub mod denial;
pub mod denial_body;
pub mod denial_openai;
pub mod forward;
pub mod identify;
mod json_scan;
pub mod limits;
pub mod r#match;
pub mod snapshot;
pub mod stream;
pub mod telemetry;
pub mod units;
