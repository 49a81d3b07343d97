//! Fuzzes `targets/body.rs`.
#![no_main]

#[path = "../targets/body.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
